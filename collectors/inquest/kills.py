"""The OOM kill ledger: facts from memory.events and from the kernel log, in any order, to one count. Pure.

For one instance, E is memory.events oom_kill less what was there when the agent first looked, G the group kills that may be in it twice
(tally.py) and K the victims that the kernel log names. Either source may miss some, so kills = max(E - G, ceil(E/2), K), and max(E, K)
where no group is set. A slice's rise that nothing below it explains is a kill too: its container was gone before it could be read.

Whatever changes is given to a Book before anybody can see it, with the place in the kernel log it comes from.
"""

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from collectors.inquest.kill_state import SCOPES, WHOLE_LOG, Book, Cursor, Labels, Life, LifeKey, NoBook, State, Victim, scope_of
from collectors.inquest.tally import Reading
from collectors.inquest.top_cgroups import Slices
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.oom_log import OomKill

_MOST_IDENTITIES = 10_000
_MOST_LIVES = 2
"""Of one container id: the present one, and the one before, of which the log may still tell."""
_MOST_AT_ONCE = 100_000
"""Kills that one pass counts for one instance: what a kernel prints that has lost count must not stop the agent."""
_GONE = 0
"""Stands for the inode of an instance that was gone when the log told of it, and is not known otherwise."""
_SUMS = ("outside", "unattributed", "ended")
"""Kills outside of containers, of nobody knows whom, and of containers that ended long ago."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Kills by the labels of a container, and by scope over the whole node; neither ever falls."""

    by_container: Mapping[Labels, int]
    by_scope: Mapping[str, int]


class KillLedger:
    """Every OOM kill once. The kernel log's follower and the sampling thread both write to it.

    `log_is_followed` is for its follower to say, and for whoever must know whether silence means that there was no kill. `names` are
    those of the containers it knows, from before the agent's restart too.
    """

    def __init__(self, book: Book | None = None, state: State | None = None, *, same_boot: bool = True) -> None:
        self.log_is_followed = False
        self._book = book or NoBook()
        self._lock = threading.Lock()
        self._lives: dict[ContainerKey, dict[int, Life]] = {}
        self._identities: Counter[Labels] = Counter()
        self._sums: dict[str, Counter[str]] = {name: Counter() for name in (*_SUMS, "nameless")}
        self._slices = Slices(self._sums["unattributed"])
        self._started = False
        self._round = 1
        self._unnamed_of_ended = 0
        self.cursor: Cursor | None = None
        self.names: Mapping[ContainerKey, Labels] = {}
        if state is not None:
            self._restore(state, same_boot=same_boot)

    @property
    def known(self) -> Mapping[ContainerKey, Labels]:
        """Labels of the containers to be shown, also of those that died before they had any: empty then."""
        nameless = (key for (key, _), life in self._all_lives() if life.total and key not in self.names)
        return {**dict.fromkeys(nameless, ()), **self.names}

    def killed(self) -> set[ContainerKey]:
        """Return the ids of the containers with a kill that counts."""
        with self._lock:
            return {key for (key, _), life in self._all_lives() if life.total}

    def logged(
        self,
        kill: OomKill,
        inode: int | None,
        victim: Victim | None = None,
        *,
        late: bool = False,
        place: Cursor | None = None,
        again: bool = False,
    ) -> None:
        """Take one victim from the kernel log, read to this place. `inode` is that of its container's cgroup, None if it is already gone.

        `late` is for what was logged while the agent was down: since then the container may have begun another life. `again` is for one
        that was taken before, when the log had not named its cgroup yet.
        """
        path = (kill.task_memcg or kill.group_memcg or b"").decode(errors="backslashreplace")
        container = container_id.parse(path)
        scope = scope_of(kill, container)
        with self._lock:
            self.cursor = place
            if not again or self._take_back(kill):
                if container is not None:
                    self._log(container, inode, scope, late=late)
                elif kill.task_memcg is not None:
                    self._sums["outside"][self._slices.count(path, scope, -1)] += 1
                else:
                    self._sums["nameless"][scope] += 1
            self._save(victim)

    def reached(self, place: Cursor | None) -> None:
        """All kills up to here are counted; what is the first such place is kept at once, a later one with whatever is kept next."""
        with self._lock:
            is_first = self.cursor is None
            self.cursor = place
            if is_first:
                self._save()

    def nameless(self) -> Counter[str]:
        """Begin a round of readings; return the victims without a cgroup so far, for settle()."""
        with self._lock:
            self._round += 1
            for _, life in self._all_lives():
                life.begin_round()
            self._slices.begin_round()
            return self._sums["nameless"].copy()

    def read(self, container: ContainerId, inode: int, reading: Reading) -> bool:
        """Take one reading of memory.events, made after nameless().

        True when it tells of a kill and not of whose limit was hit: settle() may be told.
        """
        with self._lock:
            life = self._take(container, inode, reading, is_later=True)
            life.read_before, life.read_in = life.read_in, self._round
            return life.missing > 0 and life.ooms <= life.ooms_settled

    def read_last(self, container: ContainerId, inode: int, reading: Reading) -> None:
        """Take the reading of memory.events made when its last process had ended, in or between two rounds; settle() counts it."""
        with self._lock:
            lives = self._lives.get(container.key, {})
            if inode not in lives and _GONE in lives:
                lives[inode] = lives.pop(_GONE)
            self._take(container, inode, reading, is_later=False)
            self._save()

    def knows_slice(self, path: str) -> bool:
        """Whether a slice was read before: the first reading is made after those of its containers, the others before."""
        return self._slices.knows(path)

    def has_groups(self, path: str) -> bool:
        """Whether nobody knows, before 5.17, how many kills in a slice are counted twice: so it is for the slice, or a container in it."""
        with self._lock:
            inside = (life for _, life in self._all_lives() if life.path.startswith(f"{path}/"))
            return self._slices.has_groups(path) or any(life.groups is None for life in inside)

    def read_slice(self, path: str, inode: int, reading: Reading) -> None:
        """Take one reading of memory.events of a cgroup right below the root, made after nameless()."""
        with self._lock:
            self._slices.read(path, inode, reading, born_at_0=self._started)

    def settle(
        self,
        nameless: Counter[str],
        names: Mapping[ContainerKey, Labels],
        *,
        sighted: bool = True,
        whose: Mapping[str, str] | None = None,
        living: Collection[str] | None = None,
    ) -> Totals:
        """Sum up after a round of readings, of all instances if `sighted`: then one that was not among them is not born yet.

        `whose` is the scope of kills that hit no limit of the container itself, by its id, and of slices by their path; `living` are
        the ids of instances; others without a name and without a kill are forgotten.
        """
        with self._lock:
            self._started |= sighted
            unnamed = self._unnamed_of_ended
            for (identifier, _), life in self._inside_out():
                self._guess(identifier, life, (whose or {}).get(identifier, "ancestor"))
                unnamed += max(0, life.risen - life.logged_before)
            unnamed += self._slices.guess(whose or {}, self._round)
            self._attribute(nameless, unnamed)
            if sighted:
                self._prune(names, living)
                self.names = names
            self._save()
            return self._totals(names)

    def close(self, identifier: ContainerKey, labels: Labels | None) -> None:
        """Forget the instances of a container that ended long ago; what they counted stays in the sums."""
        with self._lock:
            for inode in list(self._lives.get(identifier, ())):
                self._fold(identifier, inode, labels)

    def _take_back(self, kill: OomKill) -> bool:
        """Count one nameless kill less, unless it was counted as nobody's already: that count would fall."""
        scope, nameless = scope_of(kill, None), self._sums["nameless"]
        if nameless[scope] <= self._sums["unattributed"][scope]:
            return False
        nameless[scope] -= 1
        return True

    def _log(self, container: ContainerId, inode: int | None, scope: str, *, late: bool) -> None:
        lives = self._lives.setdefault(container.key, {})
        newest = max(lives, default=_GONE)
        if inode is None or (late and inode not in lives and lives and lives[newest].guessed):
            inode = newest
        life = lives.get(inode) or self._meet(container, inode)
        if life.guessed:
            life.guessed -= 1  # it keeps its scope, or that count would fall
        else:
            self._count(container.key, life, scope, life.read_in)

    def _take(self, container: ContainerId, inode: int, reading: Reading, *, is_later: bool) -> Life:
        life = self._lives.get(container.key, {}).get(inode) or self._meet(container, inode)
        life.take(reading, is_later=is_later)
        if life.kills_at_first is None:
            # What lies before the agent's first pass is history, unless it was logged since the agent's start; an instance found
            # later was born after it, at 0.
            life.kills_at_first = 0
            if not self._started:
                life.kills_at_first, life.ooms_settled = max(0, life.kills - life.counted_before), reading.ooms
                life.go_on()
        life.ooms = max(life.ooms, reading.ooms)
        return life

    def _meet(self, container: ContainerId, inode: int) -> Life:
        """Open the account of an instance. Kills nested in it may be counted already, and are in its memory.events."""
        lives = self._lives.setdefault(container.key, {})
        life = lives[inode] = Life(path=container.container_path)
        inside = (one.total for (key, _), one in self._all_lives() if key.is_nested and one.path.startswith(f"{life.path}/"))
        life.shared = max(0, sum(inside) - sum(one.shared for one in lives.values()))
        life.begin_round()
        return life

    def _guess(self, identifier: ContainerKey, life: Life, elsewhere: str) -> None:
        """Count the kills that the kernel log has not named (yet). `oom` rises only where the limit was hit."""
        scope = "container" if life.ooms > life.ooms_settled else elsewhere
        for _ in range(min(life.missing, _MOST_AT_ONCE)):
            life.guessed += self._count(identifier, life, scope, life.read_before)
        if life.settled != life.total:
            life.settled, life.ooms_settled = life.total, life.ooms

    def _attribute(self, nameless: Counter[str], unnamed: int) -> None:
        """Count victims whose cgroup the log did not name, unless some container's memory.events, or a slice's, has them."""
        unattributed = self._sums["unattributed"]
        nameless = nameless & self._sums["nameless"]  # without those that the log has named since
        more = max(0, nameless.total() - unnamed - unattributed.total())
        for scope in nameless:
            taken = min(more, nameless[scope] - unattributed[scope])
            unattributed[scope] += taken
            more -= taken

    def _count(self, identifier: ContainerKey, life: Life, scope: str, read_in: int) -> bool:
        """Count a kill for a life, unless a container around it has it already; true if it was counted."""
        around = self._around(identifier, life.path)
        counted = next((outer for outer in around if outer.guessed), life)
        for one in (life, *around):
            one.shared += one is not counted
        if counted is life:
            life.by_scope[self._slices.count(life.path, scope, read_in)] += 1
            return True
        counted.guessed -= 1
        return False

    def _around(self, identifier: ContainerKey, path: str) -> list[Life]:
        """Return the lives of the containers that a nested one is in."""
        if not identifier.is_nested:
            return []
        newest = (lives[max(lives)] for key, lives in self._lives.items() if identifier.host in (key, key.host))
        return [life for life in newest if path.startswith(f"{life.path}/")]

    def _fold(self, identifier: ContainerKey, inode: int, labels: Labels | None) -> None:
        """Move the counts of one life into the sums."""
        lives = self._lives[identifier]
        life = lives[inode]
        self._guess(identifier, life, "ancestor")
        del lives[inode]
        if not lives:
            del self._lives[identifier]
        self._unnamed_of_ended += max(0, life.risen - life.logged - life.shared)
        self._sums["ended"].update(life.by_scope)
        if labels is not None and life.total:
            # The last to count is the last in line to be forgotten.
            self._identities[labels] = self._identities.pop(labels, 0) + life.total
            if len(self._identities) > _MOST_IDENTITIES:
                del self._identities[next(iter(self._identities))]

    def _prune(self, names: Mapping[ContainerKey, Labels], living: Collection[str] | None) -> None:
        for identifier, lives in list(self._lives.items()):
            if len(lives) > _MOST_LIVES and identifier in names:
                for inode in sorted(lives)[:-_MOST_LIVES]:
                    self._fold(identifier, inode, names[identifier])
            elif living is not None and identifier not in names and identifier not in living and not any(x.total for x in lives.values()):
                for inode in list(lives):
                    self._fold(identifier, inode, None)

    def _totals(self, names: Mapping[ContainerKey, Labels]) -> Totals:
        by_scope = Counter(dict.fromkeys(SCOPES, 0))
        by_container: Counter[Labels] = Counter(dict.fromkeys(names.values(), 0))
        for part in (*(self._sums[name] for name in _SUMS), *self._slices.guessed()):
            by_scope.update(part)
        for identifier, lives in self._lives.items():
            for life in lives.values():
                by_scope.update(life.by_scope)
                if identifier in names:
                    by_container[names[identifier]] += life.total
        for labels in by_container.keys() & self._identities.keys():
            by_container[labels] += self._identities[labels]
        return Totals(by_container, by_scope)

    def _all_lives(self) -> Iterator[tuple[LifeKey, Life]]:
        return (((identifier, inode), life) for identifier, lives in self._lives.items() for inode, life in lives.items())

    def _inside_out(self) -> Iterator[tuple[LifeKey, Life]]:
        """Yield what is nested first: its kills are in the memory.events of what is around it, too."""
        nested = [item for item in self._all_lives() if item[0][0].is_nested]
        yield from sorted(nested, key=lambda item: -item[1].path.count("/"))
        yield from (item for item in self._all_lives() if not item[0][0].is_nested)

    def _save(self, victim: Victim | None = None) -> None:
        state = State(
            cursor=self.cursor,
            started=self._started,
            unnamed_of_ended=self._unnamed_of_ended,
            lives=dict(self._all_lives()),
            slices=self._slices.accounts,
            sums=self._sums,
            identities=self._identities,
            names=self.names,
        )
        self._book.save(state, victim)

    def _restore(self, state: State, *, same_boot: bool) -> None:
        """Go on from what was kept. After another boot, lives and slices are those of another kernel, and all that this one did counts."""
        for (identifier, inode), life in state.lives.items():
            life.go_on()
            life.begin_round()
            self._lives.setdefault(identifier, {})[inode] = life
        self._slices = Slices(self._sums["unattributed"], state.slices, this_round=self._round)
        self._identities = Counter(state.identities)
        for name in self._sums.keys() & state.sums.keys():
            self._sums[name].update(state.sums[name])
        self._started = state.started
        self._unnamed_of_ended = state.unnamed_of_ended
        self.names = state.names
        self.cursor = state.cursor
        if not same_boot:
            for identifier, inode in dict(self._all_lives()):
                self._fold(identifier, inode, self.names.get(identifier))
            self._slices.close()
            self.cursor, self._started = WHOLE_LOG, True
        self._save()
