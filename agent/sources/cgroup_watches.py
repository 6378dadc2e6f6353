"""Which cgroups inotify watches, and why not all of them: it has limits, and so has the agent."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

from agent.inotify import IN_IGNORED, IN_Q_OVERFLOW, Event, Inotify, remedy
from collectors.base import Sample, counter, gauge

WATCHES = gauge("coroner_cgroup_inotify_watches", "Cgroups that inotify watches; they count against fs.inotify.max_user_watches.", ())
OVERFLOWS = counter(
    "coroner_cgroup_inotify_overflows_total", "Times the inotify queue overflowed, after which everything is read again.", ()
)

METRICS = (WATCHES, OVERFLOWS)


class CgroupWatches:
    """The inotify watches of cgroups, by their paths; `most` of them.

    Once one is refused no more are asked for until `open` is called again. `watched` has the watch of each path; `unwatched` the paths that
    are there but could not be watched, and `problem` says why.
    """

    def __init__(self, notifier: Callable[[], Inotify], most: int) -> None:
        self.watched: dict[str, int] = {}
        self.unwatched: set[str] = set()
        self.problem = ""
        self._notifier = notifier
        self._most = most
        self._inotify: Inotify | None = None
        self._paths: dict[int, str] = {}
        self._is_refused = False
        self._overflows = 0

    def samples(self) -> Iterable[Sample]:
        """Yield how many watches there are, and how often events were lost."""
        yield WATCHES, (), len(self.watched)
        yield OVERFLOWS, (), self._overflows

    @property
    def is_complete(self) -> bool:
        """Whether inotify tells of all that is to be watched."""
        return self._inotify is not None and not self.unwatched

    def open(self, woken: Callable[[], None]) -> None:
        """Try again what was refused; `woken` is called in the event loop when there are events."""
        self._is_refused, self.problem = False, ""
        if self._inotify is None:
            try:
                self._inotify = self._notifier()
            except OSError as error:
                self._refuse(remedy(error))
            else:
                asyncio.get_running_loop().add_reader(self._inotify.fd, woken)

    def close(self) -> None:
        """End all watches."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
        self._inotify = None
        self.watched, self._paths = {}, {}

    def read(self) -> Iterator[tuple[str, Event]]:
        """Yield what happened, and at which path; "" for IN_Q_OVERFLOW. The watch that an IN_IGNORED tells of is forgotten."""
        for event in self._inotify.read() if self._inotify is not None else ():
            path = self._paths.get(event.watch, "")
            self._overflows += bool(event.mask & IN_Q_OVERFLOW)
            if event.mask & IN_IGNORED:
                self.forget(path)
            if path or event.mask & IN_Q_OVERFLOW:
                yield path, event

    def watch(self, path: str, file: str, mask: int) -> bool:
        """Have inotify tell of a file of the cgroup at a path, if it can; return whether the file is there, or may be."""
        if self._inotify is not None and not self._is_refused:
            try:
                if path not in self.watched and len(self.watched) >= self._most:
                    self._refuse(f"more than {self._most} cgroups")
                else:
                    self._note(path, self._inotify.add(file, mask))
                    return True
            except (FileNotFoundError, NotADirectoryError):
                self.forget(path)
                return False
            except PermissionError:  # its owner closed it, which costs no other its watch
                self.problem = f"{file} is closed, and to watch it takes CAP_DAC_READ_SEARCH"
            except OSError as error:
                self._refuse(remedy(error))
        if _is_gone(file):
            self.forget(path)
            return False
        if path not in self.watched:
            self.unwatched.add(path)
        return True

    def miss(self, path: str, problem: str) -> None:
        """Note that there is nothing to watch at a path where something has to be."""
        self.unwatched.add(path)
        self.problem = problem

    def forget(self, path: str) -> None:
        """Watch a path no more."""
        self.unwatched.discard(path)
        # The watch of a cgroup that was removed lives on up to kernel 6.12.
        watch = self.watched.pop(path, None)
        if watch is not None:
            self._paths.pop(watch, None)
            if self._inotify is not None:
                with contextlib.suppress(OSError):  # it has ended by itself
                    self._inotify.remove(watch)

    def _note(self, path: str, watch: int) -> None:
        if self.watched.get(path) != watch:
            self.forget(path)
        self.watched[path], self._paths[watch] = watch, path
        self.unwatched.discard(path)

    def _refuse(self, problem: str) -> None:
        self._is_refused, self.problem = True, problem


def _is_gone(file: str) -> bool:
    try:
        os.stat(file)
    except PermissionError:  # nobody can tell
        return False
    except (OSError, ValueError):
        return True
    return False
