"""A register as sources are given one, which also keeps what it was told."""

from agent.casebook import Casebook
from agent.cases import Cases
from agent.identities import Identities
from agent.inits import Inits
from agent.log_pids import LogPids
from agent.postmortem import Postmortem
from agent.register import Register
from agent.sources import Told
from collectors.inquest.facts import Fact
from collectors.inquest.kill_state import State
from collectors.inquest.kills import KillLedger
from collectors.kernel.container_id import ContainerKey
from tests.kills import settle


class Desk:
    """The register of a node that nothing has happened on, with all that it writes to."""

    def __init__(
        self,
        identities: Identities | None = None,
        *,
        local_events: bool = False,
        kept: State | None = None,
        cgroup_root: str | None = None,
        proc_root: str = "/nowhere",
    ) -> None:
        self.identities = identities or Identities()
        self.ledger = KillLedger(state=kept)
        self.cases = Cases(casebook=Casebook("", proc_root), identities=self.identities, history=0)
        self.inits = Inits(proc_root)
        self.told: list[Told] = []
        self.register = Register(
            identities=self.identities,
            ledger=self.ledger,
            cases=self.cases,
            inits=self.inits,
            postmortem=Postmortem(proc_root=proc_root, cgroup_root=cgroup_root, is_init=self._is_init),
            log_pids=LogPids(proc_root),
            local_events=local_events,
        )

    def _is_init(self, key: ContainerKey, inode: int | None, pid: int) -> bool | None:
        return self.inits.is_init(key, inode, pid)

    def tell(self, fact: Told) -> None:
        """Take a fact."""
        self.told.append(fact)
        self.register.tell(fact)

    @property
    def facts(self) -> list[Fact]:
        """What it was told of containers, their names apart."""
        return [fact for fact in self.told if isinstance(fact, Fact)]

    def kills(self) -> int:
        """Make a round of readings, of a node without cgroups, and return all that the ledger has counted."""
        return sum(settle(self.ledger, {}).by_scope.values())
