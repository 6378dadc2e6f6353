"""The lines of /proc/PID/mountinfo (Documentation/filesystems/proc.rst 3.5).

Reading it takes the kernel's lock of the mount tree for reading, never the target's memory lock, needs no privilege towards the target
(fs/proc_namespace.c mounts_open_common), and asks no file system's server: one that does not answer, such as FUSE's, holds nobody up
(tests/lab/guest/test_isolation.py). Only btrfs looks for a name, of the subvolume, on its disk (fs/btrfs/super.c), which is mostly in
memory.
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from collectors.kernel.files import FLAGS, ReadError, explain

MOST_BYTES = 16 << 20
"""A node with 1,000 containers has some 2 MiB; whoever may mount can make as many lines as the kernel's fs.mount-max allows."""

_PIECE = 1 << 16


class Entry(NamedTuple):
    """One line. Paths and options have the kernel's octal escapes."""

    id: bytes
    """Number of the mount, which the kernel uses again."""
    device: bytes
    """major:minor of the file system, used again after its last unmount."""
    root: bytes
    """Path in that file system of what is mounted."""
    point: bytes
    """Where it is mounted, below the root of the process."""
    options: bytes
    """Of the mount."""
    kind: bytes
    """The file system's name."""
    all_options: bytes
    """Of the whole file system."""


def entries(raw: bytes, having: bytes = b"") -> Iterator[Entry]:
    """Yield the lines, of which only those are looked at that have some bytes in them: a node has thousands.

    A line that is cut short, or is not as documented, is left out. The kernel escapes spaces in paths, so that nobody's path looks like
    the separator between a mount and its file system.
    """
    for line in raw.split(b"\n")[:-1]:
        if having in line:
            mount, separator, source = line.partition(b" - ")
            fields, described = mount.split(b" "), source.split(b" ")
            if separator and len(fields) >= 6 and len(described) == 3:
                yield Entry(fields[0], fields[2], fields[3], fields[4], fields[5], described[0], described[2])


def head(path: str, most: int) -> bytes:
    """Read so many bytes of it, or all if it has fewer. Raises ReadError."""
    try:
        fd = os.open(path, FLAGS)
        try:
            raw = b""
            while len(raw) < most and (piece := os.read(fd, min(_PIECE, most - len(raw)))):
                raw += piece
            return raw
        finally:
            os.close(fd)
    except OSError as error:
        raise explain(error, path) from error


def whole(path: str, most: int) -> bytes:
    """Read all of it. Raises ReadError, also for more than `most` bytes: a part of the mounts is not the mounts."""
    raw = head(path, most + 1)
    if len(raw) > most:
        raise ReadError(path, f"more than {most} bytes of mounts")
    return raw


def unescaped(text: bytes) -> bytes:
    """Return what the kernel has escaped."""
    if b"\\" not in text:
        return text
    return re.sub(rb"\\([0-3][0-7]{2})", lambda found: bytes((int(found[1], 8),)), text)
