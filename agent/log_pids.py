"""Which container a process belongs to, or belonged to a moment ago, that the kernel log names by its PID alone."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from collectors.inquest.facts import Born, Emptied, Exited, Fact, OomKilled, Started
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.first_pids import has_first_pids
from collectors.kernel.process_cgroup import parse_cgroup
from collectors.kernel.process_status import Status

MOST = 10_000
"""Inits that are remembered, and births; the oldest goes. Those that have ended are forgotten before."""
KEEP_SECONDS = 10.0
"""So long after the end of an init its PID is still believed to be its own: the log is read within milliseconds, and PIDs come again."""


@dataclass(slots=True)
class _Life:
    pid: int
    container: ContainerKey
    inode: int
    born: Born | None
    ended: float | None = None


class LogPids:
    """Knows the inits that sources have told of, and asks /proc of the others while they are there. Used in the event loop.

    The kernel log has the PIDs of the first PID namespace. Where /proc belongs to another one, nothing is known.
    """

    def __init__(self, proc_root: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc_root = proc_root
        self._clock = clock
        self._is_first_namespace = bool(has_first_pids(proc_root))
        self._lives: OrderedDict[int, _Life] = OrderedDict()
        """By the inode of the container's cgroup."""
        self._by_pid: dict[int, _Life] = {}
        self._over: deque[_Life] = deque()
        """Those that have ended, the first to end first."""
        self._births: OrderedDict[int, Born] = OrderedDict()
        """Of those whose init is not known yet."""

    def tell(self, fact: Fact) -> None:
        """Take a fact of a container: most say nothing of its init."""
        if not self._is_first_namespace or fact.inode is None or fact.container.is_nested:  # of what is nested nobody tells the init
            return
        if isinstance(fact, Born):
            self._births[fact.inode] = fact
            if len(self._births) > MOST:
                self._births.popitem(last=False)
        elif isinstance(fact, Started) and fact.pid is not None and fact.inode not in self._lives:
            born = self._births.pop(fact.inode, None)
            self._lives[fact.inode] = self._by_pid[fact.pid] = _Life(fact.pid, fact.container, fact.inode, born)
            self._forget_old()
        elif isinstance(fact, Exited | Emptied):
            self._births.pop(fact.inode, None)
            if (life := self._lives.get(fact.inode)) is not None and life.ended is None:
                life.ended = self._clock()
                self._over.append(life)

    def whose(self, pid: int, comm: bytes) -> tuple[ContainerKey, int | None] | None:
        """Return the container of a process, and the inode of its cgroup where that is known; None: it has none, or it is not known."""
        if not self._is_first_namespace:
            return None
        try:
            if parse_once(f"{self._proc_root}/{pid}/status", Status).name == comm:
                container = container_id.parse(parse_once(f"{self._proc_root}/{pid}/cgroup", parse_cgroup) or "")
                return None if container is None else (container.key, self._inode(pid, container.key))
        except ReadError:
            pass  # it was reaped, as most are by now
        life = self._life(pid)
        return None if life is None else (life.container, life.inode)

    def owner(self, killed: OomKilled) -> Born | None:
        """Return the birth of the container whose init a victim was, of which the log did not say where it was; None: it is not known.

        Of ten kills in five seconds the kernel logs the cgroup, and of every one the PID (dump_header() is rate-limited).
        """
        is_named = killed.kill.task_memcg is not None or killed.kill.group_memcg is not None
        if is_named or killed.is_late or killed.has_foreign_pid or killed.kill.pid is None:
            return None
        life = self._life(killed.kill.pid)
        return None if life is None else life.born

    def _life(self, pid: int) -> _Life | None:
        self._forget_old()
        return self._by_pid.get(pid)

    def _inode(self, pid: int, container: ContainerKey) -> int | None:
        life = self._by_pid.get(pid)
        return life.inode if life is not None and life.container == container and life.ended is None else None

    def _forget_old(self) -> None:
        while self._over and self._clock() - (self._over[0].ended or 0.0) > KEEP_SECONDS:
            self._forget(self._over.popleft())
        if len(self._lives) > MOST:
            self._forget(next(iter(self._lives.values())))

    def _forget(self, life: _Life) -> None:
        self._lives.pop(life.inode, None)
        if self._by_pid.get(life.pid) is life:
            del self._by_pid[life.pid]
