"""The casebook: what one agent kept, the next one knows; what fails is said and costs nothing but the memory."""

import asyncio
import errno
import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.casebook import FILE, KEEP_SECONDS, TIDY_SECONDS, Casebook, peek, peek_deaths
from agent.casebook.file import RETRY_SECONDS
from agent.casebook.schema import MIGRATIONS, version
from agent.casebook.victims import KEEP_VICTIMS
from collectors.inquest.instances import InstanceKills
from collectors.inquest.kill_state import Cursor, State, Victim
from collectors.inquest.top_cgroups import TopCgroup
from collectors.kernel.container_id import ContainerKey

A, B, C, D = ContainerKey("a" * 64), ContainerKey("b" * 64), ContainerKey("c" * 64), ContainerKey("d" * 64)

BOOT = "11111111-2222-3333-4444-555555555555"
VICTIM = Victim(
    time=time.time(),
    sequence=1234,
    identifier="a" * 64,
    cgroup="/docker/" + "a" * 64,
    scope="container",
    limit_of="/docker/" + "a" * 64,
    limit_bytes=1 << 30,
    usage_bytes=1 << 30,
    pid=77,
    namespace_pid=1,
    is_init=True,
    comm="app\\xff",
    uid=0,
    oom_score_adj=-998,
    total_vm_bytes=1,
    anon_rss_bytes=2,
    file_rss_bytes=3,
    shmem_rss_bytes=None,
)
STATE = State(
    cursor=Cursor(1234, 5),
    started=True,
    unnamed_of_ended=2,
    instances={
        (A, 7): InstanceKills(
            kills=5,
            events=6,
            groups=1,
            path="/docker/a",
            kills_at_first=1,
            ooms=4,
            ooms_settled=3,
            settled=2,
            by_scope=Counter(container=2, node=1),
            guessed=1,
        ),
        (B, 9): InstanceKills(path="/docker/b"),
    },
    top_cgroups={
        "/docker": TopCgroup(kills=9, events=9, groups=None, inode=3, kills_at_first=1, counted=4, guessed=Counter(ancestor=1)),
        "/system.slice": TopCgroup(),
    },
    sums={"outside": Counter(node=3), "ended": Counter(container=1, pod=2)},
    identities={("shop", "web-0", "web"): 4, ("", "", "db"): 1},
    names={A: ("shop", "web-0", "web")},
)


class Desk:
    """A directory for casebooks, a kernel that has booted, and a clock."""

    def __init__(self, tmp_path: Path) -> None:
        self.state = tmp_path / "state"
        self.proc = tmp_path / "proc"
        self.now = 1_700_000_000.0
        self.books: list[Casebook] = []
        self.boot(BOOT)

    def boot(self, boot_id: str) -> None:
        """Boot the kernel."""
        path = self.proc / "sys/kernel/random/boot_id"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{boot_id}\n")

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self.state / FILE

    def book(self) -> Casebook:
        """Make a casebook, not opened yet."""
        self.books.append(Casebook(str(self.state), str(self.proc), monotonic=lambda: self.now))
        return self.books[-1]

    def opened(self) -> Casebook:
        """Make a casebook and open it."""
        book = self.book()
        book.open()
        return book

    def sql(self, statement: str) -> None:
        """Change the file behind the casebook's back."""
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(statement)

    def kept(self) -> State | None:
        """What the next agent gets."""
        for book in self.books:
            book.close()
        return self.book().open()[0]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk whose books are closed at the end."""
    desk = Desk(tmp_path)
    yield desk
    for book in desk.books:
        book.close()


def value(book: Casebook, name: str) -> float:
    """One sample of it."""
    return next(value for metric, _, value in book.samples() if metric.name == f"coroner_casebook_{name}")


def saved(book: Casebook, state: State = STATE, victim: Victim | None = None) -> bool:
    """Save, and say whether it was kept."""
    book.save(state, victim)
    return value(book, "up") == 1 and not book.reason


def test_everything_comes_back(desk: Desk) -> None:
    """Every field of the state."""
    assert desk.book().open() == (None, True)
    assert saved(desk.books[0])

    assert desk.kept() == STATE


def test_only_what_has_changed_is_written_and_nothing_else_is_forgotten(desk: Desk) -> None:
    """One transaction each; none when nothing has changed."""
    book = desk.opened()
    book.save(STATE)
    changed = State(
        cursor=Cursor(None, 7),
        started=True,
        instances={(B, 9): InstanceKills(path="/docker/b", kills_at_first=0, kills=1)},
        top_cgroups={"/system.slice": TopCgroup()},
        sums={"outside": Counter(node=4)},
        identities={("shop", "web-0", "web"): 4},
        names={B: ("", "", "db")},
    )
    desk.sql("UPDATE identities SET kills = 77")
    book.save(changed)
    book.save(changed)

    assert value(book, "saves_total") == 2
    assert desk.kept() == replace(changed, identities={("shop", "web-0", "web"): 77})


@settings(max_examples=50)
@given(st.text(st.characters(), min_size=1))
@example("/docker/\udcff")
@example("\0")
def test_whatever_a_container_writes_is_kept(name: str) -> None:
    """A name that no text can hold is spelled out; it never breaks the file."""
    with TemporaryDirectory() as directory:
        desk = Desk(Path(directory))
        state = State(
            instances={(A, 1): InstanceKills(path=name, kills_at_first=0, kills=1)},
            top_cgroups={name: TopCgroup()},
            identities={("", name, ""): 1},
            names={A: ("", "", name)},
        )
        book = desk.opened()

        assert saved(book, state, replace(VICTIM, comm=name, cgroup=name))
        assert value(book, "failures_total") == 0
        plain = name.encode(errors="backslashreplace").decode()
        assert book.victims(1)[0]["comm"] == plain
        kept = desk.kept()
        assert kept is not None
        assert kept.names == {A: ("", "", plain)}
        desk.books[-1].close()


def test_what_is_assumed_of_an_unknown_instance_is_not_written(desk: Desk) -> None:
    """Most containers never see a kill; one that was born at 0 and one that is not known are the same."""
    blank = {(C, 1): InstanceKills(path="/docker/c", kills_at_first=0), (D, 2): InstanceKills(path="/docker/d", kills_at_first=0, kills=1)}
    desk.opened().save(replace(STATE, instances=blank))

    kept = desk.kept()

    assert kept is not None
    assert list(kept.instances) == [(D, 2)]


def test_another_boot_is_told_apart(desk: Desk) -> None:
    """Inodes and the log's numbers mean nothing in it."""
    desk.opened().save(STATE)
    desk.books[0].close()
    desk.boot("another")
    again = desk.book()

    assert again.open() == (STATE, False)
    again.save(STATE)
    again.close()
    assert desk.book().open() == (STATE, True)


def test_in_memory_victims_have_names_too(desk: Desk) -> None:
    """The one that the container has by now."""
    desk.boot("")
    book = desk.opened()
    book.save(replace(STATE, names={}), VICTIM)
    assert [(row["namespace"], row["pod"], row["container"]) for row in book.victims(2)] == [("", "", "")]
    book.save(STATE)

    assert [(row["namespace"], row["pod"], row["container"]) for row in book.victims(2)] == [STATE.names[A]]


def test_victims_newest_first(desk: Desk) -> None:
    """With the boot and the number of the record that they come from, and the name that the container has by now."""
    book = desk.opened()
    nameless = replace(STATE, names={})
    for sequence in (1, 2, 3):
        book.save(nameless, replace(VICTIM, sequence=sequence))
    assert [row["container"] for row in book.victims(2)] == ["", ""]
    book.save(STATE)

    found = book.victims(2)

    assert [(row["number"], row["boot_id"], row["sequence"], row["container"]) for row in found] == [
        (3, BOOT, 3, "web"),
        (2, BOOT, 2, "web"),
    ]
    assert {name: found[0][name] for name in ("pid", "comm", "is_init", "shmem_rss_bytes")} == {
        "pid": 77,
        "comm": "app\\xff",
        "is_init": True,
        "shmem_rss_bytes": None,
    }


def test_victims_are_called_as_their_container_is_by_now(desk: Desk) -> None:
    """The name came after the id, which came after the kill; whoever is not known any more keeps its own."""
    book = desk.opened()
    for sequence, names in enumerate(({}, {A: ("", "", 12 * "a")}, {A: ("", "", "web")}, {})):
        book.save(replace(STATE, names=names), replace(VICTIM, sequence=sequence) if not names else None)

    assert [row["container"] for row in book.victims(2)] == ["", "web"]


@pytest.mark.parametrize("by_housekeeping", [False, True])
def test_old_victims_and_identities_are_forgotten(desk: Desk, by_housekeeping: bool) -> None:
    """By age: when it is opened, and once in a while."""
    book = desk.opened()
    book.save(STATE, VICTIM)
    book.save(STATE, VICTIM)
    desk.sql(f"UPDATE identities SET time = time - {KEEP_SECONDS + 60} WHERE container = 'db'")
    desk.sql(f"UPDATE victims SET time = time - {KEEP_SECONDS + 60} WHERE number = 1")
    if by_housekeeping:
        book.tidy()
    else:
        book.close()
        book = desk.opened()

    assert [row["number"] for row in book.victims(10)] == [2]
    kept = desk.kept()
    assert kept is not None
    assert kept == replace(STATE, identities={("shop", "web-0", "web"): 4})


@pytest.mark.parametrize("in_memory", [True, False])
def test_victims_are_found_by_their_containers(desk: Desk, in_memory: bool) -> None:
    """By its ids, of which a name may have had several; in a file and without one."""
    book = Casebook("", str(desk.proc)) if in_memory else desk.opened()
    for number, identifier in enumerate("abca"):
        book.save(STATE, replace(VICTIM, sequence=number, identifier=identifier))

    assert [row["sequence"] for row in book.victims(10, {"a", "c"})] == [3, 2, 0]
    assert [row["sequence"] for row in book.victims(1, {"a"})] == [3]
    assert book.victims(10, ()) == []


def test_victims_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest make room."""
    assert KEEP_VICTIMS >= 1000
    monkeypatch.setattr("agent.casebook.victims.KEEP_VICTIMS", 3)
    book = desk.opened()
    for sequence in range(10):
        book.save(STATE, replace(VICTIM, sequence=sequence))

    assert [row["sequence"] for row in book.victims(100)] == [9, 8, 7]


async def test_housekeeping_waits_until_there_is_something_to_do(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of writes has grown, or an hour has passed."""
    monkeypatch.setattr("agent.casebook.LOOK_SECONDS", 0.001)
    book = desk.opened()
    done = []
    monkeypatch.setattr(book, "tidy", lambda: done.append(desk.now))
    house = asyncio.create_task(book.keep_house())

    async def looks(number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0.001)

    async def until(tidied: int) -> None:
        async with asyncio.timeout(120):
            while len(done) < tidied:
                await looks(1)

    await looks(20)
    assert done == []
    desk.now += TIDY_SECONDS
    await until(1)
    await looks(20)
    assert len(done) == 1
    for sequence in range(1000):
        book.save(STATE, replace(VICTIM, sequence=sequence))
    await until(2)
    house.cancel()


def test_housekeeping_keeps_the_log_of_writes_short(desk: Desk) -> None:
    """Nobody else folds it into the file: that would stop the event loop."""
    book = desk.opened()
    wal = desk.state / f"{FILE}-wal"
    grown = []
    for turn in range(6):
        for kills in range(50):
            book.save(replace(STATE, cursor=Cursor(1000 * turn + kills, 5)))
        grown.append(wal.stat().st_size)
        book.tidy()

    assert max(grown) < 2 * grown[0]
    assert saved(book)
    assert desk.kept() == STATE


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41b", "a b", "a\udcff"])
def test_the_name_of_the_directory_is_nothing_but_a_name(desk: Desk, name: str) -> None:
    """It may be any, also one that means something in an address, or is not UTF-8: housekeeping and whoever looks find the same file."""
    directory = f"{desk.proc.parent}/{name}"
    with closing(Casebook(directory, str(desk.proc))) as book:
        book.open()
        book.save(STATE)
        book.tidy()

        assert b"web-0" in Path(directory, FILE).read_bytes(), "the write-ahead log was not folded into it"
        assert peek(directory, str(desk.proc)) == (STATE, True)
        assert peek_deaths(directory) == {}


# What goes wrong


def test_no_directory_is_memory_only(desk: Desk) -> None:
    """It was asked for, so it is no failure; victims of this process are known."""
    book = Casebook("", str(desk.proc))

    assert book.open() == (None, True)
    book.save(STATE, VICTIM)
    assert "memory only" in book.reason
    assert list(book.samples()) == []
    assert [row["pid"] for row in book.victims(10)] == [77]


def test_without_a_boot_id_is_memory_only(desk: Desk) -> None:
    """Nobody could tell whether the log's numbers still mean the same."""
    shutil.rmtree(desk.proc)
    book = desk.opened()

    assert not saved(book)
    assert "boot_id" in book.reason
    assert not desk.file.exists()


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_file_is_moved_aside_and_begun_anew(desk: Desk, content: bytes) -> None:
    """It is kept for whoever wants to see it."""
    desk.state.mkdir()
    desk.file.write_bytes(content)
    book = desk.book()

    assert book.open() == (None, True)
    assert "broken" in book.reason
    assert saved(book)
    assert (desk.state / f"{FILE}.broken").read_bytes() == content
    assert desk.kept() == STATE


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 5000, 12288])
def test_a_truncated_file_never_raises_and_never_makes_up_numbers(desk: Desk, size: int) -> None:
    """At whatever byte it ends: what comes back is all or nothing, and the next agent can keep again."""
    desk.opened().save(STATE)
    desk.books[0].close()
    os.truncate(desk.file, size)
    book = desk.book()

    assert book.open()[0] in (None, STATE)
    assert saved(book)
    assert desk.kept() == STATE


@pytest.mark.parametrize("how", ["unlink", "replace", "rmtree", "truncate", "garbage"])
def test_a_file_lost_or_broken_while_it_is_open_is_made_anew_at_once(desk: Desk, how: str) -> None:
    """With all that the ledger knows, and with the victim of that moment."""
    book = desk.opened()
    book.save(STATE)
    match how:
        case "unlink":
            desk.file.unlink()
        case "replace":
            (desk.state / "other").write_bytes(b"")
            (desk.state / "other").replace(desk.file)
        case "rmtree":
            shutil.rmtree(desk.state)
        case "truncate":
            os.truncate(desk.file, 100)
        case "garbage":
            (desk.state / "other").write_bytes(b"garbage" * 5000)
            (desk.state / "other").replace(desk.file)

    assert saved(book, replace(STATE, cursor=Cursor(1235, 5)), VICTIM)
    assert value(book, "failures_total") == 1
    assert [row["pid"] for row in book.victims(10)] == [77]
    assert desk.kept() == replace(STATE, cursor=Cursor(1235, 5))


def test_an_older_schema_is_brought_up_to_date(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step, each in a transaction, with what is in it; once."""
    desk.opened().save(STATE, VICTIM)
    desk.books[0].close()
    steps = (*MIGRATIONS, ("ALTER TABLE victims ADD COLUMN colour TEXT", "UPDATE victims SET colour = 'red'"))
    monkeypatch.setattr("agent.casebook.schema.MIGRATIONS", steps)

    for _ in range(2):
        assert desk.kept() == STATE
        with closing(sqlite3.connect(desk.file)) as connection:
            assert connection.execute("SELECT colour, pid FROM victims").fetchall() == [("red", 77)]
            assert connection.execute("PRAGMA user_version").fetchone() == (len(steps),)


SCHEMAS = sorted(Path(__file__).with_name("casebooks").glob("version-*.sql"))
"""A casebook of each version, as an agent of that time left it. A new version adds one; none is ever edited."""


def test_there_is_a_casebook_of_every_version() -> None:
    """Whoever adds a step keeps what it starts from."""
    assert [path.name for path in SCHEMAS] == [f"version-{number}.sql" for number in range(1, version() + 1)]


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_a_casebook_of_every_version_goes_on(desk: Desk, path: Path) -> None:
    """All its counters, names and victims are there, and it is not moved aside."""
    desk.state.mkdir()
    with closing(sqlite3.connect(desk.file)) as connection:
        connection.executescript(path.read_text(encoding="utf-8"))

    state, same_boot = desk.book().open()

    assert state is not None
    assert same_boot
    assert state.cursor == Cursor(1234, 5)
    assert (state.started, state.unnamed_of_ended) == (True, 2)
    instance, top = state.instances[ContainerKey("aaaa"), 7], state.top_cgroups["/docker"]
    assert (instance.kills, instance.kills_at_first, instance.ooms, instance.guessed) == (5, 1, 4, 1)
    assert instance.by_scope == Counter(container=2, node=1)
    assert (top.inode, top.kills, top.counted, top.guessed) == (3, 9, 4, Counter(ancestor=1))
    assert state.sums == {"ended": Counter(container=1, pod=2), "outside": Counter(node=3)}
    assert state.identities == {("shop", "web-0", "web"): 4}
    assert state.names == {"aaaa": ("shop", "web-0", "web")}
    assert [(victim["pid"], victim["container"]) for victim in desk.books[0].victims(10)] == [(77, "web")]
    assert sorted(file.name for file in desk.state.iterdir() if "broken" in file.name) == []


def test_a_sum_has_the_name_in_the_file_that_it_always_had(desk: Desk) -> None:
    """Whatever it is called here: older agents' files have it, and theirs goes on."""
    desk.opened().save(State(sums={"without_cgroup": Counter(node=3), "outside": Counter(pod=1)}))
    with closing(sqlite3.connect(desk.file)) as connection:
        assert sorted(connection.execute("SELECT name, pod, node FROM sums")) == [("nameless", 0, 3), ("outside", 1, 0)]

    kept = desk.kept()
    assert kept is not None
    assert kept.sums == {"without_cgroup": Counter(node=3), "outside": Counter(pod=1)}


def test_a_step_that_fails_leaves_the_old_schema(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half of it, nor the number."""
    desk.opened().save(STATE)
    desk.books[0].close()
    steps = (*MIGRATIONS, ("ALTER TABLE victims ADD COLUMN colour TEXT", "INSERT INTO sums SELECT * FROM sums"))
    monkeypatch.setattr("agent.casebook.schema.MIGRATIONS", steps)
    book = desk.book()
    assert book.open() == (None, True)
    book.close()
    monkeypatch.setattr("agent.casebook.schema.MIGRATIONS", MIGRATIONS)

    assert desk.kept() == STATE


def test_a_newer_schema_is_not_touched(desk: Desk) -> None:
    """A newer agent may come back to it."""
    desk.opened().save(STATE)
    desk.books[0].close()
    desk.sql(f"PRAGMA user_version={version() + 1}")
    before = desk.file.read_bytes()
    book = desk.book()

    assert book.open() == (None, True)
    assert not saved(book)
    desk.now += RETRY_SECONDS
    assert not saved(book)
    assert "newer" in book.reason
    assert desk.file.read_bytes() == before


def test_two_agents_never_share_it(desk: Desk) -> None:
    """The second one runs in memory; it does not take over later either, for it does not know what is in it."""
    first, second = desk.opened(), desk.book()
    first.save(STATE)

    assert second.open() == (None, True)
    assert not saved(second, State())
    assert "another agent" in second.reason
    first.close()
    desk.now += RETRY_SECONDS
    assert not saved(second, State())
    assert desk.kept() == STATE


def test_a_foreign_lock_is_waited_out(desk: Desk) -> None:
    """Somebody looks into the file with a tool that locks it."""
    book = desk.opened()
    book.save(STATE)
    with closing(sqlite3.connect(desk.file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert not saved(book, replace(STATE, cursor=Cursor(1300, 5)), VICTIM)
        assert "locked" in book.reason
        connection.execute("ROLLBACK")
    assert not saved(book, replace(STATE, cursor=Cursor(1400, 5))), "not at every kill"

    desk.now += RETRY_SECONDS
    assert saved(book, replace(STATE, cursor=Cursor(1500, 5)))
    assert [row["pid"] for row in book.victims(10)] == [77]
    assert desk.kept() == replace(STATE, cursor=Cursor(1500, 5))


def test_a_full_disk(desk: Desk) -> None:
    """The file may not grow: nothing is half written, and it is tried again."""
    book = desk.opened()
    book.save(STATE)
    assert book._file.connection is not None
    pages = book._file.connection.execute("PRAGMA page_count").fetchone()[0]
    book._file.connection.execute(f"PRAGMA max_page_count={pages}")
    many = {(ContainerKey(f"{number:064}"), number): InstanceKills(path="/docker/x" * 10) for number in range(1000)}

    assert not saved(book, replace(STATE, cursor=Cursor(2000, 5), instances=many))
    assert "full" in book.reason
    desk.now += RETRY_SECONDS
    assert saved(book, replace(STATE, cursor=Cursor(2000, 5), instances=many)), "on a connection of its own, which may grow"
    kept = desk.kept()
    assert kept is not None
    assert kept.instances == many


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EIO])
def test_a_directory_that_cannot_be_made(desk: Desk, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """Memory only, and another try later."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error), str(desk.state))

    book = desk.book()
    with monkeypatch.context() as patch:
        patch.setattr(os, "makedirs", refuse)
        assert book.open() == (None, True)
        assert not saved(book)
        assert os.strerror(error) in book.reason
    assert not saved(book), "not at every kill"

    desk.now += RETRY_SECONDS
    assert saved(book)
    assert desk.kept() == STATE


def test_a_file_that_cannot_be_read_is_never_overwritten(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the disk may pass; what was counted is still there then."""
    desk.opened().save(STATE)
    desk.books[0].close()
    book = desk.book()
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *_, **__: (_ for _ in ()).throw(sqlite3.OperationalError("disk I/O error")))
        assert book.open() == (None, True)
    desk.now += RETRY_SECONDS

    assert not saved(book, State())
    assert desk.kept() == STATE


def everything(directory: Path) -> dict[str, bytes]:
    """Every file in a directory, but for SQLite's index of its log, which any reader marks its place in."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}


def test_a_look_sees_what_a_running_agent_has_kept_and_leaves_it_alone(desk: Desk) -> None:
    """It is all in the log still; the agent keeps its lock, and goes on saving."""
    book = desk.opened()
    book.save(STATE, VICTIM)
    before = everything(desk.state)

    assert peek(str(desk.state), str(desk.proc)) == (STATE, True)

    assert everything(desk.state) == before
    book.save(replace(STATE, unnamed_of_ended=3))
    assert book.reason == ""
    seen, _ = peek(str(desk.state), str(desk.proc))
    assert seen
    assert seen.unnamed_of_ended == 3


def test_a_look_while_the_agent_writes_does_not_keep_it_from_writing(desk: Desk) -> None:
    """Nor from folding its log into the file."""
    book = desk.opened()
    book.save(STATE)
    with closing(sqlite3.connect(f"file:{desk.file}?mode=ro", uri=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM epoch").fetchall()
        book.save(replace(STATE, unnamed_of_ended=3))
        book.tidy()

    assert book.reason == ""


def test_a_look_at_what_an_agent_has_left_makes_no_file(desk: Desk) -> None:
    """Also where nothing can be written, and whatever the directory is called."""
    desk.state = desk.state.parent / "50% of it? #1"
    book = desk.opened()
    book.save(STATE)
    book.close()
    before = everything(desk.state)

    assert peek(str(desk.state), str(desk.proc)) == (STATE, True)

    assert everything(desk.state) == before
    assert sorted(path.name for path in desk.state.iterdir()) == [FILE, f"{FILE}.lock"]


def test_a_look_after_a_reboot_says_that_it_is_of_another_boot(desk: Desk) -> None:
    """The place in the kernel log is one in another log."""
    book = desk.opened()
    book.save(STATE)
    desk.boot("99999999-2222-3333-4444-555555555555")

    assert peek(str(desk.state), str(desk.proc)) == (STATE, False)


@pytest.mark.parametrize("trouble", ["none", "no file", "empty", "garbage", "of another version", "not begun", "a directory"])
def test_a_look_at_what_cannot_be_read_is_nothing_and_changes_nothing(desk: Desk, trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is not moved aside, not made, not migrated: that is for the agent to do."""
    path = desk.file
    if trouble != "none":
        desk.state.mkdir()
    if trouble == "of another version":
        book = desk.opened()
        book.save(STATE)
        book.close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version={version() + 1}")
    elif trouble == "not begun":
        desk.opened().close()
    elif trouble == "a directory":
        path.mkdir()
    elif trouble in ("empty", "garbage"):
        path.write_bytes(b"" if trouble == "empty" else b"no casebook" * 1000)
    before = sorted(desk.state.iterdir()) if trouble != "none" else []

    assert peek(str(desk.state), str(desk.proc))[0] is None

    assert desk.state.exists() == (trouble != "none")
    assert before == (sorted(desk.state.iterdir()) if desk.state.exists() else [])
    assert trouble == "not begun" or "OOM kills are left out" in caplog.text


@pytest.mark.parametrize(("directory", "proc"), [("", "proc"), ("state", "nowhere")])
def test_without_a_place_or_a_boot_a_look_is_nothing(desk: Desk, directory: str, proc: str) -> None:
    """Nothing is looked for at the root of the file system."""
    desk.opened().save(STATE)

    assert peek(directory and str(desk.state), str(desk.proc.parent / proc)) == (None, True)
