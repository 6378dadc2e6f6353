"""The kernel log's records: the format, from real captures and from whatever bytes a read may return."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel.files import Malformed
from collectors.kernel.kmsg import Record, parse_record
from collectors.kernel.oom_log import OomRecogniser

KERNELS = ("5.10", "6.1", "6.12", "7.2")


class Scenario(NamedTuple):
    """What one scenario of a capture wrote, and the kernel's own count of kills by then: {cgroup: (oom_kill, oom_group_kill)}."""

    boot: int
    raw: list[bytes]
    events: dict[bytes, tuple[int, int | None]]


@cache
def captured(kernel: str) -> dict[str, Scenario]:
    """Read tests/kernel/kmsg_records/KERNEL.txt."""
    boot = 0
    scenarios: dict[str, Scenario] = {}
    for line in (Path(__file__).parent / "kmsg_records" / f"{kernel}.txt").read_text().splitlines():
        match line.split():
            case ["boot"]:
                boot += 1
            case ["##", *name]:
                scenarios[" ".join(name)] = Scenario(boot, [], {})
            case ["memory.events", cgroup, kills, groups]:
                [*scenarios.values()][-1].events[cgroup.encode()] = int(kills), None if groups == "-" else int(groups)
            case [literal, *_] if literal.startswith("b"):
                [*scenarios.values()][-1].raw.append(ast.literal_eval(line))
    return scenarios


def escaped(text: bytes) -> bytes:
    """Escape as msg_add_ext_text() does."""
    return re.sub(rb"[\x00-\x1f\\\x7f-\xff]", lambda match: b"\\x%02x" % match[0][0], text)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_captured_record_is_parsed_without_loss(kernel: str) -> None:
    """Prefix, sequence, time, flag and text of a captured record can be put together again from its parts."""
    for raw in (raw for scenario in captured(kernel).values() for raw in scenario.raw):
        record = parse_record(raw)
        flag = b"c" if record.continuation else b"-"
        header = b"%d,%d,%d,%s;" % (record.facility << 3 | record.level, record.sequence, record.timestamp_us, flag)

        assert header + escaped(record.text) + b"\n" == raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"12,5,6,-;written by user space\n", Record(1, 4, 5, 6, False, b"", b"written by user space")),
        (b"6,5,6,-,caller=T77;x\n", Record(0, 6, 5, 6, False, b"T77", b"x")),
        (b"6,5,6,c,new=1,caller=C3,newer=a b;x\n", Record(0, 6, 5, 6, True, b"C3", b"x")),
        (b"6,5,6,-;x;y=1,z\n SUBSYSTEM=net\n DEVICE=n3\n", Record(0, 6, 5, 6, False, b"", b"x;y=1,z")),
        (b"6,5,6,-;nl\\x0ax\\x5cy\\x1b[31m\\xc3\\xa9\n", Record(0, 6, 5, 6, False, b"", b"nl\nx\\y\x1b[31m\xc3\xa9")),
        (b"6,5,6,-;\\x5cx41\n", Record(0, 6, 5, 6, False, b"", b"\\x41")),
        (b"4,5,6,c;\n", Record(0, 4, 5, 6, True, b"", b"")),
        (b"6,5,6,-;no newline", Record(0, 6, 5, 6, False, b"", b"no newline")),
        *[(b"6,5,6,-;a\\x01" + half + b"\n", Record(0, 6, 5, 6, False, b"", b"a\x01")) for half in (b"\\", b"\\x", b"\\x0")],
    ],
)
def test_a_record_is_its_fields_and_its_unescaped_text(raw: bytes, expected: Record) -> None:
    """Unknown fields, device lines and half an escape at the end are left out; every other byte of the text is kept."""
    assert parse_record(raw) == expected


def test_a_record_as_long_as_the_kernel_s_buffers_is_marked_as_cut() -> None:
    """2048 bytes with escapes and 975 without are where kernels cut."""
    cut = [parse_record(b"6,5,6,-;" + text).cut for text in (b"x" * 974, b"x" * 975, b"\\x01" * 500, b"\\x01" * 510)]

    assert cut == [False, True, False, True]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b";",
        b"hello",
        b"6,5,6,-",
        b"6,5;x",
        b"a,5,6,-;x",
        b"-6,5,6,-;x",
        b"6,5_0,6,-;x",
        b"6,5,%d,-;x" % (1 << 63),
        b"<6>[ 1.0] x",
    ],
)
def test_what_is_not_a_record_is_malformed(raw: bytes) -> None:
    """A regular file or a console mounted over /dev/kmsg is found out at the first read."""
    with pytest.raises(Malformed):
        parse_record(raw)


@given(
    facility=st.integers(0, 255),
    level=st.integers(0, 7),
    sequence=st.integers(0, (1 << 64) - 1),
    nanoseconds=st.integers(0, (1 << 64) - 1),
    caller=st.integers(0, (1 << 32) - 1),
)
def test_a_header_of_any_numbers_is_read_or_malformed(facility: int, level: int, sequence: int, nanoseconds: int, caller: int) -> None:
    """The kernel prints %u, %llu and %llu; a number that no kernel lives long enough for is not its number."""
    raw = b"%d,%d,%d,-,caller=T%d;x\n" % (facility << 3 | level, sequence, nanoseconds // 1000, caller)
    if sequence >= 1 << 63:
        with pytest.raises(Malformed):
            parse_record(raw)
    else:
        assert parse_record(raw) == Record(facility, level, sequence, nanoseconds // 1000, False, b"T%d" % caller, b"x")


@given(st.binary() | st.binary().map(b"6,1,2,-;".__add__) | st.from_regex(rb"\d+,\d+,\d+,[-c],caller=.*;oom-kill:.*\\x?"))
def test_no_bytes_do_worse_than_malformed(raw: bytes) -> None:
    """Whatever a read returns, parsing and recognising raise nothing but Malformed."""
    try:
        record = parse_record(raw)
    except Malformed:
        return
    OomRecogniser().feed(record)


@given(st.binary(max_size=200))
def test_every_text_survives_the_kernel_s_escaping(text: bytes) -> None:
    """Escaping is unambiguous, because the backslash itself is escaped."""
    assert parse_record(b"6,5,6,-;" + escaped(text) + b"\n").text == text


@pytest.mark.parametrize("scenario", ["strange process names", "strange cgroup name", "memory.oom.group", "long path"])
def test_a_record_cut_at_any_byte_is_malformed_or_a_beginning(scenario: str) -> None:
    """Cutting a record anywhere raises only Malformed, gives no bytes that were not there, and never another victim."""
    for raw in captured("6.12")[scenario].raw:
        whole = parse_record(raw)
        for end in range(len(raw)):
            try:
                record = parse_record(raw[:end])
            except Malformed:
                continue
            kill = OomRecogniser().feed(record)

            assert whole.text.startswith(record.text)
            assert kill is None or f"Killed process {kill.pid} (".encode() in whole.text
