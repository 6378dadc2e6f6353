# ruff: noqa: S608 - the names in statements are those of our own tables
"""The casebook's tables, and how the kill ledger's state becomes rows and rows become state. No library: `execute` is SQLite's."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from operator import attrgetter
from typing import Any

from collectors.accounts import SCOPES, Cursor, Life, State, Victim
from collectors.slices import Slice

Execute = Callable[..., Iterable[Any]]
"""Statement and values -> rows."""
RowKey = tuple[str, tuple[Any, ...]]
"""Table and primary key."""

KEEP_VICTIMS = 10_000
_ONE = (1,)
_COUNTS = " INTEGER NOT NULL, ".join(SCOPES) + " INTEGER NOT NULL"
_NOW = "CAST(strftime('%s', 'now') AS INTEGER)"

MIGRATIONS = (
    (  # to version 1
        "CREATE TABLE epoch (one INTEGER PRIMARY KEY CHECK (one = 1), boot_id TEXT NOT NULL, sequence INTEGER, time_us INTEGER,"
        " started INTEGER NOT NULL, unnamed_of_ended INTEGER NOT NULL)",
        "CREATE TABLE lives (identifier TEXT, inode INTEGER, path TEXT NOT NULL, kills_at_first INTEGER, kills INTEGER NOT NULL,"
        " ooms INTEGER NOT NULL, ooms_settled INTEGER NOT NULL, settled INTEGER NOT NULL, guessed INTEGER NOT NULL,"
        f" shared INTEGER NOT NULL, {_COUNTS},"
        " PRIMARY KEY (identifier, inode)) WITHOUT ROWID",
        "CREATE TABLE slices (path TEXT PRIMARY KEY, inode INTEGER NOT NULL, kills_at_first INTEGER, kills INTEGER NOT NULL,"
        f" counted INTEGER NOT NULL, {_COUNTS}) WITHOUT ROWID",
        f"CREATE TABLE sums (name TEXT PRIMARY KEY, {_COUNTS}) WITHOUT ROWID",
        "CREATE TABLE identities (namespace TEXT, pod TEXT, container TEXT, kills INTEGER NOT NULL,"
        f" time INTEGER NOT NULL DEFAULT ({_NOW}), PRIMARY KEY (namespace, pod, container))",
        "CREATE TABLE names (identifier TEXT PRIMARY KEY, namespace TEXT NOT NULL, pod TEXT NOT NULL, container TEXT NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE victims (number INTEGER PRIMARY KEY AUTOINCREMENT, boot_id TEXT NOT NULL, namespace TEXT NOT NULL DEFAULT '',"
        " pod TEXT NOT NULL DEFAULT '', container TEXT NOT NULL DEFAULT '', sequence INTEGER NOT NULL,"
        " time REAL NOT NULL, identifier TEXT NOT NULL, cgroup TEXT NOT NULL, scope TEXT NOT NULL, limit_of TEXT NOT NULL,"
        " limit_bytes INTEGER, usage_bytes INTEGER, pid INTEGER NOT NULL, namespace_pid INTEGER, is_init INTEGER, comm TEXT NOT NULL,"
        " uid INTEGER, oom_score_adj INTEGER, total_vm_bytes INTEGER, anon_rss_bytes INTEGER, file_rss_bytes INTEGER,"
        " shmem_rss_bytes INTEGER)",
        "CREATE INDEX victims_by_time ON victims (time)",
    ),
    (  # to version 2: how many of the kills may have been counted twice
        "ALTER TABLE lives ADD COLUMN events INTEGER",
        "ALTER TABLE lives ADD COLUMN groups INTEGER",
        "ALTER TABLE slices ADD COLUMN events INTEGER",
        "ALTER TABLE slices ADD COLUMN groups INTEGER",
    ),
)
"""The statements that lead from each version of the schema (PRAGMA user_version) to the next. What was released is never edited."""

_LIFE = ("path", "kills_at_first", "kills", "events", "groups", "ooms", "ooms_settled", "settled", "guessed", "shared")
_SLICE = ("inode", "kills_at_first", "kills", "events", "groups", "counted")
_NAME = ("namespace", "pod", "container")
_VICTIM = tuple(field.name for field in fields(Victim))
_TABLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "epoch": (("one",), ("boot_id", "sequence", "time_us", "started", "unnamed_of_ended")),
    "lives": (("identifier", "inode"), (*_LIFE, *SCOPES)),
    "slices": (("path",), (*_SLICE, *SCOPES)),
    "sums": (("name",), SCOPES),
    "identities": (_NAME, ("kills",)),
    "names": (("identifier",), _NAME),
}
"""The columns of the key and the others, of each table that holds the state."""

_of_life, _of_slice = attrgetter(*_LIFE), attrgetter(*_SLICE)


def rows(state: State, boot_id: str) -> dict[RowKey, tuple[Any, ...]]:
    """Return the whole state as rows. What is assumed without a row has none: most containers never see a kill."""
    cursor = state.cursor or (None, None)
    found: dict[RowKey, tuple[Any, ...]] = {("epoch", _ONE): (boot_id, *cursor, int(state.started), state.unnamed_of_ended)}
    for key, life in state.lives.items():
        if not life.is_blank:
            found["lives", key] = (*_of_life(life), *_counts(life.by_scope))
    for path, one in state.slices.items():
        found["slices", (path,)] = (*_of_slice(one), *_counts(one.guessed))
    for name, by_scope in state.sums.items():
        found["sums", (name,)] = _counts(by_scope)
    for labels, kills in state.identities.items():
        found["identities", labels] = (kills,)
    for identifier, labels in state.names.items():
        found["names", (identifier,)] = labels
    return found


def read(execute: Execute) -> State | None:
    """Return the whole state; None if there is none yet."""
    epoch = next(iter(execute(_select("epoch"))), None)
    if epoch is None:
        return None
    _, _, sequence, time_us, started, unnamed_of_ended = epoch
    return State(
        cursor=None if time_us is None else Cursor(sequence, time_us),
        started=bool(started),
        unnamed_of_ended=unnamed_of_ended,
        lives={
            (identifier, inode): Life(**dict(zip(_LIFE, values, strict=False)), by_scope=_scopes(values[len(_LIFE) :]))
            for identifier, inode, *values in execute(_select("lives"))
        },
        slices={
            path: Slice(**dict(zip(_SLICE, values, strict=False)), guessed=_scopes(values[len(_SLICE) :]))
            for path, *values in execute(_select("slices"))
        },
        sums={row[0]: _scopes(row[1:]) for row in execute(_select("sums"))},
        identities={tuple(row[:3]): row[3] for row in execute(f"{_select('identities')} ORDER BY time, rowid")},
        names={row[0]: tuple(row[1:]) for row in execute(_select("names"))},
    )


def write(execute: Execute, key: RowKey, values: Sequence[object] | None) -> None:
    """Replace one row; None deletes it."""
    table, identifier = key
    keys, others = _TABLES[table]
    if values is None:
        execute(f"DELETE FROM {table} WHERE {' AND '.join(f'{column} = ?' for column in keys)}", _plain(identifier))
    else:
        columns = (*keys, *others)
        statement = f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        execute(statement, _plain((*identifier, *values)))


def clear(execute: Execute) -> None:
    """Drop the state, but no victim."""
    for table in _TABLES:
        execute(f"DELETE FROM {table}")


def add_victims(execute: Execute, found: Iterable[Victim], boot_id: str) -> None:
    """Add victims, and give every one without a name the one that its container has by now; the oldest go when there are too many."""
    columns = ("boot_id", *_VICTIM)
    for victim in found:
        statement = f"INSERT INTO victims ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        execute(statement, _plain((boot_id, *astuple(victim))))
    execute(
        "UPDATE victims SET (namespace, pod, container) ="
        " (SELECT namespace, pod, container FROM names WHERE names.identifier = victims.identifier)"
        " WHERE container = '' AND identifier IN (SELECT identifier FROM names)"
    )
    execute("DELETE FROM victims WHERE number <= (SELECT max(number) FROM victims) - ?", (KEEP_VICTIMS,))


def forget(execute: Execute, seconds: float) -> None:
    """Drop victims, and identities that nothing was counted for, after so long a time."""
    execute(f"DELETE FROM victims WHERE time < {_NOW} - ?", (seconds,))
    execute(f"DELETE FROM identities WHERE time < {_NOW} - ?", (seconds,))


def victims(execute: Execute, most: int) -> list[dict[str, Any]]:
    """Return the latest victims, newest first, with the labels of their containers: empty while there are none."""
    columns = ("number", "boot_id", *_NAME, *_VICTIM)
    found = [
        dict(zip(columns, row, strict=True))
        for row in execute(f"SELECT {', '.join(columns)} FROM victims ORDER BY number DESC LIMIT ?", (most,))
    ]
    for victim in found:
        victim["is_init"] = None if victim["is_init"] is None else bool(victim["is_init"])
    return found


def _select(table: str) -> str:
    keys, others = _TABLES[table]
    return f"SELECT {', '.join((*keys, *others))} FROM {table}"


def _plain(values: Iterable[Any]) -> tuple[Any, ...]:
    """Spell text as SQLite can keep it: a cgroup's name may be any bytes, which Python holds as surrogates."""
    return tuple(value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value for value in values)


def _counts(by_scope: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(by_scope.get(scope, 0) for scope in SCOPES)


def _scopes(counts: Sequence[int]) -> Counter[str]:
    return Counter({scope: count for scope, count in zip(SCOPES, counts, strict=True) if count})
