"""Deaths of the last minutes: counted by container and cause, forgotten in time, and bounded."""

from agent.recent import MOST_RECENT, RECENT_SECONDS, RecentDeaths
from collectors.inquest.verdict import Verdict
from collectors.kernel.container_id import ContainerKey

WEB, JOB = ("shop", "web-0", "web"), ("", "", "job")


class Clock:
    """Stands still until it is told to go on."""

    now = 1_767_225_600.0

    def __call__(self) -> float:
        return self.now


def verdict(cause: str, ended: float | None) -> Verdict:
    """Make the verdict of some life."""
    return Verdict(container=ContainerKey("4f" * 32), instance=1, cause=cause, ended=ended)


def row(cause: str, ended: float | None) -> dict[str, object]:
    """Make a verdict as the casebook shows it."""
    return {"namespace": "", "pod": "", "container": "job", "cause": cause, "ended": ended, "number": 7}


def test_deaths_count_for_as_long_as_the_alert_looks_back() -> None:
    """By their end, not by when it was told; one whose end nobody knows ended just now."""
    clock = Clock()
    recent = RecentDeaths(clock)
    recent.take(WEB, verdict("error", clock.now - RECENT_SECONDS + 5))
    recent.take(WEB, verdict("error", None))
    recent.take(WEB, verdict("oom_kill", clock.now))
    recent.take(JOB, verdict("error", clock.now - RECENT_SECONDS - 1))
    assert recent.counts() == {(WEB, "error"): 2, (WEB, "oom_kill"): 1}

    clock.now += 6
    assert recent.counts() == {(WEB, "error"): 1, (WEB, "oom_kill"): 1}
    clock.now -= 3600
    assert recent.counts() == {}, "a clock that is set back makes no death of the future"


def test_what_the_casebook_has_counts_after_a_restart() -> None:
    """It shows the newest first; those without an end are of no known time."""
    clock = Clock()
    recent = RecentDeaths(clock)
    recent.restore([row("error", clock.now - 1), row("error", clock.now - 60), row("error", None)])
    recent.take(JOB, verdict("error", clock.now))

    assert recent.counts() == {(JOB, "error"): 3}


def test_it_is_bounded() -> None:
    """The oldest go."""
    clock = Clock()
    recent = RecentDeaths(clock)
    recent.take(JOB, verdict("error", clock.now))
    for _ in range(MOST_RECENT):
        recent.take(WEB, verdict("error", clock.now))

    assert recent.counts() == {(WEB, "error"): MOST_RECENT}
