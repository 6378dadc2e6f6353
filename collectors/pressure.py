"""Pressure stall time: waiting for CPU, memory or I/O."""

from collections.abc import Callable, Iterable
from functools import partial

from collectors.base import Metric, Node, Sample, counter
from collectors.kernel import cgroupfs
from collectors.kernel.cgroupfs import Pressure as Stall
from collectors.kernel.files import KernelFiles

PREFIX = "coroner_container_pressure_"
CPU_WAITING = counter(PREFIX + "cpu_waiting_seconds_total", "Time some task waited for a CPU (cpu.pressure some).")
CPU_STALLED = counter(PREFIX + "cpu_stalled_seconds_total", "Time all tasks waited for a CPU (cpu.pressure full).")
MEMORY_WAITING = counter(PREFIX + "memory_waiting_seconds_total", "Time some task waited for memory (memory.pressure some).")
MEMORY_STALLED = counter(PREFIX + "memory_stalled_seconds_total", "Time all tasks waited for memory (memory.pressure full).")
IO_WAITING = counter(PREFIX + "io_waiting_seconds_total", "Time some task waited for I/O (io.pressure some).")
IO_STALLED = counter(PREFIX + "io_stalled_seconds_total", "Time all tasks waited for I/O (io.pressure full).")

_MICROSECONDS = 1e6
_Reader = Callable[[KernelFiles, str], Stall]


class Pressure:
    """Reads *.pressure of each container's cgroup. Only totals: Prometheus makes better averages than avg10."""

    name = "pressure"
    metrics = (CPU_WAITING, CPU_STALLED, MEMORY_WAITING, MEMORY_STALLED, IO_WAITING, IO_STALLED)

    _FILES: tuple[tuple[_Reader, Metric, Metric], ...] = (
        (partial(cgroupfs.pressure, resource="cpu"), CPU_WAITING, CPU_STALLED),
        (partial(cgroupfs.pressure, resource="memory"), MEMORY_WAITING, MEMORY_STALLED),
        (partial(cgroupfs.pressure, resource="io"), IO_WAITING, IO_STALLED),
    )

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield seconds."""
        for container in node.containers:
            for reader, waiting, stalled in self._FILES:
                pressure = node.read(reader, container.cgroup)
                if pressure is None:
                    continue
                yield waiting, container.labels, pressure.some / _MICROSECONDS
                if pressure.full is not None:
                    yield stalled, container.labels, pressure.full / _MICROSECONDS
