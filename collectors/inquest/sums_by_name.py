"""Counts of containers summed up by name: several lives may have one, and its counters must not fall when a life is forgotten. Pure."""

from collections.abc import Callable, Mapping

from collectors.inquest.kill_state import Labels
from collectors.kernel.container_id import ContainerKey

Counts = tuple[float, ...]


class SumsByName:
    """Sums of so many counts. Used by one thread."""

    def __init__(self, width: int) -> None:
        self._zero: Counts = (0,) * width
        self._counted: dict[ContainerKey, Counts] = {}
        self._sums: dict[Labels, Counts] = {}

    def add(self, names: Mapping[ContainerKey, Labels], told: Callable[[ContainerKey], Counts]) -> None:
        """Add what is new of each container that has a name, and forget the names that none has any more."""
        counted = {}
        for key, labels in names.items():
            now = told(key)
            if not any(now):
                continue
            before = self._counted.get(key, self._zero)
            if now < before:  # it was forgotten in between
                before = self._zero
            sums = self._sums.get(labels, self._zero)
            self._sums[labels] = tuple(total + max(0, each - old) for total, each, old in zip(sums, now, before, strict=True))
            counted[key] = now
        self._counted = counted
        shown = set(names.values()) if self._sums else set()
        self._sums = {labels: sums for labels, sums in self._sums.items() if labels in shown}

    def of(self, labels: Labels) -> Counts:
        """Return the sums of a name."""
        return self._sums.get(labels, self._zero)
