"""Leftovers: what should have gone with its container and has not."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from collectors.base import Instance, Node, Sample, gauge
from collectors.inquest.leftovers import (
    LEFTOVER_SECONDS,
    Aged,
    Overlays,
    childless,
    is_shims_own,
    missing_daemons,
    needed_daemons,
)
from collectors.kernel import cgroupfs, container_id
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.files import Forbidden, ReadError
from collectors.kernel.mounts import overlays, root_devices
from collectors.kernel.processes import DAEMON_NAMES, SHIM_NAMES, Processes

DYING = gauge(
    "coroner_cgroup_dying_descendants",
    "Removed cgroups below this one that still hold memory or zombies (cgroup.stat nr_dying_descendants).",
    ("cgroup",),
)
CGROUPS = gauge(
    "coroner_leftover_cgroups",
    "Cgroups of containers that have had processes and have none for a minute or more (cgroup.events populated, cpu.stat usage_usec).",
    (),
)
SHIMS = gauge(
    "coroner_leftover_shims",
    "Processes containerd-shim and conmon that have no child for a minute or more: their container has ended (/proc/PID/stat).",
    (),
)
DAEMONLESS = gauge(
    "coroner_containers_without_daemon",
    "Containers that their shim keeps alive while this daemon of theirs does not run for a minute or more (/proc/PID/stat, cgroup).",
    ("daemon",),
)
MOUNTS = gauge(
    "coroner_leftover_overlay_mounts",
    "Overlay file systems that the agent has seen a container have, and that are mounted though none has them for a minute or more "
    "(/proc/PID/mountinfo).",
    (),
)

_DEEPEST = 2


class Leftovers:
    """What is just being removed is told apart by its age: so all but the first metric are absent in the agent's first minute.

    `clock` gives seconds that only grow.
    """

    name = "leftovers"
    metrics = (DYING, CGROUPS, SHIMS, DAEMONLESS, MOUNTS)

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._empty: Aged[int] = Aged()
        self._childless: Aged[tuple[int, int]] = Aged()
        self._missing: Aged[str] = Aged()
        self._overlays = Overlays()
        self._mounts_read: float | None = None
        self._mounts: int | None = None

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield counts."""
        now = self._clock()
        yield from _dying(node)
        if node.cgroups:
            bad = len(node.malformed), len(node.closed)
            old = self._empty.old([one.cgroup.inode for one in node.instances if _is_left(node, one)], now)
            # A count of some is a wrong count.
            if old is not None and not node.hidden and (len(node.malformed), len(node.closed)) == bad:
                yield CGROUPS, (), len(old)
        try:
            processes = node.processes
        except ReadError:  # the collector zombies asks for the same scan, and says why there is none
            return
        # An agent in a PID namespace of its own sees no runtime: that is not a node without leftovers.
        if processes.runtimes:
            yield from self._of_processes(node, processes, now)

    def _of_processes(self, node: Node, processes: Processes, now: float) -> Iterator[Sample]:
        idle = [each for each in childless(processes.runtimes) if is_shims_own(node.process_table.cgroup_of(each.pid))]
        shims = self._childless.old([(shim.pid, shim.start_time) for shim in idle], now)
        if shims is not None:
            yield SHIMS, (), len(shims)
        missing = self._missing.old(missing_daemons(processes.runtimes), now)
        if missing is not None and node.cgroups:
            without = _containers_without(missing, node, processes)
            for daemon in sorted(DAEMON_NAMES):
                yield DAEMONLESS, (daemon.decode(),), len(without[daemon.decode()])
        if self._mounts_read is None or now - self._mounts_read >= LEFTOVER_SECONDS:
            self._mounts_read, self._mounts = now, self._count_mounts(node, processes, now)
        if self._mounts is not None:
            yield MOUNTS, (), self._mounts

    def _count_mounts(self, node: Node, processes: Processes, now: float) -> int | None:
        try:
            return self._overlays.left(overlays(f"{node.proc_root}/1/mountinfo"), set(_devices_of_containers(node, processes)), now)
        except ReadError:  # not of this kernel, not allowed, or without end: it cannot be told
            return None


def _dying(node: Node) -> Iterable[Sample]:
    """Read cgroup.stat of the root and of the slices near it: the count is hierarchical, so these tell where they pile up."""
    for cgroup in node.cgroups:
        is_slice = cgroup.path == "/" or (cgroup.has_children and cgroup.path.count("/") <= _DEEPEST)
        if is_slice and not container_id.is_pod(cgroup.path) and container_id.parse(cgroup.path) is None:
            dying = node.read(cgroupfs.dying_descendants, cgroup)
            if dying is not None:
                yield DYING, (cgroup.path,), dying


def _is_left(node: Node, instance: Instance) -> bool:
    """Whether a container's cgroup has had processes and has none now.

    Those that never have any are there on purpose: gVisor makes one for each container of a pod that runs in the sandbox's, and CRI-O one
    for a sandbox without pause. What a container makes in itself is its own affair.
    """
    if instance.id.host_id:
        return False
    events = node.read(cgroupfs.cgroup_events, instance.cgroup)
    if events is None or events.populated:
        return False
    cpu = node.read(cgroupfs.cpu_stat, instance.cgroup)
    return cpu is not None and cpu.usage_usec > 0


def _containers_without(missing: Iterable[str], node: Node, processes: Processes) -> dict[str, set[ContainerKey]]:
    """Return the containers whose shim is there, without the sandboxes of pods, by each missing daemon of theirs."""
    found: dict[str, set[ContainerKey]] = defaultdict(set)
    # On every node some daemon is missing: the shims' children are looked at only if a container needs it, or one that is hidden may.
    if node.hidden or any(needed_daemons(instance.id).intersection(missing) for instance in node.instances):
        for container in _kept_by_shims(node, processes):
            if container.key not in node.sandboxes:
                for daemon in needed_daemons(container).intersection(missing):
                    found[daemon].add(container.key)
    return found


def _kept_by_shims(node: Node, processes: Processes) -> Iterator[ContainerId]:
    for shim in processes.runtimes:
        if shim.comm in SHIM_NAMES and is_shims_own(node.process_table.cgroup_of(shim.pid)):
            for child in shim.children:
                container = container_id.parse(node.process_table.cgroup_of(child) or "/")
                if container is not None:
                    yield container


def _devices_of_containers(node: Node, processes: Processes) -> Iterator[bytes]:
    """Yield the devices of the overlays that are containers' roots, by the init of every PID namespace and by the children of shims."""
    inits = {namespace.init_pids[0] for namespace in processes.namespaces.values() if namespace.init_pids}
    inits.update(child for shim in processes.runtimes if shim.comm in SHIM_NAMES for child in shim.children)
    for pid in inits:
        try:
            yield from root_devices(f"{node.proc_root}/{pid}/mountinfo")
        except Forbidden:
            raise
        except ReadError:  # it has ended; a zombie has no mounts (EINVAL)
            continue
