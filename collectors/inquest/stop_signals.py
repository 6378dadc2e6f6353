"""The signals that containers are stopped with, as far as any source has told. Pure."""

from collections import OrderedDict

from collectors.inquest.facts import Configured, Fact, Removed
from collectors.kernel.container_id import ContainerKey

MOST = 10_000
"""Containers that are remembered; the oldest goes."""


class StopSignals:
    """Takes facts, in the event loop; any thread may ask."""

    def __init__(self) -> None:
        self._signals: OrderedDict[ContainerKey, int] = OrderedDict()

    def tell(self, fact: Fact) -> None:
        """Take a fact of a container; few say anything of its stop signal, and that stays the same for its life."""
        if isinstance(fact, Configured) and fact.stop_signal is not None:
            self._signals[fact.container] = fact.stop_signal
            if len(self._signals) > MOST:
                self._signals.popitem(last=False)
        elif isinstance(fact, Removed):
            self._signals.pop(fact.container, None)

    def of(self, key: ContainerKey) -> int | None:
        """Return the number of the signal that a container is stopped with; None if nobody has told."""
        return self._signals.get(key)
