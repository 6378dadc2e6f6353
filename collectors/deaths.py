"""Deaths: how many lives of each container ended, of what, and how long stops took. The inquest has found it out (inquest/)."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from collectors.base import CONTAINER, Node, Sample, event_counter, gauge, histogram
from collectors.inquest.kill_state import Labels
from collectors.inquest.verdict import CAUSES

Deaths = Mapping[tuple[Labels, str], int]
"""Labels of a container and cause -> how many of its lives ended so."""

DEATHS = event_counter(
    "coroner_container_deaths_total",
    "Times the container ended, by cause: completed (exit 0), error (another exit code), stopped, forced_kill (SIGKILL because the grace "
    "period of a stop ran out), oom_kill (of its PID 1, or of all processes together), killed (by a signal, without a stop request), "
    "crashed (by a fault), unknown.",
    (*CONTAINER, "cause"),
)
FORCED_KILLS = event_counter(
    "coroner_container_forced_kills_total", "Stops of the container that ended in SIGKILL because its grace period ran out."
)
LAST_STOP = gauge("coroner_container_last_stop_duration_seconds", "Seconds from the last stop request of the container to its end.")
GRACE_LEFT = gauge(
    "coroner_container_last_stop_grace_left_seconds",
    "Seconds of the grace period that were left when the last stop of the container had ended it, 0 if SIGKILL did; absent if the grace "
    "period is not known.",
)
STOPS = histogram("coroner_stop_duration_seconds", "Seconds from stop requests to the ends of containers, since the agent started.")


class LastStop(NamedTuple):
    """How many seconds the last stop of a container took, and were left of its grace period; None is not known."""

    seconds: float
    grace_left: float | None = None


class DeathCounts:
    """Yields what the cases have counted. `deaths` and `last_stops` give it; any thread may call them. agent/stops.py counts all stops."""

    name = "deaths"
    metrics = (DEATHS, FORCED_KILLS, LAST_STOP, GRACE_LEFT, STOPS)

    def __init__(self, deaths: Callable[[], Deaths] = dict, last_stops: Callable[[], Mapping[Labels, LastStop]] = dict) -> None:
        self._deaths, self._last_stops = deaths, last_stops
        self._by_cause: dict[Labels, tuple[Labels, ...]] = {}
        """Labels with each cause behind them, of those that are on the page: the page keeps its own, so they are made once."""

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield a count per cause for every container that runs or ran lately, born at 0."""
        deaths, stops = self._deaths(), self._last_stops()
        before, self._by_cause = self._by_cause, {}
        for labels in dict.fromkeys(node.names.values()):
            by_cause = self._by_cause[labels] = before.get(labels) or tuple((*labels, cause) for cause in CAUSES)
            for cause, with_cause in zip(CAUSES, by_cause, strict=True):
                yield DEATHS, with_cause, deaths.get((labels, cause), 0)
            yield FORCED_KILLS, labels, deaths.get((labels, "forced_kill"), 0)
            if (stop := stops.get(labels)) is not None:
                yield LAST_STOP, labels, stop.seconds
                if stop.grace_left is not None:
                    yield GRACE_LEFT, labels, stop.grace_left
