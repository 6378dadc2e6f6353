"""Services: how many programs that are no workers of one another run in a container."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from collectors.base import Node, Sample, gauge
from collectors.inquest.services import STARTERS, YOUNG_SECONDS, services
from collectors.kernel.container_id import ContainerKey

SERVICES = gauge(
    "coroner_container_services",
    "Programs with different names that a shell or supervisor of the container keeps running, without their workers, exec sessions and "
    "probes; 1 for a container with one (/proc/PID/stat parent, session, tty_nr, comm); absent where it has no PID namespace of its own.",
)

LOOK_SECONDS = 60.0
"""Until all are counted again."""
YOUNG_LOOK_SECONDS = 15.0
"""The same when a PID namespace has come."""

_TICKS = os.sysconf("SC_CLK_TCK")


class Services:
    """Counts what services_of finds. `clock` gives seconds since boot."""

    name = "services"
    metrics = (SERVICES,)

    def __init__(self, clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)) -> None:
        self._clock = clock
        self._counts: dict[ContainerKey, int] = {}
        self._namespaces: frozenset[str] = frozenset()
        self._due = 0.0

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield a count for each container whose PID namespace is its own."""
        now = self._clock()
        namespaces = frozenset(inode for inode, namespace in node.processes.namespaces.items() if namespace.init_pids)
        new, self._namespaces = namespaces - self._namespaces, namespaces
        if now >= self._due:
            self._counts, self._due = _counts(services_of(node, now)), now + LOOK_SECONDS
        elif new:
            self._counts |= _counts(services_of(node, now, new))
        if new:  # what is young does not count yet
            self._due = min(self._due, now + YOUNG_LOOK_SECONDS)
        for container in node.containers:
            count = self._counts.get(container.id.key)
            if count:
                yield SERVICES, container.labels, count


def services_of(node: Node, now: float, only: Collection[str] | None = None) -> dict[ContainerKey, tuple[bytes, ...]]:
    """Return the names of each container's services, from the process scan of this pass; `now` in seconds since boot. Raises ReadError.

    Containers without a PID namespace of their own are left out: whose a process is would have to be asked of each. `only`: inodes of
    the PID namespaces to look at.
    """
    namespaces, table = node.processes.namespaces, node.process_table
    owned = {}
    for inode, key in node.own_namespaces.items():
        pid = namespaces[inode].init_pids[0]
        if key not in node.sandboxes and (only is None or inode in only) and node.came_from_outside(key, pid):
            stat = table.stat(pid)
            owned[inode] = key, pid, stat.comm if stat else b""
    members = table.members([inode for inode, (_, _, comm) in owned.items() if comm in STARTERS])
    young_from = (now - YOUNG_SECONDS) * _TICKS
    return {key: services(members[inode], pid, young_from) if inode in members else (comm,) for inode, (key, pid, comm) in owned.items()}


def _counts(found: Mapping[ContainerKey, tuple[bytes, ...]]) -> dict[ContainerKey, int]:
    return {key: len(names) for key, names in found.items()}
