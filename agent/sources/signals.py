"""Which signals are sent to the inits of containers, by whom, and which of them the kernel discards: from a trace of the kernel's own.

It is the one source that tells of a stop without any runtime's API. Its pages are read ten times a second, and before the end of an init
is told of: by then the signal that ended it is in them.
"""

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.sources import Tell, Told
from agent.sources.signal_trace import SignalTrace
from agent.status import Status
from agent.supervise import FAR_DELAY_SECONDS, Blind
from collectors.base import Node, Sample, counter
from collectors.inquest.facts import Exited, Signalled, Started, Watched
from collectors.inquest.stops import KERNEL
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.first_pids import has_first_pids
from collectors.kernel.process_stat import parse_stat
from collectors.kernel.trace_ring import SignalEvent

LOST = counter("coroner_signals_lost_total", "Signals that were overwritten in the trace before they were read, at least.", ())

METRICS = (LOST,)

_INTERVAL_SECONDS = 0.1
_TURN_SECONDS = 0.005
"""How long the event loop is kept from its other work."""
_KEPT_SECONDS = 10.0
_MOST_KEPT = 2000
"""Signals to processes that are not known as inits are kept so long, and so many: an init is known a moment after it is there."""
_AGAIN_SECONDS = 1.0
"""The same signal to the same init is told so often: a container can send itself a million a second."""

_NANOSECONDS = 1e9
_TICKS = os.sysconf("SC_CLK_TCK")
_OF_KERNEL = 128
_ACCEPTED = {0: True, 1: False}


@dataclass(slots=True)
class _Init:
    container: ContainerKey
    inode: int | None
    started: float


class SignalsSource:
    """Tells of signals to the inits that the source `exits` tells of, whose facts must come through `overhear`."""

    longest_rest = FAR_DELAY_SECONDS

    def __init__(
        self,
        *,
        root: str,
        proc_root: str,
        tell: Tell,
        instance: str = "coroner",
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Make it. `root`: where tracefs is mounted; `instance`: name of the trace instance."""
        self.status = Status("signals")
        self._root = root
        self._proc_root = proc_root
        self._tell = tell
        self._instance = instance
        self._wall = wall
        self._trace: SignalTrace | None = None
        self._inits: dict[int, _Init] = {}
        self._kept: deque[tuple[float, SignalEvent]] = deque()
        self._kept_since = 0.0
        self._told: dict[tuple[int, int, bool | None], float] = {}
        self._since = 0.0
        self._lost = 0

    async def rest(self, seconds: float) -> None:
        """Wait before the next try: nothing tells that one would be of use now."""
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        """Yield how many signals were lost."""
        yield LOST, (), self._lost

    def overhear(self, fact: Told) -> None:
        """Take what the source `exits` tells, and pass it on: behind the signals that were sent before an end."""
        if isinstance(fact, Exited):
            self._read_before(fact)
        self._tell(fact)
        if isinstance(fact, Started) and fact.pid is not None:
            self._begin(fact.pid, _Init(fact.container, fact.inode, fact.time))

    def compare(self, node: Node) -> None:
        """Forget the inits of containers that a census does not see any more."""
        if not node.cgroups:  # the tree could not be walked
            return
        inodes = {instance.cgroup.inode for instance in node.instances}
        now = self._wall()
        self._inits = {pid: init for pid, init in self._inits.items() if init.inode in inodes or now - init.started < _KEPT_SECONDS}
        self._told = {key: told for key, told in self._told.items() if now - told < _AGAIN_SECONDS}

    async def follow(self) -> None:
        """Record and read, for ever. Raises Blind."""
        if not has_first_pids(self._proc_root):
            raise Blind("signals are traced with the PIDs of the first PID namespace: run the agent in that (hostPID: true, --pid=host)")
        self._trace = SignalTrace(self._root, self._instance)
        try:
            self._since = self._kept_since = self._wall()
            self._watch_all()
            self.status.up()
            while True:
                is_all = self._read()
                await asyncio.sleep(_INTERVAL_SECONDS if is_all else 0)
        except (OSError, ValueError) as error:
            raise Blind(f"{self._root}/instances/{self._instance}: {error}") from error
        finally:
            self._trace.close()
            self._trace = None
            self._kept.clear()

    def _read_before(self, end: Exited) -> None:
        with contextlib.suppress(OSError, ValueError):  # follow() comes to the same, and says it
            self._read()
        for pid in [pid for pid, init in self._inits.items() if init.inode == end.inode and init.container == end.container]:
            del self._inits[pid]

    def _read(self) -> bool:
        """Read for a moment; whether that was all there is."""
        if self._trace is None:
            return True
        events, lost, is_all = self._trace.read(_TURN_SECONDS)
        behind = self._wall() - time.clock_gettime(time.CLOCK_BOOTTIME)
        for event in events:
            at = event.time / _NANOSECONDS + behind
            init = self._inits.get(event.target)
            if init is not None:
                self._signalled(init, at, event)
            else:
                self._kept.append((at, event))
        self._forget_old()
        if lost:
            self._lost += lost
            self._since = self._kept_since = self._wall()
            self._watch_all()
        return is_all

    def _begin(self, pid: int, init: _Init) -> None:
        self._inits[pid] = init
        if self._trace is None:
            return
        self._forget_old()
        for at, event in [each for each in self._kept if each[1].target == pid and each[0] >= init.started]:
            self._signalled(init, at, event)
        self._watch(init, self._since if init.started >= self._kept_since else max(self._since, self._kept_since))

    def _forget_old(self) -> None:
        oldest = self._wall() - _KEPT_SECONDS
        self._kept_since = max(self._kept_since, oldest)
        while self._kept and (self._kept[0][0] < oldest or len(self._kept) > _MOST_KEPT):
            self._kept_since = max(self._kept_since, self._kept.popleft()[0])

    def _watch_all(self) -> None:
        for init in self._inits.values():
            self._watch(init, self._since)

    def _watch(self, init: _Init, since: float) -> None:
        self._tell(Watched(container=init.container, source=self.status.source, time=since, inode=init.inode, kind="signals"))

    def _signalled(self, init: _Init, at: float, event: SignalEvent) -> None:
        is_accepted = _ACCEPTED.get(event.result)
        key = event.target, event.signal, is_accepted
        if at - self._told.get(key, 0.0) < _AGAIN_SECONDS:
            return
        self._told[key] = at
        self._tell(
            Signalled(
                container=init.container,
                source=self.status.source,
                time=at,
                inode=init.inode,
                signal=event.signal,
                is_accepted=is_accepted,
                by=KERNEL if event.code == _OF_KERNEL else self._name_of(event),
            )
        )

    def _name_of(self, event: SignalEvent) -> str:
        """Return the name of who sent it, if that is still there: mostly it is not, and its PID may be another's by now."""
        try:
            stat = parse_once(f"{self._proc_root}/{event.sender}/stat", parse_stat)
        except ReadError:
            return ""
        name = stat.comm.decode(errors="backslashreplace")
        is_older = stat.start_time / _TICKS <= event.time / _NANOSECONDS
        return name if is_older and name != KERNEL else ""  # nobody is taken for the kernel by his name
