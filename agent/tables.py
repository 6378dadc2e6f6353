# ruff: noqa: S608 - the names in statements are those of our own tables
"""The casebook's tables, and how the kill ledger's state becomes rows and rows become state. No library: `execute` is SQLite's."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, fields, replace
from operator import attrgetter
from typing import Any, get_args, get_type_hints

from collectors.inquest.instances import InstanceKills
from collectors.inquest.kill_state import Cursor, State, Victim
from collectors.inquest.scope import SCOPES
from collectors.inquest.top_cgroups import TopCgroup
from collectors.kernel.container_id import ContainerKey

Execute = Callable[..., Iterable[Any]]
"""Statement and values -> rows."""
RowKey = tuple[str, tuple[Any, ...]]
"""Table and primary key."""

KEEP_VICTIMS = 10_000
_ONE = (1,)
_NOW = "CAST(strftime('%s', 'now') AS INTEGER)"

MIGRATIONS = (
    (  # to version 1
        "CREATE TABLE epoch (one INTEGER PRIMARY KEY CHECK (one = 1), boot_id TEXT NOT NULL, sequence INTEGER, time_us INTEGER,"
        " started INTEGER NOT NULL, unnamed_of_ended INTEGER NOT NULL)",
        "CREATE TABLE lives (identifier TEXT, inode INTEGER, path TEXT NOT NULL, kills_at_first INTEGER, kills INTEGER NOT NULL,"
        " ooms INTEGER NOT NULL, ooms_settled INTEGER NOT NULL, settled INTEGER NOT NULL, guessed INTEGER NOT NULL,"
        " shared INTEGER NOT NULL, container INTEGER NOT NULL, pod INTEGER NOT NULL, ancestor INTEGER NOT NULL, node INTEGER NOT NULL,"
        " PRIMARY KEY (identifier, inode)) WITHOUT ROWID",
        "CREATE TABLE slices (path TEXT PRIMARY KEY, inode INTEGER NOT NULL, kills_at_first INTEGER, kills INTEGER NOT NULL,"
        " counted INTEGER NOT NULL,"
        " container INTEGER NOT NULL, pod INTEGER NOT NULL, ancestor INTEGER NOT NULL, node INTEGER NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE sums (name TEXT PRIMARY KEY,"
        " container INTEGER NOT NULL, pod INTEGER NOT NULL, ancestor INTEGER NOT NULL, node INTEGER NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE identities (namespace TEXT, pod TEXT, container TEXT, kills INTEGER NOT NULL,"
        " time INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)), PRIMARY KEY (namespace, pod, container))",
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
"""The statements that lead from each version of the schema (PRAGMA user_version) to the next: literal text, never edited."""

_INSTANCE = ("path", "kills_at_first", "kills", "events", "groups", "ooms", "ooms_settled", "settled", "guessed", "shared")
_TOP_CGROUP = ("inode", "kills_at_first", "kills", "events", "groups", "counted")
_NAME = ("namespace", "pod", "container")
_VICTIM = tuple(field.name for field in fields(Victim))
_TABLES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "epoch": (("one",), ("boot_id", "sequence", "time_us", "started", "unnamed_of_ended")),
    "lives": (("identifier", "inode"), (*_INSTANCE, *SCOPES)),
    "slices": (("path",), (*_TOP_CGROUP, *SCOPES)),
    "sums": (("name",), SCOPES),
    "identities": (_NAME, ("kills",)),
    "names": (("identifier",), _NAME),
}
"""The columns of the key and the others, of each table that holds the state."""

_COLUMNS = {table: (*keys, *others) for table, (keys, others) in _TABLES.items()} | {"victims": ("boot_id", *_NAME, *_VICTIM)}
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "epoch": ("boot_id",),
    "lives": ("identifier", "path"),
    "slices": ("path",),
    "sums": ("name",),
    "identities": _NAME,
    "names": ("identifier", *_NAME),
    "victims": ("boot_id", *_NAME, "identifier", "cgroup", "scope", "limit_of", "comm"),
}
_MAY_BE_NULL: Mapping[str, tuple[str, ...]] = {
    "epoch": ("sequence", "time_us"),
    "lives": ("kills_at_first", "events", "groups"),
    "slices": ("kills_at_first", "events", "groups"),
    "victims": tuple(name for name, kind in get_type_hints(Victim).items() if type(None) in get_args(kind)),
}
_SIGNED = ("sequence", "time_us", "oom_score_adj")
"""What is no count: text, what may be unknown, numbers that may be below 0. All other columns are counts, but for the time."""
_LARGEST = (1 << 63) - 1
_END_OF_TIME = 1e15

_STORED_NAMES = {"without_cgroup": "nameless"}
"""Sums that have another name in the file."""

_of_instance, _of_top_cgroup = attrgetter(*_INSTANCE), attrgetter(*_TOP_CGROUP)


@contextmanager
def transaction(execute: Execute) -> Iterator[None]:
    """BEGIN IMMEDIATE; COMMIT, or ROLLBACK when anything was raised."""
    execute("BEGIN IMMEDIATE")
    try:
        yield
        execute("COMMIT")
    except BaseException:
        with suppress(Exception):  # SQLite has rolled back itself
            execute("ROLLBACK")
        raise


def migrate(execute: Execute, version: int) -> None:
    """Lead a file from one version to the newest, and ask for every column. Raises SQLITE_ERROR if it has not the tables it should have."""
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        with transaction(execute):
            for statement in statements:
                execute(statement)
            execute(f"PRAGMA user_version={number}")
    for table in _COLUMNS:
        execute(f"SELECT count(*) FROM {table} WHERE 0 AND {_fits(table)}")


def rows(state: State, boot_id: str) -> dict[RowKey, tuple[Any, ...]]:
    """Return the whole state as rows. What is assumed without a row has none: most containers never see a kill."""
    cursor = state.cursor or (None, None)
    found: dict[RowKey, tuple[Any, ...]] = {("epoch", _ONE): (boot_id, *cursor, int(state.started), state.unnamed_of_ended)}
    for key, instance in state.instances.items():
        if not instance.is_blank:
            found["lives", key] = (*_of_instance(instance), *_counts(instance.by_scope))
    for path, top in state.top_cgroups.items():
        found["slices", (path,)] = (*_of_top_cgroup(top), *_counts(top.guessed))
    for name, by_scope in state.sums.items():
        found["sums", (_STORED_NAMES.get(name, name),)] = _counts(by_scope)
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
    names_here = {stored: name for name, stored in _STORED_NAMES.items()}
    return State(
        cursor=None if time_us is None else Cursor(sequence, time_us),
        started=bool(started),
        unnamed_of_ended=unnamed_of_ended,
        instances={
            (ContainerKey(identifier), inode): InstanceKills(
                **dict(zip(_INSTANCE, values, strict=False)), by_scope=_scopes(values[len(_INSTANCE) :])
            )
            for identifier, inode, *values in execute(_select("lives"))
        },
        top_cgroups={
            path: TopCgroup(**dict(zip(_TOP_CGROUP, values, strict=False)), guessed=_scopes(values[len(_TOP_CGROUP) :]))
            for path, *values in execute(_select("slices"))
        },
        sums={names_here.get(row[0], row[0]): _scopes(row[1:]) for row in execute(_select("sums"))},
        identities={tuple(row[:3]): row[3] for row in execute(f"{_select('identities')} ORDER BY time, rowid")},
        names={ContainerKey(row[0]): tuple(row[1:]) for row in execute(_select("names"))},
    )


def misfit(table: str, values: Iterable[object], columns: Iterable[str] | None = None) -> str:
    """Say which value keeps a row out of its table; empty if none does. SQLite's integers have 64 bits, and JSON has no infinity."""
    for column, value in zip(columns or _COLUMNS[table], values, strict=True):
        if value is None:
            fits = column in _MAY_BE_NULL.get(table, ())
        elif column in _TEXTS[table]:
            fits = isinstance(value, str)
        elif column == "time":
            fits = isinstance(value, int | float) and 0 <= value <= _END_OF_TIME
        else:
            fits = isinstance(value, int) and (-_LARGEST if column in _SIGNED else 0) <= value <= _LARGEST
        if not fits:
            return f"{column} is {spelled((value,))}"
    return ""


def spelled(row: Iterable[object]) -> str:
    """Spell a row for the log, whatever is in it: Python refuses to write the digits of a very large number."""
    return ", ".join([hex(each) if isinstance(each, int) and abs(each) > _LARGEST else repr(each) for each in row])[:1000]


def is_same(one: Victim, other: Victim) -> bool:
    """Whether both are of one kill: of the one more may be known."""
    return (one.sequence, one.comm, one.total_vm_bytes) == (other.sequence, other.comm, other.total_vm_bytes)


def misfit_victim(victim: Victim) -> str:
    """Say which value of a victim cannot be kept; empty if all can."""
    return misfit("victims", astuple(victim), _VICTIM)


def drop_misfits(execute: Execute) -> dict[str, int]:
    """Delete the rows in the file that were not written like this, and would break whoever reads them; return how many, by table."""
    dropped = {}
    for table in _COLUMNS:
        [[number]] = execute(f"SELECT count(*) FROM {table} WHERE NOT ({_fits(table)})")
        if number:
            dropped[table] = number
            execute(f"DELETE FROM {table} WHERE NOT ({_fits(table)})")
    return dropped


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
    """Add victims, and give each the name that its container has by now, if that is still known; the oldest go when there are too many."""
    columns = ("boot_id", *_VICTIM)
    for victim in found:
        execute(  # is_same(), if it is the last one
            "DELETE FROM victims WHERE number = (SELECT max(number) FROM victims)"
            " AND boot_id = ? AND sequence = ? AND comm = ? AND total_vm_bytes IS ?",
            _plain((boot_id, victim.sequence, victim.comm, victim.total_vm_bytes)),
        )
        statement = f"INSERT INTO victims ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        execute(statement, _plain((boot_id, *astuple(replace(victim, pid=victim.pid or 0)))))
    execute(
        "UPDATE victims SET (namespace, pod, container) ="
        " (SELECT namespace, pod, container FROM names WHERE names.identifier = victims.identifier)"
        " WHERE EXISTS (SELECT 1 FROM names WHERE names.identifier = victims.identifier AND"
        " (names.namespace, names.pod, names.container) IS NOT (victims.namespace, victims.pod, victims.container))"
    )
    execute("DELETE FROM victims WHERE number <= (SELECT max(number) FROM victims) - ?", (KEEP_VICTIMS,))


def forget(execute: Execute, seconds: float) -> None:
    """Drop victims, and identities that nothing was counted for, after so long a time."""
    execute(f"DELETE FROM victims WHERE time < {_NOW} - ?", (seconds,))
    execute(f"DELETE FROM identities WHERE time < {_NOW} - ?", (seconds,))


def victims(execute: Execute, most: int) -> list[dict[str, Any]]:
    """Return the latest victims, newest first, with the labels of their containers: empty while there are none."""
    columns = ("number", *_COLUMNS["victims"])
    found = [
        dict(zip(columns, row, strict=True))
        for row in execute(f"SELECT {', '.join(columns)} FROM victims WHERE {_fits('victims')} ORDER BY number DESC LIMIT ?", (most,))
    ]
    for victim in found:
        victim["pid"] = victim["pid"] or None  # its column came without NULL
        victim["is_init"] = None if victim["is_init"] is None else bool(victim["is_init"])
    return found


def _select(table: str) -> str:
    return f"SELECT {', '.join(_COLUMNS[table])} FROM {table} WHERE {_fits(table)}"


def _fits(table: str) -> str:
    """Return the condition that misfit() is, in SQL: a column of SQLite holds values of any type."""
    conditions = []
    for column in _COLUMNS[table]:
        if column in _TEXTS[table]:
            fits = f"typeof({column}) = 'text'"
        elif column == "time":
            fits = f"typeof({column}) IN ('integer', 'real') AND {column} BETWEEN 0 AND {_END_OF_TIME}"
        else:
            fits = f"typeof({column}) = 'integer'" + ("" if column in _SIGNED else f" AND {column} >= 0")
        conditions.append(f"({column} IS NULL OR {fits})" if column in _MAY_BE_NULL.get(table, ()) else f"({fits})")
    return " AND ".join(conditions)


def _plain(values: Iterable[Any]) -> tuple[Any, ...]:
    """Spell text as SQLite can keep it: a cgroup's name may be any bytes, which Python holds as surrogates."""
    return tuple(value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value for value in values)


def _counts(by_scope: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(by_scope.get(scope, 0) for scope in SCOPES)


def _scopes(counts: Sequence[int]) -> Counter[str]:
    return Counter({scope: count for scope, count in zip(SCOPES, counts, strict=True) if count})
