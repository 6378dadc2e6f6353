"""A look into the casebook of an agent that runs beside: without its lock, without a write. In WAL mode a reader stops no writer."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from agent.casebook import kills, schema, verdicts
from agent.casebook.cases import Cases, Deaths
from agent.casebook.file import FILE, as_text, boot_id, uri
from agent.casebook.schema import Execute
from collectors.inquest.kill_state import State

log = logging.getLogger(__name__)


class CannotPeek(Exception):
    """There is no casebook to read; the message says where, and why."""


def peek(directory: str, proc_root: str) -> tuple[State | None, bool]:
    """Return what an agent keeps of the kill ledger, as Casebook.open does. Never raises."""
    try:
        return _peek(directory, boot_id(proc_root))
    except Exception as error:  # noqa: BLE001 - one page is made without it, and says so
        log.warning("no casebook to read: OOM kills are left out, nobody knows how many there were", extra={"reason": str(error)})
        return None, True


def peek_deaths(directory: str) -> Deaths:
    """Return what an agent keeps of deaths, as Casebook.deaths does. Raises CannotPeek."""
    with _reading(directory) as execute:
        cases = Cases()
        cases.load(execute)
        return cases.counted()


def peek_verdicts(
    directory: str,
    most: int,
    since: float | None = None,
    *,
    namespace: str | None = None,
    container: str | None = None,
    cause: str | None = None,
    number: int | None = None,
) -> list[dict[str, Any]]:
    """Return what Casebook.verdicts would. Raises CannotPeek."""
    with _reading(directory) as execute:
        wanted = verdicts.equal(namespace=namespace, container=container, cause=cause, number=number)
        return verdicts.shown(verdicts.latest(execute, most, since, wanted))


def _peek(directory: str, boot: str) -> tuple[State | None, bool]:
    if not boot:
        raise CannotPeek("the kernel's boot_id cannot be read (sys/kernel/random/boot_id below --path.procfs)")
    with _reading(directory) as execute:
        state, boot_of_state = kills.read(execute)
        return state, state is not None and boot_of_state == boot


@contextmanager
def _reading(directory: str) -> Iterator[Execute]:
    """Open the file in a directory to read from it, all of one moment."""
    if not directory:
        raise CannotPeek("--path.state is empty")
    path = f"{directory}/{FILE}"
    how = (
        "mode=ro" if os.path.exists(f"{path}-wal") else "mode=ro&immutable=1"
    )  # without a log nobody writes, and SQLite shall not make one
    try:
        with closing(sqlite3.connect(uri(path, how), uri=True, timeout=1)) as connection:
            connection.text_factory = as_text
            connection.execute("BEGIN")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != schema.version():
                raise CannotPeek(f"{path}: made by another Coroner (schema {version}, this one knows {schema.version()})")
            yield connection.execute
    except sqlite3.Error as error:
        raise CannotPeek(f"{path}: {error}") from error
