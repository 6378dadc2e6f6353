"""Deaths as Docker tells of them, with the wait status of the kernel, and without."""

from collections.abc import Iterable

from collectors.inquest.facts import (
    Created,
    Exited,
    Fact,
    OomVictim,
)
from tests.inquest.told import (
    BORN,
    DESTROY,
    DOCKER,
    KERNEL,
    PATIENT,
    PAUSE,
    SIGKILL,
    TERM,
    UNPAUSE,
    USR1,
    Death,
    at,
    die,
    emptied,
    fault,
    kill,
    reaped,
    stop,
    traced,
    victim,
    watch,
)


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
    *docker("a child faults, exit 132", "error", "failure", [TERM, fault(39.8, 400), die(40, 132)], 132 << 8, ended=39.9)[:1],
    *docker("exit 139", "error", "failure", [TERM, die(40, 139)], 139 << 8, ended=39.9)[:1],
    *docker("a child faults on arm64, exit 3", "error", "failure", [TERM, fault(39.8, 400, None), die(40, 3)], 3 << 8, ended=39.9),
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
    Death("kernel: SEGV of init, its status is lost", "crashed", "fault-of-init", (*KERNEL, fault(39.8), emptied(39.9))),
    Death("kernel: SEGV of a child, the status of init is lost", "unknown", "no-status", (*KERNEL, fault(39.8, 400), emptied(39.9))),
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
