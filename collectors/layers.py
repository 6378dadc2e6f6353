"""Layers: what the root file system of each container is, and how much it has written into it. The source `layers` has found it out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from collectors.base import CONTAINER, Node, Sample, gauge
from collectors.kernel.container_id import ContainerKey

SIZE = gauge(
    "coroner_container_writable_layer_bytes",
    "Disk allocated for what the container changed in its root file system, and loses with its removal; from a walk every 10 minutes at "
    "most (upperdir of overlay in /proc/PID/mountinfo). With --source.layers.",
)
ROOT = gauge(
    "coroner_container_root_filesystem_info",
    "Always 1; kind of the file system that is the container's root (/proc/PID/mountinfo). With --source.layers.",
    (*CONTAINER, "kind"),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """A container's root file system. `size`: bytes of its writable layer; None: it has none, or was not measured."""

    kind: str
    size: int | None = None


class Layers:
    """Yields what was found. `found` gives it, by the inode of the container's cgroup, `ended` the sizes of the layers of containers that
    ended, the latest last; any thread may call them.
    """

    name = "layers"
    metrics = (SIZE, ROOT)

    def __init__(self, found: Callable[[], Mapping[int, Layer]] = dict, ended: Callable[[], Mapping[ContainerKey, int]] = dict) -> None:
        self._found = found
        self._ended = ended

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield the kind and the size of those that were looked at, and of those that ended lately the last size."""
        found = self._found()
        for container in node.containers:
            layer = found.get(container.cgroup.inode)
            if layer is not None:
                yield ROOT, (*container.labels, layer.kind), 1
                if layer.size is not None:
                    yield SIZE, container.labels, layer.size
        last = {labels: size for key, size in self._ended().items() if (labels := node.names.get(key)) is not None}
        for labels in last.keys() - {container.labels for container in node.containers} if last else ():
            yield SIZE, labels, last[labels]
