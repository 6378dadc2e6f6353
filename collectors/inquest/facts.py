"""What happened to a container: a frozen dataclass per kind of fact. Pure.

Sources tell facts in any order, some of them twice, some never. A fact says only what its source saw: what follows from several of them
is for the kill ledger (kills.py) and the verdict to find. Times are seconds of the wall clock; None is not told.
"""

from dataclasses import dataclass
from typing import Literal

from collectors.inquest.kill_state import Cursor, Victim
from collectors.inquest.scope import scope_of_kill
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.last_words import LastWords
from collectors.kernel.oom_log import OomKill

NO_CONTAINER = ContainerKey()
"""Of what happened outside of containers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What all facts have. `inode` is that of the container's cgroup, where the source knows it: it tells two lives of one id apart."""

    container: ContainerKey
    source: str
    """Who tells: the label of coroner_source_up."""
    time: float
    """When it happened, as the source says; else when it was learnt."""
    inode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Created(Fact):
    """A runtime made the container; it has not run yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Born(Fact):
    """Its cgroup was made: a life begins, whether a runtime tells of it or not."""

    id: ContainerId
    cgroup: Cgroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Fact):
    """Its init runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured(Fact):
    """What it was told to do about stops (OCI config, image, pod spec)."""

    stop_signal: int | None = None
    stop_seconds: float | None = None
    """Grace: between the stop signal and SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(Fact):
    """Since `time` its source would have told of every stop request: silence means that there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested(Fact):
    """Somebody asked for its end: docker stop, or the deletion of its pod."""

    signal: int | None = None
    grace_seconds: float | None = None
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signalled(Fact):
    """A signal was sent to its init, by whom is not known unless said."""

    signal: int
    is_accepted: bool | None = None
    """False: the kernel discarded it, for init neither catches nor waits for it."""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReturned(Fact):
    """The runtime says that a stop it was asked for is done (Docker's event `stop`): the signals before it were that stop's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Fact):
    """Its processes are frozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Fact):
    """Its processes run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OomKilled(Fact):
    """The OOM killer took a process, as the kernel log says; the key may be NO_CONTAINER."""

    kill: OomKill
    """What the log said, its paths as the agent's cgroup tree has them."""
    cgroup: str
    """Of the victim, or of the group that it was taken with; empty when the log names neither."""
    id: ContainerId | None
    """The container that this cgroup belongs to."""
    scope: str
    """Whose limit was hit (scope.SCOPES)."""
    is_late: bool = False
    """Logged while the agent was down: since then the container may have begun another life, and the PID be another process's."""
    is_again: bool = False
    """Told before, when the log had not named the victim's cgroup yet."""
    has_foreign_pid: bool = False
    """The node is a container, whose /proc has PIDs of its own; the log has the host's."""
    cursor: Cursor | None = None
    """The place in the kernel log that is read to with this one."""
    victim: Victim | None = None
    """The record for the casebook; it and `inode` are None until somebody has looked, while the line was fresh."""

    @property
    def names_cgroup(self) -> bool:
        """Whether `cgroup` is the victim's own: of a group's member the log names the group's alone."""
        return self.kill.task_memcg is not None

    @property
    def scope_without_cgroup(self) -> str:
        """Whose limit was hit as far as was known while the log had not named the cgroup."""
        return scope_of_kill(self.kill, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted(Fact):
    """The kernel logged a fault (segfault, traps) of one of its processes."""

    pid: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited(Fact):
    """Its init ended. One of `status` and `code` is told: a runtime's code is 128 + signal for a signal, and 137 may be either."""

    how: Literal["reaped", "zombie", "runtime", "kubelet", "inspect"]
    """How the status was learnt, from the most reliable down."""
    status: int | None = None
    """As of wait(2)."""
    code: int | None = None
    signal: int | None = None
    """The kubelet's own word for it, where it has one."""
    reason: str = ""
    """The runtime's opinion, such as OOMKilled: kept, never believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emptied(Fact):
    """The last process of its cgroup ended."""

    id: ContainerId
    cgroup: Cgroup
    words: LastWords | None = None
    """Its final counters; None if the cgroup was gone before they could be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed(Fact):
    """The runtime removed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRead:
    """The kernel log is followed, and every kill up to `cursor` was told: from here on its silence means that there was none."""

    source: str
    cursor: Cursor | None
    """None: the next agent could not find the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogClosed:
    """The kernel log is not followed any more: its silence says nothing."""

    source: str


LogFact = LogRead | LogClosed
"""How far the kernel log is read, which is no container's matter."""
