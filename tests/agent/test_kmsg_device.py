"""The follower against a kernel that fails: every errno at every read, a ring that moves on, numbers that begin anew, and both readers."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sources import Told
from agent.sources.kmsg import KernelLog
from agent.sources.kmsg_syslog import Syslog
from agent.supervise import Blind, keep_running
from collectors.inquest.facts import LogClosed, LogRead, OomKilled
from collectors.inquest.kill_state import Cursor, State
from collectors.inquest.kills import KillLedger
from collectors.kernel.kmsg import parse_record
from collectors.kernel.oom_log import OomKill, OomRecogniser
from collectors.kernel.syslog import Tail
from tests.agent import fake_kernel_log
from tests.agent.fake_kernel_log import Entry
from tests.kernel.test_kmsg import captured

TRANSIENT = (errno.EAGAIN, errno.EPIPE, errno.EINTR)
FATAL = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.EBADF, errno.EPERM, errno.EACCES, errno.ENOMEM, errno.ESTALE, 0)
KILL = b"Memory cgroup out of memory: Killed process %d (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB"
SCENARIOS = ("memory.oom.group", "strange process names", "limit of the parent", "split lines")


class Follower:
    """The agent's follower on a fake kernel's log; what it counts is written down in order."""

    def __init__(self, log: fake_kernel_log.KernelLog, kept: State | None = None) -> None:
        self.log = log
        self.ledger = KillLedger(state=kept)
        self.kernel_log = KernelLog(
            path="/dev/kmsg",
            cgroup_root=None,
            tell=self._tell,
            cursor=self.ledger.cursor,
            was_here=lambda _key: False,
            opener=log.open,
            syslog_opener=self._open_syslog,
        )
        self.status = self.kernel_log.status
        self.kernel_log.rest = lambda seconds: asyncio.sleep(0)  # type: ignore[method-assign] # nobody waits for the back-off
        self.kills: list[OomKill] = []

    def _tell(self, fact: Told) -> None:
        match fact:  # what is done with a kill is tested elsewhere
            case OomKilled():
                self.ledger.cursor = fact.cursor
                self.kills += [] if fact.is_again else [fact.kill]
            case LogRead():
                self.ledger.log_read(fact.cursor)
            case LogClosed():
                self.ledger.log_closed()

    def _open_syslog(self) -> Syslog:
        return Syslog(Tail(self.log.read_all, 1 << 16))

    @property
    def pids(self) -> list[int | None]:
        """The victims."""
        return [kill.pid for kill in self.kills]

    def value(self, name: str) -> float | None:
        """Return one of the follower's metrics, None if it is absent."""
        return next((value for metric, _, value in self.kernel_log.samples() if metric.name == f"coroner_kmsg_{name}_total"), None)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow, as the agent does, until the block is left; begins when the log is followed."""
        task = asyncio.create_task(keep_running(self.kernel_log))
        try:
            await self.until(lambda: self.status.is_up)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, with a deadline."""
        async with asyncio.timeout(120):
            while not condition():
                await asyncio.sleep(0)

    async def caught_up(self) -> None:
        """Wait until all that is in the log was read."""
        polls = self.log.polls
        if self.log.has_device:
            await self.until(lambda: self.status.is_up and self.log.is_read)
        else:
            await self.until(lambda: self.status.is_up and self.log.polls > polls + 2)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_kernel_log.KernelLog]:
    """A fake kernel's log, which the follower's reads go to."""
    log = fake_kernel_log.KernelLog()
    monkeypatch.setattr("agent.sources.kmsg_device.os.read", log.read)
    monkeypatch.setattr("agent.sources.kmsg_syslog._POLL_SECONDS", 0)
    yield log
    log.close()


class Outcome(NamedTuple):
    """What must be the same with and without a fault."""

    kills: list[OomKill]
    lost: float | None
    records: float | None


@cache
def sequence() -> list[Entry]:
    """Return captured records of a real kernel: group kills, strange names, lines split among others."""
    raw = [raw for name in SCENARIOS for raw in captured("6.1")[name].raw]
    records = [parse_record(one) for one in raw]
    entries = []
    for record in records:
        flag = b"c" if record.continuation else b"-"
        entries.append(Entry(record.sequence, record.facility << 3 | record.level, record.timestamp_us, record.text, flag))
    return entries


def without(dropped: int | None) -> Outcome:
    """Say what comes out when one record was skipped by the kernel: by the recogniser alone, with no follower."""
    recogniser = OomRecogniser()
    entries = [entry for number, entry in enumerate(sequence()) if number != dropped]
    fed = [(entry, recogniser.feed(parse_record(entry.raw()))) for entry in entries]
    history = sequence()[0]
    kills = [kill for entry, kill in fed if kill and entry is not history]
    numbers = [entry.sequence for entry in entries]
    return Outcome(kills, numbers[-1] - numbers[0] - len(numbers) + 1, len(entries) - 1)


async def outcome(log: fake_kernel_log.KernelLog, number: int | None, at: int) -> tuple[Outcome, int]:
    """Follow the sequence, the first record of it as history, with a fault at one read; also return the restarts."""
    first, *rest = sequence()
    log.add(first)
    log.fault = lambda reads: number if reads == at else None
    follower = Follower(log)
    async with follower.following():
        for entry in rest:
            log.add(entry)
        await follower.until(lambda: log.reads > at)
        await follower.caught_up()
    return Outcome(follower.kills, follower.value("lost_records"), follower.value("records")), follower.status.restarts


def test_the_sequence_is_worth_the_trouble() -> None:
    """Kills alone, in groups, of strange names and in pieces; and records that the capture left out, as lost."""
    expected = without(None)

    assert len(expected.kills) >= 9
    assert any(kill.group for kill in expected.kills)
    assert any(entry.flag == b"c" for entry in sequence())
    assert expected.lost


@pytest.mark.parametrize("number", [*TRANSIENT, errno.EINVAL, *FATAL], ids=lambda number: errno.errorcode.get(number, "EOF"))
async def test_any_errno_at_any_read_costs_nothing_but_what_the_kernel_skips(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Kills, their order and facts, records and losses are those of a run without a fault, for each read in turn."""
    count = len(sequence())
    for at in range(count + 2):
        # The reads of a run without a fault: the first record, the end of the history, all other records, the end.
        dropped = at - 1 if number == errno.EINVAL and 1 < at <= count else None
        if at == 0 and number in (errno.EAGAIN, errno.EINVAL):
            continue  # an end of the log, or nothing before it: the first record is history no more, or never was
        log = fake_kernel_log.KernelLog()
        monkeypatch.setattr("agent.sources.kmsg_device.os.read", log.read)
        try:
            found, restarts = await outcome(log, number, at)
        finally:
            log.close()

        assert (at, found) == (at, without(dropped))
        assert restarts == (number in FATAL)


async def away(log: fake_kernel_log.KernelLog, number: int, at: int) -> tuple[Outcome, list[Entry]]:
    """Follow the sequence; the device fails when `at` records are read and is back when the ring holds 20. Also return those."""
    follower = Follower(log)
    first, *rest = sequence()
    log.add(first)
    async with follower.following():
        for entry in rest[: at - 1]:
            log.add(entry)
        await follower.caught_up()
        log.has_device = log.may_syslog = False
        log.fail_next(number)
        await follower.until(lambda: not follower.status.is_up)
        log.capacity = 20
        for entry in (*rest[at - 1 :], Entry(rest[-1].sequence + 1, 6, 10**9, b"the last")):
            log.add(entry)
        opened, log.has_device = log.opened, True
        await follower.until(lambda: log.opened > opened)
        await follower.caught_up()
    return Outcome(follower.kills, follower.value("lost_records"), follower.value("records")), log.entries


@pytest.mark.parametrize("number", [errno.EIO, errno.ENODEV, 0])
async def test_while_the_device_is_away_only_what_the_ring_drops_is_lost(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The device fails after each record in turn, and is back when the ring holds only the last few: the gap is the loss."""
    for at in range(1, len(sequence())):
        log = fake_kernel_log.KernelLog()
        monkeypatch.setattr("agent.sources.kmsg_device.os.read", log.read)
        try:
            found, ring = await away(log, number, at)
        finally:
            log.close()

        read = [entry for entry in sequence()[:at] if entry.sequence < ring[0].sequence] + ring
        recogniser = OomRecogniser()
        kills = [kill for entry in read if (kill := recogniser.feed(parse_record(entry.raw())))]
        lost = read[-1].sequence - read[0].sequence - len(read) + 1
        assert (at, found) == (at, Outcome(kills, lost, len(read) - 1))


async def test_in_a_storm_every_record_is_overtaken_and_the_loss_is_still_exact(log: fake_kernel_log.KernelLog) -> None:
    """Between any two reads the ring turns over: EPIPE comes before each record. What was read and what was lost is all there was."""
    log.capacity = 5
    log.log(b"before")
    follower = Follower(log)
    async with follower.following():
        first = log.entries[0].sequence

        def storm(reads: int) -> None:
            if log.next < 5000:
                for _ in range(reads % 9):
                    log.log(b"storm", priority=12)

        log.fault = storm
        await follower.until(lambda: log.next >= 5000)
        log.log(KILL % 7, priority=3)
        await follower.caught_up()

    assert follower.pids == [7]
    assert (follower.value("records") or 0) + (follower.value("lost_records") or 0) == log.entries[-1].sequence - first
    assert follower.value("lost_records")
    assert follower.status.restarts == 0


@pytest.mark.parametrize("number", [errno.EINVAL, -1])
async def test_a_device_that_gives_nothing_but_strange_answers_is_given_up(log: fake_kernel_log.KernelLog, number: int) -> None:
    """Whatever it is, it is not the kernel log, and reading it for ever would cost a core."""
    follower = Follower(log)
    if number > 0:
        log.fault = lambda _: number
    else:
        log.entries = [Garbage(n, 6, n, b"") for n in range(1, 500)]

    with pytest.raises(Blind, match="nothing but strange answers"):
        await follower.kernel_log.follow()


class Garbage(Entry):
    """What a device gives that is something else."""

    def raw(self) -> bytes:
        """Return a line of a console."""
        return b"login: \n"


async def test_numbers_that_begin_anew_on_the_open_device_are_followed(
    log: fake_kernel_log.KernelLog, caplog: pytest.LogCaptureFixture
) -> None:
    """A lower number is a new numbering: what comes counts, and nothing of it is lost."""
    log.next = 1000
    log.log(b"old")
    follower = Follower(log)
    async with follower.following():
        log.log(KILL % 1, priority=3)
        await follower.caught_up()
        log._position = 0
        log.entries = []
        log.next = 5
        log.log(KILL % 2, priority=3)
        log.log(KILL % 3, priority=3)
        await follower.caught_up()

    assert follower.pids == [1, 2, 3]
    assert follower.value("lost_records") == 0
    assert "began anew" in caplog.text


async def test_numbers_that_began_anew_while_the_device_was_away_are_followed(
    log: fake_kernel_log.KernelLog, caplog: pytest.LogCaptureFixture
) -> None:
    """The ring ends before the last record read: what it holds counts as read, what comes then counts."""
    log.next = 1000
    log.log(b"old")
    follower = Follower(log)
    async with follower.following():
        log.entries = []
        log.next = 5
        log.log(KILL % 1, priority=3)
        opened = log.opened
        log.fail_next(errno.EIO)
        await follower.until(lambda: log.opened > opened and follower.status.is_up)
        log.log(KILL % 2, priority=3)
        log.log(KILL % 3, priority=3)
        await follower.caught_up()

    assert follower.pids == [2, 3]
    assert follower.value("lost_records") == 0
    assert "began anew" in caplog.text


@pytest.mark.parametrize("has_device", [True, False])
@pytest.mark.parametrize("after_us", [0, 100])
async def test_a_report_that_other_processors_split_still_names_the_cgroup(
    log: fake_kernel_log.KernelLog, has_device: bool, after_us: int
) -> None:
    """Its pieces are records of their own, with others between them; syslog(2) does not even say that they are pieces."""
    log.has_device = has_device
    log.log(b"before")
    follower = Follower(log)
    async with follower.following():
        log.log(b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)", after_us=after_us)
        for piece in (b",cpuset=", b"a", b",mems_allowed=0", b",oom_memcg=", b"/a", b",task_memcg=", b"/a", b",task=x,pid=7,uid=0"):
            log.log(b"of a process", priority=12, after_us=after_us)
            log.log(b"of another processor", priority=5, after_us=after_us)
            log.log(piece, priority=4, flag=b"c", after_us=after_us + 1)
        log.log(KILL % 7, priority=3, after_us=after_us)
        await follower.caught_up()

    assert [(kill.pid, kill.oom_memcg, kill.task_memcg) for kill in follower.kills] == [(7, b"/a", b"/a")]


async def test_a_flood_leaves_the_event_loop_its_turns(log: fake_kernel_log.KernelLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not more records in one turn than its number, and not more than its time: here each read takes ten milliseconds."""
    log.log(b"before")
    follower = Follower(log)
    async with follower.following():
        clock = 0.0

        def monotonic() -> float:
            nonlocal clock
            clock += 0.01
            return clock

        monkeypatch.setattr("agent.sources.kmsg.monotonic", monotonic)
        first = log.reads
        for _ in range(50):
            log.log(b"flood", priority=12)
        turns = 0
        while not log.is_read:
            await asyncio.sleep(0)
            turns += 1

    assert turns >= 50
    assert log.reads - first >= 50


# --- syslog(2), and both in turn ---


async def test_without_the_device_syslog_is_read_and_says_what_it_does_not_give(log: fake_kernel_log.KernelLog) -> None:
    """Kills count once over many polls; the loss is absent, for it is not known."""
    log.has_device = False
    log.log(KILL % 1, priority=3)
    follower = Follower(log)
    async with follower.following():
        log.log(KILL % 2, priority=3)
        await follower.caught_up()
        await follower.caught_up()

        assert follower.pids == [2]
        assert follower.ledger.log_is_followed
        assert follower.value("lost_records") is None
        assert follower.value("records") == 1
        assert follower.status.reason.startswith("read through syslog(2)")
        assert "cannot be counted" in follower.status.reason
        assert "/dev/kmsg: No such file" in follower.status.reason


async def test_without_timestamps_the_note_says_so(log: fake_kernel_log.KernelLog) -> None:
    """After a restart nothing tells the old from the new."""
    log.has_device = log.timed = False
    log.log(b"x")
    follower = Follower(log)
    async with follower.following():
        assert "printk.time" in follower.status.reason


async def test_without_either_way_both_reasons_are_named(log: fake_kernel_log.KernelLog) -> None:
    """The path, the call, and the capability."""
    log.has_device = log.may_syslog = False

    with pytest.raises(Blind, match=r"^/dev/kmsg: No such file or directory; syslog\(2\): Operation not permitted; it needs CAP_SYSLOG$"):
        await Follower(log).kernel_log.follow()


async def test_syslog_that_fails_for_a_time_loses_and_doubles_nothing(log: fake_kernel_log.KernelLog) -> None:
    """What is known of the log outlives the restart of the follower."""
    log.has_device = False
    log.capacity = 4
    for _ in range(4):
        log.log(b"x")
    follower = Follower(log)
    async with follower.following():
        log.log(KILL % 1, priority=3)
        await follower.caught_up()
        log.may_syslog = False
        await follower.until(lambda: not follower.status.is_up)
        log.log(KILL % 2, priority=3)
        log.may_syslog = True
        await follower.caught_up()

    assert follower.pids == [1, 2]
    assert follower.status.restarts


async def test_the_device_is_taken_when_it_comes(monkeypatch: pytest.MonkeyPatch, log: fake_kernel_log.KernelLog) -> None:
    """It is looked for now and then; the switch is no restart, and the loss is known again."""
    monkeypatch.setattr("agent.sources.kmsg_syslog._FIRST_LOOK_POLLS", 3)
    log.has_device = False
    log.log(b"x")
    follower = Follower(log)
    async with follower.following():
        log.log(KILL % 1, priority=3)
        await follower.caught_up()
        log.has_device = True
        await follower.caught_up()
        log.log(KILL % 2, priority=3)
        await follower.caught_up()

        assert follower.status.reason == ""
        assert follower.status.restarts == 0
    assert follower.pids == [1, 2]
    assert follower.value("lost_records") == 0


STEPS = st.lists(st.sampled_from(["kill", "kill", "report", "hello", "forged", "fail", "device", "syslog", "read"]), max_size=30)


@settings(deadline=None, max_examples=80)
@given(STEPS, st.sampled_from([1, 100]), st.booleans())
async def test_whichever_way_the_log_is_read_a_kill_counts_once(steps: list[str], after_us: int, jumps: bool) -> None:
    """The device comes and goes among kills and failures: each kill counts once, in order, whether read here or there."""
    log = fake_kernel_log.KernelLog()
    expected = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.sources.kmsg_device.os.read", log.read)
        patch.setattr("agent.sources.kmsg_syslog._POLL_SECONDS", 0)
        patch.setattr("agent.sources.kmsg_syslog._FIRST_LOOK_POLLS", 2)
        patch.setattr("agent.sources.kmsg_syslog._LONGEST_LOOK_POLLS", 2)
        for _ in range(5):
            log.log(b"boot")
        follower = Follower(log)
        async with follower.following():
            for number, step in enumerate(steps, start=1):
                match step:
                    case "kill":
                        log.log(KILL % number, priority=3, after_us=after_us)
                        expected.append(number)
                    case "report" | "hello" | "forged":
                        text = {"report": b"oom-kill:constraint=x", "hello": b"hello\nworld", "forged": KILL % 9999}[step]
                        log.log(text, priority=12 if step == "forged" else 6, after_us=after_us)
                    case "fail" if log.has_device:
                        log.fail_next(errno.EIO)
                        if jumps:
                            log.has_device = False
                    case "device" | "syslog":
                        log.has_device = step == "device"
                        if step == "syslog":
                            log.fail_next(errno.ENODEV)
                    case "read":
                        await follower.caught_up()
            await follower.caught_up()
            await follower.caught_up()
    log.close()

    assert follower.pids == expected


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.lists(st.sampled_from(["up", "down"]), max_size=4), st.sampled_from(["device", "syslog"])), max_size=6))
async def test_whichever_way_the_next_agent_reads_it_goes_on_where_the_last_one_was(agents: list[tuple[list[str], str]]) -> None:
    """Kills while an agent is up and while it is down: each counts once, whether it and the next one have the device or syslog(2)."""
    log = fake_kernel_log.KernelLog()
    log.log(KILL % 1, priority=3)
    expected, counted, kept = [], [], None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.sources.kmsg_device.os.read", log.read)
        patch.setattr("agent.sources.kmsg_syslog._POLL_SECONDS", 0)
        for kills, reader in agents:
            log.has_device = reader == "device"
            follower = Follower(log, kept)
            async with follower.following():
                for _ in range(kills.count("up")):
                    log.log(KILL % log.next, priority=3)
                    expected.append(log.next - 1)
                await follower.caught_up()
                await follower.caught_up()
            assert follower.value("lost_records") in (0, None)
            counted += follower.pids
            kept = State(cursor=follower.ledger.cursor, started=True)
            for _ in range(kills.count("down")):
                log.log(KILL % log.next, priority=3)
                expected.append(log.next - 1)
    log.close()
    if agents:
        expected = expected[: len(expected) - agents[-1][0].count("down")]  # nobody came after

    assert counted == expected


async def test_without_timestamps_the_next_agent_takes_all_there_is_for_history(log: fake_kernel_log.KernelLog) -> None:
    """It cannot find the place, and would count what is counted already."""
    log.has_device, log.timed = False, False
    log.log(b"boot")
    first = Follower(log)
    async with first.following():
        log.log(KILL % 1, priority=3)
        await first.caught_up()
    assert first.pids == [1]
    assert first.ledger.cursor is None

    log.has_device = True
    second = Follower(log, State(cursor=first.ledger.cursor, started=True))
    async with second.following():
        await second.caught_up()
    assert second.pids == []


async def test_an_empty_log_does_not_forget_the_place(log: fake_kernel_log.KernelLog) -> None:
    """Somebody cleared what syslog(2) shows while the agent was down; the next agent may have the device again."""
    kept = State(cursor=Cursor(100, 5_000_100), started=True)
    log.has_device = False
    log.log(b"boot")
    log.clear()
    follower = Follower(log, kept)
    async with follower.following():
        await follower.caught_up()

    assert follower.ledger.cursor == kept.cursor
