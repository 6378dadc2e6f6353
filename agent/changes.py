"""Which of the kernel's files have changed, as inotify tells (collectors/kernel/files.py): what is announced is not read until then."""

import contextlib
from collections.abc import Callable, Sequence

from agent.inotify import IN_MODIFY, IN_Q_OVERFLOW, Inotify
from collectors.kernel.files import ReadError
from collectors.kernel.node import inotify_watches

SHARE = 4
"""Part of fs.inotify.max_user_watches that is taken at most: others of the same user want some too."""


class InotifyChanges:
    """Watches files while there are watches to be had; afterwards no more."""

    def __init__(self, proc_root: str, notifier: Callable[[], Inotify] = Inotify) -> None:
        self._count = self._newest = 0
        self._most = 0
        self._inotify: Inotify | None = None
        with contextlib.suppress(ReadError, OSError):  # without it everything is read in each pass
            self._most = inotify_watches(proc_root) // SHARE
            self._inotify = notifier()

    def watch(self, path: str) -> int:
        """Tell of changes of a file from now on; return the number of its watch, 0 if it cannot be watched."""
        if self._inotify is None or self._count >= self._most:
            return 0
        try:
            watch = self._inotify.add(path, IN_MODIFY)
        except (OSError, ValueError):  # it is not there, as the read will say; or fs.inotify.max_user_watches
            return 0
        if watch > self._newest:  # the kernel numbers them upwards (inotify_add_to_idr), so this is no watch that there was before
            self._newest = watch
            self._count += 1
        return watch

    def forget(self, watch: int) -> None:
        """Tell no more of it. The kernel does not by itself: the files of a removed cgroup do not say that they are gone."""
        self._count -= 1
        if self._inotify is not None:
            with contextlib.suppress(OSError):  # on other file systems it has ended by itself
                self._inotify.remove(watch)

    def take(self) -> Sequence[int] | None:
        """Return the watches of those that have changed since the last call; None if events were lost."""
        changed: list[int] = []
        while events := self._inotify.read() if self._inotify is not None else ():
            if any(event.mask & IN_Q_OVERFLOW for event in events):
                changed.append(-1)
            changed += [event.watch for event in events]
        return None if -1 in changed else changed

    def close(self) -> None:
        """End all watches."""
        if self._inotify is not None:
            self._inotify.close()
        self._inotify = None
