"""What the kill ledger keeps: a record per victim, its whole state; and who keeps it for good (Book). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from collectors.inquest.instances import InstanceKey, InstanceKills
from collectors.inquest.top_cgroups import TopCgroup
from collectors.kernel.container_id import ContainerKey

Labels = tuple[str, ...]


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

    `cursor` is None if the log was never read to its end, or has nothing to tell places by. `started`: a pass was made that
    saw all, so that an instance found later was born since, at 0.
    """

    cursor: Cursor | None = None
    started: bool = False
    unnamed_of_ended: int = 0
    instances: Mapping[InstanceKey, InstanceKills] = field(default_factory=dict)
    top_cgroups: Mapping[str, TopCgroup] = field(default_factory=dict)
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
    """Keeps nothing: the ledger is in memory only."""

    def save(self, state: State, victim: Victim | None = None) -> None:
        """Keep nothing."""
