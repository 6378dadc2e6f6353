"""Who does not wait for the zombies of a container, in words (collectors/forensics.py finds them)."""

import os

from collectors.forensics import Culprit
from collectors.inquest.exit_status import name_of


def sentence(culprit: Culprit) -> str:
    """Say who it is, what it has not waited for, and how that ended."""
    inside = f", PID {culprit.container_pid} of the container" if culprit.container_pid is not None else ""
    if culprit.pid:
        who = f"{culprit.comm or 'A process that is not known'} (PID {culprit.pid} of the node{inside})"
    else:
        who = "A process outside of the agent's PID namespace"
    what = ", ".join(f"{count:,} {name}" for name, count in culprit.names)
    ends = ", ".join(f"{count:,} {_end(status)}" for status, count in culprit.statuses)
    probes = (
        " Most of them were started from outside: docker exec, kubectl exec, a health check or an exec probe."
        if culprit.is_exec_probe
        else ""
    )
    return f"{who} has not waited for {culprit.zombies:,}{f': {what}' if what else ''}{f'; they ended: {ends}' if ends else ''}.{probes}"


def _end(status: int) -> str:
    try:
        code = os.waitstatus_to_exitcode(status)
    except ValueError:  # none of wait(2)
        return f"with status {status}"
    return f"by {name_of(-code)}" if code < 0 else f"with {code}"
