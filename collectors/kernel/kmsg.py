r"""The kernel log's record: the bytes that one read() of /dev/kmsg returned -> Record. No I/O: the follower reads, this file understands.

The format (kernel/printk/printk.c info_print_ext_header, msg_add_ext_text; Documentation/ABI/testing/dev-kmsg), with every byte < 0x20,
>= 0x7f and the backslash itself written as \xNN:

    PREFIX,SEQUENCE,TIMESTAMP,FLAG[,caller=T123][,later fields];TEXT\n[ KEY=value\n...]
"""

import re
from dataclasses import dataclass

from collectors.kernel.files import Malformed

_HEADER = re.compile(rb"(\d{1,4}),(\d{1,20}),(\d{1,20}),([^,;\n]*)(,[^;\n]*)?;")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})|\\(?:x[0-9a-f]?)?\Z")
_LARGEST = (1 << 63) - 1
"""No machine has printed so many records, or runs for so many microseconds; and it is what SQLite can keep."""
SHORTEST_CUT_TEXT = 975
"""LOG_LINE_MAX is 1024 - 48 with CONFIG_PRINTK_CALLER (5.10); later kernels cut a single printk() at up to 1024 bytes."""
_SHORTEST_CUT_RECORD = 2047
"""Since 6.3 a record is formatted into 2048 bytes (PRINTK_MESSAGE_MAX), escapes included."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of /dev/kmsg. Facility 0 is the kernel; a writer in user space cannot choose it (devkmsg_write)."""

    facility: int
    level: int
    sequence: int
    """Plus 1 for every record since boot: a gap is exactly the number of records lost."""
    timestamp_us: int
    """Microseconds of the scheduler's clock, which stands still in suspend: for intervals, not for wall-clock time."""
    continuation: bool
    """A piece of a line printed with pr_cont() that could not be joined to its beginning."""
    caller: bytes
    """`T<tid>` or `C<cpu>` of the printer with CONFIG_PRINTK_CALLER, else empty."""
    text: bytes
    """Unescaped; the KEY=value lines of device messages are left out."""
    cut: bool = False
    """So long that the kernel may have cut its end off."""


def parse_record(raw: bytes) -> Record:
    r"""Parse what one read() of /dev/kmsg returned. Unknown fields before the `;` are ignored. Raises Malformed, nothing else.

    >>> parse_record(b"6,447,21240212,-,caller=T88;Tasks in /b\\x0a\n").text
    b'Tasks in /b\n'
    """
    header = _HEADER.match(raw)
    if header is None or int(header[2]) > _LARGEST or int(header[3]) > _LARGEST:
        raise Malformed("kmsg", f"not a kernel log record: {raw[:80]!r}")
    prefix, sequence, timestamp, flag, more = header.groups()
    caller = b""
    for field in (more or b"").split(b","):
        if field.startswith(b"caller="):
            caller = field[7:]
    text = raw[header.end() :].partition(b"\n")[0]
    if b"\\" in text:
        text = _ESCAPE.sub(_unescape, text)
    return Record(
        facility=int(prefix) >> 3,
        level=int(prefix) & 7,
        sequence=int(sequence),
        timestamp_us=int(timestamp),
        continuation=flag in (b"c", b"+"),
        caller=caller,
        text=text,
        cut=len(raw) >= _SHORTEST_CUT_RECORD or len(text) >= SHORTEST_CUT_TEXT,
    )


def _unescape(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),)) if match[1] else b""  # half an escape: the record was cut inside it
