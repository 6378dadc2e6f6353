"""What happened to a container: a frozen dataclass per kind of fact. Pure.

Sources tell facts in any order, some of them twice, some never. A fact says only what its source saw: what follows from several of them
is for the kill ledger (kills.py) and the verdict to find. Times are seconds of the wall clock; None is not told.
"""

from dataclasses import dataclass, replace
from typing import Literal

from collectors.inquest.kill_state import Cursor, Victim
from collectors.inquest.scope import scope_of_kill
from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.fault_lines import Fault
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
    """Its init runs. `pid` is that in the PID namespace of the agent's /proc."""

    pid: int | None = None
    comm: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured(Fact):
    """What it was told to do about stops (OCI config, image, pod spec)."""

    stop_signal: int | None = None
    stop_seconds: float | None = None
    """Grace: between the stop signal and SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched(Fact):
    """Since `time` its source would have told of all that is of this kind: its silence means that there was none. A later one of the same
    source and kind says that there was a gap before it.
    """

    kind: Literal["stops", "signals", "oom_kills"]


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
    id: ContainerId | None
    """The container that the cgroup belongs to which the log names for the victim; None: none, or it names none."""
    scope: str
    """Whose limit was hit (scope.SCOPES)."""
    victim: Victim
    """The record for the casebook; what /proc and the cgroup tell is added while the line is fresh, and `inode`."""
    is_late: bool = False
    """Logged while the agent was down: since then the container may have begun another life, and the PID be another process's."""
    is_again: bool = False
    """Told before, when the log had not named the victim's cgroup yet."""
    has_foreign_pid: bool = False
    """The node is a container, whose /proc has PIDs of its own; the log has the host's."""
    cursor: Cursor | None = None
    """The place in the kernel log that is read to with this one."""
    is_by_pid: bool = False
    """The log does not say where the victim was, and so not whose limit was hit: its PID is that of the container's init."""

    @classmethod
    def of(
        cls,
        kill: OomKill,
        *,
        source: str,
        time: float,
        is_late: bool = False,
        is_again: bool = False,
        has_foreign_pid: bool = False,
        cursor: Cursor | None = None,
    ) -> "OomKilled":
        """Make the fact of what the log says: nobody else takes the victim's cgroup apart, or decides whose limit was hit."""
        cgroup = _text(kill.task_memcg or kill.group_memcg)
        container = container_id.parse(cgroup)
        scope = scope_of_kill(kill, container)
        victim = Victim(
            time=time,
            sequence=kill.sequence,
            identifier=container.key if container else NO_CONTAINER,
            cgroup=cgroup,
            scope=scope,
            limit_of=_text(kill.oom_memcg),
            limit_bytes=kill.limit_bytes,
            usage_bytes=kill.usage_bytes,
            pid=kill.pid,
            namespace_pid=None,
            is_init=None,
            comm=_text(kill.comm),
            uid=kill.uid,
            oom_score_adj=kill.oom_score_adj,
            total_vm_bytes=kill.total_vm_bytes,
            anon_rss_bytes=kill.anon_rss_bytes,
            file_rss_bytes=kill.file_rss_bytes,
            shmem_rss_bytes=kill.shmem_rss_bytes,
        )
        return cls(
            container=container.key if container else NO_CONTAINER,
            source=source,
            time=time,
            kill=kill,
            id=container,
            scope=scope,
            victim=victim,
            is_late=is_late,
            is_again=is_again,
            has_foreign_pid=has_foreign_pid,
            cursor=cursor,
        )

    def of_init(self, born: "Born") -> "OomKilled":
        """Return what is known of it as the init of the container that was born so."""
        victim = replace(self.victim, identifier=born.container, is_init=True, namespace_pid=1)
        return replace(self, container=born.container, id=born.id, victim=victim, is_by_pid=True)

    @property
    def names_cgroup(self) -> bool:
        """Whether the log names the victim's own cgroup: of a group's member it names the group's alone."""
        return self.kill.task_memcg is not None

    @property
    def scope_without_cgroup(self) -> str:
        """Whose limit was hit as far as was known while the log had not named the cgroup."""
        return scope_of_kill(self.kill, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OomVictim(Fact):
    """The OOM killer took one of its processes: what of an OomKilled matters to why the container ended."""

    pid: int
    comm: str
    scope: str
    """Whose limit was hit (scope.SCOPES)."""
    is_init: bool | None
    """Whether it was PID 1 of the container; None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted(Fact):
    """The kernel logged a fault (segfault, traps) that ended one of its processes."""

    pid: int
    """Of the thread."""
    text: str
    """The line, of bounded length."""
    signal: int | None = None
    """That ended the process; None: the line does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OomReported(Fact):
    """A runtime says that the OOM killer took something in it: its opinion, which is kept and never believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReported(Fact):
    """The runtime's health check came to another conclusion than before."""

    status: Literal["starting", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited(Fact):
    """Its init ended. One of `status` and `code` is told: a runtime's code is 128 + signal for a signal, and 137 may be either.

    Neither, if all that is left is that it did: Docker has started it again since, and keeps no code of the life before.
    """

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
class LayerMeasured(Fact):
    """What it had written into its own layer when it had ended; its removal loses that."""

    size: int | None
    """Bytes of disk; None: it was being removed, or is too large to be measured in time."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultLogged:
    """The kernel logged a fault just now. The line has a PID and a name, which do not say whose process it was."""

    source: str
    time: float
    fault: Fault


LogFact = LogRead | LogClosed | FaultLogged
"""What the kernel log says that is no container's matter, or not yet."""


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="backslashreplace")
