"""Which process of a container is its init, looked for in the processes of its cgroup."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from collectors.kernel import cgroupfs
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.process_stat import Stat, parse_stat
from collectors.kernel.process_status import namespace_pids

_PLACES = ("", "/container")
"""Where a runtime puts the init below the cgroup of a container: crun makes one more with systemd."""
_MOST_PROCESSES = 200
_MOST_CGROUPS = 64

_SURE_SECONDS = 5.0
"""Age of a process that is none of the helpers with which a runtime starts a container: those live for milliseconds."""
_RUNTIME = b"runc:["
"""The beginning of the name of runc's own processes in a container that has not begun yet."""
_TICKS = os.sysconf("SC_CLK_TCK")


class ForeignProcesses(Exception):
    """The container's processes are in no PID namespace that the agent can see: the kernel lists each as 0."""


@dataclass(frozen=True, slots=True)
class Init:
    """The init of a container. `pid` and `start_time`, in clock ticks since boot, belong to one process only."""

    pid: int
    start_time: int
    comm: str
    """"" while it is not the container's program yet."""

    @property
    def age_seconds(self) -> float:
        """How long it has been there."""
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_time / _TICKS)


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    stat: Stat
    namespace_pids: tuple[int, ...]

    def init(self) -> Init:
        comm = b"" if self.stat.comm.startswith(_RUNTIME) else self.stat.comm
        return Init(self.pid, self.stat.start_time, comm.decode(errors="backslashreplace"))


def init_of(proc_root: str, pid: int, start_time: int) -> Init | None:
    """Return the init that is known to have this PID, and to have been started then; None if it has ended."""
    with suppress(ReadError):
        stat = parse_once(f"{proc_root}/{pid}/stat", parse_stat)
        return _Process(pid, stat, ()).init() if stat.start_time == start_time else None
    return None


def newborn_init(proc_root: str, directory: str, others: set[int]) -> Init | None:
    """Find the init of a container that has just been made: PID 1 of its own PID namespace. Raises ForeignProcesses.

    `others` are PIDs that are not looked at again; those that are found not to be an init are added to them.
    """
    pids = list(islice(_pids(directory + place for place in _PLACES), _MOST_PROCESSES))
    processes = _processes(proc_root, [pid for pid in pids if pid not in others])
    others.update(process.pid for process in processes if process.namespace_pids[-1:] != (1,))
    return _in_cgroup(_first(_outer(processes, frozenset(pids))), (directory + place for place in _PLACES))


def is_empty(directory: str) -> bool:
    """Whether no process is where a runtime puts those of a container."""
    return next(_pids(directory + place for place in _PLACES), None) is None


def running_init(proc_root: str, directory: str) -> Init | None:
    """Find the init of a container that runs, also if it has moved into a cgroup below. Raises ForeignProcesses.

    Of one that shares another PID namespace, and has no PID 1 of its own, it is the oldest process that none of the others has started:
    those that are put into it later (exec) are younger.
    """
    pids = list(islice(_pids(_tree(directory)), _MOST_PROCESSES + 1))
    is_whole = len(pids) <= _MOST_PROCESSES
    outer = _outer(_processes(proc_root, pids), frozenset(pids))
    if not outer:
        return None
    oldest = min(outer, key=lambda process: process.stat.start_time)
    first = _first(outer)
    if first is not None:
        # Where not all were seen, another one may be less deep; but none less than in a namespace right below ours.
        is_outermost = is_whole or len(first.namespace_pids) == 2
        # Else it is in a namespace that somebody made inside of a container that has none of its own.
        return _in_cgroup(first, _tree(directory)) if is_outermost and first.stat.start_time <= oldest.stat.start_time else None
    if not is_whole or oldest.namespace_pids[-1:] == (1,) or oldest.stat.comm.startswith(_RUNTIME):
        return None
    return _in_cgroup(oldest, _tree(directory)) if oldest.init().age_seconds >= _SURE_SECONDS else None


def _in_cgroup(process: _Process | None, directories: Iterator[str]) -> Init | None:
    """Return the init if its PID is in the cgroup still: else another process may have got it before it was looked at."""
    return process.init() if process is not None and process.pid in _pids(directories) else None


def _first(outer: list[_Process]) -> _Process | None:
    """Choose the PID 1 of the outermost namespace, which is the container's own; None if there is none, or more than one."""
    firsts = sorted((process for process in outer if process.namespace_pids[-1:] == (1,)), key=lambda process: len(process.namespace_pids))
    is_clear = len(firsts) == 1 or (len(firsts) > 1 and len(firsts[0].namespace_pids) < len(firsts[1].namespace_pids))
    return firsts[0] if is_clear else None


def _outer(processes: list[_Process], pids: frozenset[int]) -> list[_Process]:
    """Return those that no process of the same container has started."""
    return [process for process in processes if process.stat.parent not in pids]


def _processes(proc_root: str, pids: list[int]) -> list[_Process]:
    found = []
    for pid in pids[:_MOST_PROCESSES]:
        with suppress(ReadError):  # it has ended
            stat = parse_once(f"{proc_root}/{pid}/stat", parse_stat)
            found.append(_Process(pid, stat, parse_once(f"{proc_root}/{pid}/status", namespace_pids)))
    return found


def _pids(directories: Iterator[str]) -> Iterator[int]:
    for directory in directories:
        with suppress(ReadError):  # it is gone, or this runtime makes none here
            pids = cgroupfs.processes(directory)
            if 0 in pids:
                raise ForeignProcesses
            yield from pids


def _tree(directory: str) -> Iterator[str]:
    """Yield a cgroup and some of those below it, the nearest first."""
    pending = [directory]
    for count, each in enumerate(pending):
        yield each
        if count < _MOST_CGROUPS:
            with suppress(OSError), os.scandir(each) as entries:
                pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
