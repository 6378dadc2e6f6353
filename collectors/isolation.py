"""Isolation: what the kernel enforces on a container, whatever its manifest asked for."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from collectors.base import CONTAINER, Container, Node, Sample, gauge
from collectors.kernel import capabilities, runtime_sockets
from collectors.kernel.confinement import Confinement, confinement
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.container_init import ForeignProcesses, init_of, running_init
from collectors.kernel.files import ReadError
from collectors.kernel.mount_table import mounts
from collectors.kernel.mountinfo import MOST_BYTES
from collectors.kernel.namespaces import links_of_node
from collectors.kernel.runtime_sockets import Place

_LABELS = (
    *("process", "user_namespace", "root_is_host_root", "host_namespaces", "seccomp", "no_new_privileges", "read_only_root"),
    "extra_capabilities",
)
INFO = gauge(
    "coroner_container_isolation_info",
    "Always 1: what the kernel enforces on the container's init, or on its first process where it has no PID namespace of its own; a label "
    "is empty where it is not known (/proc/PID/uid_map, ns, status Seccomp, NoNewPrivs and CapEff, mountinfo).",
    (*CONTAINER, *_LABELS),
)
CAPABILITIES = gauge(
    "coroner_container_extra_capabilities",
    "Capabilities in effect of that process that are not among the 14 of a container that asks for nothing (/proc/PID/status CapEff).",
)
SOCKET = gauge(
    "coroner_container_runtime_socket_mounted",
    "1 if the socket of Docker, containerd, CRI-O or Podman is mounted in the container, by itself or with a directory around it "
    "(/proc/PID/mountinfo).",
)

LOOK_SECONDS = 300.0
"""Until a container is looked at again: this hardly changes during a life."""
YOUNG_SECONDS = 60.0
"""A program drops privileges when it starts, and what was seen before that is not how it runs."""
YOUNG_LOOK_SECONDS = 15.0
_FIRST_WAIT_SECONDS = 1.0
MOST_LOOKS = 10
"""Containers that one pass looks at again. Those that were never looked at are not held back."""

_Scanned = tuple[int, int]
"""PID of an init, and when it was started in clock ticks since boot: as the scan of this pass saw it."""

_SECCOMP = {0: "disabled", 1: "strict", 2: "filter"}
_UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found of one life of a container; None: nothing, as it has no init yet."""

    labels: tuple[str, ...] | None
    extra: int | None
    socket: bool | None
    wait: float
    """Seconds until it is looked at again."""
    due: float


class Isolation:
    """Looks at each container once, and again every few minutes. `clock` gives seconds that only grow."""

    name = "isolation"
    metrics = (INFO, CAPABILITIES, SOCKET)

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[int, _Known] = {}
        """By the inode of the container's cgroup."""
        self._sockets: Mapping[str, tuple[Place, ...]] = {}
        self._sockets_due = -math.inf

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield what is known of each container."""
        self._look(node)
        for container in node.containers:
            known = self._known.get(container.cgroup.inode)
            if known is None or known.labels is None:
                continue
            yield INFO, (*container.labels, *known.labels), 1
            if known.extra is not None:
                yield CAPABILITIES, container.labels, known.extra
            if known.socket is not None:
                yield SOCKET, container.labels, known.socket

    def _look(self, node: Node) -> None:
        now, before = self._clock(), self._known
        self._known = {inode: before[inode] for each in node.containers if (inode := each.cgroup.inode) in before}
        due = [each for each in node.containers if each.cgroup.inode not in before]
        old = [each for each in node.containers if each.cgroup.inode in before and before[each.cgroup.inode].due <= now]
        due += sorted(old, key=lambda each: before[each.cgroup.inode].due)[:MOST_LOOKS]
        if not due:
            return
        if self._sockets_due <= now:
            self._sockets, self._sockets_due = _sockets_of_node(node), now + LOOK_SECONDS
        namespaces, inits = links_of_node(node.proc_root), _inits(node)
        for container in due:
            inode = container.cgroup.inode
            seen = look(node, container, inits, namespaces)
            wait = _wait(seen, before[inode].wait if inode in before else None)
            self._known[inode] = _found(seen, self._sockets.get(container.id.runtime, ()), wait, now + wait)


def look(node: Node, container: Container, inits: Mapping[ContainerKey, _Scanned], namespaces: Mapping[str, str]) -> Confinement | None:
    """Look at a container; None if it has no init, or none that runs its program yet. `namespaces` are those of the node."""
    known = inits.get(container.id.key)
    try:
        init = init_of(node.proc_root, *known) if known else running_init(node.proc_root, container.cgroup.directory)
    except ForeignProcesses:
        return None
    return confinement(node.proc_root, init, namespaces) if init else None


def _inits(node: Node) -> Mapping[ContainerKey, _Scanned]:
    """Return PID 1 of those that have a PID namespace of their own, by the scan of this pass."""
    try:
        namespaces = node.processes.namespaces
    except ReadError:  # others ask for the same scan, and say why there is none
        return {}
    pids = {key: namespaces[inode].init_pids[0] for inode, key in node.own_namespaces.items()}
    return {
        key: (pid, stat.start_time)
        for key, pid in pids.items()
        if (stat := node.process_table.stat(pid)) is not None and node.came_from_outside(key, pid)
    }


def _sockets_of_node(node: Node) -> Mapping[str, tuple[Place, ...]]:
    try:
        return runtime_sockets.places(mounts(f"{node.proc_root}/1/mountinfo", MOST_BYTES)[0])
    except ReadError:  # a socket that is mounted by itself is found all the same
        return {}


def _wait(seen: Confinement | None, before: float | None) -> float:
    if seen is None and before is None:
        return 0.0  # it is about to run, or could not be read for a moment
    if seen is None:  # there may never be a process in its cgroup
        return min(max(_FIRST_WAIT_SECONDS, 2 * (before or 0)), LOOK_SECONDS)
    return YOUNG_LOOK_SECONDS if seen.age_seconds < YOUNG_SECONDS else LOOK_SECONDS


def _found(seen: Confinement | None, sockets: tuple[Place, ...], wait: float, due: float) -> _Known:
    if seen is None:
        return _Known(None, None, None, wait, due)
    extra = None if seen.capabilities is None else capabilities.beyond_default(seen.capabilities).bit_count()
    return _Known(labels(seen), extra, _has_socket(seen, sockets), wait, due)


def labels(seen: Confinement) -> tuple[str, ...]:
    """Spell what was seen, in the order of the labels of INFO behind those of the container; empty is not known."""
    root = None if seen.users is None else seen.users.root == 0
    return (
        "init" if seen.is_init else "first",
        _UNKNOWN if seen.users is None else "host" if seen.users.is_whole else "own",
        _word(root),
        _UNKNOWN if seen.shared is None else ",".join(seen.shared) or "none",
        _UNKNOWN if seen.seccomp is None else _SECCOMP.get(seen.seccomp, str(seen.seccomp)),
        _word(seen.no_new_privileges),
        _word(seen.is_root_read_only),
        _UNKNOWN if seen.capabilities is None else _extra(seen.capabilities),
    )


def _word(value: bool | None) -> str:
    return _UNKNOWN if value is None else "true" if value else "false"


def _extra(mask: int) -> str:
    return "all" if capabilities.is_all(mask) else ",".join(capabilities.names(capabilities.beyond_default(mask))) or "none"


def _has_socket(seen: Confinement, sockets: tuple[Place, ...]) -> bool | None:
    """Tell whether a runtime's socket is mounted; None if it was not found in those mounts that were read, and there are more."""
    if seen.mounts is None:
        return None
    return runtime_sockets.is_reachable(seen.mounts, sockets) or (False if seen.has_all_mounts else None)
