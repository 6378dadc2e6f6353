"""One open case: what was told of one life of a container, and when there is nothing more to wait for."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from agent.casebook import CaseKey
from collectors.inquest.facts import (
    Born,
    Created,
    Emptied,
    Exited,
    Fact,
    Faulted,
    OomVictim,
    Removed,
    Signalled,
    Started,
    StopRequested,
    StopReturned,
    Watched,
)

SETTLED_SECONDS = 3.0
"""After the exit status is known and the cgroup is gone: Docker tells of a stop, and of an OOM kill, only then."""
STOPPING_SECONDS = 10.0
"""So long, if signals were sent that Docker may still say to be a stop's."""
LONGEST_SECONDS = 15.0
"""After the end, whatever is not known: containerd's status file came 2.5 s late on a slow machine."""
LONGEST_WATCHED_SECONDS = 45.0
"""The same, if a runtime that tells of each stop has not told of the end: what it told before that is on its way too."""
MOST_OF_A_KIND = 50
"""Facts. What comes again and again (pauses, signals) is kept in part: the first, and the latest."""

_CLOSE_SECONDS = 0.05
"""Docker may date the end of a short life some milliseconds before its start, and waits 100 ms before it starts one again."""

_LATE_SECONDS = 5.0
"""Runtimes date a start when they have done all that belongs to it: on a busy node a short life is over by then."""

_AHEAD_SECONDS = 1.0
"""Less is no clock that was set back, but one that another program reads."""

_F = TypeVar("_F", bound=Fact)
_ENDS = (Exited, Emptied, Removed)
_RUNS = (Born, Started, Exited, Emptied)
_URGENT = (StopRequested, Signalled, StopReturned, OomVictim, Faulted, Exited)
"""What is told once and decides: it is written down at once. The rest may wait for half a second, and is mostly told anew."""


class OpenCase:
    """The facts of one life. `inode` is that of its cgroup, once a source has told it. Times are of the given clocks, in seconds."""

    def __init__(self) -> None:
        self.inode: int | None = None
        self.begun = float("inf")
        """Wall clock: the earliest time at which it is known to have run."""
        self.ended: float | None = None
        """Monotonic clock: when its end was learnt first."""
        self.is_gone = False
        """Its cgroup is no more."""
        self.is_restored = False
        """Begun by the agent before this one."""
        self.is_unseen = False
        """The agent before this one kept it, and no pass of this one has looked for its cgroup yet."""
        self.is_changed = False
        """The casebook does not hold all that is known of it."""
        self.kept: CaseKey | None = None
        """Its key in the casebook; None: it is not there."""
        self._facts: dict[type[Fact], list[Fact]] = {}
        self._latest = 0.0
        self._is_lost = False

    def __iter__(self) -> Iterator[Fact]:
        """Yield every fact."""
        return (fact for facts in self._facts.values() for fact in facts)

    def add(self, fact: Fact, now: float) -> bool:
        """Take a fact, unless it was told before; whether it is to be written down at once. `now` is the monotonic clock's."""
        told = self._facts.setdefault(type(fact), [])
        if fact in told:
            return False
        told.append(fact)
        if len(told) > MOST_OF_A_KIND:
            del told[1]
        self.inode = self.inode or fact.inode
        if isinstance(fact, _RUNS):
            self.begun = min(self.begun, fact.time)
        if isinstance(fact, _ENDS) and self.ended is None and (self.has_run or isinstance(fact, Removed)):
            self.ended = now
        self.is_gone |= isinstance(fact, Emptied | Removed)
        self.is_changed = True
        self._latest = now
        return isinstance(fact, _URGENT)

    def all(self, kind: type[_F]) -> list[_F]:
        """Return the facts of one kind."""
        return [fact for fact in self._facts.get(kind, ()) if isinstance(fact, kind)]

    @property
    def has_run(self) -> bool:
        """Whether it ever ran: what was only created has no death."""
        return any(kind in self._facts for kind in _RUNS)

    @property
    def has_exited(self) -> bool:
        """Whether anybody has told how its init ended."""
        return Exited in self._facts

    def awaited(self, kind: type[Started | Exited]) -> frozenset[str]:
        """Return the sources that will still tell of the start, or the end, of this life: they tell of each, and have not yet."""
        watched = {fact.source: fact.time for fact in self.all(Watched) if fact.kind == "stops"}
        return frozenset(watched if kind is Exited else (source for source, time in watched.items() if time <= self.begun)) - {
            fact.source for fact in self.all(kind)
        }

    def lost(self, now: float) -> None:
        """Note that it is there no more, and that nobody has seen its end."""
        self.is_gone = self._is_lost = True
        if self.ended is None:
            self.ended = now

    def is_due(self, now: float) -> bool:
        """Whether there is nothing more to wait for."""
        if self.ended is None:
            return False
        is_awaited = not self._is_lost and bool(self.awaited(Exited))
        if is_awaited or now - self.ended >= LONGEST_SECONDS:
            return not is_awaited or now - self.ended >= LONGEST_WATCHED_SECONDS
        if not (self.has_exited and (self.is_gone or self.inode is None)):
            return False
        patience = STOPPING_SECONDS if Signalled in self._facts and StopReturned not in self._facts else SETTLED_SECONDS
        return now - self._latest >= SETTLED_SECONDS and now - self.ended >= patience


def place(cases: Sequence[OpenCase], fact: Fact, make: Callable[[], OpenCase]) -> OpenCase:
    """Find the case that a fact belongs to, among the open ones of its container, the oldest first, or make one.

    Who knows the cgroup says which life it is. Of the others the time decides: it is that of the latest life that had begun by then.
    """
    if fact.inode is not None:
        same = next((case for case in cases if case.inode == fact.inode), None)
        is_birth = isinstance(fact, Born | Started)
        unclaimed = next((case for case in reversed(cases) if case.inode is None and not (is_birth and _is_over_before(case, fact))), None)
        return same or unclaimed or make()
    if isinstance(fact, Created | Started) and cases and all(_is_of_life_before(case, fact) for case in cases):
        return make()
    # The time of a watch may be older than the container; the kubelet cuts its times to whole seconds, and its ids live once.
    if cases and (isinstance(fact, Watched) or (isinstance(fact, Exited) and fact.how == "kubelet")):
        return cases[-1]
    begun = [case for case in cases if case.begun <= fact.time + _CLOSE_SECONDS]
    if begun:
        return begun[-1]
    undated = next((case for case in cases if case.begun == float("inf")), None)
    if isinstance(fact, Exited):  # Docker tells the end of the life before, too, of which nothing else is known
        return undated or make()
    return cases[0] if cases else make()


def ahead(cases: Sequence[OpenCase], wall: float) -> OpenCase | None:
    """Find the case that began in the future: the clock was set back since then, so times tell no lives apart."""
    return next((case for case in cases if wall + _AHEAD_SECONDS < case.begun < float("inf")), None)


def _is_of_life_before(case: OpenCase, fact: Fact) -> bool:
    """Whether the life had ended when a runtime says that one began, and this is not just late for it: nobody tells of one start twice."""
    ends = [exited.time for exited in case.all(Exited)]
    is_late = bool(ends) and fact.time < min(ends) + _LATE_SECONDS and not any(each.source == fact.source for each in case.all(type(fact)))
    is_awaited = isinstance(fact, Started) and fact.source in case.awaited(Started)
    return _is_over_before(case, fact) and not is_late and not is_awaited


def _is_over_before(case: OpenCase, fact: Fact) -> bool:
    """Whether the life had ended when this happened: Docker starts a container again under the id that it had."""
    ends = [exited.time for exited in case.all(Exited)]
    return bool(ends) and min(ends) <= fact.time - _CLOSE_SECONDS
