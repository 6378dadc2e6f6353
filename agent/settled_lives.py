"""The lives of containers that are settled: what is still told of them begins no second case."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.open_case import OpenCase
from collectors.inquest.facts import Created, Exited, Fact, Started, Watched
from collectors.kernel.container_id import ContainerKey

MOST_SETTLED = 10_000
"""Containers of which it is remembered that their last life is settled."""
MOST_LIVES = 20
"""Lives of one that are told from others by their inodes, the latest: one in a crash loop has a new one each minute for ever."""

_SAME_END_SECONDS = 2.0
"""Two sources date one end differently by less than this."""
_LATE_END_SECONDS = 60.0
"""The same of a runtime's event: a busy daemon dates an end when it handles it. Of a new start it would have told before."""
_BEGINNINGS = (Created, Started, Watched)


@dataclass(slots=True)
class _Settled:
    """What is remembered of a container: when its last life was settled, by the wall clock, the inodes of its latest lives, and what
    sources have still to tell of it, by kind of fact: a busy daemon may do so later than it was waited for.
    """

    at: float
    inodes: deque[int]
    awaited: set[tuple[type[Fact], str]] = field(default_factory=set)


class SettledLives:
    """Remembers the lives that are settled; `history` is the wall clock up to which an agent before this one has settled all."""

    def __init__(self, settled: Mapping[ContainerKey, tuple[float, Iterable[int]]], history: float) -> None:
        self._settled = OrderedDict((key, _Settled(at, deque(inodes, MOST_LIVES))) for key, (at, inodes) in settled.items())
        self._history = history

    def add(self, key: ContainerKey, case: OpenCase, at: float) -> None:
        """Remember a life that is settled now, at this time of the wall clock."""
        inodes = self._settled.pop(key).inodes if key in self._settled else deque[int](maxlen=MOST_LIVES)
        if case.inode:
            inodes.append(case.inode)
        kinds: tuple[type[Started | Exited], ...] = (Started, Exited)
        awaited: set[tuple[type[Fact], str]] = {(kind, source) for kind in kinds for source in case.awaited(kind)}
        self._settled[key] = _Settled(at, inodes, awaited)
        if len(self._settled) > MOST_SETTLED:
            self._settled.popitem(last=False)

    def have(self, fact: Fact, cases: Sequence[OpenCase]) -> bool:
        """Whether a fact is of one of them; `cases` are the open ones of its container."""
        settled = self._settled.get(fact.container)
        if fact.inode is not None:
            return settled is not None and fact.inode in settled.inodes
        if cases and not (isinstance(fact, Exited) and all(case.begun > fact.time for case in cases)):
            return False
        if settled is None:
            return not (cases or isinstance(fact, _BEGINNINGS)) and fact.time <= self._history
        if isinstance(fact, Watched) and fact.time > settled.at:
            settled.awaited.clear()  # a gap: what was not told before it never will be
        if (type(fact), fact.source) in settled.awaited and not (isinstance(fact, Exited) and fact.how != "runtime"):
            settled.awaited.discard((type(fact), fact.source))
            return True
        return fact.time <= settled.at + _lateness(fact)


def _lateness(fact: Fact) -> float:
    """Return by how many seconds a fact of a settled life may be dated after that was settled."""
    if isinstance(fact, _BEGINNINGS):
        return 0.0
    return _LATE_END_SECONDS if isinstance(fact, Exited) and fact.how == "runtime" else _SAME_END_SECONDS
