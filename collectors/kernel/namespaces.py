"""Which namespaces of a process are those of another one: links in /proc/PID/ns, and /proc/PID/uid_map (namespaces(7), user_namespaces(7)).

The links may be read by whoever may ptrace the process; uid_map by all. Neither waits for a memory lock.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from collectors.kernel.files import ReadError, read_once

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
"""Without `user`, of which uid_map tells more, and `time`, which no runtime makes."""

_FIRST = {"cgroup": 4026531835, "pid": 4026531836, "uts": 4026531838, "ipc": 4026531839}
"""Inodes of the first ones on every kernel (include/linux/proc_ns.h); those of mnt and net are allocated at boot before 6.18."""

_PF_KTHREAD = 0x200000
_ALL_IDS = 4294967295


def links(proc_root: str, pid: int) -> dict[str, str]:
    """Return the namespaces of a process by kind, as `net:[4026531840]`; those that may not be read, or are not there, are left out."""
    found = {}
    for kind in KINDS:
        try:
            found[kind] = os.readlink(f"{proc_root}/{pid}/ns/{kind}")
        except OSError:
            continue
    return found


def links_of_node(proc_root: str) -> dict[str, str]:
    """Return those of the node, by its PID 1, or by the kernel's own threads where a security module keeps that one's from root.

    What neither tells is known of the kinds that have the same inode on every kernel.
    """
    first = {kind: f"{kind}:[{inode}]" for kind, inode in _FIRST.items()}
    return first | (links(proc_root, 1) or (links(proc_root, 2) if _is_kthreadd(proc_root) else {}))


def _is_kthreadd(proc_root: str) -> bool:
    """Whether PID 2 is a thread of the kernel (PF_KTHREAD): these are in the first namespaces, and no process can look like one."""
    with suppress(ReadError, ValueError, IndexError):
        raw = read_once(f"{proc_root}/2/stat")
        return bool(int(raw[raw.rindex(b")") + 2 :].split(None, 7)[6]) & _PF_KTHREAD)
    return False


def shared(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the kinds of namespaces that two processes have in common; None unless all can be compared."""
    if not all(kind in one and kind in other for kind in KINDS):
        return None
    return tuple(kind for kind in KINDS if one[kind] == other[kind])


@dataclass(frozen=True, slots=True)
class UserMap:
    """What users inside a user namespace are outside of it, in that of the reader."""

    is_whole: bool
    """Every user is itself, as in the first user namespace."""
    root: int | None
    """User that root inside is outside; None: there is no root inside."""


def parse_uid_map(raw: bytes) -> UserMap:
    """Parse /proc/PID/uid_map: lines of first id inside, first id outside, and how many. Raises ValueError; also for an empty one."""
    ranges = []
    for line in raw.splitlines():
        inside, outside, count = map(int, line.split())
        ranges.append((inside, outside, count))
    if not ranges or not raw.endswith(b"\n"):
        raise ValueError("nothing is mapped yet, or it is cut short")
    root = next((outside for inside, outside, count in ranges if inside == 0 and count), None)
    return UserMap(ranges == [(0, 0, _ALL_IDS)], root)
