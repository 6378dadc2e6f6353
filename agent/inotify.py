"""inotify(7) over libc: the kernel tells what happens in directories. Notifications are hints: a queue that overflows loses some."""

import asyncio
import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800

IN_UNMOUNT = 0x2000
"""Not asked for: the file system of a watched directory was unmounted."""
IN_Q_OVERFLOW = 0x4000
"""Not asked for: the queue was full (fs.inotify.max_queued_events), and what came since is lost. Its watch is -1."""
IN_IGNORED = 0x8000
"""Not asked for: a watch has ended, because it was removed or what it watched is gone."""

IN_ONLYDIR = 0x1000000
"""With a mask: fail with ENOTDIR for what is not a directory."""
IN_DONT_FOLLOW = 0x2000000
"""With a mask: do not follow a symbolic link."""
IN_ISDIR = 0x40000000
"""In an event: it is about a directory."""

_LIMITS = {errno.ENOSPC: " (raise fs.inotify.max_user_watches)", errno.EMFILE: " (raise fs.inotify.max_user_instances)"}

_EVENT = struct.Struct("iIII")
_BUFFER = 65536

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_init1.argtypes = (ctypes.c_int,)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_libc.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)


def remedy(error: OSError) -> str:
    """Say what went wrong, and which limit to raise if it was one."""
    return os.strerror(error.errno or 0) + _LIMITS.get(error.errno or 0, "")


class Event(NamedTuple):
    """One event. `name` is empty when it is about the watched directory itself, or about the queue."""

    watch: int
    mask: int
    cookie: int
    """The same for the two halves of one rename, else 0."""
    name: bytes


class Inotify:
    """One queue of events; `fd` is readable when there are some. Raises OSError: EMFILE is fs.inotify.max_user_instances."""

    def __init__(self) -> None:
        self.fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")

    def add(self, path: str, mask: int) -> int:
        """Watch a path and return the watch. The same file again gives the same watch, with the new mask.

        Raises OSError: ENOSPC is fs.inotify.max_user_watches, not a full disk. Raises ValueError for a path with a NUL, as open() does.
        """
        if "\0" in path:
            raise ValueError("embedded null byte")
        return _checked(_libc.inotify_add_watch(self.fd, os.fsencode(path), mask), path)

    def remove(self, watch: int) -> None:
        """End a watch. Raises OSError: EINVAL for one that has ended by itself."""
        _checked(_libc.inotify_rm_watch(self.fd, watch), f"inotify watch {watch}")

    def read(self) -> list[Event]:
        """Return the next events, up to some hundreds, in their order; none when there are none for now. Raises OSError."""
        try:
            raw = os.read(self.fd, _BUFFER)
        except BlockingIOError:
            return []
        events = []
        at = 0
        while at < len(raw):
            watch, mask, cookie, length = _EVENT.unpack_from(raw, at)
            at += _EVENT.size + length
            events.append(Event(watch, mask, cookie, raw[at - length : at].rstrip(b"\0")))
        return events

    def close(self) -> None:
        """End all watches."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextlib.contextmanager
def appearance(path: str, tell: Callable[[], None]) -> Iterator[None]:
    """Have the event loop call `tell` when what has this path is made or moved there, while the block lasts; without inotify never."""
    directory, name = os.path.split(path)
    with contextlib.ExitStack() as stack:
        # A directory that is not there, or no more watches to be had: nobody may rely on being told.
        with contextlib.suppress(OSError):
            inotify = Inotify()
            stack.callback(inotify.close)
            inotify.add(directory, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR)

            def look() -> None:
                if any(event.name == os.fsencode(name) for event in inotify.read()):
                    tell()

            loop = asyncio.get_running_loop()
            loop.add_reader(inotify.fd, look)
            stack.callback(loop.remove_reader, inotify.fd)
        yield


def _checked(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)
    return result
