"""All mounts of a process, from mountinfo."""

from dataclasses import dataclass

from collectors.kernel.mountinfo import entries, head, unescaped


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
    """Parse a mountinfo. A line that is cut short, or is not as documented, is left out."""
    return tuple(
        Mount(each.device, unescaped(each.root), unescaped(each.point), b"ro" in (*each.options.split(b","), *each.all_options.split(b",")))
        for each in entries(raw)
    )
