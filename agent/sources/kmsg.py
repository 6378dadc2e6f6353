"""The kernel log, followed from where the last agent left it: OOM victims go to the ledger (Documentation/ABI/testing/dev-kmsg)."""

import asyncio
import errno
import logging
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import asdict

from agent.directory import Directory
from agent.postmortem import examine
from agent.status import Status
from agent.supervise import Blind
from collectors.base import Sample, counter
from collectors.kernel import container_id
from collectors.kernel.files import Malformed, explain
from collectors.kernel.kmsg import OomKill, OomRecogniser, looks_like_oom, parse_record
from collectors.kills import KillLedger

RECORDS = counter("coroner_kmsg_records_total", "Kernel log records read since the agent started (/dev/kmsg).", ())
LOST = counter("coroner_kmsg_lost_records_total", "Records overwritten before they were read: the gaps in their sequence numbers.", ())
FORGED = counter(
    "coroner_kmsg_forged_records_total", "Records that look like an OOM kill but were written by a process (facility not 0).", ()
)
MALFORMED = counter("coroner_kmsg_malformed_records_total", "Records that are not in the documented format.", ())

METRICS = (RECORDS, LOST, FORGED, MALFORMED)

_LONGEST_RECORD = 16384
"""A shorter buffer than the record makes read() fail and still consume the record."""

_RECORDS_PER_TURN = 500
"""A flood is read in turns of a few milliseconds, so that the event loop stays responsive."""

log = logging.getLogger(__name__)


def open_device(path: str) -> int:
    """Open the kernel log at its oldest record. Raises Blind with the remedy."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Blind(f"{explain(error, path)}; reading the kernel log needs CAP_SYSLOG and, in a container, the device itself") from error
    if not stat.S_ISCHR(os.fstat(fd).st_mode):
        os.close(fd)
        raise Blind(f"{path}: not a character device; mount the host's /dev/kmsg here or set --path.kmsg")
    return fd


class KernelLog:
    """Reads every record once, in order, and counts the kills behind the ledger's cursor.

    Reopening resumes behind the last record read. The first opening reads the log from its start: without a cursor all of that is
    history; with one, the records up to it are context.
    """

    def __init__(
        self,
        *,
        path: str,
        cgroup_root: str | None,
        proc_root: str = "/proc",
        ledger: KillLedger,
        directory: Directory,
        status: Status,
        opener: Callable[[str], int] = open_device,
    ) -> None:
        self.status = status
        self._path = path
        self._cgroup_root, self._proc_root = cgroup_root, proc_root
        self._ledger = ledger
        self._directory = directory
        self._opener = opener
        self._recogniser = OomRecogniser()
        self._last: int | None = None
        self._counted = ledger.cursor
        """Kills up to here are counted; None: all that is in the ring at start is history."""
        self._catching_up = True
        self._records = self._lost = self._forged = self._malformed = 0

    def samples(self) -> Iterable[Sample]:
        """Yield what was read and what was not."""
        yield RECORDS, (), self._records
        yield LOST, (), self._lost
        yield FORGED, (), self._forged
        yield MALFORMED, (), self._malformed

    async def follow(self) -> None:
        """Read records as they come until the device fails. Raises Blind."""
        fd = self._opener(self._path)
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[None] = loop.create_future()
        try:
            # Without a cursor what lies in the ring is history: read for its sequence numbers, so that a gap is known from the first
            # record on.
            while not self._drain(fd):  # noqa: ASYNC110 - not a wait: every turn reads more, and the loop gets its share between
                await asyncio.sleep(0)
            self._caught_up()
            self._ledger.log_is_followed = True
            self.status.up()
            loop.add_reader(fd, self._readable, fd, failed)
            await failed
        except OSError as error:
            raise Blind(str(explain(error, self._path))) from error
        finally:
            self._ledger.log_is_followed = False
            loop.remove_reader(fd)
            os.close(fd)

    def _readable(self, fd: int, failed: asyncio.Future[None]) -> None:
        self.status.answered()
        try:
            self._drain(fd)
            self._reached()
        except (OSError, Blind) as error:
            if not failed.done():
                failed.set_exception(error)

    def _drain(self, fd: int) -> bool:
        """Read one turn of records; true when there are no more for now. Raises OSError, and Blind at an end of file."""
        for _ in range(_RECORDS_PER_TURN):
            try:
                raw = os.read(fd, _LONGEST_RECORD)
            except BlockingIOError:
                return True
            except OSError as error:
                # EPIPE: the reader was overtaken and now stands at the oldest record left; the gap in the numbers says how many are lost.
                # EINVAL: a record longer than the buffer; the kernel has skipped it, so it too shows as a gap.
                if error.errno in (errno.EPIPE, errno.EINVAL):
                    continue
                raise
            if not raw:
                raise Blind(f"{self._path}: end of file; this is not the kernel log")
            self._take(raw)
        return False

    def _caught_up(self) -> None:
        """The end of the ring was reached for the first time, or again."""
        if self._last is not None and self._counted is not None and self._last < self._counted:
            log.warning("the kernel log ends before the place that was kept", extra={"kept": self._counted, "end": self._last})
            self._counted = self._last
        self._catching_up = False
        self._reached()

    def _reached(self) -> None:
        if self._last is not None:
            self._counted = max(self._last, -1 if self._counted is None else self._counted)
            self._ledger.reached(self._counted)

    def _take(self, raw: bytes) -> None:
        is_history = self._catching_up and self._counted is None
        try:
            record = parse_record(raw)
        except Malformed:
            self._malformed += not is_history
            return
        if self._last is not None and record.sequence <= self._last:
            return  # read before the device was opened again
        # What the last agent has read may be gone from the ring; what came after it and is gone is lost.
        known = self._last if self._counted is None or (self._last or 0) > self._counted else self._counted
        self._last = record.sequence
        # Those of processes too: the recogniser takes a gap in the numbers for lost records, and believes none of theirs.
        kill = self._recogniser.feed(record)
        if is_history or (known is not None and record.sequence <= known):
            return
        if known is not None:
            self._lost += record.sequence - known - 1
        self._records += 1
        if record.facility != 0:
            self._forged += looks_like_oom(record.text)
        elif kill is not None:
            self._killed(kill)

    def _killed(self, kill: OomKill) -> None:
        victim = examine(kill, proc_root=self._proc_root, cgroup_root=self._cgroup_root, late=self._catching_up)
        container = container_id.parse(victim.cgroup)
        inode = None
        if container is not None:
            self._directory.hear(self.status.source, container.key)
            inode = self._inode(container.container_path)
        self._ledger.logged(kill, inode, victim, late=self._catching_up)
        known = {name: value for name, value in asdict(victim).items() if value is not None and name not in ("time", "identifier")}
        log.warning("OOM kill", extra=known)

    def _inode(self, path: str) -> int | None:
        if self._cgroup_root is None:
            return None
        try:
            return os.stat(self._cgroup_root + path).st_ino
        except OSError:
            return None
