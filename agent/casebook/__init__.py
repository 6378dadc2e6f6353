"""The casebook: what must outlive the agent, in one SQLite file below --path.state. Event counters, victims and verdicts, what is known
of cases that are open, and the place in the kernel log.

Everything that belongs to one event is one transaction, made before anybody can see it, so a SIGKILL at any moment loses nothing and
counts nothing twice. Whatever fails, the agent runs on with what it has in memory, and says so. The file itself is in file.py, its tables
in schema.py; kills.py, victims.py, verdicts.py and cases.py say what is in them, peek.py reads it beside a running agent.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from agent.casebook import schema, verdicts, victims
from agent.casebook.cases import Deaths
from agent.casebook.contents import Contents
from agent.casebook.file import FILE, CasebookFile, boot_id
from agent.casebook.peek import CannotPeek, peek, peek_deaths, peek_verdicts
from agent.casebook.verdicts import CaseKey
from collectors.base import Sample, counter, gauge
from collectors.inquest.kill_state import Labels, State, Victim
from collectors.inquest.verdict import Verdict
from collectors.kernel.container_id import ContainerKey

__all__ = ("FILE", "CannotPeek", "CaseKey", "Casebook", "Deaths", "peek", "peek_deaths", "peek_verdicts")

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

KEEP_SECONDS = 30 * 24 * 3600
TIDY_SECONDS = 3600.0
LOOK_SECONDS = 5.0

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Casebook:
    """Keeps what it is told in a file as long as that goes, and says why when it does not. Any thread may use it."""

    def __init__(self, directory: str, proc_root: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.boot_id = ""
        """Of the running kernel; empty until it is open."""
        self._directory, self._proc_root = directory, proc_root
        self._monotonic = monotonic
        self._file = CasebookFile(directory, monotonic)
        self._mutex = threading.Lock()
        self._contents = Contents()
        self._saves = 0

    @property
    def reason(self) -> str:
        """Why nothing is kept; empty while all is."""
        return self._file.reason

    def open(self) -> tuple[State | None, bool]:
        """Return what was kept of the kill ledger (None: nothing), and whether it is of this boot. Never raises."""
        if not self._directory:
            self._file.down("--path.state is empty: counters and victims are kept in memory only", failed=False)
            return None, True
        self.boot_id = boot_id(self._proc_root)
        if not self.boot_id:
            path = f"{self._proc_root}/sys/kernel/random/boot_id"
            self._file.down(f"{path} cannot be read (--path.procfs), so the place in the kernel's log cannot be kept: memory only")
            return None, True
        with self._mutex:
            try:
                return self._load(self._file.open())
            except Exception as error:  # noqa: BLE001 - what counts kills runs on whatever the file does; _fail says it
                self._fail(error)
            return None, True

    def save(self, state: State, victim: Victim | None = None) -> None:
        """Keep what has changed, in one transaction. Never raises: what could not be kept is tried again with what is saved next."""
        self._change(lambda: self._contents.save(state, self.boot_id, victim), None)

    def keep_case(self, key: CaseKey, facts: str) -> None:
        """Keep what is known of a case that is not closed yet, instead of what was. Never raises, as save()."""
        self._change(lambda: self._contents.cases.keep(key, facts), None)

    def drop_case(self, key: CaseKey) -> None:
        """Forget a case that will not be closed. Never raises, as save()."""
        self._change(lambda: self._contents.cases.drop(key), None)

    def open_cases(self) -> dict[CaseKey, str]:
        """Return the facts of all open cases. Those of another boot are among them until they are closed: nothing more can come of them."""
        with self._mutex:
            return self._contents.cases.facts()

    def close_case(self, verdict: Verdict, labels: Labels, case: CaseKey | None = None) -> bool:
        """Keep the verdict, count the death and drop the open case, in one transaction; return whether it was new. Never raises, as save().

        `case` is given where it is of another boot, or was kept under another instance than the verdict has. An instance is new once, as
        long as its verdict is kept: deaths of long ago, which a runtime still lists, are for the caller to leave out.
        """
        key = case or CaseKey(self.boot_id, verdict.container, verdict.instance)
        return self._change(
            lambda: self._contents.cases.close(key, verdict, labels, self._contents.aside, self._contents.shown), otherwise=False
        )

    def deaths(self) -> Deaths:
        """Return how many instances ended, by the labels that their container had then, and by cause."""
        with self._mutex:
            return self._contents.cases.counted()

    def settled(self) -> dict[ContainerKey, tuple[float, list[int]]]:
        """Return when the last life of each container ended that has a verdict, seconds of the wall clock, and its lives in order."""
        return self._read(verdicts.settled, dict)

    def ended_since(self, since: float) -> dict[ContainerKey, Labels]:
        """Return what the containers were called that have ended since a time, in seconds of the wall clock."""
        return self._read(lambda execute: verdicts.named(execute, since), dict)

    def last_stops(self) -> dict[Labels, tuple[float, str]]:
        """Return how many seconds the last stop of each container took, and the cause of that end, by its labels."""
        return self._read(verdicts.last_stops, dict)

    @property
    def written_at(self) -> float | None:
        """When the agent before this one wrote to its casebook last, seconds of the wall clock; None if there was none."""
        return self._file.written_at

    def victims(self, most: int, of: Collection[str] | None = None) -> list[dict[str, Any]]:
        """The latest victims, newest first; those of this process alone while they are in memory only. `of`: ids of their containers."""
        return self._read(lambda execute: victims.latest(execute, most, of), lambda: self._contents.latest_victims(most, of))

    def verdicts(
        self,
        most: int,
        since: float | None = None,
        *,
        namespace: str | None = None,
        pod: str | None = None,
        container: str | None = None,
        cause: str | None = None,
        number: int | None = None,
    ) -> list[dict[str, Any]]:
        """The latest verdicts, newest first, with the labels of their containers; those of this process alone while in memory only.

        `since` is when they ended, in seconds of the wall clock; the others are columns of a verdict, None is any.
        """
        equal = verdicts.equal(namespace=namespace, pod=pod, container=container, cause=cause, number=number)
        found = self._read(
            lambda execute: verdicts.latest(execute, most, since, equal),
            lambda: verdicts.latest_of(self._contents.cases.closed, most, since, equal),
        )
        return verdicts.shown(found)  # without the mutex

    def samples(self) -> Iterable[Sample]:
        """Yield whether it keeps, and how often it did and could not; nothing if it was not asked to."""
        if not self._directory:
            return
        yield UP, (), int(self._file.connection is not None)
        yield SAVES, (), self._saves
        yield FAILURES, (), self._file.failures
        yield from self._contents.aside.samples()

    async def keep_house(self) -> None:
        """Once in a while, and when the write-ahead log has grown: tidy. In a thread: its fsync would stop the event loop."""
        due = self._monotonic() + TIDY_SECONDS
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._file.has_long_log or self._monotonic() >= due:
                await asyncio.to_thread(self.tidy)
                due = self._monotonic() + TIDY_SECONDS

    def tidy(self) -> None:
        """Forget what is old, and fold the write-ahead log into the file."""
        try:
            with self._mutex:
                if self._file.connection is None:
                    return
                execute = self._file.connection.execute
                with schema.transaction(execute):
                    schema.forget(execute, KEEP_SECONDS)
            self._file.checkpoint()  # without the mutex
        except Exception as error:  # housekeeping ends no agent
            log.debug("casebook not tidied", exc_info=error)  # what is wrong with it the next save will say

    def close(self) -> None:
        """Make a last checkpoint and leave the file to the next agent."""
        with self._mutex:
            self._contents.lost()
            self._file.close()

    def _load(self, connection: sqlite3.Connection) -> tuple[State | None, bool]:
        execute = connection.execute
        with suppress(sqlite3.OperationalError), schema.transaction(execute):  # what cannot be dropped now can be next time
            schema.forget(execute, KEEP_SECONDS)
            self._contents.aside.dropped(schema.drop_misfits(execute))
        state, boot = self._contents.load(execute)
        self._file.up()
        return state, state is None or boot == self.boot_id

    def _change(self, change: Callable[[], _T], otherwise: _T) -> _T:
        """Change what is in memory, and then the file; `otherwise` is returned for what cannot even be in memory."""
        with self._mutex:
            result = otherwise
            try:
                result = change()
                self._write()
            except Exception as error:  # noqa: BLE001 - no record may stop the next one, nor the page; _fail says it
                if self._fail(error):
                    try:
                        self._write()
                    except Exception as again:  # noqa: BLE001 - as above
                        self._fail(again)
            return result

    def _write(self) -> None:
        """Make the file hold what is in memory. Raises OSError, sqlite3.Error, NotOurs, _Broken, ValueError."""
        connection = self._file.ready()
        if connection is None:
            return
        self._saves += self._contents.write(connection.execute, self.boot_id)
        self._file.up()

    def _read(self, from_file: Callable[[schema.Execute], _T], from_memory: Callable[[], _T]) -> _T:
        with self._mutex:
            if self._file.connection is not None:
                try:
                    return from_file(self._file.connection.execute)
                except Exception as error:  # noqa: BLE001 - those in memory can be shown; _fail says it
                    self._fail(error)
            return from_memory()

    def _fail(self, error: Exception) -> bool:
        self._contents.lost()
        return self._file.fail(error)
