"""How many exec sessions were started in each container, those of its health check apart. Pure.

A runtime tells of each with its command, and of the container with the command of its health check, in any order.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from collectors.inquest.bounded import forget_oldest, nobody_lives
from collectors.kernel.container_id import ContainerKey

MOST = 10_000
"""Containers that are remembered."""
_MOST_UNSORTED = 20
"""Commands of one container of which it is not known yet whether they are its health check."""
_RECENT = 256
"""Sessions that are told twice when a runtime is asked again from the last event on: as many as Docker remembers."""


@dataclass(slots=True)
class _Container:
    is_known: bool = False
    probe: str | None = None
    sessions: int = 0
    probes: int = 0
    unsorted: Counter[str] = field(default_factory=Counter)

    def count(self, command: str, times: int) -> None:
        if command == self.probe:
            self.probes += times
        else:
            self.sessions += times


class Execs:
    """Takes what was told, in the event loop; any thread may ask. `lives` says whether a container is still there."""

    def __init__(self, lives: Callable[[ContainerKey], bool] = nobody_lives) -> None:
        self._lives = lives
        self._containers: OrderedDict[ContainerKey, _Container] = OrderedDict()
        self._recent: deque[tuple[ContainerKey, int]] = deque(maxlen=_RECENT)

    def know(self, key: ContainerKey, probe: str | None) -> None:
        """Take the command of a container's health check, None if it has none: it never changes."""
        container = self._of(key)
        container.is_known, container.probe = True, probe
        for command, times in container.unsorted.items():
            container.count(command, times)
        container.unsorted.clear()

    def start(self, key: ContainerKey, command: str, nanoseconds: int) -> None:
        """Take a session that was started, once: `nanoseconds` is when."""
        if (key, nanoseconds) in self._recent:
            return
        self._recent.append((key, nanoseconds))
        container = self._of(key)
        if container.is_known:
            container.count(command, 1)
        elif command in container.unsorted or len(container.unsorted) < _MOST_UNSORTED:
            container.unsorted[command] += 1

    def started(self, key: ContainerKey) -> tuple[int, int]:
        """Return how many were started, and how many more by its health check."""
        container = self._containers.get(key)
        return (container.sessions, container.probes) if container is not None else (0, 0)

    def has_probe(self, key: ContainerKey) -> bool | None:
        """Whether a container has a health check; None if nobody has told of it."""
        container = self._containers.get(key)
        return container.probe is not None if container is not None and container.is_known else None

    def _of(self, key: ContainerKey) -> _Container:
        container = self._containers.setdefault(key, _Container())
        forget_oldest(self._containers, MOST, self._lives)
        return container
