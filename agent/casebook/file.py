"""The casebook's file: opened, locked, brought up to date, moved aside when it is broken, tried again when it failed.

WAL with synchronous=NORMAL: the death of the process costs nothing; a power failure may cost the transactions since the last checkpoint,
never the file.
"""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from urllib.parse import quote

from agent.casebook import schema
from agent.words import in_words
from collectors.kernel.files import ReadError, read_once

FILE = "casebook.sqlite"
RETRY_SECONDS = 10.0
LONGEST_LOG = 1 << 20
"""Bytes of the write-ahead log: some 70 kills."""
_CACHE_KIB = 256
"""Of the file's pages in memory, which the kernel has anyway: SQLite itself would take up to 2 MiB, once verdicts are read."""
_BUSY_SECONDS = 0.02
"""Nobody else writes (see _lock); whoever does all the same must not stop the event loop."""

log = logging.getLogger(__name__)


def boot_id(proc_root: str) -> str:
    """The kernel's name for this boot (/proc/sys/kernel/random/boot_id); empty when it cannot be read."""
    try:
        return read_once(f"{proc_root}/sys/kernel/random/boot_id").decode(errors="replace").strip()
    except ReadError:
        return ""


class NotOurs(Exception):
    """There is a casebook, and it is not to be touched."""


class _Broken(Exception):
    """The file is damaged, or somebody has replaced it: a new one is begun."""


_BROKEN = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
"""Broken inside; else it is the file system's matter, or a fault of ours, for which no file is given up."""


class CasebookFile:
    """A file that is written as long as that goes, and says why when it does not. Whoever uses it has a lock of its own."""

    def __init__(self, directory: str, monotonic: Callable[[], float]) -> None:
        self.reason = "not opened yet"
        self.failures = 0
        self.connection: sqlite3.Connection | None = None
        self.written_at: float | None = None
        """When it was written to before it was opened here; None if it is new."""
        self._directory = directory
        self._path = f"{directory}/{FILE}"
        self._monotonic = monotonic
        self._lock_fd: int | None = None
        self._shape = (0, 0)
        self._may_write = False
        self._retry_at = 0.0

    def open(self) -> sqlite3.Connection:
        """Open or make it, at the start. Raises OSError, sqlite3.Error, NotOurs, _Broken."""
        times = [os.stat(path).st_mtime for path in (self._path, f"{self._path}-wal") if os.path.exists(path)]
        self.written_at = max(times, default=None)
        self._may_write = _shape(self._path)[1] == 0  # else a history that could not be read now would be lost later
        return self._connect()

    def ready(self) -> sqlite3.Connection | None:
        """Return what to write with; None while it cannot be written, and is not to be tried again yet. Raises as open() does."""
        if self.connection is None:
            return self._connect() if self._may_write and self._monotonic() >= self._retry_at else None
        shape = _shape(self._path)
        if shape[0] != self._shape[0] or shape[1] < self._shape[1]:
            # SQLite would go on with the pages that it has in memory, and the next agent find something else.
            raise _Broken("it was deleted, replaced or cut short by somebody else")
        self._shape = shape
        return self.connection

    def up(self) -> None:
        """All of it could be read, or written."""
        self._may_write = True
        if self.reason:
            log.info("casebook is open", extra={"path": self._path})
        self.reason = ""

    def down(self, reason: str, *, failed: bool = True) -> None:
        """Say why nothing is kept."""
        self.failures += failed
        if reason != self.reason:
            log.log(logging.WARNING if failed else logging.INFO, "casebook is not kept in its file", extra={"reason": reason})
        self.reason = reason

    def fail(self, error: Exception) -> bool:
        """Go on in memory only, after moving a broken file aside; true if a new one may be begun at once."""
        self._disconnect()
        name = getattr(error, "sqlite_errorname", None) or ""
        if isinstance(error, _Broken) or name.startswith(_BROKEN):
            kept = self._move_aside()
            self._may_write, self._retry_at = True, 0.0
            self.down(f"{self._path}: {error}; {'kept beside it as ' + FILE + '.broken, and ' if kept else ''}begun anew")
            return True
        self._retry_at = self._monotonic() + RETRY_SECONDS
        if isinstance(error, NotOurs):
            self._may_write = False
        if isinstance(error, OSError | sqlite3.Error | NotOurs):
            reason = in_words(error) if isinstance(error, OSError) else str(error)
            remedy = "check the directory, its free space and --path.state"
        else:
            reason, remedy = f"{type(error).__name__}: {error}", "this is a fault of Coroner, please report it"
        self.down(f"{self._path}: {reason}: counters and victims are kept in memory only; {remedy}")
        return False

    @property
    def has_long_log(self) -> bool:
        """Whether the write-ahead log has grown so that it should be folded into the file."""
        return _shape(f"{self._path}-wal")[1] > LONGEST_LOG

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file, over a connection of its own: others write meanwhile. Raises sqlite3.Error."""
        with closing(sqlite3.connect(uri(self._path, "mode=rw"), uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def close(self) -> None:
        """Make a last checkpoint and leave the file to the next agent."""
        self._disconnect()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _connect(self) -> sqlite3.Connection:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        self._lock()
        connection = self.connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
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
            raise NotOurs("another agent uses it") from error
        self._lock_fd = fd

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
        if self.connection is not None:
            with suppress(sqlite3.Error):
                self.connection.close()
        self.connection = None


def uri(path: str, how: str) -> str:
    """Return the address of a file for SQLite: in it `#`, `?` and `%` mean something (https://www.sqlite.org/uri.html)."""
    return f"file:{quote(os.fsencode(path))}?{how}"


def as_text(raw: bytes) -> str:
    """Read text from the file, whatever has become of it."""
    return raw.decode(errors="backslashreplace")


def _prepare(connection: sqlite3.Connection) -> None:
    """Bring a file that was just opened, or made, to the newest schema. Raises sqlite3.Error, NotOurs, _Broken."""
    connection.text_factory = as_text
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
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
    if version > schema.version():
        raise NotOurs(f"made by a newer Coroner (schema {version}, this one knows {schema.version()})")
    try:
        schema.migrate(connection.execute, version)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":
            raise
        raise _Broken(f"not with our tables in it ({error})") from error
    with suppress(sqlite3.OperationalError):  # a full disk: what is in there can be read all the same
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _shape(path: str) -> tuple[int, int]:
    """Inode and size of a file that only grows; zeros if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_size
