"""The directories in which runtimes say how containers ended: which entries are in each. inotify tells of changes, a listing of more."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from agent.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE_SELF,
    IN_DONT_FOLLOW,
    IN_IGNORED,
    IN_MOVE_SELF,
    IN_MOVED_TO,
    IN_ONLYDIR,
    Event,
    Inotify,
    remedy,
)
from agent.sources.exit_entry import STATUS, Entry
from agent.sources.oci_bundle import IDENTIFIER
from collectors.kernel.files import explain

_WRITTEN = IN_MOVED_TO | IN_CLOSE_WRITE
_TOP = _WRITTEN | IN_CREATE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
_BELOW = _WRITTEN | IN_ONLYDIR | IN_DONT_FOLLOW


class ExitDirectories:
    """All directories that are followed; some may not be there.

    After a listing, `unseen` says what could not be seen, and `blind` why no directory could be listed, if none could.
    """

    def __init__(self, paths: Sequence[str], notifier: Callable[[], Inotify]) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        self.unseen: list[str] = []
        self.blind = ""
        self.is_notified = False
        self._notifier = notifier
        self._inotify: Inotify | None = None
        self._tops: dict[int, str] = {}
        self._entries: dict[int, Entry] = {}
        self._watched: set[Entry] = set()
        self._awaited: dict[int, set[str]] = {}

    def changes(self) -> Iterator[Entry | None]:
        """Yield each entry that was written or removed, in order; None if all must be listed."""
        for event in self._inotify.read() if self._inotify else ():
            name = os.fsdecode(event.name)
            if event.watch in self._entries:
                yield from self._entry_changed(self._entries[event.watch], event, name)
            elif name in self._awaited.get(event.watch, ()) or not name:  # or changes were lost, or a directory is gone
                yield None
            elif event.watch in self._tops and IDENTIFIER.fullmatch(name):
                entry = Entry(self._tops[event.watch], name)
                self._watch_entry(entry)
                yield entry

    def list_all(self, woken: Callable[[], None]) -> list[Entry]:
        """Return all entries. From then on `woken` is called in the event loop when there are changes."""
        # Watched before it is listed: what happens between the two is then a change, not a gap.
        self.is_notified, self.unseen = True, []
        self._watch_tops(woken)
        found, refused, listed = [], [], 0
        for path in self._paths:
            try:
                names = os.listdir(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                refused.append(str(explain(error, path)))
                continue
            listed += 1
            found += [Entry(path, name) for name in names if IDENTIFIER.fullmatch(name)]
        for entry in found:
            self._watch_entry(entry)
        self.unseen += refused
        none = f"no exit files at {', '.join(self._paths)}; mount the runtime's directory here, or set --path.exits"
        self.blind = "" if listed else "; ".join(refused) or none
        return found

    def close(self) -> None:
        """Watch no more."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
        self._inotify, self.is_notified = None, False
        for known in (self._tops, self._entries, self._watched, self._awaited):
            known.clear()

    def _entry_changed(self, entry: Entry, event: Event, name: str) -> Iterator[Entry]:
        if event.mask & IN_IGNORED:
            del self._entries[event.watch]
            self._watched.discard(entry)
            yield entry
        elif name == STATUS:
            yield entry

    def _watch_tops(self, woken: Callable[[], None]) -> None:
        """Watch every directory that is there, and of another one whatever is above it, to see it come. Adding one again is cheap."""
        before = {*self._tops, *self._awaited}
        self._tops.clear()
        self._awaited.clear()
        try:
            if self._inotify is None:
                self._inotify = self._notifier()
                asyncio.get_running_loop().add_reader(self._inotify.fd, woken)
            for path in self._paths:
                try:
                    self._tops[self._inotify.add(path, _TOP)] = path
                except (FileNotFoundError, NotADirectoryError):
                    self._await(self._inotify, path)
                except PermissionError:  # listing it will say so
                    continue
            for watch in before - self._tops.keys() - self._awaited.keys():
                with contextlib.suppress(OSError):  # it has ended by itself
                    self._inotify.remove(watch)
        except OSError as error:
            self._unnotified(error)

    def _await(self, inotify: Inotify, path: str) -> None:
        above, name = os.path.split(path)
        while name:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                self._awaited.setdefault(inotify.add(above, _TOP), set()).add(name)
                return
            above, name = os.path.split(above)

    def _watch_entry(self, entry: Entry) -> None:
        if self._inotify is None or entry in self._watched:
            return
        try:
            self._entries[self._inotify.add(entry.path, _BELOW)] = entry
            self._watched.add(entry)
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # it is a file, or gone, or reading it will say so
            return
        except OSError as error:
            self._unnotified(error)

    def _unnotified(self, error: OSError) -> None:
        if self.is_notified:
            self.is_notified = False
            self.unseen.append(f"inotify: {remedy(error)}; exit files are looked for every second instead")
