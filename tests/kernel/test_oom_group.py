"""Groups of the OOM killer: how many kills the kernel may have counted twice."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from collectors.kernel.cgroupfs import Cgroup, MemoryEvents
from collectors.kernel.files import KernelFiles
from collectors.kernel.last_words import read
from collectors.kernel.oom_group import group_kills
from tests.tree import tree

NEW, OLD = MemoryEvents(0, 0, 0, 1, 4, 1), MemoryEvents(0, 0, 0, 1, 4, None)
"""As 6.1 and 5.10 tell of four kills; one of them was of a group."""


def counted(root: Path, events: MemoryEvents, *groups: str, above: int = 0, local_events: bool = False) -> int | None:
    """Ask for /pod/app, with memory.oom.group set in these cgroups and so many group kills in the pod's memory.events."""
    tree(root, {f"{path}/memory.oom.group": f"{int(path in groups)}\n" for path in ("pod", "pod/app", "pod/app/inside")})
    tree(root, {"pod/memory.events": f"low 0\nhigh 0\nmax 0\noom 1\noom_kill 9\noom_group_kill {above}\n"})
    cgroup = Cgroup("/pod/app", f"{root}/pod/app", 7, has_children=True)
    return group_kills(KernelFiles(0), cgroup, events, local_events=local_events)


@pytest.mark.parametrize(
    ("groups", "expected"), [((), 1), (("pod/app",), 1), (("pod",), 3), (("pod", "pod/app"), 3), (("pod/app/inside",), 1)]
)
def test_group_kills_are_counted_where_the_highest_group_is(tmp_path: Path, groups: tuple[str, ...], expected: int) -> None:
    """What the cgroup itself has counted is in the count of the one above, too."""
    assert counted(tmp_path, NEW, *groups, above=3) == expected


def test_with_local_events_each_cgroup_counts_for_itself(tmp_path: Path) -> None:
    """So the two are added."""
    assert counted(tmp_path, NEW, "pod", above=3, local_events=True) == 4


@pytest.mark.parametrize("groups", [("pod/app",), ("pod",), ("pod/app/inside",)])
def test_before_5_17_any_kill_of_a_group_may_be_in_it_twice(tmp_path: Path, groups: tuple[str, ...]) -> None:
    """Whether the group is the cgroup, one above it or one below; without any, none is."""
    assert counted(tmp_path, OLD) == 0
    assert counted(tmp_path, OLD, *groups) is None


def test_a_kernel_without_groups_counts_no_kill_twice(tmp_path: Path) -> None:
    """Before 4.19 there is no such file."""
    (tmp_path / "app").mkdir()

    assert group_kills(KernelFiles(0), Cgroup("/app", f"{tmp_path}/app", 7, has_children=False), OLD) == 0


def test_a_cgroup_that_is_gone_by_now_may_have_been_a_group(tmp_path: Path) -> None:
    """Where the kernel counts them it has told."""
    gone = Cgroup("/app", f"{tmp_path}/app", 7, has_children=False)

    assert group_kills(KernelFiles(0), gone, OLD) is None
    assert group_kills(KernelFiles(0), gone, NEW) == 1


def test_a_group_that_is_closed_may_be_set(unprivileged: Path) -> None:
    """Then any number of kills may be counted twice; but its own group is counted where it is, as the kernel does from 5.17."""
    tree(unprivileged, {"a/b/memory.oom.group": "0\n", "a/memory.oom.group": "0\n"})
    inner = Cgroup("/a/b", f"{unprivileged}/a/b", 1, has_children=False)
    events = MemoryEvents(0, 0, 0, 0, 4, 1)
    (unprivileged / "a/b/memory.oom.group").chmod(0)
    assert group_kills(KernelFiles(0), inner, events) == 1
    assert group_kills(KernelFiles(0), inner, replace(events, oom_group_kill=None)) is None
    (unprivileged / "a/memory.oom.group").chmod(0)
    assert group_kills(KernelFiles(0), inner, events) is None


@pytest.mark.parametrize(("closed", "mode"), [("a/b", 0), ("a/b", 0o111), ("a/b/memory.oom.group", 0)])
def test_before_5_17_what_is_closed_inside_may_be_a_group(unprivileged: Path, closed: str, mode: int) -> None:
    """It cannot be looked at."""
    tree(unprivileged, {"a/b/memory.oom.group": "0\n", "a/memory.oom.group": "0\n"})
    outer = Cgroup("/a", f"{unprivileged}/a", 1, has_children=True)
    events = MemoryEvents(0, 0, 0, 0, 4, None)
    assert group_kills(KernelFiles(0), outer, events) == 0
    (unprivileged / closed).chmod(mode)
    assert group_kills(KernelFiles(0), outer, events) is None
    (unprivileged / closed).chmod(0o755)


def test_a_container_that_makes_very_many_cgroups_stops_nobody(tmp_path: Path) -> None:
    """They are not all looked at: any of them may be a group."""
    tree(tmp_path, {"app/memory.oom.group": "0\n", **{f"app/{number}/": "" for number in range(1001)}})

    assert group_kills(KernelFiles(0), Cgroup("/app", f"{tmp_path}/app", 7, has_children=True), OLD) is None


def test_a_read_that_fails_otherwise_costs_the_last_words_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they are sure of is then the least."""
    tree(tmp_path, {"app/memory.events": "low 0\nhigh 0\nmax 0\noom 1\noom_kill 4\n", "app/pids.events": "max 2\n"})
    real = os.open

    def fail(path: str, *more: Any) -> int:
        if path.endswith("memory.oom.group"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path, *more)

    monkeypatch.setattr(os, "open", fail)
    words = read(Cgroup("/app", f"{tmp_path}/app", 7, has_children=False))

    assert (words.memory_events, words.group_kills, words.fork_failures) == (OLD, None, 2)
