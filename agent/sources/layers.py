"""The root file systems of containers, and the sizes of their writable layers (--source.layers): a walk of directories, one at a time.

It goes through the root of PID 1 of the node, so that nothing needs to be mounted for it.
"""

import asyncio
import concurrent.futures
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from agent.layer_look import Look, Result, Stopped, look
from agent.layer_walk import Pace
from agent.sources import Tell
from agent.sources.layers_ends import LayerEnds
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS, Blind
from collectors.base import Node, Sample, counter
from collectors.kernel.files import explain
from collectors.layers import Layer

WALKS = counter(
    "coroner_layer_walks_total",
    "Walks of writable layers by how they ended: measured; too_large (200,000 entries, 100 levels, 5 minutes, or 10 s after the "
    "container's end did not do), gone (with its container), failed.",
    ("result",),
)

METRICS = (WALKS,)

INTERVAL_SECONDS = 600.0
_RETRY_SECONDS = 30.0
"""When a container in which no init was found is looked at again: it may be starting, or sharing a PID namespace."""

log = logging.getLogger(__name__)

T = TypeVar("T")


class LayersSource:
    """Looks at each container, but those inside others, every ten minutes, and at its end (`ends`, which must be told of births and ends).

    It must be shown who is there (`compare`).
    """

    longest_rest = LONGEST_DELAY_SECONDS

    def __init__(self, *, proc_root: str, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self.status = Status("layers")
        self.ends = LayerEnds(proc_root=proc_root, source=self.status.source, tell=tell, count=self._count, clock=clock)
        self._proc_root = proc_root
        self._clock = clock
        self._running: dict[int, str] = {}
        """Inode -> directory of each container's cgroup."""
        self._due: dict[int, float] = {}
        self._found: dict[int, Layer] = {}
        self._problems: dict[int, str] = {}
        self._results: dict[Result, int] = {"measured": 0, "too_large": 0, "gone": 0, "failed": 0}
        self._woken = asyncio.Event()
        self._failures: set[type] = set()

    def found(self) -> Mapping[int, Layer]:
        """Return what is known, by the inodes of cgroups, for any thread to read."""
        return self._found

    async def rest(self, seconds: float) -> None:
        """Wait before the next try: nothing tells that one would be of use now."""
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        """Yield how many walks there were."""
        for result, count in self._results.items():
            yield WALKS, (result,), count

    def compare(self, node: Node) -> None:
        """Take who is there, in the event loop, and forget all others."""
        self._running = {each.cgroup.inode: each.cgroup.directory for each in node.containers if each.cgroup.inode and not each.id.host_id}
        for known in (self._due, self._found, self._problems):
            for gone in known.keys() - self._running:
                known.pop(gone, None)
        self._woken.set()
        self.ends.compare(node)

    async def follow(self) -> None:
        """Look at one after the other, for ever. Raises Blind where the root of PID 1 cannot be seen."""
        path = f"{self._proc_root}/1/root"
        try:
            os.stat(f"{path}/.")
        except OSError as error:
            raise Blind(f"{explain(error, path)}; it needs the node's procfs, CAP_SYS_PTRACE and no AppArmor profile") from error
        stopped = threading.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.ends.follow(_in_thread, stopped))
                tasks.create_task(self._walk(stopped))
        finally:
            stopped.set()

    async def _walk(self, stopped: threading.Event) -> None:
        while True:
            self._say()
            inode = min(self._running, key=lambda each: self._due.get(each, 0.0), default=None)
            if inode is None or self._due.get(inode, 0.0) > self._clock():
                self._woken.clear()
                await self._woken.wait()
                continue
            self._take(inode, await _in_thread(partial(self._look, self._running[inode], stopped)))

    def _look(self, directory: str, stopped: threading.Event) -> Look:
        """Look at one container, in a thread. Nothing that goes wrong with it stops the others."""
        pace = Pace(stopped.wait)
        try:
            seen = look(self._proc_root, directory, pace)
            pace.rest()
        except Stopped:
            return Look()
        except Exception as error:
            if type(error) not in self._failures:
                log.exception("layer not looked at", extra={"path": directory})
            self._failures.add(type(error))
            return Look(result="failed")
        return seen

    def _take(self, inode: int, seen: Look) -> None:
        """Keep what was seen, in the event loop."""
        if seen.result is not None:
            self._count(seen.result)
        if inode not in self._running:
            return
        # A walk may come upon what is just being made or removed: then it is tried again soon.
        is_done = seen.layer is not None and seen.result not in ("gone", "failed")
        self._due[inode] = self._clock() + (INTERVAL_SECONDS if is_done else _RETRY_SECONDS)
        _keep(self._found, inode, seen.layer)
        _keep(self._problems, inode, seen.problem or None)

    def _count(self, result: Result) -> None:
        self._results[result] += 1

    def _say(self) -> None:
        self.status.up(next(iter(self._problems.values()), ""))


def _keep(known: dict[int, T], inode: int, value: T | None) -> None:
    if value is None:
        known.pop(inode, None)
    else:
        known[inode] = value


def _in_thread(job: Callable[[], T]) -> "asyncio.Future[T]":
    """Run a job in a daemon thread of its own: a disk that does not answer holds up neither other threads' work nor the agent's end."""
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()

    def work() -> None:
        try:
            done.set_result(job())
        except BaseException as error:  # noqa: BLE001 - whoever waits decides
            done.set_exception(error)

    threading.Thread(target=work, name="layers", daemon=True).start()
    return asyncio.wrap_future(done)
