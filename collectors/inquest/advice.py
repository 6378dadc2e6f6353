"""What to change so that a container does not end like this again, by the rule that held. Pure."""

from collectors.inquest.exit_status import name_of
from collectors.inquest.verdict import Verdict
from collectors.inquest.words import duration

_DEFECT = "The program has a defect, or was built for another processor: look at the end of its log, and let it dump core to see where."

_BY_RULE = {
    "oom-of-init": (
        "Raise its memory limit, or make it need less: the peak of its memory and the victim's in the record say how much it had. "
        "If the limit of its pod or of the node was hit, look at what else runs there."
    ),
    "oom-of-group": ("Raise its memory limit, or make it need less: memory.oom.group ended all of its processes together."),
    "oom-of-child": (
        "Its child was killed for lack of memory, and its init passed that on as 137: raise the memory limit, or run the program "
        "as the init (exec), so that its end is seen as it is."
    ),
    "fault": _DEFECT,
    "fault-of-init": f"{_DEFECT} The line of the kernel log names the address.",
    "fault-of-child": "A child of its init has a defect: the line of the kernel log names the program and the address.",
    "stop-signal": "It was sent its stop signal and ended in time. Ask for a stop rather than for a signal, so that the record says so.",
    "signal": (
        "Somebody sent it a fatal signal without asking for a stop (docker kill, docker rm -f, kill -9): use stop, so that it may "
        "finish what it does. --source.signals tells who sends it."
    ),
}

_BY_CAUSE = {
    "completed": "Nothing, if its work was done. A service that is to stay should not exit with 0.",
    "error": "Look at the last lines of its log: it chose this exit code itself.",
    "stopped": "Nothing: it ended within its grace period.",
    "killed": "Find out who sent the signal: --source.signals tells.",
    "crashed": "The program has a defect: look at the last lines of its log.",
    "oom_kill": "Raise its memory limit, or make it need less.",
}

_REMEDIES = {
    "exit status": "the agent must run while containers end, and reach its runtime",
    "exact exit status": "Linux 6.15, or CAP_SYS_PTRACE before it, lets the agent read how init ended, not only the runtime's code",
    "stop request": "connect the runtime (--docker.url) or Kubernetes (--kubernetes.source), or switch on --source.signals",
    "stop settings": "let the agent reach its runtime, which knows the stop signal and the grace period",
    "grace period": "let the agent reach Kubernetes or the runtime, which know it",
    "signals sent": "switch on --source.signals, or let the agent follow the runtime without a gap",
    "OOM kills": "give the agent the kernel log (/dev/kmsg, or CAP_SYSLOG)",
    "OOM victim": "give the agent the kernel log (/dev/kmsg, or CAP_SYSLOG)",
    "faults in the kernel log": "give the agent the kernel log, and leave debug.exception-trace on",
}
"""What makes a missing fact known the next time."""


def advice(verdict: Verdict) -> str:
    """Say in a sentence or two what to change. For a verdict that lacks a fact, how to have it the next time."""
    said = [] if verdict.cause == "unknown" else [_forced(verdict) if verdict.cause == "forced_kill" else _general(verdict)]
    remedies = [remedy for missing in verdict.missing[:2] if (remedy := _REMEDIES.get(missing))]
    if remedies:
        said.append(f"To be sure the next time: {'; '.join(dict.fromkeys(remedies))}.")
    return " ".join(said) or "Not enough is known of this end."


def _general(verdict: Verdict) -> str:
    return _BY_RULE.get(verdict.rule) or _BY_CAUSE.get(verdict.cause, "")


def _forced(verdict: Verdict) -> str:
    signal = "the stop signal" if verdict.stop_signal is None else name_of(verdict.stop_signal)
    grace = "its grace period" if verdict.grace_seconds is None else f"its grace of {duration(verdict.grace_seconds)}"
    if any("discarded" in sentence for sentence in verdict.evidence):
        return (
            f"Its init does not handle {signal}: start the program with exec instead of below a shell, use an init that forwards signals "
            "(docker run --init), or name a signal that it handles (STOPSIGNAL)."
        )
    return (
        f"It did not end after {signal} within {grace}: handle {signal} in its init (exec instead of a shell wrapper, or "
        "docker run --init), or give it more time (stop_grace_period, terminationGracePeriodSeconds)."
    )
