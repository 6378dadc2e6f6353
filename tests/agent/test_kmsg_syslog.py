"""syslog(2) itself: what the C library is asked, and what its errors mean."""

import ctypes
import errno
import os
from collections.abc import Callable

import pytest

from agent.sources import kmsg_syslog
from agent.supervise import Blind
from collectors.kernel.syslog import Tail

RING = 4096


class Libc:
    """A C library whose kernel has a log, or an error."""

    def __init__(self, text: bytes = b"", error: int = 0) -> None:
        self.text = text
        self.error = error

    def klogctl(self, action: int, buffer: "ctypes.Array[ctypes.c_char] | None", size: int) -> int:
        if self.error:
            ctypes.set_errno(self.error)
            return -1
        if action == 10:
            return RING
        assert action == 3, "every other action takes something away from somebody"
        assert buffer is not None
        ctypes.memmove(buffer, self.text, min(size, len(self.text)))
        return min(size, len(self.text))


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> Callable[[Libc], None]:
    """Take another C library."""
    return lambda fake: monkeypatch.setattr(kmsg_syslog, "_libc", fake)


def test_exactly_what_the_kernel_returned_is_the_text(libc: Callable[[Libc], None]) -> None:
    """A NUL in it does not end it, and what the buffer has behind it does not belong to it."""
    libc(Libc(b"<6>[    1.000000] a\0b\n"))

    assert kmsg_syslog.read_all(100) == b"<6>[    1.000000] a\0b\n"
    assert kmsg_syslog.ring_bytes() == RING


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
async def test_what_the_kernel_refuses_is_said_with_the_remedy(libc: Callable[[Libc], None], number: int) -> None:
    """EPERM without CAP_SYSLOG, ENOSYS in a kernel without a log; at the start or later."""
    libc(Libc(b"<6>[    1.000000] x\n"))
    reader = kmsg_syslog.open_syslog()
    await reader.poll()
    libc(Libc(error=number))

    for call in (kmsg_syslog.open_syslog, kmsg_syslog.ring_bytes):
        with pytest.raises((Blind, OSError), match=os.strerror(number)):
            call()
    with pytest.raises(Blind, match=rf"syslog\(2\): {os.strerror(number)}; it needs CAP_SYSLOG"):
        await reader.poll()
    record = reader.read()
    assert record is not None, "what was read before is still there"
    assert record.text == b"x"


async def test_the_device_is_looked_for_ever_more_rarely(libc: Callable[[Libc], None]) -> None:
    """First after ten polls, at last after three hundred."""
    libc(Libc())
    reader = kmsg_syslog.open_syslog()
    looks = []
    for poll in range(1, 1000):
        await reader.poll()
        if reader.is_stale():
            looks.append(poll)

    assert looks == [10, 30, 70, 150, 310, 610, 910]


async def test_the_real_kernel_is_read_if_it_allows_it() -> None:
    """Whatever is in this machine's log: lines that are understood, and nothing new the next moment that was there before."""
    try:
        tail = Tail(kmsg_syslog.read_all, kmsg_syslog.ring_bytes())
        before = tail.new()
    except PermissionError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("CAP_SYSLOG is missing")
    after = tail.new()

    assert all(record.level <= 7 for record in before)
    assert not {(r.timestamp_us, r.text) for r in after} & {(r.timestamp_us, r.text) for r in before} or not tail.is_timed
