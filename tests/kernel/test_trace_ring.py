"""Pages of the trace ring buffer: one that a kernel wrote, such as it may write, and anything else."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel.trace_ring import SignalEvent, event_id, page_bytes, signals

EVENT = 261
FORMAT = """name: signal_generate
ID: 261
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int sig;\toffset:8;\tsize:4;\tsigned:1;
\tfield:int errno;\toffset:12;\tsize:4;\tsigned:1;
\tfield:int code;\toffset:16;\tsize:4;\tsigned:1;
\tfield:char comm[16];\toffset:20;\tsize:16;\tsigned:0;
\tfield:pid_t pid;\toffset:36;\tsize:4;\tsigned:1;
\tfield:int group;\toffset:40;\tsize:4;\tsigned:1;
\tfield:int result;\toffset:44;\tsize:4;\tsigned:1;

print fmt: "sig=%d errno=%d code=%d comm=%s pid=%d grp=%d res=%d", REC->sig, REC->errno
"""
HEADER = (
    "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
    "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
    "\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n"
)
REAL = bytes.fromhex(
    "06e0a39c510400009c00000000000000"
    "0c00000005010101105200000f00000000000000000000007368000000000000000000000000000012520000010000000000000"
    "0acbd030005010101105200000f0000000000000000000000736c656570000000000000000000000011520000010000000000000"
    "06c94750205010101105200000900000000000000000000007368000000000000000000000000000012520000010000000000000"
    "0"
).ljust(4096, b"\0")
"""As 6.18 wrote it: TERM and KILL to a shell, and TERM to sleep in between."""


def event(number: int = 9, *, delta: int = 0, kind: int = 12, code: int = 0, type_: int = EVENT, comm: bytes = b"app") -> bytes:
    """Spell one record of a signal that PID 7 sent to PID 8."""
    body = struct.pack("=HBBiiii16siii", type_, 1, 1, 7, number, 0, code, comm, 8, 1, 0)
    return struct.pack("=I", delta << 5 | kind) + body


def page(*records: bytes, time: int = 1000, flags: int = 0, behind: bytes = b"") -> bytes:
    """Put records into a page."""
    data = b"".join(records)
    return (struct.pack("=QQ", time, len(data) | flags) + data + behind).ljust(4096, b"\0")


def sent(time: int, number: int = 9, code: int = 0) -> SignalEvent:
    """Give what is read of `event`."""
    return SignalEvent(time=time, sender=7, signal=number, code=code, target=8, result=0)


def test_a_page_that_a_kernel_wrote() -> None:
    """Who sent what to whom, when, and what became of it."""
    assert signals(REAL, EVENT) == (
        [
            SignalEvent(time=4748566847494, sender=21008, signal=15, code=0, target=21010, result=0),
            SignalEvent(time=4748566855155, sender=21008, signal=15, code=0, target=21009, result=0),
            SignalEvent(time=4748568144534, sender=21008, signal=9, code=0, target=21010, result=0),
        ],
        0,
    )


def test_times_add_up() -> None:
    """Of records, of what extends a time, of what sets it, and of what was discarded."""
    extend = struct.pack("=II", 5 << 5 | 30, 1)
    stamp = struct.pack("=II", 9 << 5 | 31, 2)
    discarded = struct.pack("=II", 3 << 5 | 29, 12) + bytes(8)

    found, _ = signals(page(event(delta=1), extend, event(delta=2), discarded, event(delta=4), stamp, event(code=128)), EVENT)

    extended = 1001 + 5 + (1 << 27) + 2
    assert found == [sent(1001), sent(extended), sent(extended + 3 + 4), sent((2 << 27) + 9, code=128)]


def test_a_record_that_says_its_length_itself() -> None:
    """The length of its second word has that word in it."""
    long = struct.pack("=II", 1 << 5, 52) + event()[4:]

    assert signals(page(long, event(delta=1)), EVENT) == ([sent(1001), sent(1002)], 0)


def test_other_events_and_the_rest_of_a_page_are_passed_over() -> None:
    """Padding without a time reaches to its end."""
    end = struct.pack("=I", 29)

    assert signals(page(event(type_=4), event(15), end, event(2)), EVENT) == ([sent(1000, 15)], 0)
    assert signals(page(), EVENT) == ([], 0)


def test_what_was_lost_is_counted() -> None:
    """Exactly if the kernel had room to say it, else as one at least."""
    behind = struct.pack("=Q", 298_662)

    assert signals(page(event(), flags=3 << 30, behind=behind), EVENT) == ([sent(1000)], 298_662)
    assert signals(page(event(), flags=1 << 31), EVENT) == ([sent(1000)], 1)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        REAL[:100],
        page(event()[:20]),
        page(struct.pack("=II", 1 << 5, 0)),
        page(struct.pack("=II", 1 << 5 | 29, 3)),
        page(struct.pack("=I", 2) + struct.pack("=H", EVENT) + bytes(6)),
        page(flags=4095),
    ],
)
def test_a_page_that_is_not_as_documented_is_refused(wrong: bytes) -> None:
    """Half a record is no record."""
    with pytest.raises(ValueError, match=r"."):
        signals(wrong, EVENT)


@given(st.one_of(st.binary(max_size=200), st.lists(st.binary(max_size=60)).map(lambda parts: page(*parts)[:4096])), st.integers(0, 65535))
def test_any_bytes_are_read_to_an_end_or_refused(raw: bytes, number: int) -> None:
    """Never anything else."""
    try:
        found, lost = signals(raw, number)
    except ValueError:
        return
    assert lost >= 0
    assert len(found) <= len(raw) // 48


@given(st.binary(min_size=16, max_size=16))
def test_a_name_never_becomes_a_signal(name: bytes) -> None:
    """It is the one field that a container writes."""
    assert signals(page(event(15, comm=name)), EVENT) == ([sent(1000, 15)], 0)


def test_the_format_is_the_one_that_is_read() -> None:
    """Another kernel may have other fields: then nothing is read."""
    assert event_id(FORMAT) == 261
    assert page_bytes(HEADER) == 4096
    for wrong in (
        FORMAT.replace("offset:36", "offset:40"),
        FORMAT.replace("int code", "long code").replace("size:4", "size:8"),
        "",
        "ID: 5\n",
    ):
        with pytest.raises(ValueError, match="other fields"):
            event_id(wrong)
    with pytest.raises(ValueError, match="no ID"):
        event_id(FORMAT.replace("ID: 261", "ID: x"))
    for wrong in HEADER.replace("offset:16", "offset:12"), HEADER.replace("size:8", "size:4"), "":
        with pytest.raises(ValueError, match="others"):
            page_bytes(wrong)
