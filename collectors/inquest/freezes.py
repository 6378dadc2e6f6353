"""How often containers were frozen, and for how long, from what their cgroup.events said (`frozen`). Pure.

That is the kernel's word, whoever froze them. A freeze that is over before anybody has looked is not seen.
"""

from collections import OrderedDict
from typing import NamedTuple

from collectors.kernel.container_id import ContainerKey

MOST = 10_000
"""Containers that are remembered of those that were ever frozen; the one whose last change is the oldest goes."""


class Frozen(NamedTuple):
    """How often a container was frozen, and for how many seconds, by whatever clock is given."""

    times: int = 0
    seconds: float = 0.0
    since: float | None = None
    """When it was frozen; None: it is not."""

    def until(self, now: float) -> float:
        """Return the seconds with those of a freeze that lasts."""
        return self.seconds if self.since is None else self.seconds + max(0.0, now - self.since)


NEVER = Frozen()


class Freezes:
    """Takes what was read, in the event loop; any thread may ask. Most containers are never frozen: those cost nothing."""

    def __init__(self) -> None:
        self.is_told = False
        """Whether this kernel says at all who is frozen (5.2)."""
        self._frozen: OrderedDict[ContainerKey, Frozen] = OrderedDict()
        self._hidden: OrderedDict[ContainerKey, None] = OrderedDict()

    def hide(self, key: ContainerKey) -> None:
        """Note that a container cannot be read any more."""
        self._hidden[key] = None
        if len(self._hidden) > MOST:
            self._hidden.popitem(last=False)

    def is_hidden(self, key: ContainerKey) -> bool:
        """Whether nobody knows how often a container was frozen."""
        return key in self._hidden

    def see(self, key: ContainerKey, now: float, *, is_frozen: bool | None, is_history: bool = False) -> None:
        """Take a reading of a container with processes. `is_history`: how it was found at first, which is no freeze to count."""
        self._hidden.pop(key, None)
        if is_frozen is None:
            return
        self.is_told = True
        known = self._frozen.get(key, NEVER)
        if is_frozen and known.since is None:
            self._frozen[key] = Frozen(known.times + (not is_history), known.seconds, now)
            self._frozen.move_to_end(key)
            if len(self._frozen) > MOST:
                self._frozen.popitem(last=False)
        elif not is_frozen:
            self.end(key, now)

    def end(self, key: ContainerKey, now: float) -> None:
        """Note that it is not frozen any more, or not there."""
        known = self._frozen.get(key, NEVER)
        if known.since is not None:
            self._frozen[key] = Frozen(known.times, known.until(now), None)

    def of(self, key: ContainerKey) -> Frozen:
        """Return what is known of a container."""
        return self._frozen.get(key, NEVER)
