"""How much disk a directory takes, with everything below it that is on the same file system: slowly, and up to a bound.

What is below belongs to a container, which may change it meanwhile: names are data, no symbolic link is followed, and each directory is
opened in the one above it, so that none that was swapped for a link leads out.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress

MOST_ENTRIES = 200_000
MOST_LEVELS = 100
"""A descriptor is open for each."""
MOST_SECONDS = 300.0

_SHARE = 0.05
"""Of one processor, and of the disk: the walk rests for the other part of the time."""
_SLICE_SECONDS = 0.01
_LONGEST_REST = 0.1
"""Part of the time that a walk may take. By the clock one that waits for a busy processor works, and would rest for all that is left."""
_BLOCK_BYTES = 512
"""Unit of st_blocks, whatever the file system's own is (inode(7))."""
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class TooLarge(Exception):
    """There is more, or it takes longer, than is looked at."""


class Changed(Exception):
    """Something in it was changed since nobody should have: it is being removed, or used again."""


class Stopped(Exception):
    """Nobody wants the answer any more."""


class Pace:
    """Has one walk rest most of the time. `sleep` waits so many seconds, and returns True when the walk is to stop.

    `share` is how much of its time it works, `most_seconds` how long it takes at most.
    """

    def __init__(
        self,
        sleep: Callable[[float], bool],
        clock: Callable[[], float] = time.monotonic,
        *,
        share: float = _SHARE,
        most_seconds: float | None = None,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._share = share
        self._most_seconds = MOST_SECONDS if most_seconds is None else most_seconds
        self._begun = self._since = clock()

    def rest(self) -> None:
        """Rest if it is time to. Raises Stopped, and TooLarge after too long."""
        worked = self._clock() - self._since
        if worked < _SLICE_SECONDS:
            return
        if self._sleep(min(worked * (1 / self._share - 1), self._most_seconds * _LONGEST_REST)):
            raise Stopped
        self._since = self._clock()
        if self._since - self._begun > self._most_seconds:
            raise TooLarge


def disk_usage(path: str | bytes, pace: Pace, *, unchanged_since: float | None = None) -> int:
    """Return the bytes that are allocated for a directory and what is below it; what has hard links counts once.

    Raises TooLarge, Stopped, and OSError; not for what vanishes below `path` meanwhile. With `unchanged_since`, by the wall clock, also
    Changed if an entry of any directory came or went since (ctime, which nobody can choose).
    """
    top = os.open(path, _FLAGS)
    try:
        walk = _Walk(os.fstat(top), pace, float("inf") if unchanged_since is None else unchanged_since)
        walk.directory(top, 1)
        return walk.blocks * _BLOCK_BYTES
    finally:
        os.close(top)


class _Walk:
    def __init__(self, top: os.stat_result, pace: Pace, unchanged_since: float) -> None:
        self._unchanged_since = unchanged_since
        self.blocks = top.st_blocks
        self._device = top.st_dev
        self._pace = pace
        self._entries = 0
        self._linked: set[int] = set()

    def directory(self, fd: int, level: int) -> None:
        """Add all that is below an open directory."""
        below = []
        with os.scandir(fd) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > MOST_ENTRIES:
                    raise TooLarge
                self._pace.rest()
                with suppress(FileNotFoundError):
                    if self._add(entry.stat(follow_symlinks=False)):
                        below.append(entry.name)
        if os.fstat(fd).st_ctime > self._unchanged_since:  # after the listing: what was gone by then has left its mark
            raise Changed
        if below and level == MOST_LEVELS:
            raise TooLarge
        for name in below:
            self._enter(fd, name, level + 1)

    def _add(self, status: os.stat_result) -> bool:
        """Add one entry; return whether it is a directory to look into."""
        if status.st_dev != self._device:
            return False
        is_directory = stat.S_ISDIR(status.st_mode)
        if status.st_nlink > 1 and not is_directory:
            if status.st_ino in self._linked:
                return False
            self._linked.add(status.st_ino)
        self.blocks += status.st_blocks
        return is_directory

    def _enter(self, above: int, name: str, level: int) -> None:
        self._pace.rest()
        try:
            fd = os.open(name, _FLAGS, dir_fd=above)
        except OSError as error:
            if error.errno in _VANISHED:
                return
            raise
        try:
            if os.fstat(fd).st_dev == self._device:
                self.directory(fd, level)
        finally:
            os.close(fd)
