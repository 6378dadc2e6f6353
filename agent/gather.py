"""One pass: concurrent scrapes share it, each collector has a deadline and an error boundary, and what it cost is on the page."""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from agent.census import Census
from agent.changes import InotifyChanges
from agent.words import UNEXPECTED, in_words
from collectors.base import Collector, Node, Samples, gauge
from collectors.inquest.kill_state import Labels
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import Forbidden, KernelFiles, descriptor_budget
from collectors.kernel.procfs import ProcessTable

T = TypeVar("T")

SUCCESS = gauge("coroner_scrape_collector_success", "1 if the collector finished in time and could parse all that it read.", ("collector",))
DURATION = gauge(
    "coroner_scrape_collector_duration_seconds", "Duration of the collector's run; so far, if it has not finished.", ("collector",)
)

METRICS = (SUCCESS, DURATION)

RESYNC_SECONDS = 10.0
"""How long a pass that nobody asked for may take: as long as a usual one, or it would find a slow node stuck where that does not."""

log = logging.getLogger(__name__)


class Sampler:
    """One daemon thread, and the open files that only it may use. A stuck thread keeps its files; the work goes on in a fresh one."""

    def __init__(self, proc_root: str) -> None:
        # A container has 13 files that are kept, some processes, and an init that agent/sources/exits.py watches by what is left.
        self.files = KernelFiles(descriptor_budget(9 / 16), InotifyChanges(proc_root))
        self.process_table = ProcessTable(proc_root, descriptor_budget(4 / 16))
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="sampler", daemon=True).start()

    def run(self, job: Callable[[], T]) -> "asyncio.Future[T]":
        """Run `job` in the thread; the future belongs to the calling loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def work() -> None:
            result, error = None, None
            try:
                result = job()
            except Exception as raised:  # noqa: BLE001 - the error boundary: the caller decides what a failure means
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed: the agent is stopping
                loop.call_soon_threadsafe(settle, result, error)

        self._jobs.put(work)
        return future

    def retire(self) -> None:
        """End the thread once it has nothing more to do."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or what it worked on would be kept until the next one
        self.files.close()
        self.process_table.close()


@dataclass(frozen=True, slots=True)
class Pass:
    """All samples of one pass, why each collector that failed did, in words, and the containers that it has seen alive."""

    samples: Samples
    failures: dict[str, str]
    living: Mapping[Labels, ContainerKey] = field(default_factory=dict)

    @classmethod
    def of(cls, node: Node | None, samples: Samples, failures: dict[str, str]) -> "Pass":
        """Make it of what was collected from a node."""
        return cls(samples, failures, {each.labels: each.id.key for each in node.containers} if node is not None else {})


class Late(Exception):
    """A job did not finish by its deadline."""


class Unseen(Exception):
    """There is no census: nobody knows what is on the node."""


class Gather:
    """Runs passes, one at a time.

    Each of `counted` is called with each census, before it is collected from, and `assess` with what a pass was made of. What one of them
    raises is logged, once per kind, and stops no other and no page.
    """

    def __init__(
        self,
        *,
        census: Census,
        collectors: Sequence[Collector],
        proc_root: str,
        assess: Callable[[Node, Mapping[str, str]], None],
        counted: Sequence[Callable[[Node], None]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._census = census
        self._collectors = collectors
        self._proc_root = proc_root
        self._assess = assess
        self._counted = counted
        self._clock = clock
        self._turn = asyncio.Lock()
        self._ended = clock()
        self._sampler = Sampler(proc_root)
        self._stuck: dict[str, tuple[asyncio.Future[Any], float]] = {}
        self._current: asyncio.Task[Pass] | None = None
        self._failures: dict[str, tuple[str, str | None]] = {}
        """What was logged of the collectors that fail: why, and what was raised."""
        self._raised: dict[str, str] = {}
        self._refusals: set[tuple[str, type]] = set()

    @property
    def ended(self) -> float:
        """When the last pass ended, in seconds of its clock; when this was made, as long as there was none."""
        return self._ended

    async def collect(self, timeout: float) -> Pass:
        """Return a whole pass within `timeout` seconds; a pass that is under way is shared."""
        if self._current is None or self._current.done():
            self._current = asyncio.create_task(self._pass(timeout), name="pass")
        return await asyncio.shield(self._current)

    async def resync(
        self,
        seconds: float,
        names: Callable[[], Collection[str]],
        timeout: float = RESYNC_SECONDS,
        take: Callable[[Pass], Awaitable[None]] | None = None,
    ) -> None:
        """For ever: when there was no pass for so many seconds, take a census and run the collectors that are wanted by then.

        `take` gets their samples. Nothing of this is on the page: a failure shows in the next pass.
        """
        while True:
            if (rest := self._ended + seconds - self._clock()) > 0:
                await asyncio.sleep(rest)
                continue
            async with self._turn:
                await self._look(names(), self._clock() + timeout, take)
                self._ended = self._clock()

    async def ask(self, question: Callable[[Node], T], timeout: float) -> T:
        """Take a census and answer a question about it, in the sampling thread. Raises Late, Unseen and what the question does."""
        async with self._turn:
            deadline = self._clock() + timeout
            node, why = await self._take_census(deadline)
            if node is None:
                raise Unseen(why)
            return await self._within("question", deadline, lambda: question(node))

    async def _look(self, names: Collection[str], deadline: float, take: Callable[[Pass], Awaitable[None]] | None) -> None:
        samples = Samples()
        node, _ = await self._take_census(deadline)
        for collector in self._collectors:
            if node is not None and collector.name in names:
                node = self._with_files(node)
                await self._one(collector, node, deadline, samples)
        if take is not None:
            await take(Pass.of(node, samples, {}))

    async def look(self, timeout: float) -> None:
        """Take a census and collect nothing: who is here is known then."""
        async with self._turn:
            await self._take_census(self._clock() + timeout)

    async def run(self, job: Callable[[], T]) -> T:
        """Run other work on the samples in the sampling thread: no CPU-bound Python runs beside a pass."""
        return await self._sampler.run(job)

    async def _pass(self, timeout: float) -> Pass:
        deadline = self._clock() + timeout
        try:
            async with self._turn:
                result = await self._whole(deadline)
                self._ended = self._clock()
            return result
        finally:
            self._current = None  # or its samples would be kept until the next pass

    async def _whole(self, deadline: float) -> Pass:
        samples = Samples()
        failures: dict[str, str] = {}
        node, failures["census"] = await self._take_census(deadline)
        refused: dict[str, Sequence[Forbidden]] = {}
        if node is not None:
            node = replace(node, samples=samples, failures=failures, refused=refused)
        for collector in self._collectors:
            started = self._clock()
            if node is not None:
                node = self._with_files(node)
            failure = failures[collector.name] = await self._one(collector, node, deadline, samples)
            if node is not None and node.closed:
                refused[collector.name] = tuple(node.closed)
            if collector.name in self._stuck:
                started = self._stuck[collector.name][1]
            seconds = self._clock() - started
            samples.add([(SUCCESS, (collector.name,), int(not failure)), (DURATION, (collector.name,), seconds)])
        failures = {name: failure for name, failure in failures.items() if failure}
        if node is not None:
            self._show(lambda: self._census.refused([error for errors in refused.values() for error in errors]), "census")
            self._show(lambda: self._assess(node, failures), "assess")
        self._report(failures)
        return Pass.of(node, samples, failures)

    def _with_files(self, node: Node) -> Node:
        """Give it the thread's files: a stuck collector has kept those of its own, and the others go on with fresh ones."""
        if node.files is self._sampler.files:
            return node
        return replace(node, files=self._sampler.files, process_table=self._sampler.process_table)

    async def _take_census(self, deadline: float) -> tuple[Node | None, str]:
        sampler = self._sampler
        try:
            node = await self._within("census", deadline, lambda: self._census.take(sampler.files, sampler.process_table))
        except Late as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 - the error boundary: what was raised is for the log
            return None, self._failed("census", error)
        for tell in self._counted:
            self._show(partial(tell, node), tell.__qualname__)
        return node, ""

    def _show(self, call: Callable[[], None], name: str) -> None:
        try:
            call()
        except Exception as error:
            if (name, type(error)) not in self._refusals:
                log.exception("a pass was not taken note of", extra={"by": name})
            self._refusals.add((name, type(error)))

    async def _one(self, collector: Collector, node: Node | None, deadline: float, samples: Samples) -> str:
        """Add the samples of one collector, all or none; return why it failed, or nothing."""
        if node is None:
            return "there is no census of the node to work on"
        node.malformed.clear()
        node.closed.clear()
        try:
            # Made whole in the thread: half a collector is never shown.
            samples.add(await self._within(collector.name, deadline, lambda: Samples(collector.collect(node))))
        except Late as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - as above
            return self._failed(collector.name, error)
        return "; ".join(map(str, (*node.malformed, *_closed_everywhere(node))[:3]))

    async def _within(self, name: str, deadline: float, job: Callable[[], T]) -> T:
        """Run a job, waiting for it at most half of the time that is left, so that the next ones have some. Raises Late."""
        if name in self._stuck:
            raise Late("still stuck in an earlier pass")
        started = self._clock()
        future = self._sampler.run(job)
        patience = max(0.0, (deadline - started) / 2)
        try:
            done, _ = await asyncio.wait((future,), timeout=patience)
        except asyncio.CancelledError:
            future.cancel()  # nobody wants the answer any more, nor that asyncio complains of an error in it
            raise
        if done:
            return future.result()
        self._stuck[name] = (future, started)
        future.add_done_callback(lambda ended: self._back(name, ended))
        self._sampler.retire()
        self._sampler = Sampler(self._proc_root)
        raise Late(f"not finished after {patience:.1f} s: a read hangs, or the node is overloaded")

    def _failed(self, name: str, error: Exception) -> str:
        """Say in words why, and keep what was raised for the log."""
        log.debug("collector failed", exc_info=error, extra={"collector": name})
        self._raised[name] = f"{type(error).__name__}: {error}"
        return in_words(error) or UNEXPECTED

    def _back(self, name: str, future: "asyncio.Future[Any]") -> None:
        del self._stuck[name]
        if not future.cancelled():
            future.exception()  # retrieved, or asyncio would log it as lost

    def _report(self, failures: dict[str, str]) -> None:
        for name, failure in failures.items():
            if self._failures.get(name) != (failure, self._raised.get(name)):
                log.error("collector failed", extra={"collector": name, "reason": failure, "raised": self._raised.get(name)})
        for name in self._failures.keys() - failures.keys():
            log.info("collector works again", extra={"collector": name})
        self._failures = {name: (failure, self._raised.get(name)) for name, failure in failures.items()}
        self._raised.clear()


def _closed_everywhere(node: Node) -> Iterable[Forbidden]:
    """Return one refusal of each file that no cgroup lets be read: that is a privilege which the agent lacks, and no container's doing."""
    by_name = {os.path.basename(error.path): error for error in node.closed}
    return (error for name, error in by_name.items() if node.files.is_closed_everywhere(name))
