"""Deaths of containers as their sources tell of them, with the cause that each had: the sequences of real runtimes, as literals.

Times are seconds after START. Each stands here with the kernel's own wait status, and where the runtime's code alone suffices, without.
"""

from collections.abc import Iterable
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


def fault(seconds: float, pid: int = PID) -> Faulted:
    """Tell of a line of the kernel log."""
    return Faulted(**at(seconds, "kmsg"), pid=pid, text="app[31337]: segfault at 0 ip 00005555 sp 00007ffc error 4 in app")


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


def docker(name: str, cause: str, rule: str, facts: Iterable[Fact], status: int, *, ended: float, exact_only: bool = False) -> list[Death]:
    """Tell a sequence of Docker's with the kernel's status; and without, unless that leaves it unknown."""
    told = (*DOCKER, *facts)
    with_status = (*told, reaped(ended, status), emptied(ended + 0.001, kills=_kills(told)))
    found = [Death(f"docker: {name}, pidfd", cause, rule, with_status)]
    if exact_only:
        return [*found, Death(f"docker: {name}, no pidfd", "unknown", "kill-or-exit", told)]
    return [*found, Death(f"docker: {name}, no pidfd", cause, rule, told)]


def _kills(facts: Iterable[Fact]) -> int:
    return sum(isinstance(fact, OomVictim) for fact in facts)


DOCKERS = [
    *docker("exit 0", "completed", "success", [TERM, die(40, 0)], 0, ended=39.9),
    *docker("exit 3", "error", "failure", [TERM, die(40, 3)], 3 << 8, ended=39.9),
    *docker("exit 143", "error", "failure", [TERM, die(40, 143)], 143 << 8, ended=39.9),
    *docker("exit 137", "error", "failure", [TERM, die(40, 137)], 137 << 8, ended=39.9, exact_only=True),
    *docker("segv", "crashed", "fault", [TERM, die(40, 139)], 0x8B, ended=39.9),
    *docker("segv, logged", "crashed", "fault", [TERM, fault(39.8), die(40, 139)], 11, ended=39.9),
    *docker("a shell's child faults", "crashed", "fault-of-child", [TERM, fault(39.8, 400), die(40, 139)], 139 << 8, ended=39.9)[:1],
    *docker("exit 139", "error", "failure", [TERM, die(40, 139)], 139 << 8, ended=39.9)[:1],
    *docker("a child faults, exit 3", "error", "failure", [TERM, fault(39.8, 400), die(40, 3)], 3 << 8, ended=39.9),
    *docker("abort under --init", "error", "failure", [TERM, die(40, 134)], 134 << 8, ended=39.9),
    *docker("stop, handled", "stopped", "stop", [TERM, kill(38, 15), die(40, 5), stop(40.17)], 5 << 8, ended=39.9),
    *docker("stop, exit 0", "stopped", "stop", [TERM, kill(38, 15), die(40, 0), stop(40.17)], 0, ended=39.9),
    *docker("stop, exit 143", "stopped", "stop", [TERM, kill(38, 15), die(40, 143), stop(40.17)], 143 << 8, ended=39.9),
    *docker("stop, exit 137", "stopped", "stop", [TERM, kill(38, 15), die(40, 137), stop(40.17)], 137 << 8, ended=39.9),
    *docker("stop, deaf", "forced_kill", "stop-then-kill", [TERM, kill(30, 15), kill(40, 9), die(40.1, 137), stop(40.2)], 9, ended=40.05),
    *docker("stop, ends as SIGKILL comes", "stopped", "stop", [TERM, kill(30, 15), kill(40, 9), die(40.1, 0), stop(40.2)], 0, ended=40),
    *docker("stop, crash", "crashed", "fault", [TERM, kill(38, 15), die(40, 139), stop(40.2)], 11, ended=39.9),
    *docker("stop -t 0", "forced_kill", "stop-then-kill", [TERM, kill(39.4, 15), kill(40, 9), die(40.1, 137), stop(40.2)], 9, ended=40.05),
    *docker("stop, STOPSIGNAL=USR1", "stopped", "stop", [USR1, kill(38, 10), die(40, 6), stop(40.17)], 6 << 8, ended=39.9),
    *docker("stop, STOPSIGNAL=KILL", "stopped", "stop", [SIGKILL, kill(40, 9), die(40.1, 137), stop(40.2)], 9, ended=40.05),
    *docker("stop --signal KILL", "stopped", "stop", [TERM, kill(40, 9), die(40.1, 137), stop(40.2)], 9, ended=40.05)[:1],
    *docker("kill", "killed", "signal", [TERM, kill(40, 9), die(40.1, 137)], 9, ended=40.05),
    *docker("kill -s TERM, handled", "stopped", "stop-signal", [TERM, kill(38, 15), die(40, 5)], 5 << 8, ended=39.9),
    *docker("kill -s TERM, handled slowly", "error", "failure", [TERM, kill(25, 15), die(40, 5)], 5 << 8, ended=39.9),
    *docker("kill -s TERM, more grace", "stopped", "stop-signal", [PATIENT, kill(25, 15), die(40, 0)], 0, ended=39.9),
    *docker("kill -s TERM, STOPSIGNAL=USR1", "error", "failure", [USR1, kill(38, 15), die(40, 5)], 5 << 8, ended=39.9),
    *docker("kill -s USR1, STOPSIGNAL=USR1", "stopped", "stop-signal", [USR1, kill(38, 10), die(40, 6)], 6 << 8, ended=39.9),
    *docker("kill -s TERM, then kill", "killed", "signal", [TERM, kill(37, 15), kill(40, 9), die(40.1, 137)], 9, ended=40.05),
    *docker("kill -s TERM, then kill, late", "killed", "signal", [PATIENT, kill(20, 15), kill(40, 9), die(40.1, 137)], 9, ended=40.05),
    *docker(
        "kill -s TERM, later stop",
        "forced_kill",
        "stop-then-kill",
        [TERM, kill(20, 15), kill(30, 15), kill(40, 9), die(40.1, 137), stop(40.2)],
        9,
        ended=40.05,
    ),
    *docker("kill -s HUP, exits", "error", "failure", [TERM, kill(39.5, 1), die(40, 7)], 7 << 8, ended=39.9),
    *docker("rm -f", "killed", "signal", [TERM, kill(40, 9), die(40.1, 137), DESTROY], 9, ended=40.05),
    *docker("pause, stop", "stopped", "stop", [TERM, PAUSE, kill(30, 15), UNPAUSE, die(40, 5), stop(40.17)], 5 << 8, ended=39.9),
    *docker("pause, kill", "killed", "signal", [TERM, PAUSE, kill(40, 9), die(40.1, 137)], 9, ended=40.05),
    *docker("kill -9 from the host", "killed", "signal", [TERM, die(40.1, 137)], 9, ended=40, exact_only=True),
    *docker("kill -15 from the host", "error", "failure", [TERM, die(40.1, 5)], 5 << 8, ended=40),
    *docker(
        "kill -15 from the host, traced",
        "error",
        "failure",
        [TERM, watch("signals", "signals"), traced(39.9, 15, "bash"), die(40.1, 5)],
        1280,
        ended=40,
    ),
    *docker("OOM of init", "oom_kill", "oom-of-init", [TERM, victim(39.9), die(40.1, 137)], 9, ended=40),
    *docker("OOM of init, known by its PID", "oom_kill", "oom-of-init", [TERM, victim(39.9, is_init=None), die(40.1, 137)], 9, ended=40),
    *docker("OOM at a stop", "oom_kill", "oom-of-init", [TERM, kill(38, 15), victim(39.9), die(40.1, 137), stop(40.2)], 9, ended=40),
    *docker("OOM of child, exit 0", "completed", "success", [TERM, victim(30, 400, is_init=False), die(40, 0)], 0, ended=39.9),
    *docker(
        "OOM of child, stop", "stopped", "stop", [TERM, victim(30, 400, is_init=False), kill(38, 15), die(40, 0), stop(40.2)], 0, ended=39.9
    ),
    *docker(
        "OOM of child, exit 137",
        "error",
        "oom-of-child",
        [TERM, victim(39.8, 400, is_init=False), die(40, 137)],
        137 << 8,
        ended=39.9,
        exact_only=True,
    ),
    *docker("auto_remove", "error", "failure", [TERM, die(40, 3), DESTROY], 3 << 8, ended=39.9),
]

NO_LOG = (BORN, watch("stops", "docker"))

UNSURE = [
    Death("no kernel log: docker kill", "killed", "signal", (*NO_LOG, TERM, kill(40, 9), reaped(40.05, 9))),
    Death(
        "no kernel log: docker kill, a group's OOM before",
        "killed",
        "signal",
        (*NO_LOG, kill(40, 9), reaped(40.05, 9), emptied(40.1, 3, 1)),
    ),
    Death("no kernel log: a group's OOM below, exit 0", "completed", "success", (*NO_LOG, reaped(40.05, 0), emptied(40.1, 3, 1))),
    Death("no kernel log: TERM in a shared PID namespace", "killed", "signal", (*NO_LOG, reaped(40.05, 15))),
    Death("no kernel log: STOPSIGNAL=KILL", "stopped", "stop", (*NO_LOG, SIGKILL, kill(40, 9), reaped(40.05, 9), stop(40.2))),
    Death("another's OOM with the PID of its init", "completed", "success", (*DOCKER, victim(20, is_init=None), reaped(40, 0))),
    Death("docker: a gap lost the signals of a stop, exit 5", "stopped", "stop", (*KERNEL, TERM, reaped(40, 5 << 8), stop(40.2))),
    Death("docker: never started", "unknown", "no-status", (Created(**at(0, "docker")), watch("stops", "docker"), DESTROY)),
    Death(
        "docker: dockerd down meanwhile",
        "error",
        "failure",
        (*KERNEL, TERM, watch("stops", "docker", 50), Exited(**at(40, "docker"), how="inspect", code=3)),
    ),
    Death(
        "docker: dockerd down meanwhile, SIGKILL",
        "unknown",
        "signal-unwatched",
        (*KERNEL, TERM, watch("stops", "docker", 50), reaped(40, 9), Exited(**at(40, "docker"), how="inspect", code=137)),
    ),
    Death(
        "docker: agent started between stop request and death",
        "unknown",
        "signal-unwatched",
        (*KERNEL, watch("stops", "docker", 39), kill(40, 9), reaped(40.05, 9), die(40.1, 137)),
    ),
    Death(
        "docker: a gap lost the signals of a stop",
        "unknown",
        "stop-without-signals",
        (*KERNEL, TERM, watch("stops", "docker", 39), reaped(40.05, 9), die(40.1, 137), stop(40.2)),
    ),
    Death("docker: a signal that may be a stop's", "unknown", "signal-of-unknown-use", (*KERNEL, kill(38, 10), reaped(40, 7 << 8))),
    Death("SIGKILL, no kernel log", "unknown", "signal-or-oom", (BORN, watch("stops", "docker"), reaped(40, 9))),
    Death("a code of a stop, nobody watched", "unknown", "code-of-a-stop", (*KERNEL, reaped(40, 143 << 8))),
]


def status_file(seconds: float, code: int, reason: str = "") -> Exited:
    """Tell what containerd's CRI status file or conmon's exit file says."""
    return Exited(**at(seconds, "oci"), how="runtime", code=code, reason=reason)


def kubelet(seconds: float, code: int, reason: str = "Error") -> Exited:
    """Tell a terminated status, in whole seconds."""
    return Exited(**at(seconds, "kubernetes"), how="kubelet", code=code, reason=reason)


def deletion(seconds: float, grace: float | None = 30.0) -> StopRequested:
    """Tell of a pod's deletion."""
    return StopRequested(**at(seconds, "kubernetes"), grace_seconds=grace, by="deletion of its pod")


CRI = (*KERNEL, watch("stops", "kubernetes"))

KUBERNETES = [
    Death("cri: pod deleted, exit 0 at the deadline", "stopped", "stop", (*CRI, deletion(10), reaped(40.2, 0))),
    Death("cri: pod deleted with a grace nobody knows, exit 0", "stopped", "stop", (*CRI, deletion(10, None), reaped(40.2, 0))),
    Death("cri: pod deleted, exit 0, no kernel log", "stopped", "stop", (BORN, deletion(30), reaped(40.2, 0))),
    Death("cri: exit 0", "completed", "success", (*CRI, reaped(40.2, 0), status_file(40.3, 0), kubelet(40, 0, "Completed"))),
    Death("cri: exit 3, files only", "error", "failure", (*CRI, status_file(40.3, 3))),
    Death("cri: exit 3, kubelet only", "error", "failure", (*CRI, kubelet(40, 3))),
    Death("cri: pod deleted, exit 0", "stopped", "stop", (*CRI, deletion(38), reaped(40.2, 0), kubelet(40, 0, "Completed"))),
    Death("cri: pod deleted, exit 143", "stopped", "stop", (*CRI, deletion(38), status_file(40.3, 143))),
    Death("cri: pod deleted, deaf", "forced_kill", "stop-until-deadline", (*CRI, deletion(10), reaped(40.2, 9), status_file(40.3, 137))),
    Death("cri: pod deleted, deaf, no pidfd", "forced_kill", "stop-until-deadline", (*CRI, deletion(10), kubelet(40, 137))),
    Death(
        "cri: pod deleted, deaf, traced",
        "forced_kill",
        "stop-then-kill",
        (*CRI, watch("signals", "signals"), deletion(10), traced(10.3, 15, is_accepted=False), traced(40.1, 9), reaped(40.2, 9)),
    ),
    Death("cri: pod deleted, SIGKILL at once", "stopped", "stop", (*CRI, deletion(30), reaped(40.2, 9), status_file(40.3, 137))),
    Death("cri: pod deleted with a grace nobody knows", "unknown", "stop-without-grace", (*CRI, deletion(10, None), reaped(40.2, 9))),
    Death("cri: pod deleted, no kernel log", "unknown", "stop-or-oom", (BORN, watch("stops", "kubernetes"), deletion(30), reaped(40.2, 9))),
    Death("cri: crashed, then deleted", "crashed", "fault", (*CRI, fault(40.1), reaped(40.2, 11), kubelet(40, 139), deletion(45))),
    Death("cri: failed, then deleted", "error", "failure", (*CRI, reaped(40.2, 3 << 8), kubelet(40, 3), deletion(45))),
    Death("cri: killed", "killed", "signal", (*CRI, reaped(40.2, 9), status_file(40.3, 137))),
    Death(
        "cri: OOM of init",
        "oom_kill",
        "oom-of-init",
        (*CRI, victim(40), reaped(40.2, 9), status_file(40.3, 137, "OOMKilled"), emptied(40.2, 1)),
    ),
    Death("cri: OOM of init, files only", "oom_kill", "oom-of-init", (*CRI, victim(40), status_file(40.3, 137, "OOMKilled"))),
    Death("cri: OOM of init, status lost", "oom_kill", "oom-of-init", (*CRI, victim(40), emptied(40.2, None))),
    Death("cri: OOM of child, exit 0", "completed", "success", (*CRI, victim(20, 400, is_init=False), status_file(40.3, 0, "OOMKilled"))),
    Death(
        "cri: oom.group",
        "oom_kill",
        "oom-of-init",
        (*CRI, victim(40, 400, is_init=False), victim(40), reaped(40.2, 9), emptied(40.2, 3, 1)),
    ),
    Death("cri: oom.group, no kernel log", "oom_kill", "oom-of-group", (BORN, reaped(40.2, 9), emptied(40.2, 3, 1))),
    Death(
        "cri: liveness probe, traced",
        "forced_kill",
        "stop-signal-then-kill",
        (
            *KERNEL,
            Configured(**at(0, "oci"), stop_seconds=30.0),
            watch("signals", "signals"),
            traced(10, 15),
            traced(40.1, 9),
            reaped(40.2, 9),
        ),
    ),
    Death("cri: stopped, traced only", "stopped", "stop-signal", (*KERNEL, watch("signals", "signals"), traced(38, 15), reaped(40.2, 0))),
    Death("cri: shared PID namespace, TERM", "killed", "signal", (*CRI, reaped(40.2, 15), status_file(40.3, 143))),
    Death(
        "cri: pod deleted, then evicted, traced",
        "forced_kill",
        "stop-then-kill",
        (*CRI, watch("signals", "signals"), deletion(20), traced(20.3, 15), traced(40.1, 9), reaped(40.2, 9)),
    ),
    Death("cri-o: exit file", "error", "failure", (*CRI, status_file(40.3, 2))),
    Death("cri-o: stopped", "stopped", "stop", (*CRI, deletion(38), status_file(40.3, 0))),
]

PODMAN = [
    Death("podman: exit file", "completed", "success", (*KERNEL, Created(**at(0, "docker")), status_file(40.3, 0))),
    Death("podman: stop, which it does not tell", "unknown", "signal-unwatched", (*KERNEL, reaped(40.2, 9), status_file(40.3, 137))),
    Death("podman: exit 137 by its file", "unknown", "kill-or-exit", (*KERNEL, status_file(40.3, 137))),
    Death("podman: OOM of init", "oom_kill", "oom-of-init", (*KERNEL, victim(40), status_file(40.3, 137))),
    Death(
        "podman: stopped, traced",
        "stopped",
        "stop-signal",
        (*KERNEL, TERM, watch("signals", "signals"), traced(38, 15, "podman"), status_file(40.3, 0)),
    ),
]

DEATHS = (*DOCKERS, *UNSURE, *KUBERNETES, *PODMAN)
