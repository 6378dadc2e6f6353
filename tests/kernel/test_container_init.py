"""Which process of a container is its init: found, or not known, and never another one."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from collectors.kernel import container_init
from collectors.kernel.container_init import ForeignProcesses, Init, newborn_init, running_init
from collectors.kernel.files import parse_once
from tests.tree import A, cgroup, docker, proc, process, tree

PATH = docker(A)


class Host:
    """A host with one container."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put()

    def put(self, *pids: int, below: str = "") -> None:
        """Let these processes be in the container's cgroup, or in one below."""
        tree(self.root, cgroup(PATH + below, {"cgroup.procs": "".join(f"{pid}\n" for pid in pids)}))

    def make(self, *pids: int, comm: bytes = b"app", parent: int = 50, start_time: int = 100) -> int:
        """Make a process, by its NSpid."""
        tree(self.root, proc(process(pids[0], pids=pids, comm=comm, parent=parent, start_time=start_time)))
        # The process' own name, of which a tree's status knows nothing, is in stat.
        return pids[0]

    def newborn(self) -> Init | None:
        """Look as at one that has just been made."""
        return newborn_init(f"{self.root}/proc", f"{self.root}/cgroup{PATH}", set())

    def running(self) -> Init | None:
        """Look as at one that was there before."""
        return running_init(f"{self.root}/proc", f"{self.root}/cgroup{PATH}")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose container has no process."""
    return Host(tmp_path)


@pytest.mark.parametrize("below", ["", "/container"])
def test_pid_1_among_what_a_runtime_starts_it_with(host: Host, below: str) -> None:
    """runc's first two processes have not ended yet; crun puts the container into one more cgroup."""
    host.put(host.make(90, comm=b"runc:[0:PARENT]"), host.make(91, comm=b"runc:[1:CHILD]"))
    assert host.newborn() is None

    host.put(90, 91, host.make(92, 1, comm=b"runc:[2:INIT]"), below=below)
    assert host.newborn() == Init(92, 100, ""), "that name is not the container's"


def test_what_was_no_init_is_not_looked_at_again(host: Host) -> None:
    """The PID that a process has in its namespaces never changes."""
    others: set[int] = set()
    host.put(host.make(90), host.make(92, 1))
    for _ in range(2):
        assert newborn_init(f"{host.root}/proc", f"{host.root}/cgroup{PATH}", others) == Init(92, 100, "app")
        assert others == {90}


def test_what_is_not_there_has_no_init(host: Host) -> None:
    """Neither a cgroup without processes, nor a process that has ended, nor a cgroup that is gone."""
    assert (host.newborn(), host.running()) == (None, None)
    host.put(77)
    assert (host.newborn(), host.running()) == (None, None)
    assert newborn_init(f"{host.root}/proc", "/nowhere", set()) is None
    assert running_init(f"{host.root}/proc", "/nowhere") is None


def test_a_number_that_another_process_has_got_meanwhile_is_no_init(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends between the list of the cgroup and the look, and the next container is given its number."""
    host.put(77)

    def look(*arguments: Any) -> Any:
        host.put()
        host.make(77, 1, comm=b"neighbour", start_time=900)
        return parse_once(*arguments)

    monkeypatch.setattr(container_init, "parse_once", look)
    assert host.newborn() is None
    host.put(77)
    assert host.running() is None


def test_the_outermost_pid_1_is_the_containers(host: Host) -> None:
    """A container may hold others; two that are equally deep tell nothing."""
    host.put(host.make(92, 1, comm=b"systemd"), host.make(95, 7, 1, comm=b"app", start_time=200))
    assert host.newborn() == host.running() == Init(92, 100, "systemd")

    host.put(92, host.make(96, 1))
    assert (host.newborn(), host.running()) == (None, None)


def test_an_init_that_has_moved_into_a_cgroup_below_is_found(host: Host) -> None:
    """As systemd does."""
    host.put()
    host.put(host.make(92, 1), below="/init.scope")
    host.put(host.make(99, 8, parent=92), below="/system.slice/web.service")

    assert host.running() == Init(92, 100, "app")


def test_of_a_shared_pid_namespace_it_is_the_oldest_that_none_of_them_started(host: Host) -> None:
    """One that was put in by exec is younger, and a child is a child."""
    host.put(host.make(92, start_time=100), host.make(93, parent=92, start_time=90), host.make(97, start_time=200))

    assert host.newborn() is None, "the next one may be PID 1"
    assert host.running() == Init(92, 100, "app")


def test_a_runtimes_helper_is_no_init(host: Host) -> None:
    """By its name, or because it has just been started."""
    host.put(host.make(92, comm=b"runc:[0:PARENT]"))
    assert host.running() is None

    now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    host.put(host.make(93, comm=b"exe", start_time=now))
    assert host.running() is None


def test_a_namespace_that_was_made_inside_does_not_have_the_init(host: Host) -> None:
    """A container that shares the namespace of its host may unshare another one."""
    host.put(host.make(92, start_time=100), host.make(93, 1, start_time=150))
    assert host.running() is None

    host.put(92, host.make(93, 1, parent=92, start_time=150))
    assert host.running() == Init(92, 100, "app")


def test_where_there_are_too_many_only_the_certain_one_is_taken(host: Host) -> None:
    """What was not looked at may be older, or less deep."""
    many = [host.make(1000 + number, 8, parent=92, start_time=200) for number in range(250)]
    host.put(host.make(92, 1), *many)
    assert host.running() == Init(92, 100, "app")

    host.put(host.make(92, 7, 1), *many)
    assert host.running() is None
    host.put(host.make(92), *many)
    assert host.running() is None


def test_processes_of_a_foreign_namespace_are_said_to_be_that(host: Host) -> None:
    """The kernel lists each as 0."""
    host.put(0, 0)
    for look in (host.newborn, host.running):
        with pytest.raises(ForeignProcesses):
            look()
