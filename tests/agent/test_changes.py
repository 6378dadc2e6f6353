"""Changes of files, as inotify tells of them."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.changes import SHARE, InotifyChanges
from agent.inotify import IN_Q_OVERFLOW, Event, Inotify
from tests.tree import tree


@pytest.fixture
def changes(tmp_path: Path) -> Iterator[InotifyChanges]:
    """Three watches of those that the user may have."""
    tree(tmp_path, {"proc/sys/fs/inotify/max_user_watches": f"{3 * SHARE}\n", "a": "1\n", "b": "1\n", "c": "1\n", "d": "1\n"})
    changes = InotifyChanges(str(tmp_path / "proc"))
    yield changes
    changes.close()
    assert changes.take() == []


def test_a_write_is_told_once(changes: InotifyChanges, tmp_path: Path) -> None:
    """By the number of the watch; reading is no write."""
    first, second = changes.watch(f"{tmp_path}/a"), changes.watch(f"{tmp_path}/b")
    assert first != second
    assert changes.watch(f"{tmp_path}/a") == first

    (tmp_path / "b").read_text()
    assert changes.take() == []
    with (tmp_path / "b").open("r+") as file:  # as the kernel's files are written to: nothing is cut off before
        file.write("2\n")

    assert changes.take() == [second]
    assert changes.take() == []


def test_what_is_forgotten_is_not_told(changes: InotifyChanges, tmp_path: Path) -> None:
    """And gives its place to another one."""
    watches = [changes.watch(f"{tmp_path}/{name}") for name in "abc"]
    assert 0 not in watches
    assert changes.watch(f"{tmp_path}/d") == 0

    changes.forget(watches[0])
    changes.take()
    (tmp_path / "a").write_text("2\n")

    assert changes.take() == []
    assert changes.watch(f"{tmp_path}/d") > 0


def test_what_is_not_there_cannot_be_watched(changes: InotifyChanges, tmp_path: Path) -> None:
    """The read that follows says why."""
    assert changes.watch(f"{tmp_path}/none") == 0
    assert changes.watch(f"{tmp_path}/a\0b") == 0


def test_lost_events_may_be_of_any_file(changes: InotifyChanges, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue was full; what was in it is read all the same."""
    watch = changes.watch(f"{tmp_path}/a")
    queue = [[], [Event(-1, IN_Q_OVERFLOW, 0, b"")], [Event(watch, 2, 0, b"")]]
    monkeypatch.setattr(Inotify, "read", lambda _: queue.pop())

    assert changes.take() is None
    assert queue == []


@pytest.mark.parametrize("limit", [None, "x\n"])
def test_without_inotify_nothing_is_watched(tmp_path: Path, limit: str | None) -> None:
    """So everything is read in each pass."""

    def refused() -> Inotify:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    tree(tmp_path, {"a": "1\n", "proc/": "", **({"proc/sys/fs/inotify/max_user_watches": limit} if limit else {})})
    for changes in (InotifyChanges(str(tmp_path / "proc")), InotifyChanges("/proc", refused)):
        assert changes.watch(f"{tmp_path}/a") == 0
        assert changes.take() == []
        changes.forget(7)
        changes.close()
