"""What the root of a process is mounted from, by its /proc/PID/mountinfo (Documentation/filesystems/proc.rst 3.5).

Reading it takes the kernel's lock of the mount tree for reading, never the target's memory lock, and needs no privilege towards the target
(fs/proc_namespace.c mounts_open_common).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from collectors.kernel.files import ReadError
from collectors.kernel.mounts import MOST_BYTES, head

_MOST_OF_CONTAINER = 1 << 18
"""Bytes. The root is near the head, however many mounts a container makes; what is behind is not read."""
_KIND = re.compile(r"[A-Za-z0-9._+-]{1,64}")


@dataclass(frozen=True, slots=True)
class RootMount:
    """The mount that a process has as its root."""

    device: bytes
    """major:minor."""
    kind: str
    """The file system's name, such as overlay, btrfs, ext4, or fuse.NAME."""
    upper: bytes | None
    """Writable layer of an overlay, an absolute path as its mounter saw it; None: it has none, or is no overlay."""


def root_mount(path: str) -> RootMount | None:
    """Read the root from a mountinfo; None if it is not in it. Raises ReadError."""
    return parse_root(head(path, _MOST_OF_CONTAINER))


def parse_root(raw: bytes) -> RootMount | None:
    """Find the root in the lines of a mountinfo. What was mounted over it later is not what the process has as its root."""
    return next((mount for point, mount in _mounts(raw) if point == b"/"), None)


def has_overlay(path: str, wanted: RootMount) -> bool:
    """Whether a mountinfo has the same overlay, with the same writable layer, anywhere. Raises ReadError."""
    raw = head(path, MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ReadError(path, f"more than {MOST_BYTES} bytes of mounts")
    device = b" %b " % wanted.device
    # Only the lines with that device are parsed: a node has thousands.
    candidates = b"".join(line + b"\n" for line in raw.split(b"\n")[:-1] if device in line)
    return wanted.upper is not None and any(mount == wanted for _, mount in _mounts(candidates))


def _mounts(raw: bytes) -> Iterator[tuple[bytes, RootMount]]:
    """Yield where each is mounted, and what; a line that is cut short, or is not as documented, is left out.

    The kernel escapes spaces in paths, so that nobody's path looks like the separator between a mount and its file system.
    """
    for line in raw.split(b"\n")[:-1]:
        mount, separator, source = line.partition(b" - ")
        fields, described = mount.split(b" "), source.split(b" ")
        kind = _unescaped(described[0]).decode(errors="replace")
        if separator and len(fields) >= 6 and len(described) == 3 and _KIND.fullmatch(kind):
            yield fields[4], RootMount(fields[2], kind, _upper(described[2]) if kind == "overlay" else None)


def _upper(options: bytes) -> bytes | None:
    """Find upperdir in the options of an overlay. In its value a comma is an octal escape, so that commas are between options alone."""
    for option in options.split(b","):
        name, _, value = option.partition(b"=")
        if name == b"upperdir":
            # overlayfs has escapes of its own in paths, of `,` and `:`, and shows them as it was given them.
            path = re.sub(rb"\\(.)", rb"\1", _unescaped(value), flags=re.DOTALL)
            return path if path.startswith(b"/") and b"\0" not in path else None
    return None


def _unescaped(text: bytes) -> bytes:
    return re.sub(rb"\\([0-3][0-7]{2})", lambda found: bytes((int(found[1], 8),)), text)
