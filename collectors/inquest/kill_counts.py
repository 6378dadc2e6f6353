"""All OOM kills that are counted: of each instance, of each top-level cgroup, and the sums of the rest. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from collectors.inquest.facts import OomKilled
from collectors.inquest.instances import Instances
from collectors.inquest.kill_state import Cursor, Labels, State
from collectors.inquest.scope import SCOPES
from collectors.inquest.sums import Sums
from collectors.inquest.top_cgroups import TopCgroups
from collectors.kernel.container_id import ContainerKey

_NEVER = -1
"""The round in which no instance was read."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Kills by the labels of a container, and by scope over the whole node; neither ever falls."""

    by_container: Mapping[Labels, int]
    by_scope: Mapping[str, int]


class KillCounts:
    """The counts, as they go on from what was kept. `kills.py` says who may add to them, and when."""

    def __init__(self, kept: State, *, same_boot: bool) -> None:
        """Go on from what was kept. After another boot, instances and top-level cgroups are those of another kernel."""
        self.this_round = 1
        self.started = kept.started
        """A round was made: an instance that is found later was born since, at 0."""
        self.is_whole = True
        """Nothing was closed in the last round: else what the next agent finds may be older than this one."""
        self.names = kept.names
        self.sums = Sums(kept.sums, kept.identities, kept.unnamed_of_ended)
        self.tops = TopCgroups(self.sums.unattributed, kept.top_cgroups, this_round=self.this_round)
        self.instances = Instances(self.tops, kept.instances)
        if not same_boot:
            for key, inode in [key for key, _ in self.instances.all()]:
                self.end(key, inode, self.names.get(key))
            self.tops.close()
            self.started = True  # all that this kernel did counts

    def begin_round(self) -> None:
        """Note what is counted before memory.events is read again."""
        self.this_round += 1
        self.instances.begin_round()
        self.tops.begin_round()

    def log(self, fact: OomKilled) -> None:
        """Count one victim of the kernel log, unless memory.events has told of it."""
        if fact.is_again and not self.sums.take_back(fact.scope_without_cgroup):
            return
        if fact.id is not None:
            self.instances.log(fact.id, fact.inode, fact.scope, is_late=fact.is_late)
        elif fact.names_cgroup:
            self.sums.outside[self.tops.count(fact.victim.cgroup, fact.scope, _NEVER)] += 1
        else:
            self.sums.without_cgroup[fact.scope] += 1

    def end(self, key: ContainerKey, inode: int, labels: Labels | None) -> None:
        """Forget an instance; what it counted stays in the sums, and for its labels."""
        self.sums.end(self.instances.end(key, inode), labels)

    def prune(self, names: Mapping[ContainerKey, Labels], living: Collection[str] | None) -> None:
        """Forget the instances that need not be known one by one any more, and of too many names the oldest."""
        for key, inode in self.instances.surplus(names, living):
            self.end(key, inode, names.get(key))
        self.sums.forget(names.values())

    def totals(self, names: Mapping[ContainerKey, Labels]) -> Totals:
        """Return all kills, summed up by the labels of containers and by scope."""
        by_scope = Counter(dict.fromkeys(SCOPES, 0))
        by_container: Counter[Labels] = Counter(dict.fromkeys(names.values(), 0))
        for part in (*self.sums.counted(), *self.tops.guessed()):
            by_scope.update(part)
        for key, instances in self.instances.by_container():
            for instance in instances:
                by_scope.update(instance.by_scope)
                if key in names:
                    by_container[names[key]] += instance.total
        for labels in by_container.keys() & self.sums.identities.keys():
            by_container[labels] += self.sums.identities[labels]
        return Totals(by_container, by_scope)

    def state(self, cursor: Cursor | None) -> State:
        """Return all of it, with the place in the kernel log that it belongs to."""
        return State(
            cursor=cursor,
            started=self.started and self.is_whole,
            unnamed_of_ended=self.sums.unnamed_of_ended,
            instances=dict(self.instances.all()),
            top_cgroups=self.tops.by_path,
            sums=self.sums.by_name,
            identities=self.sums.identities,
            names=self.names,
        )
