"""Whose process the kernel log names by its PID: known while it is there and for a moment after, never another's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.log_pids import KEEP_SECONDS, LogPids
from collectors.inquest.facts import Born, Exited, OomKilled, Started
from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup
from tests.kills import KILL, told
from tests.tree import HOST_NAMESPACE, A, B, Link, docker, proc, process, tree

SELF = {"self/ns/pid": Link(f"pid:[{HOST_NAMESPACE}]")}
PID = 77


def fault(pid: int = PID, comm: bytes = b"app") -> tuple[int, bytes]:
    """What a line of the log says of a process."""
    return pid, comm


def of(inode: int | None, time: float = 5.0) -> dict[str, Any]:
    """Return what facts of the container A have."""
    return {"container": A, "source": "exits", "time": time, "inode": inode}


def born(inode: int, path: str = docker(A)) -> Born:
    """Return the birth of the container with this cgroup."""
    container = container_id.parse(path)
    assert container is not None
    cgroup = Cgroup(path, f"/nowhere{path}", inode, has_children=False)
    return Born(container=container.key, source="cgroup", time=5.0, inode=inode, id=container, cgroup=cgroup)


def killed(pid: int) -> OomKilled:
    """Return a kill of which the log names nothing but the PID."""
    return told(replace(KILL, pid=pid))


class Node:
    """A node with some processes, and a clock."""

    def __init__(self, root: Path, *parts: dict[str, Any]) -> None:
        tree(root, proc(SELF, *parts))
        self.now = 100.0
        self.pids = LogPids(f"{root}/proc", lambda: self.now)


def test_a_process_that_is_still_there_is_asked_for(tmp_path: Path) -> None:
    """With the cgroup's inode where it is the init of a container that is known; a child's container, too."""
    node = Node(tmp_path, process(PID, cgroup=docker(A)), process(78, cgroup=docker(B)), process(79))
    assert node.pids.whose(*fault()) == (A, None)

    node.pids.tell(Started(**of(4711), pid=PID))
    assert node.pids.whose(*fault()) == (A, 4711)
    assert node.pids.whose(*fault(78)) == (B, None)
    assert node.pids.whose(*fault(79)) is None, "it is in no container"


def test_an_init_that_was_reaped_is_remembered_for_a_moment(tmp_path: Path) -> None:
    """Its end may be told before the line is read."""
    node = Node(tmp_path)
    assert node.pids.whose(*fault()) is None
    node.pids.tell(Started(**of(4711), pid=PID))
    node.now += 1000
    assert node.pids.whose(*fault()) == (A, 4711)

    node.pids.tell(Exited(**of(4711), how="reaped", status=11))
    node.now += KEEP_SECONDS
    assert node.pids.whose(*fault()) == (A, 4711)
    node.now += 0.1
    assert node.pids.whose(*fault()) is None


def test_the_latest_init_with_a_pid_is_meant(tmp_path: Path) -> None:
    """PIDs come again, also at once; and a process of another name is another process."""
    node = Node(tmp_path, process(PID, cgroup=docker(B)))
    node.pids.tell(Started(**of(4711), pid=PID))
    node.pids.tell(Exited(**of(4711), how="reaped", status=11))
    node.pids.tell(Started(**of(4712), pid=PID))
    assert node.pids.whose(*fault(comm=b"gone")) == (A, 4712)

    node.pids.tell(Exited(**of(4711), how="runtime", code=139))
    node.now += KEEP_SECONDS + 1
    assert node.pids.whose(*fault(comm=b"gone")) == (A, 4712), "the end of the one before is not its end"


def test_where_pids_are_others_nothing_is_known(tmp_path: Path) -> None:
    """A node that is a container has a PID namespace of its own."""
    tree(tmp_path, proc({"self/ns/pid": Link("pid:[4026532001]"), "self/status": "Name:\ta\nNSpid:\t1\n"}, process(PID, cgroup=docker(A))))
    pids = LogPids(f"{tmp_path}/proc")
    pids.tell(Started(**of(4711), pid=PID))

    assert pids.whose(*fault()) is None


def test_what_is_remembered_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes."""
    monkeypatch.setattr("agent.log_pids.MOST", 2)
    node = Node(tmp_path)
    for number in range(4):
        node.pids.tell(Started(**of(4711 + number), pid=PID + number))

    assert [node.pids.whose(*fault(PID + number)) for number in range(4)] == [None, None, (A, 4713), (A, 4714)]


def test_an_init_that_lives_is_remembered_however_many_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended is forgotten, and the births of what never had an init are with their ends."""
    monkeypatch.setattr("agent.log_pids.MOST", 2)
    node = Node(tmp_path)
    node.pids.tell(Started(**of(4711), pid=PID))
    for number in range(1, 10):
        node.pids.tell(Started(**of(4711 + number), pid=PID + number))
        node.pids.tell(Exited(**of(4711 + number), how="reaped", status=0))
        node.now += KEEP_SECONDS + 1
        node.pids.tell(born(5000 + number))
        node.pids.tell(Exited(**of(5000 + number), how="runtime", code=0))

    assert node.pids.whose(*fault()) == (A, 4711)
    assert not node.pids._births


def test_what_a_container_makes_in_itself_takes_nobodys_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may make any number of cgroups that are called like containers."""
    monkeypatch.setattr("agent.log_pids.MOST", 1)
    node = Node(tmp_path)
    node.pids.tell(born(4711))
    for number in range(10):
        node.pids.tell(born(5000 + number, f"{docker(A)}/docker/{B}"))
    node.pids.tell(Started(**of(4711), pid=PID))

    owner = node.pids.owner(killed(PID))
    assert owner is not None
    assert owner.inode == 4711


@pytest.mark.parametrize("status", ["Name:\tapp", "", "x\n"])
def test_what_cannot_be_read_is_no_answer(tmp_path: Path, status: str) -> None:
    """A status cut short, one that is none."""
    node = Node(tmp_path, {**process(PID, cgroup=docker(B)), f"{PID}/status": status})
    node.pids.tell(Started(**of(4711), pid=PID))

    assert node.pids.whose(*fault()) == (A, 4711)
