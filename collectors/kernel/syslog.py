r"""The kernel log as syslog(2) gives it: text of SYSLOG_ACTION_READ_ALL -> new Records. No I/O: it is handed a function that reads.

For whoever may not open /dev/kmsg. READ_ALL gives the newest whole records that fit into the buffer, oldest first, none from before the
last `dmesg -C` (kernel/printk/printk.c syslog_print_all, find_first_fitting_seq, record_print_text, info_print_prefix):

    <PRIO>[SECONDS.MICROSECONDS][CALLER] TEXT\n

PRIO is facility << 3 | level; the time is there with the parameter printk.time, the caller with CONFIG_PRINTK_CALLER. What this lacks
beside /dev/kmsg, and what is done about it:

- Sequence numbers. What is new begins where the end of the last text lies in the present one. If that is no longer there, records were
  lost, and nobody knows how many: the numbers given here then leave out one, which tells the recogniser. They mean nothing else.
- Escapes. A record with newlines in it becomes several lines, each with the same prefix: whoever can put a newline into a message of the
  kernel could forge a line. So a line with the same prefix as the one before it, to the microsecond, is part of the same record unless
  the kernel says otherwise: asked for exactly the bytes from that line to the end, it returns all of them only if a record begins there.
- The flag of continuations. They have the default level, 4, and no evidence of an OOM kill or a fault has it.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from collectors.kernel.fault_lines import concerns_fault
from collectors.kernel.kmsg import SHORTEST_CUT_TEXT, Record
from collectors.kernel.oom_log import concerns_oom

_TIMED = re.compile(rb"<(\d{1,4})>\[ *(\d{1,12})\.(\d{6})\](?:\[ *([TC]\d{1,10})[^]\n]*\])? ")
_UNTIMED = re.compile(rb"<(\d{1,4})>()()(?:\[ *([TC]\d{1,10})[^]\n]*\] )?")
_KERN_DEFAULT = 4
_SMALL = 16384
"""Bytes to ask for when little happens: some hundred records. More than the longest record has."""
_LARGEST = 64 << 20
"""Bytes. Rings of more than 16 MiB are rare, and with its prefixes the text is longer than the ring."""
_LONGEST_RECORD = 8192
"""Bytes, with the prefixes of its lines."""
_ROUNDS = 3
_QUESTIONS = 200
"""In one round. The kernel looks through its whole ring for each."""


class _NewerRecords(Exception):
    """Something was logged while the kernel was asked about what it logged before."""


class _Place(NamedTuple):
    """How far the log was read."""

    known: bytes
    """The end of the text, in whole lines."""
    newest_us: int
    """Highest timestamp so far."""
    is_timed: bool


class Tail:
    """Gives every record once, in order. `read_all` returns up to so many of the newest bytes; an OSError of it passes.

    `ring_bytes` is the size of the kernel's ring (SYSLOG_ACTION_SIZE_BUFFER).
    """

    def __init__(self, read_all: Callable[[int], bytes], ring_bytes: int) -> None:
        self._read_all = read_all
        self._ring_bytes = ring_bytes
        self._place = _Place(b"", 0, is_timed=True)
        self._sequence = 0
        self._questions = 0

    @property
    def is_timed(self) -> bool:
        """Whether records have timestamps (printk.time); without, timestamp_us is 0."""
        return self._place.is_timed

    def new(self) -> list[Record]:
        """Return what was logged since the last call; the first time, all there is. Raises OSError."""
        for _ in range(_ROUNDS):
            self._questions = _QUESTIONS
            try:
                return self._new()
            except _NewerRecords:
                continue
        self._questions = 0  # too much is going on: lines that may belong together stay together
        return self._new()

    def _new(self) -> list[Record]:
        place = self._place
        text, start = self._read()
        if not text or start == len(text):
            return []  # nothing came, or all was cleared
        is_timed = all(_TIMED.match(text, at) for at in _line_starts(text, start or 0))
        # Behind a loss a record is known to be new by its time. If printk.time was switched every line looks new, and which is no telling.
        newest = place.newest_us if start is None and is_timed else -1
        is_switched = start is None and is_timed != place.is_timed
        sequence = self._sequence + (start is None)
        records = []
        for prefix, body in self._records(text, start or 0, is_timed=is_timed):
            record = _record(prefix, body, sequence + 1)
            if record.timestamp_us > newest and not is_switched:
                records.append(record)
                sequence += 1
        newest = max((record.timestamp_us for record in records), default=0)
        self._place = _Place(_end(text), max(newest, place.newest_us), is_timed)
        self._sequence = sequence
        return records

    def _read(self) -> tuple[bytes, int | None]:
        """Return the text, and where in it the known text ends; None if that is not to be found, so that records are lost."""
        known = self._place.known
        if known:
            text = self._read_all(_SMALL)
            if (start := _behind(known, text)) is not None:
                return text, start
        size = max(_SMALL, 2 * self._ring_bytes)
        while len(text := self._read_all(size)) > size - _LONGEST_RECORD and size < _LARGEST:
            size *= 2
        return text, _behind(known, text)

    def _records(self, text: bytes, start: int, *, is_timed: bool) -> Iterator[tuple[re.Match[bytes], bytes]]:
        """Yield prefix and text of the records from `start` on. Raises _NewerRecords."""
        pattern = _TIMED if is_timed else _UNTIMED
        # The line before `start` too: where lines are alike, the place may have been found in the middle of a record.
        prefix = pattern.match(text, text.rfind(b"\n", 0, start - 1) + 1) if start else None
        body = b""
        is_new = False
        for at in _line_starts(text, start):
            match = pattern.match(text, at)
            if match is not None:
                rest = text[match.end() : text.find(b"\n", match.end())]
                if prefix is not None and match[0] == prefix[0] and not self._begins(text, at, match, (body, rest), is_new=is_new):
                    body = (body + b"\n" + rest)[:_LONGEST_RECORD]
                else:
                    if is_new and prefix is not None:
                        yield prefix, body
                    prefix, body, is_new = match, rest, True
        if is_new and prefix is not None:
            yield prefix, body

    def _begins(self, text: bytes, at: int, prefix: re.Match[bytes], neighbours: tuple[bytes, bytes], *, is_new: bool) -> bool:
        """Whether a record begins at this line, although the one before, which `is_new` too, has the same prefix. Raises _NewerRecords."""
        if int(prefix[1]) >> 3:
            return True  # of a process: no evidence either way
        if not any(concerns_oom(each) or concerns_fault(each) for each in neighbours):
            return not is_new
        if not self._questions:
            return False
        self._questions -= 1
        answer = self._read_all(len(text) - at)
        if not text.endswith(answer):
            raise _NewerRecords
        return len(answer) == len(text) - at


def _line_starts(text: bytes, start: int) -> Iterator[int]:
    """Yield where each line begins. Steps this small let other threads run, which one split() of megabytes does not."""
    at = start
    while at < len(text):
        yield at
        at = text.find(b"\n", at) + 1 or len(text)


def _behind(known: bytes, text: bytes) -> int | None:
    """Return the offset in the text where the known one ends: it lies in it whole, or its end is what the text begins with.

    Where that fits in several places (lines alike, of a clock that stands still) the last one: rather a record too few than one twice.
    """
    if text.endswith(known):
        return len(text) if known else 0
    if (at := text.rfind(known)) >= 0:
        return at + len(known)
    first = text[: text.find(b"\n") + 1]
    at = known.find(first) if first else -1
    while at >= 0:
        if text.startswith(known[at:]):
            return len(known) - at
        at = known.find(first, at + 1)
    return None


def _end(text: bytes) -> bytes:
    """Return the last lines."""
    return text if len(text) <= _SMALL else text[text.find(b"\n", -_SMALL) + 1 :]


def _record(prefix: re.Match[bytes], text: bytes, sequence: int) -> Record:
    number, seconds, microseconds, caller = prefix.groups()
    priority = int(number)
    return Record(
        facility=priority >> 3,
        level=priority & 7,
        sequence=sequence,
        timestamp_us=int(seconds) * 1_000_000 + int(microseconds) if seconds else 0,
        continuation=priority == _KERN_DEFAULT,
        caller=caller or b"",
        text=text,
        cut=len(text) >= SHORTEST_CUT_TEXT,
    )
