"""Exit files of runtimes, on a real file system with real inotify: what they write, and what they never should have written."""

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.inotify import Inotify
from agent.sources import directory_rescans, exit_files
from agent.sources.exit_entry import MOST_BYTES, Entry
from agent.sources.exit_files import ExitFilesSource
from collectors.inquest.facts import Created, Exited, Fact, Removed, Started
from collectors.kernel.container_id import ContainerKey
from tests.agent.desk import Desk
from tests.agent.test_exit_formats import CREATED, FINISHED, RUNNING, STARTED, status
from tests.tree import open_descriptors

WEB, DB, OTHER = ContainerKey("a" * 64), ContainerKey("b" * 64), ContainerKey("c" * 64)
NOW = FINISHED / 1e9 + 60
NEVER = 3600.0
"""A rescan that no test waits for: what is found by then, inotify told."""


def exited(container: ContainerKey, code: int, time: float = FINISHED / 1e9, reason: str = "") -> Exited:
    """Spell what is told of an end."""
    return Exited(container=container, source="exit_files", time=time, how="runtime", code=code, reason=reason)


CREATED_FACT = Created(container=WEB, source="exit_files", time=CREATED / 1e9)
STARTED_FACT = Started(container=WEB, source="exit_files", time=STARTED / 1e9)
REMOVED_FACT = Removed(container=WEB, source="exit_files", time=NOW)


class Node:
    """A place where runtimes keep their exit files, and a source that follows it."""

    def __init__(self, root: Path, *, rescan: float = NEVER, notifier: Callable[[], Inotify] = Inotify) -> None:
        self.cri, self.conmon = root / "cri", root / "run" / "exits"
        self.desk = Desk()
        self.source = ExitFilesSource(
            directories=[str(self.cri), str(self.conmon)], tell=self.desk.tell, rescan=rescan, notifier=notifier, wall=lambda: NOW
        )

    def write(self, path: Path, raw: bytes, *, modified: float | None = None) -> None:
        """Write a file as runtimes do: under another name, then renamed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.parent / ".new"
        new.write_bytes(raw)
        if modified is not None:
            os.utime(new, (modified, modified))
        new.rename(path)

    @property
    def facts(self) -> list[Fact]:
        """What was told."""
        return self.desk.facts

    def has_told(self, fact: Fact) -> bool:
        """Whether a fact was told last."""
        return self.facts[-1:] == [fact]

    def counted(self) -> dict[str, float]:
        """Return the source's own counters."""
        return {labels[0]: value for _, labels, value in self.source.samples()}

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[None]:
        """Follow until the block is left; it is entered once the source has looked."""
        task = asyncio.create_task(self.source.follow())
        await self.source.status.looked(20)
        yield
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, with a deadline."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node with both directories, empty."""
    made = Node(tmp_path)
    made.cri.mkdir()
    made.conmon.mkdir(parents=True)
    return made


async def test_the_life_of_a_container_of_containerd_is_told_as_it_goes(node: Node) -> None:
    """Its status is written anew at each step; every step is told once."""
    async with node.follow():
        file = node.cri / WEB / "status"
        node.write(file, RUNNING.replace(b'"StartedAt":1795938001000000000', b'"StartedAt":0'))
        await node.until(lambda: node.facts == [CREATED_FACT])
        node.write(file, RUNNING)
        await node.until(lambda: node.facts == [CREATED_FACT, STARTED_FACT])
        node.write(file, RUNNING.replace(b'"Reason":""', b'"Reason":"OOMKilled"'))
        node.write(file, status(Reason="OOMKilled"))
        await node.until(lambda: len(node.facts) == 3)
        shutil.rmtree(file.parent)
        await node.until(lambda: len(node.facts) == 4)

    assert node.facts == [CREATED_FACT, STARTED_FACT, exited(WEB, 3, reason="OOMKilled"), REMOVED_FACT]


async def test_a_removal_that_inotify_did_not_tell_is_found_by_the_next_listing(tmp_path: Path) -> None:
    """It is told once."""
    node = Node(tmp_path, rescan=0.01)
    node.write(node.cri / WEB / "status", RUNNING)
    async with node.follow():
        await node.until(lambda: len(node.facts) == 2)
        node.source._directories._entries.clear()  # as if no event came
        shutil.rmtree(node.cri / WEB)
        await node.until(lambda: node.facts == [CREATED_FACT, STARTED_FACT, REMOVED_FACT])


async def test_a_directory_that_is_gone_tells_of_no_removal(tmp_path: Path) -> None:
    """It may have been unmounted; nor does conmon's file, which is taken away by whoever has read it."""
    node = Node(tmp_path, rescan=0.01)
    node.write(node.cri / WEB / "status", RUNNING)
    node.write(node.conmon / DB, b"1", modified=FINISHED / 1e9)
    async with node.follow():
        await node.until(lambda: len(node.facts) == 3)
        node.cri.rename(tmp_path / "elsewhere")
        (node.conmon / DB).unlink()
        await node.until(lambda: len(node.source._directories._tops) == 1)  # a listing has found neither
        await node.until(lambda: {entry.id for entry in node.source._known} == {WEB})

    assert not any(isinstance(fact, Removed) for fact in node.facts)


async def test_a_container_whose_directory_is_made_anew_is_followed_anew(node: Node) -> None:
    """A watch ends with what it watches."""
    entry = Entry(str(node.cri), WEB)
    async with node.follow():
        for code in (3, 4):
            os.mkdir(entry.path)
            await node.until(lambda: entry in node.source._directories._watched)
            node.write(node.cri / WEB / "status", status(ExitCode=code, FinishedAt=FINISHED + code * 10**9))
            await node.until(partial(node.has_told, exited(WEB, code, FINISHED / 1e9 + code)))
            shutil.rmtree(entry.path)
            await node.until(lambda: entry not in node.source._directories._watched)


async def test_what_was_there_before_the_agent_is_told(node: Node) -> None:
    """Containers may have ended while it was down."""
    node.write(node.cri / WEB / "status", status())
    node.write(node.conmon / DB, b"137", modified=1_700_000_000.5)
    async with node.follow():
        await node.until(lambda: len(node.facts) == 4)

    assert node.facts == [CREATED_FACT, STARTED_FACT, exited(WEB, 3), exited(DB, 137, 1_700_000_000.5)]
    assert node.counted() == {"read": 2, "malformed": 0}


async def test_an_exit_file_of_conmon_is_taken_when_it_is_renamed(node: Node) -> None:
    """Its time is the end's. A container that starts again writes it anew."""
    async with node.follow():
        node.write(node.conmon / WEB, b"3", modified=1_700_000_000)
        await node.until(lambda: node.facts)
        (node.conmon / WEB).unlink()
        node.write(node.conmon / WEB, b"4", modified=1_700_000_009)
        await node.until(lambda: len(node.facts) == 2)

    assert node.facts == [exited(WEB, 3, 1_700_000_000), exited(WEB, 4, 1_700_000_009)]


async def test_a_short_life_does_not_end_before_it_begins(node: Node) -> None:
    """A runtime may take the two times from different clocks."""
    node.write(node.cri / WEB / "status", status(FinishedAt=STARTED - 6_000_000))
    async with node.follow():
        assert node.facts[-1] == exited(WEB, 3, STARTED / 1e9)


async def test_a_code_that_is_not_known_is_not_told(node: Node) -> None:
    """Neither containerd's nor conmon's word for that."""
    node.write(node.cri / WEB / "status", status(ExitCode=255, Reason="Unknown"))
    node.write(node.conmon / DB, b"-1")
    async with node.follow():
        assert node.facts == [CREATED_FACT, STARTED_FACT]


async def test_a_directory_that_comes_later_is_followed(tmp_path: Path) -> None:
    """Podman makes its own with its first container; until then there is nothing to see."""
    node = Node(tmp_path)
    async with node.follow():
        assert not node.source.status.is_up
        assert "--path.exits" in node.source.status.reason
        node.conmon.mkdir(parents=True)
        await node.until(lambda: node.source.status.is_up)
        node.write(node.conmon / WEB, b"3", modified=1_700_000_000)
        await node.until(lambda: node.facts)
        shutil.rmtree(node.conmon)
        await node.until(lambda: not node.source.status.is_up)
        node.conmon.mkdir()
        node.write(node.conmon / DB, b"4", modified=1_700_000_000)
        await node.until(lambda: len(node.facts) == 2)


async def test_without_inotify_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said, with the limit to raise."""

    def fail() -> Inotify:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(directory_rescans, "UNNOTIFIED_SECONDS", 0.01)
    node = Node(tmp_path, notifier=fail)
    node.conmon.mkdir(parents=True)
    async with node.follow():
        assert "max_user_instances" in node.source.status.reason
        node.write(node.conmon / WEB, b"3", modified=1_700_000_000)
        await node.until(lambda: node.facts)


def spoil(path: Path, how: str) -> None:
    """Put something at a path that no runtime puts there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == "symlink":
        (path.parent / "elsewhere").write_bytes(b"3")
        path.symlink_to(path.parent / "elsewhere")
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "socket":
        os.mknod(path, 0o140600)
    elif how == "huge":
        path.write_bytes(b"3" * (MOST_BYTES + 1))
    else:
        path.write_bytes(b'{"Version":"v1"' if how == "half" else b"")


@pytest.mark.parametrize("how", ["symlink", "fifo", "socket", "huge", "half", "empty"])
@pytest.mark.parametrize("place", [f"run/exits/{OTHER}", f"cri/{OTHER}/status"])
async def test_what_no_runtime_writes_is_counted_and_named_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, place: str
) -> None:
    """Nothing is followed, waited for, or told; the others are read, and the file itself once it makes sense."""
    monkeypatch.setattr(exit_files, "_PATIENCE_SECONDS", 0.0)
    node = Node(tmp_path, rescan=0.02)
    spoil(tmp_path / place, how)
    node.write(node.conmon / WEB, b"3", modified=1_700_000_000)
    async with node.follow():
        await node.until(lambda: node.counted()["malformed"])
        assert f"{OTHER}" in node.source.status.reason
        assert node.source.status.is_up
        assert node.facts == [exited(WEB, 3, 1_700_000_000)]
        (tmp_path / place).unlink()
        node.write(tmp_path / place, status() if "status" in place else b"3")
        await node.until(lambda: len(node.facts) > 1)
        await node.until(lambda: not node.source.status.reason)
        assert node.counted()["malformed"] == 1


async def test_a_directory_that_is_a_link_for_a_container_is_not_entered(node: Node, tmp_path: Path) -> None:
    """Only the configured directory itself may be one, as /var/run is."""
    node.write(tmp_path / "elsewhere" / "status", status())
    (node.cri / WEB).symlink_to(tmp_path / "elsewhere")
    (node.cri / "no-id").mkdir()
    async with node.follow():
        assert node.facts == []


async def test_a_burst_is_told_whole(node: Node) -> None:
    """Also of files that are removed at once, as Podman does, once they were seen."""
    ids = [ContainerKey(f"{number:064x}") for number in range(200)]
    async with node.follow():
        for identifier in ids:
            node.write(node.conmon / identifier, b"3", modified=1_700_000_000)
            node.write(node.cri / identifier / "status", status())
        await node.until(lambda: len(node.facts) >= 4 * len(ids))
    ends = [fact.container for fact in node.facts if isinstance(fact, Exited)]

    assert sorted(ends) == sorted(2 * ids)


async def test_nothing_stays_open(node: Node) -> None:
    """After the follower has ended."""
    node.write(node.cri / WEB / "status", status())
    node.write(node.conmon / DB, b"3")
    before = open_descriptors()
    async with node.follow():
        assert node.facts

    assert open_descriptors() == before


@pytest.fixture
def defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Let the directories that are looked for by default be others."""
    monkeypatch.setattr(exit_files, "DEFAULT_EXITS", (f"{tmp_path}/a", f"{tmp_path}/b"))
    return exit_files.DEFAULT_EXITS


async def test_that_a_default_is_not_there_is_no_trouble(defaults: tuple[str, ...], tmp_path: Path) -> None:
    """Nobody asked for it: it is neither exported nor complained of. One that was asked for is."""
    source = ExitFilesSource(directories=defaults, tell=Desk().tell)
    assert not source.status.is_expected
    assert list(source.samples()) == []
    assert ExitFilesSource(directories=[f"{tmp_path}/a"], tell=Desk().tell).status.is_expected
    (tmp_path / "b").mkdir()
    assert ExitFilesSource(directories=defaults, tell=Desk().tell).status.is_expected
