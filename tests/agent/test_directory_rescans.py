"""When directories are listed again, and what is done in between."""

import asyncio
import math
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

from agent.sources.directory_rescans import Rescans


class Follower:
    """A source that notes what it was asked to do."""

    def __init__(self, seconds: float = math.inf, *, is_notified: bool = True) -> None:
        self.rescans = Rescans(seconds, lambda: is_notified)
        self.done: list[str] = []
        self.in_rescan: Callable[[], None] = lambda: None
        self.wait = math.inf

    def changes(self) -> None:
        """Take changes."""
        self.done.append("changes")

    async def rescan(self) -> None:
        """List."""
        self.done.append("rescan")
        await asyncio.sleep(0)
        self.in_rescan()

    async def work(self) -> float:
        """Work; go on at once if `wait` is 0."""
        self.done.append("work")
        return asyncio.get_running_loop().time() + self.wait

    @asynccontextmanager
    async def run(self) -> Any:
        """Run the loop."""
        task = asyncio.create_task(self.rescans.run(changes=self.changes, rescan=self.rescan, work=self.work))
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, with a deadline."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0)


async def test_what_is_there_is_listed_once_and_changes_are_taken_when_something_wakes_it() -> None:
    """Before each listing, too."""
    follower = Follower()
    async with follower.run():
        await follower.until(lambda: follower.done == ["changes", "rescan", "work"])
        follower.rescans.wake()
        await follower.until(lambda: len(follower.done) == 5)

    assert follower.done[3:] == ["changes", "work"]


async def test_changes_that_are_lost_while_it_lists_have_it_list_again() -> None:
    """What was listed before may be what was lost."""
    follower = Follower()
    follower.in_rescan = lambda: follower.rescans.lost() if follower.done.count("rescan") == 1 else None
    async with follower.run():
        await follower.until(lambda: follower.done.count("work") == 2)

    assert follower.done == ["changes", "rescan", "work"] * 2


async def test_without_notifications_it_lists_often() -> None:
    """Each second, or more often if that was asked for."""
    follower = Follower(0.0, is_notified=False)
    async with follower.run():
        await follower.until(lambda: follower.done.count("rescan") >= 3)


async def test_it_goes_on_when_work_wants_to() -> None:
    """Without a listing."""
    follower = Follower()
    follower.wait = 0.0
    async with follower.run():
        await follower.until(lambda: follower.done.count("work") >= 3)

    assert follower.done.count("rescan") == 1
