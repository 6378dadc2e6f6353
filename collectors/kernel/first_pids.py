"""Whether the PIDs of a /proc are those of the first PID namespace, which the kernel log has, or of the agent's own."""

import os

from collectors.kernel.files import read_whole
from collectors.kernel.process_status import namespace_pids

INITIAL_PID_NAMESPACE = "4026531836"
"""Inode of the first PID namespace on every kernel (include/linux/proc_ns.h), for when not even that link may be read."""


def has_first_pids(root: str) -> bool | None:
    """Whether the PIDs of this /proc are those of the first PID namespace, as the kernel log has them; None is not known."""
    try:
        if inode_of(os.readlink(f"{root}/self/ns/pid")) == INITIAL_PID_NAMESPACE:
            return True
    except (OSError, ValueError):
        return None
    return False if is_own(root) else None


def is_own(root: str) -> bool:
    """Whether this /proc is of the agent's own PID namespace, and not of one around it: NSpid of the agent has one PID."""
    try:
        return len(namespace_pids(read_whole(f"{root}/self/status"))) == 1
    except (OSError, ValueError):
        return False


def inode_of(link: str) -> str:
    """Return the inode of a namespace link such as `pid:[4026531836]`."""
    return link[link.index("[") + 1 : -1]
