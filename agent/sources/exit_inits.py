"""Which process of a container is its init, looked for in the processes of its cgroup."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from collectors.kernel import cgroupfs
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerKey
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
_LONGEST_NEWBORN_WAIT_SECONDS = 0.02
"""On a busy node a runtime takes a second to start an init, and what is short-lived ends some 30 ms later."""
_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 600.0
"""Between two looks at a container that has no init, such as a cgroup that was left over."""
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


@dataclass(slots=True)
class Newborn:
    """A container whose init is not there yet; `since` by a clock of seconds."""

    container: ContainerKey
    cgroup: Cgroup
    since: float
    others: set[int] = field(default_factory=set)
    """PIDs of its processes that are no init."""
    wait: float = 0.002

    def next_wait(self) -> float:
        """Return after how many seconds to look again."""
        wait, self.wait = self.wait, min(1.5 * self.wait, _LONGEST_NEWBORN_WAIT_SECONDS)
        return wait


class Looks:
    """When containers without a known init, by the inodes of their cgroups, are looked at again: ever more rarely."""

    def __init__(self) -> None:
        self._due: dict[int, tuple[float, float]] = {}
        self.refused: set[int] = set()
        """There was no descriptor left to watch their inits."""

    def is_due(self, inode: int, now: float) -> bool:
        """Whether to look at one now, by a clock of seconds; if so, not soon again."""
        due, wait = self._due.get(inode, (now, _FIRST_WAIT_SECONDS))
        if now < due:
            return False
        self._due[inode] = now + wait, min(2 * wait, _LONGEST_WAIT_SECONDS)
        return True

    def end(self, inode: int) -> None:
        """Never look at one again: its init has ended, and what is left in it are no inits."""
        self._due[inode] = math.inf, math.inf

    def forget(self, inode: int) -> None:
        """Forget one."""
        self._due.pop(inode, None)
        self.refused.discard(inode)

    def retain(self, inodes: set[int]) -> None:
        """Forget all but these."""
        for gone in (self._due.keys() | self.refused) - inodes:
            self.forget(gone)


def newborn_init(proc_root: str, directory: str, others: set[int]) -> Init | None:
    """Find the init of a container that has just been made: PID 1 of its own PID namespace. Raises ForeignProcesses.

    `others` are PIDs that are not looked at again; those that are found not to be an init are added to them.
    """
    pids = list(islice(_pids(directory + place for place in _PLACES), _MOST_PROCESSES))
    processes = _processes(proc_root, [pid for pid in pids if pid not in others])
    others.update(process.pid for process in processes if process.namespace_pids[-1:] != (1,))
    first = _first(_outer(processes, frozenset(pids)))
    return first.init() if first is not None else None


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
        return first.init() if is_outermost and first.stat.start_time <= oldest.stat.start_time else None
    if not is_whole or oldest.namespace_pids[-1:] == (1,) or oldest.stat.comm.startswith(_RUNTIME):
        return None
    return oldest.init() if oldest.init().age_seconds >= _SURE_SECONDS else None


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
