"""The directories in which runtimes keep bundles: which are in each. inotify tells of changes, and a listing finds what it missed."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from agent.inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Inotify,
    remedy,
)
from agent.sources.oci_bundle import IDENTIFIER, list_bundles
from collectors.base import Sample, counter, gauge
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import explain

INOTIFY_UP = gauge("coroner_oci_inotify_up", "1 while inotify reports new bundles; 0 means that only a periodic rescan finds them.", ())
OVERFLOWS = counter("coroner_oci_inotify_overflows_total", "Times the inotify queue overflowed, which the next rescan makes up for.", ())

METRICS = (INOTIFY_UP, OVERFLOWS)

# containerd renames a bundle to .ID before it deletes what is in it, so the end of one is a move.
_EVENTS = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR


@dataclass(slots=True)
class BundleDirectory:
    """A directory of bundles, and those that were in it last."""

    path: str
    present: set[ContainerKey] = field(default_factory=set)
    was_listed: bool = False


class BundleDirectories:
    """All directories of bundles that are followed; some may not be there.

    `is_notified` while inotify tells of new bundles. After a listing, `unseen` says what could not be seen, and `blind` why no directory
    could be listed, if none could.
    """

    def __init__(self, paths: Sequence[str], notifier: Callable[[], Inotify]) -> None:
        self.directories = [BundleDirectory(path) for path in dict.fromkeys(paths)]
        self.is_notified = False
        self.unseen: list[str] = []
        self.blind = ""
        self._notifier = notifier
        self._inotify: Inotify | None = None
        self._watches: dict[int, BundleDirectory] = {}
        self._overflows = 0

    def samples(self) -> Iterable[Sample]:
        """Yield how changes are found."""
        yield INOTIFY_UP, (), int(self.is_notified)
        yield OVERFLOWS, (), self._overflows

    def present(self) -> set[ContainerKey]:
        """Ids of all bundles that are there, as far as is known."""
        return {identifier for directory in self.directories for identifier in directory.present}

    def changes(self) -> Iterator[tuple[ContainerKey | None, bool]]:
        """Yield the id of each bundle that came (true) or went (false), in order; None if changes were lost, and all must be listed."""
        for event in self._inotify.read() if self._inotify else ():
            name = event.name.decode(errors="replace")
            if not name:  # lost events, or a directory that is gone itself
                self._overflows += bool(event.mask & IN_Q_OVERFLOW)
                yield None, False
            elif event.watch in self._watches and IDENTIFIER.fullmatch(name):
                identifier, directory = ContainerKey(name), self._watches[event.watch]
                if event.mask & (IN_CREATE | IN_MOVED_TO):
                    directory.present.add(identifier)
                    yield identifier, True
                elif event.mask & (IN_DELETE | IN_MOVED_FROM):
                    directory.present.discard(identifier)
                    if not any(identifier in other.present for other in self.directories):
                        yield identifier, False

    def list_all(self, woken: Callable[[], None]) -> dict[ContainerKey, bool]:
        """List every directory; return the ids found, and whether each was there before its directory was listed for the first time.

        From then on `woken` is called in the event loop when there are changes.
        """
        # Watched before it is listed: what happens between the two is then a change, not a gap.
        self.unseen = self._watch(woken)
        found: dict[ContainerKey, bool] = {}
        listed, refused = 0, []
        for directory in self.directories:
            try:
                present = list_bundles(directory.path)
            except (FileNotFoundError, NotADirectoryError):
                directory.present = set()
            except OSError as error:  # no telling what is in it, so nothing in it has ended
                refused.append(str(explain(error, directory.path)))
            else:
                listed += 1
                for identifier in present:
                    found.setdefault(identifier, not directory.was_listed)
                directory.present, directory.was_listed = present, True
        self.unseen += refused
        self.blind = "" if listed else "; ".join(refused) or self._none_there()
        return found

    def close(self) -> None:
        """Watch no more."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
        self._inotify, self._watches, self.is_notified = None, {}, False

    def _watch(self, woken: Callable[[], None]) -> list[str]:
        """Watch every directory that is there; return why not, if so. Adding one again is cheap, and finds one that was made anew."""
        watches: dict[int, BundleDirectory] = {}
        problem = []
        try:
            if self._inotify is None:
                self._inotify = self._notifier()
                asyncio.get_running_loop().add_reader(self._inotify.fd, woken)
            for directory in self.directories:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # listing it will say so
                    watches[self._inotify.add(directory.path, _EVENTS)] = directory
        except OSError as error:
            problem = [f"inotify: {remedy(error)}; new bundles are looked for every second instead"]
        if self._inotify is not None:
            for watch in self._watches.keys() - watches.keys():
                with contextlib.suppress(OSError):  # it has ended by itself
                    self._inotify.remove(watch)
        self._watches = watches
        self.is_notified = not problem
        return problem

    def _none_there(self) -> str:
        paths = ", ".join(directory.path for directory in self.directories)
        return f"no bundles at {paths}; mount the runtime's directory here, or set --path.bundles"
