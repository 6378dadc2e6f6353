"""The page about deploying: short where it begins, and true where it names things."""

import re
from collections import defaultdict

import pytest
import yaml

from tests.deploy.kustomize import BASE, COMPONENTS, ROOT, render
from tests.lab.guest.traced import MATRIX, Reads

README = (ROOT / "deploy" / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS[:3], ids=["Kubernetes", "Docker", "systemd"])
def test_each_way_to_install_takes_at_most_ten_lines(block: str) -> None:
    """And stands before everything else."""
    assert block.count("\n") <= 10
    assert README.index(block) < README.index("\n## ")


def test_what_it_names_is_there() -> None:
    """Paths of this repository in commands and links, the targets of headings, and the values of the chart."""
    named = {path for block in BLOCKS for path in re.findall(r"(?<![\w/.-])deploy/[\w./-]+", block)}
    assert {path for path in named if not (ROOT / path).exists()} == set()
    links = re.findall(r"\]\((?!https?:)([^)#:]+)[^)]*\)", README)
    assert {link for link in links if not (ROOT / "deploy" / link).exists()} == set()
    headings = {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)$", README, re.MULTILINE)}
    assert {*re.findall(r"\]\(#([^)]+)\)", README)} <= headings
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "coroner" / "values.yaml").read_text())
    for name in re.findall(r"--set (\S+?)=", README):
        place = values
        for key in name.split("."):
            place = place[key]


def test_every_component_has_its_row() -> None:
    """With what it adds, and where it belongs."""
    assert {*re.findall(r"^\| `([\w-]+)` \|(?=[^|]*\|[^|]*\|$)", README, re.MULTILINE)} >= {*COMPONENTS}


def matrix() -> dict[str, str]:
    """Return what the matrix says that each source reads, and where; a row without a name goes on with the one above."""
    table = README.partition("\n| Source |")[2].partition("\n\n")[0]
    reads: dict[str, str] = defaultdict(str)
    source = ""
    for name, what in re.findall(r"^\| (?:`(\w+)`[^|]*)?\| ([^|]*\|[^|]*)\|[^|]*\|$", table, re.MULTILINE):
        source = name or source
        reads[source] += f" {what}"
    return reads


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: f"{row.source} {row.path}")
def test_matrix_names_every_file_that_the_trace_lets_the_agent_open(row: Reads) -> None:
    """The lab compares what is opened with that list, so what is read and what is said here cannot part."""
    assert [word for word in row.words if not re.search(rf"`([^`]*/)?{re.escape(word)}`", matrix()[row.source])] == []


def test_sizes_are_those_of_the_manifests() -> None:
    """What is requested and limited is said beside what was measured."""
    said = re.search(r"requests (\d+) MiB and (\d+) millicores .*?limited, as the unit and Compose, to\s+(\d+) MiB", README, re.DOTALL)
    assert said
    (container,) = render(BASE)["DaemonSet/coroner"]["spec"]["template"]["spec"]["containers"]
    memory, cpu, limit = said.groups()
    assert container["resources"] == {"requests": {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}, "limits": {"memory": f"{limit}Mi"}}
    assert f"\nMemoryMax={limit}M\n" in (ROOT / "deploy" / "coroner.service").read_text()
    assert yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["coroner"]["mem_limit"] == f"{limit}m"
