"""The watches of cgroups alone, with real inotify; what follows from them is in test_cgroup_source.py."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.inotify import IN_CREATE, IN_IGNORED, IN_ONLYDIR, Inotify
from agent.sources.cgroup_watches import CgroupWatches

MASK = IN_CREATE | IN_ONLYDIR


class Limited(Inotify):
    """An inotify that grants no more watches once its limit is 0."""

    limit = 1

    def add(self, path: str, mask: int) -> int:
        if not self.limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return super().add(path, mask)


@pytest.fixture
async def watches() -> AsyncIterator[CgroupWatches]:
    """Watches that are open, of which ten are enough."""
    made = CgroupWatches(Limited, 10)
    made.open(lambda: None)
    yield made
    made.close()


async def test_what_is_gone_is_not_watched_any_more_even_while_no_watch_is_granted(
    watches: CgroupWatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to kernel 6.12 the watch of a removed cgroup lives on, and counts against the limit that was reached."""
    path = str(tmp_path / "user.slice")
    os.mkdir(path)
    assert watches.watch("/user.slice", path, MASK)
    monkeypatch.setattr(Limited, "limit", 0)
    assert watches.watch("/", str(tmp_path), MASK), "it is there"
    assert (watches.unwatched, watches.is_complete) == ({"/"}, False)
    assert "fs.inotify.max_user_watches" in watches.problem

    os.rename(path, tmp_path / "elsewhere")  # nothing tells the kernel to end the watch
    assert not watches.watch("/user.slice", path, MASK)
    assert (set(watches.watched), watches.unwatched) == (set(), {"/"})
    assert list(watches.read()) == []


async def test_a_watch_that_the_kernel_has_ended_is_forgotten_and_told_of(watches: CgroupWatches, tmp_path: Path) -> None:
    """The path it had is told with the event."""
    path = str(tmp_path / "user.slice")
    os.mkdir(path)
    watches.watch("/user.slice", path, MASK)
    os.rmdir(path)

    assert [(path, event.mask) for path, event in watches.read()] == [("/user.slice", IN_IGNORED)]
    assert watches.watched == {}


async def test_what_was_refused_is_granted_after_it_is_tried_again(
    watches: CgroupWatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only then: else each path of a large node would be refused by the kernel one by one."""
    monkeypatch.setattr(Limited, "limit", 0)
    watches.watch("/", str(tmp_path), MASK)
    monkeypatch.setattr(Limited, "limit", 1)
    watches.watch("/", str(tmp_path), MASK)
    assert watches.unwatched == {"/"}

    watches.open(lambda: None)
    watches.watch("/", str(tmp_path), MASK)
    assert (watches.unwatched, watches.is_complete, watches.problem) == (set(), True, "")
