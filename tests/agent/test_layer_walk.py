"""How much a directory takes: trees with whatever a container may make in them, also while they are walked."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import layer_walk
from agent.layer_walk import Changed, Pace, Stopped, TooLarge, disk_usage
from tests.tree import Link, open_descriptors, tree


def unhurried() -> Pace:
    """Make a pace that never rests."""
    return Pace(lambda _seconds: False, lambda: 0.0)


class Meddler(Pace):
    """Does something to the tree each time the walk could rest, before an entry is looked at or a directory opened."""

    def __init__(self, meddle: Callable[[int], None]) -> None:
        super().__init__(lambda _seconds: False, lambda: 0.0)
        self._meddle, self._times = meddle, 0

    def rest(self) -> None:
        """Meddle."""
        self._times += 1
        self._meddle(self._times)


def allocated(*paths: Path) -> int:
    """Sum up what the file system says of each."""
    return sum(512 * path.lstat().st_blocks for path in paths)


def everything(root: Path) -> int:
    """Sum up all that is in a tree without hard links."""
    return allocated(root, *root.rglob("*"))


def test_all_that_is_below_counts_with_the_blocks_it_has(tmp_path: Path) -> None:
    """Directories too, a name of any bytes too, and a sparse file as little as it takes."""
    tree(tmp_path, {"a/b/c": 100_000 * "x", "a/d": "y", "empty/": "", "top": 5000 * "z"})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n")).write_bytes(10_000 * b"x")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)

    assert disk_usage(str(tmp_path), unhurried()) == everything(tmp_path)
    assert 115_000 <= disk_usage(str(tmp_path), unhurried()) < 1 << 20


def test_what_was_changed_since_is_no_size(tmp_path: Path) -> None:
    """An entry that came or went leaves its mark on its directory, however deep, and while the walk goes on."""
    tree(tmp_path, {"a/b/c": "x", "a/d": "y"})
    before = max(path.lstat().st_ctime for path in (tmp_path, *tmp_path.rglob("*")))
    assert disk_usage(str(tmp_path), unhurried(), unchanged_since=before) == everything(tmp_path)
    with pytest.raises(Changed):
        disk_usage(str(tmp_path), unhurried(), unchanged_since=before - 1)

    while (tmp_path / "a/b/c").stat().st_ctime <= before:  # the kernel dates changes by its last tick
        (tmp_path / "a/b/c").write_text("z")
    meddler = Meddler(lambda times: (tmp_path / "a/b/c").unlink() if times == 3 else None)
    with pytest.raises(Changed):
        disk_usage(str(tmp_path), meddler, unchanged_since=before)


def test_a_file_with_hard_links_counts_once(tmp_path: Path) -> None:
    """Wherever its names are."""
    tree(tmp_path, {"one": 100_000 * "x", "a/other": 50_000 * "y"})
    expected = everything(tmp_path)
    for number in range(5):
        os.link(tmp_path / "one", tmp_path / f"a/link-{number}")

    assert disk_usage(str(tmp_path), unhurried()) == expected


def test_no_symbolic_link_is_followed(tmp_path: Path) -> None:
    """Not in a circle, not out of the tree, not to a file."""
    tree(tmp_path, {"outside/big": 1_000_000 * "x"})
    inside = tree(tmp_path / "inside", {"a/up": Link(".."), "self": Link("self"), "out": Link("../outside"), "f": Link("../outside/big")})

    assert disk_usage(str(inside), unhurried()) == everything(inside) < 1_000_000


def test_the_layer_itself_must_not_be_a_link(tmp_path: Path) -> None:
    """It is a path that somebody else named."""
    tree(tmp_path, {"layer/a": "x", "link": Link("layer")})

    with pytest.raises(OSError, match="Not a directory"):
        disk_usage(str(tmp_path / "link"), unhurried())


def test_a_directory_that_becomes_a_link_before_it_is_opened_leads_nowhere(tmp_path: Path) -> None:
    """Only the directory itself had been counted by then."""
    tree(tmp_path, {"outside/big": 1_000_000 * "x", "inside/a/file": 1000 * "x"})
    inside = tmp_path / "inside"
    expected = allocated(inside, inside / "a")

    def swap(times: int) -> None:
        if times == 2:  # 1: before it is looked at
            shutil.rmtree(inside / "a")
            (inside / "a").symlink_to(tmp_path / "outside")

    assert disk_usage(str(inside), Meddler(swap)) == expected


@pytest.mark.parametrize("when", [1, 2])
def test_what_vanishes_meanwhile_is_not_missed(tmp_path: Path, when: int) -> None:
    """Before it is looked at (1), or before it is opened (2)."""
    tree(tmp_path, {"a/file": 1000 * "x"})
    top, both = allocated(tmp_path), allocated(tmp_path, tmp_path / "a")

    def remove(times: int) -> None:
        if times == when:
            shutil.rmtree(tmp_path / "a")

    assert disk_usage(str(tmp_path), Meddler(remove)) == (top if when == 1 else both)


def test_another_file_system_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is mounted in it counts, nor is it entered."""
    tree(tmp_path, {"a/file": 1000 * "x", "b": "y"})
    monkeypatch.setattr(os, "fstat", lambda fd: _elsewhere(os.stat(fd)))

    assert disk_usage(str(tmp_path), unhurried()) == allocated(tmp_path)


def test_what_is_mounted_over_a_directory_before_it_is_opened_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory itself had been counted by then."""
    tree(tmp_path, {"a/file": 1000 * "x"})
    top = tmp_path.stat().st_ino
    monkeypatch.setattr(os, "fstat", lambda fd: status if (status := os.stat(fd)).st_ino == top else _elsewhere(status))

    assert disk_usage(str(tmp_path), unhurried()) == allocated(tmp_path, tmp_path / "a")


def _elsewhere(status: os.stat_result) -> os.stat_result:
    fields = {name: getattr(status, name) for name in ("st_blocks",)}
    return os.stat_result([*status[:2], status.st_dev + 1, *status[3:]], fields)


def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """There is no size then."""
    with pytest.raises(FileNotFoundError):
        disk_usage(str(tmp_path / "layer"), unhurried())


def test_more_entries_than_the_bound_are_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the sum of some."""
    tree(tmp_path, {f"{number // 4}/{number}": "" for number in range(8)})
    monkeypatch.setattr(layer_walk, "MOST_ENTRIES", 10)
    assert disk_usage(str(tmp_path), unhurried()) == everything(tmp_path)

    (tmp_path / "one-more").touch()
    with pytest.raises(TooLarge):
        disk_usage(str(tmp_path), unhurried())


@pytest.mark.parametrize("levels", [layer_walk.MOST_LEVELS, layer_walk.MOST_LEVELS + 1, 300])
def test_a_tree_that_is_too_deep_is_no_value_and_costs_no_descriptors(tmp_path: Path, levels: int) -> None:
    """A container may make it as deep as it likes."""
    before = open_descriptors()
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(levels - 1):
        os.mkdir("directory", dir_fd=fd)
        below = os.open("directory", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)

    if levels == layer_walk.MOST_LEVELS:
        assert disk_usage(str(tmp_path), unhurried()) == everything(tmp_path)
    else:
        with pytest.raises(TooLarge):
            disk_usage(str(tmp_path), unhurried())
    assert open_descriptors() == before


def test_a_walk_rests_for_nineteen_times_as_long_as_it_works() -> None:
    """A twentieth of one processor, in slices of ten milliseconds."""
    now, slept = 100.0, []

    def sleep(seconds: float) -> bool:
        nonlocal now
        slept.append(seconds)
        now += seconds
        return False

    pace = Pace(sleep, lambda: now)
    pace.rest()
    now += 0.009
    pace.rest()
    assert slept == []

    now += 0.011
    pace.rest()
    pace.rest()
    assert slept == [pytest.approx(19 * 0.02)]


def test_a_walk_that_waited_for_a_busy_processor_does_not_rest_for_all_of_its_time() -> None:
    """Three seconds for one step, of ten that it has for an end: it goes on after one more."""
    now, slept = 0.0, []

    def sleep(seconds: float) -> bool:
        nonlocal now
        slept.append(seconds)
        now += seconds
        return False

    pace = Pace(sleep, lambda: now, share=0.25, most_seconds=10)
    now += 3.4
    pace.rest()
    assert slept == [1.0]


def test_a_walk_that_takes_too_long_ends() -> None:
    """On a disk that is slow, or busy: also its rests count."""
    now = 0.0

    def sleep(seconds: float) -> bool:
        nonlocal now
        now += seconds
        return False

    pace = Pace(sleep, lambda: now)
    for _ in range(6):  # each with a rest of 30 s, of 300 in all
        now += 14
        pace.rest()
    now += 14
    with pytest.raises(TooLarge):
        pace.rest()


def test_a_walk_ends_when_the_agent_does(tmp_path: Path) -> None:
    """It does not wait for the rest of the tree."""
    tree(tmp_path, {"a": "x"})
    times = iter(range(100))

    with pytest.raises(Stopped):
        disk_usage(str(tmp_path), Pace(lambda _seconds: True, lambda: next(times)))
