"""How long stops took: of each container the last one, and of the node a histogram, from the verdicts.

prometheus_client counts the histogram: the page here knows counters and gauges only.
"""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Histogram

from collectors.deaths import STOPS, LastStop
from collectors.inquest.facts import Fact
from collectors.inquest.grace import grace_left
from collectors.inquest.kill_state import Labels
from collectors.inquest.verdict import Verdict

BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300)
"""Seconds. The grace of docker stop is 10, that of a pod 30."""

MOST = 10_000
"""Containers whose last stop is remembered; the one that was stopped first goes."""


class Stops:
    """Takes verdicts, in the event loop. `last` is replaced whole, so any thread may read it."""

    def __init__(self, kept: Mapping[Labels, tuple[float, str]]) -> None:
        """Go on from what the casebook has: durations and causes. What was left of the grace is in it only where nothing was."""
        self.last: Mapping[Labels, LastStop] = {
            labels: LastStop(seconds, 0.0 if cause == "forced_kill" else None) for labels, (seconds, cause) in kept.items()
        }
        self._histogram = Histogram(STOPS.name, STOPS.help, buckets=BUCKETS, registry=None)

    def show(self, registry: CollectorRegistry) -> None:
        """Have the histogram on the page."""
        registry.register(self._histogram)

    def take(self, labels: Labels, verdict: Verdict, facts: Iterable[Fact]) -> None:
        """Take a new verdict and the facts that it was made of."""
        seconds = verdict.stop_seconds
        if seconds is None:
            return
        self._histogram.observe(seconds)
        last = {**self.last}
        last.pop(labels, None)
        last[labels] = LastStop(seconds, grace_left(facts, verdict))
        if len(last) > MOST:
            del last[next(iter(last))]
        self.last = last
