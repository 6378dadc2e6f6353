"""Signals from the pages of the kernel's trace ring buffer (trace_pipe_raw): bytes, no text that anybody could shape.

A page is a header (time, length, flags), then records whose first 32 bits say what they are and how much later (kernel/trace/ring_buffer.c,
Documentation/trace/ring-buffer-design.rst). What each field of an event is and where, the kernel says in the event's file `format`.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_HEADER = struct.Struct("=QQ")
_WORD = struct.Struct("=I")
_LOST = struct.Struct("=Q")
_HALF = struct.Struct("=H")
_SIGNAL = struct.Struct("=Hxxiiii16siii")

_LENGTH = (1 << 20) - 1
_MISSED = 1 << 31
_MISSED_COUNT = 1 << 30
_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31
_LOW_59_BITS = (1 << 59) - 1

_FIELD = re.compile(r"\tfield:[^;\n]*?(\w+)(?:\[\d+\])?;\toffset:(\d+);\tsize:(\d+);")
_SIGNAL_FIELDS: Mapping[str, tuple[int, int]] = {
    "common_type": (0, 2),
    "common_pid": (4, 4),
    "sig": (8, 4),
    "errno": (12, 4),
    "code": (16, 4),
    "comm": (20, 16),
    "pid": (36, 4),
    "group": (40, 4),
    "result": (44, 4),
}
_PAGE_FIELDS: Mapping[str, tuple[int, int]] = {"timestamp": (0, 8), "commit": (8, 8)}


@dataclass(frozen=True, slots=True)
class SignalEvent:
    """A signal that was sent (event signal:signal_generate). PIDs are those of the first PID namespace."""

    time: int
    """Nanoseconds of the clock that the trace instance was told to use."""
    sender: int
    """Who ran when it was sent, which of the kernel's own signals means nothing."""
    signal: int
    code: int
    """si_code: 0 kill(2), negative of other calls, 128 the kernel's own."""
    target: int
    result: int
    """0 delivered, 1 ignored, 2 there was one pending already, 3 and 4 no memory for it."""


def event_id(text: str) -> int:
    """Return the number of signal_generate from its file `format`. Raises ValueError if its fields are not those that are read here."""
    fields = _fields(text)
    if {name: fields.get(name) for name in _SIGNAL_FIELDS} != _SIGNAL_FIELDS:
        raise ValueError(f"signal_generate has other fields in this kernel: {fields}")
    match = re.search(r"^ID: (\d{1,5})$", text, re.MULTILINE)
    if match is None:
        raise ValueError("no ID")
    return int(match[1])


def page_bytes(text: str) -> int:
    """Return the size of a page of the ring from the file `header_page`. Raises ValueError if its header is not that of 64 bits."""
    fields = _fields(text)
    data = fields.get("data", (0, 0))
    if {name: fields.get(name) for name in _PAGE_FIELDS} != _PAGE_FIELDS or data[0] != _HEADER.size or not 0 < data[1] <= _LENGTH:
        raise ValueError(f"pages of the ring are others in this kernel: {fields}")
    return data[0] + data[1]


def signals(page: bytes, event: int) -> tuple[list[SignalEvent], int]:
    """Return the signals in one page, of events numbered `event`, and how many events were lost before it, at least. Raises ValueError."""
    try:
        return _signals(page, event)
    except struct.error as error:
        raise ValueError(f"a record reaches beyond its page ({error})") from error


def _signals(page: bytes, event: int) -> tuple[list[SignalEvent], int]:
    time, commit = _HEADER.unpack_from(page)
    end = _HEADER.size + (commit & _LENGTH)
    if end > len(page):
        raise ValueError(f"{len(page)} bytes for a page of {end}")
    lost = 0
    if commit & _MISSED:
        # The count is behind the records if there was room for it.
        lost = _LOST.unpack_from(page, end)[0] if commit & _MISSED_COUNT else 1
    found = []
    at = _HEADER.size
    while at < end:
        (word,) = _WORD.unpack_from(page, at)
        kind, delta = word & 31, word >> 5
        at += 4
        if kind == _PADDING:
            if delta == 0:  # up to the end of the page
                break
            time += delta
            at += _more(page, at)
        elif kind == _TIME_EXTEND:
            time += delta | _WORD.unpack_from(page, at)[0] << 27
            at += 4
        elif kind == _TIME_STAMP:
            time = (time & ~_LOW_59_BITS) | delta | _WORD.unpack_from(page, at)[0] << 27
            at += 4
        else:
            time += delta
            length = 4 * kind
            if kind == 0:
                length = _more(page, at) - 4
                at += 4
            if at + length > end:
                raise ValueError("a record reaches beyond its page")
            if length >= _HALF.size and _HALF.unpack_from(page, at)[0] == event:
                found.append(_signal(page, at, length, time))
            at += length
    return found, lost


def _signal(page: bytes, at: int, length: int, time: int) -> SignalEvent:
    if length < _SIGNAL.size:
        raise ValueError(f"an event of {length} bytes")
    _, sender, number, _, code, _, target, _, result = _SIGNAL.unpack_from(page, at)
    return SignalEvent(time, sender, number, code, target, result)


def _more(page: bytes, at: int) -> int:
    """Return the length that a record says of itself in its second word, which that word is part of."""
    (length,) = _WORD.unpack_from(page, at)
    if length < 4:
        raise ValueError(f"a record of {length} bytes")
    return int(length)


def _fields(text: str) -> dict[str, tuple[int, int]]:
    return {name: (int(offset), int(size)) for name, offset, size in _FIELD.findall(text)}
