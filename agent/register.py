"""The register: the one desk where every fact of every source arrives, and goes to those whom it concerns.

What containers are called goes to the identities, what the OOM killer took to the ledger, what happened to a container to its case.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TypeVar

from agent.cases import Cases
from agent.identities import Amended, Described, EndedUnseen, Identities, Identity, Listed, PodsListed
from agent.inits import Inits
from agent.log_pids import LogPids
from agent.postmortem import Postmortem
from agent.sources import Told
from collectors import oom
from collectors.base import CONTAINER
from collectors.inquest.facts import (
    NO_CONTAINER,
    Born,
    Emptied,
    Exited,
    Fact,
    Faulted,
    FaultLogged,
    LogClosed,
    LogRead,
    OomKilled,
    OomVictim,
    Removed,
)
from collectors.inquest.kills import KillLedger
from collectors.inquest.starts import Starts
from collectors.inquest.stop_signals import StopSignals
from collectors.kernel import last_words

_MOST_LOGGED = 1000
"""Characters; a list of a node's containers has a hundred times as many."""

_MOST_OF_LINE = 300
"""Characters of a line of the kernel log: a file that it names may be called like anything."""

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Told)


class Register:
    """Takes facts, in any order. `local_events`: memory.events does not count what is nested (memory_localevents)."""

    def __init__(
        self,
        *,
        identities: Identities,
        ledger: KillLedger,
        cases: Cases,
        inits: Inits,
        postmortem: Postmortem,
        log_pids: LogPids,
        local_events: bool,
    ) -> None:
        self._identities = identities
        self._ledger = ledger
        self._cases = cases
        self._inits = inits
        self._postmortem = postmortem
        self._log_pids = log_pids
        self._local_events = local_events
        self._failures: set[tuple[type, type]] = set()
        self._births: list[Callable[[Born], None]] = []
        self._ends: list[Callable[[Emptied | Exited], None]] = []
        self.starts = Starts(identities.lives)
        """When containers were created and started."""
        self.stop_signals = StopSignals(identities.lives)
        """What they are stopped with."""

    def when_born(self, look: Callable[[Born], None]) -> None:
        """Have `look` called at once with each birth."""
        self._births.append(look)

    def when_ended(self, look: Callable[[Emptied | Exited], None]) -> None:
        """Have `look` called at once with each fact that says that a container has ended; several may say so of one."""
        self._ends.append(look)

    def tell(self, fact: Told) -> None:
        """Take one fact, in the event loop. Never raises: what is wrong with one is logged, once per kind, and stops no other."""
        self._hand_to(self._take, fact)
        if isinstance(fact, Fact) and not isinstance(fact, OomKilled):
            self._hand_to(self.starts.tell, fact)
            self._hand_to(self.stop_signals.tell, fact)
            self._hand_to(self._log_pids.tell, fact)
            self._hand_to(self._cases.tell, fact)
        if isinstance(fact, Born):
            for watch in self._births:
                self._hand_to(watch, fact)
        elif isinstance(fact, Emptied | Exited):
            for look in self._ends:
                self._hand_to(look, fact)

    def _hand_to(self, taker: Callable[[T], None], fact: T) -> None:
        try:
            taker(fact)
        except Exception as error:
            kind = type(fact), type(error)
            level = logging.DEBUG if kind in self._failures else logging.ERROR
            self._failures.add(kind)
            if log.isEnabledFor(level):
                log.log(level, "fact not taken", exc_info=error, extra={"source_name": fact.source, "fact": repr(fact)[:_MOST_LOGGED]})

    def _take(self, fact: Told) -> None:
        match fact:
            case Described():
                self._identities.put(fact.source, fact.identities)
            case Listed():
                self._identities.resync(fact.source, fact.identities)
            case Amended():
                self._identities.amend(fact.source, fact.container, **fact.changes)
            case PodsListed():
                self._identities.list_pods(fact.names, is_watched=fact.is_watched)
            case Exited(how="reaped" | "zombie" | "runtime" | "kubelet") | EndedUnseen():  # inspect tells of a life that may be over
                self._identities.end(fact.source, fact.container, "exited")
            case Removed():
                self._identities.remove(fact.container)
            case Born():
                self._inits.born(fact.id, fact.cgroup)
                self._ask_for_name(fact)
            case Emptied():
                if fact.words is not None and not self._local_events:
                    oom.read_last(self._ledger, fact.id, fact.cgroup, fact.words)
                _log_end(fact, self._identities.known.get(fact.container))
            case OomKilled():
                self._count(fact)
            case FaultLogged():
                self._blame(fact)
            case LogRead() | LogClosed():
                self._follow(fact)

    def _count(self, killed: OomKilled) -> None:
        """Count a kill, whatever can be found out about it, and log it with the name that its container has on the page, or will have."""
        counted = killed
        try:
            owner = self._log_pids.owner(killed)
            if owner is not None:
                killed = killed.of_init(owner)
            counted = killed = self._postmortem.examine(killed)
            if owner is not None:
                killed = counted = replace(killed, inode=owner.inode)
                if self._has_told(owner):
                    counted = replace(killed, id=None, container=NO_CONTAINER)
            if killed.id is not None:
                self._identities.hear(killed.source, killed.container)
        finally:
            self._ledger.logged(counted)
            if killed.id is not None and killed.victim.pid is not None:
                self._hand_to(self._cases.tell, _victim(killed, killed.victim.pid))
        labels: tuple[str, ...] = ()
        if killed.id is not None:
            identity = self._identities.known.get(killed.container)
            labels = self._ledger.names.get(killed.container) or (identity.name if identity else ())
        _log_kill(killed, labels)

    def _has_told(self, owner: Born) -> bool:
        """Whether memory.events of a container, which the kernel counts up first, still tells of its kills, and of whose limit was hit."""
        words = last_words.read(owner.cgroup)
        if self._local_events or words.memory_events is None or not words.memory_events.oom_kill:
            return False
        oom.read_last(self._ledger, owner.id, owner.cgroup, words)
        return True

    def _follow(self, fact: LogRead | LogClosed) -> None:
        if isinstance(fact, LogRead):
            self._ledger.log_read(fact.cursor)
        else:
            self._ledger.log_closed()
        self._cases.follow_log(is_followed=isinstance(fact, LogRead))

    def _blame(self, logged: FaultLogged) -> None:
        """Have a fault in the case of the container whose process it ended, if that is known."""
        fault, whose = logged.fault, self._log_pids.whose(logged.fault.pid, logged.fault.comm)
        if whose is None:
            return
        container, inode = whose
        text = fault.text.decode(errors="backslashreplace")[:_MOST_OF_LINE]
        self._cases.tell(
            Faulted(container=container, source=logged.source, time=logged.time, inode=inode, pid=fault.pid, text=text, signal=fault.signal)
        )

    def _ask_for_name(self, born: Born) -> None:
        """Have a container on the page even if no pass ever sees it."""
        if born.id.host_id:
            return  # a container's word
        if born.id.pod_uid:
            self._identities.ask(born.container)  # it may be a sandbox, which only who knows its name can tell
        else:
            self._identities.hear(born.source, born.container)


def _victim(killed: OomKilled, pid: int) -> OomVictim:
    """Return what of a kill matters to why its container ended."""
    victim = killed.victim
    return OomVictim(
        container=killed.container,
        source=killed.source,
        time=killed.time,
        inode=killed.inode,
        pid=pid,
        comm=victim.comm,
        scope="" if killed.is_by_pid else killed.scope,
        is_init=victim.is_init,
    )


def _log_kill(fact: OomKilled, labels: tuple[str, ...]) -> None:
    """Log that the OOM killer took a process, with all that is known of it."""
    known = {name: value for name, value in asdict(fact.victim).items() if value is not None and name not in ("time", "identifier")}
    known |= zip(CONTAINER, labels, strict=False)
    log.warning("OOM kill: its cgroup is known now" if fact.is_again else "OOM kill", extra=known)


def _log_end(fact: Emptied, identity: Identity | None) -> None:
    """Log that a container has ended, with what its last words say that it used."""
    if identity is not None and identity.is_sandbox and not identity.holds_pod:
        return
    said: dict[str, object] = dict(zip(CONTAINER, identity.name, strict=True)) if identity is not None and identity.name else {}
    words = fact.words
    if words is not None:
        said["memory_peak_bytes"] = words.memory_peak
        said["threads_peak"] = words.threads_peak
        said["fork_failures"] = words.fork_failures
        if words.memory_events is not None:
            said["oom_kill"] = words.memory_events.oom_kill
        if words.cpu_stat is not None:
            said["cpu_seconds"] = words.cpu_stat.usage_usec / 1e6
            said["throttled_periods"] = words.cpu_stat.nr_throttled
    known = {key: value for key, value in said.items() if value is not None}
    level = logging.DEBUG if fact.id.host_id else logging.INFO  # one container may make many of these
    log.log(level, "container ended", extra={"id": fact.id.url, **known})
