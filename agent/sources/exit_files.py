"""How containers ended, from the files in which their runtimes say so: containerd's CRI, and conmon of CRI-O and Podman.

The code in them is 128 + signal for a signal, and a program may exit with that too. Podman removes its files soon, so each is read as soon
as inotify tells of it; a periodic rescan finds what that missed.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from agent.inotify import Inotify
from agent.sources import Tell
from agent.sources.directory_rescans import Rescans
from agent.sources.exit_directories import ExitDirectories
from agent.sources.exit_entry import Entry, Unreadable
from agent.sources.exit_formats import CriStatus, parse_conmon, parse_cri
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS
from collectors.base import Sample, counter
from collectors.inquest.facts import Created, Exited, Removed, Started
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import explain

DEFAULT_EXITS = (
    "/var/lib/containerd/io.containerd.grpc.v1.cri/containers",
    "/run/crio/exits",
    "/run/libpod/exits",
)

READ = counter(
    "coroner_exit_files_total",
    "Exit files of runtimes by whether they were understood (read) or not for seconds (malformed); one that is written anew counts again.",
    ("result",),
)

METRICS = (READ,)

RESCAN_SECONDS = 10.0
_PATIENCE_SECONDS = 2.0
"""How long a file may make no sense before that is said: somebody may be writing it."""
_FILES_PER_TURN = 16

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    """An entry that was read. `problem` is what is wrong with it, `since` when that was seen first, by the loop's clock."""

    signature: tuple[int, ...] | None = None
    status: CriStatus | None = None
    problem: str = ""
    since: float = 0.0
    is_counted: bool = False


class ExitFilesSource:
    """Follows directories of exit files."""

    longest_rest = LONGEST_DELAY_SECONDS

    def __init__(
        self,
        *,
        directories: Sequence[str],
        tell: Tell,
        rescan: float = RESCAN_SECONDS,
        notifier: Callable[[], Inotify] = Inotify,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Make it; a removal has the time of `wall`, seconds since 1970, at which it was noticed."""
        # Where nobody asked for exit files, and no runtime that has them is here, their absence is no trouble.
        self.status = Status("exit_files", optional=tuple(directories) == DEFAULT_EXITS and not any(map(os.path.exists, DEFAULT_EXITS)))
        self._tell, self._wall = tell, wall
        self._directories = ExitDirectories(directories, notifier)
        self._rescans = Rescans(rescan, lambda: self._directories.is_notified)
        self._known: dict[Entry, _Known] = {}
        self._results = {"read": 0, "malformed": 0}

    async def rest(self, seconds: float) -> None:
        """Wait before the next try: nothing tells that one would be of use now."""
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        """Yield how many files there were."""
        if self.status.is_expected:
            for result, count in self._results.items():
                yield READ, (result,), count

    async def follow(self) -> None:
        """Read what is there, and what is written, for ever: also while no directory is there, for one that comes is noticed."""
        try:
            await self._rescans.run(changes=self._take_changes, rescan=self._rescan, work=self._say)
        finally:
            self._directories.close()

    def _take_changes(self) -> None:
        for entry in self._directories.changes():
            if entry is None:
                self._rescans.lost()
            else:
                self._read(entry)

    async def _rescan(self) -> None:
        """Read whatever has changed."""
        entries = self._directories.list_all(self._rescans.wake)
        for entry in self._known.keys() - entries:
            self._gone(entry)
        for count, entry in enumerate(entries):
            self._read(entry)
            if count % _FILES_PER_TURN == _FILES_PER_TURN - 1:
                await asyncio.sleep(0)
                self._take_changes()  # Podman does not wait with removing its own

    def _read(self, entry: Entry) -> None:
        """Read an entry, unless it was read as it is now, and tell what it says."""
        known = self._known.setdefault(entry, _Known())
        signature = entry.signature()
        if known.signature == signature and not known.problem:
            return
        known.signature = signature
        try:
            content = entry.read()
            if content.is_cri:
                self._cri(ContainerKey(entry.id), known, parse_cri(content.raw))
            else:
                self._conmon(ContainerKey(entry.id), parse_conmon(content.raw), content.written)
        except FileNotFoundError:  # removed, or a directory without the file
            self._gone(entry)
        except (ValueError, Unreadable) as error:
            self._misread(known, f"{entry.path}: {error}")
        except OSError as error:
            self._misread(known, str(explain(error, entry.path)))
        else:
            self._results["read"] += 1
            known.problem, known.is_counted = "", False

    def _gone(self, entry: Entry) -> None:
        if not entry.is_removed():
            return
        known = self._known.pop(entry)
        if known.status is not None:  # containerd's goes with its container, conmon's when it has been read
            self._tell(Removed(container=ContainerKey(entry.id), source=self.status.source, time=self._wall()))

    def _misread(self, known: _Known, problem: str) -> None:
        if not known.problem:
            known.since = asyncio.get_running_loop().time()
        known.problem = problem

    def _cri(self, container: ContainerKey, known: _Known, status: CriStatus) -> None:
        before, known.status = known.status, status
        source = self.status.source
        if status.created is not None and (before is None or before.created != status.created):
            self._tell(Created(container=container, source=source, time=status.created))
        if status.started is not None and (before is None or before.started != status.started):
            self._tell(Started(container=container, source=source, time=status.started))
        if status.finished is not None and (before is None or before.finished != status.finished):
            ended = max(status.finished, status.started or 0.0)  # a runtime may write the end of a short life before its beginning
            self._exited(container, ended, status.code, status.reason)

    def _conmon(self, container: ContainerKey, code: int | None, written: float) -> None:
        self._exited(container, written, code, "")

    def _exited(self, container: ContainerKey, ended: float, code: int | None, reason: str) -> None:
        if code is None:  # the runtime does not know either
            return
        log.debug("runtime says how a container ended", extra={"id": container, "code": code, "reason": reason})
        self._tell(Exited(container=container, source=self.status.source, time=ended, how="runtime", code=code, reason=reason))

    async def _say(self) -> float:
        """Report whether it sees, and what it does not see all the same: without numbers, for every new text is logged."""
        if self._directories.blind:
            self.status.down(self._directories.blind)
            return math.inf
        now = asyncio.get_running_loop().time()
        malformed = [known for known in self._known.values() if known.problem and now - known.since >= _PATIENCE_SECONDS]
        for known in malformed:
            self._results["malformed"] += not known.is_counted
            known.is_counted = True
        self.status.up("; ".join([*self._directories.unseen, *(known.problem for known in malformed[:1])]))
        return math.inf
