"""When containers were created, and when their present life began, from facts in any order. Pure.

The kernel's word (a fact with the inode of the cgroup) is of one life; a runtime's, which names the container only, is of the latest. What
is known of a life goes with its end, but not that there was one: from creation to start is a matter of the first life alone.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from collectors.inquest.bounded import forget_oldest, nobody_lives
from collectors.inquest.facts import Created, Emptied, Exited, Fact, Removed, Started
from collectors.inquest.stops import is_possible
from collectors.kernel.container_id import ContainerKey

MOST = 10_000
"""Containers that are remembered."""


@dataclass(slots=True)
class _Life:
    """Times of the wall clock in seconds; None is not known."""

    created: float | None = None
    inode: int | None = None
    by_kernel: float | None = None
    by_runtime: float | None = None
    is_later: bool = False
    """There was a life before it."""

    def start(self, inode: int) -> float | None:
        """Return when the life with this cgroup began."""
        if self.inode is None:
            return self.by_runtime
        return self.by_kernel if self.inode == inode else None


class Starts:
    """Takes facts, in the event loop; any thread may ask. `is_there` says whether a container still is."""

    def __init__(self, is_there: Callable[[ContainerKey], bool] = nobody_lives) -> None:
        self._is_there = is_there
        self._lives: OrderedDict[ContainerKey, _Life] = OrderedDict()

    def tell(self, fact: Fact) -> None:
        """Take a fact of a container; most say nothing of beginnings."""
        if not isinstance(fact, Created | Started | Exited | Emptied | Removed) or not is_possible(fact.time):
            return
        if isinstance(fact, Created | Started):
            self._began(fact)
        elif isinstance(fact, Removed):
            self._lives.pop(fact.container, None)
        elif (life := self._lives.get(fact.container)) is not None:
            self._ended(life, fact)

    def started(self, key: ContainerKey, inode: int) -> float | None:
        """Return when the init of the life with this cgroup was started, seconds of the wall clock; None if nobody told."""
        life = self._lives.get(key)
        return None if life is None else life.start(inode)

    def waited(self, key: ContainerKey, inode: int) -> float | None:
        """Return the seconds from the creation of a container to the start of its first life; None of a later one, or if not told."""
        life = self._lives.get(key)
        start = None if life is None else life.start(inode)
        if life is None or life.is_later or life.created is None or start is None or start < life.created:
            return None
        return start - life.created

    def _began(self, fact: Created | Started) -> None:
        life = self._lives.setdefault(fact.container, _Life())
        match fact:
            case Created():
                life.created = fact.time if life.created is None else life.created
            case Started(inode=None):
                life.by_runtime = max(fact.time, life.by_runtime or 0.0)
            case Started() if life.inode != fact.inode:
                life.inode, life.by_kernel = fact.inode, fact.time
        forget_oldest(self._lives, MOST, self._is_there)

    def _ended(self, life: _Life, fact: Exited | Emptied) -> None:
        start = life.by_runtime if life.inode is None else life.by_kernel
        is_earlier = fact.inode not in (None, life.inode) if life.inode is not None else False
        if is_earlier or (start is not None and fact.time < start):
            life.is_later = True
        elif life.is_later or life.created is not None:  # whoever tells of creations may start it again
            self._lives[fact.container] = _Life(is_later=True)
        else:
            del self._lives[fact.container]
