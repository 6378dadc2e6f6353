"""How inits end, told by the kernel: of real processes, in cgroups of which only the lists of processes are made up."""

import asyncio
import errno
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.sources import exits
from agent.sources.exits import ExitsSource
from agent.supervise import Blind
from collectors.inquest.facts import Born, Exited, Fact, Started
from collectors.kernel import container_id, container_init, pidfd
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.container_init import Init
from collectors.kernel.files import read_once
from collectors.kernel.process_stat import parse_stat
from collectors.kernel.process_status import namespace_pids
from tests.agent.desk import Desk
from tests.kernel.test_pidfd import end, require_exit_status
from tests.tree import A, B, cgroup, descriptors_left, docker, node, open_descriptors, tree

WALL = 1_800_000_000.0
Process = subprocess.Popen[bytes]


class Host:
    """A host on which containers are born, and a source that is told of it."""

    def __init__(self, root: Path, **options: int) -> None:
        self.root = root
        self.desk = Desk()
        self.source = ExitsSource(proc_root="/proc", tell=self.desk.tell, wall=lambda: WALL, **options)
        self.processes: list[Process] = []

    def run(self, path: str, script: str) -> Process:
        """Start a shell that runs a script when it is let (`end`), as the only process of a container."""
        process = subprocess.Popen(["/bin/sh", "-c", f"read -r line; {script}"], stdin=subprocess.PIPE)
        self.processes.append(process)
        tree(self.root, cgroup(path, {"cgroup.procs": f"{process.pid}\n"}))
        return process

    def born(self, path: str) -> None:
        """Let the source hear that the container's cgroup was made."""
        identifier = container_id.parse(path)
        assert identifier is not None
        place = Cgroup(path, f"{self.root}/cgroup{path}", self.inode(path), has_children=False)
        self.source.born(Born(container=identifier.key, source="cgroup", time=WALL, inode=place.inode, id=identifier, cgroup=place))

    def inode(self, path: str) -> int:
        """Return the inode of a container's cgroup."""
        return (self.root / "cgroup" / path.lstrip("/")).stat().st_ino

    def census(self) -> None:
        """Let the source see who is there."""
        self.source.compare(node(self.root))

    def told(self, kind: type[Fact]) -> list[Fact]:
        """Return what it told of one kind."""
        return [fact for fact in self.desk.facts if type(fact) is kind]

    def missed(self) -> dict[str, float]:
        """Return the counters that are not 0."""
        return {labels[0]: value for _, labels, value in self.source.samples() if value}

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[None]:
        """Follow until the block is left; it is entered once the source is up."""
        task = asyncio.create_task(self.source.follow())
        await self.source.status.looked(20)
        assert self.source.status.is_up, self.source.status.reason
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @staticmethod
    async def until(condition: Callable[[], object]) -> None:
        """Wait for a condition, with a deadline."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
def all_are_inits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every process be PID 1 of a namespace of its own: to make some really takes a privilege."""
    monkeypatch.setattr(container_init, "namespace_pids", lambda raw: (*namespace_pids(raw), 1))


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Make a host; its processes are ended after the test."""
    made: list[Host] = []

    def make(**options: int) -> Host:
        made.append(Host(tmp_path, **options))
        return made[-1]

    yield make
    for process in (process for host in made for process in host.processes):
        process.kill()
        process.communicate()


@pytest.fixture
def host(hosts: Callable[..., Host], all_are_inits: None) -> Host:
    """A host whose containers have PID namespaces of their own."""
    return hosts()


ENDS = [("exit 0", 0), ("exit 3", 3 << 8), ("exit 137", 137 << 8), ("kill -9 $$", signal.SIGKILL)]


@pytest.mark.parametrize(("script", "status"), ENDS)
async def test_the_status_is_told_of_what_was_waited_for_at_once(host: Host, script: str, status: int) -> None:
    """The agent looks only then. 137 is not SIGKILL."""
    require_exit_status()
    async with host.follow():
        process = host.run(docker(A), script)
        host.born(docker(A))
        [started] = host.told(Started)
        end(process)
        process.wait()
        await host.until(lambda: host.told(Exited))

    inode = host.inode(docker(A))
    assert host.told(Exited) == [Exited(container=ContainerKey(A), source="exits", time=WALL, inode=inode, how="reaped", status=status)]
    assert isinstance(started, Started)
    assert (started.container, started.inode, started.pid, started.comm) == (A, inode, process.pid, "sh")
    assert WALL - 60 < started.time <= WALL
    assert host.missed() == {}


@pytest.mark.parametrize(("script", "status"), ENDS[1:])
async def test_the_zombie_tells_it_too(host: Host, script: str, status: int) -> None:
    """Nobody has waited for it."""
    async with host.follow():
        process = host.run(docker(A), script)
        host.born(docker(A))
        end(process)
        await host.until(lambda: host.told(Exited))

    [exited] = host.told(Exited)
    assert isinstance(exited, Exited)
    assert (exited.how, exited.status) == ("zombie", status)


async def test_the_zombies_zero_is_not_believed_without_permission(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for what the kernel says when somebody has waited for it."""
    require_exit_status()
    monkeypatch.setattr("agent.sources.exit_watch.may_ptrace", lambda _root: False)
    async with host.follow():
        process = host.run(docker(A), "exit 0")
        host.born(docker(A))
        end(process)
        [watched] = host.source._watch._watched.values()
        await host.until(lambda: watched.time)
        assert host.told(Exited) == []
        assert host.source._watch._epoll is not None
        assert host.source._watch._epoll.poll(0) == [], "it would be woken again and again"
        process.wait()
        await host.until(lambda: host.told(Exited))

    [exited] = host.told(Exited)
    assert isinstance(exited, Exited)
    assert (exited.how, exited.status) == ("reaped", 0)


async def test_who_comes_too_late_says_nothing_and_counts_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel that keeps no status."""
    monkeypatch.setattr(pidfd, "info", lambda _fd: None)
    async with host.follow():
        process = host.run(docker(A), "exit 3")
        host.born(docker(A))
        end(process)
        process.wait()
        await host.until(host.missed)

    assert host.told(Exited) == []
    assert host.missed() == {"late": 1}


async def test_an_init_that_comes_after_its_cgroup_is_waited_for(host: Host) -> None:
    """A runtime makes the cgroup first."""
    async with host.follow():
        tree(host.root, cgroup(docker(A), {"cgroup.procs": ""}))
        host.born(docker(A))
        assert host.told(Started) == []
        host.run(docker(A), "exit 3")
        await host.until(lambda: host.told(Started))


async def test_a_container_that_is_gone_before_it_had_an_init_is_counted(host: Host) -> None:
    """Nothing is told of it."""
    async with host.follow():
        tree(host.root, cgroup(docker(A), {}))
        host.born(docker(A))
        (host.root / "cgroup" / docker(A).lstrip("/")).rmdir()
        await host.until(host.missed)

    assert host.missed() == {"unfound": 1}
    assert host.desk.facts == []


async def test_a_container_that_is_empty_after_seconds_is_counted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its init came and went between two looks; one with processes may have no PID 1, and is left to the census."""
    monkeypatch.setattr(exits, "_PATIENCE_SECONDS", 0.0)
    async with host.follow():
        tree(host.root, cgroup(docker(A), {"cgroup.procs": ""}))
        host.born(docker(A))
        assert host.missed() == {"unfound": 1}
        tree(host.root, cgroup(docker(B), {"cgroup.procs": "1\n"}))
        monkeypatch.setattr(container_init, "namespace_pids", namespace_pids)
        host.born(docker(B))
        assert host.missed() == {"unfound": 1}
        assert host.source._newborn == set()


async def test_who_was_there_before_the_agent_is_watched_too(hosts: Callable[..., Host]) -> None:
    """A container that shares its host's PID namespace has no PID 1; what its init leaves behind is no init."""
    host = hosts()
    process, left = host.run(docker(A), "exit 3"), host.run(docker(B), "exit 4")
    tree(host.root, cgroup(docker(A), {"cgroup.procs": f"{process.pid}\n{left.pid}\n"}))
    tree(host.root, cgroup(docker(B), {"cgroup.procs": ""}))
    sure, container_init._SURE_SECONDS = container_init._SURE_SECONDS, 0.0
    try:
        async with host.follow():
            # The test itself is the parent of both, and so outside.
            host.census()
            await host.until(lambda: host.told(Started))
            end(process)
            await host.until(lambda: host.told(Exited))
            tree(host.root, cgroup(docker(A), {"cgroup.procs": f"{left.pid}\n"}))
            host.census()
            await host.until(lambda: host.source._census is None)
            await asyncio.sleep(0)
    finally:
        container_init._SURE_SECONDS = sure

    assert [(type(fact), fact.container) for fact in host.desk.facts] == [(Started, A), (Exited, A)]


async def test_what_a_container_makes_in_itself_is_not_watched(host: Host) -> None:
    """It may make many, and name them as it likes."""
    async with host.follow():
        inner = f"{docker(A)}/docker/{B}"
        host.run(inner, "exit 3")
        host.born(inner)
        host.census()
        await host.until(lambda: host.source._census is None)

    assert {fact.container for fact in host.told(Started)} <= {A}, "where that process is all the same"


async def test_no_more_are_watched_than_may_be(hosts: Callable[..., Host], all_are_inits: None) -> None:
    """It is said and counted, once, and the next census finds those there is room for again."""
    host = hosts(most=1)
    async with host.follow():
        first = host.run(docker(A), "exit 3")
        host.run(docker(B), "exit 4")
        host.born(docker(A))
        host.born(docker(B))
        assert "RLIMIT_NOFILE" in host.source.status.reason
        host.census()
        await host.until(lambda: host.source._census is None)
        assert host.missed() == {"unwatched": 1}
        end(first)
        await host.until(lambda: host.told(Exited))
        del host.source._looks._due[host.inode(docker(B))]  # its time has come
        host.census()
        await host.until(lambda: len(host.told(Started)) == 2)
        await host.until(lambda: not host.source.status.reason)

    assert host.missed() == {"unwatched": 1}


async def test_without_descriptors_it_goes_on(host: Host) -> None:
    """EMFILE stops nothing and leaves nothing open: the next census that has some finds it."""
    async with host.follow():
        host.run(docker(A), "exit 3")
        before = open_descriptors()
        with descriptors_left(1):  # so that it can be looked for, and its pidfd opened, but not its stat beside that
            host.born(docker(A))
        assert host.missed() == {"unwatched": 1}
        assert "RLIMIT_NOFILE" in host.source.status.reason
        assert open_descriptors() == before
        host.census()
        await host.until(lambda: host.told(Started))
        await host.until(lambda: not host.source.status.reason)


async def test_another_process_with_the_same_pid_is_not_watched(host: Host) -> None:
    """Nor one that is gone: a PID and the time of its start belong to one process only."""
    async with host.follow():
        process = host.run(docker(A), "exit 3")
        before = open_descriptors()
        start_time = parse_stat(read_once(f"/proc/{process.pid}/stat")).start_time
        begin = partial(host.source._watch.begin, ContainerKey(A), 7)
        assert not begin(Init(process.pid, start_time - 1, "sh"))
        assert open_descriptors() == before
        assert begin(Init(process.pid, start_time, "sh"))
        assert not begin(Init(process.pid, start_time, "sh")), "it is watched already"
        assert not host.source._watch.begin(ContainerKey(B), 8, Init(2**22 + 1, start_time, "sh"))


async def test_nothing_stays_open(host: Host) -> None:
    """After the follower has ended."""
    before = open_descriptors()
    async with host.follow():
        host.run(docker(A), "exit 3")
        host.born(docker(A))
        assert host.told(Started)
    host.processes[0].communicate()

    assert open_descriptors() == before


async def test_a_proc_of_another_namespace_is_of_no_use(tmp_path: Path) -> None:
    """Its PIDs are those of others here."""
    tree(tmp_path, {"proc/self/status": "Name:\tapp\nNSpid:\t77\t5\n"})
    with pytest.raises(Blind, match="hostPID"):
        await ExitsSource(proc_root=f"{tmp_path}/proc", tell=Desk().tell).follow()
    with pytest.raises(Blind, match=f"{tmp_path}/nope/self/status: No such file"):
        await ExitsSource(proc_root=f"{tmp_path}/nope", tell=Desk().tell).follow()


@pytest.mark.parametrize(("number", "remedy"), [(errno.ENOSYS, "Linux 5.3"), (errno.EPERM, "seccomp")])
async def test_a_kernel_without_pidfds_is_named(host: Host, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str) -> None:
    """And the rest of the agent runs without."""

    def fail(_pid: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", fail)
    with pytest.raises(Blind, match=remedy):
        await host.source.follow()


async def test_processes_that_cannot_be_seen_are_said(host: Host) -> None:
    """An agent in a PID namespace of its own sees each as 0."""
    async with host.follow():
        tree(host.root, cgroup(docker(A), {"cgroup.procs": "0\n"}))
        host.born(docker(A))
        assert not host.source.status.is_up
        assert "hostPID" in host.source.status.reason
