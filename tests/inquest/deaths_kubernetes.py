"""Deaths on containerd, CRI-O and Podman, as their files, the kubelet and the kernel tell of them."""

from collectors.inquest.facts import (
    Configured,
    Created,
)
from tests.inquest.told import BORN, KERNEL, TERM, Death, at, deletion, emptied, fault, kubelet, reaped, status_file, traced, victim, watch

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
