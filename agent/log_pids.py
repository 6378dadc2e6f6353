"""Which container a process belongs to, or belonged to a moment ago, that the kernel log names by its PID alone."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from collectors.inquest.facts import Emptied, Exited, Fact, Started
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.fault_lines import Fault
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.process_status import Status
from collectors.kernel.procfs import has_first_pids, parse_cgroup

MOST = 10_000
"""Inits that are remembered; the oldest goes."""
KEEP_SECONDS = 10.0
"""So long after the end of an init its PID is still believed to be its own: the log is read within milliseconds, and PIDs come again."""


@dataclass(slots=True)
class _Life:
    pid: int
    container: ContainerKey
    inode: int
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

    def tell(self, fact: Fact) -> None:
        """Take a fact of a container: most say nothing of its init."""
        if not self._is_first_namespace or fact.inode is None:
            return
        if isinstance(fact, Started) and fact.pid is not None and fact.inode not in self._lives:
            self._lives[fact.inode] = self._by_pid[fact.pid] = _Life(fact.pid, fact.container, fact.inode)
            if len(self._lives) > MOST:
                self._forget(next(iter(self._lives.values())))
        elif isinstance(fact, Exited | Emptied) and (life := self._lives.get(fact.inode)) is not None and life.ended is None:
            life.ended = self._clock()

    def whose(self, fault: Fault) -> tuple[ContainerKey, int | None] | None:
        """Return the container of a process, and the inode of its cgroup where that is known; None: it has none, or it is not known."""
        if not self._is_first_namespace:
            return None
        try:
            if parse_once(f"{self._proc_root}/{fault.pid}/status", Status).name == fault.comm:
                container = container_id.parse(parse_once(f"{self._proc_root}/{fault.pid}/cgroup", parse_cgroup) or "")
                return None if container is None else (container.key, self._inode(fault.pid, container.key))
        except ReadError:
            pass  # it was reaped, as most are by now
        life = self._by_pid.get(fault.pid)
        if life is None:
            return None
        if life.ended is not None and self._clock() - life.ended > KEEP_SECONDS:
            self._forget(life)
            return None
        return life.container, life.inode

    def _inode(self, pid: int, container: ContainerKey) -> int | None:
        life = self._by_pid.get(pid)
        return life.inode if life is not None and life.container == container and life.ended is None else None

    def _forget(self, life: _Life) -> None:
        self._lives.pop(life.inode, None)
        if self._by_pid.get(life.pid) is life:
            del self._by_pid[life.pid]
