"""What the root of a process is mounted from, by its mountinfo."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from collectors.kernel.mountinfo import MOST_BYTES, entries, head, unescaped, whole

_MOST_OF_CONTAINER = 1 << 18
"""Bytes. The root is near the head, however many mounts a container makes; what is behind is not read."""
_KIND = re.compile(r"[A-Za-z0-9._+-]{1,64}")


@dataclass(frozen=True, slots=True)
class RootMount:
    """The mount that a process has as its root."""

    device: bytes
    """major:minor."""
    directory: bytes
    """Path in the file system of what is mounted, as the kernel escapes it."""
    kind: str
    """The file system's name, such as overlay, btrfs, ext4, or fuse.NAME."""
    upper: bytes | None
    """Writable layer of an overlay, an absolute path as its mounter saw it; None: it has none, or is no overlay or a part of one."""


def root_mount(path: str) -> RootMount | None:
    """Read the root from a mountinfo; None if it is not in it. Raises ReadError."""
    return parse_root(head(path, _MOST_OF_CONTAINER))


def parse_root(raw: bytes) -> RootMount | None:
    """Find the root in the lines of a mountinfo. What was mounted over it later is not what the process has as its root."""
    return next((mount for point, mount in _mounts(raw) if point == b"/"), None)


def has_overlay(path: str, wanted: RootMount) -> bool:
    """Whether a mountinfo has the same overlay, with the same writable layer, anywhere. Raises ReadError."""
    if wanted.upper is None:
        return False
    return any(mount == wanted for _, mount in _mounts(whole(path, MOST_BYTES), b" %b " % wanted.device))


def _mounts(raw: bytes, having: bytes = b"") -> Iterator[tuple[bytes, RootMount]]:
    """Yield where each is mounted, and what; one whose kind could not be a label is left out."""
    for entry in entries(raw, having):
        kind = unescaped(entry.kind).decode(errors="replace")
        if _KIND.fullmatch(kind):
            is_whole_overlay = kind == "overlay" and entry.root == b"/"
            yield entry.point, RootMount(entry.device, entry.root, kind, _upper(entry.all_options) if is_whole_overlay else None)


def _upper(options: bytes) -> bytes | None:
    """Find upperdir in the options of an overlay. In its value a comma is an octal escape, so that commas are between options alone."""
    for option in options.split(b","):
        name, _, value = option.partition(b"=")
        if name == b"upperdir":
            # overlayfs has escapes of its own in paths, of `,` and `:`, and shows them as it was given them.
            path = re.sub(rb"\\(.)", rb"\1", unescaped(value), flags=re.DOTALL)
            return path if path.startswith(b"/") and b"\0" not in path else None
    return None
