"""Followers are kept running."""

import asyncio
from collections.abc import Callable

import pytest

from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS, Blind, keep_running
from agent.words import UNEXPECTED


async def delays(follow: Callable[[Status, int], None], rounds: int) -> tuple[list[float], Status]:
    """Run a follower that ends `rounds` times; return the delays between its starts."""
    slept: list[float] = []
    status = Status("kmsg")

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == rounds:
            raise asyncio.CancelledError

    async def once() -> None:
        follow(status, len(slept))

    with pytest.raises(asyncio.CancelledError):
        await keep_running(once, status, sleep)
    return slept, status


async def test_a_blind_source_is_tried_again_ever_more_slowly() -> None:
    """The back-off doubles up to its cap, and the reason is on the status."""

    def blind(_status: Status, _round: int) -> None:
        raise Blind("/dev/kmsg: Operation not permitted")

    slept, status = await delays(blind, 8)

    assert slept == [1, 2, 4, 8, 16, LONGEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, LONGEST_DELAY_SECONDS]
    assert not status.is_up
    assert status.reason == "/dev/kmsg: Operation not permitted"
    assert status.restarts == 7


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
