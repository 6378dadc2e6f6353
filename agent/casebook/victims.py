# ruff: noqa: S608 - the names in statements are those of our own tables
"""The victims of the OOM killer as the casebook has them: one record each, the latest of them. No library: `execute` is SQLite's."""

from collections.abc import Collection, Iterable
from dataclasses import astuple, fields, replace
from typing import Any

from agent.casebook import schema
from agent.casebook.schema import Execute
from collectors.inquest.kill_state import Victim

KEEP_VICTIMS = 10_000
_VICTIM = tuple(field.name for field in fields(Victim))


def misfit(victim: Victim) -> str:
    """Say which value of a victim cannot be kept; empty if all can."""
    return schema.misfit("victims", astuple(victim), _VICTIM)


def is_same(one: Victim, other: Victim) -> bool:
    """Whether both are of one kill: of the one more may be known."""
    return (one.sequence, one.comm, one.total_vm_bytes) == (other.sequence, other.comm, other.total_vm_bytes)


def add(execute: Execute, found: Iterable[Victim], boot_id: str) -> None:
    """Add victims, and give each the name that its container has by now, if that is still known; the oldest go when there are too many."""
    statement = schema.insert("INSERT", "victims", ("boot_id", *_VICTIM))
    for victim in found:
        execute(  # is_same(), if it is the last one
            "DELETE FROM victims WHERE number = (SELECT max(number) FROM victims)"
            " AND boot_id = ? AND sequence = ? AND comm = ? AND total_vm_bytes IS ?",
            schema.plain((boot_id, victim.sequence, victim.comm, victim.total_vm_bytes)),
        )
        execute(statement, schema.plain((boot_id, *astuple(replace(victim, pid=victim.pid or 0)))))
    execute(
        "UPDATE victims SET (namespace, pod, container) ="
        " (SELECT namespace, pod, container FROM names WHERE names.identifier = victims.identifier)"
        " WHERE EXISTS (SELECT 1 FROM names WHERE names.identifier = victims.identifier AND"
        " (names.namespace, names.pod, names.container) IS NOT (victims.namespace, victims.pod, victims.container))"
    )
    execute("DELETE FROM victims WHERE number <= (SELECT max(number) FROM victims) - ?", (KEEP_VICTIMS,))


def latest(execute: Execute, most: int, of: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Return the latest victims, newest first, with the labels of their containers: empty while there are none. `of`: ids of those."""
    columns = ("number", *schema.COLUMNS["victims"])
    whose = "" if of is None else f" AND identifier IN ({', '.join('?' * len(of))})"
    found = [
        dict(zip(columns, row, strict=True))
        for row in execute(
            f"SELECT {', '.join(columns)} FROM victims WHERE {schema.fits('victims')}{whose} ORDER BY number DESC LIMIT ?",
            schema.plain((*(of or ()), most)),
        )
    ]
    for victim in found:
        victim["pid"] = victim["pid"] or None  # its column came without NULL
        victim["is_init"] = None if victim["is_init"] is None else bool(victim["is_init"])
    return found
