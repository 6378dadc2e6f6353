"""A container's life: when it was created and started, how often it was paused and for how long, and what was started in it by exec."""

import time
from collections.abc import Callable, Iterable, Mapping

from collectors.base import CONTAINER, Node, Sample, event_counter, gauge
from collectors.inquest.execs import Execs
from collectors.inquest.freezes import Freezes
from collectors.inquest.kill_state import Labels
from collectors.inquest.starts import Starts
from collectors.inquest.sums_by_name import SumsByName

START = gauge(
    "coroner_container_start_timestamp_seconds",
    "When the init of the container's present life was started (/proc/PID/stat starttime, else the runtime).",
)
CREATED_TO_START = gauge(
    "coroner_container_created_to_start_seconds",
    "Seconds from the creation of the container to the start of its first life, as the runtime tells; absent in its later lives.",
)
CREATED = gauge(
    "coroner_container_created_timestamp_seconds",
    "When the container was created that was never started since, as the runtime tells; absent once it was started.",
)
PAUSES = event_counter("coroner_container_pauses_total", "Times the container was paused (cgroup.events frozen).")
PAUSED = event_counter(
    "coroner_container_paused_seconds_total",
    "Seconds for which the container was paused, a pause that lasts included (cgroup.events frozen).",
)
EXECS = event_counter(
    "coroner_container_exec_sessions_started_total",
    "Sessions that were started in the container by exec, and by its health check if it has one (Docker's event exec_start).",
    (*CONTAINER, "kind"),
)


class Life:
    """Shows what the sources have told. `unstarted` gives the names of those created and never started, and when; any thread may call it.

    `clock` is that of the freezes, in seconds.
    """

    name = "life"
    metrics = (START, CREATED_TO_START, CREATED, PAUSES, PAUSED, EXECS)

    def __init__(
        self,
        starts: Starts | None = None,
        freezes: Freezes | None = None,
        unstarted: Callable[[], Mapping[Labels, float]] = dict,
        clock: Callable[[], float] = time.monotonic,
        execs: Execs | None = None,
    ) -> None:
        self._starts, self._freezes, self._execs = starts or Starts(), freezes or Freezes(), execs or Execs()
        self._unstarted = unstarted
        self._clock = clock
        self._pauses, self._sessions = SumsByName(2), SumsByName(2)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield wall-clock seconds, durations, and counts of the pauses of every container that runs or ran lately."""
        for container in node.containers:
            key, inode = container.id.key, container.cgroup.inode
            if (started := self._starts.started(key, inode)) is not None:
                yield START, container.labels, started
            if (waited := self._starts.waited(key, inode)) is not None:
                yield CREATED_TO_START, container.labels, waited
        for labels, created in self._unstarted().items():
            yield CREATED, labels, created
        if self._freezes.is_told:
            now = self._clock()
            self._pauses.add(node.names, lambda key: ((frozen := self._freezes.of(key)).times, frozen.until(now)))
            hidden = {labels for key, labels in node.names.items() if self._freezes.is_hidden(key)}
            for labels in dict.fromkeys(node.names.values()):
                if labels in hidden:
                    continue
                times, seconds = self._pauses.of(labels)
                yield PAUSES, labels, times
                yield PAUSED, labels, seconds
        yield from self._execs_started(node)

    def _execs_started(self, node: Node) -> Iterable[Sample]:
        self._sessions.add(node.names, self._execs.started)
        probed: dict[Labels, bool] = {}
        for key, labels in node.names.items():
            if (has_probe := self._execs.has_probe(key)) is not None:
                probed[labels] = probed.get(labels, False) or has_probe
        for labels, has_probe in probed.items():
            sessions, probes = self._sessions.of(labels)
            yield EXECS, (*labels, "exec"), sessions
            if has_probe:
                yield EXECS, (*labels, "healthcheck"), probes
