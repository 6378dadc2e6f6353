"""Overlay mounts from /proc/PID/mountinfo (Documentation/filesystems/proc.rst 3.5).

Reading it takes the kernel's lock of the mount tree for reading and asks no file system: a server that does not answer holds nobody up.
"""

import os
from dataclasses import dataclass

from collectors.kernel.files import FLAGS, ReadError, explain

MOST_BYTES = 16 << 20
"""A node with 1,000 containers has some 2 MiB; whoever may mount can make as many lines as the kernel's fs.mount-max allows."""

_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Overlay:
    """One mount of an overlay file system. Other mounts of the same one, also in other mount namespaces, have the same device."""

    device: bytes
    """major:minor, of which the kernel uses each again after the last unmount."""
    id: bytes
    """Number of the mount, used again too."""
    point: bytes
    """Where it is mounted, with the kernel's octal escapes."""


def overlays(path: str, most: int = MOST_BYTES) -> frozenset[Overlay]:
    """Overlays in a mountinfo. Raises ReadError, also for one of more than `most` bytes: a part of the mounts is not the mounts."""
    raw = head(path, most + 1)
    if len(raw) > most:
        raise ReadError(path, f"more than {most} bytes of mounts")
    return parse_overlays(raw)


def root_devices(path: str, most: int = 4 * _PIECE) -> frozenset[bytes]:
    """Device of the overlay that is the root of a process, by its mountinfo; empty if its root is none. Raises ReadError.

    Not of others: whoever mounts directories of the node, such as the agent's own pod, has the roots of other containers below those. The
    root is near the head, however many mounts a container makes; what is behind is not read.
    """
    return frozenset(overlay.device for overlay in parse_overlays(head(path, most)) if overlay.point == b"/")


def parse_overlays(raw: bytes) -> frozenset[Overlay]:
    """Find the lines of overlays; one that is cut short is none.

    The kernel escapes spaces in paths, so that nobody's path looks like the separator between a mount and its file system.
    """
    found = []
    for line in raw.split(b"\n")[:-1]:
        mount, _, kind = line.partition(b" - ")
        if kind.startswith(b"overlay "):
            fields = mount.split(b" ")
            if len(fields) >= 6:
                found.append(Overlay(device=fields[2], id=fields[0], point=fields[4]))
    return frozenset(found)


def head(path: str, most: int) -> bytes:
    """Read so many bytes of a kernel file that may be long, or all if it has fewer. Raises ReadError."""
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
