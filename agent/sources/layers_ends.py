"""The sizes of writable layers at the ends of their containers: measured at once, for the runtime may remove them any moment.

The init whose mounts say where a layer is has ended by then, so that is looked up while a container runs.
"""

import asyncio
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from agent.layer_look import Result, Root, measure_end, root_of
from agent.layer_walk import Pace, Stopped
from agent.sources import Tell
from collectors.base import Node
from collectors.inquest.facts import Born, Emptied, Exited, LayerMeasured
from collectors.kernel.container_id import ContainerKey

MOST = 10_000
"""Containers whose layers are known; the oldest goes."""
MOST_WAITING = 100
"""Ends. In a crash loop of many only the latest are measured: their layers are what is still there."""
_SETTLED_SECONDS = 1.0
"""After its birth a container's init has its own root, and runs the container's program; on a busy node it takes longer, so whoever has not
is looked at again after twice as long each time."""
_RETRY_SECONDS = 30.0
_SHARE = 0.25
_MOST_SECONDS = 10.0
"""A verdict waits for no longer than that."""

log = logging.getLogger(__name__)

T = TypeVar("T")
InThread = Callable[[Callable[[], T]], "asyncio.Future[T]"]


class LayerEnds:
    """Works beside the walks of running containers, one container at a time. Used in the event loop; any thread may ask for `sizes`."""

    def __init__(self, *, proc_root: str, source: str, tell: Tell, count: Callable[[Result], None], clock: Callable[[], float]) -> None:
        self._proc_root, self._source = proc_root, source
        self._tell, self._count, self._clock = tell, count, clock
        self._uppers: OrderedDict[int, bytes | None] = OrderedDict()
        """Inode of a container's cgroup -> its writable layer; None: it has none that can be measured."""
        self._tried: dict[int, float] = {}
        self._births: deque[tuple[int, str, float]] = deque(maxlen=MOST)
        self._ends: deque[Emptied] = deque(maxlen=MOST_WAITING)
        self._sizes: Mapping[ContainerKey, int] = {}
        self._woken = asyncio.Event()
        self._failures: set[type] = set()

    def sizes(self) -> Mapping[ContainerKey, int]:
        """Return the bytes of the layers of those that ended lately, the latest last."""
        return self._sizes

    def born(self, fact: Born) -> None:
        """Look up, soon, where the layer of a container is whose cgroup was just made."""
        if not fact.container.is_nested and fact.cgroup.inode:
            self._look_after(_SETTLED_SECONDS, fact.cgroup.inode, fact.cgroup.directory)

    def ended(self, fact: Emptied | Exited) -> None:
        """Measure the layer of a container whose last process has ended."""
        if not isinstance(fact, Emptied) or fact.inode is None or self._uppers.get(fact.inode) is None:
            return
        if fact.words is None:  # noticed late, so what was removed before that would not be missed
            self._uppers.pop(fact.inode)
            self._tell(self._measured(fact, None))
        else:
            self._ends.append(fact)
            self._woken.set()

    def compare(self, node: Node) -> None:
        """Take who is there, and who was lately: the others are forgotten."""
        running = {each.cgroup.inode: each.cgroup.directory for each in node.containers if each.cgroup.inode and not each.id.host_id}
        now = self._clock()
        self._tried = {inode: tried for inode, tried in self._tried.items() if inode in running and now - tried < _RETRY_SECONDS}
        for inode, directory in running.items():
            if inode not in self._uppers and inode not in self._tried:
                self._look_at(inode, directory, _RETRY_SECONDS)
        if not self._sizes.keys() <= node.names.keys():
            self._sizes = {key: size for key, size in self._sizes.items() if key in node.names}

    async def follow(self, in_thread: "Callable[[Callable[[], None]], asyncio.Future[None]]", stopped: threading.Event) -> None:
        """Work, for ever: ends first."""
        loop = asyncio.get_running_loop()
        while True:
            if self._ends:
                fact = self._ends.popleft()
                upper = self._uppers.pop(fact.inode or 0, None)
                if upper is not None:
                    await in_thread(partial(self._measure, loop, fact, upper, stopped))
            elif self._births:
                await in_thread(partial(self._find, loop, *self._births.popleft()))
            else:
                self._woken.clear()
                await self._woken.wait()

    def _look_after(self, seconds: float, inode: int, directory: str) -> None:
        asyncio.get_running_loop().call_later(seconds, self._look_at, inode, directory, seconds)

    def _look_at(self, inode: int, directory: str, waited: float) -> None:
        self._tried[inode] = self._clock()
        self._births.append((inode, directory, waited))
        self._woken.set()

    def _find(self, loop: asyncio.AbstractEventLoop, inode: int, directory: str, waited: float) -> None:
        """Find where a layer is, in a thread."""
        try:
            root = root_of(self._proc_root, directory)
        except Exception as error:  # noqa: BLE001 - nothing that goes wrong with one container stops the others
            self._fail(error)
        else:
            if root.is_early and waited < _RETRY_SECONDS:
                loop.call_soon_threadsafe(self._look_after, 2 * waited, inode, directory)
            loop.call_soon_threadsafe(self._found, inode, directory, root)

    def _found(self, inode: int, directory: str, root: Root) -> None:
        if root.kind:  # else it is starting, or has ended
            log.debug("layer is known", extra={"path": directory})
            self._uppers[inode] = root.upper
            if len(self._uppers) > MOST:
                self._uppers.popitem(last=False)

    def _measure(self, loop: asyncio.AbstractEventLoop, fact: Emptied, upper: bytes, stopped: threading.Event) -> None:
        """Measure a layer, in a thread. Nothing that goes wrong with it stops the others."""
        pace = Pace(stopped.wait, share=_SHARE, most_seconds=_MOST_SECONDS)
        result: Result
        try:
            size, result = measure_end(self._proc_root, upper, fact.time, pace)
        except Stopped:
            return
        except Exception as error:  # noqa: BLE001 - nor here
            self._fail(error)
            size, result = None, "failed"
        if not stopped.is_set():
            loop.call_soon_threadsafe(self._take, fact, size, result)

    def _take(self, fact: Emptied, size: int | None, result: Result) -> None:
        self._count(result)
        if size is not None:
            self._sizes = {**{key: each for key, each in self._sizes.items() if key != fact.container}, fact.container: size}
        self._tell(self._measured(fact, size))

    def _measured(self, fact: Emptied, size: int | None) -> LayerMeasured:
        return LayerMeasured(container=fact.container, source=self._source, time=fact.time, inode=fact.inode, size=size)

    def _fail(self, error: Exception) -> None:
        if type(error) not in self._failures:
            log.error("layer of an ended container not looked at", exc_info=error)
        self._failures.add(type(error))
