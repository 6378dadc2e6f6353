"""A trace instance of the agent's own that records the signals which are sent: made, read and removed again (tracefs).

Buffers of an instance are its own: whoever traces on this machine sees nothing of it.
"""

import contextlib
import os
import time

from agent.supervise import Blind
from collectors.kernel import trace_ring
from collectors.kernel.files import FLAGS
from collectors.kernel.trace_ring import SignalEvent

_EVENT = "events/signal/signal_generate"
_BUFFER_KIB = 64
"""For each processor: at 10 Hz some 10,000 signals a second."""
_SIGNALS = (1, 2, 3, 9, 10, 12, 15, 28, 30, 37, 38)
"""Those that runtimes send to end a container, or images choose for it: HUP, INT, QUIT, KILL, USR1, USR2, TERM, WINCH, PWR, RTMIN+3 and +4.
Of others, such as CHLD and URG, programs send each other thousands."""


class SignalTrace:
    """The instance of one name, while it is there."""

    def __init__(self, root: str, name: str) -> None:
        """Make it, or take the one that an agent left behind, and begin to record. Raises Blind."""
        self._directory = f"{root}/instances/{name}"
        self._fds: list[int] = []
        self._next = 0
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._directory)
            self._begin()
        except (OSError, ValueError) as error:
            self.close()
            raise Blind(f"{_where(error, self._directory)}; it needs tracefs, writable, at --path.tracefs (deploy/README.md)") from error

    def read(self, seconds: float) -> tuple[list[SignalEvent], int, bool]:
        """Return what was recorded since the last call, how many were lost, and whether that was all: it stops after so many seconds.

        Events are in the order of their times. Raises OSError; ValueError if the kernel's pages are not as documented.
        """
        until = time.monotonic() + seconds
        found: list[SignalEvent] = []
        lost = 0
        for _ in range(len(self._fds)):
            fd = self._fds[self._next]
            while page := self._page(fd):
                signals, missed = trace_ring.signals(page, self._id)
                found += signals
                lost += missed
                if time.monotonic() >= until:
                    return sorted(found, key=_time), lost, False
            self._next = (self._next + 1) % len(self._fds)
        return sorted(found, key=_time), lost, True

    def close(self) -> None:
        """Record no more, and remove it."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        with contextlib.suppress(OSError):
            self._write(f"{_EVENT}/enable", "0")
        with contextlib.suppress(OSError):  # EBUSY: somebody looks at it; the next agent takes it
            os.rmdir(self._directory)

    def _begin(self) -> None:
        self._id = trace_ring.event_id(self._read(f"{_EVENT}/format"))
        self._write(f"{_EVENT}/enable", "0")
        self._write("trace_clock", "boot")
        self._write("buffer_size_kb", str(_BUFFER_KIB))
        self._size = trace_ring.page_bytes(self._read("events/header_page"))
        self._write(f"{_EVENT}/filter", " || ".join(f"sig=={number}" for number in _SIGNALS))
        self._write("trace", "")  # what an agent left behind is cleared by opening this
        self._write("tracing_on", "1")
        per_cpu = f"{self._directory}/per_cpu"
        for name in os.listdir(per_cpu):
            self._fds.append(os.open(f"{per_cpu}/{name}/trace_pipe_raw", FLAGS))
        self._write(f"{_EVENT}/enable", "1")

    def _page(self, fd: int) -> bytes:
        try:
            return os.read(fd, self._size)
        except BlockingIOError:
            return b""

    def _read(self, name: str) -> str:
        with open(f"{self._directory}/{name}", encoding="ascii", errors="replace") as file:
            return file.read()

    def _write(self, name: str, text: str) -> None:
        fd = os.open(f"{self._directory}/{name}", os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if text:
                os.write(fd, text.encode())
        finally:
            os.close(fd)


def _time(event: SignalEvent) -> int:
    return event.time


def _where(error: OSError | ValueError, directory: str) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or directory}: {os.strerror(error.errno or 0)}"
    return f"{directory}: {error}"
