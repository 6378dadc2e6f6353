# ruff: noqa: S608 - the names in statements are those of our own tables
"""Verdicts as the casebook has them: one row per instance that ended, the latest of them. No library: `execute` is SQLite's."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agent.casebook import schema
from agent.casebook.schema import Execute
from collectors.inquest.kill_state import Labels
from collectors.inquest.verdict import CAUSES, Verdict
from collectors.kernel.container_id import ContainerKey

KEEP_VERDICTS = 10_000
_LISTS = ("evidence", "missing", "sources", "timeline")
_COLUMNS = tuple(schema.COLUMNS["verdicts"])
_SHOWN = ("number", *_COLUMNS)


class CaseKey(NamedTuple):
    """One life of a container. Inodes mean nothing after another boot, so the boot is a part of it."""

    boot_id: str
    container: ContainerKey
    instance: int
    """As in a Verdict."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A verdict with the boot that its container lived in, and the labels that this had."""

    boot_id: str
    labels: Labels
    verdict: Verdict

    def row(self) -> tuple[Any, ...]:
        """Return it as a row. Raises ValueError, TypeError for what JSON cannot hold."""
        verdict = self.verdict
        facts = (getattr(verdict, column) for column in _COLUMNS[_COLUMNS.index("instance") : -len(_LISTS)])
        lists = (json.dumps(_plain(getattr(verdict, column)), allow_nan=False) for column in _LISTS)
        return schema.plain((self.boot_id, *self.labels, verdict.container, *facts, *lists))

    def misfit(self) -> str:
        """Say which value cannot be kept; empty if all can."""
        verdict = self.verdict
        if verdict.cause not in CAUSES:
            return f"cause is {schema.spelled((verdict.cause,))}"
        try:
            texts = [*verdict.evidence, *verdict.missing, *verdict.sources, *(text for _, text in verdict.timeline)]
            if all(isinstance(text, str) for text in texts):
                return schema.misfit("verdicts", self.row())
        except (TypeError, ValueError, RecursionError) as error:
            return str(error)
        return f"a text is {schema.spelled(texts)}"

    def bare(self, fault: str) -> "Closed":
        """Return it without what says more than that it ended and why."""
        verdict = self.verdict
        cause = verdict.cause if verdict.cause in CAUSES else "unknown"
        return Closed(
            self.boot_id,
            self.labels,
            Verdict(container=verdict.container, instance=verdict.instance, cause=cause, missing=(f"the record: {fault}",)),
        )


def add(execute: Execute, found: Iterable[Closed]) -> None:
    """Add verdicts of instances that have none yet; the oldest go when there are too many."""
    statement = schema.insert("INSERT OR IGNORE", "verdicts", _COLUMNS)
    for closed in found:
        execute(statement, closed.row())
    execute("DELETE FROM verdicts WHERE number <= (SELECT max(number) FROM verdicts) - ?", (KEEP_VERDICTS,))


def rename(execute: Execute, identifier: str, labels: Labels) -> None:
    """Call a container in all its verdicts as it is called by now."""
    execute(
        "UPDATE verdicts SET namespace = ?1, pod = ?2, container = ?3"
        " WHERE identifier = ?4 AND (namespace, pod, container) IS NOT (?1, ?2, ?3)",
        schema.plain((*labels, identifier)),
    )


def keys(execute: Execute) -> Iterator[CaseKey]:
    """Yield the instances that have a verdict, the oldest first."""
    for boot_id, identifier, instance in execute(
        f"SELECT boot_id, identifier, instance FROM verdicts WHERE {schema.fits('verdicts')} ORDER BY number"
    ):
        yield CaseKey(boot_id, ContainerKey(identifier), instance)


def settled(execute: Execute) -> dict[ContainerKey, tuple[float, list[int]]]:
    """Return when the last life of each container ended that has a verdict, seconds of the wall clock, and its lives in order."""
    found: dict[ContainerKey, tuple[float, list[int]]] = {}
    rows = execute(f"SELECT identifier, instance, coalesce(ended, time) FROM verdicts WHERE {schema.fits('verdicts')} ORDER BY number")
    for identifier, instance, ended in rows:
        key = ContainerKey(identifier)
        last, instances = found.get(key, (0.0, []))
        instances.append(instance)
        found[key] = max(last, ended), instances
    return found


def named(execute: Execute, since: float) -> dict[ContainerKey, Labels]:
    """Return what the containers were called that have ended since a time, in seconds of the wall clock."""
    rows = execute(
        f"SELECT identifier, namespace, pod, container FROM verdicts WHERE {schema.fits('verdicts')} AND coalesce(ended, time) >= ?"
        " ORDER BY number",
        (since,),
    )
    return {ContainerKey(identifier): tuple(labels) for identifier, *labels in rows}


def last_stops(execute: Execute) -> dict[Labels, tuple[float, str]]:
    """Return how many seconds the last stop of each container took, and the cause of that end, by its labels."""
    rows = execute(
        f"SELECT namespace, pod, container, stop_seconds, cause FROM verdicts WHERE {schema.fits('verdicts')} AND stop_seconds IS NOT NULL"
        " ORDER BY coalesce(ended, time), number"
    )
    return {tuple(labels): (seconds, cause) for *labels, seconds, cause in rows}


def equal(**wanted: object) -> dict[str, object]:
    """Return the columns that are to have a value; None is any."""
    return {column: value for column, value in wanted.items() if value is not None}


def latest(execute: Execute, most: int, since: float | None, wanted: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """Return the latest verdicts, newest first, of what ended since a time and has these columns, as rows for shown()."""
    conditions = [schema.fits("verdicts"), "coalesce(ended, time) >= ?", *(f"{column} = ?" for column in wanted)]
    rows = execute(
        f"SELECT {', '.join(_SHOWN)} FROM verdicts WHERE {' AND '.join(conditions)}"
        " ORDER BY coalesce(ended, time) DESC, number DESC LIMIT ?",
        schema.plain((since or 0, *wanted.values(), most)),
    )
    return list(rows)


def latest_of(found: Sequence[Closed], most: int, since: float | None, wanted: Mapping[str, object]) -> list[tuple[Any, ...]]:
    """Return what `latest` would, of verdicts that are in memory only: they have no number, and end now if it is not known when."""
    by_end = [(closed.verdict.ended or float("inf"), (None, *closed.row())) for closed in reversed(found)]
    positions = {column: _SHOWN.index(column) for column in wanted}
    return [
        row
        for ended, row in sorted(by_end, key=lambda each: -each[0])
        if ended >= (since or 0) and all(row[position] == wanted[column] for column, position in positions.items())
    ][:most]


def shown(rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return rows by column, lists as lists."""
    return [{column: _list(value) if column in _LISTS else value for column, value in zip(_SHOWN, row, strict=True)} for row in rows]


def _list(text: str) -> list[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return schema.plain((value,))[0]
