"""What the pages are made of: a pass that those who look share, the history, the casebook, and what is known of lives that go on."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from agent.gather import Pass
from agent.history import COLLECTORS, History
from agent.overview import UNKNOWN_RATES, Examined, NotExamined, Overview, overview
from agent.status import Status
from collectors.base import Sample
from collectors.inquest.facts import Fact
from collectors.inquest.kill_state import Labels
from collectors.kernel.container_id import ContainerKey

SHARED_SECONDS = 3.0
"""Who looks within this after somebody else sees the same pass."""
PASS_SECONDS = 5.0
"""How long the pass of a page may take: what is stuck is said, not waited for."""
MOST_ENDS = 10
"""Verdicts and victims on the page of one container."""

log = logging.getLogger(__name__)

T = TypeVar("T")
Rows = list[dict[str, Any]]


class Records(Protocol):
    """The casebook as pages read it."""

    def verdicts(self, most: int, *, namespace: str | None = None, pod: str | None = None, container: str | None = None) -> Rows:
        """The latest verdicts, newest first."""
        ...

    def victims(self, most: int, of: Collection[str] | None = None) -> Rows:
        """The latest victims, newest first; `of`: in the containers with these ids."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the agent gives to its pages.

    `collect` makes a pass, `run` works in the sampling thread, `own` are the samples that no collector yields, `facts` those of the open
    case of a container, `culprits` a sentence for each process of it that leaves zombies. Called in the event loop, but for the casebook.
    """

    collect: Callable[[float], Awaitable[Pass]]
    run: Callable[[Callable[[], Any]], Awaitable[Any]]
    own: Callable[[], Iterable[Sample]]
    telemetry_path: str
    sources: Callable[[], Sequence[Status]]
    collectors: Sequence[str]
    notes: Callable[[], Sequence[str]]
    records: Records
    facts: Callable[[ContainerKey], Sequence[Fact]]
    history: History | None
    examined: Examined = NotExamined
    culprits: Callable[[ContainerKey], Sequence[str]] = lambda key: ()


class Pages:
    """Makes pages. Whatever takes long runs in the sampling thread, so that no page delays a scrape's last step or another's answer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._last: Overview | None = None
        self._turn = asyncio.Lock()

    async def index(self) -> bytes:
        """Return the page of all containers."""
        from agent.web.index_page import DEATHS, index_page  # noqa: PLC0415 - few look at pages, and what makes them holds memory
        from agent.web.node_part import About  # noqa: PLC0415 - as above

        seen, parts = await self._look(), self._parts
        deaths = await asyncio.to_thread(parts.records.verdicts, DEATHS)
        about = About(parts.telemetry_path, parts.sources(), parts.collectors, parts.notes())
        return await self._made(lambda: index_page(seen, deaths, about).encode())

    async def container(self, wanted: Mapping[str, str]) -> bytes | None:
        """Return the page of one container, by its labels in an address; None if nothing is known of it."""
        from agent.web.container_page import Life, container_page  # noqa: PLC0415 - as above
        from agent.web.parts import addressable  # noqa: PLC0415 - as above
        from collectors.inquest.case import case_of  # noqa: PLC0415 - as above
        from collectors.inquest.timeline import timeline  # noqa: PLC0415 - as above

        seen = await self._look()
        asked = tuple(wanted.get(name, "") for name in ("namespace", "pod", "container"))
        view = next((view for view in seen.views if tuple(map(addressable, view.labels)) == asked), None)
        labels = asked if view is None else view.labels
        records = self._parts.records
        namespace, pod, container = labels
        ends = await asyncio.to_thread(partial(records.verdicts, MOST_ENDS, namespace=namespace, pod=pod, container=container))
        if view is None and not ends:
            return None
        keys = {str(row["identifier"]) for row in ends} | ({view.key} if view is not None else set())
        victims = await asyncio.to_thread(records.victims, MOST_ENDS, keys)
        facts = self._parts.facts(view.key) if view is not None else ()
        culprits = self._parts.culprits(view.key) if view is not None and any(view.zombies.values()) else ()
        history = self._parts.history

        def make() -> bytes:
            life = Life(
                timeline=timeline(case_of(facts)) if facts else (),
                verdicts=ends,
                victims=victims,
                zombies=culprits,
                series=history.series(labels) if history is not None else None,
            )
            return container_page(labels, view, life, seen).encode()

        return await self._made(make)

    async def containers(self) -> bytes:
        """Return all containers of a pass as JSON (static/containers.schema.json)."""
        from agent.web.containers import described  # noqa: PLC0415 - as above

        seen = await self._look()
        return await self._made(lambda: json.dumps(described(seen), ensure_ascii=True, allow_nan=False).encode())

    async def _look(self) -> Overview:
        async with self._turn:
            if self._last is None:
                self._last = await self._overview()
                asyncio.get_running_loop().call_later(SHARED_SECONDS, self._forget)
            return self._last

    async def _overview(self) -> Overview:
        parts = self._parts
        done = await parts.collect(PASS_SECONDS)
        samples = [*parts.own(), *done.samples]
        history, now = parts.history, time.time()
        examined = parts.examined()
        return await self._made(
            lambda: overview(
                samples,
                time=now,
                living=done.living,
                failures=done.failures,
                examination=examined,
                rates=history.rates if history is not None else lambda labels: UNKNOWN_RATES,
            )
        )

    async def _made(self, job: Callable[[], T]) -> T:
        result: T = await self._parts.run(job)
        return result

    def _forget(self) -> None:
        self._last = None


class Recorder:
    """Feeds the history with passes that are made anyway, and says what the look that is made without a scrape must measure for it.

    Without a history it does nothing.
    """

    def __init__(
        self,
        history: History | None,
        run: Callable[[Callable[[], Any]], Awaitable[Any]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.history = history
        self._run, self._clock = run, clock

    def wanted(self) -> frozenset[str]:
        """Return the names of the collectors whose samples it wants now."""
        return COLLECTORS if self.history is not None and self.history.is_due(self._clock()) else frozenset()

    async def take(self, done: Pass) -> None:
        """Take a point from a pass, if one is due. Never raises: no page of metrics is lost for a chart."""
        history, now, wall = self.history, self._clock(), time.time()
        if history is None or not history.is_due(now):
            return
        try:
            await self._run(lambda: history.feed(done.samples, done.living, now, wall))
        except Exception:
            log.exception("history not fed")

    def moved(self, before: Labels, now: Labels) -> None:
        """Note, in the sampling thread, that a container is called otherwise by now."""
        if self.history is not None:
            self.history.moved(before, now)
