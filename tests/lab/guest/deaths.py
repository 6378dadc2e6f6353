"""Real deaths with their known causes, and a table of what the agent says of them beside what the runtime says."""

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.lab.guest.node import Agent, wait_for

NEEDS_THE_STATUS = {"kill -9 from the host", "OOM of a child, exit 137"}
"""What only the wait status tells, exit(137) from SIGKILL: before Linux 6.15 it is unknown if the zombie was reaped before it was seen."""


@dataclass(frozen=True)
class Row:
    """One death: what has happened, what the agent must say, and what the runtime says."""

    what: str
    cause: str
    runtime: str


def verdicts(agent: Agent) -> list[dict[str, Any]]:
    """Return the verdicts on the API, the latest first."""
    found: list[dict[str, Any]] = json.loads(agent.get("/api/v1/verdicts"))["verdicts"]
    return found


def by_container(agent: Agent) -> dict[str, list[dict[str, Any]]]:
    """Return the verdicts of each container, by its name, the first first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for verdict in reversed(verdicts(agent)):
        found.setdefault(verdict["container"], []).append(verdict)
    return found


def wait_for_deaths(agent: Agent, expected: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Wait until these containers have so many verdicts, and return all there are."""

    def missing() -> dict[str, int]:
        found = by_container(agent)
        return {name: count for name, count in expected.items() if len(found.get(name, ())) < count}

    wait_for(lambda: not missing(), 90, "deaths without a verdict")
    return by_container(agent)


def catches(pid: int) -> bool:
    """Whether the shell that is this init has got as far as its trap: it catches more than SIGCHLD."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in status if line.startswith(("Name", "SigCgt")))
    traps = (1 << signal.SIGTERM - 1) | (1 << signal.SIGQUIT - 1)
    return fields["Name"] == "sh" and bool(int(fields["SigCgt"], 16) & traps)  # the runtime that it was before catches all


def table(rows: Mapping[str, Row], found: Mapping[str, list[dict[str, Any]]]) -> str:
    """Spell expectation, verdict, and the word of the runtime, a line per death."""
    lines = [f"{'death':<28} {'expected':<12} {'verdict':<12} {'how':<8} {'runtime says':<28} evidence"]
    for name, row in rows.items():
        for verdict in found.get(name, []):
            evidence = "; ".join(verdict["evidence"][:1] or verdict["missing"][:1])
            lines.append(f"{row.what:<28} {row.cause:<12} {verdict['cause']:<12} {verdict['how'] or '-':<8} {row.runtime:<28} {evidence}")
    return "\n".join(lines)


def wrong(rows: Mapping[str, Row], found: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Name the deaths whose verdict is not the cause that is known."""
    return [
        f"{row.what}: {verdict['cause']} instead of {row.cause}"
        for name, row in rows.items()
        for verdict in found.get(name, [])
        if verdict["cause"] != row.cause and not (row.what in NEEDS_THE_STATUS and verdict["cause"] == "unknown" and verdict["missing"])
    ]
