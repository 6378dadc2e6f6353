"""Signals to inits: real ones in a trace of this machine's kernel, and what becomes of those that are lost, early or too many."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.sources import signals as module
from agent.sources.signals import SignalsSource
from agent.supervise import Blind
from collectors.inquest.facts import Exited, Fact, Signalled, Started, Watched
from collectors.inquest.stops import KERNEL
from collectors.kernel.first_pids import has_first_pids
from collectors.kernel.trace_ring import SignalEvent
from tests.agent.desk import Desk
from tests.tree import A, B, cgroup, docker, node, tree

WAITS = "import signal, sys\nsignal.signal({0}, signal.SIG_{1})\nprint('ready', flush=True)\nsignal.pause()"
_NEW_NAMESPACE, _PRIVATE = 0x00020200, 0x00044000  # CLONE_NEWNS | CLONE_FS; MS_REC | MS_PRIVATE


def boot() -> float:
    """Return what the trace has for a time."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class FakeTrace:
    """A trace in which there is what a test puts there."""

    def __init__(self, _root: str = "", _name: str = "") -> None:
        self.events: list[SignalEvent] = []
        self.lost = 0
        self.is_closed = False

    def read(self, _seconds: float) -> tuple[list[SignalEvent], int, bool]:
        """Return it, once."""
        events, lost, self.events, self.lost = self.events, self.lost, [], 0
        return events, lost, True

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


class Node:
    """A source that follows a fake trace, on a node whose inits have the PIDs that a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, proc: str = "/proc") -> None:
        self.desk = Desk()
        self.trace = FakeTrace()
        monkeypatch.setattr(module, "has_first_pids", lambda _root: True)
        monkeypatch.setattr(module, "SignalTrace", lambda _root, _name: self.trace)
        self.source = SignalsSource(root="/nowhere", proc_root=proc, tell=self.desk.tell)
        self.began = time.time()

    @contextlib.asynccontextmanager
    async def follow(self) -> AsyncIterator[None]:
        """Follow until the block is left."""
        async with followed(self.source):
            yield

    def started(self, pid: int, container: str = A, *, ago: float = 0.0) -> None:
        """Let an init be found."""
        self.source.overhear(
            Started(container=A if container == A else B, source="exits", time=time.time() - ago, inode=pid, pid=pid, comm="app")
        )

    def sent(self, target: int, number: int = 15, *, code: int = 0, result: int = 0, sender: int = 0, ago: float = 0.0) -> None:
        """Let a signal be sent."""
        self.trace.events.append(SignalEvent(int((boot() - ago) * 1e9), sender, number, code, target, result))

    def told(self) -> list[tuple[str, int, bool | None, str]]:
        """Return what was told of signals."""
        return [(fact.container, fact.signal, fact.is_accepted, fact.by) for fact in self.desk.facts if isinstance(fact, Signalled)]

    def watched(self) -> list[float]:
        """Return since when what was told of A is complete."""
        return [fact.time for fact in self.desk.facts if isinstance(fact, Watched) and fact.container == A]

    async def read(self) -> None:
        """Wait until the source has read what is in the trace."""
        await until(lambda: not self.trace.events and not self.trace.lost)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def followed(source: SignalsSource) -> AsyncIterator[None]:
    """Follow until the block is left; it is entered once the source is up."""
    task = asyncio.create_task(source.follow())
    await source.status.looked(60)
    assert source.status.is_up, source.status.reason
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_signal_to_an_init_and_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what became of it; those to other processes are nobody's."""
    here = Node(monkeypatch)
    async with here.follow():
        here.started(50)
        for result in (1, 0, 2):
            here.sent(50, result=result)
        here.sent(51)
        here.sent(50, 9, code=128, sender=os.getpid())
        await here.read()

    assert here.told() == [(A, 15, False, ""), (A, 15, True, ""), (A, 15, None, ""), (A, 9, True, KERNEL)]
    assert here.trace.is_closed


async def test_who_sent_it_is_told_if_he_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a process that has his PID by now, nor one that calls itself as the kernel is called here."""
    ticks = int(boot() * os.sysconf("SC_CLK_TCK"))
    for pid, comm, start in (60, b"runc", ticks - 100), (61, b"later", ticks + 10_000), (62, b"kernel", ticks - 100), (63, b"a\n(b) c", 5):
        (tmp_path / str(pid)).mkdir()
        stat = b"%d (%b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 1 1 1\n" % (pid, comm, start)
        (tmp_path / str(pid) / "stat").write_bytes(stat)
    here = Node(monkeypatch, str(tmp_path))
    async with here.follow():
        here.started(50)
        for sender, number in (60, 1), (61, 2), (62, 3), (63, 10), (64, 12):
            here.sent(50, number, sender=sender)
        await here.read()

    assert [by for *_, by in here.told()] == ["runc", "", "", "a\n(b) c", ""]


async def test_an_end_is_told_behind_the_signal_that_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace is read first. What comes for the PID afterwards is for another process."""
    here = Node(monkeypatch)
    async with here.follow():
        here.started(50)
        await asyncio.sleep(0)
        here.sent(50, 9)
        here.source.overhear(Exited(container=A, source="exits", time=time.time(), inode=50, how="reaped", status=9))
        here.sent(50, 15)
        await here.read()

    kinds = [type(fact) for fact in here.desk.facts]
    assert kinds == [Started, Watched, Signalled, Exited]


async def test_since_when_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning of the watch; of an init that was found long after it had begun, not from before what is kept."""
    here = Node(monkeypatch)
    here.started(50, ago=900)  # before the source follows
    async with here.follow():
        assert here.watched() == [here.source._since]
        here.started(51)
        assert here.watched() == [here.source._since] * 2
        here.source._since = here.source._kept_since = here.began - 1000
        here.started(52, ago=500)
        assert here.began - 11 < here.watched()[-1] <= time.time() - 10


async def test_a_signal_to_an_init_that_is_not_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept until the init is, but not for one that began after it."""
    here = Node(monkeypatch)
    async with here.follow():
        here.sent(50, 2, ago=3)
        here.sent(50, 15, ago=1)
        await here.read()
        here.started(50, ago=2)

    assert here.told() == [(A, 15, True, "")]


async def test_what_is_lost_is_counted_and_the_watch_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the silence before it means nothing."""
    here = Node(monkeypatch)
    async with here.follow():
        here.started(50)
        before = time.time()
        here.trace.lost = 7
        await here.read()

    assert [value for _, _, value in here.source.samples()] == [7]
    first, second = here.watched()
    assert first < before <= second


async def test_a_flood_is_told_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container can send itself as many as it likes, and every signal to another process is kept for a while: not all of them."""
    here = Node(monkeypatch)
    async with here.follow():
        here.started(50)
        for number in range(5000):
            here.sent(50, 10, ago=1.5 - number / 4000)
            here.sent(number + 100, 10)
        await here.read()

    assert len(here.told()) == 2
    assert len(here.source._kept) == 0, "nothing is kept when nobody follows"


async def test_inits_of_containers_that_are_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Their PIDs are used again. A tree that cannot be walked says nothing of them."""
    here = Node(monkeypatch)
    tree(tmp_path, cgroup(docker(A)))
    inode = (tmp_path / "cgroup" / docker(A).lstrip("/")).stat().st_ino
    here.started(inode, ago=60)
    here.started(51, ago=60)
    here.started(52)
    (tmp_path / "empty").mkdir()

    here.source.compare(node(tmp_path))

    assert here.source._inits.keys() == {inode, 52}


async def test_other_pids_and_no_tracefs_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the remedy."""
    desk = Desk()
    monkeypatch.setattr(module, "has_first_pids", lambda _root: False)
    with pytest.raises(Blind, match="hostPID: true"):
        await SignalsSource(root=str(tmp_path), proc_root="/proc", tell=desk.tell).follow()
    monkeypatch.setattr(module, "has_first_pids", lambda _root: True)
    with pytest.raises(Blind, match=r"instances/coroner: No such file.*--path.tracefs"):
        await SignalsSource(root=str(tmp_path), proc_root="/proc", tell=desk.tell).follow()


def in_tracefs(directory: Path, body: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Run a test where tracefs is mounted at a directory, for one thread alone; skip where the kernel does not allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    refused: list[str] = []
    raised: list[BaseException] = []

    def mounted(*arguments: object) -> bool:
        if libc.mount(*arguments, None) == 0:
            return True
        refused.append(f"tracefs cannot be mounted here: {os.strerror(ctypes.get_errno())}")
        return False

    def run() -> None:
        if libc.unshare(_NEW_NAMESPACE):
            refused.append(f"no mount namespace of its own: {os.strerror(ctypes.get_errno())}")
        elif mounted(b"none", b"/", None, _PRIVATE) and mounted(b"none", bytes(directory), b"tracefs", 0):
            try:
                asyncio.run(body(str(directory)))
            except BaseException as error:  # noqa: BLE001 - it is the test's, and belongs to the thread that waits
                raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if refused:
        pytest.skip(refused[0])
    if raised:
        raise raised[0]


def start(number: int, does: str) -> subprocess.Popen[str]:
    """Start a process that ignores a signal (IGN) or is ended by it (DFL), and waits."""
    code = WAITS.format(number, does)
    process = subprocess.Popen([sys.executable, "-ISc", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_real_signals(tmp_path: Path) -> None:
    """A stop in two phases, of an init that ignores the first; the instance is there while it is followed, and one left over is taken."""
    if not has_first_pids("/proc"):
        pytest.skip("the PIDs here are not those of the first PID namespace")
    desk = Desk()
    instance = f"coroner-test-{os.getpid()}"
    own = Path("/proc/self/comm").read_text().strip()

    def facts(kind: type[Fact]) -> Sequence[Fact]:
        return [fact for fact in desk.facts if type(fact) is kind]

    async def body(root: str) -> None:
        source = SignalsSource(root=root, proc_root="/proc", tell=desk.tell, instance=instance)
        os.mkdir(f"{root}/instances/{instance}")
        deaf, other = start(signal.SIGTERM, "IGN"), start(signal.SIGTERM, "DFL")
        try:
            async with followed(source):
                source.overhear(Started(container=A, source="exits", time=time.time(), inode=7, pid=deaf.pid, comm="deaf"))
                deaf.send_signal(signal.SIGTERM)
                other.send_signal(signal.SIGTERM)
                await until(lambda: facts(Signalled))
                deaf.send_signal(signal.SIGKILL)
                deaf.wait()
                source.overhear(Exited(container=A, source="exits", time=time.time(), inode=7, how="reaped", status=9))
            assert instance not in os.listdir(f"{root}/instances")
        finally:
            for process in (deaf, other):
                process.kill()
                process.communicate()

    began = time.time()
    in_tracefs(tmp_path, body)

    told = [fact for fact in desk.facts if isinstance(fact, Signalled)]
    assert [(fact.container, fact.signal, fact.is_accepted, fact.by) for fact in told] == [(A, 15, False, own), (A, 9, True, own)]
    assert all(began - 1 <= fact.time <= time.time() + 1 for fact in told)
    assert [type(fact) for fact in desk.facts] == [Started, Watched, Signalled, Signalled, Exited]
