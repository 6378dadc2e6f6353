"""One process' /proc/PID/stat (Documentation/filesystems/proc.rst, table 1-4)."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Stat:
    """What a scan needs of /proc/PID/stat; start_time in clock ticks since boot."""

    comm: bytes
    state: bytes
    parent: int
    threads: int
    start_time: int


def parse_stat(raw: bytes) -> Stat:
    """Parse /proc/PID/stat. The name may hold spaces, parentheses and newlines, so fields count from the last parenthesis.

    Raises ValueError.
    """
    opening, closing = raw.index(b"("), raw.rindex(b")")
    fields = raw[closing + 2 :].split(None, 20)
    if len(fields) < 21:  # the last of the 20 wanted is complete only if another one follows
        raise ValueError(f"cut short: {raw[:80]!r}")
    return Stat(raw[opening + 1 : closing], fields[0], int(fields[1]), int(fields[17]), int(fields[19]))


@dataclass(frozen=True, slots=True)
class Past:
    """What /proc/PID/stat tells of how a process came to be, and to its end; it tells so also of a zombie."""

    session: int
    """Inherited by fork(2), and changed only to one's own PID, by setsid(2)."""
    has_waited: bool
    """Whether it has ever waited for a child, also as another program before an execve(2), such as the shell of an entrypoint.

    Page faults of children are added to cminflt and cmajflt when they are waited for.
    """
    start_time: int
    """In clock ticks since boot: with the PID it belongs to one process only."""
    status: int
    """As of wait(2); 0 too while it lives, and for whoever may not trace it."""


def parse_past(raw: bytes) -> Past:
    """Parse the same file for that. Raises ValueError."""
    fields = raw[raw.rindex(b")") + 2 :].split()
    if len(fields) < 50 or not raw.endswith(b"\n"):
        raise ValueError(f"cut short: {raw[:80]!r}")
    return Past(int(fields[3]), int(fields[8]) + int(fields[10]) > 0, int(fields[19]), int(fields[49]))


class Member(NamedTuple):
    """A process by whom it belongs to, which few need. A tuple is made three times as fast as a frozen dataclass."""

    pid: int
    parent: int
    session: int
    has_terminal: bool
    comm: bytes
    start_time: int
    """In clock ticks since boot."""


def member(pid: int, stat: Stat, raw: bytes) -> Member:
    """Add what a scan does not need to what it has parsed of the same content."""
    fields = raw[raw.rindex(b")") + 2 :].split(None, 5)
    return Member(pid, stat.parent, int(fields[3]), fields[4] != b"0", stat.comm, stat.start_time)
