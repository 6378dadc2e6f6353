"""What one container has in a directory of exit files: a file of conmon's, or a directory of containerd's with a file `status` in it."""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from collectors.kernel.files import FLAGS

STATUS = "status"
MOST_BYTES = 256 << 10
"""A status has some hundreds; it is read and parsed in the event loop."""


class Unreadable(Exception):
    """An entry is not what a runtime would make; the message says why."""


class Entry(NamedTuple):
    """What one container has in one directory."""

    directory: str
    id: str

    @property
    def path(self) -> str:
        """Where it is."""
        return f"{self.directory}/{self.id}"

    def signature(self) -> tuple[int, ...] | None:
        """Return what is another one when it was written anew; None if it is not there (yet)."""
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if stat.S_ISDIR(found.st_mode):
                found = os.lstat(f"{self.path}/{STATUS}")
            return found.st_ino, found.st_mtime_ns, found.st_size
        return None

    def is_removed(self) -> bool:
        """Whether it is not there, though what it was in is: a directory that is unmounted or refused tells nothing of what is in it."""
        try:
            os.lstat(self.path)
        except FileNotFoundError:
            return os.path.isdir(self.directory)
        except OSError:
            return False
        return False

    def read(self) -> "Content":
        """Read it. Raises OSError, and Unreadable: a link is not followed, and nothing is waited for."""
        with _opened(self.path, FLAGS) as file:
            if not stat.S_ISDIR(os.fstat(file).st_mode):
                return Content(_read(file), os.fstat(file).st_mtime, is_cri=False)
            with _opened(STATUS, FLAGS, file) as status:
                return Content(_read(status), os.fstat(status).st_mtime, is_cri=True)


class Content(NamedTuple):
    """What was in it. `written` is the time of that, seconds of the wall clock."""

    raw: bytes
    written: float
    is_cri: bool


@contextlib.contextmanager
def _opened(path: str, flags: int, parent: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _read(file: int) -> bytes:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise Unreadable("not a regular file")
    raw = b""
    while (piece := os.read(file, MOST_BYTES + 1 - len(raw))) and len(raw) <= MOST_BYTES:
        raw += piece
    if len(raw) > MOST_BYTES:
        raise Unreadable(f"more than {MOST_BYTES} bytes")
    return raw
