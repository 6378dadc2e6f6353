"""Whether each source of facts can be seen, and if not, why. Blind is not zero."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from collectors.base import Sample, counter, gauge

UP = gauge(
    "coroner_source_up", "1 while the source can be read; 0 means that what it would tell is missing, not that it is zero.", ("source",)
)
RESTARTS = counter("coroner_source_restarts_total", "Times the source's follower ended and was started again.", ("source",))

METRICS = (UP, RESTARTS)

log = logging.getLogger(__name__)


class Status:
    """State of one source. Only a change is logged, so a source that stays away does not fill the log."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.is_up = False
        self.reason = "not looked at yet"
        self.restarts = 0
        self._looked = asyncio.Event()

    async def looked(self, seconds: float) -> None:
        """Wait until the source was looked at once, with whatever result, but not longer than `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._looked.wait()

    def up(self, note: str = "") -> None:
        """The source answers; `note` says what it still does not give."""
        if not self.is_up or note != self.reason:
            log.info("source is up", extra={"source_name": self.source, "note": note or "complete"})
        self.is_up, self.reason = True, note
        self._looked.set()

    def down(self, reason: str) -> None:
        """The source cannot be read; `reason` names the path and the remedy."""
        if self.is_up or reason != self.reason:
            log.warning("source is blind", extra={"source_name": self.source, "reason": reason})
        self.is_up, self.reason = False, reason
        self._looked.set()

    def samples(self) -> Iterable[Sample]:
        """Yield 1 or 0, and the restarts."""
        yield UP, (self.source,), int(self.is_up)
        yield RESTARTS, (self.source,), self.restarts
