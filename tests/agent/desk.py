"""A register as sources are given one, which also keeps what it was told."""

from agent.identities import Identities
from agent.inits import Inits
from agent.register import Register
from agent.sources import Told
from collectors.inquest.facts import Fact
from collectors.inquest.kills import KillLedger


class Desk:
    """The register of a node that nothing has happened on, with all that it writes to."""

    def __init__(self, identities: Identities | None = None, *, local_events: bool = False) -> None:
        self.identities = identities or Identities()
        self.ledger = KillLedger()
        self.inits = Inits("/nowhere")
        self.told: list[Told] = []
        self._register = Register(identities=self.identities, ledger=self.ledger, inits=self.inits, local_events=local_events)

    def tell(self, fact: Told) -> None:
        """Take a fact."""
        self.told.append(fact)
        self._register.tell(fact)

    @property
    def facts(self) -> list[Fact]:
        """What it was told of containers, their names apart."""
        return [fact for fact in self.told if isinstance(fact, Fact)]

    def kills(self) -> int:
        """Make a round of readings, of a node without cgroups, and return all that the ledger has counted."""
        return sum(self.ledger.settle(self.ledger.nameless(), {}).by_scope.values())
