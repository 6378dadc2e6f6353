"""The composition root: everything the agent is made of is built and joined here. Read this first.

A scrape asks the web routes for a page; they ask Gather for a pass; it takes a census (one walk of the cgroup tree joined to the
identities) and runs every collector over it in the sampling thread; Page renders the samples. Beside that, sources follow what cannot be
read later and tell facts to the register: what containers are called goes on to the identities, OOM kills to the kill ledger. What must
outlive the agent the ledger gives to the casebook.
"""

import asyncio
import gc
import logging
import os
import platform
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector

from agent import __version__
from agent.cases import Cases
from agent.census import Census
from agent.cgroup_root import find_cgroup_root
from agent.config import Config
from agent.followed import follow
from agent.gather import Gather, Pass
from agent.history import History, Recorder
from agent.identities import KEEP_DEAD_SECONDS, Identities, never_started
from agent.inits import Inits
from agent.kept import Kept, keep
from agent.log_pids import LogPids
from agent.naming import LISTED_WITHIN_SECONDS
from agent.notify import Notifier, keep_told
from agent.own_process import OwnProcess
from agent.page import Page, registry_lines
from agent.particulars import with_names
from agent.postmortem import Postmortem
from agent.proc_status import SCANNING, ProcStatus
from agent.register import Register
from agent.status import Status, have_answered
from agent.supervise import keep_running
from agent.web.endpoint import serve
from agent.web.routes import DEFAULT_SCRAPE_SECONDS, MOST_VERDICTS, MOST_VICTIMS, Routes
from agent.web.view import Pages
from agent.zero_first import ZeroFirst
from collectors import all_collectors, oom
from collectors.base import Node, Sample, Samples, gauge
from collectors.deaths import DeathCounts
from collectors.findings import Examination, Findings, blinded
from collectors.inquest.kills import KillLedger
from collectors.kernel import cgroupfs
from collectors.life import Life

BUILD_INFO = gauge("coroner_build_info", "Always 1; version of the agent and of Python.", ("version", "python_version"))

METRICS = (BUILD_INFO,)

OWN_CGROUP = "/sys/fs/cgroup"
"""Where the agent sees its own cgroup namespace, wherever the host's tree is mounted (--path.cgroupfs)."""

WALK_SECONDS = 10.0
"""The cgroup tree is walked at least so often, scraped or not: notifications are hints, and this finds what they miss."""

_FIRST_LOG_SECONDS = 60.0
"""How long the baseline waits for the kernel log to be read to its end: not for ever, a flood may go on."""

_FIRST_NAMES_SECONDS = 3.0
"""How long one page waits for the first list of names: a daemon has a minute of scrapes for that, one page has not."""

_FRESH_SECONDS = 5.0
"""How old the pass may be that is examined for a person who asks now."""

log = logging.getLogger(__name__)


class App:
    """One agent. Nothing runs until `run` or `page` is awaited, so a test makes as many as it likes."""

    def __init__(self, config: Config, kept: Kept | None = None) -> None:
        """Build it. `kept`: what it begins with and where it keeps what it counts; if not given, its own casebook."""
        self.config = config
        self.notes: list[str] = []
        self._proc = ProcStatus(config.procfs)
        self.cgroup_status, self.proc_status = Status("cgroup"), self._proc.status

        local_events = cgroupfs.events_are_local(f"{config.procfs}/self/mountinfo")
        identities = Identities()
        kept = kept or keep(config)
        self.casebook = kept.casebook
        ledger = KillLedger(kept.casebook, kept.state, same_boot=kept.same_boot)
        cgroup_root = find_cgroup_root(config, self.cgroup_status, self.notes)
        self.inits = Inits(config.procfs)
        postmortem = Postmortem(proc_root=config.procfs, cgroup_root=cgroup_root, is_init=self.inits.is_init)
        self.cases = Cases(casebook=kept.casebook, identities=identities, history=kept.history)
        self.cases.recent.restore(kept.recent())
        register = Register(
            identities=identities,
            ledger=ledger,
            cases=self.cases,
            inits=self.inits,
            postmortem=postmortem,
            log_pids=LogPids(config.procfs),
            local_events=local_events,
        )
        followed = follow(config, register, identities, ledger, cgroup_root=cgroup_root, since=kept.history)
        self.kernel_log, self.sources, cgroup, layers = followed.kernel_log, followed.all, followed.cgroup, followed.layers
        self.census = Census(
            cgroup_root=cgroup_root,
            proc_root=config.procfs,
            identities=identities,
            status=self.cgroup_status,
            own_cgroup_inode=_inode(OWN_CGROUP),
            names={**kept.casebook.ended_since(time.time() - KEEP_DEAD_SECONDS), **ledger.known},
            killed=ledger.killed,
            rests_told=partial(have_answered, [source.status for source in followed.names]),
            deaths=cgroup.last_words if cgroup else dict,
        )
        self.findings = Findings(self._blind, self.cases.recent.counts)
        self.gather = Gather(
            census=self.census,
            collectors=[
                collector
                for collector in all_collectors(
                    ledger,
                    DeathCounts(kept.deaths, lambda: self.cases.stops.last),
                    Life(
                        register.starts,
                        cgroup.freezes if cgroup is not None else None,
                        partial(never_started, identities),
                        execs=followed.execs,
                    ),
                    config.pod_labels,
                    local_events=local_events,
                    layers=layers.found if layers else dict,
                    stop_signal=register.stop_signals.of,
                    findings=self.findings,
                    layer_ends=layers.ends.sizes if layers else dict,
                )
                if collector.name in config.collectors and (kept.has_counts or collector.name not in (oom.Oom.name, DeathCounts.name))
            ],
            proc_root=config.procfs,
            assess=self._assess,
            counted=followed.compares,
        )
        self._page, self._zero_first = Page(), ZeroFirst()
        self._registry = _registry(config, self.cases)
        self._failures: Mapping[str, str] = {}
        self.recorder = Recorder(History() if config.history else None, self.gather.run)
        self._ready = asyncio.Event()
        self.web_trouble: Callable[[], list[str]] = list
        """What of the web configuration could not be reloaded."""

    @property
    def statuses(self) -> list[Status]:
        """Of all sources: of the two that a pass reads, and of those that are followed. Not all collectors look at processes."""
        passes = [self.cgroup_status, *([self.proc_status] if {*SCANNING} & {*self.config.collectors} else [])]
        return [*passes, *(source.status for source in self.sources)]

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises CannotListen when the address cannot be listened on."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        # Its default is to end the process: with the terminal, or by whoever expects a new configuration to be read.
        loop.add_signal_handler(signal.SIGHUP, log.warning, "SIGHUP does nothing: configuration is read at the start, restart the agent")
        routes = Routes(
            render=self.render,
            is_ready=self._ready.is_set,
            pages=Pages(self),
            victims=partial(self.casebook.victims, MOST_VICTIMS),
            verdicts=partial(self.casebook.verdicts, MOST_VERDICTS),
            findings=self.named,
            telemetry_path=self.config.telemetry_path,
        )
        config = self.config
        endpoint = await serve(routes.application(), config.listen, config.web_config, systemd=config.systemd_socket)
        self.web_trouble = endpoint.trouble
        try:
            for address in endpoint.addresses:
                log.info("listening", extra={"address": address, "tls": endpoint.has_tls, "version": __version__})
            async with asyncio.TaskGroup() as tasks:
                followers = self._follow(tasks)
                # The first pass takes the baseline: what memory.events counts by now happened before the agent, and is not counted.
                first = tasks.create_task(self._first_pass(), name="first pass")
                house = tasks.create_task(self.casebook.keep_house(), name="casebook")
                closing = tasks.create_task(self.cases.keep_closing(), name="cases")
                notifier = Notifier()
                resync = tasks.create_task(
                    self.gather.resync(
                        notifier.in_time(WALK_SECONDS), lambda: {oom.Oom.name, *self.recorder.wanted()}, take=self.recorder.take
                    ),
                    name="resync",
                )
                told = tasks.create_task(keep_told(self._ready, lambda: self.gather.ended, notifier), name="systemd")
                await stop.wait()
                log.info("stopping")
                for task in (told, *followers, first, house, closing, resync):
                    task.cancel()
        finally:
            await endpoint.close()
            self.cases.write_down()
            self.casebook.close()

    async def page(self, *, openmetrics: bool = False) -> bytes:
        """Make one page, without a server."""
        async with self.following():
            return await self.render(DEFAULT_SCRAPE_SECONDS, openmetrics=openmetrics, compressed=False)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the sources, without a server; each has looked once, or had its time to."""
        async with asyncio.TaskGroup() as tasks:
            followers = self._follow(tasks)
            try:
                await asyncio.gather(*(source.status.looked(_FIRST_NAMES_SECONDS) for source in self.sources))
                yield
            finally:
                for task in followers:
                    task.cancel()

    async def examine(self) -> Examination:
        """Examine the node once, without a server and without waiting for names that nobody tells."""
        async with self.following():
            await self.gather.look(DEFAULT_SCRAPE_SECONDS)
            self.census.ahead = LISTED_WITHIN_SECONDS
            return await self.named()

    async def examined(self) -> Examination:
        """Return what the rules say of the latest pass; of a new one if that is older than a few seconds."""
        if not 0 <= time.time() - self.findings.latest.time <= _FRESH_SECONDS:
            await self.collect(DEFAULT_SCRAPE_SECONDS)
        if Findings.name not in self.config.collectors:
            return blinded(f"the collector {Findings.name} is off (--no-collector.{Findings.name})", time.time())
        if reason := self._failures.get("census") or self._failures.get(Findings.name):
            return blinded(reason, time.time())
        return self.findings.latest

    async def named(self) -> Examination:
        """Return the same with the names behind what is found, which are looked for now."""
        return await with_names(await self.examined(), self.gather, DEFAULT_SCRAPE_SECONDS)

    async def render(self, seconds: float, openmetrics: bool, compressed: bool, scraper: str = "") -> bytes:
        """Make one pass, within `seconds`, and the body that shows it to a scraper; empty is nobody who scrapes."""
        # The samples of a large node are megabytes: nobody keeps them longer than the page needs.
        done = await self.collect(seconds)
        samples = Samples(self.own_samples())
        samples.add(done.samples)
        del done

        def body() -> bytes:
            extra = registry_lines(self._registry, openmetrics=openmetrics)
            for before, now in self.census.served():
                self._zero_first.moved(before, now)
                self.recorder.moved(before, now)
            shown = self._zero_first.shown(samples, scraper, self.census.older_than_agent)
            render = self._page.compressed if compressed else self._page.render
            return render(shown, openmetrics=openmetrics, extra=extra)

        return await self.gather.run(body)

    async def collect(self, seconds: float) -> Pass:
        """Make a pass within so many seconds, or share the one that is under way."""
        done = await self.gather.collect(seconds)
        self._failures = done.failures
        await self.recorder.take(done)
        return done

    async def _first_pass(self) -> None:
        # What was logged while the agent was down has its names there; and who is ready has told history from what is to come.
        await self.kernel_log.status.looked(_FIRST_LOG_SECONDS)
        await self.collect(DEFAULT_SCRAPE_SECONDS)
        self._ready.set()
        # What is alive now stays: looking through it again and again would stop the event loop for longer than all else here.
        gc.collect()
        gc.freeze()

    def _follow(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        return [tasks.create_task(keep_running(source), name=source.status.source) for source in self.sources]

    def own_samples(self) -> Iterable[Sample]:
        """Yield the samples that no collector yields."""
        yield BUILD_INFO, (__version__, platform.python_version()), 1
        for status in self.statuses:
            yield from status.samples()
        for source in self.sources:
            yield from source.samples()
        yield from self.census.samples()
        yield from self.casebook.samples()
        yield from self.cases.samples()

    def _blind(self, node: Node) -> Mapping[str, str]:
        """Say of the sources that should be there and cannot be read why; of /proc by this pass, in which it has just been read."""
        blind = {status.source: status.reason for status in self.statuses if status.is_expected and not status.is_up}
        blind.pop(self.proc_status.source, None)
        if reason := self._proc.forbidden(node):
            blind[self.proc_status.source] = reason
        return blind

    def _assess(self, node: Node, failures: Mapping[str, str]) -> None:
        """Judge /proc by the pass that has just read it, and let the cases know who is there."""
        self.cases.see(node)
        self._proc.assess(node, failures)
        if node.scans:
            self.inits.scanned(node, node.scans[0].namespaces)


def _registry(config: Config, cases: Cases) -> CollectorRegistry:
    """Make what prometheus_client renders: a histogram, and what it tells of the agent's own process."""
    registry = CollectorRegistry()
    if DeathCounts.name in config.collectors:
        cases.stops.show(registry)
    if config.exporter_metrics:
        registry.register(OwnProcess())
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
    return registry


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
