"""Rows of the casebook as people read them: whose, when, how. Pure.

What containers and runtimes wrote (names, programs) may hold anything. It is made visible, so that no terminal obeys it.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from collectors.inquest.exit_status import name_of
from collectors.inquest.stops import is_possible
from collectors.inquest.verdict import Verdict
from collectors.kernel.container_id import ContainerKey

Row = Mapping[str, Any]
"""A verdict as the casebook shows it, by column."""

UNKNOWN = "-"

_TEXTS = ("cause", "rule", "how")


def visible(text: str) -> str:
    """Spell what cannot be printed, such as escapes, line ends and marks of direction, as Python does."""
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text])


def verdict_of(row: Row) -> Verdict:
    """Return the verdict in a row, all its text visible. What is in a list and should not be is left out: it may have been edited."""
    facts = {field.name: row[field.name] for field in fields(Verdict)}
    facts |= {column: visible(row[column]) for column in _TEXTS}
    facts |= {
        column: tuple(visible(each) for each in row[column] if isinstance(each, str)) for column in ("evidence", "missing", "sources")
    }
    timeline = tuple((each[0], visible(each[1])) for each in row["timeline"] if _is_line(each))
    return Verdict(**facts | {"container": ContainerKey(visible(row["identifier"])), "timeline": timeline})


def whose(row: Row) -> str:
    """Return namespace/pod/container, as far as it has them; the first digits of its id if it has no name."""
    names = [row[column] for column in ("namespace", "pod", "container") if row[column]]
    return visible("/".join(names) or ContainerKey(row["identifier"]).id[:12] or UNKNOWN)


def utc(seconds: object) -> str:
    """Spell a time of the wall clock, in a form that --since takes."""
    if not isinstance(seconds, int | float) or not is_possible(seconds):
        return UNKNOWN
    try:
        return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):  # after the year 9999
        return f"{seconds:.0f}"


def exit_of(verdict: Verdict) -> str:
    """Name the signal that ended it, or its exit code."""
    if verdict.signal is not None:
        return name_of(verdict.signal)
    return UNKNOWN if verdict.exit_code is None else str(verdict.exit_code)


def span(seconds: float) -> str:
    """Spell a duration, however long."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    parts = [(days, "d"), (hour, "h"), (minute, "min"), (second, "s")]
    first = next(place for place, (amount, _) in enumerate(parts) if amount)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2])


def _is_line(each: object) -> bool:
    match each:
        case [int() | float() as time, str()]:
            return is_possible(time)
    return False
