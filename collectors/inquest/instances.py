"""The OOM kills of each instance, from its memory.events and from the kernel log. Pure.

One container inside another (docker in docker, a node of kind) has its kills in the memory.events of all that is around it: they are
counted for the one and `shared` by the others.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from collectors.inquest.tally import Reading, Tally
from collectors.inquest.top_cgroups import TopCgroups
from collectors.kernel.container_id import ContainerId, ContainerKey, ancestors

_MOST_OF_ONE = 2
"""Instances of one container id: the present one, and the one before, of which the log may still tell."""
_MOST_AT_ONCE = 100_000
"""Kills that one pass counts for one instance: what a kernel prints that has lost count must not stop the agent."""
_GONE = 0
"""Stands for the inode of an instance that was gone when the log told of it, and is not known otherwise."""

InstanceKey = tuple[ContainerKey, int]
"""Container and inode of its cgroup."""


@dataclass(slots=True, kw_only=True)
class InstanceKills(Tally):
    """One instance: `kills` that memory.events is sure of, from E and G (Tally), and `by_scope` those that are counted.

    `guessed` of the counted ones are known from memory.events alone; the kernel log may still name them. `logged_before` is K, and
    `counted_before` K with the guessed ones, both with the shared ones and as of when the round of readings began: those kills are
    surely in its reading, for the kernel counts first and logs then. `settled` and `ooms_settled` are the kills, and `oom`, when the
    kills last changed: an `oom` since then has its kill still to come.
    """

    path: str = ""
    kills_at_first: int | None = None
    """What memory.events was sure of at first sight; None until then."""
    ooms: int = 0
    ooms_settled: int = 0
    settled: int = 0
    by_scope: Counter[str] = field(default_factory=Counter)
    guessed: int = 0
    shared: int = 0
    """Kills in its memory.events that are counted for a container nested in it, or around it."""
    logged_before: int = 0
    counted_before: int = 0
    read_in: int = 0
    """The round that read it last, and the one before; not kept."""
    read_before: int = 0

    @property
    def is_blank(self) -> bool:
        """Born at 0 and nothing happened since: what is assumed of an instance that is not known."""
        return self.kills_at_first == 0 and not (self.kills or self.ooms or self.total or self.shared)

    @property
    def total(self) -> int:
        """Kills of this instance, as soon as they are settled: the greater of what memory.events is sure of and K."""
        return sum(self.by_scope.values()) if self.by_scope else 0  # of most there are none, and all are asked in every pass

    @property
    def logged(self) -> int:
        """K: victims that the kernel log names."""
        return self.total - self.guessed

    @property
    def risen(self) -> int:
        """What memory.events is sure of, since first sight."""
        return self.kills - (self.kills_at_first or 0)

    @property
    def missing(self) -> int:
        """Kills that the kernel log has not named (yet) and nobody has counted."""
        return max(0, self.risen - self.total - self.shared)

    def begin_round(self) -> None:
        """Note what is counted before its memory.events is read again."""
        self.logged_before, self.counted_before = self.logged + self.shared, self.total + self.shared

    def see(self, reading: Reading, *, is_later: bool, born_at_0: bool) -> None:
        """Take one reading. `born_at_0`: at first sight it is new; else what it counts then is history, unless the log has told of it."""
        self.take(reading, is_later=is_later)
        if self.kills_at_first is None:
            self.kills_at_first = 0
            if not born_at_0:
                self.kills_at_first, self.ooms_settled = max(0, self.kills - self.counted_before), reading.ooms
                self.go_on()
        self.ooms = max(self.ooms, reading.ooms)


class Instances:
    """All instances, by container and inode. Every kill that is counted for one is told to the top-level cgroup that it is in."""

    def __init__(self, tops: TopCgroups, kept: Mapping[InstanceKey, InstanceKills]) -> None:
        self._tops = tops
        self.maybe_old: Collection[int] = frozenset()
        """Inodes of those that could not be read once: what they say at first sight is history."""
        self._by_key: dict[ContainerKey, dict[int, InstanceKills]] = {}
        for (key, inode), instance in kept.items():
            instance.go_on()
            instance.begin_round()
            self._by_key.setdefault(key, {})[inode] = instance

    def all(self) -> Iterator[tuple[InstanceKey, InstanceKills]]:
        """Yield every instance with its key."""
        return (((key, inode), instance) for key, instances in self._by_key.items() for inode, instance in instances.items())

    def by_container(self) -> Iterator[tuple[ContainerKey, Collection[InstanceKills]]]:
        """Yield the instances of each container."""
        return ((key, instances.values()) for key, instances in self._by_key.items())

    def inodes(self, key: ContainerKey) -> list[int]:
        """List the instances of one container."""
        return list(self._by_key.get(key, ()))

    def begin_round(self) -> None:
        """Note what is counted before they are read again."""
        for _, instance in self.all():
            instance.begin_round()

    def log(self, container: ContainerId, inode: int | None, scope: str, *, is_late: bool) -> None:
        """Take one victim that the kernel log names; `inode` is None if its cgroup was gone by then."""
        instances = self._by_key.setdefault(container.key, {})
        newest = max(instances, default=_GONE)
        if inode is None or (is_late and inode not in instances and instances and instances[newest].guessed):
            inode = newest
        instance = instances.get(inode) or self._open(container, inode)
        if instance.guessed:
            instance.guessed -= 1  # it keeps its scope, or that count would fall
        else:
            self._count(container.key, instance, scope, instance.read_in)

    def read(self, container: ContainerId, inode: int, reading: Reading, *, born_at_0: bool, this_round: int) -> bool:
        """Take one reading of memory.events; true when it tells of a kill, and not of whose limit was hit."""
        instance = self._by_key.get(container.key, {}).get(inode) or self._open(container, inode)
        instance.see(reading, is_later=True, born_at_0=born_at_0)
        instance.read_before, instance.read_in = instance.read_in, this_round
        return instance.missing > 0 and instance.ooms <= instance.ooms_settled

    def read_last(self, container: ContainerId, inode: int, reading: Reading, *, born_at_0: bool) -> None:
        """Take the reading that was made when its last process had ended, in or between two rounds."""
        instances = self._by_key.get(container.key, {})
        if inode not in instances and _GONE in instances:
            instances[inode] = instances.pop(_GONE)
        instance = instances.get(inode) or self._open(container, inode)
        instance.see(reading, is_later=False, born_at_0=born_at_0 and inode not in self.maybe_old)

    def guess(self, scope_of: Mapping[str, str]) -> int:
        """Count the kills that the log has not named (yet); return how many memory.events has that it had not named when the round began.

        `scope_of` says whose limit was hit if not the container's own, by its key.
        """
        unnamed = 0
        for (key, _), instance in self._inside_out():
            self._guess(key, instance, scope_of.get(key, "ancestor"))
            unnamed += max(0, instance.risen - instance.logged_before)
        return unnamed

    def surplus(self, names: Collection[ContainerKey], living: Collection[str] | None) -> list[InstanceKey]:
        """List what may be ended: the oldest instances of a container that has many, and those without a name or a kill that are gone."""
        found: list[InstanceKey] = []
        for key, instances in self._by_key.items():
            if len(instances) > _MOST_OF_ONE and key in names:
                found += [(key, inode) for inode in sorted(instances)[:-_MOST_OF_ONE]]
            elif living is not None and key not in names and key not in living and not any(each.total for each in instances.values()):
                found += [(key, inode) for inode in instances]
        return found

    def end(self, key: ContainerKey, inode: int) -> InstanceKills:
        """Forget one, and return it with all its kills counted."""
        instances = self._by_key[key]
        self._guess(key, instances[inode], "ancestor")
        instance = instances.pop(inode)
        if not instances:
            del self._by_key[key]
        return instance

    def _open(self, container: ContainerId, inode: int) -> InstanceKills:
        """Begin with an instance. Kills nested in it may be counted already, and are in its memory.events."""
        instances = self._by_key.setdefault(container.key, {})
        instance = instances[inode] = InstanceKills(path=container.container_path)
        inside = (one.total for (key, _), one in self.all() if key.is_nested and one.path.startswith(f"{instance.path}/"))
        instance.shared = max(0, sum(inside) - sum(one.shared for one in instances.values()))
        instance.begin_round()
        return instance

    def _guess(self, key: ContainerKey, instance: InstanceKills, elsewhere: str) -> None:
        """Count the kills that the kernel log has not named (yet). `oom` rises only where the limit was hit."""
        scope = "container" if instance.ooms > instance.ooms_settled else elsewhere
        for _ in range(min(instance.missing, _MOST_AT_ONCE)):
            instance.guessed += self._count(key, instance, scope, instance.read_before)
        if instance.settled != instance.total:
            instance.settled, instance.ooms_settled = instance.total, instance.ooms

    def _count(self, key: ContainerKey, instance: InstanceKills, scope: str, read_in: int) -> bool:
        """Count a kill for an instance, unless a container around it has it already; true if it was counted."""
        around = self._around(key, instance.path)
        counted = next((outer for outer in around if outer.guessed), instance)
        for one in (instance, *around):
            one.shared += one is not counted
        if counted is instance:
            instance.by_scope[self._tops.count(instance.path, scope, read_in)] += 1
            return True
        counted.guessed -= 1
        return False

    def _around(self, key: ContainerKey, path: str) -> list[InstanceKills]:
        """Return the newest instances of the containers that a nested one is in."""
        if not key.is_nested:
            return []
        above = set(ancestors(path))
        newest = (instances[max(instances)] for other, instances in self._by_key.items() if key.host in (other, other.host))
        return [instance for instance in newest if instance.path in above]

    def _inside_out(self) -> Iterator[tuple[InstanceKey, InstanceKills]]:
        """Yield what is nested first: its kills are in the memory.events of what is around it, too."""
        nested = [item for item in self.all() if item[0][0].is_nested]
        yield from sorted(nested, key=lambda item: -item[1].path.count("/"))
        yield from (item for item in self.all() if not item[0][0].is_nested)
