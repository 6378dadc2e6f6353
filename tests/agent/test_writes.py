"""Writes to files, as inotify tells of them."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.inotify import IN_Q_OVERFLOW, Event, Inotify
from agent.writes import SHARE, InotifyWrites
from tests.tree import tree


@pytest.fixture
def writes(tmp_path: Path) -> Iterator[InotifyWrites]:
    """Three watches of those that the user may have."""
    tree(tmp_path, {"proc/sys/fs/inotify/max_user_watches": f"{3 * SHARE}\n", "a": "1\n", "b": "1\n", "c": "1\n", "d": "1\n"})
    writes = InotifyWrites(str(tmp_path / "proc"))
    yield writes
    writes.close()
    assert writes.take() == []


def test_a_write_is_told_once(writes: InotifyWrites, tmp_path: Path) -> None:
    """By the number of the watch; reading is no write."""
    first, second = writes.watch(f"{tmp_path}/a"), writes.watch(f"{tmp_path}/b")
    assert first != second
    assert writes.watch(f"{tmp_path}/a") == first

    (tmp_path / "b").read_text()
    assert writes.take() == []
    with (tmp_path / "b").open("r+") as file:  # as the kernel's files are written to: nothing is cut off before
        file.write("2\n")

    assert writes.take() == [second]
    assert writes.take() == []


def test_what_is_forgotten_is_not_told(writes: InotifyWrites, tmp_path: Path) -> None:
    """And gives its place to another one."""
    watches = [writes.watch(f"{tmp_path}/{name}") for name in "abc"]
    assert 0 not in watches
    assert writes.watch(f"{tmp_path}/d") == 0

    writes.forget(watches[0])
    writes.take()
    (tmp_path / "a").write_text("2\n")

    assert writes.take() == []
    assert writes.watch(f"{tmp_path}/d") > 0


def test_what_is_not_there_cannot_be_watched(writes: InotifyWrites, tmp_path: Path) -> None:
    """The read that follows says why."""
    assert writes.watch(f"{tmp_path}/none") == 0
    assert writes.watch(f"{tmp_path}/a\0b") == 0


def test_lost_events_may_be_of_any_file(writes: InotifyWrites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue was full; what was in it is read all the same."""
    watch = writes.watch(f"{tmp_path}/a")
    queue = [[], [Event(-1, IN_Q_OVERFLOW, 0, b"")], [Event(watch, 2, 0, b"")]]
    monkeypatch.setattr(Inotify, "read", lambda _: queue.pop())

    assert writes.take() is None
    assert queue == []


@pytest.mark.parametrize("limit", [None, "x\n"])
def test_without_inotify_nothing_is_watched(tmp_path: Path, limit: str | None) -> None:
    """So everything is read in each pass."""

    def refused() -> Inotify:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    tree(tmp_path, {"a": "1\n", "proc/": "", **({"proc/sys/fs/inotify/max_user_watches": limit} if limit else {})})
    for writes in (InotifyWrites(str(tmp_path / "proc")), InotifyWrites("/proc", refused)):
        assert writes.watch(f"{tmp_path}/a") == 0
        assert writes.take() == []
        writes.forget(7)
        writes.close()
