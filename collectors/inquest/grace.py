"""How much of its grace period a stop had left. Pure."""

from collections.abc import Iterable

from collectors.inquest.case import case_of
from collectors.inquest.facts import Fact
from collectors.inquest.verdict import Verdict


def grace_left(facts: Iterable[Fact], verdict: Verdict) -> float | None:
    """Return the seconds of the grace period that were left when the container ended; 0 if SIGKILL ended it.

    None: nobody asked it to stop, or the grace is not known. It is that of the stop request, where that has one (the deletion of a pod),
    else the configured one: of `docker stop -t` Docker tells nobody. A stop that took longer, and was not forced, had another one.
    """
    if verdict.stop_seconds is None:
        return None
    if verdict.cause == "forced_kill":
        return 0.0
    case = case_of(facts)
    stop = case.stop
    if stop is not None and stop.deadline is not None and case.ended is not None:
        left = stop.deadline - case.ended
    else:
        grace = case.settings.seconds if stop is None else stop.grace
        if grace is None:
            return None
        left = grace - verdict.stop_seconds
    return left if left >= 0 else None
