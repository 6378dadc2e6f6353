"""Containers without a known init, and when they are looked at again."""

import math
from dataclasses import dataclass, field

from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerKey

_LONGEST_NEWBORN_WAIT_SECONDS = 0.02
"""On a busy node a runtime takes a second to start an init, and what is short-lived ends some 30 ms later."""
_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 600.0
"""Between two looks at a container that has no init, such as a cgroup that was left over."""


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
