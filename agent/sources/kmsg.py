"""The kernel log, followed from where the last agent left it: OOM victims go to the ledger.

Records come from kmsg_device.py or kmsg_syslog.py.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from time import monotonic
from typing import ClassVar, Protocol

from agent.identities import Identities
from agent.postmortem import examine
from agent.sources.kmsg_device import Device, Skipped, open_device
from agent.sources.kmsg_syslog import Syslog, open_syslog
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS, Blind
from collectors.base import CONTAINER, Sample, counter
from collectors.inquest.kill_state import Cursor
from collectors.inquest.kills import KillLedger
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import Malformed, explain
from collectors.kernel.kmsg import Record
from collectors.kernel.log_paths import LogPaths
from collectors.kernel.oom_log import OomKill, OomRecogniser, looks_like_oom

RECORDS = counter("coroner_kmsg_records_total", "Kernel log records read since the agent started (/dev/kmsg).", ())
LOST = counter(
    "coroner_kmsg_lost_records_total", "Kernel log records that were overwritten before they were read (gaps in the sequence numbers).", ()
)
FORGED = counter(
    "coroner_kmsg_forged_records_total",
    "Kernel log records with the text of an OOM kill that a process wrote (facility not 0); they are not counted as kills.",
    (),
)
MALFORMED = counter("coroner_kmsg_malformed_records_total", "Kernel log records that are not in the documented format.", ())

METRICS = (RECORDS, LOST, FORGED, MALFORMED)

_RECORDS_PER_TURN = 500
_SECONDS_PER_TURN = 0.005
"""A flood is read in turns, whichever limit is reached first, so that the event loop stays responsive."""

_RECENT = 256
_KEY_BYTES = 128

log = logging.getLogger(__name__)


class Reader(Protocol):
    """Where records come from: the device, or syslog(2)."""

    is_numbered: ClassVar[bool]
    """Whether a gap in the sequence numbers is the number of records lost. Otherwise it only says that some are."""

    @property
    def is_timed(self) -> bool:
        """Whether records have timestamps."""
        ...

    def read(self) -> Record | None:
        """Return the next record, None when there is none for now. Raises Skipped, Malformed, and Blind when nothing will come."""
        ...

    async def wait(self) -> None:
        """Wait until there may be more to read. Raises OSError, Blind."""
        ...

    def is_stale(self) -> bool:
        """Whether it is time to open the log anew, in case there is a better way to read it by now."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class KernelLog:
    """Takes every record once, in order, and counts the kills behind the ledger's cursor.

    Reopening resumes behind the last record read. The first opening reads the log from its start: without a cursor all of that is
    history; with one, the records up to it are context.
    """

    longest_rest = LONGEST_DELAY_SECONDS

    def __init__(
        self,
        *,
        path: str,
        cgroup_root: str | None,
        proc_root: str = "/proc",
        ledger: KillLedger,
        identities: Identities,
        is_init: Callable[[ContainerKey, int | None, int], bool | None] = lambda _key, _inode, _pid: None,
        opener: Callable[[str], int] = open_device,
        syslog_opener: Callable[[], Syslog] = open_syslog,
    ) -> None:
        self.status = Status("kmsg")
        self._path = path
        self._cgroup_root, self._proc_root = cgroup_root, proc_root
        self._ledger = ledger
        self._identities = identities
        self._is_init = is_init
        self._opener = opener
        self._syslog_opener = syslog_opener
        self._syslog: Syslog | None = None
        self._reader: Reader | None = None
        self._recogniser = OomRecogniser()
        self._paths = LogPaths(cgroup_root, lambda key: key in ledger.names)
        self._elsewhere: int | None = None
        """The number of the last kill, if it was not of the agent's tree: it may be found there once the log names its cgroup."""
        self._last: int | None = None
        self._resuming = False
        """After reopening, until the end of the ring is reached: lower numbers were read before."""
        self._recent: deque[tuple[int, int, bytes]] = deque(maxlen=_RECENT)
        self._read_until_now: Callable[[tuple[int, int, bytes]], bool] | None = None
        """After a switch from one reader to the other, whose numbers differ: tells what was read before, until the end is reached."""
        self._kept = ledger.cursor
        """Kills up to here are counted; None: all that is in the ring at start is history."""
        self._catching_up = True
        self._newest_us = 0
        self._records = self._lost = self._forged = self._malformed = 0

    async def rest(self, seconds: float) -> None:
        """Wait before the next try: nothing tells that one would be of use now."""
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        """Yield what was read and what was not. How much is lost is not known while the reader has no numbers."""
        yield RECORDS, (), self._records
        if self._reader is None or self._reader.is_numbered:
            yield LOST, (), self._lost
        yield FORGED, (), self._forged
        yield MALFORMED, (), self._malformed

    async def follow(self) -> None:
        """Read records as they come until there is no way to read them. Raises Blind."""
        try:
            while True:
                reader, note = await self._open()
                try:
                    await self._read(reader, note)
                finally:
                    reader.close()
        except OSError as error:
            raise Blind(str(explain(error, self._path))) from error
        finally:
            self._ledger.log_is_followed = False

    async def _open(self) -> tuple[Reader, str]:
        """Open the device, or else syslog(2); return the reader and what it does not give. Raises Blind when there is neither."""
        try:
            fd = self._opener(self._path)
        except Blind as no_device:
            try:
                self._syslog = self._syslog or self._syslog_opener()
                await self._syslog.poll()
            except Blind as no_syslog:
                raise Blind(f"{no_device}; {no_syslog}") from no_syslog
            self._begin(self._syslog)
            return self._syslog, _note(no_device, is_timed=self._syslog.is_timed)
        self._syslog = None
        device = Device(self._path, fd)
        self._begin(device)
        return device, ""

    def _begin(self, reader: Reader) -> None:
        """Find the way from what was read before to what this reader gives."""
        before, self._reader = self._reader, reader
        if before is None or before is reader:
            return
        if before.is_numbered == reader.is_numbered:
            self._resuming = True
            return
        self._last, self._resuming = None, False
        # The timestamps are the same in both. Without them what is there may all have been read.
        oldest = self._recent[0][0] if self._recent and before.is_timed and reader.is_timed else None
        recent = frozenset(self._recent)
        self._read_until_now = lambda key: oldest is None or key[0] <= oldest or key in recent

    async def _read(self, reader: Reader, note: str) -> None:
        """Take records as they come, until it is time to look for another reader. Raises OSError, Blind."""
        # Also what is history: for its sequence numbers, so that a gap is known from the first record on.
        await self._drain(reader)
        self._caught_up(reader)
        self._ledger.log_is_followed = True
        self.status.up(note)
        while not reader.is_stale():
            await reader.wait()
            self.status.answered()
            await self._drain(reader)
            self._ledger.reached(self._place(reader))

    async def _drain(self, reader: Reader) -> None:
        """Take all there is for now. Raises Blind."""
        while not self._turn(reader):  # noqa: ASYNC110 - not a wait: every turn takes more, and the loop gets its share between
            await asyncio.sleep(0)

    def _turn(self, reader: Reader) -> bool:
        """Take one turn of records; true when there are no more for now. Raises Blind when the reader is of no more use."""
        end = monotonic() + _SECONDS_PER_TURN
        for _ in range(_RECORDS_PER_TURN):
            try:
                record = reader.read()
            except Skipped:
                pass
            except Malformed:
                self._malformed += not (self._catching_up and self._kept is None)
            else:
                if record is None:
                    return True
                self._take(record)
            if monotonic() > end:
                break
        return False

    def _caught_up(self, reader: Reader) -> None:
        """The end of the ring was reached after opening."""
        kept = self._kept.sequence if self._kept else None
        if self._catching_up and reader.is_numbered and self._last is not None and kept is not None and self._last < kept:
            log.warning("the kernel log ends before the place that was kept", extra={"kept": kept, "end": self._last})
        self._read_until_now = None
        self._resuming = self._catching_up = False
        self._ledger.reached(self._place(reader))

    def _place(self, reader: Reader) -> Cursor | None:
        """Where the log is read to, for the next agent; None if it could not find the place."""
        if self._last is None:
            return self._kept
        if not reader.is_timed:
            return None
        return Cursor(self._last if reader.is_numbered else None, self._newest_us)

    def _take(self, record: Record) -> None:
        last, reader = self._last, self._reader
        if last is not None and record.sequence <= last and self._resuming:
            return  # read before the device was opened again
        self._last, self._newest_us = record.sequence, max(self._newest_us, record.timestamp_us)
        # Those of processes too: the recogniser takes a gap in the numbers for lost records, and believes none of theirs.
        kill = self._recogniser.feed(record)
        again = kill is None and self._recogniser.named is not None and self._recogniser.named.sequence != self._elsewhere
        kill = kill or self._recogniser.named
        if kill is not None:  # also what was counted before tells where the agent's tree begins
            sequence, kill = kill.sequence, self._paths.place(kill)
            self._elsewhere = None if kill else sequence
        key = record.timestamp_us, record.facility, record.text[:_KEY_BYTES].partition(b"\n")[0]
        if self._read_until_now is not None and self._read_until_now(key):
            return
        self._recent.append(key)
        if self._catching_up:
            if self._is_known(record):
                return
            # What the last agent has read may be gone from the ring; what came after it and is gone is lost.
            if self._kept and self._kept.sequence is not None and (last is None or last < self._kept.sequence):
                last = self._kept.sequence
        if last is not None and record.sequence <= last:
            log.warning("the kernel log's numbers began anew", extra={"newest": record.sequence})
        elif last is not None and reader is not None and reader.is_numbered:
            self._lost += record.sequence - last - 1
        self._records += 1
        if record.facility != 0:
            self._forged += looks_like_oom(record.text)
        elif kill is not None:
            self._killed(kill, again=again)

    def _is_known(self, record: Record) -> bool:
        """Whether a record was there before the agent's first start, or was taken by the agent before this one."""
        kept, reader = self._kept, self._reader
        if kept is None or reader is None or not reader.is_timed:
            return True
        if reader.is_numbered and kept.sequence is not None:
            return record.sequence <= kept.sequence
        return record.timestamp_us <= kept.time_us

    def _killed(self, kill: OomKill, *, again: bool = False) -> None:
        """Count a kill; `again`, when the log names the cgroup of the last one after it."""
        proc_root = None if self._paths.is_part else self._proc_root  # such a node has PIDs of its own, the log has the host's
        victim = examine(kill, proc_root=proc_root, cgroup_root=self._cgroup_root, late=self._catching_up)
        container = container_id.parse(victim.cgroup)
        inode: int | None = None
        labels: tuple[str, ...] = ()
        if container is not None:
            self._identities.hear(self.status.source, container.key)
            inode = self._inode(container.container_path)
            identity = self._identities.known.get(container.key)
            labels = self._ledger.names.get(container.key) or (identity.name if identity else ())  # as on the page, or as it will be
            is_init = None if self._catching_up or victim.pid is None else self._is_init(container.key, inode, victim.pid)
            if is_init is not None:
                victim = replace(victim, is_init=is_init, namespace_pid=1 if is_init else victim.namespace_pid)
        place = self._place(self._reader) if self._reader else None
        self._ledger.logged(kill, inode, victim, late=self._catching_up, place=place, again=again)
        known = {name: value for name, value in asdict(victim).items() if value is not None and name not in ("time", "identifier")}
        known |= zip(CONTAINER, labels, strict=False)
        log.warning("OOM kill: its cgroup is known now" if again else "OOM kill", extra=known)

    def _inode(self, path: str) -> int | None:
        if self._cgroup_root is None:
            return None
        try:
            return os.stat(self._cgroup_root + path).st_ino
        except (OSError, ValueError):  # ValueError: a NUL, which no path has
            return None


def _note(no_device: Blind, *, is_timed: bool) -> str:
    """Say what is not known because the log is read through syslog(2)."""
    untimed = "" if is_timed else "; without timestamps (boot with printk.time=1) a restart takes what is there for history"
    return f"read through syslog(2), where records that are lost cannot be counted{untimed}; the device would be better: {no_device}"
