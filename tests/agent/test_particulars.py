"""The names behind findings, looked for when somebody asks."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest

from agent import particulars
from agent.gather import Gather
from agent.particulars import MOST, with_names
from collectors.base import Node
from collectors.findings import Examination, Finding
from collectors.kernel.container_id import ContainerKey
from tests.tree import LABELS, A, B, Content, cgroup, docker, node, proc, process, tree

T = TypeVar("T")
INSIDE = 4026532001


class Asked:
    """A gather that answers about a node, or cannot."""

    def __init__(self, seen: Node | Exception) -> None:
        self.seen, self.questions = seen, 0

    async def ask(self, question: Callable[[Node], T], _timeout: float) -> T:
        self.questions += 1
        if isinstance(self.seen, Exception):
            raise self.seen
        return question(self.seen)


def inside(pid: int, comm: bytes, state: bytes = b"S") -> dict[str, Content]:
    """Make a process of a container whose init is 100."""
    parent = 50 if pid == 100 else 100
    return process(pid, comm=comm, parent=parent, state=state, namespace=INSIDE, pids=(pid, pid - 99), cgroup=docker(A))


def found(rule: str, key: ContainerKey = A) -> Finding:
    """Make a finding."""
    labels = LABELS[key]
    return Finding((labels[0], labels[1], labels[2]), rule, "warning", "evidence", "why", "fix", "")


async def details(seen: Node | Exception, *findings: Finding) -> list[tuple[str, ...]]:
    """Return what is found behind each of them."""
    named = await with_names(Examination(findings), cast(Gather, Asked(seen)), 10)
    return [finding.details for finding in named.findings]


async def test_who_does_not_wait_and_which_services_there_are_is_named(tmp_path: Path) -> None:
    """In the findings that this is about; in others nothing is looked for, nor of a container that is gone."""
    tree(tmp_path, cgroup(docker(A)))
    dead = [inside(number, b"work\xffer", b"Z") for number in range(103, 106)]
    tree(tmp_path, proc(process(1, parent=0), process(50), inside(100, b"sh"), inside(101, b"nginx"), inside(102, b"php"), *dead))
    rules = ("zombies-under-init", "several-services", "init-deaf")

    zombies, services, deaf, gone = await details(node(tmp_path), *map(found, rules), found("several-services", B))

    assert zombies == ("sh (PID 100 of the node, PID 1 of the container) has not waited for 3: 3 work\\xffer; they ended: 3 with 0.",)
    assert services == ("nginx, php",)
    assert deaf == gone == ()


async def test_what_is_found_is_true_without_its_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pass that hangs, or a process table that cannot be read, costs the names alone."""
    assert await details(TimeoutError(), found("several-services")) == [()]
    tree(tmp_path, cgroup(docker(A)))
    assert await details(node(tmp_path), found("zombies-under-init")) == [()]
    assert not caplog.records


async def test_one_that_cannot_be_looked_into_costs_no_other_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with it."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(process(1, parent=0), process(50), inside(100, b"sh"), inside(101, b"nginx"), inside(102, b"php")))

    def fail(_node: Node, _key: ContainerKey) -> tuple[str, ...]:
        raise KeyError

    monkeypatch.setitem(particulars._LOOKS, "zombies-under-init", fail)
    assert await details(node(tmp_path), found("zombies-under-init"), found("several-services")) == [(), ("nginx, php",)]


async def test_a_parent_out_of_sight_has_no_number(tmp_path: Path) -> None:
    """An agent in a PID namespace of its own sees 0 for whoever is outside of it."""
    tree(tmp_path, cgroup(docker(A)))
    orphan = process(103, comm=b"worker", parent=0, state=b"Z", namespace=INSIDE, pids=(103, 4), cgroup=docker(A))
    tree(tmp_path, proc(process(1, parent=0), process(50), inside(100, b"sh"), orphan))

    [(said,)] = await details(node(tmp_path), found("zombies-under-child"))
    assert said.startswith("A process outside of the agent's PID namespace has not waited for 1: 1 worker")


async def test_nobody_is_asked_for_nothing_and_of_many_the_first(tmp_path: Path) -> None:
    """Who asks may be a script, every few seconds, about a thousand containers."""
    quiet = Asked(RuntimeError())
    await with_names(Examination([found("init-deaf")]), cast(Gather, quiet), 10)
    assert quiet.questions == 0

    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(process(1, parent=0), process(50), inside(100, b"sh"), inside(101, b"a"), inside(102, b"b")))
    found_all = await details(node(tmp_path), *[found("several-services", B)] * MOST, found("several-services"))
    assert found_all[-1] == ()
