"""Last words: what the cgroup of a container said when its last process had ended, or else when it was last read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from collectors.kernel import cgroupfs
from collectors.kernel.cgroupfs import Cgroup, CpuStat, MemoryEvents
from collectors.kernel.files import KernelFiles, ReadError
from collectors.kernel.oom_group import group_kills

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LastWords:
    """Final values in kernel units; None where the kernel lacks the file, or where nobody read it in time."""

    memory_events: MemoryEvents | None = None
    cpu_stat: CpuStat | None = None
    fork_failures: int | None = None
    """pids.events max."""
    threads_peak: int | None = None
    """pids.peak, kernel 6.1."""
    memory_peak: int | None = None
    """Bytes; memory.peak, kernel 5.19."""
    group_kills: int | None = 0
    """Most of its kills that the kernel may have counted twice (oom_group.py); None: any number of them."""


@dataclass(frozen=True, slots=True)
class Death:
    """The end of one instance: the inode and the path of its cgroup, and its last words. `at` is the clock of who noticed."""

    inode: int
    words: LastWords
    at: float = 0.0
    path: str = ""


def read(cgroup: Cgroup) -> LastWords:
    """Read what a cgroup says now, the most important first: soon it is gone. All None if it is already."""
    files, directory = KernelFiles(0), cgroup.directory
    events = _unless_gone(cgroupfs.memory_events, files, directory)
    return LastWords(
        memory_events=events,
        group_kills=_group_kills(files, cgroup, events) if events is not None and events.oom_kill else 0,
        cpu_stat=_unless_gone(cgroupfs.cpu_stat, files, directory),
        fork_failures=_unless_gone(cgroupfs.pids_events_max, files, directory),
        threads_peak=_unless_gone(cgroupfs.pids_peak, files, directory),
        memory_peak=_unless_gone(cgroupfs.memory_peak, files, directory),
    )


def last_read(files: KernelFiles, directory: str) -> LastWords:
    """Return the counters of a cgroup as the last pass read them; it is gone since. Levels are those of then, so there are none."""
    return LastWords(
        memory_events=files.remembered(directory, "memory.events"),
        cpu_stat=files.remembered(directory, "cpu.stat"),
        fork_failures=files.remembered(directory, "pids.events"),
    )


def _group_kills(files: KernelFiles, cgroup: Cgroup, events: MemoryEvents) -> int | None:
    try:
        return group_kills(files, cgroup, events)
    except ReadError:
        return None


def _unless_gone(reader: Callable[[KernelFiles, str], T], files: KernelFiles, directory: str) -> T | None:
    try:
        return reader(files, directory)
    except ReadError:
        return None
