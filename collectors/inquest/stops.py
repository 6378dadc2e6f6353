"""Which stop was asked for, if any, and who would have told of one. Pure.

A stop is certain if somebody says so: the deletion of a pod, or a runtime whose stop has returned. A stop signal alone may be a stop or
`docker kill -s TERM`, which the process cannot tell apart either.
"""

import signal as signals
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

from collectors.inquest.exit_status import LAST_SIGNAL
from collectors.inquest.facts import Configured, Fact, Signalled, StopRequested, StopReturned, Watched

KERNEL = "kernel"
"""Signalled.by of a signal that nobody sent: the OOM killer's, or of the end of a PID namespace."""

DEFAULT_GRACE = 10.0
"""Seconds, of `docker stop`."""

_LONGEST_GRACE = 30.0
"""Seconds a stop may be under way of which nothing is known; a longer grace is configured."""
_SLACK = 10.0
"""Seconds that a runtime is late."""
_END_OF_TIME = 1e15
"""Seconds; more is none that anybody meant."""
SECOND = 1.0
"""What times differ by that are cut to whole seconds, or taken by different clocks."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a container was told to do about stops; None is not told."""

    signal: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop that was asked for."""

    time: float | None
    signal: int | None
    """None: not known which one."""
    by: str
    grace: float | None
    deadline: float | None
    """When SIGKILL was due, where only the request is told and not the signals."""
    source: str
    is_returned: bool = False
    """A runtime said that it is done."""


def is_possible(seconds: float | None) -> TypeGuard[float]:
    """Whether a time or a duration is one that can be."""
    return seconds is not None and 0 <= seconds < _END_OF_TIME  # NaN is in no range


def is_signal(number: int | None) -> TypeGuard[int]:
    """Whether there is such a signal."""
    return number is not None and 0 < number <= LAST_SIGNAL


def settings_of(facts: Iterable[Fact]) -> Settings:
    """Return the settings; of several the last."""
    told = [fact for fact in facts if isinstance(fact, Configured)]
    numbers = [fact.stop_signal for fact in told if is_signal(fact.stop_signal)]
    seconds = [fact.stop_seconds for fact in told if is_possible(fact.stop_seconds)]
    return Settings(numbers[-1] if numbers else None, seconds[-1] if seconds else None)


def watchers(facts: Iterable[Fact], kind: Literal["stops", "signals", "oom_kills"], since: float) -> frozenset[str]:
    """Return the sources that would have told of all that is of this kind from then on. One with a gap after it would not."""
    latest: dict[str, float] = {}
    for fact in facts:
        if isinstance(fact, Watched) and fact.kind == kind:
            latest[fact.source] = max(fact.time, latest.get(fact.source, fact.time))
    return frozenset(source for source, time in latest.items() if time <= since)


def window(began: float | None, ended: float, settings: Settings, *, longest: float = _LONGEST_GRACE) -> float:
    """Return the earliest time at which that could have happened which ended it."""
    earliest = ended - max(settings.seconds or 0.0, longest) - _SLACK
    return earliest if began is None else max(earliest, min(began, ended))


def sent(facts: Iterable[Fact]) -> tuple[Signalled, ...]:
    """Return the signals that somebody sent to its init."""
    return tuple(fact for fact in facts if isinstance(fact, Signalled) and fact.by != KERNEL and is_signal(fact.signal))


def certain_stop(facts: Sequence[Fact], ended: float | None, settings: Settings, stop_watchers: frozenset[str]) -> Stop | None:
    """Return the stop that somebody says was asked for before the end; None if nobody does."""
    returned = [fact for fact in facts if isinstance(fact, StopReturned)]
    if returned:
        return _stop_that_returned(returned[0], sent(facts), settings, stop_watchers)
    requests = [fact for fact in facts if isinstance(fact, StopRequested) and (ended is None or fact.time <= ended + SECOND)]
    if not requests:
        return None
    first = requests[0]
    graces = [
        (fact.time + grace, grace)
        for fact in requests
        if is_possible(grace := fact.grace_seconds if is_possible(fact.grace_seconds) else settings.seconds)
    ]
    deadline, grace = min(graces, default=(None, None))
    number = next((fact.signal for fact in requests if is_signal(fact.signal)), settings.signal)
    return Stop(first.time, signals.SIGTERM if number is None else number, first.by, grace, deadline, first.source)


def _stop_that_returned(returned: StopReturned, signalled: Sequence[Signalled], settings: Settings, stop_watchers: frozenset[str]) -> Stop:
    """Find the signals of that stop: SIGKILL is its last, and it sends its stop signal once; those before are of others."""
    wanted = settings.signal or signals.SIGTERM
    milder = [fact for fact in signalled if fact.signal != signals.SIGKILL]
    kills = [fact for fact in signalled if fact.signal == signals.SIGKILL]
    first = next(
        iter([fact for fact in reversed(milder) if fact.signal == wanted] or milder[::-1]),
        kills[0] if kills and (settings.signal == signals.SIGKILL or returned.source in stop_watchers) else None,
    )
    by = f"{returned.source} stop"
    if first is None:  # its signals were not seen, or not the first
        return Stop(None, None if kills else settings.signal, by, settings.seconds, None, returned.source, is_returned=True)
    return Stop(first.time, first.signal, by, settings.seconds, None, returned.source, is_returned=True)


def asking_signals(facts: Sequence[Fact], stop_watchers: frozenset[str]) -> tuple[Signalled, ...]:
    """Return the signals that may be a stop's. Where somebody watches stops, those of others are not: it would have told of a stop."""
    return tuple(fact for fact in sent(facts) if fact.signal != signals.SIGKILL and (not stop_watchers or fact.source in stop_watchers))
