"""CPU: time used, and time withheld by the quota."""

from collections.abc import Iterable

from collectors.base import Node, Sample, counter, gauge
from collectors.kernel import cgroupfs
from collectors.kernel.cgroupfs import CpuStat

USAGE = counter("coroner_container_cpu_usage_seconds_total", "CPU time used (cpu.stat usage_usec).")
USER = counter("coroner_container_cpu_user_seconds_total", "CPU time used in user mode (cpu.stat user_usec).")
SYSTEM = counter("coroner_container_cpu_system_seconds_total", "CPU time used in the kernel (cpu.stat system_usec).")
PERIODS = counter("coroner_container_cpu_cfs_periods_total", "CFS quota periods in which the container was runnable (cpu.stat nr_periods).")
THROTTLED_PERIODS = counter(
    "coroner_container_cpu_cfs_throttled_periods_total", "CFS quota periods in which the container was throttled (cpu.stat nr_throttled)."
)
THROTTLED = counter(
    "coroner_container_cpu_cfs_throttled_seconds_total", "Time the container was throttled, summed over all CPUs (cpu.stat throttled_usec)."
)
LIMIT = gauge("coroner_container_cpu_limit_cores", "CPU quota in cores; absent when unlimited (cpu.max).")

_MICROSECONDS = 1e6


class Cpu:
    """Reads cpu.stat and cpu.max of each container's cgroup."""

    name = "cpu"
    metrics = (USAGE, USER, SYSTEM, PERIODS, THROTTLED_PERIODS, THROTTLED, LIMIT)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield seconds and counts."""
        for container in node.containers:
            yield from _counted(container.labels, node.read(cgroupfs.cpu_stat, container.cgroup))
            limit = node.read(cgroupfs.cpu_limit, container.cgroup)
            if limit is not None:
                yield LIMIT, container.labels, limit
        for ended in node.ended:
            yield from _counted(ended.labels, ended.words.cpu_stat)


def _counted(labels: tuple[str, ...], stat: CpuStat | None) -> Iterable[Sample]:
    if stat is None:
        return
    yield USAGE, labels, stat.usage_usec / _MICROSECONDS
    yield USER, labels, stat.user_usec / _MICROSECONDS
    yield SYSTEM, labels, stat.system_usec / _MICROSECONDS
    if stat.nr_periods is not None:
        yield PERIODS, labels, stat.nr_periods
    if stat.nr_throttled is not None:
        yield THROTTLED_PERIODS, labels, stat.nr_throttled
    if stat.throttled_usec is not None:
        yield THROTTLED, labels, stat.throttled_usec / _MICROSECONDS
