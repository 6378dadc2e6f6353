"""The casebook: what must outlive the agent, in one SQLite file below --path.state. Event counters, victims, place in the kernel log.

Everything that belongs to one event is one transaction, made before anybody can see it, so a SIGKILL at any moment loses nothing and
counts nothing twice. WAL with synchronous=NORMAL: the death of the process costs nothing; a power failure may cost the transactions
since the last checkpoint, never the file. Whatever fails, the agent runs on with what it has in memory, and says so.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from agent import tables
from agent.aside import Aside
from agent.tables import RowKey
from agent.words import in_words
from collectors.base import Sample, counter, gauge
from collectors.inquest.kill_state import State, Victim
from collectors.kernel.files import ReadError, read_once

UP = gauge(
    "coroner_casebook_up",
    (
        "1 while counters and victims are stored in --path.state; 0: in memory only, a restart forgets them. Absent when "
        "--path.state is empty."
    ),
    (),
)
SAVES = counter("coroner_casebook_saves_total", "Transactions written to the casebook since the agent started.", ())
FAILURES = counter("coroner_casebook_failures_total", "Failed reads and writes of the casebook.", ())

METRICS = (UP, SAVES, FAILURES)

FILE = "casebook.sqlite"
VERSION = len(tables.MIGRATIONS)
KEEP_SECONDS = 30 * 24 * 3600
RETRY_SECONDS = 10.0
TIDY_SECONDS = 3600.0
LOOK_SECONDS = 5.0
LONGEST_LOG = 1 << 20
"""Bytes of the write-ahead log: some 70 kills."""
_BUSY_SECONDS = 0.02
"""Nobody else writes (see _lock); whoever does all the same must not stop the event loop."""

log = logging.getLogger(__name__)


def boot_id(proc_root: str) -> str:
    """The kernel's name for this boot (/proc/sys/kernel/random/boot_id); empty when it cannot be read."""
    try:
        return read_once(f"{proc_root}/sys/kernel/random/boot_id").decode(errors="replace").strip()
    except ReadError:
        return ""


class _NotOurs(Exception):
    """There is a casebook, and it is not to be touched."""


class _Broken(Exception):
    """It cannot be gone on with."""


_BROKEN = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
"""Broken inside; else it is the file system's matter, or a fault of ours, for which no file is given up."""


class Casebook:
    """Keeps the ledger's state in a file as long as that goes, and says why when it does not. Any thread may use it."""

    def __init__(self, directory: str, proc_root: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.reason = "not opened yet"
        self._directory = directory
        self._path = f"{directory}/{FILE}"
        self._proc_root, self._boot = proc_root, ""
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._lock_fd: int | None = None
        self._shape = (0, 0)
        self._may_write = False
        self._retry_at = 0.0
        self._written: Mapping[RowKey, tuple[Any, ...]] | None = None
        """What the file holds; None: nobody knows."""
        self._unsaved: deque[Victim] = deque(maxlen=1000)
        self._aside = Aside()
        self._saves = self._failures = 0

    def open(self) -> tuple[State | None, bool]:
        """Return what was kept (None: nothing), and whether it is of this boot. Never raises."""
        if not self._directory:
            self._down("--path.state is empty: counters and victims are kept in memory only", failed=False)
            return None, True
        self._boot = boot_id(self._proc_root)
        if not self._boot:
            path = f"{self._proc_root}/sys/kernel/random/boot_id"
            self._down(f"{path} cannot be read (--path.procfs), so the place in the kernel's log cannot be kept: memory only")
            return None, True
        with self._mutex:
            self._may_write = _shape(self._path)[1] == 0  # else a history that could not be read now would be lost later
            try:
                return self._load(self._connect())
            except Exception as error:  # noqa: BLE001 - what counts kills runs on whatever the file does; _fail says it
                self._fail(error)
            return None, True

    def save(self, state: State, victim: Victim | None = None) -> None:
        """Keep what has changed, in one transaction. Never raises: what could not be kept is tried again with what is saved next."""
        with self._mutex:
            try:
                if victim is not None and self._aside.lets_pass(victim):
                    if self._unsaved and tables.is_same(self._unsaved[-1], victim):
                        self._unsaved.pop()  # more is known of it by now
                    self._unsaved.append(victim)
                self._write(tables.rows(state, self._boot))
            except Exception as error:  # noqa: BLE001 - no record may stop the next one, nor the page; _fail says it
                if self._fail(error):
                    try:
                        self._write(tables.rows(state, self._boot))
                    except Exception as again:  # noqa: BLE001 - as above
                        self._fail(again)

    def victims(self, most: int) -> list[dict[str, Any]]:
        """The latest victims, newest first; those of this process alone while they are in memory only."""
        with self._mutex:
            if self._connection is not None:
                try:
                    return tables.victims(self._connection.execute, most)
                except Exception as error:  # noqa: BLE001 - those in memory can be shown; _fail says it
                    self._fail(error)
            return [asdict(victim) for victim in list(self._unsaved)[: -most - 1 : -1]]

    def samples(self) -> Iterable[Sample]:
        """Yield whether it keeps, and how often it did and could not; nothing if it was not asked to."""
        if not self._directory:
            return
        yield UP, (), int(self._connection is not None)
        yield SAVES, (), self._saves
        yield FAILURES, (), self._failures
        yield from self._aside.samples()

    async def keep_house(self) -> None:
        """Once in a while, and when the write-ahead log has grown: tidy. In a thread: its fsync would stop the event loop."""
        due = self._monotonic() + TIDY_SECONDS
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if _shape(f"{self._path}-wal")[1] > LONGEST_LOG or self._monotonic() >= due:
                await asyncio.to_thread(self.tidy)
                due = self._monotonic() + TIDY_SECONDS

    def tidy(self) -> None:
        """Forget what is old, and fold the write-ahead log into the file."""
        try:
            with self._mutex:
                if self._connection is None:
                    return
                with tables.transaction(self._connection.execute):
                    tables.forget(self._connection.execute, KEEP_SECONDS)
            # Over a connection of its own, and without the mutex: the others write meanwhile.
            house = sqlite3.connect(f"file:{self._path}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                house.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            finally:
                house.close()
        except Exception as error:  # housekeeping ends no agent
            log.debug("casebook not tidied", exc_info=error)  # what is wrong with it the next save will say

    def close(self) -> None:
        """Make a last checkpoint and leave the file to the next agent."""
        with self._mutex:
            self._disconnect()
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

    # What raises

    def _connect(self) -> sqlite3.Connection:
        """Open or make the file, in the newest schema. Raises OSError, sqlite3.Error, _NotOurs, _Broken."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._lock()
        connection = self._connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        _prepare(connection)
        self._shape = _shape(self._path)
        return connection

    def _lock(self) -> None:
        """Be the only agent that uses the file: two would count into one another. The lock ends with the process."""
        if self._lock_fd is not None:
            return
        fd = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise _NotOurs("another agent uses it") from error
        self._lock_fd = fd

    def _load(self, connection: sqlite3.Connection) -> tuple[State | None, bool]:
        with suppress(sqlite3.OperationalError), tables.transaction(connection.execute):  # what cannot be dropped now can be next time
            tables.forget(connection.execute, KEEP_SECONDS)
            self._aside.dropped(tables.drop_misfits(connection.execute))
        state = tables.read(connection.execute)
        self._may_write = True
        self._up()
        if state is None:
            return None, True
        boot = connection.execute("SELECT boot_id FROM epoch").fetchone()[0]
        self._written = tables.rows(state, boot)
        return state, boot == self._boot

    def _write(self, wanted: Mapping[RowKey, tuple[Any, ...]]) -> None:
        """Make the file hold these rows and the unsaved victims. Raises OSError, sqlite3.Error, _NotOurs, _Broken, ValueError."""
        connection = self._connection
        if connection is None:
            if not self._may_write or self._monotonic() < self._retry_at:
                return
            connection = self._connect()
        shape = _shape(self._path)
        if shape[0] != self._shape[0] or shape[1] < self._shape[1]:
            # SQLite would go on with the pages that it has in memory, and the next agent find something else.
            raise _Broken("it was deleted, replaced or cut short by somebody else")
        self._shape = shape
        written = {} if self._written is None else self._written
        changed = [(key, values) for key, values in wanted.items() if written.get(key) != values and self._aside.lets_row_pass(key, values)]
        gone = written.keys() - wanted.keys()
        if changed or gone or self._unsaved or self._written is None:
            with tables.transaction(connection.execute):
                if self._written is None:
                    tables.clear(connection.execute)
                for key in gone:
                    tables.write(connection.execute, key, None)
                for key, values in changed:
                    tables.write(connection.execute, key, values)
                if self._unsaved or any(table == "names" for (table, _), _ in changed):
                    tables.add_victims(connection.execute, self._unsaved, self._boot)
            self._written = wanted
            self._unsaved.clear()
            self._saves += 1
        self._up()

    # What goes wrong

    def _fail(self, error: Exception) -> bool:
        """Go on in memory only, after moving a broken file aside; true if a new one may be begun at once."""
        self._disconnect()
        name = getattr(error, "sqlite_errorname", None) or ""
        if isinstance(error, _Broken) or name.startswith(_BROKEN):
            kept = self._move_aside()
            self._may_write, self._retry_at = True, 0.0
            self._down(f"{self._path}: {error}; {'kept beside it as ' + FILE + '.broken, and ' if kept else ''}begun anew")
            return True
        self._retry_at = self._monotonic() + RETRY_SECONDS
        if isinstance(error, _NotOurs):
            self._may_write = False
        if isinstance(error, OSError | sqlite3.Error | _NotOurs):
            reason = in_words(error) if isinstance(error, OSError) else str(error)
            remedy = "check the directory, its free space and --path.state"
        else:
            reason, remedy = f"{type(error).__name__}: {error}", "this is a fault of Coroner, please report it"
        self._down(f"{self._path}: {reason}: counters and victims are kept in memory only; {remedy}")
        return False

    def _move_aside(self) -> bool:
        """Keep what is broken for whoever wants to see it, one such file at most."""
        for suffix in ("-wal", "-shm"):
            with suppress(OSError):
                os.unlink(self._path + suffix)
        try:
            os.replace(self._path, f"{self._path}.broken")
        except OSError:
            return False
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection, self._written = None, None

    def _up(self) -> None:
        if self.reason:
            log.info("casebook is open", extra={"path": self._path})
        self.reason = ""

    def _down(self, reason: str, *, failed: bool = True) -> None:
        self._failures += failed
        if reason != self.reason:
            log.log(logging.WARNING if failed else logging.INFO, "casebook", extra={"reason": reason})
        self.reason = reason


def peek(directory: str, proc_root: str) -> tuple[State | None, bool]:
    """Return what an agent keeps in a directory, as Casebook.open does, but without its lock and without a write. Never raises.

    That agent is not disturbed: in WAL mode a reader stops no writer.
    """
    path = f"{directory}/{FILE}"
    try:
        return _peek(path, boot_id(proc_root) if directory else "")
    except Exception as error:  # noqa: BLE001 - one page is made without it, and says so
        log.warning(
            "no casebook to read: OOM kills are left out, nobody knows how many there were",
            extra={"path": path if directory else "", "reason": str(error)},
        )
        return None, True


def _peek(path: str, boot: str) -> tuple[State | None, bool]:
    if not boot:
        raise _NotOurs("--path.state is empty, or the kernel's boot_id cannot be read (sys/kernel/random/boot_id below --path.procfs)")
    how = "mode=ro" if os.path.exists(f"{path}-wal") else "immutable=1"  # without a log nobody writes, and SQLite shall not make one
    with closing(sqlite3.connect(f"file:{quote(path)}?{how}", uri=True, timeout=1)) as connection:
        connection.text_factory = _text
        connection.execute("BEGIN")  # all of it is of one moment
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            raise _NotOurs(f"made by another Coroner (schema {version}, this one knows {VERSION})")
        state = tables.read(connection.execute)
        return state, state is not None and connection.execute("SELECT boot_id FROM epoch").fetchone()[0] == boot


def _prepare(connection: sqlite3.Connection) -> None:
    """Bring a file that was just opened, or made, to the newest schema. Raises sqlite3.Error, _NotOurs, _Broken."""
    connection.text_factory = _text
    connection.execute("PRAGMA synchronous=NORMAL")
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise sqlite3.OperationalError(f"the file system does not support WAL (journal_mode is {mode})")
    connection.execute("PRAGMA wal_autocheckpoint=0")  # keep_house does that
    connection.execute(f"PRAGMA journal_size_limit={LONGEST_LOG}")
    wrong = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if wrong != "ok":
        raise _Broken(wrong)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise _NotOurs(f"made by a newer Coroner (schema {version}, this one knows {VERSION})")
    try:
        tables.migrate(connection.execute, version)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":
            raise
        raise _Broken(f"not with our tables in it ({error})") from error
    with suppress(sqlite3.OperationalError):  # a full disk: what is in there can be read all the same
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _text(raw: bytes) -> str:
    """Read text from the file, whatever has become of it."""
    return raw.decode(errors="backslashreplace")


def _shape(path: str) -> tuple[int, int]:
    """Inode and size of a file that only grows; zeros if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_size
