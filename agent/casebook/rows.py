# ruff: noqa: S608 - the names in statements are those of our own tables
"""What tables should hold, and what of that the file does not hold yet: so that only what has changed is written, and nothing is lost."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agent.casebook import schema
from agent.casebook.schema import Execute, RowKey

Values = tuple[Any, ...]
Change = tuple[RowKey, Values | None]
"""A row to be written; None: to be deleted."""


class Rows:
    """The rows of some tables, in memory. The last one to change is the last."""

    def __init__(self, *tables: str) -> None:
        self._tables = tables
        self._rows: dict[RowKey, Values] = {}
        self._changed: dict[RowKey, None] = {}
        self.is_known = False
        """Whether the file holds these rows, but for what has changed; else nobody knows what it holds."""

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[RowKey]:
        return iter(self._rows)

    def items(self) -> Iterator[tuple[RowKey, Values]]:
        """Yield all rows, by table and key."""
        yield from self._rows.items()

    def get(self, key: RowKey) -> Values | None:
        """Return one row without its key; None if there is none."""
        return self._rows.get(key)

    def load(self, rows: Mapping[RowKey, Values]) -> None:
        """Take over what the file holds."""
        self._rows, self._changed, self.is_known = dict(rows), {}, True

    def put(self, key: RowKey, values: Values | None) -> None:
        """Set one row; None deletes it."""
        before = self._rows.pop(key, None)
        if values is not None:
            self._rows[key] = values
        if self.is_known and before != values:
            self._changed[key] = None

    def replace(self, rows: dict[RowKey, Values]) -> None:
        """Replace all rows by these."""
        if self.is_known:
            self._changed |= dict.fromkeys(key for key, values in rows.items() if self._rows.get(key) != values)
            self._changed |= dict.fromkeys(self._rows.keys() - rows.keys())
        self._rows = rows

    def changes(self, may_pass: Callable[[RowKey, Values | None], bool]) -> list[Change]:
        """Return what is to be written, but for rows that cannot be."""
        keys = self._changed if self.is_known else self._rows
        return [(key, self._rows.get(key)) for key in keys if may_pass(key, self._rows.get(key))]

    def begin(self, execute: Execute) -> None:
        """Empty the tables of a file of which nobody knows what it holds: all rows are changes then."""
        for table in () if self.is_known else self._tables:
            execute(f"DELETE FROM {table}")

    def kept(self) -> None:
        """Take note that the file holds all of them."""
        self._changed, self.is_known = {}, True

    def lost(self) -> None:
        """Take note that nobody knows what the file holds."""
        self._changed, self.is_known = {}, False


def write(execute: Execute, key: RowKey, values: Values | None) -> None:
    """Replace one row; None deletes it."""
    table, identifier = key
    if values is None:
        condition = " AND ".join(f"{column} = ?" for column in schema.KEYS[table])
        execute(f"DELETE FROM {table} WHERE {condition}", schema.plain(identifier))
    else:
        statement = schema.insert("INSERT OR REPLACE", table, tuple(schema.COLUMNS[table]))
        execute(statement, schema.plain((*identifier, *values)))
