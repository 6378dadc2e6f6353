"""Whom the OOM killer would choose: the kernel's own sum (mm/oom_kill.c oom_badness), from files that wait for no memory lock.

The badness of a process is what it would give back (resident memory, swap, page tables), shifted by oom_score_adj thousandths of all that
may be used under the limit. /proc/PID/oom_score is of no use here: it is reckoned with the memory of the node instead of the limit.
"""

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

from collectors.kernel.files import Gone, ReadError, explain, parse_once
from collectors.kernel.process_status import Status, namespace_pids

PAGE = os.sysconf("SC_PAGESIZE")
"""The kernel reckons in pages of so many bytes."""

NEVER = -1000
"""The oom_score_adj of a process that the OOM killer spares."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds, in KiB, from /proc/PID/status."""

    comm: bytes
    rss: int
    swap: int
    page_tables: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """The process that would be chosen, and its badness in pages."""

    pid: int
    footprint: Footprint
    badness: int


def choose(root: str, pids: Collection[int], total: int) -> Candidate | None:
    """Choose one of these processes as the kernel does at a limit (select_bad_process); None when it would spare them all.

    `total` is in bytes: the limit, and the swap that may be used beside it. Raises ReadError; Gone when no process is there any more.
    """
    worst: Candidate | None = None
    seen = 0
    for pid in pids:
        try:
            held, adjustment = footprint(root, pid), oom_score_adj(root, pid)
        except Gone:
            continue
        seen += 1
        points = badness(held, adjustment, total) if held else None
        if held and points is not None and (worst is None or points >= worst.badness):  # of equals the last one
            worst = Candidate(pid, held, points)
    if pids and not seen:
        raise Gone(root, f"none of {len(pids)} processes is there: they have ended, or /proc hides them (hidepid)")
    return worst


def badness(footprint: Footprint, adjustment: int, total: int) -> int | None:
    """Return the badness in pages, None for a process that is spared."""
    if adjustment == NEVER:
        return None
    held = sum(kib * 1024 // PAGE for kib in (footprint.rss, footprint.swap, footprint.page_tables))
    return held + adjustment * (total // PAGE // 1000)


def footprint(root: str, pid: int) -> Footprint | None:
    """Read what a process holds; None when it is on its way out and holds nothing any more. Raises ReadError."""
    path = f"{root}/{pid}"
    found = parse_once(f"{path}/status", parse_footprint)
    if found is not None:
        return found
    # A leader that has ended before its threads shows no memory; the kernel looks at the threads then (find_lock_task_mm).
    try:
        threads = os.listdir(f"{path}/task")
    except OSError as error:
        raise explain(error, f"{path}/task") from error
    statuses = (parse_once(f"{path}/task/{thread}/status", parse_footprint) for thread in threads)
    return next((status for status in statuses if status is not None), None)


def parse_footprint(raw: bytes) -> Footprint | None:
    """Return what a /proc/PID/status tells; None without memory (one that has ended, a kernel thread). Raises ValueError."""
    status = Status(raw)
    rss, swap, page_tables = status.rss_kib, status.swap_kib, status.page_tables_kib
    if rss is None:
        return None
    if swap is None or page_tables is None:
        raise ValueError("no VmSwap, or no VmPTE")
    return Footprint(status.name, rss, swap, page_tables)


def oom_score_adj(root: str, pid: int) -> int:
    """From -1000 (spared) to 1000 (always first): /proc/PID/oom_score_adj. Raises ReadError."""
    return parse_once(f"{root}/{pid}/oom_score_adj", _number)


def is_init(root: str, pid: int) -> bool:
    """Whether it is PID 1 of its namespace, which ends with it (/proc/PID/status NSpid). Raises ReadError."""
    return parse_once(f"{root}/{pid}/status", namespace_pids)[-1:] == (1,)


def has_init(root: str, pids: Iterable[int]) -> bool:
    """Whether one of them is seen to be PID 1 of its namespace; it is mostly the first."""
    for pid in pids:
        with suppress(ReadError):
            if is_init(root, pid):
                return True
    return False


def usable_swap(root: str) -> int:
    """KiB of swap on the node that the OOM killer adds to a limit: none with vm.swappiness 0. Raises ReadError."""
    if parse_once(f"{root}/sys/vm/swappiness", _number) == 0:
        return 0
    return parse_once(f"{root}/meminfo", _swap_total)


def _swap_total(raw: bytes) -> int:
    start = raw.index(b"\nSwapTotal:") + 11
    return int(raw[start : raw.index(b" kB\n", start)])


def _number(raw: bytes) -> int:
    if not raw.endswith(b"\n"):
        raise ValueError("cut short")
    return int(raw)
