"""What the kernel enforces on a container, by what /proc says of one process of it. No path that the container controls is opened."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from collectors.kernel import namespaces
from collectors.kernel.container_init import Init
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.mount_table import Mount, mounts
from collectors.kernel.namespaces import UserMap
from collectors.kernel.process_stat import parse_stat
from collectors.kernel.process_status import Status

T = TypeVar("T")

_MOST_MOUNTS_BYTES = 1 << 18
"""A container has some 20 lines of 150 bytes; one that may mount can make as many as the kernel's fs.mount-max allows."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What holds for one process, of its main thread; None is not known: forbidden, or nothing that this kernel tells."""

    pid: int
    is_init: bool
    """PID 1 of a namespace of its own; if not, it is the first process of a container in another one's."""
    age_seconds: float
    users: UserMap | None
    shared: tuple[str, ...] | None
    """Kinds of namespaces that are those of the node."""
    seccomp: int | None
    no_new_privileges: bool | None
    capabilities: int | None
    """Bit mask of those in effect."""
    mounts: tuple[Mount, ...] | None
    has_all_mounts: bool

    @property
    def is_root_read_only(self) -> bool | None:
        """Whether its root is mounted read-only. What was mounted over it later is not what the process has as its root."""
        return next((mount.is_read_only for mount in self.mounts or () if mount.point == b"/"), None)


def confinement(proc_root: str, init: Init, node: Mapping[str, str]) -> Confinement | None:
    """Look at a process; None if it has ended, or does not run its container's program yet. `node` are the namespaces of the node."""
    if not init.comm:
        return None
    process = f"{proc_root}/{init.pid}"
    status = _known(lambda: parse_once(f"{process}/status", Status))
    if status is None:
        return None
    table = _known(lambda: mounts(f"{process}/mountinfo", _MOST_MOUNTS_BYTES))  # a zombie has none (EINVAL)
    no_new_privileges = _known(lambda: status.no_new_privileges)
    found = Confinement(
        pid=init.pid,
        is_init=_known(lambda: status.namespace_pids[-1:]) == (1,),
        age_seconds=init.age_seconds,
        users=_known(lambda: parse_once(f"{process}/uid_map", namespaces.parse_uid_map)),
        shared=namespaces.shared(namespaces.links(proc_root, init.pid), node),
        seccomp=_known(lambda: status.seccomp),
        no_new_privileges=None if no_new_privileges is None else bool(no_new_privileges),
        capabilities=_known(lambda: status.effective_capabilities),
        mounts=table[0] if table else None,
        has_all_mounts=bool(table and table[1]),
    )
    after = _known(lambda: parse_once(f"{process}/stat", parse_stat))
    # Its number may be another process' by now, which has told some of this.
    return found if after is not None and after.start_time == init.start_time else None


def _known(read: Callable[[], T]) -> T | None:
    """What cannot be read, or is not as documented, is not known: the rest is."""
    with suppress(ReadError, ValueError):
        return read()
    return None
