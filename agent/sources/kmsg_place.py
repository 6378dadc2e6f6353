"""Where in the kernel log the agent is: what was read before, what is history, how much is lost, and where the next agent goes on."""

import logging
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Protocol

from collectors.inquest.kill_state import Cursor
from collectors.kernel.kmsg import Record

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
        """Close what it reads."""
        ...


class Place:
    """Asked about every record, in order. `kept`: kills up to there were told by an agent before this one; None: what is there is history.

    Reopening resumes behind the last record read.
    """

    def __init__(self, kept: Cursor | None) -> None:
        self.reader: Reader | None = None
        self.is_catching_up = True
        """Until the end of the ring is reached for the first time: what is read was logged before this agent was started."""
        self.records = self.lost = 0
        self._kept = kept
        self._last: int | None = None
        self._before: int | None = None
        """Numbers of the present record, and of the one before it."""
        self._newest_us = 0
        self._resuming = False
        """After reopening, until the end of the ring is reached: lower numbers were read before."""
        self._recent: deque[tuple[int, int, bytes]] = deque(maxlen=_RECENT)
        self._read_until_now: Callable[[tuple[int, int, bytes]], bool] | None = None
        """After a switch from one reader to the other, whose numbers differ: tells what was read before, until the end is reached."""

    @property
    def is_history(self) -> bool:
        """Whether nothing counts yet: it was there before the agent's first start."""
        return self.is_catching_up and self._kept is None

    @property
    def cursor(self) -> Cursor | None:
        """Where the log is read to, for the next agent; None if it could not find the place."""
        if self.reader is None or self._last is None:
            return self._kept
        if not self.reader.is_timed:
            return None
        return Cursor(self._last if self.reader.is_numbered else None, self._newest_us)

    def begin(self, reader: Reader) -> None:
        """Find the way from what was read before to what this reader gives."""
        before, self.reader = self.reader, reader
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

    def move_to(self, record: Record) -> bool:
        """Go on to the next record; false for one that was read before the log was opened again."""
        if self._last is not None and record.sequence <= self._last and self._resuming:
            return False
        self._before, self._last, self._newest_us = self._last, record.sequence, max(self._newest_us, record.timestamp_us)
        return True

    def is_new(self, record: Record) -> bool:
        """Whether nobody has taken the present record before: neither this agent from another reader, nor one before it."""
        last, reader = self._before, self.reader
        key = record.timestamp_us, record.facility, record.text[:_KEY_BYTES].partition(b"\n")[0]
        if self._read_until_now is not None and self._read_until_now(key):
            return False
        self._recent.append(key)
        if self.is_catching_up:
            if self._is_known(record):
                return False
            # What the last agent has read may be gone from the ring; what came after it and is gone is lost.
            if self._kept and self._kept.sequence is not None and (last is None or last < self._kept.sequence):
                last = self._kept.sequence
        if last is not None and record.sequence <= last:
            log.warning("the kernel log's numbers began anew", extra={"newest": record.sequence})
        elif last is not None and reader is not None and reader.is_numbered:
            self.lost += record.sequence - last - 1
        self.records += 1
        return True

    def caught_up(self) -> None:
        """The end of the ring was reached after opening."""
        kept, reader = self._kept.sequence if self._kept else None, self.reader
        if self.is_catching_up and reader and reader.is_numbered and self._last is not None and kept is not None and self._last < kept:
            log.warning("the kernel log ends before the place that was kept", extra={"kept": kept, "end": self._last})
        self._read_until_now = None
        self._resuming = self.is_catching_up = False

    def _is_known(self, record: Record) -> bool:
        """Whether a record was there before the agent's first start, or was taken by the agent before this one."""
        kept, reader = self._kept, self.reader
        if kept is None or reader is None or not reader.is_timed:
            return True
        if reader.is_numbered and kept.sequence is not None:
            return record.sequence <= kept.sequence
        return record.timestamp_us <= kept.time_us
