"""The recipe of the image: what goes into it, that it is locked, and that it is run as the manifests say."""

import fnmatch
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import agent
from tests.deploy.kustomize import BASE, render
from tests.deploy.locks import locked

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
INSTRUCTIONS = re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", DOCKERFILE.read_text(), re.MULTILINE)
BUILD, RUN = [number for number, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM"]
PYTHON_OF = {"debian12": "3.11", "debian13": "3.13"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {"agent": PROJECT["project"]["dependencies"], "build": PROJECT["dependency-groups"]["image"]}


def test_hadolint_finds_nothing() -> None:
    """One rule is not followed, and the reason stands beside it."""
    done = subprocess.run([f"{sys.prefix}/bin/hadolint", DOCKERFILE], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert DOCKERFILE.read_text().count("hadolint ignore") == 1


@pytest.mark.parametrize("name", LOCKS)
def test_lock_has_all_that_pyproject_asks_for(name: str) -> None:
    """At versions that it allows, with all that these need in turn, as far as it is installed here; `make lock` sees to it."""
    pins = locked(name)
    asked = [Requirement(line) for line in LOCKS[name]]
    for requirement in asked:
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement} is not in deploy/{name}.lock: make lock"
        (exactly,) = pin.specifier
        assert requirement.specifier.contains(exactly.version), f"{pin} is not {requirement}: make lock UPGRADE=--upgrade"
    seen = set()
    while asked:
        requirement = asked.pop()
        if (key := (requirement.name, *sorted(requirement.extras))) not in seen:
            seen.add(key)
            assert canonicalize_name(requirement.name) in pins, f"{requirement} is not in deploy/{name}.lock: make lock"
            asked += _needs(requirement)


def test_lock_has_nothing_else() -> None:
    """What pyproject no longer asks for is no longer in the image; this is about the agent's, whose libraries are all installed here."""
    asked, seen = [Requirement(line) for line in LOCKS["agent"]], set()
    while asked:
        requirement = asked.pop()
        if (name := canonicalize_name(requirement.name)) not in seen:
            seen.add(name)
            asked += _needs(requirement)
    assert {name for name, pin in locked("agent").items() if pin.marker is None} <= seen


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_locked_wheel_is_there_for_both_architectures(machine: str, tmp_path: Path) -> None:
    """For the Python of the image, whatever that of the tests is; nothing is installed."""
    base = re.search(r"/python:(\d\.\d+)", DOCKERFILE.read_text())
    assert base
    target = [f"--platform=manylinux_2_28_{machine}", f"--platform=manylinux2014_{machine}", f"--python-version={base[1]}"]
    wanted = ["--require-hashes", "--only-binary=:all:", "--no-deps", *(f"--requirement={ROOT}/deploy/{name}.lock" for name in LOCKS)]
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", f"--target={tmp_path}"]
    done = subprocess.run([*pip, *target, *wanted], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr


def test_bases_are_arguments_with_one_minor_version_of_python() -> None:
    """Libraries that are compiled for one do not load in another; and whoever has no such registry names other images."""
    arguments = dict(value.split("=", 1) for name, value in INSTRUCTIONS[:BUILD] if name == "ARG")
    assert [INSTRUCTIONS[number][1] for number in (BUILD, RUN)] == ["${BUILD_BASE} AS build", "${RUN_BASE}"]
    built = re.search(r"/python:(\d\.\d+)\.\d+-", arguments["BUILD_BASE"])
    runs = re.search(r"/python3-(debian\d+):", arguments["RUN_BASE"])
    assert built
    assert runs
    assert built[1] == PYTHON_OF[runs[1]]
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", arguments[name]) for name in ("BUILD_BASE", "RUN_BASE")), "not pinned"


def test_image_needs_no_shell_and_runs_as_the_manifest_says() -> None:
    """Every instruction of the last stage is in exec form; the command is the manifest's, and the user too."""
    final = INSTRUCTIONS[RUN:]
    assert all(value.startswith("[") for name, value in final if name in ("RUN", "CMD", "ENTRYPOINT"))
    manifest = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "base" / "daemonset.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    said = dict(final)
    assert yaml.safe_load(said["ENTRYPOINT"]) == container["command"]
    assert said["USER"] == "{runAsUser}:{runAsGroup}".format(**container["securityContext"])
    assert yaml.safe_load(said["CMD"]) == ["--web.listen-address=:10911"]
    assert said["EXPOSE"] == str(container["ports"][0]["containerPort"])


def test_everything_is_downloaded_by_its_hash() -> None:
    """Each pip either takes what a lock has, as a wheel, or has no index to take anything from."""
    runs = [value for name, value in INSTRUCTIONS if name == "RUN"]
    pips = [command for value in runs for command in re.split(r"&& ", value.replace("\\\n", "")) if "-m pip " in command]
    assert len(pips) == 3
    for command in pips:
        assert ("--require-hashes" in command and "--only-binary=:all:" in command) or "--no-index --no-deps" in command
    assert not [value for value in runs if "apt" in value or "curl" in value]


def test_context_has_what_is_copied_and_nothing_else() -> None:
    """No repository, no virtual environment, no secret that lies beside them."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert (rules[0], rules[-1]) == ("*", "**/__pycache__")
    kept = {rule.removeprefix("!") for rule in rules[1:-1]}
    assert kept == {"agent", "collectors", "deploy/agent.lock", "deploy/build.lock", "pyproject.toml", "README.md", "LICENSE"}
    assert all((ROOT / path).exists() for path in kept)
    assert not [path for path in kept if fnmatch.fnmatch(path, "tests*")]


def test_image_is_this_release_in_no_registry() -> None:
    """The tag follows the version of the agent, and whoever deploys names the registry."""
    (container,) = render(BASE)["DaemonSet/coroner"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"coroner:{agent.__version__}"


def test_make_image_calls_it_as_the_manifests_do() -> None:
    """The version is the agent's; bases that are named are handed on."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", "image", "RUN_BASE=example.com/python@sha256:0123"]
    made = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=True).stdout
    assert f"--tag coroner:{agent.__version__} " in made
    assert f"VERSION={agent.__version__} " in made
    assert "--build-arg RUN_BASE=example.com/python@sha256:0123" in made
    assert "BUILD_BASE" not in made


def _needs(requirement: Requirement) -> list[Requirement]:
    """Return what a distribution needs with those extras, here; nothing of one that is not installed here."""
    try:
        lines = requires(requirement.name) or []
    except PackageNotFoundError:
        return []
    found = [Requirement(line) for line in lines]
    return [each for each in found if each.marker is None or any(each.marker.evaluate({"extra": e}) for e in ("", *requirement.extras))]
