"""Last words: all counters of a cgroup at once, and what is left of one that is gone."""

from pathlib import Path

from collectors.kernel import cgroupfs, last_words
from collectors.kernel.cgroupfs import Cgroup, CpuStat, MemoryEvents
from collectors.kernel.files import KernelFiles
from collectors.kernel.last_words import LastWords, last_read
from tests.tree import FULL, open_descriptors, tree

WORDS = LastWords(MemoryEvents(1, 2, 3, 4, 5, 1), CpuStat(2500000, 1500000, 1000000, 40, 4, 250000), 2, 9, 6000000, group_kills=1)


def read(directory: Path) -> LastWords:
    """Read the last words of a cgroup right below the root."""
    return last_words.read(Cgroup(f"/{directory.name}", str(directory), 7, has_children=False))


def test_all_files_are_read_and_none_is_kept_open(tmp_path: Path) -> None:
    """In kernel units."""
    tree(tmp_path, FULL)
    before = open_descriptors()

    assert read(tmp_path) == WORDS
    assert open_descriptors() == before


def test_an_older_kernel_says_less(tmp_path: Path) -> None:
    """5.10 has neither memory.peak nor pids.peak, and fewer keys."""
    files = {
        "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
        "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\n",
        "pids.events": "max 0\n",
    }
    tree(tmp_path, files)

    assert read(tmp_path) == LastWords(MemoryEvents(0, 0, 3, 1, 1, None), CpuStat(5, 3, 2, None, None, None), 0, None, None)


def test_an_older_kernel_does_not_say_which_kills_of_a_group_it_counted_twice(tmp_path: Path) -> None:
    """Before 5.17; the group may be the cgroup itself, one above it, or one below."""
    events = "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"
    for number, group in enumerate(("", "inner")):
        tree(tmp_path / f"{number}", {"memory.events": events, "memory.oom.group": "0\n", "inner/memory.oom.group": "0\n"})
        assert read(tmp_path / f"{number}").group_kills == 0
        tree(tmp_path / f"{number}", {f"{group}/memory.oom.group": "1\n"})
        assert read(tmp_path / f"{number}").group_kills is None

    tree(tmp_path / "2", {"memory.events": events, "memory.oom.group": "0\n"})
    tree(tmp_path, {"memory.oom.group": "1\n"})
    assert read(tmp_path / "2").group_kills is None


def test_a_malformed_file_costs_its_own_value(tmp_path: Path) -> None:
    """Cut short, or not what the kernel documents."""
    tree(tmp_path, {**FULL, "memory.events": "low", "pids.peak": "max"})

    assert read(tmp_path) == LastWords(None, WORDS.cpu_stat, 2, None, 6000000)


def test_a_cgroup_that_is_gone_says_nothing(tmp_path: Path) -> None:
    """That is how it is told from one that was read."""
    assert read(tmp_path / "gone") == LastWords()


def test_what_was_read_last_is_left_of_one_that_is_gone(tmp_path: Path) -> None:
    """Of counters; and only of what was ever read."""
    tree(tmp_path, FULL)
    files, directory = KernelFiles(10), str(tmp_path)
    assert last_read(files, directory) == LastWords()
    cgroupfs.memory_events(files, directory)
    cgroupfs.memory_peak(files, directory)
    for file in tmp_path.iterdir():
        file.unlink()

    assert last_read(files, directory) == LastWords(memory_events=WORDS.memory_events)
    files.begin_pass({})
    assert last_read(files, directory) == LastWords()
