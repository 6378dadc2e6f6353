"""What the agent tells systemd, by the protocol of sd_notify(3): that it is ready, that it still works, that it stops.

It is one datagram each to the socket that NOTIFY_SOCKET names. Without that variable nobody asked, and nothing is done.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping


class Notifier:
    """Sends states to the service manager. It never waits and never raises: what cannot be sent is not worth an agent."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._socket: socket.socket | None = None
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = _watchdog_seconds(environ)
        """How often systemd wants to hear that the agent works (WatchdogSec=); 0: it does not."""
        if self._address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def in_time(self, seconds: float) -> float:
        """Return how long to wait between two passes, `seconds` at most: the watchdog must see one end, however short its period is."""
        return min(seconds, self.watchdog_seconds / 4) if self.watchdog_seconds else seconds

    def tell(self, state: str) -> None:
        """Send one assignment, such as "READY=1"."""
        if self._socket is None:
            return
        # "@" stands for the zero byte with which an abstract address begins.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError):
            self._socket.sendto(state.encode(), address)

    def close(self) -> None:
        """Close the socket; what is told after that goes nowhere."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


async def keep_told(ready: asyncio.Event, last_pass: Callable[[], float], notifier: Notifier) -> None:
    """Tell systemd until cancelled: READY=1 when `ready` is set, WATCHDOG=1 while passes end, STOPPING=1 at the end.

    `last_pass` is when the last pass ended, on any clock: the watchdog is fed only when that has moved, so an agent whose event loop
    turns and whose passes do not end is restarted. A pass whose collectors are late does end, and says so on the page.
    """
    fed = float("nan")
    try:
        await ready.wait()
        notifier.tell("READY=1")
        while notifier.watchdog_seconds:
            if fed != (fed := last_pass()):
                notifier.tell("WATCHDOG=1")
            await asyncio.sleep(notifier.watchdog_seconds / 4)
        await asyncio.Event().wait()
    finally:
        notifier.tell("STOPPING=1")
        notifier.close()


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Read WATCHDOG_USEC, unless WATCHDOG_PID says that it is another process's."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or (pid and pid != str(os.getpid())):
        return 0.0
    return int(microseconds) / 1e6
