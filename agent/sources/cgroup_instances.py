"""The instances of containers that have a cgroup, as far as anybody knows, and the last words of those that ended lately.

Nothing here reads the cgroup tree: whoever follows it (cgroup.py) says what it saw.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from agent.identities import KEEP_DEAD_MOST, KEEP_DEAD_SECONDS
from agent.sources import Tell
from collectors.base import Sample, counter
from collectors.inquest.facts import Born, Emptied
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.last_words import Death, LastWords

HEARD = counter(
    "coroner_last_words_total",
    "Containers that ended, by whether their final counters were read (read) or the cgroup had been removed (late).",
    ("result",),
)

METRICS = (HEARD,)

_SURE_SECONDS = 1.0
"""While runc starts a container, its cgroup may have lost the first process and not have the next yet. That is no end to tell of."""

_SOURCE = "cgroup"


@dataclass(slots=True)
class PresentInstance:
    """An instance whose cgroup is there, as far as anybody knows."""

    id: ContainerId
    cgroup: Cgroup
    has_lived: bool = False
    """It has had a process."""
    words: LastWords | None = None
    """Its last process has ended; it may get processes again."""
    emptied: float = 0.0
    """When that was, seconds of the wall clock."""
    is_told: bool = False


class CgroupInstances:
    """The instances that are `present`, by the paths of their cgroups, and the last words of others. Tells of births and ends: of an end
    when the cgroup is gone, or has been without a process for a while.

    `last_words` has the ends of the last 15 minutes by key of the container. It is replaced whole, by `publish`, so any thread may read it.
    """

    def __init__(self, *, tell: Tell, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.present: dict[str, PresentInstance] = {}
        self.last_words: Mapping[ContainerKey, Death] = MappingProxyType({})
        self._tell = tell
        self._clock, self._wall = clock, wall
        self._deaths: OrderedDict[ContainerKey, Death] = OrderedDict()
        self._untold: set[str] = set()
        self._is_published = True
        self._heard = {"read": 0, "late": 0}

    def samples(self) -> Iterable[Sample]:
        """Yield how many last words were read."""
        for result, count in self._heard.items():
            yield HEARD, (result,), count

    def appeared(self, container: ContainerId, cgroup: Cgroup, *, is_birth: bool) -> PresentInstance:
        """Note a new cgroup, and tell of its birth if it is one."""
        instance = self.present[cgroup.path] = PresentInstance(container, cgroup)
        if is_birth:
            inode = cgroup.inode or None
            self._tell(Born(container=container.key, source=_SOURCE, time=self._wall(), inode=inode, id=container, cgroup=cgroup))
        return instance

    def populated(self, instance: PresentInstance) -> None:
        """Note that it has processes. What looked like its end, if anything did, was none."""
        instance.has_lived, instance.words = True, None
        self._untold.discard(instance.cgroup.path)
        if (death := self._deaths.get(instance.id.key)) is not None and death.inode == instance.cgroup.inode:
            del self._deaths[instance.id.key]
            self._is_published = False

    def emptied(self, instance: PresentInstance, words: LastWords, *, is_history: bool) -> None:
        """Note that its last process has ended, and its last words; nobody is told of what is history."""
        instance.words, instance.emptied, instance.is_told = words, self._wall(), is_history
        self._remember(instance, words)
        self._untold.add(instance.cgroup.path)

    def removed(self, instance: PresentInstance) -> None:
        """Note that its cgroup is no more, and tell of its end."""
        path = instance.cgroup.path
        self.present.pop(path, None)
        self._untold.discard(path)
        if instance.words is not None:
            self._remember(instance, instance.words)  # its time begins now
        if instance.has_lived:
            self._tell_end(instance)

    def tell_of_the_empty(self) -> None:
        """Tell of the ends of those that have been without a process for so long that they get none any more."""
        for path in list(self._untold):
            instance = self.present[path]
            if (death := self._deaths.get(instance.id.key)) is None or self._clock() - death.at >= _SURE_SECONDS:
                self._untold.discard(path)
                self._tell_end(instance)

    def forget_long_dead(self) -> None:
        """Forget the last words of those that were removed long ago."""
        there = {instance.id.key for instance in self.present.values() if instance.words is not None}
        for key, death in list(self._deaths.items()):
            if self._clock() - death.at > KEEP_DEAD_SECONDS and key not in there:
                del self._deaths[key]
                self._is_published = False

    def publish(self) -> None:
        """Let other threads see what has changed."""
        if not self._is_published:
            self.last_words = MappingProxyType(dict(self._deaths))
            self._is_published = True

    def _remember(self, instance: PresentInstance, words: LastWords) -> None:
        self._deaths[instance.id.key] = Death(instance.cgroup.inode, words, self._clock(), instance.cgroup.path)
        self._deaths.move_to_end(instance.id.key)
        while len(self._deaths) > KEEP_DEAD_MOST:
            self._deaths.popitem(last=False)
        self._is_published = False

    def _tell_end(self, instance: PresentInstance) -> None:
        if instance.is_told:
            return
        instance.is_told = True
        self._heard["late" if instance.words is None else "read"] += 1
        self._tell(
            Emptied(
                container=instance.id.key,
                source=_SOURCE,
                time=self._wall() if instance.words is None else instance.emptied,
                inode=instance.cgroup.inode or None,
                id=instance.id,
                cgroup=instance.cgroup,
                words=instance.words,
            )
        )
