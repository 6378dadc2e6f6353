"""What was left of the grace period follows from the facts of a stop, or is not known."""

import pytest

from collectors.inquest.facts import Configured, Exited, Fact, Signalled, Started, StopRequested, StopReturned
from collectors.inquest.grace import grace_left
from collectors.inquest.verdict import judge
from collectors.kernel.container_id import ContainerKey

KEY = ContainerKey("a" * 64)


def told(what: type[Fact], at: float, **more: object) -> Fact:
    """Something happened."""
    return what(container=KEY, source="docker", time=at, **more)  # type: ignore[arg-type] # the test says which fields


def left(*facts: Fact) -> float | None:
    """Judge, and ask."""
    return grace_left(facts, judge(facts))


START = told(Started, 100)
GRACE = told(Configured, 100, stop_signal=15, stop_seconds=10.0)
TERM = told(Signalled, 110, signal=15)


def test_what_docker_stop_left_of_the_configured_grace() -> None:
    """Ten seconds if nothing else is configured, as an inspection tells."""
    assert left(START, GRACE, TERM, told(Exited, 113, how="runtime", code=0), told(StopReturned, 113.1)) == pytest.approx(7)


def test_nothing_is_left_if_sigkill_ended_it() -> None:
    """Also if nobody knows which grace it had."""
    facts = [START, TERM, told(Signalled, 120, signal=9), told(Exited, 120.1, how="reaped", status=9), told(StopReturned, 120.2)]
    assert judge(facts).cause == "forced_kill"
    assert left(*facts) == 0
    assert left(GRACE, *facts) == 0


def test_it_is_not_known_without_a_grace_or_if_another_one_held() -> None:
    """Docker does not tell of `docker stop -t 60`."""
    assert left(START, TERM, told(Exited, 113, how="runtime", code=0), told(StopReturned, 113.1)) is None
    assert left(START, GRACE, TERM, told(Exited, 130, how="runtime", code=0), told(StopReturned, 130.1)) is None


def test_nobody_asked() -> None:
    """An exit is no stop."""
    assert left(START, GRACE, told(Exited, 113, how="runtime", code=0)) is None


def test_the_grace_of_a_pods_deletion_is_believed_before_the_configured_one() -> None:
    """And the earliest deadline, if it was deleted again with less."""
    end = told(Exited, 113, how="runtime", code=0)
    assert left(START, GRACE, told(StopRequested, 110, grace_seconds=30.0), end) == pytest.approx(27)
    again = told(StopRequested, 112, grace_seconds=5.0)
    assert left(START, GRACE, told(StopRequested, 110, grace_seconds=30.0), again, end) == pytest.approx(4)


def test_a_stop_signal_that_may_be_a_stop_is_taken_for_one_as_the_verdict_does() -> None:
    """Whoever sent it."""
    facts = [START, GRACE, TERM, told(Exited, 112, how="runtime", code=0)]
    seconds = judge(facts).stop_seconds
    assert left(*facts) == (None if seconds is None else pytest.approx(10 - seconds))
