"""Followers are kept running."""

import asyncio
from collections.abc import Callable, Iterable

import pytest

from agent.status import Status
from agent.supervise import FAR_DELAY_SECONDS, FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, Blind, keep_running, rest
from agent.words import UNEXPECTED
from collectors.base import Sample


class Fake:
    """A source that ends `rounds` times, each time as a test tells it to, and notes how long it shall rest."""

    def __init__(self, end: Callable[[Status, int], None], rounds: int, longest: float) -> None:
        self.status = Status("kmsg")
        self.longest_rest = longest
        self.rested: list[float] = []
        self._end, self._rounds = end, rounds

    async def follow(self) -> None:
        self._end(self.status, len(self.rested))

    async def rest(self, seconds: float) -> None:
        self.rested.append(seconds)
        if len(self.rested) == self._rounds:
            raise asyncio.CancelledError

    def samples(self) -> Iterable[Sample]:
        return ()


async def delays(end: Callable[[Status, int], None], rounds: int, longest: float = LONGEST_DELAY_SECONDS) -> tuple[list[float], Status]:
    """Keep a source running that ends `rounds` times; return the delays between its starts."""
    source = Fake(end, rounds, longest)
    with pytest.raises(asyncio.CancelledError):
        await keep_running(source)
    return source.rested, source.status


async def test_a_blind_source_is_tried_again_ever_more_slowly() -> None:
    """The back-off doubles up to its cap, and the reason is on the status."""

    def blind(_status: Status, _round: int) -> None:
        raise Blind("/dev/kmsg: Operation not permitted")

    slept, status = await delays(blind, 6)

    assert slept == [1, 2, 4, LONGEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS]
    assert not status.is_up
    assert status.reason == "/dev/kmsg: Operation not permitted"
    assert status.restarts == 5


async def test_what_many_machines_ask_is_asked_less_often() -> None:
    """An API server that is down is not to be kept there."""
    slept, _ = await delays(lambda status, number: None, 6, longest=FAR_DELAY_SECONDS)

    assert slept == [1, 2, 4, 8, FAR_DELAY_SECONDS, FAR_DELAY_SECONDS]


async def test_a_source_that_is_wanted_is_tried_within_a_second_or_so() -> None:
    """Whoever rests for an hour is woken; and nobody less than a second, however often it is wanted."""
    wanted = asyncio.Event()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(120):
        resting = asyncio.create_task(rest(3600, wanted))
        wanted.set()
        await resting

    assert loop.time() - began >= FIRST_DELAY_SECONDS


async def test_a_short_rest_is_as_short_as_it_was_meant() -> None:
    """Without anybody who wants the source."""
    async with asyncio.timeout(120):
        await rest(0.01, asyncio.Event())


async def test_the_back_off_starts_anew_once_the_source_was_seen() -> None:
    """A daemon that restarts once a day is found again within a second."""

    def up_in_round_three(status: Status, number: int) -> None:
        if number == 3:
            status.up()
        raise Blind("gone")

    slept, _ = await delays(up_in_round_three, 5)

    assert slept == [1, 2, 4, 1, 2]


async def test_a_bug_in_a_follower_is_logged_whole_and_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    """Every exception but cancellation means: say it, and start again."""

    def bug(_status: Status, _round: int) -> None:
        raise ZeroDivisionError("oops")

    slept, status = await delays(bug, 2)

    assert len(slept) == 2
    assert status.reason == UNEXPECTED
    assert caplog.records[0].exc_info is not None


async def test_a_stream_that_ends_by_itself_is_no_reason_to_stop() -> None:
    """A follower never finishes."""
    slept, status = await delays(lambda status, number: None, 3)

    assert len(slept) == 3
    assert status.reason == "its stream ended"
