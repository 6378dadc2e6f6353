"""Zombies: per container by whose fault they are, and per PID namespace."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.kernel.files import Forbidden
from collectors.kernel.procfs import ProcessTable
from collectors.zombies import Zombies
from tests.tree import HOST_NAMESPACE, LABELS, A, B, C, Content, cgroup, collect, docker, forbid, node, proc, process, series, tree

INSIDE = 4026532001

Found = dict[tuple[str, tuple[str, ...]], float]


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def table(tmp_path: Path) -> Iterator[ProcessTable]:
    """One process table for several passes."""
    table = ProcessTable(f"{tmp_path}/proc", 100)
    yield table
    table.close()


def inside(pid: int, *, parent: int = 100, state: bytes = b"Z", start_time: int = 100, path: str = docker(A)) -> dict[str, Content]:
    """Make a process of a container whose init is 100."""
    pids = (pid, 1) if pid == 100 else (pid, pid - 90)
    return process(pid, parent=parent, state=state, start_time=start_time, namespace=INSIDE, pids=pids, cgroup=path)


INIT = inside(100, parent=50, state=b"S")
HOST = {**process(1, parent=0), **process(50)}


def zombies(labels: tuple[str, ...], *, init: int = 0, other: int = 0, oldest: float | None = None) -> Found:
    """Spell the series of one container."""
    counts = series((*labels, "init"), {"container_zombies": init}) | series((*labels, "other"), {"container_zombies": other})
    return counts | ({} if oldest is None else series(labels, {"container_oldest_zombie_timestamp_seconds": oldest}))


def namespace(number: int | str, labels: tuple[str, ...], *, processes: int, zombies: int = 0) -> Found:
    """Spell the series of one PID namespace."""
    return series((str(number), *labels), {"pid_namespace_processes": processes, "pid_namespace_zombies": zombies})


def test_whose_fault_they_are(tmp_path: Path, clock: Clock) -> None:
    """PID 1's, or another parent's; a container without zombies has 0 of both and no oldest one."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    tree(
        tmp_path,
        proc(HOST, INIT, inside(101), inside(102), inside(103, state=b"S"), inside(104, parent=103), inside(105, parent=103, state=b"R")),
    )

    assert collect(Zombies(clock), node(tmp_path)) == (
        zombies(LABELS[A], init=2, other=1, oldest=1000)
        | zombies(LABELS[B])
        | namespace(HOST_NAMESPACE, ("", "", ""), processes=2)
        | namespace(INSIDE, LABELS[A], processes=6, zombies=3)
    )


def test_zombies_of_the_host_and_of_no_container(tmp_path: Path, clock: Clock) -> None:
    """They are counted in their PID namespace, which has no name."""
    tree(tmp_path, cgroup(docker(A)))
    sandbox = process(60, namespace=INSIDE + 1, pids=(60, 1), cgroup="/user.slice")
    tree(tmp_path, proc(HOST, process(51, state=b"Z"), sandbox, process(61, namespace=INSIDE + 1, pids=(61, 2), parent=60, state=b"Z")))

    assert collect(Zombies(clock), node(tmp_path)) == (
        zombies(LABELS[A])
        | namespace(HOST_NAMESPACE, ("", "", ""), processes=3, zombies=1)
        | namespace(INSIDE + 1, ("", "", ""), processes=2, zombies=1)
    )


def test_a_zombie_below_its_container_and_one_in_a_removed_cgroup_belong_to_it(tmp_path: Path, clock: Clock) -> None:
    """A zombie keeps the cgroup that it died in."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, INIT, inside(101, path=f"{docker(A)}/nested (deleted)"), inside(102, path=f"{docker(A)} (deleted)")))

    assert collect(Zombies(clock), node(tmp_path)).items() >= zombies(LABELS[A], init=2, oldest=1000).items()


def test_a_container_cannot_pass_its_zombies_off_as_those_of_another(tmp_path: Path, clock: Clock) -> None:
    """It may name a cgroup of its own like another container."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    tree(tmp_path, proc(HOST, INIT, inside(101, path=f"{docker(A)}/docker-{B}.scope")))

    assert collect(Zombies(clock), node(tmp_path)).items() >= zombies(LABELS[B]).items()


def test_containers_that_share_a_namespace(tmp_path: Path, clock: Clock) -> None:
    """In a pod with one PID namespace the sandbox is PID 1 of all; each zombie counts for the container that it died in."""
    sandbox = ("shop", "web-0", "")
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B)), **cgroup(docker(C))})
    tree(tmp_path, proc(HOST, INIT, inside(101, path=docker(B)), inside(102, path=docker(C)), inside(103, path=docker(C), parent=4321)))

    assert collect(Zombies(clock), node(tmp_path, names={B: LABELS[B], C: LABELS[C]}, sandboxes={A: sandbox})) == (
        zombies(LABELS[B], init=1, oldest=1000)
        | zombies(LABELS[C], init=1, other=1, oldest=1000)
        | namespace(HOST_NAMESPACE, ("", "", ""), processes=2)
        | namespace(INSIDE, sandbox, processes=4, zombies=3)
    )


def test_the_oldest_is_remembered_while_it_stays(tmp_path: Path, clock: Clock, table: ProcessTable) -> None:
    """First seen is stable; when the oldest is reaped the next one counts, and a PID used again is another zombie."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, INIT, inside(101)))
    collector = Zombies(clock)

    def oldest(now: float) -> float | None:
        clock.now = now
        seen = node(tmp_path, process_table=table)
        return collect(collector, seen).get(("coroner_container_oldest_zombie_timestamp_seconds", LABELS[A]))

    assert oldest(1000) == 1000
    tree(tmp_path, proc(inside(102)))
    assert oldest(1010) == 1000
    assert oldest(1020) == 1000
    shutil.rmtree(tmp_path / "proc" / "101")
    assert oldest(1030) == 1010
    shutil.rmtree(tmp_path / "proc" / "102")
    assert oldest(1040) is None
    tree(tmp_path, proc(inside(101)))
    assert oldest(1050) == 1050
    tree(tmp_path, proc(inside(101, start_time=999)))
    assert oldest(1060) == 1060


def test_processes_whose_namespace_is_forbidden_are_counted_as_unknown(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their container is known all the same."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, proc(HOST, INIT, inside(101)))

    def fail(path: str) -> str:
        raise PermissionError(13, "", path)

    monkeypatch.setattr("os.readlink", fail)

    assert collect(Zombies(clock), node(tmp_path)) == (
        zombies(LABELS[A], init=1, oldest=1000)
        | namespace(HOST_NAMESPACE, ("", "", ""), processes=2)
        | namespace("unknown", ("", "", ""), processes=2, zombies=1)
    )


def test_a_missing_privilege_is_raised(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node without zombies would be a lie."""
    tree(tmp_path, {**cgroup(docker(A)), **proc(HOST)})
    seen = node(tmp_path)
    forbid(monkeypatch)

    with pytest.raises(Forbidden):
        collect(Zombies(clock), seen)


def test_where_proc_hides_processes_nothing_is_counted(tmp_path: Path, clock: Clock) -> None:
    """Those that are left to be seen are not all: with hidepid=2 a node would have one process and no zombies."""
    tree(tmp_path, {**cgroup(docker(A)), **proc(process(4711))})

    with pytest.raises(Forbidden, match="CAP_SYS_PTRACE"):
        collect(Zombies(clock), node(tmp_path))


def test_without_pid_namespaces_in_the_kernel_zombies_are_counted(tmp_path: Path, clock: Clock) -> None:
    """All processes are in the one namespace there is, whose number is that of every kernel's first."""
    tree(tmp_path, cgroup(docker(A)))
    for pid, state in ((1, b"S"), (100, b"S"), (101, b"Z")):
        tree(tmp_path, proc(process(pid, parent=100 if pid > 100 else 0, state=state, cgroup=docker(A))))
        (tmp_path / "proc" / str(pid) / "ns" / "pid").unlink()
        tree(tmp_path, proc({f"{pid}/status": f"Name:\tapp\nTgid:\t{pid}\n"}))

    assert collect(Zombies(clock), node(tmp_path)) == (
        zombies(LABELS[A], other=1, oldest=1000) | namespace(HOST_NAMESPACE, ("", "", ""), processes=3, zombies=1)
    )
