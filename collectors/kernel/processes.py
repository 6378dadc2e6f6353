"""What one scan of /proc finds (procfs.py): zombies, PID namespaces, what runtimes are made of, and who came in from outside."""

from collections.abc import Mapping
from dataclasses import dataclass

DAEMON_NAMES = frozenset((b"dockerd", b"containerd", b"crio"))
SHIM_NAMES = frozenset((b"containerd-shim", b"conmon"))
"""Names of what containers are started by, and of what stays beside each; the kernel keeps 15 bytes of a name, of shims so much."""


@dataclass(frozen=True, slots=True)
class Zombie:
    """A process that has ended and that its parent has not waited for: state Z and no live thread.

    Ids are those in this /proc; `parent` is the one that should wait now, 0 if it is outside. `start_time` in clock ticks since boot.
    """

    pid: int
    start_time: int
    namespace: str
    cgroup: str | None
    parent_is_init: bool
    comm: bytes = b""
    parent: int = 0


@dataclass(frozen=True, slots=True)
class Namespace:
    """A PID namespace: processes in it, zombies included, and the cgroup of its init (None if the init cannot be seen).

    `init_pids` is NSpid of the init, of which the first is its PID in this /proc; of the namespace of /proc itself it is not looked for.
    `init_has_children`: whether a process that has not ended has it as its parent, one that it adopted included.
    """

    processes: int
    zombies: int
    init_cgroup: str | None
    init_pids: tuple[int, ...] = ()
    init_has_children: bool = False


@dataclass(frozen=True, slots=True)
class RuntimeProcess:
    """A process with a name of DAEMON_NAMES or SHIM_NAMES in the PID namespace of /proc itself. Any process can give itself that name."""

    pid: int
    start_time: int
    comm: bytes
    children: tuple[int, ...]
    """PIDs, zombies included. What a runtime starts becomes a child of its shim, which is the reaper of its descendants."""


@dataclass(frozen=True, slots=True)
class Entered:
    """A process that runs in a PID namespace whose init it is not, with a parent outside of it: it came by setns(2)."""

    namespace: str
    cgroup: str | None


@dataclass(frozen=True, slots=True)
class Processes:
    """One scan. `unreadable` counts processes whose ns/pid the agent may not read."""

    zombies: tuple[Zombie, ...]
    namespaces: Mapping[str, Namespace]
    unreadable: int
    runtimes: tuple[RuntimeProcess, ...] = ()
    entered: tuple[Entered, ...] = ()
