"""Processes, zombies and PID namespaces from fake trees of /proc; names of processes are hostile."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.kernel import procfs
from collectors.kernel.files import Forbidden, Gone, Malformed, ReadError, Unsupported
from collectors.kernel.processes import Namespace, Processes, RuntimeProcess, Zombie
from collectors.kernel.procfs import UNKNOWN, ProcessTable
from tests.tree import HOST_NAMESPACE, Link, descriptors_left, open_descriptors, process, stat, tree

HOST = str(HOST_NAMESPACE)
INSIDE = 4026532001
"""The PID namespace of a container."""


@pytest.fixture(params=[1000, 2, 0], ids=["descriptors", "few descriptors", "no descriptors"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessTable]:
    """A process table; it must give the same results with and without kept descriptors, and leave none open."""
    before = open_descriptors()
    table = ProcessTable(str(tmp_path), request.param)
    yield table
    assert len(table) <= request.param
    table.close()
    assert len(table) == 0
    assert open_descriptors() == before


def zombies(found: Processes) -> dict[int, Zombie]:
    """Return the zombies by PID."""
    return {zombie.pid: zombie for zombie in found.zombies}


def test_scan_of_a_host_with_a_container(tmp_path: Path, table: ProcessTable) -> None:
    """A namespace's init is whoever is PID 1 in it; the host's is not looked for, it has no container."""
    tree(tmp_path, {"meminfo": "", "self/": "", "sys/kernel/": ""})
    tree(tmp_path, process(1, parent=0, cgroup="/init.scope"))
    tree(tmp_path, process(2, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/docker/1"))
    tree(tmp_path, process(101, namespace=INSIDE, pids=(101, 7), parent=100, cgroup="/docker/1/nested"))

    namespaces = {HOST: Namespace(2, 0, None), str(INSIDE): Namespace(2, 0, "/docker/1", (100, 1), init_has_children=True)}
    assert table.scan() == Processes((), namespaces, 0)


def test_scan_finds_the_processes_of_runtimes_with_their_children(tmp_path: Path, table: ProcessTable) -> None:
    """By name, in the PID namespace of /proc alone; children are in any, and zombies too."""
    tree(tmp_path, process(1, comm=b"systemd", parent=0))
    tree(tmp_path, process(10, comm=b"dockerd") | process(11, comm=b"containerd", parent=10, start_time=7))
    tree(tmp_path, process(20, comm=b"containerd-shim") | process(21, parent=20, namespace=INSIDE, pids=(21, 1)))
    tree(tmp_path, process(22, parent=20, state=b"Z") | process(23, parent=22) | process(30, comm=b"containerd-shi"))
    tree(tmp_path, process(24, comm=b"conmon", parent=21, namespace=INSIDE, pids=(24, 2)))

    found = {each.pid: each for each in table.scan().runtimes}

    assert found == {
        10: RuntimeProcess(10, 100, b"dockerd", (11,)),
        11: RuntimeProcess(11, 7, b"containerd", ()),
        20: RuntimeProcess(20, 100, b"containerd-shim", found[20].children),
    }
    assert sorted(found[20].children) == [21, 22]


def test_the_cgroup_that_a_process_is_in_now(tmp_path: Path, table: ProcessTable) -> None:
    """As the hierarchy has it, whatever the agent's own cgroup namespace; one that has ended is in none."""
    tree(tmp_path, process(10, cgroup="/../other") | process(11, cgroup=None))
    table.cgroup_namespace = "/docker/1"

    assert [table.cgroup_of(pid) for pid in (10, 11, 12)] == ["/docker/other", None, None]


def test_whose_fault_a_zombie_is(tmp_path: Path, table: ProcessTable) -> None:
    """PID 1 of its own namespace, or any other parent; a child of the host's PID 1 is in no container, and one without parent nobody's."""
    inside: dict[str, Any] = {"namespace": INSIDE, "cgroup": "/docker/1"}
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(50, parent=1))
    tree(tmp_path, process(100, pids=(100, 1), parent=50, **inside))
    tree(tmp_path, process(101, pids=(101, 2), parent=100, **inside))
    for pid, parent in ((102, 100), (103, 101), (104, 50), (105, 0)):
        tree(tmp_path, process(pid, pids=(pid, pid - 99), parent=parent, state=b"Z", start_time=1000 + pid, **inside))
    tree(tmp_path, process(60, parent=1, state=b"Z"))
    tree(tmp_path, process(61, parent=50, state=b"Z"))
    tree(tmp_path, process(62, parent=4321, state=b"Z"))

    found = table.scan()

    assert {pid: zombie.parent_is_init for pid, zombie in zombies(found).items()} == {
        102: True,  # its own child, or an orphan that it adopted
        103: False,
        104: False,  # of a process that joined from outside, such as `docker exec`
        105: False,
        60: True,
        61: False,
        62: False,  # the parent has ended since the scan began
    }
    assert zombies(found)[103] == Zombie(103, 1103, str(INSIDE), "/docker/1", parent_is_init=False, comm=b"app", parent=101)
    assert found.namespaces == {HOST: Namespace(5, 3, None), str(INSIDE): Namespace(6, 4, "/docker/1", (100, 1), init_has_children=True)}


def test_the_init_of_the_outer_namespace_is_not_the_one_to_blame(tmp_path: Path, table: ProcessTable) -> None:
    """An init that has died is its parent's zombie: the shim's, or PID 1's of the namespace around it."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), parent=1, state=b"Z"))
    tree(tmp_path, process(200, namespace=INSIDE + 1, pids=(200, 1), parent=1))
    tree(tmp_path, process(201, namespace=INSIDE + 2, pids=(201, 5, 1), parent=200, state=b"Z"))

    assert {pid: zombie.parent_is_init for pid, zombie in zombies(table.scan()).items()} == {100: False, 201: False}


def test_a_dead_leader_with_live_threads_is_no_zombie(tmp_path: Path, table: ProcessTable) -> None:
    """Nobody can wait for it yet."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, state=b"Z", threads=3))
    tree(tmp_path, process(101, state=b"X"))

    assert table.scan() == Processes((), {HOST: Namespace(3, 0, None)}, 0)


def test_a_namespace_without_a_container(tmp_path: Path, table: ProcessTable) -> None:
    """Browsers and build tools make some; its init may even be gone from sight."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/user.slice/session-1.scope"))
    tree(tmp_path, process(200, namespace=INSIDE + 1, pids=(200, 9), state=b"Z", parent=4321, cgroup=None))

    found = table.scan()

    assert found.namespaces == {
        HOST: Namespace(1, 0, None),
        str(INSIDE): Namespace(1, 0, "/user.slice/session-1.scope", (100, 1)),
        str(INSIDE + 1): Namespace(1, 1, None),
    }
    assert found.zombies == (Zombie(200, 100, str(INSIDE + 1), None, parent_is_init=False, comm=b"app", parent=4321),)


def test_a_zombie_in_a_removed_cgroup_keeps_its_path(tmp_path: Path, table: ProcessTable) -> None:
    """The container is still known by it."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, state=b"Z", cgroup="/docker/1 (deleted)"))

    assert table.scan().zombies[0].cgroup == "/docker/1"


def test_the_cgroup_of_a_process_that_is_moved_before_it_dies(tmp_path: Path, table: ProcessTable) -> None:
    """A runtime makes the init first and moves it then; only the dead stay where they are."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/system.slice"))
    assert table.scan().namespaces[str(INSIDE)].init_cgroup == "/system.slice"

    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/docker/1"))
    assert table.scan().namespaces[str(INSIDE)].init_cgroup == "/docker/1"

    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/docker/2", state=b"Z"))
    assert table.scan().zombies[0].cgroup == "/docker/2"


def test_scanning_again_sees_what_changed(tmp_path: Path, table: ProcessTable) -> None:
    """And twice the same when nothing did."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/docker/1"))
    tree(tmp_path, process(101, namespace=INSIDE, pids=(101, 2), parent=100, cgroup="/docker/1"))
    first = table.scan()
    assert table.scan() == first

    tree(tmp_path, {"101/stat": stat(101, state=b"Z", parent=100)})
    died = table.scan()
    assert died == Processes(
        (Zombie(101, 100, str(INSIDE), "/docker/1", parent_is_init=True, comm=b"app", parent=100),),
        {HOST: Namespace(1, 0, None), str(INSIDE): Namespace(2, 1, "/docker/1", (100, 1))},
        0,
    )
    assert table.scan() == died

    remove(tmp_path, 101)
    assert table.scan() == Processes((), {HOST: Namespace(1, 0, None), str(INSIDE): Namespace(1, 0, "/docker/1", (100, 1))}, 0)


@pytest.mark.parametrize(("pids", "found"), [((7,), "4026530000"), ((70, 7), HOST)])
def test_an_agent_without_privilege_knows_the_namespace_of_its_own_proc(
    tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch, pids: tuple[int, ...], found: str
) -> None:
    """Its own link it may always read; with a second PID it is in a namespace inside of that of /proc."""
    tree(tmp_path, process(1, parent=0, namespace=4026530000))
    tree(tmp_path, process(7, namespace=4026530000, pids=pids))
    tree(tmp_path, {"self": Link("7")})
    forbid_links(monkeypatch, 1, 7)

    assert set(table.scan().namespaces) == ({found} if len(pids) == 1 else {found, UNKNOWN})


def remove(root: Path, pid: int) -> None:
    """Take a process out of a tree of /proc."""
    for name in ("stat", "status", "cgroup", "ns/pid"):
        (root / str(pid) / name).unlink()
    (root / str(pid) / "ns").rmdir()
    (root / str(pid)).rmdir()


def test_a_process_is_read_from_one_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second scan opens nothing but what may change: whether others are hidden, and the cgroup of each namespace's init."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/docker/1"))
    tree(tmp_path, process(101, namespace=INSIDE, pids=(101, 2), parent=100, cgroup="/docker/1", state=b"Z"))
    table = ProcessTable(str(tmp_path), 1000)
    first = table.scan()
    assert len(table) == 3
    opened = []
    open_ = os.open

    def counted(path: str, flags: int) -> int:
        opened.append(path)
        return open_(path, flags)

    monkeypatch.setattr(os, "open", counted)

    assert table.scan() == first
    assert opened == [f"{tmp_path}/self/status", f"{tmp_path}/self/mountinfo", f"{tmp_path}/100/cgroup"]
    table.close()


def test_what_never_changes_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without kept descriptors: a PID with the same start time is the same process."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/docker/1"))
    tree(tmp_path, process(101, namespace=INSIDE, pids=(101, 2), parent=100, cgroup="/docker/1", state=b"Z"))
    table = ProcessTable(str(tmp_path), 0)
    first = table.scan()
    fail_on(monkeypatch, "readlink", lambda _: True, errno.EIO)
    fail_on(monkeypatch, "open", lambda path: path.endswith(("/1/status", "/100/status", "/101/status", "/101/cgroup")), errno.EIO)

    assert table.scan() == first


@pytest.mark.parametrize(
    ("own", "path", "absolute"),
    [
        ("/", "/docker/1", "/docker/1"),
        ("/kubepods/pod1/agent", "/", "/kubepods/pod1/agent"),
        ("/kubepods/pod1/agent", "/../other", "/kubepods/pod1/other"),
        ("/kubepods/pod1/agent", "/../../pod2/app", "/kubepods/pod2/app"),
        ("/kubepods/pod1/agent", "/../../../init.scope", "/init.scope"),
        ("/kubepods/pod1/agent", "/nested", "/kubepods/pod1/agent/nested"),
    ],
)
def test_paths_in_a_cgroup_namespace(tmp_path: Path, table: ProcessTable, own: str, path: str, absolute: str) -> None:
    """They are relative to its root; what is outside begins with `..`."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup=path))
    tree(tmp_path, process(101, namespace=INSIDE, pids=(101, 2), parent=100, cgroup=f"{path} (deleted)", state=b"Z"))
    assert table.scan().zombies[0].cgroup == path, "the walk of the cgroup tree, which tells where that root is, has failed so far"

    table.cgroup_namespace = own
    found = table.scan()

    assert found.namespaces[str(INSIDE)].init_cgroup == absolute
    assert found.zombies[0].cgroup == absolute


def forbid_links(monkeypatch: pytest.MonkeyPatch, *pids: int) -> None:
    """Make the namespace links of these processes unreadable, as without CAP_SYS_PTRACE."""
    readlink = os.readlink

    def read(path: str) -> str:
        if path.split("/")[-3] in map(str, pids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return readlink(path)

    monkeypatch.setattr(os, "readlink", read)


def test_a_forbidden_link_is_unknown_unless_nspid_tells(tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with one PID is in the namespace of this /proc; where another one is cannot be said, but it is counted."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(50, parent=1))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/docker/1"))
    tree(tmp_path, process(101, namespace=INSIDE, pids=(101, 2), parent=100, cgroup="/docker/1", state=b"Z"))
    forbid_links(monkeypatch, 50, 100, 101)

    found = table.scan()

    assert found.namespaces == {HOST: Namespace(2, 0, None), UNKNOWN: Namespace(2, 1, None)}
    assert found.unreadable == 2
    (zombie,) = found.zombies
    assert zombie.parent_is_init, "NSpid says whose fault it is"
    assert (zombie.namespace, zombie.cgroup) == (UNKNOWN, "/docker/1")


@pytest.mark.parametrize(("forbidden", "host"), [((), "4026530000"), ((1,), "4026530000"), ((2,), "4026530000"), ((1, 2), HOST)])
def test_the_namespace_of_proc_itself(
    tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch, forbidden: tuple[int, ...], host: str
) -> None:
    """PID 1 and kthreadd are in it by definition; if neither tells, it has the number that the kernel gives to the first one."""
    tree(tmp_path, process(1, parent=0, namespace=4026530000))
    tree(tmp_path, process(2, parent=0, namespace=4026530000))
    forbid_links(monkeypatch, *forbidden)

    assert table.scan().namespaces == {host: Namespace(2, 0, None)}


def test_a_process_that_ends_between_the_listing_and_its_reading(
    tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not there."""
    tree(tmp_path, process(1, parent=0))
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [*listdir(path), "4711"])

    assert table.scan() == Processes((), {HOST: Namespace(1, 0, None)}, 0)


def test_a_known_process_that_ends_between_the_listing_and_its_reading(
    tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known of it is forgotten, and what is known of the others is not."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, state=b"Z"))
    table.scan()
    kept = len(table)
    remove(tmp_path, 100)
    listdir = os.listdir
    reap(monkeypatch, "100/stat")
    monkeypatch.setattr(os, "listdir", lambda path: [*listdir(path), "100"])

    assert table.scan() == Processes((), {HOST: Namespace(1, 0, None)}, 0)
    assert len(table) == min(1, kept)


@pytest.mark.parametrize("call", ["open", "readlink"])
@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESRCH])
def test_a_process_that_ends_halfway(tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    """One file was read already, or none: it is not there either."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100))
    real = getattr(os, call)

    def end(path: str, *more: Any) -> Any:
        if "/100/" not in path:
            return real(path, *more)
        if os.path.lexists(path):
            remove(tmp_path, 100)
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, call, end)

    assert table.scan() == Processes((), {HOST: Namespace(1, 0, None)}, 0)


def test_a_kernel_without_pid_namespaces(tmp_path: Path, table: ProcessTable) -> None:
    """CONFIG_PID_NS is not set: there is no ns/pid and no NSpid, and all processes are in the one namespace that there is."""
    for pid, parent, state in ((1, 0, b"S"), (50, 1, b"S"), (100, 1, b"Z"), (101, 50, b"Z")):
        tree(tmp_path, process(pid, parent=parent, state=state, cgroup="/docker/1"))
        (tmp_path / str(pid) / "ns" / "pid").unlink()
        tree(tmp_path, {f"{pid}/status": f"Name:\tapp\nState:\t{state.decode()}\nTgid:\t{pid}\nThreads:\t1\n"})
        if pid == 50:
            (tmp_path / "50" / "ns").rmdir()  # nor does every /proc that is not Linux' own have the directory

    found = table.scan()

    assert found.namespaces == {HOST: Namespace(4, 2, None)}
    assert found.unreadable == 0
    assert {pid: zombie.parent_is_init for pid, zombie in zombies(found).items()} == {100: True, 101: False}
    assert table.scan() == found


@pytest.mark.parametrize("name", ["stat", "status"])
def test_a_file_that_is_missing_while_its_process_is_there_fails_the_scan(tmp_path: Path, table: ProcessTable, name: str) -> None:
    """The process has not ended: to leave it out would be a wrong count, and it is said which file is not there."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), state=b"Z"))
    (tmp_path / "100" / name).unlink()

    with pytest.raises(Unsupported, match=f"/100/{name}: No such file"):
        table.scan()


def test_a_zombie_without_the_file_of_its_cgroup_counts_in_its_namespace(tmp_path: Path, table: ProcessTable) -> None:
    """A kernel without cgroups (CONFIG_CGROUPS) does not have the file."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), state=b"Z", cgroup=None))

    found = table.scan()

    assert found.namespaces == {HOST: Namespace(1, 0, None), str(INSIDE): Namespace(1, 1, None, (100, 1))}
    assert zombies(found)[100].cgroup is None


def test_a_zombie_that_is_reaped_during_the_scan(tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was there when its state was read; what was not read of it in time stays unknown."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, state=b"Z", cgroup="/docker/1"))
    fail_on(monkeypatch, "open", lambda path: path.endswith(("/100/cgroup", "/100/status")), errno.ESRCH)

    assert table.scan().zombies == (Zombie(100, 100, HOST, None, parent_is_init=False, comm=b"app", parent=1),)


def fail_on(monkeypatch: pytest.MonkeyPatch, call: str, matches: Callable[[Any], bool], code: int) -> None:
    """Make a system call fail whose first argument matches."""
    real = getattr(os, call)

    def fail(first: Any, *more: Any) -> Any:
        if matches(first):
            raise OSError(code, os.strerror(code), first)
        return real(first, *more)

    monkeypatch.setattr(os, call, fail)


def test_a_process_that_ends_between_two_scans(tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept descriptor of a reaped process gives ESRCH, and its directory is gone."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100))
    tree(tmp_path, process(101))
    table.scan()
    reap(monkeypatch)
    remove(tmp_path, 100)

    assert table.scan() == Processes((), {HOST: Namespace(2, 0, None)}, 0)


def reap(monkeypatch: pytest.MonkeyPatch, name: str = "stat") -> None:
    """Let all descriptors of this file that are open now fail as those of reaped processes do."""
    dead = {int(fd) for fd in os.listdir("/proc/self/fd") if f"/{name}" in os.path.realpath(f"/proc/self/fd/{fd}")}
    open_ = os.open

    def opened(path: str, flags: int) -> int:
        fd = open_(path, flags)
        dead.discard(fd)
        return fd

    monkeypatch.setattr(os, "open", opened)
    fail_on(monkeypatch, "pread", lambda fd: fd in dead, errno.ESRCH)


def test_a_pid_that_is_used_again(tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the process that had it before is left: not its namespace, its cgroup or its PIDs."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/docker/1", state=b"Z", start_time=500))
    table.scan()
    reap(monkeypatch)
    tree(tmp_path, process(100, namespace=INSIDE + 1, pids=(100, 7), cgroup="/docker/2", state=b"Z", start_time=900))

    found = table.scan()

    assert found.zombies == (Zombie(100, 900, str(INSIDE + 1), "/docker/2", parent_is_init=False, comm=b"app", parent=1),)
    assert found.namespaces == {HOST: Namespace(1, 0, None), str(INSIDE + 1): Namespace(1, 1, None)}


# What may not be counted as nothing


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EIO])
@pytest.mark.parametrize("name", ["stat", "cgroup", "status"])
def test_a_process_that_cannot_be_read_fails_the_scan(
    tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """With hidepid=1 every process of others is listed and none can be read: a node without zombies would be a lie."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), state=b"Z"))
    fail_on(monkeypatch, "open", lambda path: path.endswith(f"/100/{name}"), code)

    with pytest.raises(ReadError, match=f"/100/{name}: ") as raised:
        table.scan()
    assert type(raised.value) is (ReadError if code == errno.EIO else Forbidden)

    monkeypatch.undo()
    assert table.scan().namespaces[str(INSIDE)] == Namespace(1, 1, "/", (100, 1))


def test_a_process_of_which_neither_the_link_nor_nspid_can_be_read_fails_the_scan(
    tmp_path: Path, table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not in an unknown namespace: nobody looked."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100))
    forbid_links(monkeypatch, 100)
    fail_on(monkeypatch, "open", lambda path: path.endswith("/100/status"), errno.EIO)

    with pytest.raises(ReadError, match="/100/status: "):
        table.scan()


@pytest.mark.parametrize("name", ["stat", "cgroup", "status"])
def test_a_malformed_process_fails_the_scan(tmp_path: Path, table: ProcessTable, name: str) -> None:
    """The path is named."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, {**process(100, namespace=INSIDE, pids=(100, 1), state=b"Z"), f"100/{name}": "100 (a) S\nNSpid:\tone"})

    with pytest.raises(Malformed, match=f"/100/{name}: "):
        table.scan()


def test_without_proc(tmp_path: Path) -> None:
    """It is gone, not empty."""
    with pytest.raises(Gone):
        ProcessTable(f"{tmp_path}/removed/proc", 10).scan()


# Without descriptors


@pytest.mark.parametrize("left", range(2, 12))
def test_without_descriptors_the_counts_stay_right(tmp_path: Path, left: int) -> None:
    """Wherever in a scan the last one goes: all are given back, and none is kept from then on."""
    tree(tmp_path, process(1, parent=0))
    tree(tmp_path, process(100, namespace=INSIDE, pids=(100, 1), cgroup="/docker/1"))
    for pid in (101, 102, 103, 104):
        tree(tmp_path, process(pid, namespace=INSIDE, pids=(pid, pid - 98), parent=100, cgroup="/docker/1", state=b"Z"))
    truth = ProcessTable(str(tmp_path), 0).scan()
    table = ProcessTable(str(tmp_path), 1000)

    with descriptors_left(left):
        found = [table.scan(), table.scan()]

    assert [by_pid(one) for one in found] == [by_pid(truth)] * 2
    table.close()


def by_pid(found: Processes) -> Processes:
    """Put the zombies in order: the kernel lists processes by PID, but a fake /proc does not."""
    return Processes(tuple(sorted(found.zombies, key=lambda zombie: zombie.pid)), found.namespaces, found.unreadable)


@pytest.mark.parametrize("listed", [False, True])
def test_when_descriptors_run_out_between_two_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
    """What the last scan kept is given back, for the listing itself and for a new process that is listed before all others."""
    tree(tmp_path, process(1, parent=0))
    for pid in range(100, 106):
        tree(tmp_path, process(pid, namespace=INSIDE, pids=(pid, pid - 99), parent=100, cgroup="/docker/1", state=b"Z"))
    table = ProcessTable(str(tmp_path), 1000)
    table.scan()
    names = ["20", *os.listdir(tmp_path)]
    tree(tmp_path, process(20, parent=1))

    with descriptors_left(0):
        if listed:
            monkeypatch.setattr(os, "listdir", lambda _: names)
            monkeypatch.setattr(procfs, "require_sight", lambda _: None)
        found = table.scan()

    assert found.namespaces == {HOST: Namespace(2, 0, None), str(INSIDE): Namespace(6, 6, "/docker/1", (100, 1))}
    assert len(table) == 0


def test_without_any_descriptor_a_scan_fails(tmp_path: Path) -> None:
    """Nothing can be given back, so nothing is known."""
    tree(tmp_path, process(1, parent=0))

    with descriptors_left(0), pytest.raises(ReadError):
        ProcessTable(str(tmp_path), 1000).scan()


def test_a_link_in_proc_is_not_followed(tmp_path: Path) -> None:
    """A planted file is no process's stat."""
    tree(tmp_path, {"real": stat(100), **process(1, parent=0), "100/stat": Link("../real")})

    with pytest.raises(ReadError, match="/100/stat: "):
        ProcessTable(str(tmp_path), 10).scan()


def test_a_status_is_never_that_of_a_process_which_got_the_number_since_the_scan(tmp_path: Path) -> None:
    """What is opened is believed only while the process that the scan saw is there."""
    tree(tmp_path, {**process(1, parent=0), **process(100)})
    table = ProcessTable(str(tmp_path), 10)
    table.scan()
    assert table.status(100).startswith(b"Name:\tapp\n")

    table.scan()
    os.close(table._processes["100"].status_fd)
    table._processes["100"].status_fd = -1
    ended = subprocess.Popen(["/bin/true"])
    descriptor = os.open(f"/proc/{ended.pid}/stat", os.O_RDONLY)
    ended.wait()
    os.dup2(descriptor, table._processes["100"].fd)
    os.close(descriptor)

    with pytest.raises(Gone):
        table.status(100)
