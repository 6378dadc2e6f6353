"""The OOM kill ledger: facts from memory.events and from the kernel log, in any order, to one count. Pure.

For one instance, E is oom_kill of its memory.events less what was there when the agent first looked, G its oom_group_kill (tally.py) and K
the victims that the kernel log names. Either source may miss some, so kills = max(E - G, ceil(E/2), K), and max(E, K) where no group is
set. One incident: a container with memory.oom.group hits its limit and loses the processes 86, 87 and 88, and later 89. A row is what the
agent is told, in this order, and the kills that are on the page after it, all with scope="container":

    memory.events  E 0  G 0  oom 0    kills 0    the first round: it was born at 0
    kernel log     88                 kills 1    K 1. The group's limit is its own: oom_memcg is the container's cgroup
    memory.events  E 2  G 1  oom 1    kills 1    sure of max(2 - 1, 1) = 1, for 88 may be in it twice
    memory.events  E 4  G 1  oom 1    kills 3    sure of max(4 - 1, 2) = 3, and K 1: two are guessed, at the limit that `oom` rose for
    kernel log     86                 kills 3    K 2: it is one of the guessed
    memory.events  E 4  G 1  oom 1    kills 3    a round in which nothing has happened
    kernel log     87                 kills 3    K 3: the other one
    last words     E 5  G 1  oom 2    kills 4    the cgroup is empty, and one more was killed: sure of 4, K 3, one guessed
    kernel log     89                 kills 4    K 4. The cgroup is gone by now, so the line belongs to the newest instance

The line of 88 comes a second time, and oom_log.py drops it. Fifteen minutes later the container is forgotten: its 4 kills stay in the sum
of those that ended (sums.py), and with its name. Had nobody read its cgroup, nor the log named it, the rise of the top-level cgroup that it
was in would have told of the 4 (top_cgroups.py).

Whatever changes is given to a Book before anybody can see it, with the place in the kernel log it comes from.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from collectors.inquest.facts import OomKilled
from collectors.inquest.kill_counts import KillCounts, Totals
from collectors.inquest.kill_state import WHOLE_LOG, Book, Cursor, Labels, NoBook, State, Victim
from collectors.inquest.tally import Reading
from collectors.kernel.container_id import ContainerId, ContainerKey


class Round:
    """One reading of memory.events everywhere; the kernel log may tell of kills meanwhile. KillLedger.round() begins it.

    `scope_of` is for whoever reads to fill: whose limit was hit, by the key of a container that did not hit its own, and by the path of
    a top-level cgroup; without an entry it is "ancestor".
    """

    def __init__(self, counts: KillCounts, lock: threading.Lock, save: Callable[[], None]) -> None:
        self.scope_of: dict[str, str] = {}
        self._counts, self._lock, self._save = counts, lock, save
        with lock:
            counts.begin_round()
            self._number = counts.this_round
            self._without_cgroup = counts.sums.without_cgroup.copy()
            """The kernel counts first and logs then: the readings have these kills, if they have the container."""

    def knows_top(self, path: str) -> bool:
        """Whether a top-level cgroup was read before: the first reading is made after those of its containers, the others before."""
        return self._counts.tops.knows(path)

    def has_groups(self, path: str) -> bool:
        """Whether nobody knows, before 5.17, how many kills in a top-level cgroup are counted twice: in it, or in a container in it."""
        with self._lock:
            inside = (instance for _, instance in self._counts.instances.all() if instance.path.startswith(f"{path}/"))
            return self._counts.tops.has_groups(path) or any(instance.groups is None for instance in inside)

    def read_top(self, path: str, inode: int, reading: Reading, *, is_new: bool = True) -> None:
        """Take one reading of memory.events of a cgroup right below the root. Of one that is not known, `is_new` says whether it is new."""
        with self._lock:
            self._counts.tops.read(path, inode, reading, born_at_0=self._counts.started and is_new)

    def read(self, container: ContainerId, inode: int, reading: Reading, *, is_new: bool = True) -> bool:
        """Take one reading of memory.events of an instance. True when it tells of a kill and not of whose limit was hit (`scope_of`).

        `is_new` as above: it may be one that could not be read before.
        """
        born_at_0 = self._counts.started and is_new
        with self._lock:
            return self._counts.instances.read(container, inode, reading, born_at_0=born_at_0, this_round=self._number)

    def hold_old(self, inodes: Collection[int]) -> None:
        """Take the inodes of the instances that may be old until they are read: their last words may be what is read first."""
        with self._lock:
            self._counts.instances.maybe_old = inodes

    def settle(
        self,
        names: Mapping[ContainerKey, Labels],
        *,
        sighted: bool = True,
        living: Collection[str] | None = None,
        waiting: Collection[str] = frozenset(),
    ) -> Totals:
        """Sum up after all readings. `sighted`: all instances were there to be read, so one that was not among them is not born yet.

        `living` are the keys of instances; others without a name and without a kill are forgotten. `waiting` are the paths of top-level
        cgroups in which something could not be read: it may still tell of a kill that they have risen for, and when an agent after this one
        finds it, it is not new.
        """
        counts = self._counts
        with self._lock:
            counts.started |= sighted
            counts.is_whole = not waiting if sighted else counts.is_whole
            unnamed = counts.sums.unnamed_of_ended + counts.instances.guess(self.scope_of)
            unnamed += counts.tops.guess(self.scope_of, self._number, waiting)
            counts.sums.attribute(self._without_cgroup, unnamed)
            if sighted:
                counts.prune(names, living)
                counts.names = names
            self._save()
            return counts.totals(names)


class KillLedger:
    """Every OOM kill once. The kernel log's facts and the sampling thread's rounds both come here.

    `log_is_followed` is for whoever must know whether silence means that there was no kill, `cursor` the place in the kernel log up to
    which all is counted.
    """

    def __init__(self, book: Book | None = None, state: State | None = None, *, same_boot: bool = True) -> None:
        self.log_is_followed = False
        self.cursor: Cursor | None = None
        self._book = book or NoBook()
        self._lock = threading.Lock()
        self._counts = KillCounts(state or State(), same_boot=same_boot)
        if state is not None:
            self.cursor = state.cursor if same_boot else WHOLE_LOG
            self._save()

    @property
    def names(self) -> Mapping[ContainerKey, Labels]:
        """Labels of the containers it knows, from before the agent's restart too."""
        return self._counts.names

    @property
    def known(self) -> Mapping[ContainerKey, Labels]:
        """Labels of the containers to be shown, also of those that died before they had any: empty then."""
        unlabelled = (key for (key, _), instance in self._counts.instances.all() if instance.total and key not in self.names)
        return {**dict.fromkeys(unlabelled, ()), **self.names}

    def knows(self, key: ContainerKey) -> bool:
        """Whether it knows the labels of a container, which was here lately if it is not here."""
        return key in self._counts.names

    def killed(self) -> set[ContainerKey]:
        """Return the keys of the containers with a kill that counts."""
        with self._lock:
            return {key for (key, _), instance in self._counts.instances.all() if instance.total}

    def logged(self, fact: OomKilled) -> None:
        """Take one victim from the kernel log, and its record."""
        with self._lock:
            self.cursor = fact.cursor
            self._counts.log(fact)
            self._save(fact.victim)

    def log_read(self, cursor: Cursor | None) -> None:
        """The log is followed, and every kill up to here was told.

        What is the first such place is kept at once, a later one with whatever is kept next.
        """
        with self._lock:
            self.log_is_followed = True
            is_first = self.cursor is None
            self.cursor = cursor
            if is_first:
                self._save()

    def log_closed(self) -> None:
        """Nobody follows the log any more."""
        self.log_is_followed = False

    @contextmanager
    def round(self) -> Iterator[Round]:
        """Begin a round of readings, which ends with its settle(). Without that, as when no file may be read, the next one counts all."""
        yield Round(self._counts, self._lock, self._save)

    def read_last(self, container: ContainerId, inode: int, reading: Reading) -> None:
        """Take the reading of memory.events made when its last process had ended, in or between two rounds; the next settle() counts it."""
        with self._lock:
            self._counts.instances.read_last(container, inode, reading, born_at_0=self._counts.started)
            self._save()

    def close(self, key: ContainerKey, labels: Labels | None) -> None:
        """Forget the instances of a container that ended long ago; what they counted stays in the sums."""
        with self._lock:
            for inode in self._counts.instances.inodes(key):
                self._counts.end(key, inode, labels)

    def _save(self, victim: Victim | None = None) -> None:
        self._book.save(self._counts.state(self.cursor), victim)
