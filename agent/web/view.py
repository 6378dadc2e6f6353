"""The pages for people, made of a pass that those who look share, the history, the casebook, and what is known of lives that go on."""

import asyncio
import json
import logging
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from agent.casebook import Casebook
from agent.cases import Cases
from agent.config import Config
from agent.gather import Gather, Pass
from agent.history import Recorder
from agent.overview import UNKNOWN_RATES, Overview, overview
from agent.status import Status
from collectors import forensics
from collectors.base import Node, Sample
from collectors.findings import Examination
from collectors.forensics import Culprit
from collectors.kernel.container_id import ContainerKey

SHARED_SECONDS = 3.0
"""Who looks within this after somebody else sees the same pass."""
PASS_SECONDS = 10.0
"""How long the pass of a page may take: as long as a usual one, for a scrape may share it."""
MOST_ENDS = 10
"""Verdicts and victims on the page of one container."""

log = logging.getLogger(__name__)

T = TypeVar("T")


class Agent(Protocol):
    """What the pages show of the agent: App, whose composition is none of their business."""

    config: Config
    notes: list[str]
    web_trouble: Callable[[], list[str]]
    casebook: Casebook
    cases: Cases
    gather: Gather
    recorder: Recorder

    async def collect(self, seconds: float) -> Pass:
        """Make a pass, or share one."""
        ...

    async def examined(self) -> Examination:
        """Return what the rules say of the latest pass."""
        ...

    @property
    def statuses(self) -> list[Status]:
        """The statuses of all sources."""
        ...

    def own_samples(self) -> Iterable[Sample]:
        """Yield the samples that no collector yields."""
        ...


class Pages:
    """Makes pages. Whatever takes long runs in the sampling thread, so that no page delays a scrape's last step or another's answer.

    `culprits` finds the processes of a container that leave zombies; it is called in the sampling thread, and may raise ReadError.
    """

    def __init__(self, agent: Agent, culprits: Callable[[Node, ContainerKey], Sequence[Culprit]] = forensics.culprits) -> None:
        self._agent = agent
        self._culprits = culprits
        self._last: Overview | None = None
        self._turn = asyncio.Lock()

    async def index(self) -> bytes:
        """Return the page of all containers."""
        from agent.web.index_page import DEATHS, index_page  # noqa: PLC0415 - few look at pages, and what makes them holds memory
        from agent.web.node_part import About  # noqa: PLC0415 - as above

        seen, agent = await self._look(), self._agent
        deaths = await asyncio.to_thread(agent.casebook.verdicts, DEATHS)
        notes = [*agent.notes, *([f"Casebook: {agent.casebook.reason}"] if agent.casebook.reason else []), *agent.web_trouble()]
        about = About(agent.config.telemetry_path, agent.statuses, agent.config.collectors, notes, platform.node())
        return await self._made(lambda: index_page(seen, deaths, about).encode())

    async def container(self, wanted: Mapping[str, str]) -> bytes | None:
        """Return the page of one container, by its labels in an address; None if nothing is known of it."""
        from agent.web.container_page import Life, container_page  # noqa: PLC0415 - as above
        from agent.web.parts import addressable  # noqa: PLC0415 - as above
        from collectors.inquest.case import case_of  # noqa: PLC0415 - as above
        from collectors.inquest.timeline import timeline  # noqa: PLC0415 - as above

        seen, agent = await self._look(), self._agent
        asked = tuple(wanted.get(name, "") for name in ("namespace", "pod", "container"))
        known = (*seen.by_labels, *seen.ended)
        labels = next((labels for labels in known if tuple(map(addressable, labels)) == asked), asked)
        view, info = seen.by_labels.get(labels), seen.ended.get(labels)
        namespace, pod, container = labels
        ends = await asyncio.to_thread(partial(agent.casebook.verdicts, MOST_ENDS, namespace=namespace, pod=pod, container=container))
        if view is None and info is None and not ends:
            return None
        # One that has just ended has no verdict yet, and is known by its id.
        key = ContainerKey((info or {}).get("container_id", "").rpartition("/")[2]) if view is None else view.key
        keys = {*(str(row["identifier"]) for row in ends), key}
        victims = await asyncio.to_thread(agent.casebook.victims, MOST_ENDS, keys)
        facts = agent.cases.facts(key)
        culprits = await self._culprits_of(key) if view is not None and any(view.zombies.values()) else ()
        history = agent.recorder.history

        def make() -> bytes:
            life = Life(
                timeline=timeline(case_of(facts)) if facts else (),
                verdicts=ends,
                victims=victims,
                culprits=culprits,
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
        agent = self._agent
        done = await agent.collect(PASS_SECONDS)
        samples = [*agent.own_samples(), *done.samples]
        history, now = agent.recorder.history, time.time()
        examination = await agent.examined()
        return await self._made(
            lambda: overview(
                samples,
                time=now,
                living=done.living,
                failures=done.failures,
                examination=examination,
                rates=history.rates if history is not None else lambda labels: UNKNOWN_RATES,
            )
        )

    async def _culprits_of(self, key: ContainerKey) -> Sequence[Culprit]:
        try:
            return await self._agent.gather.ask(lambda node: self._culprits(node, key), PASS_SECONDS)
        except Exception as error:  # the rest of the page is as good without them
            log.debug("culprits not found", exc_info=error)
            return ()

    async def _made(self, job: Callable[[], T]) -> T:
        return await self._agent.gather.run(job)

    def _forget(self) -> None:
        self._last = None
