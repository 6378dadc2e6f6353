"""PID 1 of each container: what it is, and whether its stop signal gets through to it."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from collectors.init import Init
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import Forbidden, ReadError
from collectors.kernel.procfs import ProcessTable
from tests.tree import LABELS, A, B, Content, cgroup, collect, docker, forbid, node, proc, process, series, tree

INSIDE = 4026532001
HOST: dict[str, Content] = {**process(1, parent=0), **process(2, parent=0), "2/wchan": "kthreadd", **process(50)}
TERM, CHLD = 1 << 14, 1 << 16

Found = dict[tuple[str, tuple[str, ...]], float]


def masks(*, blocked: int = 0, ignored: int = 0, caught: int = 0) -> str:
    """Spell the lines of a status."""
    return f"SigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"


def inside(
    pid: int, comm: bytes = b"app", *, parent: int = 50, wchan: str = "hrtimer_nanosleep", signals: str | None = None, **options: Any
) -> dict[str, Content]:
    """Make a process of a container whose init is 100."""
    usual: dict[str, Any] = {"namespace": INSIDE, "pids": (pid, 1) if pid == 100 else (pid, pid - 90), "cgroup": docker(A)}
    more = masks() if signals is None else signals
    return {**process(pid, comm=comm, parent=parent, more_status=more, **usual | options), f"{pid}/wchan": wchan}


def said(
    comm: str, role: str, *, handles: bool | None = None, wrapper: bool | None = None, ignores: bool | None = False, signal: str = "SIGTERM"
) -> Found:
    """Spell the series of container A; None is absent."""
    found = series((*LABELS[A], comm, role), {"container_init_info": 1})
    if handles is not None:
        found |= series((*LABELS[A], signal), {"container_init_handles_stop_signal": handles})
    if wrapper is not None:
        found |= series(LABELS[A], {"container_init_is_wrapper": wrapper})
    if ignores is not None:
        found |= series(LABELS[A], {"container_init_ignores_sigchld": ignores})
    return found


def look(root: Path, *processes: dict[str, Content], collector: Init | None = None) -> Found:
    """Look at a node with container A and these processes."""
    tree(root, {**cgroup(docker(A)), **proc(HOST, *processes)})
    return collect(collector or Init(), node(root))


CHILD = inside(101, b"worker", parent=100)


def test_an_app_that_does_nothing_about_the_signal_is_deaf(tmp_path: Path) -> None:
    """And is no wrapper, with or without children."""
    assert look(tmp_path, inside(100), CHILD) == said("app", "app", handles=False)


def test_an_app_that_catches_it_is_not(tmp_path: Path) -> None:
    """SIGCHLD is told beside it."""
    assert look(tmp_path, inside(100, signals=masks(caught=TERM, ignored=CHLD))) == said("app", "app", handles=True, ignores=True)


def test_a_shell_that_waits_for_a_child_and_has_no_trap_is_a_wrapper(tmp_path: Path) -> None:
    """Only while the child lives."""
    shell = inside(100, b"sh", signals=masks(caught=CHLD))

    assert look(tmp_path, shell, CHILD) == said("sh", "shell", handles=False, wrapper=True)
    assert look(tmp_path, shell, inside(101, parent=100, state=b"Z")) == said("sh", "shell", handles=False, wrapper=False)
    shutil.rmtree(tmp_path / "proc" / "101")
    assert look(tmp_path, shell) == said("sh", "shell", handles=False, wrapper=False)


@pytest.mark.parametrize(
    ("signals", "handles"), [(masks(caught=TERM), True), (masks(ignored=TERM), False)], ids=["a trap", "interactive, or an empty trap"]
)
def test_a_shell_with_a_trap_and_an_interactive_one_are_none(tmp_path: Path, signals: str, handles: bool) -> None:
    """Though the interactive one will not stop when it is asked to."""
    assert look(tmp_path, inside(100, b"bash", signals=signals), CHILD) == said("bash", "shell", handles=handles, wrapper=False)


def test_the_stop_signal_is_the_one_that_was_told(tmp_path: Path) -> None:
    """Of this container, and SIGTERM where nobody told."""
    told: dict[ContainerKey, int] = {A: 3}
    quits = inside(100, signals=masks(caught=1 << 2))

    assert look(tmp_path, quits, collector=Init(told.get)) == said("app", "app", handles=True, signal="SIGQUIT")
    told.clear()
    assert look(tmp_path, quits, collector=Init(told.get)) == said("app", "app", handles=False)


def test_what_cannot_be_told_is_absent(tmp_path: Path) -> None:
    """Whether it waits for the signal, where wchan is not readable; and all of it in a kernel that has no masks."""
    assert look(tmp_path, inside(100, wchan="0"), CHILD) == said("app", "app")
    assert look(tmp_path, inside(100, signals="")) == said("app", "app", ignores=None)


def test_a_container_in_the_namespace_of_another_or_the_host_has_none(tmp_path: Path) -> None:
    """PID 1 is not its own."""
    tree(tmp_path, cgroup(docker(B)))

    assert look(tmp_path, inside(100), inside(102, cgroup=docker(B))) == said("app", "app", handles=False)
    shutil.rmtree(tmp_path / "proc" / "100")
    shutil.rmtree(tmp_path / "proc" / "102")
    assert look(tmp_path, process(100, cgroup=docker(A))) == {}


def test_a_pod_with_one_namespace_for_all_says_nothing(tmp_path: Path) -> None:
    """Its PID 1 is pause, in a cgroup of its own, which all of the pod may run in (gVisor)."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B)), **proc(HOST, inside(100), inside(102, cgroup=docker(B)))})

    assert collect(Init(), node(tmp_path, sandboxes={A: LABELS[A]})) == {}


@pytest.mark.parametrize("parent", [102, 50], ids=["alive", "gone"])
def test_a_namespace_that_a_container_of_the_host_made_is_not_the_containers(tmp_path: Path, parent: int) -> None:
    """A browser makes one for its tabs. The first process of the container is in another one, and stays in its cgroup."""
    tree(tmp_path, {**cgroup(docker(A)), f"cgroup{docker(A)}/cgroup.procs": "102\n100\n"})

    assert look(tmp_path, process(102, cgroup=docker(A), parent=50), inside(100, parent=parent)) == {}


def test_a_namespace_inside_of_that_of_the_container_is_not_either(tmp_path: Path) -> None:
    """The outermost is the container's."""
    inner = process(110, comm=b"inner", parent=100, namespace=INSIDE + 1, pids=(110, 20, 1), cgroup=docker(A))
    tree(tmp_path, {f"cgroup{docker(A)}/cgroup.procs": "100\n110\n"})

    assert look(tmp_path, inside(100), inner) == said("app", "app", handles=False)


def test_whoever_enters_does_not_matter(tmp_path: Path) -> None:
    """docker exec has a process of its own in the cgroup for a moment, outside of the namespace; it is younger than PID 1."""
    tree(tmp_path, {f"cgroup{docker(A)}/cgroup.procs": "100\n60\n61\n"})  # 61 has ended

    assert look(tmp_path, inside(100), process(60, cgroup=docker(A), start_time=101)) == said("app", "app", handles=False)
    assert look(tmp_path, inside(100), process(60, cgroup=docker(A), start_time=100)) == {}


def test_one_that_ends_while_it_is_read_costs_nobody_else_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone between the scan and its status, or its number belongs to another process by then."""
    other = {**process(200, namespace=INSIDE + 1, pids=(200, 1), cgroup=docker(B), more_status=masks(caught=TERM)), "200/wchan": "x"}
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B)), **proc(HOST, inside(100), other)})
    rest = series((*LABELS[B], "app", "app"), {"container_init_info": 1})

    seen = node(tmp_path)
    _ = seen.processes
    tree(tmp_path, proc(process(100, cgroup="/", comm=b"another")))
    assert rest.items() <= (found := collect(Init(), seen)).items()
    assert not {labels for _, labels in found if labels[:3] == LABELS[A]}

    shutil.rmtree(tmp_path / "proc" / "100")
    assert rest.items() <= (found := collect(Init(), seen)).items()
    assert not {labels for _, labels in found if labels[:3] == LABELS[A]}


def test_a_zombie_says_nothing_and_a_dead_leader_what_its_threads_obey(tmp_path: Path) -> None:
    """An init whose main thread has ended, and one that has ended as a whole."""
    signals = masks(caught=TERM)

    assert look(tmp_path, inside(100, state=b"Z", signals=signals)) == {}
    assert look(tmp_path, inside(100, state=b"Z", threads=2, signals=signals)) == said("app", "app", handles=True)


def test_garbage_of_another_process_costs_no_other_container_its_series(tmp_path: Path) -> None:
    """It is looked at to tell whose namespace it is."""
    strange = {**process(101, cgroup=docker(A)), "101/status": "garbage"}
    tree(tmp_path, {**cgroup(docker(A), {"cgroup.procs": "100\n101\n"}), **cgroup(docker(B)), **proc(HOST, inside(100), strange)})
    tree(tmp_path, proc(inside(200, pids=(200, 1), namespace=INSIDE + 1, cgroup=docker(B))))
    seen = node(tmp_path)

    assert {labels[:3] for _name, labels in collect(Init(), seen)} == {LABELS[B]}
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/proc/101/status"]


def test_garbage_costs_its_own_series_and_the_success(tmp_path: Path) -> None:
    """Another container has its own."""
    other = {**process(200, namespace=INSIDE + 1, pids=(200, 1), cgroup=docker(B), more_status=masks()), "200/wchan": "x"}
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B)), **proc(HOST, inside(100, signals="SigBlk:\tall\n"), other)})
    seen = node(tmp_path)

    found = collect(Init(), seen)

    assert {labels[:3] for _, labels in found} == {LABELS[B]}
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/proc/100/status"]


def test_a_missing_privilege_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of any, rather than of some."""
    tree(tmp_path, {**cgroup(docker(A)), **proc(HOST)})
    seen = node(tmp_path)
    forbid(monkeypatch)

    with pytest.raises(Forbidden):
        collect(Init(), seen)


def test_a_name_of_any_bytes_is_data(tmp_path: Path) -> None:
    """Also what is not UTF-8, and what looks like a line or a label."""
    assert look(tmp_path, inside(100, b'a"\n\\\xff{')) == said('a"\n\\\\xff{', "app", handles=False)


def test_one_status_is_read_per_pass_from_a_kept_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that catches the signal: nothing is opened in a later pass, and nothing is left open at the end."""
    tree(tmp_path, {**cgroup(docker(A)), **proc(HOST, inside(100, signals=masks(caught=TERM)), CHILD)})
    table, collector = ProcessTable(f"{tmp_path}/proc", 100), Init()
    first = collect(collector, node(tmp_path, process_table=table))
    seen = node(tmp_path, process_table=table)
    _ = seen.processes
    reads: list[int] = []
    pread = os.pread

    def counting(fd: int, size: int, offset: int) -> bytes:
        reads.append(fd)
        return pread(fd, size, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", counting)
        patch.setattr(os, "open", lambda path, _: pytest.fail(f"{path} was opened"))
        assert collect(collector, seen) == first

    assert len(reads) == 1
    table.close()
    assert len(table) == 0


def test_what_changes_is_seen_in_the_next_pass(tmp_path: Path) -> None:
    """A trap is set, the child ends, somebody tells another signal, the container is called otherwise: by one collector."""
    told: dict[ContainerKey, int] = {}
    collector, shell = Init(told.get), inside(100, b"sh", signals=masks())
    for _ in range(2):
        assert look(tmp_path, shell, CHILD, collector=collector) == said("sh", "shell", handles=False, wrapper=True)
    shutil.rmtree(tmp_path / "proc" / "101")
    assert look(tmp_path, shell, collector=collector) == said("sh", "shell", handles=False, wrapper=False)
    assert look(tmp_path, inside(100, b"sh", signals=masks(caught=TERM)), collector=collector) == said(
        "sh", "shell", handles=True, wrapper=False
    )
    told[A] = 3
    assert look(tmp_path, shell, collector=collector) == said("sh", "shell", handles=False, wrapper=False, signal="SIGQUIT")
    renamed = collect(collector, node(tmp_path, names={A: ("", "", "renamed")}))
    assert {labels[:3] for _, labels in renamed} == {("", "", "renamed")}


def test_whoever_could_not_be_judged_is_looked_at_again(tmp_path: Path) -> None:
    """It was running just then, or kthreadd was: its status may say the same when it sleeps."""
    collector = Init()
    assert look(tmp_path, inside(100, wchan="0"), collector=collector) == said("app", "app")
    assert look(tmp_path, inside(100), collector=collector) == said("app", "app", handles=False)


def test_a_kept_descriptor_is_of_one_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ESRCH of a process that was reaped: it is gone, and the table works on."""
    tree(tmp_path, {**cgroup(docker(A)), **proc(HOST, inside(100))})
    table, collector = ProcessTable(f"{tmp_path}/proc", 100), Init()
    first = collect(collector, node(tmp_path, process_table=table))
    seen = node(tmp_path, process_table=table)
    _ = seen.processes

    def fail(_fd: int, _size: int, _offset: int) -> bytes:
        raise OSError(errno.ESRCH, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        assert collect(collector, seen) == {}
    assert collect(collector, node(tmp_path, process_table=table)) == first
    table.close()


def test_a_failing_read_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO is none of the four outcomes."""
    tree(tmp_path, {**cgroup(docker(A)), **proc(HOST, inside(100))})
    seen = node(tmp_path)
    _ = seen.processes
    monkeypatch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "")))

    with pytest.raises(ReadError):
        collect(Init(), seen)
