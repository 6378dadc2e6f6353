"""Records from syslog(2), for whoever has CAP_SYSLOG but not the device: the kernel's ring is looked through once per second.

What it cannot tell: how many records were lost, and what `dmesg -C` hid before it was seen.
"""

import asyncio
import ctypes
import os
from collections import deque
from typing import ClassVar

from agent.supervise import Blind
from collectors.kernel.kmsg import Record
from collectors.kernel.syslog import Tail

_READ_ALL = 3
_SIZE_BUFFER = 10
_POLL_SECONDS = 1.0
_FIRST_LOOK_POLLS = 10
_LONGEST_LOOK_POLLS = 300
"""After so many polls it is time to see whether the device has come; ever more rarely, for where it is forbidden each look is audited."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.klogctl.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


def read_all(size: int) -> bytes:
    """Return up to `size` of the newest bytes of the log, in whole records. Raises OSError."""
    buffer = ctypes.create_string_buffer(size)
    return ctypes.string_at(buffer, _klogctl(_READ_ALL, buffer, size))


def ring_bytes() -> int:
    """Return the size of the kernel's ring. Raises OSError: EPERM without the privilege, ENOSYS without CONFIG_PRINTK."""
    return _klogctl(_SIZE_BUFFER, None, 0)


def _klogctl(action: int, buffer: "ctypes.Array[ctypes.c_char] | None", size: int) -> int:
    result: int = _libc.klogctl(action, buffer, size)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


class Syslog:
    """The log as syslog(2) shows it. It may be read on after an error: what is known of it stays."""

    is_numbered: ClassVar[bool] = False

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._records: deque[Record] = deque()
        self._polls = 0
        self._patience = _FIRST_LOOK_POLLS

    @property
    def is_timed(self) -> bool:
        """Whether records have timestamps."""
        return self._tail.is_timed

    def read(self) -> Record | None:
        """Return the next record, None when there is none before the next wait()."""
        return self._records.popleft() if self._records else None

    async def poll(self) -> None:
        """Look for records. In a thread: it takes 0.2 ms as a rule, but the kernel goes through its whole ring. Raises Blind."""
        self._polls += 1
        try:
            self._records.extend(await asyncio.to_thread(self._tail.new))
        except OSError as error:
            raise Blind(f"syslog(2): {error.strerror}; it needs CAP_SYSLOG") from error

    async def wait(self) -> None:
        """Wait until it is time to look, and look. Raises Blind."""
        await asyncio.sleep(_POLL_SECONDS)
        await self.poll()

    def is_stale(self) -> bool:
        """Whether a better way should be tried again; once said, the time begins anew and is longer."""
        if self._polls < self._patience:
            return False
        self._polls = 0
        self._patience = min(2 * self._patience, _LONGEST_LOOK_POLLS)
        return True

    def close(self) -> None:
        """Do nothing: no file is open."""


def open_syslog() -> Syslog:
    """Make sure that the log may be read this way. Raises Blind with the remedy."""
    try:
        return Syslog(Tail(read_all, ring_bytes()))
    except OSError as error:
        raise Blind(f"syslog(2): {os.strerror(error.errno or 0)}; it needs CAP_SYSLOG") from error
