"""Which containers there are, what they are made of, and which are paused."""

from collections import Counter
from collections.abc import Iterable

from collectors.base import CONTAINER, Node, Sample, gauge
from collectors.kernel import cgroupfs

INFO = gauge(
    "coroner_container_info",
    "Always 1; everything about a running container that is not its name. Join on namespace, pod and container.",
    (*CONTAINER, "container_id", "image", "runtime", "pod_uid", "qos", "cgroup"),
)
FROZEN = gauge("coroner_container_frozen", "1 while the container is paused (cgroup.events frozen).")
CONTAINERS = gauge("coroner_containers", "Containers by state; those without a cgroup as their runtime reports them.", ("state",))

_ALWAYS = ("created", "running", "paused", "exited")


class Lifecycle:
    """Reads cgroup.events of each container's cgroup."""

    name = "lifecycle"
    metrics = (INFO, FROZEN, CONTAINERS)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield 1 per container, and counts per state."""
        for container in node.containers:
            identifier = container.id
            yield (
                INFO,
                (
                    *container.labels,
                    identifier.url,
                    container.image,
                    identifier.runtime,
                    identifier.pod_uid,
                    identifier.qos,
                    container.cgroup.path,
                ),
                1,
            )
        states = Counter(dict.fromkeys(_ALWAYS, 0))
        states.update(node.resting)
        labels_of = {container.cgroup.inode: container.labels for container in node.containers}
        for instance in node.instances:
            events = node.read(cgroupfs.cgroup_events, instance.cgroup)
            if events is None:
                continue
            states["paused" if events.frozen else "running"] += 1
            if instance.cgroup.inode in labels_of and events.frozen is not None:
                yield FROZEN, labels_of[instance.cgroup.inode], int(events.frozen)
        for state, count in states.items():
            yield CONTAINERS, (state,), count
