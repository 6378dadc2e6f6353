"""OOM kills that are counted for no instance: sums by whose limit was hit, and what each name had in instances that are forgotten. Pure."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from collectors.inquest.instances import InstanceKills
from collectors.inquest.kill_state import Labels

_MOST_IDENTITIES = 10_000


class Sums:
    """What outlives instances. Of victims without a cgroup those count that are `unattributed`: no memory.events has them."""

    def __init__(self, by_name: Mapping[str, Mapping[str, int]], identities: Mapping[Labels, int], unnamed_of_ended: int) -> None:
        self.outside = Counter(by_name.get("outside", {}))
        """Of processes in no container."""
        self.ended = Counter(by_name.get("ended", {}))
        """Of instances that are forgotten."""
        self.unattributed = Counter(by_name.get("unattributed", {}))
        """Of nobody knows whom, for good."""
        self.without_cgroup = Counter(by_name.get("without_cgroup", {}))
        """Victims whose cgroup the kernel log does not name."""
        self.unnamed_of_ended = unnamed_of_ended
        """Kills that memory.events of forgotten instances had, and the kernel log did not name."""
        self.identities = Counter(identities)
        """Kills of forgotten instances by name, the last to count last."""

    @property
    def by_name(self) -> Mapping[str, Counter[str]]:
        """Each sum by name, to be kept."""
        return {
            "outside": self.outside,
            "unattributed": self.unattributed,
            "ended": self.ended,
            "without_cgroup": self.without_cgroup,
        }

    def counted(self) -> Iterator[Counter[str]]:
        """Yield those that count, by scope."""
        return iter((self.outside, self.unattributed, self.ended))

    def take_back(self, scope: str) -> bool:
        """Count one victim without a cgroup less, unless it was counted as nobody's already: that count would fall."""
        if self.without_cgroup[scope] <= self.unattributed[scope]:
            return False
        self.without_cgroup[scope] -= 1
        return True

    def attribute(self, without_cgroup: Counter[str], unnamed: int) -> None:
        """Count victims without a cgroup as nobody's, unless some container's memory.events, or a top-level cgroup's, has them.

        `without_cgroup` are those that there were when the round began, `unnamed` the kills that the log has not named.
        """
        without_cgroup = without_cgroup & self.without_cgroup  # without those that the log has named since
        more = max(0, without_cgroup.total() - unnamed - self.unattributed.total())
        for scope in without_cgroup:
            taken = min(more, without_cgroup[scope] - self.unattributed[scope])
            self.unattributed[scope] += taken
            more -= taken

    def end(self, instance: InstanceKills, labels: Labels | None) -> None:
        """Take over the counts of an instance that is forgotten; `labels` is its name."""
        self.unnamed_of_ended += max(0, instance.risen - instance.logged - instance.shared)
        self.ended.update(instance.by_scope)
        if labels is not None and instance.total:
            # The last to count is the last in line to be forgotten.
            self.identities[labels] = self.identities.pop(labels, 0) + instance.total

    def forget(self, named: Collection[Labels]) -> None:
        """Forget the oldest of too many names, those that a container has last."""
        surplus = len(self.identities) - _MOST_IDENTITIES
        if surplus > 0:
            present = frozenset(named)
            for labels in sorted(self.identities, key=present.__contains__)[:surplus]:
                del self.identities[labels]
