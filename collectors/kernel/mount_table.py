"""All mounts of a process, by its /proc/PID/mountinfo (Documentation/filesystems/proc.rst 3.5).

Reading it takes the kernel's lock of the mount tree for reading, never the target's memory lock (fs/proc_namespace.c), and asks no file
system's server: one that does not answer, such as FUSE's, holds nobody up (tests/lab/guest/test_isolation.py). Only btrfs looks for a name,
of the subvolume, on its disk (fs/btrfs/super.c), which is mostly in memory.
"""

import re
from dataclasses import dataclass

from collectors.kernel.mounts import head


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount."""

    device: bytes
    """major:minor of the file system."""
    root: bytes
    """Path in that file system of what is mounted; `//deleted` at its end: the path is gone there."""
    point: bytes
    """Where it is mounted, below the root of the process."""
    is_read_only: bool
    """The mount, or the whole file system."""


def mounts(path: str, most: int) -> tuple[tuple[Mount, ...], bool]:
    """Read the mounts within the first `most` bytes, in their order, and whether these are all. Raises ReadError."""
    raw = head(path, most)
    return parse_mounts(raw), len(raw) < most


def parse_mounts(raw: bytes) -> tuple[Mount, ...]:
    """Parse a mountinfo. A line that is cut short, or is not as documented, is left out.

    The kernel escapes spaces in paths, so that nobody's path looks like the separator between a mount and its file system.
    """
    found = []
    for line in raw.split(b"\n")[:-1]:
        mount, separator, source = line.partition(b" - ")
        fields, described = mount.split(b" "), source.split(b" ")
        if separator and len(fields) >= 6 and len(described) == 3:
            is_read_only = b"ro" in fields[5].split(b",") or b"ro" in described[2].split(b",")
            found.append(Mount(fields[2], _unescaped(fields[3]), _unescaped(fields[4]), is_read_only))
    return tuple(found)


def _unescaped(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    return re.sub(rb"\\([0-3][0-7]{2})", lambda found: bytes((int(found[1], 8),)), text)
