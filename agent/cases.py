"""The cases: facts by life of a container until it is settled why it ended; then one verdict, kept and counted once.

The register tells facts, in the event loop. What is open is in the casebook too, so that a stop request seen by one agent and the death
seen by the next make one verdict. History is not counted: what ended before there was a casebook.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from agent.casebook import Casebook, CaseKey
from agent.identities import Identities
from agent.open_case import OpenCase, ahead, place
from agent.recent import RecentDeaths
from agent.settled_lives import SettledLives
from agent.stops import Stops
from collectors.base import CONTAINER, Node, Sample, counter, gauge
from collectors.inquest.case import matters
from collectors.inquest.fact_text import from_text, to_text
from collectors.inquest.facts import Born, Emptied, Exited, Fact, Removed, Watched
from collectors.inquest.kill_state import Labels
from collectors.inquest.verdict import Verdict, judge
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey

MOST_OPEN = 10_000
"""Cases; beyond that the one that ended first is settled with what is known of it."""
LOOK_SECONDS = 0.5
NAME_SECONDS = 10.0
"""So long after the end a case waits for the name of its container, and has its id then: names come no later (naming.py)."""
_MOST_WRITTEN = 50
"""Open cases that one look writes down: what is begun at the agent's start may be a thousand, and would stop the event loop."""

STATUSES = counter(
    "coroner_exit_statuses_total",
    "Ended containers by how their exit status was learnt: from the kernel (reaped, zombie), from the runtime's event or file (runtime), "
    "from the kubelet, by asking the runtime later (inspect), or not at all (none).",
    ("source",),
)
OPEN = gauge("coroner_open_cases", "Lives of containers whose end is not settled: those that run, and those that have just ended.", ())
SETTLED_EARLY = counter("coroner_cases_settled_early_total", "Deaths settled before all was told, because too many cases were open.", ())

METRICS = (STATUSES, OPEN, SETTLED_EARLY)

_HOW = ("reaped", "zombie", "runtime", "kubelet", "inspect", "none")

log = logging.getLogger(__name__)


class Cases:
    """Takes facts, closes cases.

    `history` is the wall clock up to which the agent before this one has settled all; where there was none, when this one started.
    """

    def __init__(
        self,
        *,
        casebook: Casebook,
        identities: Identities,
        history: float,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.stops = Stops(casebook.last_stops())
        self.recent = RecentDeaths()
        self._casebook = casebook
        self._identities = identities
        self._history = history
        self._clock, self._wall = clock, wall
        self._names: Mapping[ContainerKey, Labels] = {}
        self._sandboxes: Mapping[ContainerKey, Labels] = {}
        self._open: OrderedDict[ContainerKey, list[OpenCase]] = OrderedDict()
        self._count = 0
        self._settled = SettledLives(casebook.settled(), history)
        self._statuses: Counter[str] = Counter()
        self._settled_early = 0
        self._log_since: float | None = None
        self._restore()

    def samples(self) -> Iterable[Sample]:
        """Yield how statuses were learnt, and how many cases are open."""
        for how in _HOW:
            yield STATUSES, (how,), self._statuses[how]
        yield OPEN, (), self._count
        yield SETTLED_EARLY, (), self._settled_early

    def tell(self, fact: Fact) -> None:
        """Take one fact of a container. Those inside of another are not judged: what they are is that one's word."""
        key, cases = fact.container, self._open.get(fact.container, ())
        if not key or key.is_nested or not matters(fact):
            return
        case = ahead(cases, self._wall()) if fact.inode is None else None
        if case is None and self._settled.have(fact, cases):
            return
        known, is_dated = len(cases), case is None
        case = case or place(cases, fact, lambda: self._begin(key))
        if is_dated and isinstance(fact, Exited) and fact.inode is None and fact.time <= self._history and not case.is_restored:
            if len(self._open[key]) > known or (case.inode is None and case.begun <= fact.time):
                self._drop(key, case)  # all of this life was before there was a casebook
            return
        is_urgent = case.add(fact, self._clock())
        if isinstance(fact, Removed) and not case.has_run:
            self._drop(key, case)
        elif is_urgent:
            self._keep(key, case)
        if self._count > MOST_OPEN:
            self._settle_one()

    def follow_log(self, *, is_followed: bool) -> None:
        """Note that from here on the kernel log would tell of every OOM kill, or that it is not followed any more."""
        if is_followed and self._log_since is None:
            self._log_since = self._wall()
            for key, cases in self._open.items():
                for case in cases:
                    self._watch_log(key, case)
        elif not is_followed:
            self._log_since = None

    def facts(self, key: ContainerKey) -> Sequence[Fact]:
        """Return what is known so far of the latest life of a container that is not settled."""
        cases = self._open.get(key)
        return tuple(cases[-1]) if cases else ()

    def see(self, node: Node) -> None:
        """Take what a pass has found: names, and that a case of the agent before this one has ended unseen if its cgroup is not there."""
        self._names, self._sandboxes = node.names, node.sandboxes
        if not node.cgroups or any(container_id.parse(path) is None for path in node.hidden):
            return  # it may be there, where nobody can see it
        living = {(instance.id.key, instance.cgroup.inode) for instance in node.instances}
        for key, cases in self._open.items():
            for case in cases:
                if case.is_unseen:
                    case.is_unseen = False
                    if case.inode is not None and (key, case.inode) not in living:
                        case.lost(self._clock())

    def close_due(self, most_written: int = _MOST_WRITTEN) -> None:
        """Close the cases that are settled, and write down what has changed of so many of the others."""
        now, written = self._clock(), 0
        for key, cases in list(self._open.items()):
            for case in list(cases):
                if case.is_due(now) and (self._labels(key) != () or now - (case.ended or now) >= NAME_SECONDS):
                    self._close(key, case)
                elif case.is_changed and case.has_run and written < most_written:
                    self._keep(key, case)
                    written += 1

    async def keep_closing(self) -> None:
        """For ever: close what is settled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.close_due()
            except Exception:
                log.exception("cases not closed")  # nor is the agent ended by it: it is tried again

    def write_down(self) -> None:
        """At the end: close what is settled, and keep all that is known of the others."""
        self.close_due(most_written=self._count)

    def _restore(self) -> None:
        for kept, text in self._casebook.open_cases().items():
            try:
                facts = from_text(text)
            except ValueError as error:
                log.warning("open case not restored", extra={"id": kept.container, "reason": str(error)})
                self._casebook.drop_case(kept)
                continue
            case = self._begin(kept.container)
            case.kept = kept
            for fact in facts:
                case.add(fact, self._clock())
            case.is_changed, case.is_restored, case.is_unseen = False, True, True
            if kept.boot_id != self._casebook.boot_id:
                case.lost(self._clock())

    def _labels(self, key: ContainerKey) -> Labels | None:
        """Return what a container is called, empty if that is not known (yet); None for a sandbox, which has no deaths."""
        identity = self._identities.known.get(key)
        if key in self._sandboxes or (identity is not None and identity.is_sandbox and not identity.holds_pod):
            return None
        return self._names.get(key) or (identity.name if identity else ())

    def _begin(self, key: ContainerKey) -> OpenCase:
        case = OpenCase()
        self._open.setdefault(key, []).append(case)
        self._count += 1
        if self._log_since is not None:
            self._watch_log(key, case)
        return case

    def _watch_log(self, key: ContainerKey, case: OpenCase) -> None:
        """Note in a case that the log is followed. It is followed from where it was left, so a pause in between is no gap."""
        if not any(watched.kind == "oom_kills" for watched in case.all(Watched)):
            case.add(Watched(container=key, source="kmsg", time=self._log_since or 0.0, kind="oom_kills"), self._clock())

    def _settle_one(self) -> None:
        """Make room: settle what has ended first, or forget what is known of the oldest that runs."""
        ended = ((case.ended, key, case) for key, cases in self._open.items() for case in cases if case.ended is not None)
        if (first := min(ended, key=lambda each: each[0], default=None)) is not None:
            self._settled_early += 1
            self._close(*first[1:])
        else:
            key, cases = next(iter(self._open.items()))
            self._drop(key, cases[0])

    def _keep(self, key: ContainerKey, case: OpenCase) -> None:
        """Have it in the casebook, under its inode as soon as that is known."""
        boot_id = case.kept.boot_id if case.kept else self._casebook.boot_id
        kept = CaseKey(boot_id, key, case.inode or (int(case.begun * 1e6) if case.has_run else 0))
        if case.kept not in (None, kept):
            self._casebook.drop_case(case.kept)
        case.kept, case.is_changed = kept, False
        self._casebook.keep_case(kept, to_text(case))

    def _drop(self, key: ContainerKey, case: OpenCase) -> None:
        """Forget a case: one that is closed, or of what has never run, or of a sandbox."""
        self._open[key].remove(case)
        if not self._open[key]:
            del self._open[key]
        self._count -= 1
        if case.kept is not None:
            self._casebook.drop_case(case.kept)

    def _close(self, key: ContainerKey, case: OpenCase) -> None:
        """Judge a case; keep and count its verdict in one transaction."""
        labels = self._labels(key)
        if labels is not None and case.has_run:
            if not labels:
                self._have_on_page(key, case)
                labels = "", "", key.id[:12]
            verdict = _judged(key, case)
            if self._casebook.close_case(verdict, labels, case.kept):
                self._statuses[verdict.how or "none"] += 1
                self.stops.take(labels, verdict, case)
                self.recent.take(labels, verdict)
                _log_death(verdict, labels)
            case.kept = None
        self._settled.add(key, case, self._wall())
        self._drop(key, case)

    def _have_on_page(self, key: ContainerKey, case: OpenCase) -> None:
        """Have a container called by its id that nobody has named, also if no pass has seen it alive: its death is counted.

        In a pod that Kubernetes lists, or did until it was deleted, who is not named is its sandbox.
        """
        pods = {*(born.id.pod_uid for born in case.all(Born)), *(emptied.id.pod_uid for emptied in case.all(Emptied))}
        if not any(map(self._identities.was_listed, pods)):
            self._identities.hear("cgroup", key)


def _judged(key: ContainerKey, case: OpenCase) -> Verdict:
    """Return the verdict. A fault in the reasoning costs this one its cause, and no death its count."""
    try:
        return judge(case)
    except Exception:
        log.exception("a case could not be judged", extra={"id": key, "facts": [repr(fact) for fact in case][:20]})
        return Verdict(
            container=key, instance=case.inode or int(case.begun * 1e6), cause="unknown", missing=("the verdict: a fault of Coroner",)
        )


def _log_death(verdict: Verdict, labels: Labels) -> None:
    said = {
        **dict(zip(CONTAINER, labels, strict=True)),
        "cause": verdict.cause,
        "exit_code": verdict.exit_code,
        "signal": verdict.signal,
        "stop_seconds": verdict.stop_seconds,
        "evidence": "; ".join(verdict.evidence[:2]),
        "missing": "; ".join(verdict.missing),
        "id": verdict.container,
    }
    log.info("container died", extra={name: value for name, value in said.items() if value not in (None, "") or name in CONTAINER})
