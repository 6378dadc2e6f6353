"""PID 1 of each container: what it is, and what it does with the signal that is to stop it."""

import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf

from collectors.base import CONTAINER, Container, Node, Sample, gauge
from collectors.kernel import cgroupfs
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import Gone, Malformed, Unsupported, parse_once
from collectors.kernel.pid1 import Pid1, parse_pid1, signal_name
from collectors.kernel.process_stat import parse_stat
from collectors.kernel.process_status import namespace_pids
from collectors.kernel.processes import Namespace
from collectors.kernel.sleeps import Sleeps

INFO = gauge(
    "coroner_container_init_info",
    "Always 1: the name of the container's PID 1, and its role by that name: an init (it reaps, and forwards signals), a shell, or the "
    "app (/proc/PID/status Name); absent where the container has no PID namespace of its own.",
    (*CONTAINER, "comm", "role"),
)
HANDLES = gauge(
    "coroner_container_init_handles_stop_signal",
    "1 if PID 1 catches the container's stop signal (SIGTERM, unless a runtime tells another) or waits for it; 0 if it does neither: a "
    "stop ends in SIGKILL; absent where that cannot be told (/proc/PID/status SigCgt, SigBlk, /proc/PID/wchan).",
    (*CONTAINER, "signal"),
)
WRAPPER = gauge(
    "coroner_container_init_is_wrapper",
    "Only where PID 1 is a shell: 1 if it has a child and no trap for the stop signal, which then ends at the shell and never gets to the "
    "child; 0 with a trap, without a child, and of an interactive shell (/proc/PID/status SigCgt, SigIgn).",
)
IGNORES = gauge(
    "coroner_container_init_ignores_sigchld",
    "1 if PID 1 ignores SIGCHLD: the kernel reaps its children then, and those that it adopts (/proc/PID/status SigIgn).",
)

_MOST_PROCESSES = 50

_Life = tuple[int, tuple[int, ...]]
"""Inode of a container's cgroup, and NSpid of its PID 1."""
_Seen = tuple[int, tuple[str, ...], int, bool]
"""Hash of the status, labels, number of the stop signal, whether it has children."""


class Init:
    """Reads one status per container in a pass, from a kept descriptor, and what it sleeps in where that matters.

    `stop_signal` gives the number of the signal that a container is stopped with, None for SIGTERM; it is called in the sampling thread.
    """

    name = "init"
    metrics = (INFO, HANDLES, WRAPPER, IGNORES)

    def __init__(self, stop_signal: Callable[[ContainerKey], int | None] = lambda _: None) -> None:
        self._stop_signal = stop_signal
        self._sleeps = Sleeps()
        self._known: dict[_Life, tuple[_Seen | None, list[Sample]]] = {}
        """What is known to be the PID 1 of a container, as it was seen last, and what was said of it."""

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield what is known of the PID 1 of each container whose PID namespace is its own."""
        namespaces = {key: node.processes.namespaces[inode] for inode, key in node.own_namespaces.items() if key not in node.sandboxes}
        known: dict[_Life, tuple[_Seen | None, list[Sample]]] = {}
        for container in node.containers:
            namespace = namespaces.get(container.id.key)
            if namespace is None:
                continue
            life = container.cgroup.inode, namespace.init_pids
            before = self._known.get(life, (None, []))
            try:
                if life not in self._known and not _is_its_own(node, container, namespace):
                    continue
                known[life] = self._look(node, container, namespace, before)
            except Gone:
                continue
            except Malformed as error:
                node.malformed.append(error)
                continue
            yield from known[life][1]
        self._known = known

    def _look(
        self, node: Node, container: Container, namespace: Namespace, before: tuple[_Seen | None, list[Sample]]
    ) -> tuple[_Seen | None, list[Sample]]:
        """Return what is seen, and what to say of it: the same as before of one that has not run since. Raises ReadError."""
        raw = node.process_table.status(namespace.init_pids[0])
        number = self._stop_signal(container.id.key) or signal.SIGTERM
        # Whoever has run has other numbers of context switches, so one that sleeps is where it was.
        seen = hash(raw), container.labels, number, namespace.init_has_children
        if seen == before[0]:
            return before
        try:
            init = parse_pid1(raw)
        except ValueError as error:
            path = f"{node.proc_root}/{namespace.init_pids[0]}/status"
            raise Malformed(path, f"not the documented format ({error}): {raw[:80]!r}") from error
        if init.pids != namespace.init_pids or init.is_zombie:  # it has ended, and another process may have its number
            return None, []
        handles = init.handles(number, partial(self._sleeps.awaits_signal, node.proc_root))
        return seen if handles is not None else None, list(_samples(container.labels, init, number, handles, namespace))


def _samples(labels: tuple[str, ...], init: Pid1, number: int, handles: bool | None, namespace: Namespace) -> Iterator[Sample]:
    role = init.role
    yield INFO, (*labels, init.comm.decode(errors="backslashreplace"), role), 1
    if handles is not None:
        yield HANDLES, (*labels, signal_name(number)), handles
    if init.ignores_sigchld is not None:
        yield IGNORES, labels, init.ignores_sigchld
    if role == "shell" and handles is not None:
        yield WRAPPER, labels, not handles and not init.ignores_sigterm and namespace.init_has_children


def _is_its_own(node: Node, container: Container, namespace: Namespace) -> bool:
    """Whether no process of the container is outside of the namespace that was there before it: then its PID 1 is that of the container.

    A container in the PID namespace of the host, or of another one, may have made a namespace for a part of itself. Whoever enters a
    container is outside for a moment, too, but younger.
    """
    try:
        pids = cgroupfs.processes(container.cgroup.directory)[:_MOST_PROCESSES]
    except (Gone, Unsupported):
        return True  # a threaded cgroup, or one that is just being removed
    init, depth = namespace.init_pids[0], len(namespace.init_pids)
    outside = [pid for pid in pids if pid != init and _depth(node.proc_root, pid) < depth]
    return not outside or min(_start_time(node.proc_root, pid) for pid in outside) > _start_time(node.proc_root, init)


def _depth(proc_root: str, pid: int) -> float:
    """Return in how many PID namespaces a process is, inward from that of /proc."""
    try:
        return len(parse_once(f"{proc_root}/{pid}/status", namespace_pids))
    except Gone:  # it has ended, or is outside of the namespace of this /proc: its number is 0 then
        return inf


def _start_time(proc_root: str, pid: int) -> float:
    """Return when a process was started, in clock ticks since boot; of one that has ended, never."""
    try:
        return parse_once(f"{proc_root}/{pid}/stat", parse_stat).start_time
    except Gone:
        return inf
