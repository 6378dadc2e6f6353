"""How verdicts speak: durations, amounts, and what others wrote. Pure."""

from collectors.inquest.facts import OomVictim

_LONGEST = 200

_LIMITS = {
    "container": "the limit of the container",
    "pod": "the limit of its pod",
    "ancestor": "the limit of a cgroup above it",
    "node": "the memory of the node",
}


def quoted(text: str) -> str:
    """Spell what a container or a runtime wrote, which may be anything, as printable text of bounded length."""
    plain = "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text[:_LONGEST]])
    return plain if len(text) <= _LONGEST and len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."


def duration(seconds: float) -> str:
    """Spell seconds."""
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.1f} s"


def mebibytes(amount: int) -> str:
    """Spell bytes."""
    return f"{amount / 2**20:.1f} MiB"


def process(victim: OomVictim) -> str:
    """Name the victim of an OOM kill."""
    return f"PID {victim.pid} ({quoted(victim.comm)})"


def limit_of(scope: str) -> str:
    """Say whose limit was hit (scope.SCOPES)."""
    return _LIMITS.get(scope, "a limit")
