"""Which process is PID 1 of which container is known before the OOM killer takes it, or not known: never wrong."""

import asyncio
from pathlib import Path

import pytest

from agent import inits as module
from agent.inits import Inits
from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId
from tests.tree import HOST_NAMESPACE, A, B, Link, cgroup, docker, node, proc, process, remove_cgroup, tree

INSIDE = 4026532001
SELF = {"self/ns/pid": Link(f"pid:[{HOST_NAMESPACE}]")}
HOST = {**SELF, **process(1, parent=0)}


def identifier(path: str) -> ContainerId:
    """Return the container at a path."""
    found = container_id.parse(path)
    assert found is not None
    return found


class Host:
    """A host on which containers are born."""

    def __init__(self, root: Path) -> None:
        self.root = root
        tree(root, proc(HOST))
        self.inits = Inits(f"{root}/proc")

    def inode(self, path: str) -> int:
        """Return the inode of a cgroup."""
        return (self.root / "cgroup" / path.lstrip("/")).stat().st_ino

    def make(self, path: str) -> None:
        """Let a runtime make the cgroup of a container, still empty, and the agent hear of it."""
        tree(self.root, cgroup(path, {"cgroup.procs": ""}))
        self.inits.born(identifier(path), Cgroup(path, f"{self.root}/cgroup{path}", self.inode(path), has_children=False))

    def put(self, path: str, *pids: tuple[int, ...]) -> None:
        """Let these processes, by their NSpid, be in a cgroup."""
        for each in pids:
            tree(self.root, proc(process(each[0], namespace=INSIDE, pids=each, cgroup=path)))
        tree(self.root, {f"cgroup{path}/cgroup.procs": "".join(f"{each[0]}\n" for each in pids)})

    async def looked(self) -> None:
        """Wait until nobody looks for a newborn container's PID 1 any more."""
        async with asyncio.timeout(120):
            while self.inits._looks:
                await asyncio.sleep(0)

    def scan(self) -> None:
        """Make a pass."""
        seen = node(self.root)
        self.inits.scanned(seen, seen.processes.namespaces)

    def is_init(self, path: str, *pids: int) -> list[bool | None]:
        """Ask for processes of a container whose cgroup is there."""
        return [self.inits.is_init(identifier(path).key, self.inode(path), pid) for pid in pids]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """An empty host."""
    return Host(tmp_path)


@pytest.mark.parametrize("place", ["", "/container"])
async def test_a_container_that_no_scan_has_seen_is_known_from_its_birth(host: Host, place: str) -> None:
    """A runtime's helpers are in its cgroup first; crun puts PID 1 into one more cgroup."""
    path = docker(A)
    host.make(path)
    host.put(path, (500,), (501,))
    await asyncio.sleep(module._DELAYS[0] * 2)
    assert host.is_init(path, 500, 502) == [None, None]

    host.put(path + place, (502, 1), (503, 7))
    await host.looked()

    assert host.is_init(path, 502, 503, 501) == [True, False, False]


async def test_what_is_not_there_is_not_looked_for_for_ever(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container without a PID namespace of its own has no PID 1, and one that is gone needs none."""
    monkeypatch.setattr(module, "_DELAYS", (0.01, 0.01, 0.01))
    host.make(docker(A))
    host.put(docker(A), (500,), (501, 7))
    host.make(docker(B))
    remove_cgroup(host.root, docker(B))
    await host.looked()

    assert host.is_init(docker(A), 500, 501) == [None, None]


async def test_newborn_containers_that_are_too_many_or_made_by_a_container_are_not_looked_for(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may make as many as it likes."""
    monkeypatch.setattr(module, "_MOST_LOOKS", 1)
    host.make(f"{docker(B)}/docker/{A}")
    assert host.inits._looks == 0
    host.make(docker(A))
    host.make(docker(B))
    assert host.inits._looks == 1
    remove_cgroup(host.root, docker(A))
    await host.looked()


def test_a_scan_tells_of_the_containers_that_it_has_seen(host: Host) -> None:
    """Of those that a container made in itself too; a process outside of containers is nobody's PID 1."""
    inner = f"{docker(B)}/docker/{A}"
    tree(host.root, {**cgroup(docker(A), {}), **cgroup(docker(B), {}), **cgroup(inner, {})})
    tree(host.root, proc(process(100, namespace=INSIDE, pids=(100, 1), cgroup=f"{docker(A)}/init.scope")))
    tree(host.root, proc(process(200, namespace=INSIDE + 1, pids=(200, 1), cgroup=docker(B))))
    tree(host.root, proc(process(300, namespace=INSIDE + 2, pids=(300, 9, 1), cgroup=inner)))
    tree(host.root, proc(process(400, namespace=INSIDE + 3, pids=(400, 1), cgroup="/user.slice")))
    host.scan()
    host.scan()

    assert host.is_init(docker(A), 100, 200, 101) == [True, False, False]
    assert host.is_init(docker(B), 200, 300) == [True, False]
    assert host.is_init(inner, 300, 100) == [True, False]


def test_of_two_pid_namespaces_in_a_container_the_outer_one_is_its_own(host: Host) -> None:
    """Which of two that are equally deep is the container's cannot be told."""
    tree(host.root, {**cgroup(docker(A), {}), **cgroup(docker(B), {})})
    tree(host.root, proc(process(101, namespace=INSIDE + 1, pids=(101, 5, 1), cgroup=docker(A))))
    tree(host.root, proc(process(100, namespace=INSIDE, pids=(100, 1), cgroup=docker(A))))
    for pid in (200, 201):
        tree(host.root, proc(process(pid, namespace=INSIDE + pid, pids=(pid, 4, 1), cgroup=docker(B))))
    host.scan()

    assert host.is_init(docker(A), 100, 101) == [True, False]
    assert host.is_init(docker(B), 200, 201) == [None, None]


def test_another_life_of_a_container_is_not_known_from_the_one_before(host: Host) -> None:
    """Docker starts a container again under the same id, with a cgroup of its own."""
    tree(host.root, cgroup(docker(A), {}))
    tree(host.root, proc(process(100, namespace=INSIDE, pids=(100, 1), cgroup=docker(A))))
    host.scan()
    old = host.inode(docker(A))

    assert host.inits.is_init(A, old + 1, 100) is None
    assert host.inits.is_init(A, old + 1, 101) is None
    assert host.inits.is_init(A, None, 100) is True, "the cgroup is gone, the process was PID 1 under this id"
    assert host.inits.is_init(A, None, 101) is None, "it may be the PID 1 of a life that nobody saw"
    assert host.inits.is_init(B, None, 100) is None

    (host.root / "cgroup" / "docker" / A).rename(host.root / "old")  # its number is not used again, as in the kernel
    tree(host.root, cgroup(docker(A), {}))
    tree(host.root, proc(process(150, namespace=INSIDE, pids=(150, 1), cgroup=docker(A))))
    (host.root / "proc" / "100" / "cgroup").write_text("0::/elsewhere\n")
    host.scan()
    assert host.is_init(docker(A), 150, 100) == [True, False]


@pytest.mark.parametrize("own", [None, f"pid:[{INSIDE}]", "garbage"], ids=["none", "another namespace", "garbage"])
async def test_where_the_kernel_logs_other_pids_than_proc_has_nothing_is_known(tmp_path: Path, own: str | None) -> None:
    """In the node of a kind cluster, which is a container, PIDs are not those of the log."""
    host = Host(tmp_path)
    (tmp_path / "proc/self/ns/pid").unlink()
    if own is not None:
        tree(tmp_path, proc({"self/ns/pid": Link(own)}))
    host.inits = Inits(f"{tmp_path}/proc")
    host.make(docker(A))
    host.put(docker(A), (100, 1))
    host.scan()

    assert host.inits._looks == 0
    assert host.is_init(docker(A), 100, 101) == [None, None]


def test_one_that_lives_is_remembered_however_many_come_and_go(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells of it again: a scan tells of those that are new."""
    monkeypatch.setattr(module, "MOST", 2)
    tree(host.root, cgroup(docker(A), {}))
    tree(host.root, proc(process(100, namespace=INSIDE, pids=(100, 1), cgroup=docker(A))))
    host.scan()
    for number in range(10):
        path = docker(f"{number:064x}")
        tree(host.root, cgroup(path, {}))
        tree(host.root, proc(process(200, namespace=INSIDE + 1 + number, pids=(200, 1), cgroup=path)))
        host.scan()
        remove_cgroup(host.root, path)

    assert host.is_init(docker(A), 100) == [True]
    assert len(host.inits._known) == 2


def test_the_latest_are_remembered(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may have ended long ago."""
    monkeypatch.setattr(module, "MOST", 1)
    for key, pid in ((A, 100), (B, 200)):
        tree(host.root, cgroup(docker(key), {}))
        tree(host.root, proc(process(pid, namespace=INSIDE + pid, pids=(pid, 1), cgroup=docker(key))))
        host.scan()

    assert host.is_init(docker(A), 100) == [None]
    assert host.is_init(docker(B), 200) == [True]
