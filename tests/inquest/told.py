"""What the sources tell of a death, in short: seconds after START, and only what matters."""

from dataclasses import dataclass
from typing import Any, Literal

from collectors.inquest.facts import (
    Born,
    Configured,
    Created,
    Emptied,
    Exited,
    Fact,
    Faulted,
    HealthReported,
    LayerMeasured,
    OomReported,
    OomVictim,
    Paused,
    Removed,
    Resumed,
    Signalled,
    Started,
    StopRequested,
    StopReturned,
    Watched,
)
from collectors.kernel.cgroupfs import Cgroup, MemoryEvents
from collectors.kernel.container_id import ContainerId
from collectors.kernel.last_words import LastWords
from tests.tree import A

START = 1_700_000_000.0
INODE = 4711
PID = 31337
"""Of its init."""


@dataclass(frozen=True)
class Death:
    """What was told of one, and why it really ended."""

    name: str
    cause: str
    rule: str
    facts: tuple[Fact, ...]


def at(seconds: float, source: str, *, inode: int | None = None) -> dict[str, Any]:
    """Return what all facts have."""
    return {"container": A, "source": source, "time": START + seconds, "inode": inode}


def watch(kind: Literal["stops", "signals", "oom_kills"], source: str, seconds: float = -100.0) -> Watched:
    """Tell since when a source would have told."""
    return Watched(**at(seconds, source), kind=kind)


def kill(seconds: float, signal: int) -> Signalled:
    """Tell Docker's event `kill`."""
    return Signalled(**at(seconds, "docker"), signal=signal)


def traced(seconds: float, signal: int, by: str = "runc", *, is_accepted: bool | None = True) -> Signalled:
    """Tell of a signal that the kernel traced."""
    return Signalled(**at(seconds, "signals"), signal=signal, by=by, is_accepted=is_accepted)


def die(seconds: float, code: int) -> Exited:
    """Tell Docker's event `die`."""
    return Exited(**at(seconds, "docker"), how="runtime", code=code)


def stop(seconds: float) -> StopReturned:
    """Tell Docker's event `stop`."""
    return StopReturned(**at(seconds, "docker"))


def reaped(seconds: float, status: int) -> Exited:
    """Tell a wait status: code << 8, or the signal."""
    return Exited(**at(seconds, "proc", inode=INODE), how="reaped", status=status)


def victim(seconds: float, pid: int = PID, *, is_init: bool | None = True, comm: str = "java", scope: str = "container") -> OomVictim:
    """Tell of an OOM kill."""
    return OomVictim(**at(seconds, "kmsg"), pid=pid, comm=comm, scope=scope, is_init=is_init)


def fault(seconds: float, pid: int = PID, signal: int | None = 11) -> Faulted:
    """Tell of a line of the kernel log."""
    return Faulted(**at(seconds, "kmsg"), pid=pid, signal=signal, text="app[31337]: segfault at 0 ip 00005555 sp 00007ffc error 4 in app")


def health(seconds: float, status: Literal["starting", "healthy", "unhealthy"]) -> HealthReported:
    """Tell Docker's event `health_status`."""
    return HealthReported(**at(seconds, "docker"), status=status)


def oom(seconds: float) -> OomReported:
    """Tell Docker's event `oom`."""
    return OomReported(**at(seconds, "docker"))


def layer(seconds: float, size: int | None) -> LayerMeasured:
    """Tell how large its layer was."""
    return LayerMeasured(**at(seconds, "layers", inode=INODE), size=size)


def emptied(seconds: float, kills: int | None = 0, groups: int = 0) -> Emptied:
    """Tell its last words; kills of None: the cgroup was gone before they could be read."""
    words = None if kills is None else LastWords(memory_events=MemoryEvents(0, 0, 0, 0, kills, groups), memory_peak=2**25)
    return Emptied(**at(seconds, "cgroup", inode=INODE), id=ID, cgroup=CGROUP, words=words)


ID = ContainerId.of_key(A)
CGROUP = Cgroup(f"/docker/{A}", f"/sys/fs/cgroup/docker/{A}", INODE, has_children=False)

BORN = Born(**at(0.1, "cgroup", inode=INODE), id=ID, cgroup=CGROUP)
KERNEL = (BORN, Started(**at(0.15, "proc", inode=INODE), pid=PID, comm="app"), watch("oom_kills", "kmsg"))
DOCKER = (*KERNEL, Created(**at(0.0, "docker")), Started(**at(0.3, "docker")), watch("stops", "docker"))
TERM = Configured(**at(0.0, "docker"), stop_signal=15)
USR1 = Configured(**at(0.0, "docker"), stop_signal=10)
SIGKILL = Configured(**at(0.0, "docker"), stop_signal=9)
PATIENT = Configured(**at(0.0, "docker"), stop_signal=15, stop_seconds=20.0)
DESTROY = Removed(**at(60.0, "docker"))
PAUSE, UNPAUSE = Paused(**at(20.0, "docker")), Resumed(**at(31.0, "docker"))


def status_file(seconds: float, code: int, reason: str = "") -> Exited:
    """Tell what containerd's CRI status file or conmon's exit file says."""
    return Exited(**at(seconds, "oci"), how="runtime", code=code, reason=reason)


def kubelet(seconds: float, code: int, reason: str = "Error") -> Exited:
    """Tell a terminated status, in whole seconds."""
    return Exited(**at(seconds, "kubernetes"), how="kubelet", code=code, reason=reason)


def deletion(seconds: float, grace: float | None = 30.0) -> StopRequested:
    """Tell of a pod's deletion."""
    return StopRequested(**at(seconds, "kubernetes"), grace_seconds=grace, by="deletion of its pod")
