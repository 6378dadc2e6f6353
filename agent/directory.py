"""The directory: container id -> what it is called. One immutable mapping, replaced whole; the dead are kept a while.

The event loop writes; the sampling thread reads `entries`, which never changes under it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

KEEP_DEAD_SECONDS = 15 * 60
"""Event counters must outlive their container by three scrapes at the slowest usual interval, or increase() misses the last event."""

KEEP_DEAD_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source says of one container. `name` is () while only the id is known (a kill in the kernel log, say).

    `state` is the runtime's word; `seen_alive` is false for one that had ended before the agent first heard of it.
    """

    source: str
    name: tuple[str, ...]
    image: str = ""
    state: str = "running"
    seen_alive: bool = True
    ended: float | None = None


class Directory:
    """Names of containers, living and lately dead."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.entries: Mapping[str, Entry] = MappingProxyType({})

    def put(self, changes: Mapping[str, Entry]) -> None:
        """Add or replace entries, and drop those that died long ago."""
        now = self._clock()
        entries = {**self.entries, **changes}
        dead = sorted((entry.ended, key) for key, entry in entries.items() if entry.ended is not None)
        for position, (ended, key) in enumerate(dead):
            if now - ended > KEEP_DEAD_SECONDS or position < len(dead) - KEEP_DEAD_MOST:
                del entries[key]
        self.entries = MappingProxyType(entries)

    def end(self, identifier: str, state: str) -> None:
        """Note that a container has ended (`exited`) or was removed (`removed`)."""
        entry = self.entries.get(identifier)
        if entry is not None:
            self.put({identifier: replace(entry, state=state, ended=entry.ended or self._clock())})

    def hear(self, source: str, identifier: str) -> None:
        """Note an id that something happened to, so that it gets a name even if nobody ever lists it."""
        if identifier not in self.entries:
            self.put({identifier: Entry(source, (), state="unknown", ended=self._clock())})

    def resync(self, source: str, listed: Mapping[str, Entry]) -> None:
        """Replace what a source said by its full list: what it lists no more has ended."""
        now = self._clock()
        missing = {
            key: replace(entry, state="removed", ended=entry.ended or now)
            for key, entry in self.entries.items()
            if entry.source == source and key not in listed
        }
        known = {
            key: replace(entry, seen_alive=True) for key, entry in listed.items() if key in self.entries and self.entries[key].seen_alive
        }
        self.put({**missing, **listed, **known})
