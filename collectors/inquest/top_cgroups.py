"""What slices tell of OOM kills: a rise of their memory.events that nothing below explains is a kill too. Pure.

Its container was gone before anybody read it, and the kernel log does not say whose the victim was, or not yet.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from collectors.inquest.tally import Reading, Tally
from collectors.kernel import container_id

_ROUNDS = 3
"""After so many rounds the line of a kill that a slice has risen for will not come any more."""


@dataclass(slots=True, kw_only=True)
class Slice(Tally):
    """One cgroup right below the root. Of its rise, `counted` are known one by one; of these, `guessed` are those no child tells of.

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

        If that was before this slice guessed, the kill may be what was guessed: it is then counted already and keeps that scope, or that
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


class Slices:
    """The accounts of the cgroups right below the root, by path. Kills that are nobody's for good go to `unattributed`, by scope."""

    def __init__(self, unattributed: Counter[str], accounts: Mapping[str, Slice] | None = None, *, this_round: int = 0) -> None:
        self.accounts: dict[str, Slice] = dict(accounts or {})
        self._unattributed = unattributed
        for one in self.accounts.values():
            one.guessed_in, one.counted_before = this_round, one.counted
            one.go_on()

    def begin_round(self) -> None:
        """Note what is counted before they are read again."""
        for one in self.accounts.values():
            one.counted_before = one.counted

    def knows(self, path: str) -> bool:
        """Whether it was read before: the first reading is made after those of its containers, the others before."""
        return path in self.accounts and self.accounts[path].kills_at_first is not None

    def has_groups(self, path: str) -> bool:
        """Whether some of its kills, nobody knows how many, may have been counted twice."""
        return path in self.accounts and self.accounts[path].groups is None

    def read(self, path: str, inode: int, reading: Reading, *, born_at_0: bool) -> None:
        """Take one reading of memory.events. `born_at_0`: one that is not known is new."""
        one = self.accounts.setdefault(path, Slice())
        if is_new := one.kills_at_first is not None and one.inode != inode:
            self._close(path)
            one = self.accounts[path] = Slice()
        one.kills_before = one.kills
        one.take(reading, is_later=True)
        if is_new:  # how many of its kills are counted already, nobody knows
            one.kills_at_first = one.kills
            one.go_on()
        elif one.kills_at_first is None:
            one.kills_at_first = 0
            if not born_at_0:
                one.kills_at_first = max(0, one.kills - one.counted)
                one.go_on()
        one.inode = inode

    def count(self, path: str, scope: str, read_in: int) -> str:
        """Count a kill for the slice that this cgroup is in, which was last read in some round; return the scope that it has."""
        top = "/" + path.split("/", 2)[1] if path.startswith("/") else "/"
        if top == "/" or container_id.parse(top) is not None:
            return scope
        return self.accounts.setdefault(top, Slice()).count(scope, read_in)

    def guess(self, whose: Mapping[str, str], this_round: int) -> int:
        """Count what has risen and is known nowhere below; return how many kills nothing below tells of.

        `whose` limit was hit, by path. Once the log should have told and did not, a kill is nobody's for good.
        """
        for path, one in self.accounts.items():
            if one.guessed.total() and this_round >= one.guessed_in + _ROUNDS:
                self._unattributed.update(one.guessed)
                one.guessed.clear()
            one.guess(whose.get(path, "ancestor"), this_round)
        return sum(one.unexplained for one in self.accounts.values())

    def guessed(self) -> Iterator[Counter[str]]:
        """Yield what was guessed, by scope: it counts."""
        return (one.guessed for one in self.accounts.values())

    def close(self) -> None:
        """Forget all: they are those of another boot."""
        for path in list(self.accounts):
            self._close(path)

    def _close(self, path: str) -> None:
        self._unattributed.update(self.accounts.pop(path).guessed)
