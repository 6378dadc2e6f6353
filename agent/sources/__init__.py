"""Where facts come from: a file per source, named as in coroner_source_up. What they have in common is Source."""

from collections.abc import Callable, Iterable
from typing import Protocol

from agent.identities import NameFact
from agent.status import Status
from collectors.base import Sample
from collectors.inquest.facts import Fact, LogFact

Told = Fact | NameFact | LogFact
"""What sources tell: what happened to a container, what it is called, and what the kernel log says that is none's matter yet."""

Tell = Callable[[Told], None]
"""The one way in for facts (Register.tell), handed to the constructor of each source. It never raises; call it in the event loop."""


class Source(Protocol):
    """One source. It makes its own Status, owns its connection, and tells facts; supervise.py keeps it following."""

    @property
    def status(self) -> Status:
        """Whether it can be read, and whether its absence is trouble."""
        ...

    @property
    def longest_rest(self) -> float:
        """Seconds between two tries to follow it, at most."""
        ...

    async def follow(self) -> None:
        """Tell what it knows and what happens, until it cannot be read any more. Raises Blind."""
        ...

    async def rest(self, seconds: float) -> None:
        """Wait before the next try; less long if that may be of use now."""
        ...

    def samples(self) -> Iterable[Sample]:
        """Yield what is measured of the source itself, beside its status."""
        ...
