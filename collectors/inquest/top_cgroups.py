"""What top-level cgroups, those right below the root, tell of OOM kills: a rise that nothing below explains is a kill too. Pure.

Its container was gone before anybody read it, and the kernel log does not say whose the victim was, or not yet.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from collectors.inquest.tally import Reading, Tally
from collectors.kernel import container_id

_ROUNDS = 3
"""After so many rounds the line of a kill that a top-level cgroup has risen for will not come any more."""


def is_top_cgroup(path: str) -> bool:
    """Whether a cgroup lies right below the root and is no container's: most are slices of systemd."""
    return path.count("/") == 1 and path != "/" and container_id.parse(path) is None


@dataclass(slots=True, kw_only=True)
class TopCgroup(Tally):
    """One of them. Of its rise, `counted` are known one by one; of these, `guessed` are those no child tells of.

    Its inode is 0 and kills_at_first None until it was read.
    """

    inode: int = 0
    kills_at_first: int | None = None
    counted: int = 0
    guessed: Counter[str] = field(default_factory=Counter)
    kills_before: int = 0
    """As read in the round before; not kept. What is new in this one the log, or the next walk, may still tell of."""
    counted_before: int = 0
    """As of when the round of readings began; not kept. One that was counted since may be newer than the reading."""
    guessed_in: int = 0
    """The last round that guessed; not kept."""

    @property
    def unexplained(self) -> int:
        """Kills here that nothing below tells of, guessed or still to be."""
        return self.guessed.total() + max(0, self.kills - (self.kills_at_first or 0) - self.counted_before)

    def count(self, scope: str, read_in: int) -> str:
        """Count a kill below, in an instance that was last read in a round; return its scope.

        If that was before this cgroup guessed, the kill may be what was guessed: it is then counted already and keeps that scope, or that
        count would fall.
        """
        if not self.guessed.total() or read_in >= self.guessed_in:
            self.counted += 1
            return scope
        taken = scope if self.guessed[scope] else max(self.guessed, key=lambda each: self.guessed[each])
        self.guessed[taken] -= 1
        return taken

    def guess(self, scope: str, this_round: int) -> None:
        """Count what has risen here and is known nowhere below."""
        more = max(0, self.kills_before - (self.kills_at_first or 0) - self.counted)
        if more:
            self.counted += more
            self.guessed[scope] += more
            self.guessed_in = this_round


class TopCgroups:
    """All of them, by path. Kills that are nobody's for good go to `unattributed`, by scope."""

    def __init__(self, unattributed: Counter[str], kept: Mapping[str, TopCgroup], *, this_round: int) -> None:
        self.by_path: dict[str, TopCgroup] = dict(kept)
        self._unattributed = unattributed
        for top in self.by_path.values():
            top.guessed_in, top.counted_before = this_round, top.counted
            top.go_on()

    def begin_round(self) -> None:
        """Note what is counted before they are read again."""
        for top in self.by_path.values():
            top.counted_before = top.counted

    def knows(self, path: str) -> bool:
        """Whether it was read before: the first reading is made after those of its containers, the others before."""
        return path in self.by_path and self.by_path[path].kills_at_first is not None

    def has_groups(self, path: str) -> bool:
        """Whether some of its kills, nobody knows how many, may have been counted twice."""
        return path in self.by_path and self.by_path[path].groups is None

    def read(self, path: str, inode: int, reading: Reading, *, born_at_0: bool) -> None:
        """Take one reading of memory.events. `born_at_0`: one that is not known is new."""
        top = self.by_path.setdefault(path, TopCgroup())
        if is_new := top.kills_at_first is not None and top.inode != inode:
            self._close(path)
            top = self.by_path[path] = TopCgroup()
        top.kills_before = top.kills
        top.take(reading, is_later=True)
        if is_new:  # how many of its kills are counted already, nobody knows
            top.kills_at_first = top.kills
            top.go_on()
        elif top.kills_at_first is None:
            top.kills_at_first = 0
            if not born_at_0:
                top.kills_at_first = max(0, top.kills - top.counted)
                top.go_on()
        top.inode = inode

    def count(self, path: str, scope: str, read_in: int) -> str:
        """Count a kill for the one that this cgroup is in, which was last read in some round; return the scope that it has."""
        *_, top = (path, *container_id.ancestors(path))
        if not is_top_cgroup(top):
            return scope
        return self.by_path.setdefault(top, TopCgroup()).count(scope, read_in)

    def guess(self, scope_of: Mapping[str, str], this_round: int, waiting: Collection[str] = frozenset()) -> int:
        """Count what has risen and is known nowhere below; return how many kills nothing below tells of.

        `scope_of` says whose limit was hit, by path. Once the log should have told and did not, a kill is nobody's for good; but not while
        one of `waiting`, which are paths, has something in it that cannot be read for now.
        """
        for path, top in self.by_path.items():
            if top.guessed.total() and this_round >= top.guessed_in + _ROUNDS and path not in waiting:
                self._unattributed.update(top.guessed)
                top.guessed.clear()
            top.guess(scope_of.get(path, "ancestor"), this_round)
        return sum(top.unexplained for top in self.by_path.values())

    def guessed(self) -> Iterator[Counter[str]]:
        """Yield what was guessed, by scope: it counts."""
        return (top.guessed for top in self.by_path.values())

    def close(self) -> None:
        """Forget all: they are those of another boot."""
        for path in list(self.by_path):
            self._close(path)

    def _close(self, path: str) -> None:
        self._unattributed.update(self.by_path.pop(path).guessed)
