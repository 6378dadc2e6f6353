"""The PID table: how full each container's share of it is, and forks that were refused."""

from collections.abc import Iterable

from collectors.base import Node, Sample, event_counter, gauge
from collectors.kernel import cgroupfs

THREADS = gauge("coroner_container_threads", "Tasks: threads and unreaped zombies (pids.current).")
LIMIT = gauge("coroner_container_threads_limit", "Most tasks allowed; absent when unlimited (pids.max).")
PEAK = gauge("coroner_container_threads_peak", "Most tasks so far (pids.peak, kernel 6.1).")
FORK_FAILURES = event_counter("coroner_container_fork_failures_total", "Forks refused because of the limit (pids.events max).")


class Pids:
    """Reads pids.* of each container's cgroup."""

    name = "pids"
    metrics = (THREADS, LIMIT, PEAK, FORK_FAILURES)

    _FILES = (
        (THREADS, cgroupfs.pids_current),
        (LIMIT, cgroupfs.pids_max),
        (PEAK, cgroupfs.pids_peak),
        (FORK_FAILURES, cgroupfs.pids_events_max),
    )

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield task counts."""
        for container in node.containers:
            for metric, reader in self._FILES:
                value = node.read(reader, container.cgroup)
                if value is not None:
                    yield metric, container.labels, value
        for ended in node.ended:
            if ended.words.fork_failures is not None:
                yield FORK_FAILURES, ended.labels, ended.words.fork_failures
