"""Isolation on the page: what is known of each container, looked at once and again, and what is not known left empty."""

from pathlib import Path
from typing import Any

import pytest

from collectors import isolation as module
from collectors.base import Container, Node
from collectors.isolation import LOOK_SECONDS, MOST_LOOKS, Isolation
from collectors.kernel import confinement as reader
from collectors.kernel.confinement import Confinement
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.mount_table import Mount, mounts
from collectors.kernel.namespaces import UserMap
from tests.tree import HOST_NAMESPACE, LABELS, A, B, Content, Link, cgroup, collect, docker, forbid, node, proc, process, tree

INFO, EXTRA = "coroner_container_isolation_info", "coroner_container_extra_capabilities"
SOCKET = "coroner_container_runtime_socket_mounted"
KINDS = ("cgroup", "ipc", "mnt", "net", "uts")
CAPABILITIES = 0xA80425FB
ROOT = "741 612 0:52 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c\n"
HOST_MOUNTS = "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n26 25 0:22 / /run rw - tmpfs tmpfs rw\n"


def restricted(
    pid: int,
    *,
    number: int = 1,
    capabilities: int = CAPABILITIES,
    seccomp: int = 2,
    users: str = "         0          0 4294967295\n",
    mount_lines: str = ROOT,
    host: tuple[str, ...] = (),
    **others: Any,
) -> dict[str, Content]:
    """Make a process with all that is read of it, in namespaces of its own but for those of the host."""
    is_shared = "pid" in host
    pids = (pid,) if is_shared else (pid, number)
    files = process(pid, namespace=HOST_NAMESPACE if is_shared else 4026532000 + pid, pids=pids, **{"cgroup": docker(A)} | others)
    status = files[f"{pid}/status"]
    assert isinstance(status, bytes)
    files[f"{pid}/status"] = status + f"CapEff:\t{capabilities:016x}\nNoNewPrivs:\t0\nSeccomp:\t{seccomp}\n".encode()
    links: dict[str, Content] = {f"{pid}/ns/{kind}": Link(f"{kind}:[{1 if kind in host else pid}]") for kind in KINDS}
    return {**files, **links, f"{pid}/uid_map": users, f"{pid}/mountinfo": mount_lines}


HOST = restricted(1, host=("pid", *KINDS), cgroup="/", parent=0, mount_lines=HOST_MOUNTS)


def processes(*pids: int) -> dict[str, Content]:
    """Put processes into the container's cgroup."""
    return cgroup(docker(A), {"cgroup.procs": "".join(f"{pid}\n" for pid in pids)})


def stage(root: Path, *parts: dict[str, Content], pids: tuple[int, ...] = (100,)) -> None:
    """Make a node with one container."""
    tree(root, {**processes(*pids), **proc(HOST, *parts)})


USUAL = ("init", "host", "true", "none", "filter", "false", "false", "none")


def expected(*facts: str, extra: int | None = 0, socket: int | None = 0) -> dict[tuple[str, tuple[str, ...]], float]:
    """Spell the series of one container."""
    found: dict[tuple[str, tuple[str, ...]], float] = {(INFO, (*LABELS[A], *facts)): 1}
    found |= {} if extra is None else {(EXTRA, LABELS[A]): extra}
    return found | ({} if socket is None else {(SOCKET, LABELS[A]): socket})


def test_a_container_that_asked_for_nothing(tmp_path: Path) -> None:
    """What Docker gives it."""
    stage(tmp_path, restricted(100))

    assert collect(Isolation(), node(tmp_path)) == expected(*USUAL)


def test_a_privileged_one_with_a_socket(tmp_path: Path) -> None:
    """In the directory that is mounted; the network is the host's."""
    lines = ROOT.replace("rw,relatime", "ro") + "742 741 0:22 / /host/run rw - tmpfs tmpfs rw\n"
    stage(tmp_path, restricted(100, capabilities=0x1FFFFFFFFFF, seccomp=0, mount_lines=lines, host=("net", "uts")))

    facts = ("init", "host", "true", "net,uts", "disabled", "false", "true", "all")
    assert collect(Isolation(), node(tmp_path)) == expected(*facts, extra=27, socket=1)


def test_users_of_its_own_and_two_capabilities_more(tmp_path: Path) -> None:
    """Root is another user outside."""
    stage(tmp_path, restricted(100, users="         0     100000      65536\n", capabilities=CAPABILITIES | 1 << 12 | 1 << 19))

    facts = ("init", "own", "false", "none", "filter", "false", "false", "NET_ADMIN,SYS_PTRACE")
    assert collect(Isolation(), node(tmp_path)) == expected(*facts, extra=2)


def test_a_number_that_is_another_process_by_now_tells_nothing(tmp_path: Path) -> None:
    """The init may have ended since the scan of this pass; what is found would stand for minutes."""
    stage(tmp_path, restricted(100))
    seen = node(tmp_path)
    assert seen.processes.namespaces
    tree(tmp_path, proc(restricted(100, capabilities=0x1FFFFFFFFFF, seccomp=0, start_time=900)))

    assert collect(Isolation(), seen) == {}


def test_in_the_pid_namespace_of_the_host_the_first_process_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest that none of the others has started, once it is old enough to be none of the runtime's."""
    monkeypatch.setattr("collectors.kernel.container_init._SURE_SECONDS", -1e9)
    child = process(101, parent=100, start_time=120, cgroup=docker(A))
    later = process(102, parent=50, start_time=500, cgroup=docker(A))
    stage(tmp_path, restricted(100, host=("pid",), parent=50), child, later, pids=(102, 101, 100))

    assert collect(Isolation(), node(tmp_path)) == expected("first", "host", "true", "pid", *USUAL[4:])


def test_a_namespace_that_such_a_container_makes_inside_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its PID 1 may have given up what the container has."""
    monkeypatch.setattr("collectors.kernel.container_init._SURE_SECONDS", -1e9)
    inner = restricted(101, parent=100, start_time=120, capabilities=0, seccomp=1)
    stage(tmp_path, restricted(100, host=("pid",), parent=50), inner, pids=(101, 100))

    assert collect(Isolation(), node(tmp_path)) == expected("first", "host", "true", "pid", *USUAL[4:])


def test_what_this_kernel_does_not_tell_is_empty_or_absent(tmp_path: Path) -> None:
    """An old one, without seccomp, and an agent that may not compare namespaces."""
    stage(tmp_path, process(100, namespace=4026532100, pids=(100, 1), cgroup=docker(A)))

    assert collect(Isolation(), node(tmp_path)) == expected("init", "", "", "", "", "", "", "", extra=None, socket=None)


@pytest.mark.parametrize("junk", ["", "junk", "CapEff:\tx\nSeccomp:\tx\nNoNewPrivs:\tx\n"])
def test_what_is_not_as_documented_is_not_known_and_nobody_elses_trouble(tmp_path: Path, junk: str) -> None:
    """Each file costs what it would have told."""
    broken = restricted(100, users=junk, mount_lines=junk)
    status = process(100, pids=(100, 1))["100/status"]
    assert isinstance(status, bytes)
    stage(tmp_path, broken, {"100/status": status + f"{junk}\n".encode()})
    seen = node(tmp_path)

    [labels] = [labels for name, labels in collect(Isolation(), seen) if name == INFO]
    assert labels == (*LABELS[A], "init", "", "", "none", "", "", "", "")
    assert not seen.malformed


def test_a_container_whose_program_does_not_run_yet_is_not_looked_at(tmp_path: Path) -> None:
    """What runc is allowed is more than what it will leave to the container; it is looked at again soon, then ever more rarely."""
    collector = Isolation(iter((0, 1, 3)).__next__)
    stage(tmp_path, restricted(100, comm=b"runc:[2:INIT]", capabilities=0x1FFFFFFFFFF))
    for _ in range(2):
        assert collect(collector, node(tmp_path)) == {}

    stage(tmp_path, restricted(100))
    assert collect(collector, node(tmp_path)) == expected(*USUAL)


def test_one_that_has_ended_meanwhile_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is another process' by the end of the look."""
    stage(tmp_path, restricted(100))
    seen = node(tmp_path)

    def meanwhile(path: str, most: int) -> tuple[tuple[Mount, ...], bool]:
        tree(tmp_path, proc(process(100, start_time=999)))
        return mounts(path, most)

    monkeypatch.setattr(reader, "mounts", meanwhile)

    assert collect(Isolation(), seen) == {}


def test_nothing_is_known_where_nothing_may_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent, and no exception: the process scan says what is missing."""
    stage(tmp_path, restricted(100))
    seen = node(tmp_path)
    forbid(monkeypatch)

    assert collect(Isolation(), seen) == {}


def test_more_mounts_than_are_read_hide_a_socket_and_do_not_deny_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that may mount makes as many as it likes."""
    monkeypatch.setattr(reader, "_MOST_MOUNTS_BYTES", len(ROOT) + 10)
    stage(tmp_path, restricted(100, mount_lines=ROOT + "742 741 0:22 / /host/run rw - tmpfs tmpfs rw\n"))

    assert collect(Isolation(), node(tmp_path)) == expected(*USUAL, socket=None)


class Looks:
    """Stands for the reader; counts at what it looks."""

    def __init__(self, age_seconds: float = 1e6) -> None:
        self.at: list[str] = []
        self.age_seconds = age_seconds

    def __call__(self, _node: Node, container: Container, _inits: object, _namespaces: object) -> Confinement:
        self.at.append(container.id.key)
        users = UserMap(is_whole=True, root=0)
        return Confinement(1, True, self.age_seconds, users, (), 2, False, CAPABILITIES, (), True)


def look_at(monkeypatch: pytest.MonkeyPatch, looks: Looks, *times: float) -> Isolation:
    """Make a collector for so many passes, at these times."""
    monkeypatch.setattr(module, "look", looks)
    return Isolation(iter(times).__next__)


def test_a_look_is_good_for_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a new life of the container, which is another cgroup, is looked at at once."""
    looks = Looks()
    collector = look_at(monkeypatch, looks, 0, LOOK_SECONDS - 1, LOOK_SECONDS, LOOK_SECONDS + 1)
    tree(tmp_path, {**processes(100), **proc(HOST)})
    for passes, count in (1, 1), (2, 1), (3, 2):
        assert collect(collector, node(tmp_path)), passes
        assert looks.at == count * [A]

    tree(tmp_path, cgroup(docker(B)))
    collect(collector, node(tmp_path))
    assert looks.at == [A, A, B]


def test_a_young_one_is_looked_at_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It drops privileges when it starts."""
    looks = Looks(age_seconds=1)
    collector = look_at(monkeypatch, looks, 0, 14, 15)
    tree(tmp_path, {**processes(100), **proc(HOST)})
    for count in 1, 1, 2:
        collect(collector, node(tmp_path))
        assert looks.at == count * [A]


def test_a_pass_looks_at_few_again_and_at_all_that_are_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have waited longest; nothing is kept of those that are gone."""
    looks = Looks()
    keys = [ContainerKey(f"{number:064x}") for number in range(3 * MOST_LOOKS)]
    names = {key: ("", "", key[-3:]) for key in keys}
    collector = look_at(monkeypatch, looks, 0, LOOK_SECONDS, LOOK_SECONDS + 1, LOOK_SECONDS + 2, LOOK_SECONDS + 3, LOOK_SECONDS + 4)
    for key in keys:
        tree(tmp_path, cgroup(docker(key)))
    tree(tmp_path, proc(HOST))
    for count in 3, 4, 5, 6, 6:
        found = collect(collector, node(tmp_path, names=names))
        assert len(found) == 3 * len(keys)
        assert len(looks.at) == count * MOST_LOOKS
    assert sorted(looks.at) == sorted(2 * keys)

    collect(collector, node(tmp_path, names={}))
    assert not collector._known
