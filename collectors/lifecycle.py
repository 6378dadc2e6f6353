"""Which containers there are, what they are made of, and which are paused."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from collectors.base import CONTAINER, Container, Former, Node, Sample, gauge
from collectors.kernel import cgroupfs

_INFO = gauge(
    "coroner_container_info",
    "Always 1; id, image, runtime and workload of a container, until 15 minutes after its end, as long as its event "
    "counters. One per name: join on namespace, pod and container.",
    (
        *CONTAINER,
        *("container_id", "image", "runtime", "pod_uid", "qos", "cgroup", "kind", "workload_kind", "workload"),
        *("compose_project", "compose_service"),
    ),
)
FROZEN = gauge("coroner_container_frozen", "1 while the container is paused (cgroup.events frozen).")
CONTAINERS = gauge(
    "coroner_containers",
    ("Containers by state, without the sandboxes of pods; the state of a container without a cgroup is the one that its runtime reports."),
    ("state",),
)

_RUNTIMES_WORD = ("created", "exited")
_KERNELS_WORD = ("running", "paused")
"""States that are on the page when no container has them."""


class Lifecycle:
    """Reads cgroup.events of each container's cgroup. The info metric has a label for each of the chosen pod labels."""

    name = "lifecycle"

    def __init__(self, pod_labels: Sequence[str] = ()) -> None:
        self._pod_labels = pod_labels
        self._info = replace(_INFO, labels=(*_INFO.labels, *map(label_name, pod_labels)))
        self.metrics = (self._info, FROZEN, CONTAINERS)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield 1 per container that is there or was lately, and counts per state."""
        for container in node.containers:
            yield self._info, self._info_labels(container), 1
        for former in node.formers:
            yield self._info, self._info_labels(former), 1
        # Without a tree nobody has counted who runs: what the runtime says of it is then among the resting, or absent.
        states: Counter[str] = Counter()
        if node.resting is not None:
            states.update({**dict.fromkeys(_RUNTIMES_WORD, 0), **node.resting})
        if node.cgroups:
            states.update(dict.fromkeys(_KERNELS_WORD, 0))
        labels_of = {container.cgroup.inode: container.labels for container in node.containers}
        for instance in node.instances:
            events = node.read(cgroupfs.cgroup_events, instance.cgroup)
            if events is None:
                continue
            # What nobody has told of yet is taken for a container: on a Docker host all are.
            if instance.id.key not in node.sandboxes:
                states["paused" if events.frozen else "running"] += 1
            if instance.cgroup.inode in labels_of and events.frozen is not None:
                yield FROZEN, labels_of[instance.cgroup.inode], int(events.frozen)
        if node.hidden or node.closed:  # what is closed may be more of them, running or paused
            for state in _KERNELS_WORD:
                del states[state]
        for state, count in states.items():
            yield CONTAINERS, (state,), count

    def _info_labels(self, container: Container | Former) -> tuple[str, ...]:
        identifier, told = container.id, container.info
        return (
            *container.labels,
            *(identifier.url, told.image, identifier.runtime, identifier.pod_uid, identifier.qos, identifier.container_path),
            *(told.kind, told.workload_kind, told.workload, told.project, told.service),
            *(told.pod_labels.get(name, "") for name in self._pod_labels),
        )


def label_name(pod_label: str) -> str:
    """Return the Prometheus label for a label of a pod, as kube-state-metrics spells it: label_app_kubernetes_io_name."""
    return "label_" + re.sub("[^a-zA-Z0-9_]", "_", pod_label)
