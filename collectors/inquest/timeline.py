"""What happened to a container and when, in words. Pure."""

from collections.abc import Iterator

from collectors.inquest.case import Case
from collectors.inquest.exit_status import name_of
from collectors.inquest.facts import (
    Born,
    Created,
    Emptied,
    Fact,
    Faulted,
    HealthReported,
    OomReported,
    OomVictim,
    Paused,
    Removed,
    Resumed,
    Signalled,
    Started,
    StopRequested,
    StopReturned,
)
from collectors.inquest.stops import SECOND, is_possible
from collectors.inquest.words import duration, process, quoted

_MOST = 60
"""Lines. A container may pause or be signalled for years: the first and the last of them are kept."""
_FIRST = 10

_PLAIN: dict[type[Fact], str] = {
    Created: "created",
    Born: "its cgroup was made",
    Started: "started",
    StopReturned: "the stop returned",
    Paused: "paused",
    Resumed: "resumed",
    Emptied: "its last process ended",
    Removed: "removed",
}


def timeline(case: Case) -> tuple[tuple[float, str], ...]:
    """Return what happened, the first first; what two sources told of one moment stands there once."""
    lines = sorted(_lines(case), key=lambda line: line[0])
    latest: dict[str, float] = {}
    kept = []
    for time, text in lines:
        if text not in latest or time - latest[text] > SECOND:
            kept.append((time, text))
        latest[text] = time
    return tuple(kept) if len(kept) <= _MOST else (*kept[:_FIRST], *kept[_FIRST - _MOST :])


def _lines(case: Case) -> Iterator[tuple[float, str]]:
    for fact in case.facts:
        if text := _words(fact):
            yield fact.time, text
    if case.ended is not None:
        yield case.ended, _end(case)


def _words(fact: Fact) -> str:
    match fact:
        case StopRequested():
            by = f" by {quoted(fact.by)}" if fact.by else ""
            grace = f", with a grace of {duration(fact.grace_seconds)}" if is_possible(fact.grace_seconds) else ""
            return f"a stop was asked for{by}{grace}"
        case Signalled():
            by = f" by {quoted(fact.by)}" if fact.by else ""
            return f"{name_of(fact.signal)} was sent{by}" + (", which the kernel discarded" if fact.is_accepted is False else "")
        case OomVictim():
            return f"the OOM killer took {process(fact)}"
        case OomReported() | HealthReported():
            return f"{quoted(fact.source)} said OOM" if isinstance(fact, OomReported) else f"its health check said {fact.status}"
        case Faulted():
            return f"a fault of PID {fact.pid}: {quoted(fact.text)}"
        case _:
            return _PLAIN.get(type(fact), "")


def _end(case: Case) -> str:
    if case.end is None:
        return "ended"
    if case.end.signal is not None:
        return f"ended by {name_of(case.end.signal)}"
    return f"ended with exit code {case.end.code}"
