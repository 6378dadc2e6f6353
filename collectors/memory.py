"""Memory: how much, against which limits, and what happened at them."""

from collections.abc import Iterable

from collectors.base import Node, Sample, event_counter, gauge
from collectors.kernel import cgroupfs
from collectors.kernel.cgroupfs import MemoryEvents

USAGE = gauge("coroner_container_memory_usage_bytes", "Memory charged to the container, page cache included (memory.current).")
WORKING_SET = gauge("coroner_container_memory_working_set_bytes", "Usage without inactive page cache (memory.current - inactive_file).")
PEAK = gauge("coroner_container_memory_peak_bytes", "Largest usage since the container started (memory.peak, kernel 5.19).")
LIMIT = gauge("coroner_container_memory_limit_bytes", "Hard limit; absent when unlimited (memory.max).")
HIGH = gauge("coroner_container_memory_high_bytes", "Limit above which allocations are throttled; absent when unlimited (memory.high).")
LOW = gauge("coroner_container_memory_low_bytes", "Memory protected from reclaim; absent when all of it is (memory.low).")

EVENTS = "coroner_container_memory_events_"
EVENT_LOW = event_counter(EVENTS + "low_total", "Times memory was reclaimed although usage was below memory.low (memory.events low).")
EVENT_HIGH = event_counter(
    EVENTS + "high_total", "Times allocations were throttled because usage was above memory.high (memory.events high)."
)
EVENT_MAX = event_counter(EVENTS + "max_total", "Times usage was about to exceed memory.max, and memory was reclaimed (memory.events max).")
EVENT_OOM = event_counter(
    EVENTS + "oom_total", "Times reclaim could not keep usage below the limit; not a count of kills (memory.events oom)."
)
EVENT_OOM_KILL = event_counter(
    EVENTS + "oom_kill_total", "OOM kills as the kernel counts them: the first victim of a group kill twice (memory.events oom_kill)."
)
EVENT_OOM_GROUP_KILL = event_counter(
    EVENTS + "oom_group_kill_total", "OOM kills of a whole cgroup, memory.oom.group (memory.events oom_group_kill, kernel 5.17)."
)


class Memory:
    """Reads memory.* of each container's cgroup; what is nested in it is included."""

    name = "memory"
    metrics = (
        *(USAGE, WORKING_SET, PEAK, LIMIT, HIGH, LOW),
        *(EVENT_LOW, EVENT_HIGH, EVENT_MAX, EVENT_OOM, EVENT_OOM_KILL, EVENT_OOM_GROUP_KILL),
    )

    _LEVELS = (
        (PEAK, cgroupfs.memory_peak),
        (LIMIT, cgroupfs.memory_max),
        (HIGH, cgroupfs.memory_high),
        (LOW, cgroupfs.memory_low),
    )

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield bytes and event counts."""
        for container in node.containers:
            usage = node.read(cgroupfs.memory_current, container.cgroup)
            if usage is not None:
                yield USAGE, container.labels, usage
                inactive = node.read(cgroupfs.memory_inactive_file, container.cgroup)
                if inactive is not None:
                    yield WORKING_SET, container.labels, max(0, usage - inactive)
            for metric, reader in self._LEVELS:
                level = node.read(reader, container.cgroup)
                if level is not None:
                    yield metric, container.labels, level
            yield from _counted(container.labels, node.read(cgroupfs.memory_events, container.cgroup))
        for ended in node.ended:
            yield from _counted(ended.labels, ended.words.memory_events)


def _counted(labels: tuple[str, ...], events: MemoryEvents | None) -> Iterable[Sample]:
    if events is None:
        return
    yield EVENT_LOW, labels, events.low
    yield EVENT_HIGH, labels, events.high
    yield EVENT_MAX, labels, events.max
    if events.oom is not None:
        yield EVENT_OOM, labels, events.oom
    if events.oom_kill is not None:
        yield EVENT_OOM_KILL, labels, events.oom_kill
    if events.oom_group_kill is not None:
        yield EVENT_OOM_GROUP_KILL, labels, events.oom_group_kill
