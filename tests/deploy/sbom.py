"""The list of what is in the image, coroner.cdx.json, as deploy/Dockerfile has it made: what CycloneDX says of it, and what it lists."""

import json
import tomllib
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import agent

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def check(text: str, expected: dict[str, str]) -> None:
    """Require that it is valid, about this version of the agent, and lists these distributions, by their versions, and nothing else."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    sbom = json.loads(text)
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    about = sbom["metadata"]["component"]
    assert (about["type"], about["name"], about.get("version")) == ("application", PROJECT["name"], agent.__version__)
    names: dict[str, str] = {each["bom-ref"]: canonicalize_name(each["name"]) for each in sbom["components"]}
    assert {names[each["bom-ref"]]: each["version"] for each in sbom["components"]} == expected
    assert len(names) == len(expected), "one is there twice"
    assert {each["purl"] for each in sbom["components"]} == {f"pkg:pypi/{name}@{version}" for name, version in expected.items()}
    assert all(each["licenses"] for each in sbom["components"])
    needs = {each["ref"]: each.get("dependsOn", []) for each in sbom["dependencies"]}
    assert {names[ref] for ref in needs[about["bom-ref"]]} == {
        canonicalize_name(Requirement(each).name) for each in PROJECT["dependencies"]
    }
