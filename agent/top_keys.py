"""Keys of a terminal, without waiting for a line (termios(3)); what one sends for arrows is in ECMA-48 and xterm's ctlseqs."""

import asyncio
import os
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SEQUENCES = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x1b[H": "home",
    b"\x1b[F": "end",
    b"\x1bOH": "home",
    b"\x1bOF": "end",
    b"\x1b[1~": "home",
    b"\x1b[4~": "end",
}
_LONGEST = 32
"""Bytes of a sequence that does not end, after which it is none."""


def keys_of(raw: bytes) -> tuple[list[str], bytes]:
    """Return the keys that were typed, and the beginning of one that has not come as a whole. Other sequences are left out."""
    found = []
    while raw:
        if raw[:1] != b"\x1b":
            found.append(chr(raw[0]))
            raw = raw[1:]
            continue
        end = _end_of_sequence(raw)
        if end is None:
            return found, raw if len(raw) < _LONGEST else b""
        if raw[:end] in _SEQUENCES:
            found.append(_SEQUENCES[raw[:end]])
        raw = raw[end:]
    return found, b""


def _end_of_sequence(raw: bytes) -> int | None:
    if len(raw) < 2:
        return None
    if raw[1:2] not in (b"[", b"O"):
        return 1  # the key Escape alone, or Alt with another one
    return next((place + 1 for place in range(2, len(raw)) if 0x40 <= raw[place] <= 0x7E), None)


@contextmanager
def typed(fd: int, press: Callable[[str], None]) -> Iterator[None]:
    """Call `press` for each key in the running event loop; nothing is echoed meanwhile. A terminal that goes away is a `q`."""
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(fd)
    rest = b""

    def read() -> None:
        nonlocal rest
        try:
            raw = os.read(fd, 1024)
        except OSError:
            raw = b""
        if not raw:
            loop.remove_reader(fd)
            press("q")
            return
        keys, rest = keys_of(rest + raw)
        for key in keys:
            press(key)

    tty.setcbreak(fd, termios.TCSANOW)
    loop.add_reader(fd, read)
    try:
        yield
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSANOW, before)
