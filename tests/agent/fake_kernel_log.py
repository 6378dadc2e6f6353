"""A kernel's ring of log records, seen through /dev/kmsg and through syslog(2) (kernel/printk/printk.c)."""

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from agent.supervise import Blind

LONGEST_RECORD = 2048


@dataclass(frozen=True)
class Entry:
    """One record in the ring."""

    sequence: int
    priority: int
    timestamp_us: int
    text: bytes
    flag: bytes = b"-"
    caller: bytes = b""

    def raw(self) -> bytes:
        """Return what one read() of the device gives."""
        text = re.sub(rb"[\x00-\x1f\\\x7f-\xff]", lambda match: b"\\x%02x" % match[0][0], self.text)
        caller = b",caller=" + self.caller if self.caller else b""
        return b"%d,%d,%d,%s%s;%s\n" % (self.priority, self.sequence, self.timestamp_us, self.flag, caller, text)

    def lines(self, *, timed: bool) -> bytes:
        """Return the lines that syslog(2) gives."""
        prefix = b"<%d>" % self.priority
        if timed:
            prefix += b"[%5d.%06d]" % divmod(self.timestamp_us, 1_000_000)
        if self.caller:
            prefix += b"[%6s]" % self.caller
        if timed or self.caller:
            prefix += b" "
        return b"".join(prefix + line + b"\n" for line in self.text.split(b"\n"))


class KernelLog:
    """The ring, its two faces, and faults to inject.

    `fault` is asked at each read of the device with the number of reads before it; it returns an errno, 0 for an end of file, or None.
    """

    def __init__(self, capacity: int = 1 << 30) -> None:
        self.entries: list[Entry] = []
        self.capacity = capacity
        self.timed = True
        self.has_device = True
        self.may_syslog = True
        self.fault: Callable[[int], int | None] = lambda _: None
        self.before_read_all: Callable[[], None] = lambda: None
        self.reads = self.opened = self.polls = 0
        self.next = 100
        self.now_us = 5_000_000
        self._cleared = 0
        self._position = 0
        self._pipes: list[int] = []

    def log(self, text: bytes, priority: int = 6, *, after_us: int = 100, flag: bytes = b"-", caller: bytes = b"") -> None:
        """Store one record; the oldest goes when the ring is full."""
        self.now_us += after_us
        self.add(Entry(self.next, priority, self.now_us, text, flag, caller))

    def add(self, entry: Entry) -> None:
        """Store a record with the number and time it has."""
        self.entries = [*self.entries, entry][-self.capacity :]
        self.next = entry.sequence + 1

    def clear(self) -> None:
        """Do what `dmesg -C` does: the device still shows all."""
        self._cleared = self.next

    def fail_next(self, number: int) -> None:
        """Let the next read of the device fail, 0 for an end of file."""
        at = self.reads
        self.fault = lambda reads: number if reads == at else None

    # --- the device ---

    def open(self, _path: str) -> int:
        """Open the device; its descriptor is always readable, so that the loop calls back again and again."""
        self.opened += 1
        if not self.has_device:
            raise Blind("/dev/kmsg: No such file or directory")
        self._position = 0
        reader, writer = os.pipe()
        os.write(writer, b"x")
        self._pipes.append(writer)
        return reader

    def read(self, _fd: int, _size: int) -> bytes:
        """Read one record as devkmsg_read() does."""
        self.reads += 1
        number = self.fault(self.reads - 1)
        entry = next((entry for entry in self.entries if entry.sequence >= self._position), None)
        if number == errno.EINVAL and entry:
            self._position = entry.sequence + 1
        if number:
            raise OSError(number, os.strerror(number))
        if number == 0:
            return b""
        if entry is None:
            raise BlockingIOError(errno.EAGAIN, "nothing new")
        if 0 < self._position < entry.sequence == self.entries[0].sequence and len(self.entries) == self.capacity:
            self._position = entry.sequence
            raise BrokenPipeError(errno.EPIPE, "overtaken")
        self._position = entry.sequence + 1
        return entry.raw()

    @property
    def is_read(self) -> bool:
        """Whether the device's reader is at the end."""
        return not self.entries or self._position > self.entries[-1].sequence

    def close(self) -> None:
        """Close what was opened."""
        for writer in self._pipes:
            os.close(writer)

    # --- syslog(2) ---

    def read_all(self, size: int) -> bytes:
        """Return the newest records that fit, as SYSLOG_ACTION_READ_ALL."""
        self.polls += 1
        self.before_read_all()
        if not self.may_syslog:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        text = b""
        for entry in reversed(self.entries):
            lines = entry.lines(timed=self.timed)
            if entry.sequence < self._cleared or len(text) + len(lines) > size:
                break
            text = lines + text
        return text
