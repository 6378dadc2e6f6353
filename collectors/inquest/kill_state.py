"""What the kill ledger keeps: an account per instance, a record per victim, the whole state; and who keeps it for good (Book). Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from collectors.inquest.tally import Tally
from collectors.inquest.top_cgroups import Slice
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.oom_log import OomKill

SCOPES = ("container", "pod", "ancestor", "node")
"""Whose limit was hit. `ancestor` is any other cgroup, and one that neither the kernel log nor a rise of `oom` tells."""

Labels = tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Life(Tally):
    """One instance: the kills that memory.events is sure of, at first sight (None until then) and now, and those by whose limit was hit.

    `guessed` of the kills are known from memory.events alone; the kernel log may still name them. `logged_before` is K, and
    `counted_before` K with the guessed ones, both with the shared ones and as of when the round of readings began: those kills are
    surely in its reading, for the kernel counts first and logs then. `settled` and `ooms_settled` are the kills, and `oom`, when the
    kills last changed: an `oom` since then has its kill still to come.
    """

    path: str = ""
    kills_at_first: int | None = None
    ooms: int = 0
    ooms_settled: int = 0
    settled: int = 0
    by_scope: Counter[str] = field(default_factory=Counter)
    guessed: int = 0
    shared: int = 0
    """Kills in its memory.events that are counted for a container nested in it, or around it."""
    logged_before: int = 0
    counted_before: int = 0
    read_in: int = 0
    """The round that read it last, and the one before; not kept."""
    read_before: int = 0

    @property
    def is_blank(self) -> bool:
        """Born at 0 and nothing happened since: what is assumed of an instance that is not known."""
        return self.kills_at_first == 0 and not (self.kills or self.ooms or self.total or self.shared)

    @property
    def total(self) -> int:
        """Kills of this life, as soon as they are settled: the greater of what memory.events is sure of and K."""
        return sum(self.by_scope.values()) if self.by_scope else 0  # of most there are none, and all are asked in every pass

    @property
    def logged(self) -> int:
        """K."""
        return self.total - self.guessed

    @property
    def risen(self) -> int:
        """What memory.events is sure of, since first sight."""
        return self.kills - (self.kills_at_first or 0)

    @property
    def missing(self) -> int:
        """Kills that the kernel log has not named (yet) and nobody has counted."""
        return max(0, self.risen - self.total - self.shared)

    def begin_round(self) -> None:
        """Note what is counted before its memory.events is read again."""
        self.logged_before, self.counted_before = self.logged + self.shared, self.total + self.shared


@dataclass(frozen=True, slots=True)
class Victim:
    """One killed process. Bytes and seconds; None is unknown. `limit_bytes`, `usage_bytes`: of `limit_of`, the cgroup at its limit."""

    time: float
    """When the line was read, wall clock: the log's own clock stands still in suspend."""
    sequence: int
    """Of its line in the kernel log; with the boot it identifies the kill."""
    identifier: str
    """Of its container; empty outside of containers."""
    cgroup: str
    scope: str
    limit_of: str
    limit_bytes: int | None
    usage_bytes: int | None
    pid: int | None
    """In the first PID namespace; of the process, also where the log names one of its threads."""
    namespace_pid: int | None
    """In its own PID namespace. None when it was gone before it could be looked up, as are many."""
    is_init: bool | None
    """Whether it was PID 1 of its container, with which that ends; where that one is not known, of its own PID namespace."""
    comm: str
    uid: int | None
    oom_score_adj: int | None
    total_vm_bytes: int | None
    anon_rss_bytes: int | None
    file_rss_bytes: int | None
    shmem_rss_bytes: int | None


LifeKey = tuple[ContainerKey, int]
"""Container id and inode of its cgroup."""


class Cursor(NamedTuple):
    """A place in the kernel log of this boot: all kills up to it are counted."""

    sequence: int | None
    """Of /dev/kmsg; None if the log was read through syslog(2), which has no numbers."""
    time_us: int
    """Highest timestamp so far."""


WHOLE_LOG = Cursor(-1, -1)
"""Before the first record."""


@dataclass(frozen=True, slots=True)
class State:
    """All that the ledger knows, the cursor included: what is kept is kept together, or a restart would count twice or never.

    `cursor` is None if the log was never read to its end, or has nothing to tell places by. `started`: a pass was made, so that an
    instance found later was born since, at 0.
    """

    cursor: Cursor | None = None
    started: bool = False
    unnamed_of_ended: int = 0
    lives: Mapping[LifeKey, Life] = field(default_factory=dict)
    slices: Mapping[str, Slice] = field(default_factory=dict)
    """By path."""
    sums: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By name and scope."""
    identities: Mapping[Labels, int] = field(default_factory=dict)
    """Kills of instances that are closed, by name; the last to count is last."""
    names: Mapping[ContainerKey, Labels] = field(default_factory=dict)
    """Container id -> the labels it was first exported under."""


class Book(Protocol):
    """Who keeps the state beyond the life of this process."""

    def save(self, state: State, victim: Victim | None = None) -> None:
        """Keep the state, and the victim it now counts, before anybody can see them; they change afterwards. Never raises."""
        ...


class NoBook:
    """Memory only."""

    def save(self, state: State, victim: Victim | None = None) -> None:
        """Forget them."""


def scope_of(kill: OomKill, victim: ContainerId | None) -> str:
    """Say whose limit was hit, by what the kernel log says (oom_memcg, task_memcg)."""
    if kill.is_global:
        return "node"
    if victim is None or kill.oom_memcg is None:
        return "ancestor"
    limit = kill.oom_memcg.decode(errors="backslashreplace")
    if f"{limit}/".startswith(f"{victim.container_path}/"):
        return "container"
    pod = victim.container_path.rpartition("/")[0]
    return "pod" if victim.pod_uid and limit == pod else "ancestor"
