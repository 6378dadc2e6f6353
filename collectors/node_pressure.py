"""Pressure stall time of the node itself: what its containers and all else on it wait for together."""

from collections.abc import Iterable

from collectors.base import Metric, Node, Sample, counter
from collectors.kernel.files import Gone, Malformed, Unsupported
from collectors.kernel.node import pressure

PREFIX = "coroner_node_pressure_"
CPU_WAITING = counter(PREFIX + "cpu_waiting_seconds_total", "Time some task on the node waited for a CPU (/proc/pressure/cpu some).", ())
MEMORY_WAITING = counter(
    PREFIX + "memory_waiting_seconds_total", "Time some task on the node waited for memory (/proc/pressure/memory some).", ()
)
MEMORY_STALLED = counter(
    PREFIX + "memory_stalled_seconds_total", "Time all tasks on the node waited for memory (/proc/pressure/memory full).", ()
)
IO_WAITING = counter(PREFIX + "io_waiting_seconds_total", "Time some task on the node waited for I/O (/proc/pressure/io some).", ())
IO_STALLED = counter(PREFIX + "io_stalled_seconds_total", "Time all tasks on the node waited for I/O (/proc/pressure/io full).", ())

_MICROSECONDS = 1e6


class NodePressure:
    """Reads /proc/pressure: that of the root cgroup, which an agent in a cgroup namespace of its own cannot see."""

    name = "node_pressure"
    metrics = (CPU_WAITING, MEMORY_WAITING, MEMORY_STALLED, IO_WAITING, IO_STALLED)

    # Of the whole node `full` means nothing for CPUs: something runs whenever something waits. The kernel leaves it out or, for programs
    # that expect the line, says 0 (from 5.13 on; Documentation/accounting/psi.rst).
    _FILES: tuple[tuple[str, Metric, Metric | None], ...] = (
        ("cpu", CPU_WAITING, None),
        ("memory", MEMORY_WAITING, MEMORY_STALLED),
        ("io", IO_WAITING, IO_STALLED),
    )

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield seconds."""
        for resource, waiting, stalled in self._FILES:
            try:
                totals = pressure(node.proc_root, resource)
            except (Gone, Unsupported):
                continue  # a kernel that was built or booted without PSI
            except Malformed as error:
                node.malformed.append(error)
                continue
            yield waiting, (), totals.some / _MICROSECONDS
            if stalled is not None and totals.full is not None:
                yield stalled, (), totals.full / _MICROSECONDS
