"""What the facts of one life of a container say together, before it is decided why it ended. Pure."""

import signal as signals
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from collectors.inquest.exit_status import Exit, believed, resolved
from collectors.inquest.facts import (
    Born,
    Configured,
    Created,
    Emptied,
    Exited,
    Fact,
    Faulted,
    HealthReported,
    LayerMeasured,
    OomReported,
    OomVictim,
    Paused,
    Removed,
    Resumed,
    Signalled,
    Started,
    StopRequested,
    StopReturned,
    Watched,
)
from collectors.inquest.stops import (
    SECOND,
    Settings,
    Stop,
    asking_signals,
    certain_stop,
    is_possible,
    sent,
    settings_of,
    watchers,
    window,
)
from collectors.kernel.cgroupfs import MemoryEvents

KINDS: tuple[type[Fact], ...] = (
    Created,
    Born,
    Started,
    Configured,
    Watched,
    StopRequested,
    Signalled,
    StopReturned,
    Paused,
    Resumed,
    OomVictim,
    Faulted,
    OomReported,
    HealthReported,
    Exited,
    Emptied,
    LayerMeasured,
    Removed,
)
"""The facts that matter to why a container ended, or are told beside it."""

AT_THE_END = 10.0
"""Seconds before the end within which a fault or an OOM kill has to do with it."""


@dataclass(frozen=True, slots=True)
class Case:
    """The facts in the order in which they happened, each once, and what they say together."""

    facts: tuple[Fact, ...]
    began: float | None
    """When its init was started, else when its cgroup was made."""
    ended: float | None
    end: Exit | None
    """How its init ended; None: not told."""
    settings: Settings
    stop: Stop | None
    """The stop that was asked for for certain."""
    signals: tuple[Signalled, ...]
    """What somebody sent to its init."""
    asking: tuple[Signalled, ...]
    """Those of them that may be a stop's."""
    victims: tuple[OomVictim, ...]
    faults: tuple[Faulted, ...]
    """Those from AT_THE_END seconds before the end on."""
    memory: MemoryEvents | None
    """memory.events as read last; None: nobody has read it."""
    is_watched: bool
    """Somebody would have told of a stop."""
    signal_watchers: frozenset[str]
    """Sources that would have told of every signal, or of those of their own stops."""
    is_oom_watched: bool

    def is_init(self, victim: OomVictim | Faulted) -> bool | None:
        """Whether a victim, or what faulted, was the init; None: not known."""
        if isinstance(victim, OomVictim) and victim.is_init is not None:
            return victim.is_init
        pids = {fact.pid for fact in self.facts if isinstance(fact, Started) and fact.pid is not None}
        return victim.pid in pids if pids else None

    @property
    def init_victim(self) -> OomVictim | None:
        """The init as a victim of the OOM killer."""
        return next((victim for victim in self.victims if self.is_init(victim)), None)

    @property
    def is_oom_excluded(self) -> bool:
        """Whether the OOM killer did not take the init: the log would have told, or the kernel counted none."""
        if any(self.is_init(victim) is not False for victim in self.victims):
            return False
        counted = None if self.memory is None else self.memory.oom_kill
        return counted == 0 or (self.is_oom_watched and (counted is None or bool(self.victims)))

    @property
    def kill(self) -> Signalled | None:
        """The SIGKILL that was sent."""
        return next((fact for fact in self.signals if fact.signal == signals.SIGKILL), None)


def matters(fact: Fact) -> bool:
    """Whether a verdict may depend on a fact: on its kind, and it has a time that can be."""
    return isinstance(fact, KINDS) and is_possible(fact.time)


def case_of(told: Iterable[Fact]) -> Case:
    """Put together what is known. A time that cannot be is that of nothing."""
    facts = _in_order(told)
    settings = settings_of(facts)
    began = _first(facts, Started, Born)
    exits = [fact for fact in facts if isinstance(fact, Exited)]
    end = believed(exits)
    if end is not None and began is not None and began - SECOND <= end.time < began:  # Docker's FinishedAt may be before StartedAt
        ended: float | None = began
    elif end is not None:
        ended = end.time
    else:
        ended = _first(facts, Exited)
        ended = _first(facts, Emptied) if ended is None else ended
    since = float("-inf") if ended is None else window(began, ended, settings)
    stop_watchers = watchers(facts, "stops", since)
    signal_watchers = watchers(facts, "signals", since)
    signalled = sent(facts)
    stop = certain_stop(facts, max((fact.time for fact in exits), default=ended), settings, stop_watchers)
    if stop is not None and stop.is_returned and stop.source in stop_watchers:  # a runtime tells the signals of its stop
        signal_watchers |= {stop.source}
    victims = tuple(fact for fact in facts if isinstance(fact, OomVictim))
    near = float("-inf") if ended is None else ended - AT_THE_END
    case = Case(
        facts=facts,
        began=began,
        ended=ended,
        end=end,
        settings=settings,
        stop=stop,
        signals=signalled,
        asking=asking_signals(facts, stop_watchers),
        victims=victims,
        faults=tuple(fact for fact in facts if isinstance(fact, Faulted) and fact.time >= near),
        memory=_memory(facts),
        is_watched=bool(stop_watchers),
        signal_watchers=signal_watchers,
        is_oom_watched=ended is not None and bool(watchers(facts, "oom_kills", window(began, ended, Settings(), longest=0.0))),
    )
    if end is None:
        return case
    is_kill_told = case.kill is not None or case.init_victim is not None
    return replace(case, end=resolved(end, is_kill_told=is_kill_told))


def _in_order(told: Iterable[Fact]) -> tuple[Fact, ...]:
    """Return each fact once, by time; what happened at one time in an order that does not depend on how it was told."""
    facts = {repr(fact): fact for fact in told if matters(fact)}
    return tuple(fact for _, fact in sorted(facts.items(), key=lambda item: (item[1].time, item[0])))


def _first(facts: Sequence[Fact], *kinds: type[Fact]) -> float | None:
    """Return when the first of the first of these kinds happened that any fact is of."""
    for kind in kinds:
        for fact in facts:
            if isinstance(fact, kind):
                return fact.time
    return None


def _memory(facts: Sequence[Fact]) -> MemoryEvents | None:
    read = [fact.words.memory_events for fact in facts if isinstance(fact, Emptied) and fact.words is not None]
    return next((events for events in reversed(read) if events is not None and events.oom_kill is not None), None)
