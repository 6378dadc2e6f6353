"""Histories: verdicts, counters and open cases through everything that happens to an agent and to its disk, in any order."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.casebook import CaseKey
from agent.casebook.file import RETRY_SECONDS
from agent.casebook.verdicts import KEEP_VERDICTS
from tests.agent.test_casebook import BOOT, STATE, VICTIM, A, Desk
from tests.agent.test_casebook_cases import DB, VERDICT, WEB, again, killed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose books are closed at the end."""
    desk = Desk(tmp_path)
    yield desk
    for book in desk.books:
        book.close()


INSTANCES = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["close", "close", "poison", "keep", "drop"]), INSTANCES),
    st.tuples(st.sampled_from(["kill", "stop", "fill", "lock", "wait", "second", "save"]), st.just(0)),
)


@settings(max_examples=50)
@given(st.lists(STEPS, max_size=25))
@example([("fill", 0), ("close", 1), ("close", 2), ("kill", 0), ("close", 1), ("wait", 0), ("close", 1)])
@example([("close", 1), ("lock", 0), ("close", 1), ("close", 2), ("wait", 0), ("close", 2), ("kill", 0), ("close", 2)])
@example([("keep", 1), ("lock", 0), ("poison", 1), ("wait", 0), ("save", 0), ("kill", 0), ("close", 1)])
def test_whatever_happens_each_instance_is_counted_once(steps: list[tuple[str, int]]) -> None:
    """The counter is how many were closed, and so many rows there are; after SIGKILL both are what they were when it was kept last."""
    with TemporaryDirectory() as directory:
        desk = Desk(Path(directory))
        book = desk.opened()
        closed: set[int] = set()
        cases: dict[int, str] = {}
        kept = set(closed), dict(cases)
        for turn, (step, instance) in enumerate(steps):
            key = CaseKey(BOOT, A, instance)
            match step:
                case "close" | "poison":
                    poison = {"exit_code": 1 << 70} if step == "poison" else {}
                    assert book.close_case(replace(VERDICT, container=A, instance=instance, **poison), WEB) == (instance not in closed)  # type: ignore[arg-type] # poison
                    closed.add(instance)
                    cases.pop(instance, None)
                case "keep":
                    book.keep_case(key, f"{turn}")
                    cases[instance] = f"{turn}"
                case "drop":
                    book.drop_case(key)
                    cases.pop(instance, None)
                case "kill" | "stop":
                    book = killed(desk) if step == "kill" else again(desk)
                    closed, cases = set(kept[0]), dict(kept[1])
                case "fill" if (connection := book._file.connection) is not None:
                    pages = connection.execute("PRAGMA page_count").fetchone()[0]
                    connection.execute(f"PRAGMA max_page_count={pages}")
                case "lock":
                    with closing(sqlite3.connect(desk.file, isolation_level=None)) as other:
                        other.execute("BEGIN IMMEDIATE")
                        book.save(STATE, replace(VICTIM, sequence=turn))
                case "wait":
                    desk.now += RETRY_SECONDS
                case "second":
                    assert desk.opened().close_case(VERDICT, DB)
                    desk.books[-1].close()
                case "save":
                    book.save(STATE, replace(VICTIM, sequence=turn))
            if not book.reason:
                kept = set(closed), dict(cases)
                assert len(book.verdicts(100)) == len(closed)
            assert sum(book.deaths().values()) == len(closed)
            assert {key.instance: facts for key, facts in book.open_cases().items()} == cases

        desk.now += RETRY_SECONDS
        book.save(STATE)
        assert book.reason == ""
        book = killed(desk)
        assert sum(book.deaths().values()) == len(book.verdicts(100)) == len(closed)
        assert {key.instance: facts for key, facts in book.open_cases().items()} == cases
        book.close()


CLOSES_FOR_EVER = """
import sys, time
from agent.casebook import Casebook, CaseKey
from collectors.inquest.verdict import Verdict
from collectors.kernel.container_id import ContainerKey
directory, proc, first = sys.argv[1:]
book = Casebook(directory, proc)
book.open()
for instance in range(int(first), 1 << 31):
    key = CaseKey(book.boot_id, ContainerKey("a" * 64), instance)
    book.keep_case(key, "facts")
    assert book.close_case(Verdict(container=key.container, instance=instance, cause="killed", ended=time.time()), ("", "", "a"))
    assert not book.reason, book.reason
    print(instance, flush=True)
"""


def test_sigkill_at_any_moment_loses_and_doubles_nothing(desk: Desk) -> None:
    """A real one, of a process that closes one case after the other: what it was told is new is in the file."""
    first = 0
    for turn in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", CLOSES_FOR_EVER, str(desk.state), str(desk.proc), str(first)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        with process:
            assert process.stdout is not None
            for _ in range(20 + 13 * turn):
                process.stdout.readline()
            process.kill()
            told = first + 20 + 13 * turn + len(process.stdout.read().splitlines())

        book = again(desk)

        [count] = book.deaths().values()
        assert len(book.verdicts(KEEP_VERDICTS)) == count
        assert count in (told, told + 1)
        assert [key.instance for key in book.open_cases()] in ([], [count])
        book.close()
        first = count
