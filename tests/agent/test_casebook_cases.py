"""Verdicts, counters of deaths and open cases: each instance is closed once, whatever happens to the agent and to the file."""

import json
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.casebook import FILE, KEEP_SECONDS, CannotPeek, Casebook, CaseKey, peek, peek_deaths, peek_verdicts, schema
from agent.casebook.cases import MOST_DEATHS, MOST_OPEN
from agent.casebook.file import RETRY_SECONDS
from agent.casebook.verdicts import KEEP_VERDICTS
from collectors.inquest.kill_state import State, Victim
from collectors.inquest.verdict import Verdict
from collectors.kernel.container_id import ContainerKey
from tests.agent.test_casebook import BOOT, STATE, A, B, Desk, everything, value

NOW = float(int(time.time()))
WEB, DB = ("shop", "web-0", "web"), ("", "", "db")
VERDICT = Verdict(
    container=B,
    instance=7,
    cause="forced_kill",
    created=NOW - 100,
    started=NOW - 99.5,
    stop_requested=NOW - 12,
    ended=NOW - 1.5,
    removed=None,
    exit_code=137,
    signal=9,
    stop_signal=15,
    stop_seconds=10.5,
    grace_seconds=10.0,
    evidence=("SIGKILL 10 s after SIGTERM",),
    missing=(),
    sources=("docker", "cgroup"),
    rule="stop",
    how="reaped",
    timeline=((NOW - 12, "stop requested"), (NOW - 1.5, "ended")),
)
KEY = CaseKey(BOOT, B, 7)
ANOTHER_BOOT = "99999999-2222-3333-4444-555555555555"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose books are closed at the end."""
    desk = Desk(tmp_path)
    yield desk
    for book in desk.books:
        book.close()


def again(desk: Desk) -> Casebook:
    """Let the next agent open the casebook."""
    for book in desk.books:
        book.close()
    return desk.opened()


def killed(desk: Desk) -> Casebook:
    """Leave the files as SIGKILL does, and let the next agent open them."""
    left = desk.state.with_name(f"{desk.state.name}+")
    left.mkdir()
    for name, content in everything(desk.state).items():
        (left / name).write_bytes(content)
    for book in desk.books:
        book.close()
    desk.state = left
    return desk.opened()


def now_and_later(desk: Desk, book: Casebook) -> Iterator[Casebook]:
    """Yield the casebook as it is, and as it is after SIGKILL."""
    yield book
    yield killed(desk)


def found(book: Casebook) -> list[tuple[str, int]]:
    """All its verdicts, newest first."""
    return [(row["cause"], row["instance"]) for row in book.verdicts(KEEP_VERDICTS)]


def test_a_verdict_is_kept_and_counted_and_its_case_is_closed_in_one_transaction(desk: Desk) -> None:
    """All that it says comes back from the file, to this agent and to the next."""
    book = desk.opened()
    book.keep_case(KEY, "facts")
    saves = value(book, "saves_total")

    assert book.close_case(VERDICT, WEB)

    assert value(book, "saves_total") == saves + 1
    for each in now_and_later(desk, book):
        assert each.deaths() == {(WEB, "forced_kill"): 1}
        assert each.open_cases() == {}
        [row] = each.verdicts(10)
        assert row == {
            "number": 1,
            "boot_id": BOOT,
            "namespace": "shop",
            "pod": "web-0",
            "container": "web",
            "identifier": B,
            **{field.name: getattr(VERDICT, field.name) for field in fields(Verdict) if field.name != "container"},
            "evidence": ["SIGKILL 10 s after SIGTERM"],
            "missing": [],
            "sources": ["docker", "cgroup"],
            "timeline": [[NOW - 12, "stop requested"], [NOW - 1.5, "ended"]],
        }
        json.dumps(row, allow_nan=False)


def test_an_instance_is_closed_once_whatever_is_said_of_it_later(desk: Desk) -> None:
    """By this agent and by the next; another instance of the same container, or another boot, is another."""
    book = desk.opened()
    assert book.close_case(VERDICT, WEB)
    assert not book.close_case(replace(VERDICT, cause="killed"), DB)
    assert book.close_case(replace(VERDICT, instance=8), WEB)

    book = again(desk)
    assert not book.close_case(replace(VERDICT, cause="killed"), WEB)
    desk.boot(ANOTHER_BOOT)
    book = again(desk)
    assert book.close_case(replace(VERDICT, cause="killed"), WEB)

    assert book.deaths() == {(WEB, "forced_kill"): 2, (WEB, "killed"): 1}
    assert found(book) == [("killed", 7), ("forced_kill", 8), ("forced_kill", 7)]


def test_a_second_close_forgets_the_case_too(desk: Desk) -> None:
    """The agent was killed between two stages: the case was still open in its memory alone."""
    book = desk.opened()
    book.close_case(VERDICT, WEB)
    book.keep_case(KEY, "facts")

    assert not book.close_case(VERDICT, WEB)
    assert again(desk).open_cases() == {}


def test_open_cases_survive_the_agent(desk: Desk) -> None:
    """As they were said last, each under its key; one that was dropped does not come back."""
    book = desk.opened()
    other = CaseKey(BOOT, ContainerKey.of(A, B), 1)
    for key, facts in ((KEY, "one"), (other, "[]"), (CaseKey(BOOT, A, 3), "gone"), (KEY, "two \udcff")):
        book.keep_case(key, facts)
    book.drop_case(CaseKey(BOOT, A, 3))
    assert book.open_cases() == {KEY: "two \udcff", other: "[]"}

    cases = killed(desk).open_cases()

    assert cases == {KEY: "two \\udcff", other: "[]"}
    assert {key.container.is_nested for key in cases} == {True, False}


def test_cases_of_the_boot_before_can_be_closed_and_do_not_come_back(desk: Desk) -> None:
    """Under their own boot: the same inode may be another's by now."""
    desk.opened().keep_case(KEY, "facts")
    desk.boot(ANOTHER_BOOT)
    book = again(desk)
    assert book.boot_id == ANOTHER_BOOT

    [(key, facts)] = book.open_cases().items()
    assert (key, facts) == (KEY, "facts")
    assert book.close_case(replace(VERDICT, cause="unknown"), WEB, key)
    assert not book.close_case(replace(VERDICT, cause="unknown"), WEB, key)
    assert book.close_case(VERDICT, WEB)

    book = again(desk)
    assert book.open_cases() == {}
    assert book.deaths() == {(WEB, "unknown"): 1, (WEB, "forced_kill"): 1}
    assert {(row["boot_id"], row["cause"]) for row in book.verdicts(10)} == {(BOOT, "unknown"), (ANOTHER_BOOT, "forced_kill")}


def test_a_case_kept_under_another_instance_is_closed_by_its_key(desk: Desk) -> None:
    """It was opened before anybody knew the inode."""
    book = desk.opened()
    first = CaseKey(BOOT, B, 1_700_000_000_000_000)
    book.keep_case(first, "facts")

    assert book.close_case(VERDICT, WEB, first)
    assert not book.close_case(VERDICT, WEB)

    book = again(desk)
    assert book.open_cases() == {}
    assert found(book) == [("forced_kill", 7)]
    assert not book.close_case(VERDICT, WEB)


@pytest.mark.parametrize("in_memory", [False, True])
def test_verdicts_newest_first_by_when_what_and_whose(desk: Desk, *, in_memory: bool) -> None:
    """One that nobody knows the end of ended when it was closed; filters and the greatest number go together."""
    book = desk.book() if in_memory else desk.opened()
    ended = {1: NOW - 30, 2: NOW - 10, 3: NOW - 20, 4: None, 5: NOW - 20}
    for instance, time_ in ended.items():
        cause, labels = ("completed", DB) if instance % 2 else ("error", WEB)
        assert book.close_case(replace(VERDICT, instance=instance, ended=time_, cause=cause), labels)

    def numbers(*arguments: Any, **wanted: Any) -> list[int]:
        return [row["instance"] for row in book.verdicts(*arguments, **wanted)]

    assert numbers(10) == [4, 2, 5, 3, 1]
    assert numbers(2) == [4, 2]
    assert numbers(10, NOW - 20) == [4, 2, 5, 3]
    assert numbers(10, NOW + 3600) == ([4] if in_memory else [])
    assert numbers(10, cause="completed") == [5, 3, 1]
    assert numbers(1, NOW - 25, cause="completed") == [5]
    assert numbers(10, namespace="shop") == numbers(10, container="web") == [4, 2]
    assert numbers(10, namespace="", container="web") == []
    assert numbers(10, pod="web-0") == [4, 2]
    assert numbers(10, pod="web-1") == []
    assert numbers(10, container="' OR 1 --") == []
    assert numbers(10, number=2) == ([] if in_memory else [2])


def test_verdicts_are_called_as_their_container_is_by_now(desk: Desk) -> None:
    """The name came after the verdict, or was there already; what is not known any more keeps its own. The counter stays where it was."""
    book = desk.opened()
    book.close_case(VERDICT, ())
    assert [row["container"] for row in book.verdicts(1)] == [""]
    for labels in (("", "", 12 * "b"), ("", "", "b\udcff"), WEB):
        book.save(State(names={B: labels}))
        assert [row["container"].encode() for row in book.verdicts(1)] == [labels[2].encode(errors="backslashreplace")]
    book.close_case(replace(VERDICT, instance=8), ())
    book.save(State())
    book.close_case(replace(VERDICT, instance=9), DB)

    assert [row["container"] for row in book.verdicts(10)] == ["db", "web", "web"]
    assert book.deaths() == {(("", "", ""), "forced_kill"): 2, (DB, "forced_kill"): 1}


def test_the_next_agent_knows_of_each_last_stop_how_long_it_took_and_whether_it_was_forced(desk: Desk) -> None:
    """The last one by its end: a container that stops in time by now has no forced kill to mend."""
    book = desk.opened()
    book.close_case(VERDICT, WEB)
    book.close_case(replace(VERDICT, instance=8, cause="stopped", stop_seconds=2.5, ended=NOW - 1), WEB)
    book.close_case(replace(VERDICT, instance=9), DB)
    book.close_case(replace(VERDICT, instance=10, cause="error", stop_seconds=None, ended=NOW), DB)

    assert again(desk).last_stops() == {WEB: (2.5, "stopped"), DB: (10.5, "forced_kill")}


def test_what_is_old_is_forgotten(desk: Desk) -> None:
    """Verdicts and counters by age, since they were written; open cases are not: whoever opened them closes them."""
    book = desk.opened()
    for instance, labels in ((1, WEB), (2, DB)):
        book.close_case(replace(VERDICT, instance=instance), labels)
    book.keep_case(CaseKey(BOOT, A, 1), "facts")
    for table in ("verdicts", "deaths"):
        desk.sql(f"UPDATE {table} SET time = time - {KEEP_SECONDS + 60} WHERE container = 'web'")
    book.tidy()
    assert found(book) == [("forced_kill", 2)]

    book = again(desk)
    assert book.deaths() == {(DB, "forced_kill"): 1}
    assert list(book.open_cases()) == [(BOOT, A, 1)]


def test_all_of_it_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest verdict makes room, the counter that has not risen and the case that has not changed for longest; in memory too."""
    assert min(KEEP_VERDICTS, MOST_OPEN, MOST_DEATHS) >= 10_000
    monkeypatch.setattr("agent.casebook.verdicts.KEEP_VERDICTS", 3)
    monkeypatch.setattr("agent.casebook.cases.MOST_OPEN", 3)
    monkeypatch.setattr("agent.casebook.cases.MOST_DEATHS", 3)
    monkeypatch.setattr("agent.casebook.cases._AT_ONCE", 1)
    book = desk.opened()
    for number in (1, 2, 3, 1, 4):
        book.close_case(replace(VERDICT, instance=number * 10), ("", "", f"c{number}"))
        book.close_case(replace(VERDICT, instance=len(book.verdicts(9)) + number * 10 + 1), ("", "", f"c{number}"))
        book.keep_case(CaseKey(BOOT, A, number), "")

    for each in now_and_later(desk, book):
        assert len(found(each)) == 3
        assert sorted(labels[2] for labels, _ in each.deaths()) == ["c1", "c3", "c4"]
        assert sorted(key.instance for key in each.open_cases()) == [1, 3, 4]
    assert len(book._contents.cases._known) <= 3


@pytest.mark.parametrize("at_once", [1, 100])
def test_a_counter_that_is_on_the_page_never_falls_however_many_others_there_are(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """The jobs of a week are more than are kept, and the service beside them has last failed before."""
    monkeypatch.setattr("agent.casebook.cases.MOST_DEATHS", 3)
    monkeypatch.setattr("agent.casebook.cases._AT_ONCE", at_once)
    book = desk.opened()
    book.save(replace(STATE, names={A: WEB}))
    book.close_case(replace(VERDICT, container=A), WEB)
    for number in range(10):
        book.close_case(replace(VERDICT, instance=100 + number), ("", "", f"job-{number}"))

    for each in now_and_later(desk, book):
        assert each.deaths()[WEB, "forced_kill"] == 1
        assert each.deaths()[("", "", "job-9"), "forced_kill"] == 1
        assert len(each.deaths()) <= 3


# What goes wrong


def test_without_a_file_it_counts_once_all_the_same(desk: Desk) -> None:
    """In memory only: the latest verdicts can be shown, and open cases asked for."""
    book = Casebook("", str(desk.proc))
    book.open()
    book.keep_case(KEY, "facts")
    assert book.close_case(VERDICT, WEB, KEY)
    assert not book.close_case(VERDICT, WEB, KEY)
    book.keep_case(KEY, "facts")

    assert book.deaths() == {(WEB, "forced_kill"): 1}
    assert found(book) == [("forced_kill", 7)]
    assert book.open_cases() == {KEY: "facts"}


def test_in_memory_only_nothing_grows_without_end(desk: Desk) -> None:
    """Nobody keeps account of what a file would have to be told."""
    book = Casebook("", str(desk.proc))
    for number in range(1100):
        book.keep_case(CaseKey("", A, number), "facts")
        book.save(State(names={ContainerKey(str(number)): DB}))
        book.close_case(replace(VERDICT, container=A, instance=number), DB)

    contents = book._contents
    assert len(contents.cases.closed) == 1000
    assert all(not each._changed for each in contents._changing)
    assert book.deaths() == {(DB, "forced_kill"): 1100}


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database or disk is full"), OverflowError("x"), MemoryError()])
@pytest.mark.parametrize("where", ["verdicts.add", "rows.write", "schema.transaction"])
def test_what_cannot_be_kept_now_is_counted_once_and_kept_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    """Wherever it fails neither half is in the file; a verdict said again meanwhile, old or new, is no new one."""

    def fail(*_: object) -> None:
        raise error

    book = desk.opened()
    book.save(STATE)
    book.close_case(VERDICT, WEB)
    book.keep_case(CaseKey(BOOT, A, 1), "before")
    with monkeypatch.context() as patch:
        patch.setattr(f"agent.casebook.{where}", fail)
        assert book.close_case(replace(VERDICT, instance=8), WEB)
        assert (value(book, "up"), bool(book.reason)) == (0, True)
        desk.now += RETRY_SECONDS
        book.keep_case(CaseKey(BOOT, A, 1), "after")
        for instance in (7, 8):
            assert not book.close_case(replace(VERDICT, instance=instance), WEB)
        assert peek_deaths(str(desk.state)) == {(WEB, "forced_kill"): 1}
        assert len(peek_verdicts(str(desk.state), 10)) == 1
    assert book.deaths() == {(WEB, "forced_kill"): 2}
    assert found(book) == [("forced_kill", 8)], "those of memory alone"

    desk.now += RETRY_SECONDS
    book.save(STATE)

    assert (value(book, "up"), book.reason) == (1, "")
    for each in now_and_later(desk, book):
        assert each.deaths() == {(WEB, "forced_kill"): 2}
        assert found(each) == [("forced_kill", 8), ("forced_kill", 7)]
        assert each.open_cases() == {(BOOT, A, 1): "after"}
    assert not (desk.state / f"{FILE}.broken").exists()


def test_counters_and_open_cases_outlive_a_file_that_was_lost(desk: Desk) -> None:
    """The verdicts in it are gone, the counters go on, and what was closed is not closed again."""
    book = desk.opened()
    book.close_case(VERDICT, WEB)
    book.keep_case(KEY, "facts")
    desk.file.unlink()

    assert not book.close_case(VERDICT, WEB)
    assert book.close_case(replace(VERDICT, instance=8), WEB)
    book.keep_case(KEY, "facts")

    book = killed(desk)
    assert book.deaths() == {(WEB, "forced_kill"): 2}
    assert found(book) == [("forced_kill", 8)]
    assert book.open_cases() == {KEY: "facts"}


def test_a_row_that_somebody_else_wrote_stays_and_the_next_one_is_kept(desk: Desk) -> None:
    """By hand, behind the agent's back: the death counts, for the agent had not seen it."""
    book = desk.opened()
    book.close_case(VERDICT, WEB)
    desk.sql("UPDATE verdicts SET instance = 8, cause = 'killed'")

    assert book.close_case(replace(VERDICT, instance=8), WEB)
    assert book.close_case(replace(VERDICT, instance=9), WEB)

    assert (value(book, "up"), value(book, "failures_total")) == (1, 0)
    assert found(book) == [("forced_kill", 9), ("killed", 8)]
    assert killed(desk).deaths() == {(WEB, "forced_kill"): 3}


def test_a_second_agent_leaves_the_file_of_the_first_alone(desk: Desk) -> None:
    """It counts what it sees in its own memory; that it does not know of the other's is said."""
    first, second = desk.opened(), desk.opened()
    assert "another agent" in second.reason

    assert first.close_case(VERDICT, WEB)
    desk.now += RETRY_SECONDS
    assert second.close_case(VERDICT, WEB)
    second.keep_case(KEY, "facts")

    assert second.deaths() == {(WEB, "forced_kill"): 1}
    book = again(desk)
    assert book.deaths() == {(WEB, "forced_kill"): 1}
    assert (found(book), book.open_cases()) == ([("forced_kill", 7)], {})


def test_many_threads_close_an_instance_once(desk: Desk) -> None:
    """One of them is told that it was new."""
    book = desk.opened()
    news: list[int] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        news.extend(instance for instance in range(100) if book.close_case(replace(VERDICT, instance=instance), WEB))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(news) == list(range(100))
    assert killed(desk).deaths() == {(WEB, "forced_kill"): 100}


# Poison

POISON: list[tuple[str, Any]] = [
    *((field.name, 1 << 63) for field in fields(Verdict) if "int" in str(field.type) and field.name != "instance"),
    *((field.name, float("nan")) for field in fields(Verdict) if "float | None" in str(field.type)),
    *((field.name, -1.0) for field in fields(Verdict) if "float | None" in str(field.type)),
    *((field.name, (b"x",)) for field in fields(Verdict) if "tuple" in str(field.type)),
    *((field.name, None) for field in fields(Verdict) if "tuple" in str(field.type)),
    ("cause", "b\nroken"),
    ("cause", None),
    ("rule", None),
    ("how", b"x"),
    ("evidence", (10**5000,)),
    ("exit_code", 10**5000),
    ("timeline", ((float("inf"), "x"),)),
    ("timeline", ((1.0, "x", "y"),)),
    ("timeline", ((1.0, 5),)),
    ("ended", "yesterday"),
]


@pytest.mark.parametrize(("field", "poison"), POISON, ids=[f"{field} {type(value).__name__}" for field, value in POISON])
def test_a_poisoned_verdict_counts_and_keeps_its_place_and_nothing_else_of_it(
    desk: Desk, caplog: pytest.LogCaptureFixture, field: str, poison: Any
) -> None:
    """So no restart counts it again; it is set aside once, and the next one is kept whole."""
    book = desk.opened()

    assert book.close_case(replace(VERDICT, **{field: poison}), WEB)
    assert book.close_case(replace(VERDICT, instance=8), WEB)

    assert {name: value(book, name) for name in ("up", "set_aside_total", "failures_total")} == {
        "up": 1,
        "set_aside_total": 1,
        "failures_total": 0,
    }
    assert sum(record.message == "casebook: a record cannot be kept" for record in caplog.records) == 1
    cause = "unknown" if field == "cause" else "forced_kill"
    for each in now_and_later(desk, book):
        assert not each.close_case(VERDICT, WEB)
        assert each.deaths() == Counter([(WEB, cause), (WEB, "forced_kill")])
        poisoned, whole = sorted(each.verdicts(10), key=lambda row: row["instance"])
        assert (poisoned["cause"], poisoned["exit_code"], poisoned["evidence"], len(poisoned["missing"])) == (cause, None, [], 1)
        assert (whole["exit_code"], whole["timeline"]) == (137, [[NOW - 12, "stop requested"], [NOW - 1.5, "ended"]])
        json.dumps(each.verdicts(10), allow_nan=False)


@pytest.mark.parametrize(
    ("verdict", "labels"),
    [
        (replace(VERDICT, instance=1 << 64), WEB),
        (replace(VERDICT, instance=-1), WEB),
        (replace(VERDICT, container=b"x"), WEB),  # type: ignore[arg-type] # poison
        (VERDICT, ("", "", 5)),
    ],
)
def test_a_death_of_what_cannot_be_named_counts_without_a_row(desk: Desk, verdict: Verdict, labels: Any) -> None:
    """As long as this agent runs; the next record is kept."""
    book = desk.opened()

    assert book.close_case(verdict, labels)
    assert not book.close_case(verdict, labels)
    assert book.close_case(replace(VERDICT, instance=8), DB)

    assert sum(book.deaths().values()) == 2
    assert (value(book, "up"), value(book, "failures_total")) == (1, 0)
    assert value(book, "set_aside_total") >= 1
    assert found(again(desk)) == [("forced_kill", 8)]


def test_what_cannot_be_told_from_others_at_all_stops_nobody(desk: Desk) -> None:
    """A key that is none: it is said, and the next record is kept when it is time."""
    book = desk.opened()

    assert not book.close_case(replace(VERDICT, container=["x"]), WEB)  # type: ignore[arg-type] # poison
    book.keep_case(CaseKey(BOOT, A, {}), "facts")  # type: ignore[arg-type] # poison
    assert "TypeError" in book.reason
    desk.now += RETRY_SECONDS
    assert book.close_case(VERDICT, WEB)

    assert (value(book, "up"), book.reason) == (1, "")
    assert again(desk).deaths() == {(WEB, "forced_kill"): 1}


def test_a_poisoned_open_case_is_set_aside_and_the_others_are_kept(desk: Desk) -> None:
    """Text that is none, a key that no column holds; dropping it is no fault either."""
    book = desk.opened()
    for key, facts in ((KEY, b"x"), (CaseKey(BOOT, A, 1 << 64), "facts"), (CaseKey(BOOT, A, 1), "facts")):
        book.keep_case(key, facts)  # type: ignore[arg-type] # poison
    book.drop_case(CaseKey(BOOT, A, 1 << 64))

    assert (value(book, "up"), value(book, "set_aside_total"), value(book, "failures_total")) == (1, 2, 0)
    assert again(desk).open_cases() == {(BOOT, A, 1): "facts"}


@settings(max_examples=50)
@given(st.text(st.characters(), min_size=1))
@example("/docker/\udcff")
@example('\0"]')
def test_whatever_a_container_is_called_is_kept(name: str) -> None:
    """A name that no text can hold is spelled out, in the lists too."""
    with TemporaryDirectory() as directory:
        desk = Desk(Path(directory))
        book = desk.opened()

        assert book.close_case(replace(VERDICT, evidence=(name,), timeline=((NOW, name),)), (name, "", ""))

        plain = name.encode(errors="backslashreplace").decode()
        assert (value(book, "up"), value(book, "set_aside_total")) == (1, 0)
        [row] = book.verdicts(1)
        assert (row["namespace"], row["evidence"], row["timeline"]) == (plain, [plain], [[NOW, plain]])
        assert book.deaths() == peek_deaths(str(desk.state)) == {((plain, "", ""), "forced_kill"): 1}
        book.close()


@pytest.mark.parametrize("text", ["nonsense", "{}", "[" * 100_000, '"x"'])
def test_a_list_in_the_file_that_is_none_is_empty(desk: Desk, text: str) -> None:
    """The rest of the verdict is shown."""
    book = desk.opened()
    book.close_case(VERDICT, WEB)
    desk.sql(f"UPDATE verdicts SET evidence = '{text}'")

    [row] = book.verdicts(1)

    assert (row["evidence"], row["sources"]) == ([], ["docker", "cgroup"])


# A look beside a running agent


def test_a_look_sees_deaths_and_verdicts_and_leaves_the_agent_alone(desk: Desk) -> None:
    """Those of the last moment, with the same filters."""
    book = desk.opened()
    book.save(STATE)
    book.close_case(VERDICT, WEB)
    book.close_case(replace(VERDICT, instance=8, cause="error", ended=NOW - 50), DB)
    before = everything(desk.state)

    assert peek_deaths(str(desk.state)) == book.deaths()
    assert peek_verdicts(str(desk.state), 10) == book.verdicts(10)
    for wanted in ({"cause": "error"}, {"namespace": "shop"}, {"container": "db"}, {"number": 1}, {"since": NOW - 20}):
        [row] = peek_verdicts(str(desk.state), 10, **wanted)
        assert [row] == book.verdicts(10, **wanted)

    assert everything(desk.state) == before
    assert book.close_case(replace(VERDICT, instance=9), WEB)
    assert peek(str(desk.state), str(desk.proc)) == (STATE, True)


@pytest.mark.parametrize("trouble", ["no directory", "none", "empty", "garbage", "of another version", "a directory"])
def test_a_look_at_what_cannot_be_read_says_why(desk: Desk, trouble: str) -> None:
    """With the path; nothing is made or moved."""
    desk.state.mkdir()
    if trouble == "of another version":
        desk.opened().close()
        desk.sql(f"PRAGMA user_version={schema.version() - 1}")
    elif trouble == "a directory":
        desk.file.mkdir()
    elif trouble in ("empty", "garbage"):
        desk.file.write_bytes(b"" if trouble == "empty" else b"no casebook" * 1000)
    before = sorted(desk.state.iterdir())
    directory = "" if trouble == "no directory" else str(desk.state)

    with pytest.raises(CannotPeek, match="--path.state" if trouble == "no directory" else str(desk.file)):
        peek_verdicts(directory, 10)
    with pytest.raises(CannotPeek):
        peek_deaths(directory)
    assert sorted(desk.state.iterdir()) == before


# Casebooks of before


def test_a_casebook_of_version_2_keeps_its_counters_and_takes_verdicts(desk: Desk) -> None:
    """An update of the agent costs nothing that was counted."""
    desk.state.mkdir()
    with closing(sqlite3.connect(desk.file)) as connection:
        connection.executescript((Path(__file__).with_name("casebooks") / "version-2.sql").read_text(encoding="utf-8"))
    book = desk.book()
    state, _ = book.open()
    assert (book.deaths(), book.open_cases(), book.verdicts(1)) == ({}, {}, [])

    assert book.close_case(VERDICT, WEB)

    kept = desk.kept()
    assert kept == state
    assert kept is not None
    assert kept.identities == {("shop", "web-0", "web"): 4}
    assert desk.books[-1].deaths() == {(WEB, "forced_kill"): 1}
    assert [row["pid"] for row in desk.books[-1].victims(10)] == [77]


def test_a_casebook_of_version_3_keeps_what_it_knows_of_deaths(desk: Desk) -> None:
    """Whatever comes later."""
    desk.state.mkdir()
    with closing(sqlite3.connect(desk.file)) as connection:
        connection.executescript((Path(__file__).with_name("casebooks") / "version-3.sql").read_text(encoding="utf-8"))
    book = desk.opened()

    assert book.deaths() == {(WEB, "forced_kill"): 2}
    assert book.open_cases() == {(BOOT, "bbbb", 8): '{"started": 4102444795.0}'}
    [row] = book.verdicts(10)
    assert (row["identifier"], row["instance"], row["exit_code"], row["grace_seconds"]) == ("aaaa", 7, 137, 10.0)
    assert (row["evidence"], row["timeline"]) == (["SIGKILL 10 s after SIGTERM"], [[4102444780.0, "stop requested"]])
    assert not book.close_case(replace(VERDICT, container=ContainerKey("aaaa")), WEB)


def test_every_field_of_a_record_has_a_column(desk: Desk) -> None:
    """And the other way round: a field that is not kept would be lost without a word."""
    of_verdict = {field.name for field in fields(Verdict)} - {"container"} | {"identifier"}

    assert set(schema.COLUMNS["verdicts"]) == {"boot_id", *schema.NAME, *of_verdict}
    assert list(schema.COLUMNS["victims"]) == ["boot_id", *schema.NAME, *(field.name for field in fields(Victim))]
