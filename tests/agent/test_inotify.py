"""inotify over libc, on a real file system: what it tells, in which order, and how it fails."""

import asyncio
import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from select import select

import pytest

from agent.inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_DONT_FOLLOW,
    IN_IGNORED,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Event,
    Inotify,
    appearance,
)
from tests.tree import open_descriptors

MOST_QUEUED = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    """An empty queue."""
    inotify = Inotify()
    yield inotify
    inotify.close()


def everything(inotify: Inotify) -> list[Event]:
    """All that is queued: a read returns some, and none at the end."""
    found: list[Event] = []
    while events := inotify.read():
        found += events
    return found


def test_nothing_queued_is_an_empty_answer_at_once(inotify: Inotify) -> None:
    """It never blocks, so it may be asked on the event loop."""
    assert inotify.read() == []
    assert select([inotify.fd], [], [], 0)[0] == []


def test_descriptor_is_not_inherited_and_does_not_block(inotify: Inotify) -> None:
    """As every descriptor of the agent."""
    assert not os.get_inheritable(inotify.fd)
    assert not os.get_blocking(inotify.fd)


def test_births_deaths_and_renames_come_in_order(inotify: Inotify, tmp_path: Path) -> None:
    """Names are bytes without the padding; the halves of a rename have one cookie."""
    watch = inotify.add(str(tmp_path), IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
    (tmp_path / "web").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "web").rename(tmp_path / ".web")
    (tmp_path / ".web").rmdir()
    assert select([inotify.fd], [], [], 10)[0] == [inotify.fd]

    events = everything(inotify)
    assert [(event.watch, event.mask, event.name) for event in events] == [
        (watch, IN_CREATE | IN_ISDIR, b"web"),
        (watch, IN_CREATE, b"file"),
        (watch, IN_MOVED_FROM | IN_ISDIR, b"web"),
        (watch, IN_MOVED_TO | IN_ISDIR, b".web"),
        (watch, IN_DELETE | IN_ISDIR, b".web"),
    ]
    assert [bool(event.cookie) for event in events] == [False, False, True, True, False]
    assert events[2].cookie == events[3].cookie


@pytest.mark.parametrize("name", [b"a", b"b" * 15, b"c" * 16, b"d" * 255, b"\xff\xfe", b"new\nline", "größe".encode()])
def test_any_name_is_read_whole(inotify: Inotify, tmp_path: Path, name: bytes) -> None:
    """A name is what the file system has: any bytes of any length."""
    inotify.add(str(tmp_path), IN_CREATE)
    for each in (name, b"next"):
        os.mkdir(os.fsencode(tmp_path) + b"/" + each)

    assert [event.name for event in inotify.read()] == [name, b"next"]


def test_path_of_any_bytes_can_be_watched(inotify: Inotify, tmp_path: Path) -> None:
    """As the file system spells it, also where that is no UTF-8."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(path)
    inotify.add(path, IN_CREATE)
    os.mkdir(f"{path}/new")

    assert [event.name for event in inotify.read()] == [b"new"]


def test_watched_file_has_events_without_a_name(inotify: Inotify, tmp_path: Path) -> None:
    """They are about what is watched itself, as with cgroup.events."""
    file = tmp_path / "file"
    file.touch()
    watch = inotify.add(str(file), IN_MODIFY | IN_CLOSE_WRITE)
    file.write_text("x")

    assert inotify.read() == [Event(watch, IN_MODIFY, 0, b""), Event(watch, IN_CLOSE_WRITE, 0, b"")]


def test_watch_ends_with_the_directory(inotify: Inotify, tmp_path: Path) -> None:
    """One that is made anew has to be watched anew, and gets another number."""
    place = tmp_path / "place"
    place.mkdir()
    watch = inotify.add(str(place), IN_DELETE_SELF)
    place.rmdir()
    place.mkdir()

    assert [(event.mask, event.name) for event in inotify.read()] == [(IN_DELETE_SELF, b""), (IN_IGNORED, b"")]
    assert inotify.add(str(place), IN_DELETE_SELF) != watch


def test_same_directory_again_is_the_same_watch(inotify: Inotify, tmp_path: Path) -> None:
    """Also under another name: so it can be added on every rescan."""
    (tmp_path / "place").mkdir()
    (tmp_path / "link").symlink_to("place")
    watch = inotify.add(str(tmp_path / "place"), IN_CREATE)

    assert inotify.add(str(tmp_path / "place"), IN_CREATE) == watch
    assert inotify.add(str(tmp_path / "link"), IN_CREATE | IN_ONLYDIR) == watch


def test_removed_watch_tells_nothing_more(inotify: Inotify, tmp_path: Path) -> None:
    """But its end; removing it twice is an error."""
    watch = inotify.add(str(tmp_path), IN_CREATE)
    inotify.remove(watch)
    (tmp_path / "late").mkdir()

    assert inotify.read() == [Event(watch, IN_IGNORED, 0, b"")]
    with pytest.raises(OSError, match=f"inotify watch {watch}") as caught:
        inotify.remove(watch)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("name", "mask", "expected"),
    [
        ("absent", IN_CREATE, errno.ENOENT),
        ("file", IN_CREATE | IN_ONLYDIR, errno.ENOTDIR),
        ("link", IN_CREATE | IN_ONLYDIR | IN_DONT_FOLLOW, errno.ENOTDIR),
    ],
)
def test_what_cannot_be_watched_says_which_and_why(inotify: Inotify, tmp_path: Path, name: str, mask: int, expected: int) -> None:
    """The errno is kept, for its meaning is the caller's to know."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match=name) as caught:
        inotify.add(str(tmp_path / name), mask)
    assert caught.value.errno == expected


def test_path_with_nul_names_no_other_file(inotify: Inotify, tmp_path: Path) -> None:
    """C would take it for the end."""
    with pytest.raises(ValueError, match="null byte"):
        inotify.add(f"{tmp_path}\0x", IN_CREATE)


def test_closed_queue_is_an_error_and_closing_twice_is_none(tmp_path: Path) -> None:
    """Its number may be another file's by then."""
    inotify = Inotify()
    inotify.close()
    inotify.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        inotify.add(str(tmp_path), IN_CREATE)
    with pytest.raises(OSError, match="Bad file descriptor"):
        inotify.read()


def test_no_descriptor_left_is_an_error_with_its_errno(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says EMFILE for too many instances of one user too."""

    class Libc:
        def inotify_init1(self, _flags: int) -> int:
            ctypes.set_errno(errno.EMFILE)
            return -1

    monkeypatch.setattr("agent.inotify._libc", Libc())
    with pytest.raises(OSError, match="inotify_init1") as caught:
        Inotify()
    assert caught.value.errno == errno.EMFILE


@pytest.mark.skipif(int(MOST_QUEUED.read_text()) > 200_000, reason="fs.inotify.max_queued_events is too high to fill")
def test_queue_that_overflows_says_so(inotify: Inotify, tmp_path: Path) -> None:
    """Everything up to there is told, then one event about the queue; afterwards it goes on as before."""
    most = int(MOST_QUEUED.read_text())
    watch = inotify.add(str(tmp_path), IN_CREATE | IN_DELETE)
    for number in range(most // 2 + 10):
        path = tmp_path / str(number)
        path.touch()
        path.unlink()

    events = everything(inotify)
    assert len(events) == most + 1
    assert events[-1] == Event(-1, IN_Q_OVERFLOW, 0, b"")
    (tmp_path / "after").touch()
    assert inotify.read() == [Event(watch, IN_CREATE, 0, b"after")]


async def test_what_appears_under_a_name_is_told_and_nothing_else(tmp_path: Path) -> None:
    """Made there or moved there; nothing is told any more when the block has ended, and no descriptor is left."""
    before = open_descriptors()
    told = asyncio.Event()
    async with asyncio.timeout(120):
        with appearance(f"{tmp_path}/docker.sock", told.set):
            for make in ((tmp_path / "docker.sock").touch, lambda: (tmp_path / "new").rename(tmp_path / "docker.sock")):
                (tmp_path / "new").touch()
                for _ in range(3):  # the queue is readable at once, and read in the next turn of the loop
                    await asyncio.sleep(0)
                assert not told.is_set()
                make()
                await told.wait()
                told.clear()
    assert open_descriptors() == before


@pytest.mark.parametrize("path", ["/nowhere/docker.sock", "tcp://127.0.0.1:2375", ""])
async def test_where_nothing_can_appear_nothing_is_told(path: str) -> None:
    """Whoever waits has a deadline of its own."""
    before = open_descriptors()
    with appearance(path, lambda: pytest.fail("told")):
        await asyncio.sleep(0)
    assert open_descriptors() == before
