"""Whose the zombies of a container are, what they were, and whether they were left by exec probes."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors import forensics
from collectors.base import Node
from collectors.forensics import MOST_CULPRITS, MOST_NAMES, Culprit, Forensics, culprits, examine
from collectors.zombies import Zombies
from tests.tree import A, B, Content, cgroup, collect, docker, node, proc, process, stat, tree

INSIDE = 4026532001
SHIM = 50
HOST = {**process(1, parent=0), **process(SHIM)}
EXITED_3, KILLED = 3 << 8, 9


def inside(
    pid: int, comm: bytes = b"app", *, parent: int = 100, state: bytes = b"Z", session: int = 100, **more: Any
) -> dict[str, Content]:
    """Make a process of a container whose init is 100, in the session of that unless it is told another."""
    pids = (pid, 1) if pid == 100 else (pid, pid - 90)
    return process(
        pid, comm=comm, parent=parent, state=state, session=session, namespace=INSIDE, pids=pids, **{"cgroup": docker(A), **more}
    )


INIT = inside(100, b"server", parent=SHIM, state=b"S")


def seen(root: Path, *processes: dict[str, Content]) -> Node:
    """Look at a node with containers A and B and these processes."""
    tree(root, {**cgroup(docker(A)), **cgroup(docker(B)), **proc(HOST, *processes)})
    return node(root)


def look(root: Path, *processes: dict[str, Content]) -> Forensics:
    """Examine container A."""
    found = seen(root, *processes)
    return examine(found, next(container for container in found.containers if container.id.key == A))


def only(root: Path, *processes: dict[str, Content]) -> Culprit:
    """Return the one culprit in container A."""
    (culprit,) = look(root, *processes).culprits
    return culprit


def test_an_init_that_never_waits_for_what_it_starts(tmp_path: Path) -> None:
    """By both of its PIDs, with what they were and how they ended; they are its own, as far as can be told."""
    dead = (
        inside(101, b"worker", exit_code=EXITED_3, start_time=100),
        inside(102, b"worker", exit_code=EXITED_3, start_time=300),
        inside(103, b"helper", exit_code=KILLED, start_time=700),
    )

    assert only(tmp_path, INIT, *dead) == Culprit(
        pid=100,
        container_pid=1,
        comm="server",
        is_init=True,
        has_waited=False,
        zombies=3,
        names=(("worker", 2), ("helper", 1)),
        looked=3,
        statuses=((EXITED_3, 2), (KILLED, 1)),
        adopted=0,
        entered=0,
        oldest=None,
        seconds_between=600 / os.sysconf("SC_CLK_TCK") / 2,
    )


def test_another_parent_is_named_by_its_pid_in_the_container(tmp_path: Path) -> None:
    """Of it nothing is adopted: orphans go to PID 1."""
    supervisor = inside(110, b"supervisor", state=b"S", child_faults=7)
    culprit = only(tmp_path, INIT, supervisor, inside(111, parent=110, session=4711))

    assert (culprit.pid, culprit.container_pid, culprit.comm, culprit.is_init, culprit.has_waited) == (110, 20, "supervisor", False, True)
    assert (culprit.zombies, culprit.adopted, culprit.is_exec_probe, culprit.seconds_between) == (1, 0, False, None)


def test_who_has_most_comes_first_and_all_are_counted(tmp_path: Path) -> None:
    """Of many culprits some are told."""
    parents = range(200, 200 + MOST_CULPRITS + 3)
    living = [inside(pid, state=b"S") for pid in parents]
    dead = [inside(1000 + 20 * pid + number, parent=pid) for pid in parents for number in range(2 if pid == 205 else 1)]
    found = look(tmp_path, INIT, *living, *dead)

    assert found.zombies == len(dead)
    assert len(found.culprits) == MOST_CULPRITS
    assert found.culprits[0].pid == 205


def test_a_number_that_is_another_process_by_now_tells_nothing(tmp_path: Path) -> None:
    """Between the scan and the look a zombie may be waited for and its parent end, and others get their numbers."""
    supervisor = inside(110, b"supervisor", state=b"S", child_faults=7)
    found = seen(tmp_path, INIT, supervisor, inside(111, parent=110), inside(112, parent=110, exit_code=KILLED))
    assert len(found.processes.zombies) == 2
    shutil.rmtree(tmp_path / "proc/110")  # its descriptor goes on with what it was
    tree(tmp_path, proc(inside(110, b"nginx", state=b"S", start_time=900), inside(111, b"nginx", start_time=901, exit_code=EXITED_3)))

    (culprit,) = culprits(found, A)
    assert (culprit.comm, culprit.has_waited, culprit.container_pid) == ("", None, None)
    assert (culprit.zombies, culprit.looked, culprit.statuses) == (2, 1, ((KILLED, 1),))


def test_of_a_crowd_so_many_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of whoever has most; what they tell is of these alone."""
    monkeypatch.setattr(forensics, "MOST", 3)
    supervisor = inside(110, state=b"S")
    orphans = [inside(pid, session=pid - 1) for pid in range(301, 351, 10)]
    most, other = look(tmp_path, INIT, supervisor, *orphans, inside(111, parent=110)).culprits

    assert (most.zombies, most.looked, most.entered, most.is_exec_probe, most.statuses) == (5, 3, 3, True, ((0, 3),))
    assert (other.zombies, other.looked, other.statuses) == (1, 0, ())


def test_what_probes_leave_is_recognised(tmp_path: Path) -> None:
    """Orphans of sessions whose leaders are gone, under a PID 1 that has never waited: the shim has waited for them."""
    culprit = only(tmp_path, INIT, *(inside(pid, b"sleep", session=pid - 1) for pid in range(301, 341, 10)))

    assert (culprit.zombies, culprit.adopted, culprit.entered, culprit.is_exec_probe, culprit.has_waited) == (4, 4, 4, True, False)


def test_a_session_that_is_still_there_came_in_if_its_parent_is_outside(tmp_path: Path) -> None:
    """A shell by docker exec whose jobs were orphaned; a daemon's leader that PID 1 started is a zombie of it."""
    shell = inside(301, b"sh", parent=SHIM, state=b"S", session=301)
    leader = inside(311, b"daemon", session=311)
    culprit = only(tmp_path, INIT, shell, inside(302, session=301), inside(303, session=301), leader, inside(312, session=311))

    assert (culprit.zombies, culprit.adopted, culprit.entered) == (4, 3, 2)
    assert not culprit.is_exec_probe, "half is not most"


def test_a_leader_whose_parent_cannot_be_seen_came_in(tmp_path: Path) -> None:
    """The shim is outside of the namespace of this /proc."""
    assert only(tmp_path, INIT, inside(301, b"sh", parent=0, state=b"S", session=301), inside(302, session=301)).entered == 1


def test_one_that_is_the_leader_of_its_own_session_may_be_a_child(tmp_path: Path) -> None:
    """setsid(2) in the child: it is not certain that it was adopted."""
    assert only(tmp_path, INIT, inside(301, session=301)).adopted == 0


def test_a_culprit_that_has_ended_meanwhile(tmp_path: Path) -> None:
    """Nothing is known of it but its number."""
    culprit = only(tmp_path, INIT, inside(301, parent=4711))

    assert (culprit.pid, culprit.container_pid, culprit.comm, culprit.has_waited, culprit.zombies) == (4711, None, "", None, 1)


def test_a_culprit_outside_of_the_container(tmp_path: Path) -> None:
    """nsenter whose parent does not wait: it has no PID in the container."""
    culprit = only(tmp_path, INIT, process(60, comm=b"nsenter"), inside(301, parent=60))

    assert (culprit.pid, culprit.container_pid, culprit.comm) == (60, None, "nsenter")


def test_zombies_that_are_waited_for_meanwhile_cost_nothing(tmp_path: Path) -> None:
    """Neither do those of another container count."""
    found = seen(tmp_path, INIT, inside(301, exit_code=1), inside(302), inside(303, cgroup=docker(B)))
    _ = found.processes
    shutil.rmtree(tmp_path / "proc" / "302")
    tree(tmp_path, proc({"301/stat": stat(301, state=b"Z", exit_code=1)[:60]}))
    (culprit,) = culprits(found, A)

    assert (culprit.zombies, culprit.looked, culprit.statuses) == (2, 0, ())


def test_statuses_that_the_agent_may_not_know_are_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel prints 0 then, as of one that has succeeded; it refuses ns/pid likewise."""
    found = seen(tmp_path, INIT, inside(301), inside(302))
    assert culprits(found, A)[0].statuses == ((0, 2),)

    def fail(path: str) -> str:
        raise PermissionError(13, "", path)

    monkeypatch.setattr("os.readlink", fail)

    assert culprits(found, A)[0].statuses == ()


def test_since_when_is_what_the_collector_has_seen(tmp_path: Path) -> None:
    """The oldest of each culprit, and of all."""
    times = iter((1000.0, 2000.0))
    collector = Zombies(lambda: next(times))
    supervisor = inside(110, state=b"S")
    collect(collector, seen(tmp_path, INIT, supervisor, inside(301)))
    found = seen(tmp_path, INIT, supervisor, inside(301), inside(302), inside(111, parent=110))
    collect(collector, found)
    (container,) = (each for each in found.containers if each.id.key == A)
    told = examine(found, container, collector.first_seen)

    assert told.oldest == 1000
    assert {culprit.pid: culprit.oldest for culprit in told.culprits} == {100: 1000, 110: 2000}


def test_the_share_of_the_pid_limit(tmp_path: Path) -> None:
    """Absent without a limit."""
    found = look(tmp_path, INIT, inside(301), inside(302))
    assert (found.threads_limit, found.share_of_limit) == (100, 0.02)

    (tmp_path / "cgroup" / docker(A).lstrip("/") / "pids.max").write_text("max\n")
    unlimited = node(tmp_path)
    found = examine(unlimited, unlimited.containers[0])
    assert (found.zombies, found.threads_limit, found.share_of_limit) == (2, None, None)


def test_a_container_without_zombies_has_no_culprit(tmp_path: Path) -> None:
    """Nor one that is not there."""
    assert look(tmp_path, INIT) == Forensics(zombies=0, culprits=(), oldest=None, threads_limit=100)
    assert culprits(seen(tmp_path, INIT), B) == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(st.lists(st.binary(max_size=15).filter(lambda name: b"\0" not in name), min_size=1, max_size=8))
def test_names_are_data_and_few(tmp_path: Path, names: list[bytes]) -> None:
    """Whatever processes call themselves, each counts once and nothing else is told."""
    shutil.rmtree(tmp_path / "proc", ignore_errors=True)
    culprit = only(tmp_path, INIT, *(inside(301 + number, name) for number, name in enumerate(names)))

    assert culprit.zombies == len(names)
    assert len(culprit.names) <= MOST_NAMES
    told = {name.decode(errors="backslashreplace") for name in names}
    assert {name for name, _ in culprit.names} <= told
    assert culprit.comm == "server"
