"""The node's own PID table: what is left of it, for a forecast of when nothing can be forked any more."""

from collections.abc import Iterable

from collectors.base import Node, Sample, gauge
from collectors.kernel.node import kernel_setting, threads

THREADS = gauge("coroner_node_threads", "Tasks on the node: threads and unreaped zombies (/proc/loadavg, fourth field).", ())
THREADS_LIMIT = gauge("coroner_node_threads_limit", "Most tasks the kernel allows (/proc/sys/kernel/threads-max).", ())
PID_LIMIT = gauge("coroner_node_pid_limit", "Number at which PIDs wrap around (/proc/sys/kernel/pid_max).", ())


class Host:
    """Reads three files of /proc; node_exporter has the first only with a collector that is off by default."""

    name = "host"
    metrics = (THREADS, THREADS_LIMIT, PID_LIMIT)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield task counts."""
        yield THREADS, (), threads(node.proc_root)
        yield THREADS_LIMIT, (), kernel_setting(node.proc_root, "threads-max")
        yield PID_LIMIT, (), kernel_setting(node.proc_root, "pid_max")
