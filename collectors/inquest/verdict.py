"""Why one instance of a container ended: a set of facts to one verdict. Pure."""

from dataclasses import dataclass

from collectors.kernel.container_id import ContainerKey

CAUSES = ("completed", "error", "stopped", "forced_kill", "oom_kill", "killed", "crashed", "unknown")
"""Every cause that a verdict may have, as the label `cause` spells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why one life of a container ended. Times are seconds of the wall clock; None is not known.

    `container` and `instance` identify the life: the inode of its cgroup, or where no source knew it the microsecond it began or ended.
    """

    container: ContainerKey
    instance: int
    cause: str
    created: float | None = None
    started: float | None = None
    stop_requested: float | None = None
    ended: float | None = None
    removed: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    """That ended its init."""
    stop_signal: int | None = None
    stop_seconds: float | None = None
    """From the request to the end."""
    grace_seconds: float | None = None
    """From the stop signal to SIGKILL, as it really was."""
    evidence: tuple[str, ...] = ()
    """What the cause follows from, the most important first, a sentence each."""
    missing: tuple[str, ...] = ()
    """The facts without which it could not be told, or not for sure."""
    sources: tuple[str, ...] = ()
    """Who told of it: labels of coroner_source_up."""
    rule: str = ""
    """Which of the rules for causes held."""
    how: str = ""
    """How the exit status was learnt: Exited.how; empty if it was not."""
    timeline: tuple[tuple[float, str], ...] = ()
    """What happened and when, the first first."""
