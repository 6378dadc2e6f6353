"""Keep a follower running: restart it with capped back-off, and say so."""

import asyncio
import contextlib
import logging

from agent.sources import Source
from agent.words import UNEXPECTED, in_words

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 5.0
"""Longest wait between two tries of a source on this machine: a try costs next to nothing, and meanwhile containers get no names."""

FAR_DELAY_SECONDS = 10.0
"""The same of an API that every node of a cluster asks."""

log = logging.getLogger(__name__)


class Blind(Exception):
    """A source cannot be read; the message names the path and the remedy."""


async def rest(seconds: float, wanted: asyncio.Event) -> None:
    """Wait so long, but not much longer than a second when somebody wants the source."""
    await asyncio.sleep(min(seconds, FIRST_DELAY_SECONDS))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds - FIRST_DELAY_SECONDS):
            await wanted.wait()


async def keep_running(source: Source) -> None:
    """Follow a source for ever. It marks its status up when it sees; the back-off starts anew once it did."""
    status = source.status
    delay = FIRST_DELAY_SECONDS
    while True:
        try:
            await source.follow()
            reason = "its stream ended"
        except Blind as error:
            reason = str(error)
        except Exception as error:
            log.exception("follower failed", extra={"source_name": status.source})
            reason = in_words(error) or UNEXPECTED
        if status.is_up:
            delay = FIRST_DELAY_SECONDS
        status.down(reason)
        await source.rest(delay)
        status.restarts += 1
        delay = min(2 * delay, source.longest_rest)
