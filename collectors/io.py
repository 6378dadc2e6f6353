"""Block I/O by device, under cAdvisor's suffixes."""

from collections.abc import Iterable

from collectors.base import CONTAINER, Node, Sample, counter
from collectors.kernel import cgroupfs
from collectors.kernel.node import block_devices

_LABELS = (*CONTAINER, "device")
READS_BYTES = counter("coroner_container_fs_reads_bytes_total", "Bytes read from block devices (io.stat rbytes).", _LABELS)
WRITES_BYTES = counter("coroner_container_fs_writes_bytes_total", "Bytes written to block devices (io.stat wbytes).", _LABELS)
READS = counter("coroner_container_fs_reads_total", "Read operations on block devices (io.stat rios).", _LABELS)
WRITES = counter("coroner_container_fs_writes_total", "Write operations on block devices (io.stat wios).", _LABELS)


class Io:
    """Reads io.stat of each container's cgroup; devices are named as in /proc/partitions, else MAJOR:MINOR."""

    name = "io"
    metrics = (READS_BYTES, WRITES_BYTES, READS, WRITES)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield bytes and operations."""
        names = block_devices(node.proc_root)
        for container in node.containers:
            for device, stat in (node.read(cgroupfs.io_stat, container.cgroup) or {}).items():
                labels = (*container.labels, names.get(device, device))
                yield READS_BYTES, labels, stat.rbytes
                yield WRITES_BYTES, labels, stat.wbytes
                yield READS, labels, stat.rios
                yield WRITES, labels, stat.wios
