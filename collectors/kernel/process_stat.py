"""One process' /proc/PID/stat (Documentation/filesystems/proc.rst, table 1-4)."""

from dataclasses import dataclass


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
