"""The kernel log through syslog(2): every record once, no forged line, and no loss unsaid."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.kernel import syslog
from collectors.kernel.fault_lines import fault_of
from collectors.kernel.kmsg import Record, parse_record
from collectors.kernel.oom_log import OomKill, OomRecogniser, concerns_oom, looks_like_oom
from collectors.kernel.syslog import Tail
from tests.agent.fake_kernel_log import Entry, KernelLog
from tests.kernel.test_kmsg import KERNELS, captured
from tests.kernel.test_oom_log import kills

KILL = b"Memory cgroup out of memory: Killed process %d (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB"


def tail_of(log: KernelLog) -> Tail:
    """Follow a fake ring."""
    return Tail(log.read_all, 1 << 16)


def texts(records: list[Record]) -> list[bytes]:
    """Return the texts alone."""
    return [record.text for record in records]


def facts(record: Record) -> tuple[object, ...]:
    """Return what the device and syslog(2) must agree on."""
    return record.facility, record.level, record.timestamp_us, record.text, record.cut


@pytest.mark.parametrize("caller", [b"", b"T77", b"C1", b"T4294967295"])
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("time_us", [0, 123_456_789, (1 << 64) // 1000])
def test_a_line_is_its_fields(caller: bytes, timed: bool, time_us: int) -> None:
    """Facility, level, time, caller and text are those of the record, whether time and caller are printed or not."""
    log = KernelLog()
    log.timed = timed
    log.add(Entry(7, 12, time_us, b"[not] a <6>prefix \xff", caller=caller))
    tail = tail_of(log)

    expected = Record(1, 4, 1, time_us if timed else 0, False, caller, b"[not] a <6>prefix \xff")
    assert tail.new() == [expected]
    assert tail.is_timed is timed


def apart(kill: OomKill) -> OomKill:
    """Leave out what the two readers may differ in."""
    return replace(kill, sequence=0, usage_bytes=None, limit_bytes=None)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_the_device_shows_is_the_same_here(kernel: str) -> None:
    """Every captured record that is evidence has the same fields, and all together give the same kills, with their cgroups."""
    raw = [raw for scenario in captured(kernel).values() if scenario.boot == 1 for raw in scenario.raw]
    records = [parse_record(one) for one in raw]
    log = KernelLog()
    for record in records:
        flag = b"c" if record.continuation else b"-"
        log.add(Entry(record.sequence, record.facility << 3 | record.level, record.timestamp_us, record.text, flag))
    found = tail_of(log).new()

    assert [facts(record) for record in found if looks_like_oom(record.text)] == [
        facts(record) for record in records if looks_like_oom(record.text)
    ]
    recogniser = OomRecogniser()
    here = [kill for record in found if (kill := recogniser.feed(record))]
    # The captures leave records out, and a gap costs the device's reader the usage that was told before it.
    assert list(map(apart, here)) == list(map(apart, kills(raw)))


def test_what_was_read_is_not_given_again() -> None:
    """A poll gives what came since the last one; the numbers follow on one another."""
    log = KernelLog()
    log.log(b"one")
    tail = tail_of(log)
    first = tail.new()
    log.log(b"two")
    log.log(b"three")
    second = tail.new()

    assert texts(first + second) == [b"one", b"two", b"three"]
    assert tail.new() == []
    assert [record.sequence for record in first + second] == [1, 2, 3]


@pytest.mark.parametrize("size", [3100, 16384, 70000])
def test_when_the_small_buffer_does_not_reach_back_the_whole_ring_is_read(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Thousands of records between two polls are all there as long as the ring holds them."""
    monkeypatch.setattr(syslog, "_SMALL", size)
    log = KernelLog()
    log.log(b"first")
    tail = tail_of(log)
    tail.new()
    for number in range(5000):
        log.log(b"%d" % number)
    records = tail.new()

    assert texts(records) == [b"%d" % number for number in range(5000)]
    assert [record.sequence for record in records] == [*range(2, 5002)]


@pytest.mark.parametrize("timed", [True, False])
def test_a_loss_leaves_a_gap_in_the_numbers(timed: bool) -> None:
    """How many are lost nobody knows: one number is left out, and nothing is given twice."""
    log = KernelLog(capacity=10)
    log.timed = timed
    log.log(b"first")
    tail = tail_of(log)
    tail.new()
    for number in range(50):
        log.log(b"%d" % number, priority=number % 2)
    records = tail.new()

    assert texts(records) == [b"%d" % number for number in range(40, 50)]
    assert [record.sequence for record in records] == [*range(3, 13)]


@pytest.mark.parametrize("timed", [True, False])
def test_a_cleared_log_is_followed_on(timed: bool) -> None:
    """After `dmesg -C` the text is empty, then short, and has nothing of what is known."""
    log = KernelLog()
    log.timed = timed
    tail = tail_of(log)
    log.clear()
    assert tail.new() == []
    log.log(b"one")
    assert texts(tail.new()) == [b"one"]
    log.clear()
    assert tail.new() == []
    log.log(b"two")
    log.clear()
    log.log(b"three")
    assert texts(tail.new()) == [b"three"]
    assert tail.new() == []


def test_when_printk_time_is_switched_nothing_is_given_twice() -> None:
    """The prefix of all lines changes, old ones too: what is there counts as read, and a gap says that something may be lost."""
    log = KernelLog()
    log.log(b"old")
    tail = tail_of(log)
    tail.new()
    for number, timed in enumerate((False, True), 1):
        log.timed = timed
        log.log(b"unseen")
        assert tail.new() == []
        log.log(b"new")
        assert [(record.text, record.sequence) for record in tail.new()] == [(b"new", 2 * number + 1)]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("after_us", [0, 100])
def test_a_newline_in_a_message_forges_no_line(timed: bool, after_us: int) -> None:
    """Its second line has the prefix of the kernel, and begins no record; a real kill in the same microsecond does."""
    log = KernelLog()
    log.timed = timed
    tail = tail_of(log)
    log.log(b"mount option: a\n" + KILL % 1, priority=3)
    log.log(KILL % 2, priority=3, after_us=after_us)
    log.log(KILL % 3, priority=3, after_us=after_us)
    log.log(b"x\n" + KILL % 4 + b"\n" + KILL % 5, priority=3, after_us=after_us)
    records = tail.new()

    assert texts(records) == [b"mount option: a\n" + KILL % 1, KILL % 2, KILL % 3, b"x\n" + KILL % 4 + b"\n" + KILL % 5]


def test_a_newline_in_a_name_forges_no_fault() -> None:
    """A name, or that of the file in which it happened, with a line of another process; a real one in the same microsecond is found."""
    fault = b"victim[%d]: segfault at 0 ip 7f sp 7f error 4"
    log = KernelLog()
    tail = tail_of(log)
    log.log(b"x[1]: segfault at 0 ip 7f sp 7f error 4 in a\n" + fault % 2 + b"[0,7f+1]", priority=6)
    log.log(fault % 3, priority=6, after_us=0)
    log.log(b"Code: 66 2e 0f", priority=6, after_us=0)
    log.log(fault % 4, priority=6, after_us=0)

    assert [found.pid for record in tail.new() if (found := fault_of(record))] == [1, 3, 4]


def test_while_the_log_goes_on_nothing_is_forged_either() -> None:
    """The kernel's answer is about newer records: after a few rounds what cannot be told stays together, and the rest is still found."""
    log = KernelLog()
    tail = tail_of(log)
    log.log(b"x\n" + KILL % 1, priority=3)
    log.log(KILL % 2, priority=3)
    log.before_read_all = lambda: log.log(b"noise", priority=5)

    assert [text for text in texts(tail.new()) if b"noise" not in text] == [b"x\n" + KILL % 1, KILL % 2]


def test_an_answer_that_comes_too_late_is_asked_for_again() -> None:
    """One record that came in between costs one round."""
    log = KernelLog()
    tail = tail_of(log)
    log.log(b"x", priority=3)
    log.log(KILL % 2, priority=3, after_us=0)
    calls = []

    def once() -> None:
        calls.append(1)
        if len(calls) == 2:
            log.log(b"noise", priority=5)

    log.before_read_all = once

    assert texts(tail.new()) == [b"x", KILL % 2, b"noise"]


LINES = st.sampled_from([b"a", b"b", b"", b"KILL", b"KILL", b"oom-kill:constraint=x", b"<3>[    5.000000] ", b"x" * 900])
RECORDS = st.tuples(st.lists(LINES, min_size=1, max_size=3).map(b"\n".join), st.sampled_from([3, 6, 12]), st.sampled_from([0, 1, 10_000]))


@given(
    st.lists(RECORDS | st.sampled_from(["poll", "poll", "clear"]), max_size=40), st.sampled_from([3, 1000]), st.sampled_from([3100, 16384])
)
@example([(b"b", 3, 0), "poll", (b"b\nKILL", 3, 0)], 1000, 16384)
@example([(b"a", 3, 0), (b"KILL\na", 3, 0), "poll", (b"a", 3, 1)], 3, 16384)
@example([(b"KILL", 3, 0), "poll", (b"KILL", 3, 0), (b"a\nKILL", 3, 0)], 1000, 3100)
def test_whatever_happens_evidence_is_real_in_order_and_never_twice(
    steps: list[tuple[bytes, int, int] | str], capacity: int, small: int
) -> None:
    """Any mix of records, polls, overruns and clearings, with a clock that may stand still: no line is forged, none comes twice."""
    log = KernelLog(capacity=capacity)
    real: list[bytes] = []
    found: list[bytes] = []
    tail = tail_of(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syslog, "_SMALL", small)
        for step in (*steps, "poll"):
            if not isinstance(step, str):
                text, priority, after_us = step
                while b"KILL" in text:
                    text = text.replace(b"KILL", KILL % (10 * log.next + text.count(b"KILL")), 1)
                log.log(text, priority, after_us=after_us)
                if priority != 12 and concerns_oom(text):
                    real.append(text)
            elif step == "clear":
                log.clear()
            else:
                found += [record.text for record in tail.new() if record.facility == 0 and concerns_oom(record.text)]
    if "clear" not in steps and capacity == 1000 and all(isinstance(step, str) or step[2] for step in steps):
        assert found == real
    unseen = iter(real)
    assert all(text in unseen for text in found), (found, real)
