"""A container's life: when it was created and started, how often it was paused and for how long."""

import time
from collections.abc import Callable, Iterable, Mapping

from collectors.base import Node, Sample, event_counter, gauge
from collectors.inquest.freezes import Freezes
from collectors.inquest.kill_state import Labels
from collectors.inquest.starts import Starts
from collectors.kernel.container_id import ContainerKey

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


class Life:
    """Shows what the sources have told. `unstarted` gives the names of those created and never started, and when; any thread may call it.

    `clock` is that of the freezes, in seconds.
    """

    name = "life"
    metrics = (START, CREATED_TO_START, CREATED, PAUSES, PAUSED)

    def __init__(
        self,
        starts: Starts | None = None,
        freezes: Freezes | None = None,
        unstarted: Callable[[], Mapping[Labels, float]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._starts, self._freezes = starts or Starts(), freezes or Freezes()
        self._unstarted = unstarted
        self._clock = clock
        self._counted: dict[ContainerKey, tuple[int, float]] = {}
        self._sums: dict[Labels, tuple[int, float]] = {}

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
            self._sum_up(node)
            for labels in dict.fromkeys(node.names.values()):
                pauses, seconds = self._sums.get(labels, (0, 0.0))
                yield PAUSES, labels, pauses
                yield PAUSED, labels, seconds

    def _sum_up(self, node: Node) -> None:
        """Add what is new: one name may be that of several lives, and its counters must not fall when one of them is forgotten."""
        now = self._clock()
        counted = {}
        for key, labels in node.names.items():
            frozen = self._freezes.of(key)
            told = frozen.times, frozen.until(now)
            if told == (0, 0.0):
                continue
            before = self._counted.get(key, (0, 0.0))
            if told < before:  # it was forgotten in between
                before = (0, 0.0)
            sums = self._sums.get(labels, (0, 0.0))
            self._sums[labels] = sums[0] + told[0] - before[0], sums[1] + max(0.0, told[1] - before[1])
            counted[key] = told
        self._counted = counted
        shown = set(node.names.values()) if self._sums else set()
        self._sums = {labels: sums for labels, sums in self._sums.items() if labels in shown}
