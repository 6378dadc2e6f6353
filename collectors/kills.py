"""The OOM kill ledger: facts from memory.events and from the kernel log, in any order, to one count (design section 6). Pure.

For one instance, E is memory.events oom_kill less what was there when the agent first looked, G its oom_group_kill and K the victims
that the kernel log names. The kernel counts the first victim of a group kill twice, and either source may miss some, so
kills = max(E - G, K).
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerId
from collectors.kernel.kmsg import OomKill

SCOPES = ("container", "pod", "ancestor", "node")
"""Whose limit was hit. `ancestor` is any other cgroup, and one that the kernel log no longer names."""

Labels = tuple[str, ...]


@dataclass(slots=True)
class _Life:
    """One instance: memory.events at first sight (None until it was read) and as last read, and its kills by whose limit was hit.

    `guessed` of the kills are known from memory.events alone; the kernel log may still name them. `logged_before` is K, and
    `counted_before` K with the guessed ones, as of when the round of readings began: those kills are surely in its reading, for the
    kernel counts first and logs then.
    """

    kills_at_first: int | None = None
    ooms_at_first: int = 0
    kills: int = 0
    ooms: int = 0
    by_scope: Counter[str] = field(default_factory=Counter)
    guessed: int = 0
    logged_before: int = 0
    counted_before: int = 0

    @property
    def logged(self) -> int:
        """K."""
        return self.by_scope.total() - self.guessed

    @property
    def risen(self) -> int:
        """E - G."""
        return self.kills - (self.kills_at_first or 0)

    def log(self, scope: str) -> None:
        """Count a victim that the kernel log names, unless it was guessed: what was counted keeps its scope, or that count would fall."""
        if self.guessed:
            self.guessed -= 1
        else:
            self.by_scope[scope] += 1

    def guess(self) -> None:
        """Count the kills that the kernel log has not named (yet): max(E - G, K) in all. `oom` rises only where the limit was hit."""
        more = max(0, self.risen - self.by_scope.total())
        self.by_scope["container" if self.ooms > self.ooms_at_first else "ancestor"] += more
        self.guessed += more


@dataclass(frozen=True, slots=True)
class Totals:
    """Kills by the labels of a container, and by scope over the whole node; neither ever falls."""

    by_container: Mapping[Labels, int]
    by_scope: Mapping[str, int]


class KillLedger:
    """Every OOM kill once. The kernel log's follower and the sampling thread both write to it.

    `log_is_followed` is for its follower to say, and for whoever must know whether silence means that there was no kill.
    """

    def __init__(self) -> None:
        self.log_is_followed = False
        self._lock = threading.Lock()
        self._started = False
        self._lives: dict[str, dict[int, _Life]] = {}
        self._ended: Counter[Labels] = Counter()
        self._ended_by_scope: Counter[str] = Counter()
        self._outside: Counter[str] = Counter()
        self._nameless: Counter[str] = Counter()
        self._unattributed: Counter[str] = Counter()
        self._unnamed_of_ended = 0

    def logged(self, kill: OomKill, inode: int | None) -> None:
        """Take one victim from the kernel log. `inode` is that of its container's cgroup, None if it is already gone."""
        victim = (kill.task_memcg or kill.group_memcg or b"").decode(errors="backslashreplace")
        container = container_id.parse(victim)
        scope = _scope(kill, container)
        with self._lock:
            if container is not None:
                self._life(container.key, inode).log(scope)
            elif kill.task_memcg is not None:
                self._outside[scope] += 1
            else:
                self._nameless[scope] += 1

    def nameless(self) -> Counter[str]:
        """Begin a round of readings; return the victims without a cgroup so far, for settle()."""
        with self._lock:
            for life in self._all_lives():
                life.logged_before, life.counted_before = life.logged, life.by_scope.total()
            return self._nameless.copy()

    def read(self, container: ContainerId, inode: int, kills: int, ooms: int, *, doubtful: bool = False) -> None:
        """Take one reading of memory.events, made after nameless(): `kills` is oom_kill - oom_group_kill, `ooms` is oom.

        If it is `doubtful` how many of the kills were counted twice, the kernel log's word is taken for those up to now.
        """
        with self._lock:
            life = self._lives.setdefault(container.key, {}).setdefault(inode, _Life())
            if life.kills_at_first is None:
                # What lies before the agent's first pass is history, unless it was logged since the agent's start; an instance found
                # later was born after it, at 0.
                life.kills_at_first, life.ooms_at_first = (0, 0) if self._started else (max(0, kills - life.counted_before), ooms)
            life.kills = max(life.kills, kills)
            if doubtful:
                life.kills_at_first = max(0, life.kills - life.counted_before)
            life.ooms = max(life.ooms, ooms)

    def settle(self, nameless: Counter[str], names: Mapping[str, Labels], *, sighted: bool = True) -> Totals:
        """Sum up after a round of readings, of all instances if `sighted`: then one that was not among them is not born yet."""
        with self._lock:
            self._started |= sighted
            unnamed = self._unnamed_of_ended
            for life in self._all_lives():
                life.guess()
                unnamed += max(0, life.risen - life.logged_before)
            # A victim whose cgroup the log did not name is one that some container's memory.events counted, or nobody's.
            more = max(0, nameless.total() - unnamed - self._unattributed.total())
            for scope in nameless:
                taken = min(more, nameless[scope] - self._unattributed[scope])
                self._unattributed[scope] += taken
                more -= taken
            by_scope = Counter(dict.fromkeys(SCOPES, 0))
            by_container: Counter[Labels] = Counter(dict.fromkeys(names.values(), 0))
            for part in (self._outside, self._unattributed, self._ended_by_scope):
                by_scope.update(part)
            for identifier in list(self._lives):
                scopes: Counter[str] = sum((life.by_scope for life in self._lives[identifier].values()), Counter())
                by_scope.update(scopes)
                if identifier in names:
                    by_container[names[identifier]] += scopes.total()
            for labels in list(self._ended):
                if labels in by_container:
                    by_container[labels] += self._ended[labels]
                else:
                    del self._ended[labels]
            return Totals(by_container, by_scope)

    def close(self, identifier: str, labels: Labels) -> None:
        """Forget the instances of a container that ended long ago; what they counted stays in the sums."""
        with self._lock:
            for life in self._lives.pop(identifier, {}).values():
                life.guess()
                self._unnamed_of_ended += max(0, life.risen - life.logged)
                self._ended[labels] += life.by_scope.total()
                self._ended_by_scope.update(life.by_scope)

    def _all_lives(self) -> Iterator[_Life]:
        return (life for lives in self._lives.values() for life in lives.values())

    def _life(self, identifier: str, inode: int | None) -> _Life:
        lives = self._lives.setdefault(identifier, {})
        if inode is None and lives:
            return lives[max(lives)]
        return lives.setdefault(inode or 0, _Life())


def _scope(kill: OomKill, victim: ContainerId | None) -> str:
    if kill.is_global:
        return "node"
    if victim is None or kill.oom_memcg is None:
        return "ancestor"
    limit = kill.oom_memcg.decode(errors="backslashreplace")
    if f"{limit}/".startswith(f"{victim.container_path}/"):
        return "container"
    pod = victim.container_path.rpartition("/")[0]
    return "pod" if victim.pod_uid and limit == pod else "ancestor"
