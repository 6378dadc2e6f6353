# ruff: noqa: S608 - the names in statements are those of our own tables
"""The casebook's schema: how it came to be, version by version, and what may be in each column. No library: `execute` is SQLite's."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

Execute = Callable[..., Iterable[Any]]
"""Statement and values -> rows."""
RowKey = tuple[str, tuple[Any, ...]]
"""Table and primary key."""

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
    (  # to version 3: why containers ended, how often, and what is known of those that have not yet
        "CREATE TABLE verdicts (number INTEGER PRIMARY KEY AUTOINCREMENT,"
        " time INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)), boot_id TEXT NOT NULL, namespace TEXT NOT NULL,"
        " pod TEXT NOT NULL, container TEXT NOT NULL, identifier TEXT NOT NULL, instance INTEGER NOT NULL, cause TEXT NOT NULL,"
        " created REAL, started REAL, stop_requested REAL, ended REAL, removed REAL, exit_code INTEGER, signal INTEGER,"
        " stop_signal INTEGER, stop_seconds REAL, grace_seconds REAL, rule TEXT NOT NULL, how TEXT NOT NULL,"
        " evidence TEXT NOT NULL, missing TEXT NOT NULL, sources TEXT NOT NULL, timeline TEXT NOT NULL,"
        " UNIQUE (identifier, instance, boot_id))",
        "CREATE INDEX verdicts_by_end ON verdicts (coalesce(ended, time))",
        "CREATE TABLE deaths (namespace TEXT, pod TEXT, container TEXT, cause TEXT, count INTEGER NOT NULL,"
        " time INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)), PRIMARY KEY (namespace, pod, container, cause))"
        " WITHOUT ROWID",
        "CREATE TABLE open_cases (boot_id TEXT, identifier TEXT, instance INTEGER, facts TEXT NOT NULL,"
        " PRIMARY KEY (boot_id, identifier, instance)) WITHOUT ROWID",
    ),
)
"""The statements that lead from each version of the schema (PRAGMA user_version) to the next: literal text, never edited."""


def _columns(text: str) -> dict[str, str]:
    return dict(each.split() for each in text.split(", "))


NAME = ("namespace", "pod", "container")
_NAME = "namespace text, pod text, container text"
_BY_SCOPE = "container count, pod count, ancestor count, node count"
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "epoch": _columns("one count, boot_id text, sequence number?, time_us number?, started count, unnamed_of_ended count"),
    "lives": _columns(
        "identifier text, inode count, path text, kills_at_first count?, kills count, events count?, groups count?, ooms count,"
        f" ooms_settled count, settled count, guessed count, shared count, {_BY_SCOPE}"
    ),
    "slices": _columns(
        f"path text, inode count, kills_at_first count?, kills count, events count?, groups count?, counted count, {_BY_SCOPE}"
    ),
    "sums": _columns(f"name text, {_BY_SCOPE}"),
    "identities": _columns(f"{_NAME}, kills count"),
    "names": _columns(f"identifier text, {_NAME}"),
    "victims": _columns(
        f"boot_id text, {_NAME}, time seconds, sequence number, identifier text, cgroup text, scope text, limit_of text,"
        " limit_bytes count?, usage_bytes count?, pid count?, namespace_pid count?, is_init count?, comm text, uid count?,"
        " oom_score_adj number?, total_vm_bytes count?, anon_rss_bytes count?, file_rss_bytes count?, shmem_rss_bytes count?"
    ),
    "verdicts": _columns(
        f"boot_id text, {_NAME}, identifier text, instance count, cause text, created seconds?, started seconds?,"
        " stop_requested seconds?, ended seconds?, removed seconds?, exit_code number?, signal count?, stop_signal count?,"
        " stop_seconds seconds?, grace_seconds seconds?, rule text, how text, evidence text, missing text, sources text, timeline text"
    ),
    "deaths": _columns(f"{_NAME}, cause text, count count"),
    "open_cases": _columns("boot_id text, identifier text, instance count, facts text"),
}
"""What may be in each column: text, an integer that counts or is a `number` below 0 too, or seconds; `?` is one that may be unknown.

What SQLite fills in (`number`, and `time` by its default) is not here: no row is set aside for that.
"""

KEYS: Mapping[str, tuple[str, ...]] = {
    "epoch": ("one",),
    "lives": ("identifier", "inode"),
    "slices": ("path",),
    "sums": ("name",),
    "identities": NAME,
    "names": ("identifier",),
    "deaths": (*NAME, "cause"),
    "open_cases": ("boot_id", "identifier", "instance"),
}
"""The primary keys, the first columns, of tables whose rows change; to the others rows are only added."""

_LARGEST = (1 << 63) - 1
_END_OF_TIME = 1e15
_FORGOTTEN = ("victims", "identities", "verdicts", "deaths")
"""Tables with rows that nothing needs any more after so long a time."""


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


def version() -> int:
    """Return the newest version, which this Coroner writes."""
    return len(MIGRATIONS)


def migrate(execute: Execute, version: int) -> None:
    """Lead a file from one version to the newest, and ask for every column. Raises SQLITE_ERROR if it has not the tables it should have."""
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        with transaction(execute):
            for statement in statements:
                execute(statement)
            execute(f"PRAGMA user_version={number}")
    for table in COLUMNS:
        execute(f"SELECT count(*) FROM {table} WHERE 0 AND {fits(table)}")


def forget(execute: Execute, seconds: float) -> None:
    """Drop victims and verdicts, and counters that have not risen since, after so long a time."""
    for table in _FORGOTTEN:
        execute(f"DELETE FROM {table} WHERE time < CAST(strftime('%s', 'now') AS INTEGER) - ?", (seconds,))


def drop_misfits(execute: Execute) -> dict[str, int]:
    """Delete the rows in the file that were not written like this, and would break whoever reads them; return how many, by table."""
    dropped = {}
    for table in COLUMNS:
        [[number]] = execute(f"SELECT count(*) FROM {table} WHERE NOT ({fits(table)})")
        if number:
            dropped[table] = number
            execute(f"DELETE FROM {table} WHERE NOT ({fits(table)})")
    return dropped


def misfit(table: str, values: Iterable[object], columns: Iterable[str] | None = None) -> str:
    """Say which value keeps a row out of its table; empty if none does. SQLite's integers have 64 bits, and JSON has no infinity."""
    kinds = COLUMNS[table]
    for column, value in zip(columns or kinds, values, strict=True):
        match kinds[column].removesuffix("?"):
            case _ if value is None:
                has_place = kinds[column].endswith("?")
            case "text":
                has_place = isinstance(value, str)
            case "seconds":
                has_place = isinstance(value, int | float) and 0 <= value <= _END_OF_TIME
            case kind:
                has_place = isinstance(value, int) and (-_LARGEST if kind == "number" else 0) <= value <= _LARGEST
        if not has_place:
            return f"{column} is {spelled((value,))}"
    return ""


def fits(table: str) -> str:
    """Return the condition that misfit() is, in SQL: a column of SQLite holds values of any type."""
    conditions = []
    for column, kind in COLUMNS[table].items():
        match kind.removesuffix("?"):
            case "text":
                has_place = f"typeof({column}) = 'text'"
            case "seconds":
                has_place = f"typeof({column}) IN ('integer', 'real') AND {column} BETWEEN 0 AND {_END_OF_TIME}"
            case "number":
                has_place = f"typeof({column}) = 'integer'"
            case _:
                has_place = f"typeof({column}) = 'integer' AND {column} >= 0"
        conditions.append(f"({column} IS NULL OR {has_place})" if kind.endswith("?") else f"({has_place})")
    return " AND ".join(conditions)


def select(table: str) -> str:
    """Return the query for all sound rows of a table, with the columns as they stand in COLUMNS."""
    return f"SELECT {', '.join(COLUMNS[table])} FROM {table} WHERE {fits(table)}"


def insert(how: str, table: str, columns: Sequence[str]) -> str:
    """Return the statement that inserts one row: `how` is INSERT, INSERT OR IGNORE, INSERT OR REPLACE."""
    return f"{how} INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def spelled(row: Iterable[object]) -> str:
    """Spell a row for the log, whatever is in it: Python refuses to write the digits of a very large number."""
    return ", ".join([_spelled(each) for each in row])[:1000]


def plain(values: Iterable[Any]) -> tuple[Any, ...]:
    """Spell text as SQLite can keep it: a cgroup's name may be any bytes, which Python holds as surrogates."""
    return tuple(value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value for value in values)


def _spelled(value: object) -> str:
    try:
        return hex(value) if isinstance(value, int) and abs(value) > _LARGEST else repr(value)
    except ValueError:
        return f"a {type(value).__name__} that cannot be spelled"
