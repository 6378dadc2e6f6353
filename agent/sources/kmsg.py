"""The kernel log, followed from where the last agent left it: it tells of OOM kills and faults, and how far it is read.

Records come from kmsg_device.py or kmsg_syslog.py.
"""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic, time

from agent.sources import Tell
from agent.sources.kmsg_device import Device, Skipped, open_device
from agent.sources.kmsg_place import Place, Reader
from agent.sources.kmsg_syslog import Syslog, open_syslog
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS, Blind
from collectors.base import Sample, counter
from collectors.inquest.facts import FaultLogged, LogClosed, LogRead, OomKilled
from collectors.inquest.kill_state import Cursor
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.fault_lines import fault_of, looks_like_fault
from collectors.kernel.files import Malformed, explain
from collectors.kernel.kmsg import Record
from collectors.kernel.log_paths import LogPaths
from collectors.kernel.oom_log import OomRecogniser, looks_like_oom

RECORDS = counter("coroner_kmsg_records_total", "Kernel log records read since the agent started (/dev/kmsg).", ())
LOST = counter(
    "coroner_kmsg_lost_records_total", "Kernel log records that were overwritten before they were read (gaps in the sequence numbers).", ()
)
FORGED = counter(
    "coroner_kmsg_forged_records_total",
    "Kernel log records with the text of an OOM kill or a fault that a process wrote (facility not 0); they are no evidence.",
    (),
)
MALFORMED = counter("coroner_kmsg_malformed_records_total", "Kernel log records that are not in the documented format.", ())

METRICS = (RECORDS, LOST, FORGED, MALFORMED)

_RECORDS_PER_TURN = 500
_SECONDS_PER_TURN = 0.005
"""A flood is read in turns, whichever limit is reached first, so that the event loop stays responsive."""


class KernelLog:
    """Takes every record once, in order, and tells of the kills behind a cursor, each while its line is fresh.

    The first opening reads the log from its start: without a cursor all of that is history; with one, the records up to it are context.
    `was_here` says whether a container was in the agent's tree lately.
    """

    longest_rest = LONGEST_DELAY_SECONDS

    def __init__(
        self,
        *,
        path: str,
        cgroup_root: str | None,
        tell: Tell,
        cursor: Cursor | None,
        was_here: Callable[[ContainerKey], bool],
        clock: Callable[[], float] = time,
        opener: Callable[[str], int] = open_device,
        syslog_opener: Callable[[], Syslog] = open_syslog,
    ) -> None:
        self.status = Status("kmsg")
        self._path = path
        self._tell = tell
        self._clock = clock
        self._opener = opener
        self._syslog_opener = syslog_opener
        self._syslog: Syslog | None = None
        self._recogniser = OomRecogniser()
        self._paths = LogPaths(cgroup_root, was_here)
        self._elsewhere: int | None = None
        """The number of the last kill, if it was not of the agent's tree: it may be found there once the log names its cgroup."""
        self._place = Place(cursor)
        self._forged = self._malformed = 0

    async def rest(self, seconds: float) -> None:
        """Wait before the next try: nothing tells that one would be of use now."""
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        """Yield what was read and what was not. How much is lost is not known while the reader has no numbers."""
        yield RECORDS, (), self._place.records
        if self._place.reader is None or self._place.reader.is_numbered:
            yield LOST, (), self._place.lost
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
            self._tell(LogClosed(source=self.status.source))

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
            self._place.begin(self._syslog)
            return self._syslog, _note(no_device, is_timed=self._syslog.is_timed)
        self._syslog = None
        device = Device(self._path, fd)
        self._place.begin(device)
        return device, ""

    async def _read(self, reader: Reader, note: str) -> None:
        """Take records as they come, until it is time to look for another reader. Raises OSError, Blind."""
        # Also what is history: for its sequence numbers, so that a gap is known from the first record on.
        await self._drain(reader)
        self._place.caught_up()
        self._tell_how_far()
        self.status.up(note)
        while not reader.is_stale():
            await reader.wait()
            self.status.answered()
            await self._drain(reader)
            self._tell_how_far()

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
                self._malformed += not self._place.is_history
            else:
                if record is None:
                    return True
                self._take(record)
            if monotonic() > end:
                break
        return False

    def _tell_how_far(self) -> None:
        self._tell(LogRead(source=self.status.source, cursor=self._place.cursor))

    def _take(self, record: Record) -> None:
        if not self._place.move_to(record):
            return
        # Those of processes too: the recogniser takes a gap in the numbers for lost records, and believes none of theirs.
        kill = self._recogniser.feed(record)
        again = kill is None and self._recogniser.named is not None and self._recogniser.named.sequence != self._elsewhere
        kill = kill or self._recogniser.named
        if kill is not None:  # also what was counted before tells where the agent's tree begins
            sequence, kill = kill.sequence, self._paths.place(kill)
            self._elsewhere = None if kill else sequence
        if not self._place.is_new(record):
            return
        if record.facility != 0:
            self._forged += looks_like_oom(record.text) or looks_like_fault(record.text)
        elif kill is not None:
            self._tell(
                OomKilled.of(
                    kill,
                    source=self.status.source,
                    time=self._clock(),
                    is_late=self._place.is_catching_up,
                    is_again=again,
                    has_foreign_pid=self._paths.is_part,
                    cursor=self._place.cursor,
                )
            )
        elif not self._place.is_catching_up and (fault := fault_of(record)) is not None:  # of an old one the PID may be another's by now
            self._tell(FaultLogged(source=self.status.source, time=self._clock(), fault=fault))


def _note(no_device: Blind, *, is_timed: bool) -> str:
    """Say what is not known because the log is read through syslog(2)."""
    untimed = "" if is_timed else "; without timestamps (boot with printk.time=1) a restart takes what is there for history"
    return f"read through syslog(2), where records that are lost cannot be counted{untimed}; the device would be better: {no_device}"
