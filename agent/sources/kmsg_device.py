"""Records from /dev/kmsg: what each read of the device means (Documentation/ABI/testing/dev-kmsg, kernel/printk/printk.c devkmsg_read)."""

import asyncio
import errno
import os
import stat
from typing import ClassVar

from agent.supervise import Blind
from collectors.kernel.files import Malformed, explain
from collectors.kernel.kmsg import Record, parse_record

_KMSG = os.makedev(1, 11)
"""The kernel log's device number on every Linux (Documentation/admin-guide/devices.txt)."""

_LONGEST_RECORD = 16384
"""A shorter buffer than the record makes read() fail and still consume the record."""

_SKIPPED = (errno.EPIPE, errno.EINVAL, errno.EINTR)
"""EPIPE: the reader was overtaken and now stands at the oldest record left; the gap in the numbers says how many are lost. In a storm it
comes before every record. EINVAL: a record longer than the buffer; the kernel has skipped it, so it too shows as a gap."""

_STRANGE_ANSWERS = 100
"""So many in a row that are no record, and it is not the kernel log."""


class Skipped(Exception):
    """This read gave no record; the next one may."""


def open_device(path: str) -> int:
    """Open the kernel log at its oldest record. Raises Blind with the remedy."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise Blind(f"{explain(error, path)}; reading the kernel log needs CAP_SYSLOG and, in a container, the device itself") from error
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode):
        os.close(fd)
        raise Blind(f"{path}: not a character device; mount the host's /dev/kmsg here or set --path.kmsg")
    if status.st_rdev != _KMSG:
        os.close(fd)
        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        raise Blind(
            f"{path}: device {major}:{minor}, this is not the kernel log, which is 1:11; mount the host's /dev/kmsg here or set --path.kmsg"
        )
    return fd


class Device:
    """The open device. Its numbers count records: a gap is exactly what was lost. After an error it is of no more use."""

    is_numbered: ClassVar[bool] = True
    is_timed = True

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._strange = 0

    def read(self) -> Record | None:
        """Return the next record, None when there is none for now. Raises Skipped, Malformed, and Blind when the device fails."""
        try:
            raw = os.read(self._fd, _LONGEST_RECORD)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:
                self._doubt(str(explain(error, self._path)))
            if error.errno in _SKIPPED:
                raise Skipped from error
            raise Blind(str(explain(error, self._path))) from error
        if not raw:
            raise Blind(f"{self._path}: end of file; this is not the kernel log")
        try:
            record = parse_record(raw)
        except Malformed as error:
            self._doubt(str(error))
            raise
        self._strange = 0
        return record

    def _doubt(self, answer: str) -> None:
        self._strange += 1
        if self._strange == _STRANGE_ANSWERS:
            raise Blind(f"{self._path}: nothing but strange answers; this is not the kernel log; the last one: {answer}")

    async def wait(self) -> None:
        """Wait until there is something to read. Raises OSError for a descriptor that cannot be waited for."""
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._fd, lambda: None if readable.done() else readable.set_result(None))
        try:
            await readable
        finally:
            loop.remove_reader(self._fd)

    def is_stale(self) -> bool:
        """There is no better way to read the log."""
        return False

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
