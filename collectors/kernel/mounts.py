"""Overlay mounts, from mountinfo."""

from dataclasses import dataclass

from collectors.kernel.mountinfo import MOST_BYTES, entries, head, whole

_MOST_OF_CONTAINER = 1 << 18


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
    """Overlays in a mountinfo. Raises ReadError, also for one of more than `most` bytes."""
    return parse_overlays(whole(path, most))


def root_devices(path: str, most: int = _MOST_OF_CONTAINER) -> frozenset[bytes]:
    """Device of the overlay that is the root of a process, by its mountinfo; empty if its root is none. Raises ReadError.

    Not of others: whoever mounts directories of the node, such as the agent's own pod, has the roots of other containers below those. The
    root is near the head, however many mounts a container makes; what is behind is not read.
    """
    return frozenset(overlay.device for overlay in parse_overlays(head(path, most)) if overlay.point == b"/")


def parse_overlays(raw: bytes) -> frozenset[Overlay]:
    """Find the lines of overlays; one that is cut short is none."""
    return frozenset(Overlay(each.device, each.id, each.point) for each in entries(raw, b" - overlay ") if each.kind == b"overlay")
