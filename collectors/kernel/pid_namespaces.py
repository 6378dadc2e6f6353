"""Whose PID namespaces those of a scan are. Pure."""

from collections.abc import Mapping

from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.processes import Namespace

NO_CONTAINER = ContainerKey()


def owners(namespaces: Mapping[str, Namespace]) -> dict[str, ContainerKey]:
    """Return whose PID namespaces these are: their init is in the container. One that a container has made in its own is left out."""
    outermost: dict[ContainerKey, tuple[int, str]] = {}
    for inode, namespace in namespaces.items():
        key = container_of(namespace.init_cgroup)
        if key and namespace.init_pids:
            found = len(namespace.init_pids), inode
            outermost[key] = min(found, outermost.get(key, found))
    return {inode: key for key, (_, inode) in outermost.items()}


def container_of(cgroup: str | None) -> ContainerKey:
    """Return the container that a cgroup is in, NO_CONTAINER if it is in none."""
    found = container_id.parse(cgroup) if cgroup else None
    return found.key if found else NO_CONTAINER
