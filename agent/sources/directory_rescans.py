"""When directories are listed again that inotify tells changes of: now and then, for what it missed, and at once if it has lost any."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable

UNNOTIFIED_SECONDS = 1.0
"""Between two listings where inotify tells nothing."""


class Rescans:
    """The loop of a source that follows directories. `seconds`: between two listings; `is_notified`: whether inotify tells of changes."""

    def __init__(self, seconds: float, is_notified: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._is_notified = is_notified
        self._woken = asyncio.Event()
        self._due = -math.inf

    def wake(self) -> None:
        """Have changes taken soon."""
        self._woken.set()

    def lost(self) -> None:
        """Note that changes were lost: all is listed as soon as those that are known were taken."""
        self._due = -math.inf

    async def run(
        self, *, changes: Callable[[], None], rescan: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[float]]
    ) -> None:
        """For ever: take changes, list when it is time to, work, and wait until something wakes it.

        `work` returns when it wants to go on at the latest, by the loop's clock. What any of them raises ends it.
        """
        clock = asyncio.get_running_loop().time
        self.lost()
        while True:
            self._woken.clear()
            changes()
            if clock() >= self._due:
                self._due = math.inf  # unless changes are lost meanwhile
                await rescan()
                rest = self._seconds if self._is_notified() else min(self._seconds, UNNOTIFIED_SECONDS)
                self._due = min(self._due, clock() + rest)
            due = await work()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(due, self._due)):
                    await self._woken.wait()
