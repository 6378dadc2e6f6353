"""What is told of a death beside its cause, by a real kernel and a real Docker."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from docker import DockerClient

from tests.lab.guest.deaths import wait_for_deaths
from tests.lab.guest.node import PYTHON_TREES, agents, docker_containers, in_parallel, python_command

BLIND_TO_ZOMBIES = ["setpriv", "--bounding-set=-sys_ptrace,-mknod", "--inh-caps=-all"]
"""A container may do something that such an agent may not, so it may not ptrace it: the kernel shows it no exit status of a zombie."""
PYTHON = {"volumes": {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}}
CRASH = python_command("import ctypes; ctypes.string_at(0)")


@dataclass(frozen=True)
class Deaths:
    """The verdicts of one agent, by the names of containers; and of one that only Docker tells exit codes."""

    found: dict[str, list[dict[str, Any]]]
    by_code: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def deaths(docker: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deaths]:
    """Bring them about, all at once."""
    with (
        docker_containers(docker) as run,
        agents(tmp_path_factory.mktemp("facts")) as start,
        agents(tmp_path_factory.mktemp("codes")) as start_another,
    ):
        coroner, blind = in_parallel(start, lambda: start_another(under=BLIND_TO_ZOMBIES))
        run(*CRASH, name="segv", **PYTHON).wait()
        names = {"segv": 1}
        yield Deaths(wait_for_deaths(coroner, names), wait_for_deaths(blind, names))


def test_the_kernels_line_about_a_fault_is_evidence(deaths: Deaths) -> None:
    """Of an init, whose process is gone when the line is read; with it nothing is missing where only a code is known, which may be any."""
    for found in (deaths.found, deaths.by_code):
        [segv] = found["segv"]
        assert (segv["cause"], segv["missing"]) == ("crashed", []), segv
        [line] = [each for each in segv["evidence"] if "the kernel logged a fault" in each]
        assert "]: segfault at 0 ip " in line
    assert deaths.by_code["segv"][0]["how"] == "runtime"
