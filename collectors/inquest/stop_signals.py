"""The signals that containers are stopped with, as far as any source has told. Pure."""

from collections import OrderedDict
from collections.abc import Callable

from collectors.inquest.bounded import forget_oldest, nobody_lives
from collectors.inquest.facts import Configured, Fact, Removed
from collectors.kernel.container_id import ContainerKey

MOST = 10_000
"""Containers that are remembered."""


class StopSignals:
    """Takes facts, in the event loop; any thread may ask. `lives` says whether a container is still there."""

    def __init__(self, lives: Callable[[ContainerKey], bool] = nobody_lives) -> None:
        self._lives = lives
        self._signals: OrderedDict[ContainerKey, int] = OrderedDict()

    def tell(self, fact: Fact) -> None:
        """Take a fact of a container; few say anything of its stop signal, and that stays the same for its life."""
        if isinstance(fact, Configured) and fact.stop_signal is not None:
            self._signals[fact.container] = fact.stop_signal
            forget_oldest(self._signals, MOST, self._lives)
        elif isinstance(fact, Removed):
            self._signals.pop(fact.container, None)

    def of(self, key: ContainerKey) -> int | None:
        """Return the number of the signal that a container is stopped with; None if nobody has told."""
        return self._signals.get(key)
