"""Whether each source of facts can be seen, and if not, why. Blind is not zero."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable

from collectors.base import Sample, counter, gauge

UP = gauge("coroner_source_up", "1 while the source can be read; 0 means that what it would tell is missing, not zero.", ("source",))
RESTARTS = counter("coroner_source_restarts_total", "Times the follower of the source ended and was restarted.", ("source",))

ANSWERED = gauge("coroner_source_last_answer_timestamp_seconds", "When the source last answered; absent if it never did.", ("source",))

METRICS = (UP, RESTARTS, ANSWERED)

log = logging.getLogger(__name__)


class Status:
    """State of one source. Only a change is logged, so a source that stays away does not fill the log.

    An `optional` source is one that was not asked for and may well not be here, such as Docker on a node of Kubernetes: it is neither
    logged nor exported until it was seen for the first time. One that is not `exported` is a part of another one, and has metrics of its
    own for that: it is on the status page and in the log.
    """

    def __init__(self, source: str, *, optional: bool = False, exported: bool = True) -> None:
        self.source = source
        self.is_up = False
        self.reason = "not looked at yet"
        self.restarts = 0
        self._optional = optional
        self._exported = exported
        self._answered: float | None = None
        self._looked = asyncio.Event()

    @property
    def is_expected(self) -> bool:
        """Whether its absence is worth a word."""
        return not self._optional or self.has_answered

    @property
    def has_answered(self) -> bool:
        """Whether it was ever seen."""
        return self._answered is not None

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
        self.answered()
        self._looked.set()

    def answered(self) -> None:
        """The source answered just now."""
        self._answered = time.time()

    def down(self, reason: str) -> None:
        """The source cannot be read; `reason` names the path and the remedy."""
        if self.is_up or reason != self.reason:
            log.log(
                logging.WARNING if self.is_expected else logging.DEBUG,
                "source is blind",
                extra={"source_name": self.source, "reason": reason},
            )
        self.is_up, self.reason = False, reason
        self._looked.set()

    def samples(self) -> Iterable[Sample]:
        """Yield 1 or 0, the restarts, and the time of its last answer."""
        if not (self._exported and self.is_expected):
            return
        yield UP, (self.source,), int(self.is_up)
        yield RESTARTS, (self.source,), self.restarts
        if self._answered is not None:
            yield ANSWERED, (self.source,), self._answered


def have_answered(runtimes: Iterable[Status]) -> bool:
    """Whether all of these that may be here have answered once, and there is any: until then what they would tell is not known."""
    expected = [status for status in runtimes if status.is_expected]
    return bool(expected) and all(status.has_answered for status in expected)
