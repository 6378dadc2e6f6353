"""One poisoned record costs itself: it is set aside once and counted, and neither the next one nor the page notices."""

import json
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.casebook import FILE, CaseKey, peek
from agent.casebook.file import RETRY_SECONDS
from agent.postmortem import Postmortem
from collectors.inquest.facts import OomKilled
from collectors.inquest.instances import InstanceKills
from collectors.inquest.kill_state import Cursor, Victim
from collectors.inquest.kills import KillLedger
from collectors.inquest.top_cgroups import TopCgroup
from collectors.inquest.verdict import Verdict
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.kmsg import Record
from collectors.kernel.oom_log import OomKill, OomRecogniser
from tests.agent.test_casebook import BOOT, STATE, VICTIM, Desk, value
from tests.kills import settle

A, B, C, D = ContainerKey("a" * 64), ContainerKey("b" * 64), ContainerKey("c" * 64), ContainerKey("d" * 64)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose books are closed at the end."""
    desk = Desk(tmp_path)
    yield desk
    for book in desk.books:
        book.close()


POISONED: list[tuple[str, object]] = [
    *((field.name, 18446744073709537436 * 1024) for field in fields(Victim) if "int" in str(field.type)),
    *((field.name, None) for field in fields(Victim) if "None" not in str(field.type)),
    ("usage_bytes", 10**5000),
    ("anon_rss_bytes", -1),
    ("limit_bytes", 0.5),
    ("limit_bytes", b"x"),
    ("time", float("inf")),
    ("time", float("nan")),
    ("comm", b"x"),
]


@pytest.mark.parametrize(("field", "poison"), POISONED, ids=[f"{field} {type(value).__name__!s}" for field, value in POISONED])
def test_a_poisoned_victim_is_set_aside_once_and_the_next_one_is_kept(
    desk: Desk, caplog: pytest.LogCaptureFixture, field: str, poison: Any
) -> None:
    """The state that counts it is kept too, and a restart has all but that one record."""
    book = desk.opened()

    book.save(STATE, replace(VICTIM, sequence=1))
    book.save(replace(STATE, cursor=Cursor(2, 5)), replace(VICTIM, **{"sequence": 2, field: poison}))
    book.save(replace(STATE, cursor=Cursor(3, 5)), replace(VICTIM, sequence=3))

    assert [(row["sequence"]) for row in book.victims(10)] == [3, 1]
    assert {name: value(book, name) for name in ("up", "set_aside_total", "failures_total", "saves_total")} == {
        "up": 1,
        "set_aside_total": 1,
        "failures_total": 0,
        "saves_total": 3,
    }
    assert [record.reason[: len(field)] for record in caplog.records if record.levelno == logging.ERROR] == [field]  # type: ignore[attr-defined] # extra
    assert desk.kept() == replace(STATE, cursor=Cursor(3, 5))
    assert value(desk.books[-1], "set_aside_total") == 0


def test_in_memory_a_poisoned_victim_is_set_aside_too(desk: Desk) -> None:
    """What cannot be shown is not."""
    desk.boot("")
    book = desk.opened()
    book.save(STATE, replace(VICTIM, time=float("nan")))
    book.save(STATE, replace(VICTIM, sequence=5))

    assert [row["sequence"] for row in book.victims(10)] == [5]
    json.dumps(book.victims(10), allow_nan=False)


def test_poisoned_rows_of_the_state_are_left_out_once_and_the_others_are_kept(desk: Desk) -> None:
    """A kernel that prints nonsense in memory.events; what comes right later is kept."""
    book = desk.opened()
    book.save(STATE)
    poisoned = replace(
        STATE,
        cursor=Cursor(2000, 6),
        instances={
            **STATE.instances,
            (C, 1): InstanceKills(path="/docker/c", kills_at_first=0, kills=(1 << 64) - 1),
            (D, 1 << 64): InstanceKills(path="/docker/d", kills_at_first=1),
        },
        top_cgroups={**STATE.top_cgroups, "/odd": TopCgroup(inode=3, kills_at_first=1, kills=-1)},
        sums={**STATE.sums, "outside": Counter(node=1 << 63)},
        identities={**STATE.identities, ("", "", "x"): 1 << 63},
    )

    for _ in range(3):
        book.save(poisoned)
    assert (value(book, "up"), value(book, "set_aside_total"), value(book, "failures_total")) == (1, 5, 0)
    desk.file.unlink()
    book.save(poisoned)
    assert (value(book, "up"), value(book, "set_aside_total"), value(book, "failures_total")) == (1, 5, 1)

    expected = replace(STATE, cursor=Cursor(2000, 6), sums={"ended": STATE.sums["ended"]})
    assert desk.kept() == expected
    desk.books[-1].save(replace(expected, top_cgroups={"/odd": TopCgroup(inode=3, kills_at_first=1, kills=1)}))
    kept = desk.kept()
    assert kept is not None
    assert kept.top_cgroups == {"/odd": TopCgroup(inode=3, kills_at_first=1, kills=1)}


def test_a_cursor_that_cannot_be_kept_is_no_casebook(desk: Desk) -> None:
    """Without the place in the log nothing is kept, and that is said; the file stays as it was, and goes on when it can."""
    book = desk.opened()
    book.save(STATE)
    book.save(replace(STATE, cursor=Cursor(1 << 63, 5), unnamed_of_ended=9), VICTIM)

    assert value(book, "up") == 0
    assert "sequence" in book.reason
    desk.now += RETRY_SECONDS
    book.save(replace(STATE, unnamed_of_ended=9))
    assert (value(book, "up"), book.reason) == (1, "")
    assert [row["sequence"] for row in book.victims(10)] == [VICTIM.sequence]
    assert desk.kept() == replace(STATE, unnamed_of_ended=9)
    assert not (desk.state / f"{FILE}.broken").exists()


ERRORS = [
    OverflowError("too large"),
    MemoryError(),
    RecursionError("deep"),
    TypeError("wrong"),
    ValueError("wrong"),
    UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"),
    KeyError("x"),
    sqlite3.InterfaceError("bad parameter"),
    sqlite3.ProgrammingError("number of bindings"),
    sqlite3.IntegrityError("NOT NULL constraint failed"),
    sqlite3.OperationalError("near x: syntax error"),
    sqlite3.Warning("one statement at a time"),
    RuntimeError("of whatever kind"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["kills.rows", "victims.misfit", "rows.write", "victims.add"])
def test_no_fault_of_a_record_or_a_statement_raises_or_discards_the_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    """While it lasts nothing is kept, and `up` says so; then all is, and the file is the same as before."""

    def fail(*_: object) -> None:
        raise error

    book = desk.opened()
    book.save(STATE, replace(VICTIM, sequence=1))
    with monkeypatch.context() as patch:
        patch.setattr(f"agent.casebook.{where}", fail)
        book.save(replace(STATE, cursor=Cursor(1300, 5)), replace(VICTIM, sequence=2))
        assert value(book, "up") == 0
        assert type(error).__name__ in book.reason or str(error) in book.reason

    desk.now += RETRY_SECONDS
    book.save(replace(STATE, cursor=Cursor(1400, 5)), replace(VICTIM, sequence=3))

    assert (value(book, "up"), book.reason) == (1, "")
    found = [row["sequence"] for row in book.victims(10)]
    assert found == ([3, 1] if where == "victims.misfit" else [3, 2, 1])
    assert not (desk.state / f"{FILE}.broken").exists()
    assert desk.kept() == replace(STATE, cursor=Cursor(1400, 5))


def test_a_statement_that_the_file_has_no_tables_for_is_found_out_at_the_next_opening(desk: Desk) -> None:
    """Somebody dropped a table: the file is kept beside, and begun anew; the statement alone is no reason for that."""
    book = desk.opened()
    book.save(STATE, VICTIM)
    desk.sql("DROP TABLE names")
    book.save(replace(STATE, names={}))
    assert value(book, "up") == 0
    desk.now += RETRY_SECONDS
    book.save(STATE)

    assert value(book, "up") == 1
    assert (desk.state / f"{FILE}.broken").exists()
    assert desk.kept() == STATE


STORED = {
    "lives": [
        "identifier = x'ff'",
        "path = x'00'",
        "kills = 'many'",
        "kills = -1",
        "ooms = 0.5",
        "kills_at_first = 'x'",
        "events = 'x'",
        "groups = -1",
        "container = x'00'",
    ],
    "slices": ["inode = 'x'", "kills = -9223372036854775808", "counted = 1e300", "node = 'x'"],
    "sums": ["name = x'01'", "pod = -5", "node = 'x'"],
    "identities": ["pod = NULL", "kills = 'x'", "container = x'07'"],
    "names": ["pod = x'05'", "container = x'ff'"],
    "victims": [
        "time = 9e999",
        "time = 'yesterday'",
        "limit_bytes = x'00ff'",
        "usage_bytes = -1",
        "is_init = 'yes'",
        "comm = x'ff'",
        "boot_id = x'00'",
        "sequence = 0.5",
    ],
    "verdicts": [
        "boot_id = x'00'",
        "instance = 'x'",
        "cause = x'00'",
        "ended = 9e999",
        "exit_code = 'x'",
        "signal = -1",
        "evidence = x'5b5d'",
    ],
    "deaths": ["cause = x'00'", "count = 'many'", "count = -1"],
    "open_cases": ["boot_id = x'00'", "instance = -1", "facts = x'00'"],
    "epoch": ["boot_id = x'00'", "started = 'x'", "sequence = 1.5", "time_us = 'x'"],
}


@pytest.mark.parametrize(("table", "change"), [(table, change) for table, changes in STORED.items() for change in changes])
@pytest.mark.parametrize("is_full", [False, True], ids=["", "disk full"])
def test_a_poisoned_row_in_the_file_is_dropped_and_the_others_come_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, table: str, change: str, *, is_full: bool
) -> None:
    """Whoever or whatever wrote it: it breaks neither the start nor the page nor the list of victims, and is counted once.

    Where nothing can be deleted it is read over until that can be done.
    """
    book = desk.opened()
    book.save(STATE, replace(VICTIM, sequence=1))
    book.save(STATE, replace(VICTIM, sequence=2))
    for instance in (1, 2):
        verdict = Verdict(container=A, instance=instance, cause="killed", ended=VICTIM.time)
        assert book.close_case(verdict, ("", "", f"c{instance}"))
        book.keep_case(CaseKey(BOOT, A, 10 + instance), "facts")
    book.close()
    row = {"lives": "inode = 7", "slices": "path = '/docker'", "sums": "name = 'outside'", "identities": "container = 'db'"}
    row |= {"victims": "number = 2", "verdicts": "number = 2", "deaths": "container = 'c2'", "open_cases": "instance = 12"}
    desk.sql(f"UPDATE {table} SET {change} WHERE {row.get(table, '1')}")
    again = desk.book()

    with monkeypatch.context() as patch:
        if is_full:
            patch.setattr("agent.casebook.schema.forget", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk is full")))
        state, _ = again.open()

    expected: dict[str, Any] = {
        "lives": {"instances": {key: life for key, life in STATE.instances.items() if key[1] != 7}},
        "slices": {"top_cgroups": {"/system.slice": TopCgroup()}},
        "sums": {"sums": {"ended": STATE.sums["ended"]}},
        "identities": {"identities": {("shop", "web-0", "web"): 4}},
        "names": {"names": {}},
    }
    assert state == (None if table == "epoch" else replace(STATE, **expected.get(table, {})))
    assert [row["sequence"] for row in again.victims(10)] == ([1] if table == "victims" else [2, 1])
    json.dumps([again.victims(10), again.verdicts(10)], allow_nan=False)
    assert sorted(row["instance"] for row in again.verdicts(10)) == ([1] if table == "verdicts" else [1, 2])
    assert sorted(labels[2] for labels, _ in again.deaths()) == (["c1"] if table == "deaths" else ["c1", "c2"])
    assert sorted(key.instance for key in again.open_cases()) == ([11] if table == "open_cases" else [11, 12])
    assert (value(again, "set_aside_total"), value(again, "failures_total"), value(again, "up")) == (0 if is_full else 1, 0, 1)
    settle(KillLedger(again, state), {})
    again.close()
    if not is_full:
        assert value(desk.opened(), "set_aside_total") == 0


def test_a_look_at_a_file_with_poisoned_rows_reads_them_over(desk: Desk) -> None:
    """`coroner metrics` deletes nothing, and shows the others."""
    desk.opened().save(STATE)
    desk.sql("UPDATE identities SET kills = 'many' WHERE container = 'db'")
    desk.sql("UPDATE names SET container = CAST(x'61ff' AS TEXT)")
    before = desk.file.read_bytes()

    state, same_boot = peek(str(desk.state), str(desk.proc))

    expected = replace(STATE, identities={("shop", "web-0", "web"): 4}, names={A: ("shop", "web-0", "a\\xff")})
    assert (state, same_boot) == (expected, True)
    assert desk.file.read_bytes() == before


def test_a_sum_that_nobody_knows_does_not_break_the_start(desk: Desk) -> None:
    """It is as sound as any, but no sum of the ledger's."""
    desk.opened().save(STATE)
    desk.books[0].close()
    desk.sql("UPDATE sums SET name = 'other' WHERE name = 'outside'")
    again = desk.book()
    state, same_boot = again.open()

    totals = settle(KillLedger(again, state, same_boot=same_boot), {})
    assert totals.by_scope["pod"] == STATE.sums["ended"]["pod"]
    kept = desk.kept()
    assert kept is not None
    assert "other" not in kept.sums


def test_text_in_the_file_that_is_no_text_is_spelled_out(desk: Desk) -> None:
    """A bit that fell over in a name breaks neither the start nor the list of victims."""
    book = desk.opened()
    book.save(STATE, VICTIM)
    book.close()
    desk.sql("UPDATE names SET container = CAST(x'61ff' AS TEXT)")
    desk.sql("UPDATE victims SET comm = CAST(x'61ff' AS TEXT)")
    again = desk.book()
    state, _ = again.open()

    assert state is not None
    assert list(state.names.values()) == [("shop", "web-0", "a\\xff")]
    assert again.victims(1)[0]["comm"] == "a\\xff"


def test_more_about_the_last_victim_replaces_it(desk: Desk) -> None:
    """The kernel log named the container of a kill after the kill. Another kill is another record, whatever is alike."""
    nameless = replace(VICTIM, identifier="", cgroup="")
    for book in (desk.opened(), desk.book()):  # the second one is never opened: in memory only
        book.save(STATE, replace(nameless, sequence=1))
        book.save(STATE, replace(nameless, sequence=2))
        book.save(STATE, replace(VICTIM, sequence=2, pid=None))
        book.save(STATE, replace(VICTIM, sequence=1))

        assert [(row["sequence"], row["cgroup"], row["pid"]) for row in book.victims(10)] == [
            (1, VICTIM.cgroup, 77),
            (2, VICTIM.cgroup, None),
            (1, "", 77),
        ]


# --- from a line of the kernel log to the page after a restart ---

NUMBERS = st.integers(-(10**20) + 1, 10**20 - 1) | st.sampled_from([0, -1, -2, 1 << 31, 1 << 63, (1 << 63) - 1, (1 << 64) - 1, 1 << 53])
NAMES = st.binary(min_size=1, max_size=15).filter(lambda name: b"\0" not in name)
HOMES = st.sampled_from([b"/docker/" + b"a" * 64, b"/system.slice/x.service", b"/docker/" + b"b" * 64 + b"/in\xffside\xed\xa0\x80"])


def lines(numbers: list[int], comm: bytes, home: bytes, *, is_old: bool) -> list[tuple[int, bytes]]:
    """Write one kill as the kernel does."""
    pid, uid, usage, limit, failcnt, vm, anon, file, shmem, tables, adj = numbers
    sizes = b"total-vm:%dkB, anon-rss:%dkB, file-rss:%dkB, shmem-rss:%dkB" % (vm, anon, file, shmem)
    counters = (6, b"memory: usage %dkB, limit %dkB, failcnt %d" % (usage, limit, failcnt))
    if is_old:
        return [
            (6, b"Task in %s killed as a result of limit of %s" % (home, home)),
            counters,
            (3, b"Memory cgroup out of memory: Kill process %d (%s) score %d or sacrifice child" % (pid, comm, adj)),
            (3, b"Killed process %d (%s) %s" % (pid, comm, sizes)),
        ]
    report = b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0"
    report += b",oom_memcg=%s,task_memcg=%s,task=%s,pid=%d,uid=%d"
    kill = b"Memory cgroup out of memory: Killed process %d (%s) %s, UID:%d pgtables:%dkB oom_score_adj:%d"
    return [counters, (6, report % (home, home, comm, pid, uid)), (3, kill % (pid, comm, sizes, uid, tables, adj))]


@settings(max_examples=50)
@given(
    kills=st.lists(st.tuples(st.lists(NUMBERS, min_size=11, max_size=11), NAMES, HOMES, st.booleans()), min_size=1, max_size=3),
    late=st.booleans(),
)
@example(kills=[([28449, 0, 18446744073709537436, 16777216, 44, 8572, 136, 0, 0, 0, 0], b"x", b"/docker/" + b"b" * 64, True)], late=False)
@example(kills=[([8204, -2, 204800, 204800, 2834, 10491132, 92, 444, 1, 0, 0], b"a.out", b"/docker/" + b"a" * 64, False)], late=False)
@example(kills=[([(1 << 64) - 1] * 11, b"\xff\n", b"/docker/" + b"a" * 64, False)] * 3, late=True)
def test_every_victim_of_a_log_line_is_stored_and_the_next_page_has_its_count(
    kills: list[tuple[list[int], bytes, bytes, bool]], *, late: bool
) -> None:
    """Through the recogniser, the postmortem, the ledger and the casebook, and once more after a restart of the agent."""
    with TemporaryDirectory() as directory:
        desk = Desk(Path(directory))
        book = desk.opened()
        ledger, recogniser, sequence = KillLedger(book), OomRecogniser(), 100
        for numbers, comm, home, is_old in kills:
            for level, text in lines(numbers, comm, home, is_old=is_old):
                sequence += 1
                kill = recogniser.feed(Record(0, level, sequence, sequence * 10_000_000, False, b"", text))
                if kill is not None:
                    count(ledger, kill, desk, late=late)
        before = settle(ledger, {A: ("", "", "a"), B: ("", "", "b")})

        assert sum(before.by_scope.values()) == len(kills)
        assert (value(book, "up"), value(book, "failures_total"), value(book, "set_aside_total")) == (1, 0, 0)
        stored = book.victims(10)
        assert len(stored) == len(kills)
        json.dumps(stored, allow_nan=False)
        book.close()
        again = desk.book()
        state, same_boot = again.open()
        assert same_boot
        after = settle(KillLedger(again, state), {A: ("", "", "a"), B: ("", "", "b")})
        assert (after.by_scope, after.by_container) == (before.by_scope, before.by_container)
        assert [row["boot_id"] for row in again.victims(10)] == [BOOT] * len(kills)
        again.close()


def count(ledger: KillLedger, kill: OomKill, desk: Desk, *, late: bool) -> None:
    """Do what the register does with a kill."""
    postmortem = Postmortem(proc_root=str(desk.proc), cgroup_root=None, is_init=lambda _key, _inode, _pid: None)
    cursor = Cursor(kill.sequence, kill.timestamp_us)
    examined = postmortem.examine(OomKilled.of(kill, source="kmsg", time=time.time(), is_late=late, cursor=cursor))
    ledger.logged(replace(examined, inode=None if examined.id is None else 5))
