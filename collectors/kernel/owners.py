"""Whose a PID namespace is: that of the container which its init is in."""

from collections.abc import Mapping

from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.processes import Namespace


def owners(namespaces: Mapping[str, Namespace]) -> dict[str, ContainerKey]:
    """Return the owners by inode of the namespace. One that a container has made in its own is left out, and so is one without init."""
    outermost: dict[ContainerKey, tuple[int, str]] = {}
    for inode, namespace in namespaces.items():
        found = container_id.parse(namespace.init_cgroup) if namespace.init_cgroup and namespace.init_pids else None
        if found is not None:
            depth = len(namespace.init_pids), inode
            outermost[found.key] = min(depth, outermost.get(found.key, depth))
    return {inode: key for key, (_, inode) in outermost.items()}
