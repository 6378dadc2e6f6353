"""Why one instance of a container ended: a set of facts to one verdict. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from collectors.inquest.case import Case, case_of
from collectors.inquest.evidence import sentences, stop_time
from collectors.inquest.facts import NO_CONTAINER, Created, Fact, Removed, Started, Watched
from collectors.inquest.rules import RULES
from collectors.inquest.stop_conditions import stop_signal_at
from collectors.inquest.stops import SECOND
from collectors.inquest.timeline import timeline
from collectors.kernel.container_id import ContainerKey

CAUSES = ("completed", "error", "stopped", "forced_kill", "oom_kill", "killed", "crashed", "unknown")
"""Every cause that a verdict may have, as the label `cause` spells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why one life of a container ended. Times are seconds of the wall clock; None is not known.

    `container` and `instance` identify the life: the inode of its cgroup, or where no source knew it the microsecond it began or ended.
    """

    container: ContainerKey
    instance: int
    cause: str
    created: float | None = None
    started: float | None = None
    stop_requested: float | None = None
    ended: float | None = None
    removed: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    """That ended its init."""
    stop_signal: int | None = None
    stop_seconds: float | None = None
    """From the request to the end."""
    grace_seconds: float | None = None
    """From the stop signal to SIGKILL, as it really was."""
    evidence: tuple[str, ...] = ()
    """What the cause follows from, the most important first, a sentence each."""
    missing: tuple[str, ...] = ()
    """The facts without which it could not be told, or not for sure."""
    sources: tuple[str, ...] = ()
    """Who told of it: labels of coroner_source_up."""
    rule: str = ""
    """Which of the rules for causes held."""
    how: str = ""
    """How the exit status was learnt: Exited.how; empty if it was not."""
    timeline: tuple[tuple[float, str], ...] = ()
    """What happened and when, the first first."""


_LARGEST = 2**63 - 1
_Fact = TypeVar("_Fact", bound=Fact)


def judge(facts: Iterable[Fact]) -> Verdict:
    """Say why one life of one container ended, from its facts in any order, some of them twice, some of them missing."""
    case = case_of(facts)
    rule = next(rule for rule in RULES if rule.holds(case))
    ended, end, stop = case.ended, case.end, case.stop
    started = _before(_time(case, Started), ended)
    asked = _before(stop_time(case), ended)
    killed = None if case.kill is None else case.kill.time
    stop_signal = case.settings.signal if stop is None or stop.signal is None else stop.signal
    return Verdict(
        container=min((fact.container for fact in case.facts), default=NO_CONTAINER),
        instance=_instance(case),
        cause=rule.cause,
        created=_before(_before(_time(case, Created), ended), started),
        started=started,
        stop_requested=asked,
        ended=ended,
        removed=_after(_time(case, Removed), ended),
        exit_code=None if end is None else end.code,
        signal=None if end is None else end.signal,
        stop_signal=stop_signal,
        stop_seconds=_between(asked, ended),
        grace_seconds=_between(stop_signal_at(case), killed),
        evidence=sentences(rule, case),
        missing=rule.missing(case),
        sources=tuple(sorted({fact.source for fact in case.facts if not isinstance(fact, Watched)})),
        rule=rule.name,
        how="" if end is None else end.how,
        timeline=timeline(case),
    )


def _instance(case: Case) -> int:
    inodes = [fact.inode for fact in case.facts if fact.inode is not None and 0 < fact.inode <= _LARGEST]
    if inodes:
        return min(inodes)
    times = (_time(case, Started), _time(case, Created), case.ended, *(fact.time for fact in case.facts[:1]))
    return next((min(round(time * 1_000_000), _LARGEST) for time in times if time is not None), 0)


def _time(case: Case, kind: type[_Fact]) -> float | None:
    """Return when the first fact of a kind happened."""
    return next((fact.time for fact in case.facts if isinstance(fact, kind)), None)


def _before(time: float | None, later: float | None) -> float | None:
    """Return a time that cannot be after another: at most that, and None if the clock was set in between."""
    if time is None or later is None:
        return time
    return min(time, later) if time <= later + SECOND else None


def _after(time: float | None, earlier: float | None) -> float | None:
    if time is None or earlier is None:
        return time
    return max(time, earlier) if time >= earlier - SECOND else None


def _between(first: float | None, last: float | None) -> float | None:
    return None if first is None or last is None or last < first else last - first
