"""Leftovers: cgroups that were removed but still hold memory or zombies."""

from collections.abc import Iterable

from collectors.base import Node, Sample, gauge
from collectors.kernel import cgroupfs, container_id

DYING = gauge(
    "coroner_cgroup_dying_descendants",
    "Removed cgroups below this one that still hold memory or zombies (cgroup.stat nr_dying_descendants).",
    ("cgroup",),
)

_DEEPEST = 2


class Leftovers:
    """Reads cgroup.stat of the root and of the slices near it: the count is hierarchical, so these tell where they pile up."""

    name = "leftovers"
    metrics = (DYING,)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield counts."""
        for cgroup in node.cgroups:
            is_slice = cgroup.path == "/" or (cgroup.has_children and cgroup.path.count("/") <= _DEEPEST)
            if is_slice and not container_id.is_pod(cgroup.path) and container_id.parse(cgroup.path) is None:
                dying = node.read(cgroupfs.dying_descendants, cgroup)
                if dying is not None:
                    yield DYING, (cgroup.path,), dying
