"""Reading kernel files: what a failed read means, kept descriptors, and what planted files do."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from collectors import all_collectors
from collectors.base import Collector, Node
from collectors.deaths import DeathCounts
from collectors.inquest.kills import KillLedger
from collectors.isolation import Isolation
from collectors.kernel.files import (
    Forbidden,
    Gone,
    KernelFiles,
    Malformed,
    ReadError,
    Unsupported,
    descriptor_budget,
    explain,
    read_once,
)
from collectors.kernel.formats import single
from collectors.kernel.hierarchy import Hierarchy
from collectors.kernel.procfs import ProcessTable
from collectors.life import Life
from collectors.zombies import Zombies
from tests.tree import A, B, Content, cgroup, collect, descriptors_left, docker, node, open_descriptors, proc, process, tree

BUFFER = 16384
"""A read of this size is one system call; longer files take more."""


@pytest.fixture
def files() -> Iterator[KernelFiles]:
    """Kept descriptors without a limit that matters; nothing may stay open."""
    before = open_descriptors()
    files = KernelFiles(1000)
    yield files
    files.close()
    assert len(files) == 0
    assert open_descriptors() == before


def failing(code: int) -> Callable[..., Any]:
    """Make a system call that fails."""

    def fail(*_: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


# What a failed read means


@pytest.mark.parametrize(
    ("code", "directory_is_there", "outcome"),
    [
        (errno.ENOENT, True, Unsupported),
        (errno.ENOENT, False, Gone),
        (errno.ENODEV, True, Unsupported),
        (errno.ENODEV, False, Gone),
        (errno.EOPNOTSUPP, True, Unsupported),
        (errno.ESRCH, True, Gone),
        (errno.ENOTDIR, False, Gone),
        (errno.EACCES, True, Forbidden),
        (errno.EPERM, True, Forbidden),
        (errno.EIO, True, ReadError),
        (errno.EINVAL, True, ReadError),
        (errno.EMFILE, True, ReadError),
    ],
)
def test_an_errno_has_one_meaning(tmp_path: Path, code: int, directory_is_there: bool, outcome: type[ReadError]) -> None:
    """Ended, not in this kernel, or not allowed; anything else has no name of its own. The path is always in the message."""
    directory = tmp_path if directory_is_there else tmp_path / "removed"
    path = f"{directory}/memory.current"

    error = explain(OSError(code, "x"), path)

    assert type(error) is outcome
    assert error.path == path
    assert str(error).startswith(f"{path}: {os.strerror(code)}")


def test_a_removed_directory_is_gone(files: KernelFiles, tmp_path: Path) -> None:
    """Also when it was never read before."""
    with pytest.raises(Gone, match=r"/removed/pids\.max"):
        files.parsed(f"{tmp_path}/removed", "pids.max", single)


def test_a_missing_file_is_unsupported(files: KernelFiles, tmp_path: Path) -> None:
    """The kernel is older, or the controller is not enabled."""
    with pytest.raises(Unsupported, match=r"/memory\.peak"):
        files.parsed(str(tmp_path), "memory.peak", single)


@pytest.mark.parametrize("kept", [False, True])
def test_a_file_that_is_switched_off_is_unsupported(
    files: KernelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """Pressure files exist on 5.10 with psi=0, but reading them gives EOPNOTSUPP."""
    tree(tmp_path, {"cpu.pressure": "1\n"})
    if kept:
        files.parsed(str(tmp_path), "cpu.pressure", single)
    monkeypatch.setattr(os, "pread", failing(errno.EOPNOTSUPP))

    for _ in range(3):
        with pytest.raises(Unsupported, match=r"/cpu\.pressure"):
            files.parsed(str(tmp_path), "cpu.pressure", single)
    assert len(files) == 0


@pytest.mark.parametrize("call", ["open", "pread"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_a_missing_privilege_is_forbidden_and_names_the_remedy(
    files: KernelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """It is raised, for it would be the same for every container."""
    tree(tmp_path, {"pids.max": "1\n"})
    monkeypatch.setattr(os, call, failing(code))

    with pytest.raises(Forbidden, match=r"/pids\.max: .*run the agent as root"):
        files.parsed(str(tmp_path), "pids.max", single)


@pytest.mark.parametrize("raw", [b"", b"12", b"garbage\n"])
def test_content_that_is_not_understood_is_malformed(files: KernelFiles, tmp_path: Path, raw: bytes) -> None:
    """The message has the path and the content; the file is looked at again each time."""
    tree(tmp_path, {"pids.max": raw})

    for _ in range(2):
        with pytest.raises(Malformed, match=r"/pids\.max: ") as raised:
            files.parsed(str(tmp_path), "pids.max", single)
        assert repr(raw) in str(raised.value)

    tree(tmp_path, {"pids.max": "12\n"})
    files.begin_pass({})
    assert files.parsed(str(tmp_path), "pids.max", single) == 12


@pytest.mark.parametrize("error", [ValueError, KeyError, IndexError, ZeroDivisionError, OverflowError])
def test_whatever_a_parser_trips_over_is_malformed(files: KernelFiles, tmp_path: Path, error: type[Exception]) -> None:
    """A parser need not foresee all garbage."""
    tree(tmp_path, {"pids.max": "1\n"})

    def parse(_: bytes) -> int:
        raise error("x")

    with pytest.raises(Malformed, match=r"/pids\.max: "):
        files.parsed(str(tmp_path), "pids.max", parse)


def test_after_malformed_content_the_old_value_is_not_returned(files: KernelFiles, tmp_path: Path) -> None:
    """A value that could not be read is absent, also if it could be read before."""
    tree(tmp_path, {"pids.max": "12\n"})
    assert files.parsed(str(tmp_path), "pids.max", single) == 12
    (tmp_path / "pids.max").write_text("garbage\n")

    with pytest.raises(Malformed):
        files.parsed(str(tmp_path), "pids.max", single)


# Kept descriptors


def test_a_kept_descriptor_shows_the_present_content(files: KernelFiles, tmp_path: Path) -> None:
    """One descriptor per file, however often it is read."""
    for number in range(3):
        (tmp_path / "pids.max").write_text(f"{number}\n")
        assert files.parsed(str(tmp_path), "pids.max", single) == number
        assert len(files) == 1


def test_unchanged_content_is_not_parsed_again(files: KernelFiles, tmp_path: Path) -> None:
    """Most files are the same from pass to pass."""
    parsed = []

    def parse(raw: bytes) -> int:
        parsed.append(raw)
        return len(parsed)

    values = []
    for content in ("1\n", "1\n", "2\n", "2\n"):
        (tmp_path / "pids.max").write_text(content)
        values.append(files.parsed(str(tmp_path), "pids.max", parse))

    assert values == [1, 1, 2, 2]
    assert parsed == [b"1\n", b"2\n"]


def stale(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Make reads on all descriptors that are open now fail, as when what they describe was removed; those opened later work."""
    open_now = {int(fd) for fd in os.listdir("/proc/self/fd")}
    pread, open_ = os.pread, os.open

    def opened(path: str, flags: int) -> int:
        fd = open_(path, flags)
        open_now.discard(fd)
        return fd

    def read(fd: int, size: int, offset: int) -> bytes:
        if fd in open_now:
            raise OSError(code, os.strerror(code))
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", read)
    monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ESRCH])
def test_a_stale_descriptor_is_opened_anew(files: KernelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The cgroup was made again under its path, or its controller was switched off and on: kernfs never revives a descriptor."""
    tree(tmp_path, {"pids.max": "1\n"})
    files.parsed(str(tmp_path), "pids.max", single)
    tree(tmp_path, {"pids.max": "22\n"})
    stale(monkeypatch, code)

    assert files.parsed(str(tmp_path), "pids.max", single) == 22
    assert len(files) == 1


def test_a_kept_descriptor_that_fails_otherwise_is_not_hidden(files: KernelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error is reported; the next pass opens the file anew."""
    tree(tmp_path, {"pids.max": "1\n"})
    files.parsed(str(tmp_path), "pids.max", single)
    stale(monkeypatch, errno.EIO)

    with pytest.raises(ReadError, match=r"/pids\.max: "):
        files.parsed(str(tmp_path), "pids.max", single)
    assert files.parsed(str(tmp_path), "pids.max", single) == 1


def test_a_stale_descriptor_of_a_removed_cgroup_is_gone(files: KernelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENODEV on the descriptor, ENOENT on the path, and no directory."""
    directory = tree(tmp_path / "a", {"pids.max": "1\n"})
    files.parsed(str(directory), "pids.max", single)
    (directory / "pids.max").unlink()
    directory.rmdir()
    stale(monkeypatch, errno.ENODEV)

    with pytest.raises(Gone, match=r"/a/pids\.max"):
        files.parsed(str(directory), "pids.max", single)
    assert len(files) == 0


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.EIO, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP])
@pytest.mark.parametrize("kept", [False, True])
def test_a_failed_read_leaves_nothing_open(
    files: KernelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kept: bool
) -> None:
    """Neither a kept descriptor nor a new one."""
    tree(tmp_path, {"pids.max": "1\n"})
    before = open_descriptors()
    if kept:
        files.parsed(str(tmp_path), "pids.max", single)
    monkeypatch.setattr(os, "pread", failing(code))

    with pytest.raises(ReadError):
        files.parsed(str(tmp_path), "pids.max", single)

    assert len(files) == 0
    assert open_descriptors() == before


def test_an_absent_file_is_looked_for_only_now_and_then(files: KernelFiles, tmp_path: Path) -> None:
    """A controller may be enabled later; until then its files cost nothing."""
    outcomes: list[int | None] = []
    with pytest.raises(Unsupported):
        files.parsed(str(tmp_path), "pids.max", single)
    tree(tmp_path, {"pids.max": "1\n"})
    for _ in range(62):
        try:
            outcomes.append(files.parsed(str(tmp_path), "pids.max", single))
        except Unsupported:
            outcomes.append(None)

    assert outcomes == [None] * 60 + [1, 1]


def test_the_limit_is_respected(tmp_path: Path) -> None:
    """Further files are opened, read and closed each time."""
    before = open_descriptors()
    names = [f"pids.{number}" for number in range(10)]
    tree(tmp_path, {name: f"{number}\n" for number, name in enumerate(names)})
    files = KernelFiles(4)

    for _ in range(2):
        assert [files.parsed(str(tmp_path), name, single) for name in names] == list(range(10))
        assert len(files) == 4
        assert open_descriptors() == before + 4

    files.close()
    assert open_descriptors() == before


@pytest.mark.parametrize("left", range(1, 5))
def test_without_descriptors_all_kept_ones_are_given_back(tmp_path: Path, left: int) -> None:
    """Someone else needs them more; every value is still read, and none is kept from then on."""
    names = [f"pids.{number}" for number in range(4)]
    tree(tmp_path, {f"{directory}/{name}": f"{number}\n" for directory in "ab" for number, name in enumerate(names)})
    files = KernelFiles(1000)
    before = open_descriptors()

    with descriptors_left(left):
        values = [files.parsed(f"{tmp_path}/{directory}", name, single) for _ in range(2) for directory in "ab" for name in names]

    assert values == [0, 1, 2, 3] * 4
    assert len(files) == 0
    assert open_descriptors() == before


def test_without_any_descriptor_reading_fails(tmp_path: Path) -> None:
    """It is neither gone nor unsupported: the value is not known."""
    tree(tmp_path, {"pids.max": "1\n"})
    files = KernelFiles(1000)

    with descriptors_left(0), pytest.raises(ReadError) as raised:
        files.parsed(str(tmp_path), "pids.max", single)

    assert type(raised.value) is ReadError


def test_retain_closes_the_files_of_all_other_directories(files: KernelFiles, tmp_path: Path) -> None:
    """A pass names the directories that are still there."""
    tree(tmp_path, {"a/pids.max": "1\n", "a/pids.current": "2\n", "b/pids.max": "3\n"})
    before = open_descriptors()
    files.begin_pass({f"{tmp_path}/a": 1, f"{tmp_path}/b": 2})
    for directory, name in (("a", "pids.max"), ("a", "pids.current"), ("b", "pids.max")):
        files.parsed(f"{tmp_path}/{directory}", name, single)

    files.begin_pass({f"{tmp_path}/b": 2})

    assert len(files) == 1
    assert open_descriptors() == before + 1


@pytest.mark.parametrize(("hard", "all_of_them"), [(1024, 896), (4096, 3584), (20_000, 19_488)])
def test_some_descriptors_are_left_for_all_else(monkeypatch: pytest.MonkeyPatch, hard: int, all_of_them: int) -> None:
    """The soft limit is raised to the hard one: it is low only for programs that use select()."""
    limits = {resource.RLIMIT_NOFILE: (1024, hard)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)

    assert descriptor_budget(1) == all_of_them
    assert descriptor_budget(1 / 8) == all_of_them // 8
    assert limits[resource.RLIMIT_NOFILE] == (hard, hard)


# Once a pass, and settings


def test_a_pass_reads_each_file_once(files: KernelFiles, tmp_path: Path) -> None:
    """Several collectors ask for some files; who needs what is there at this moment says so."""
    tree(tmp_path, {"pids.current": "1\n"})
    files.begin_pass({str(tmp_path): 7})
    assert files.parsed(str(tmp_path), "pids.current", single) == 1

    tree(tmp_path, {"pids.current": "22\n"})
    assert files.parsed(str(tmp_path), "pids.current", single) == 1
    assert files.parsed(str(tmp_path), "pids.current", single, again=True) == 22

    tree(tmp_path, {"pids.current": "333\n"})
    files.begin_pass({str(tmp_path): 7})
    assert files.parsed(str(tmp_path), "pids.current", single) == 333


def test_malformed_content_is_looked_at_again_in_the_same_pass(files: KernelFiles, tmp_path: Path) -> None:
    """Nothing was learnt from it."""
    tree(tmp_path, {"pids.current": "1\n"})
    files.begin_pass({str(tmp_path): 7})
    files.parsed(str(tmp_path), "pids.current", single)
    tree(tmp_path, {"pids.current": "garbage\n"})
    files.begin_pass({str(tmp_path): 7})

    for _ in range(2):
        with pytest.raises(Malformed):
            files.parsed(str(tmp_path), "pids.current", single)


class FakeChanges:
    """Tells of the changes that it is told to; its numbers begin at 1."""

    def __init__(self) -> None:
        self.watched: list[str] = []
        self.forgotten: list[int] = []
        self.changed: list[int] | None = []
        self.refuses = False

    def watch(self, path: str) -> int:
        """Watch all but when it refuses."""
        if self.refuses:
            return 0
        if path not in self.watched:
            self.watched.append(path)
        return self.watched.index(path) + 1

    def forget(self, watch: int) -> None:
        """Note it."""
        self.forgotten.append(watch)

    def take(self) -> list[int] | None:
        """Tell, once."""
        changed, self.changed = self.changed, []
        return changed

    def close(self) -> None:
        """Do nothing."""


class Settings:
    """Two files of one cgroup that only writes change, and what is read of them in further passes."""

    def __init__(self, directory: Path) -> None:
        self.changes = FakeChanges()
        self.files = KernelFiles(10, self.changes)
        self._directory = directory
        self.write("1\n")

    def write(self, content: str) -> None:
        """Write to both."""
        tree(self._directory, {"pids.max": content, "memory.max": content})

    def read(self, *, inode: int = 7) -> list[int | None]:
        """Read them in a new pass."""
        self.files.begin_pass({str(self._directory): inode})
        return [self.files.parsed(str(self._directory), name, single, is_announced=True) for name in ("pids.max", "memory.max")]


def test_a_setting_is_read_again_when_it_was_written(tmp_path: Path) -> None:
    """That one only, and no descriptor is kept of it."""
    settings = Settings(tmp_path)
    assert [settings.read(), settings.read()] == [[1, 1], [1, 1]]

    settings.write("22\n")
    assert settings.read() == [1, 1]
    settings.changes.changed = [2, 2, 99]
    assert settings.read() == [1, 22]
    assert len(settings.files) == 0
    assert settings.changes.watched == [f"{tmp_path}/pids.max", f"{tmp_path}/memory.max"]


def test_a_setting_that_has_just_changed_is_read_in_the_next_pass_too(tmp_path: Path) -> None:
    """Who makes a cgroup writes its limits then, and a runtime in a container does so unheard."""
    settings = Settings(tmp_path)
    assert settings.read() == [1, 1]
    settings.write("22\n")
    assert settings.read() == [22, 22]
    settings.write("333\n")
    assert settings.read() == [333, 333]
    settings.read()
    settings.write("1\n")
    assert settings.read() == [333, 333]


def test_all_settings_are_read_again_when_events_were_lost(tmp_path: Path) -> None:
    """It may have been any."""
    settings = Settings(tmp_path)
    settings.read()
    settings.read()
    settings.write("22\n")
    settings.changes.changed = None

    assert settings.read() == [22, 22]


def test_a_write_that_nobody_tells_of_is_found_later(tmp_path: Path) -> None:
    """Writes through another mount of the hierarchy are not told."""
    settings = Settings(tmp_path)
    settings.read()
    settings.read()
    settings.write("22\n")

    assert [22, 22] in [settings.read() for _ in range(30)]


def test_the_settings_of_a_new_life_are_read(tmp_path: Path) -> None:
    """A cgroup that was made anew has the same path, and nothing is kept of the one before."""
    settings = Settings(tmp_path)
    settings.read()
    settings.write("22\n")

    assert settings.read(inode=8) == [22, 22]
    assert settings.changes.forgotten == [1, 2]
    settings.files.begin_pass({})
    assert settings.changes.forgotten == [1, 2, 1, 2]


def test_a_setting_that_cannot_be_watched_is_read_in_each_pass(tmp_path: Path) -> None:
    """There are no more watches to be had: a descriptor is kept instead, as of every other file."""
    settings = Settings(tmp_path)
    settings.changes.refuses = True
    settings.read()
    settings.write("22\n")

    assert settings.read() == [22, 22]
    assert len(settings.files) == 2
    settings.files.close()


def test_outside_of_passes_a_setting_is_read_whenever_it_is_asked_for(tmp_path: Path) -> None:
    """Whoever begins no pass would never be told."""
    settings = Settings(tmp_path)
    for number in (1, 22):
        settings.write(f"{number}\n")
        assert settings.files.parsed(str(tmp_path), "pids.max", single, is_announced=True) == number
    settings.files.close()


# Long files


@pytest.mark.parametrize("size", [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER, 2 * BUFFER + 1, 100_000])
def test_a_file_of_any_length_is_read_whole(files: KernelFiles, tmp_path: Path, size: int) -> None:
    """Also from a kept descriptor."""
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "io.stat").write_bytes(content)

    assert files.parsed(str(tmp_path), "io.stat", bytes) == content
    assert files.parsed(str(tmp_path), "io.stat", bytes) == content
    assert read_once(f"{tmp_path}/io.stat") == content


def test_a_list_that_comes_in_pieces_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc/partitions and mountinfo give at most a page per read, however large the buffer."""
    content = b"".join(b"%d line\n" % number for number in range(2000))
    (tmp_path / "mountinfo").write_bytes(content)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 4090), offset))

    assert read_once(f"{tmp_path}/mountinfo") == content


# Planted files


def plant_link(path: Path) -> None:
    """A link to a file that could be read."""
    (path.parent / "secret").write_text("1\n")
    path.symlink_to("secret")


@pytest.mark.parametrize("plant", [plant_link, os.mkfifo, os.mkdir])
def test_what_is_not_a_plain_file_is_refused_and_never_waited_for(
    files: KernelFiles, tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    """A link, a FIFO without a writer, a directory."""
    plant(tmp_path / "pids.max")

    for read in (lambda: files.parsed(str(tmp_path), "pids.max", single), lambda: read_once(f"{tmp_path}/pids.max")):
        with pytest.raises(ReadError, match=r"/pids\.max: ") as raised:
            read()
        assert type(raised.value) is ReadError, "it is neither gone nor unsupported"


# A whole pass with one failure in it


class Faults:
    """Makes one system call of a pass fail: the one with the given number."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path, number: int, code: int) -> None:
        self.hit = ""
        self._number = number
        self._code = code
        for name in ("open", "pread", "readlink", "listdir", "scandir"):
            patch.setattr(os, name, self._counted(name, getattr(os, name), str(root)))

    def _counted(self, name: str, call: Callable[..., Any], root: str) -> Callable[..., Any]:
        def counted(first: int | str, *more: Any) -> Any:
            if isinstance(first, int) or first.startswith(root):
                self._number -= 1
                if self._number == -1:
                    self.hit = name
                    raise OSError(self._code, os.strerror(self._code), first)
            return call(first, *more)

        return counted


NAMESPACE = 4026532001
"""The PID namespace of container A."""


def populate(root: Path) -> None:
    """Make a node with two containers, one of them with zombies."""
    other = cgroup("/a.slice/b.service", {})
    dying = {"cgroup/cgroup.stat": "nr_descendants 3\nnr_dying_descendants 1\n"}
    tree(root, {**cgroup(docker(A)), **cgroup(docker(B)), **other, **dying})
    host: dict[str, Content] = {
        "loadavg": "0.00 0.01 0.05 2/321 4567\n",
        "sys/kernel/threads-max": "9999\n",
        "sys/kernel/pid_max": "32768\n",
        "partitions": "major minor  #blocks  name\n\n   8        0   1024 sda\n",
    }
    processes = (
        process(1, parent=0),
        process(10, namespace=NAMESPACE, cgroup=docker(A), pids=(10, 1)),
        process(11, namespace=NAMESPACE, cgroup=docker(A), pids=(11, 2), parent=10, state=b"Z"),
        process(12, namespace=NAMESPACE, cgroup=docker(A), pids=(12, 3), parent=10),
        process(13, namespace=NAMESPACE, cgroup=docker(A), pids=(13, 4), parent=12, state=b"Z"),
    )
    tree(root, proc(host, *processes))


Outcome = dict[tuple[str, tuple[str, ...]], float] | ReadError


class Agent:
    """What is kept from pass to pass."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.is_closed = False
        """Whether something was closed to the last pass."""
        self._hierarchy = Hierarchy(f"{root}/cgroup")
        self._files = KernelFiles(1000)
        self._table = ProcessTable(f"{root}/proc", 1000)
        self._collectors = [
            Zombies(lambda: 1000.0) if collector.name == "zombies" else collector
            for collector in all_collectors(KillLedger(), DeathCounts(), Life())
        ]

    def one_pass(self) -> dict[str, Outcome]:
        """Run all collectors; each of them, or the walk before, may raise ReadError and nothing else."""
        try:
            seen = node(self._root, files=self._files, process_table=self._table, hierarchy=self._hierarchy)
        except ReadError as error:
            return {"walk": error}
        self.is_closed = bool(seen.hidden)
        return {collector.name: self._outcome(collector, seen) for collector in self._collectors}

    def _outcome(self, collector: Collector, seen: Node) -> Outcome:
        seen.closed.clear()
        try:
            return collect(collector, seen)
        except ReadError as error:
            return error
        finally:
            self.is_closed |= bool(seen.closed)

    def close(self) -> None:
        """Close all files."""
        self._files.close()
        self._table.close()


def is_part(outcome: Outcome, truth: Outcome) -> bool:
    """Whether no value is another, though some are absent; and the names of whose PID namespaces are."""
    if isinstance(outcome, ReadError) or isinstance(truth, ReadError):
        return False
    unnamed = {
        (name, (*labels[:1], "", "", "")): value for (name, labels), value in truth.items() if name.startswith("coroner_pid_namespace")
    }
    return outcome.items() <= truth.items() | unnamed.items()


@pytest.mark.parametrize("passes_before", [0, 1])
@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.EACCES, errno.EMFILE, errno.ENOENT, errno.ENODEV, errno.ESRCH])
def test_one_failure_anywhere_in_a_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, passes_before: int) -> None:
    """Whichever call fails: nothing but ReadError is raised, no wrong value comes out, nothing stays open, and the next pass is whole.

    The errnos that say of a process or a cgroup that it has ended are believed, so they may lower a count.
    """
    populate(tmp_path)
    truth = Agent(tmp_path).one_pass()
    assert not any(isinstance(outcome, ReadError) for outcome in truth.values())
    before = open_descriptors()
    hits = set()

    for number in count():
        agent = Agent(tmp_path)
        for _ in range(passes_before):
            agent.one_pass()
        with monkeypatch.context() as patch:
            faults = Faults(patch, tmp_path, number, code)
            outcomes = agent.one_pass()
        was_closed = agent.is_closed
        after = agent.one_pass()
        agent.close()

        assert open_descriptors() == before
        believed = code in (errno.ENOENT, errno.ENODEV, errno.ESRCH)
        if not believed and (faults.hit, code) != ("readlink", errno.EACCES):  # a forbidden link costs the name of a namespace
            assert after == truth
            for name, outcome in outcomes.items():
                is_absent = name == Isolation.name and not outcome  # it needs no pass to fail: the next one looks again
                is_said = was_closed and is_part(outcome, truth[name])
                assert isinstance(outcome, ReadError) or outcome == truth[name] or is_absent or is_said
        if not faults.hit:
            break
        hits.add(faults.hit)

    assert hits == {"scandir", "listdir", "pread", "open", "readlink"}
