"""Whom the OOM killer would choose: /proc/PID/status and oom_score_adj, and the kernel's sum."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.kernel.badness import PAGE, Candidate, Footprint, badness, choose, footprint, oom_score_adj, parse_footprint, usable_swap
from collectors.kernel.files import Gone, Malformed
from tests.tree import Content, tree

MIB = 1 << 20
KIB = PAGE // 1024
"""KiB in a page."""

STATUS = """Name:\t{name}
Umask:\t0022
State:\tS (sleeping)
Tgid:\t7
Pid:\t7
NSpid:\t7\t1
VmPeak:\t    3060 kB
VmSize:\t    3060 kB
VmHWM:\t    9999 kB
VmRSS:\t{rss:8} kB
RssAnon:\t     112 kB
VmPTE:\t{page_tables:8} kB
VmSwap:\t{swap:8} kB
Threads:\t1
"""
DEAD = "Name:\tapp\nState:\tZ (zombie)\nTgid:\t7\nPid:\t7\nNSpid:\t7\t1\nThreads:\t{threads}\n"


def status(name: str = "app", *, rss: int = 1760, swap: int = 0, page_tables: int = 48) -> str:
    """Spell /proc/PID/status; sizes in KiB."""
    return STATUS.format(name=name, rss=rss, swap=swap, page_tables=page_tables)


def process(
    pid: int, name: str = "app", *, rss: int = 1760, swap: int = 0, page_tables: int = 48, adjustment: int = 0
) -> dict[str, Content]:
    """Give the two files of one process."""
    return {
        f"{pid}/status": status(name, rss=rss, swap=swap, page_tables=page_tables),
        f"{pid}/oom_score_adj": f"{adjustment}\n",
    }


def test_status_is_parsed() -> None:
    """Resident memory, swap and page tables, in KiB; VmHWM is none of them."""
    assert parse_footprint(status(swap=12).encode()) == Footprint(b"app", 1760, 12, 48)


@pytest.mark.parametrize("threads", [1, 3])
def test_who_has_ended_holds_nothing(threads: int) -> None:
    """A zombie, or a kernel thread, has no Vm lines."""
    assert parse_footprint(DEAD.format(threads=threads).encode()) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\n",
        status().encode()[:-1],
        status().replace("1760 kB", "1760").encode(),
        status().replace("1760", "none").encode(),
        status().replace("VmPTE", "VmXXX").encode(),
        status().replace("VmSwap", "VmXXX").encode(),
    ],
)
def test_what_is_not_the_documented_format_is_no_number(raw: bytes) -> None:
    """A cut or missing line is refused, not taken as 0."""
    with pytest.raises(ValueError, match=r".*"):
        parse_footprint(raw)


@example(rb"\n")
@example(b"\\\n")
@given(st.binary(max_size=15).filter(lambda name: b"\0" not in name))
def test_a_name_is_what_the_process_chose_and_nothing_else(name: bytes) -> None:
    """The kernel escapes newline and backslash; a name that looks like a line of the file changes no number."""
    escaped = name.replace(b"\\", rb"\\").replace(b"\n", rb"\n")
    raw = status().encode().replace(b"app", escaped, 1)

    assert parse_footprint(raw) == Footprint(name, 1760, 0, 48)


@pytest.mark.parametrize(
    ("held", "adjustment", "total", "expected"),
    [
        (Footprint(b"", 100 * KIB, 20 * KIB, 3 * KIB), 0, 4000 * PAGE, 123),
        (Footprint(b"", 100 * KIB, 0, 0), 500, 4000 * PAGE, 2100),
        (Footprint(b"", 100 * KIB, 0, 0), -500, 4000 * PAGE, -1900),
        (Footprint(b"", 100 * KIB, 0, 0), -999, 999 * PAGE, 100),  # totalpages / 1000 is 0 in whole numbers
        (Footprint(b"", 100 * KIB, 0, 0), 1000, 1999 * PAGE, 1100),
        (Footprint(b"", 100 * KIB, 0, 0), -1000, 4000 * PAGE, None),
    ],
)
def test_badness_is_the_kernels(held: Footprint, adjustment: int, total: int, expected: int | None) -> None:
    """Pages held, and whole thousandths of what may be used for each point; -1000 is spared."""
    assert badness(held, adjustment, total) == expected


def test_the_worst_is_chosen(tmp_path: Path) -> None:
    """By all three sizes and the adjustment; the kernel takes the last of equals."""
    files = {
        **process(1, "large", rss=20_000, adjustment=-300),
        **process(2, "first", rss=8_000, page_tables=8, swap=400),
        **process(3, "second", rss=8_400, page_tables=8),
        **process(4, "spared", rss=64_000, adjustment=-1000),
    }
    tree(tmp_path, files)

    chosen = choose(str(tmp_path), [1, 2, 3, 4], 64 * MIB)
    assert chosen == Candidate(3, Footprint(b"second", 8_400, 0, 8), 8_408 * 1024 // PAGE)
    assert choose(str(tmp_path), [3, 2, 1, 4], 64 * MIB) == Candidate(2, Footprint(b"first", 8_000, 400, 8), chosen.badness)


def test_a_process_that_has_ended_is_passed_over(tmp_path: Path) -> None:
    """It was listed a moment ago; so was one whose memory is gone already."""
    tree(tmp_path, {**process(1), "2/status": DEAD.format(threads=1), "2/oom_score_adj": "0\n", "2/task/2/status": DEAD.format(threads=1)})

    chosen = choose(str(tmp_path), [3, 1, 2], 64 * MIB)
    assert chosen is not None
    assert chosen.pid == 1


def test_nobody_is_chosen_where_all_are_spared_or_nobody_is(tmp_path: Path) -> None:
    """The kernel says then that it found no killable process."""
    tree(tmp_path, process(1, adjustment=-1000))

    assert choose(str(tmp_path), [1], 64 * MIB) is None
    assert choose(str(tmp_path), [], 64 * MIB) is None


def test_processes_of_which_none_can_be_seen_are_not_nobody(tmp_path: Path) -> None:
    """Blind is not spared: hidepid shows other users' processes to nobody."""
    with pytest.raises(Gone, match="hidepid"):
        choose(str(tmp_path), [7, 8], 64 * MIB)


def test_a_dead_leader_holds_what_its_threads_hold(tmp_path: Path) -> None:
    """The leader's own status shows no memory, that of a live thread does."""
    threads: dict[str, Content] = {"7/task/7/status": DEAD.format(threads=2), "7/task/8/status": status("thread")}
    tree(tmp_path, {"7/status": DEAD.format(threads=2), **threads})

    assert footprint(str(tmp_path), 7) == Footprint(b"thread", 1760, 0, 48)


@pytest.mark.parametrize("content", ["", "garbage\n", "max\n", "0"])
def test_an_adjustment_that_is_no_number_is_malformed(tmp_path: Path, content: str) -> None:
    """The error has the path."""
    tree(tmp_path, {"7/oom_score_adj": content})

    with pytest.raises(Malformed, match="7/oom_score_adj: not the documented format"):
        oom_score_adj(str(tmp_path), 7)


def test_swap_of_the_node_counts_unless_it_is_not_swapped_to(tmp_path: Path) -> None:
    """vm.swappiness 0 takes it out of the sum (mem_cgroup_get_max)."""
    tree(tmp_path, {"meminfo": "MemTotal:  16000 kB\nSwapTotal:    2048 kB\nSwapFree:     1024 kB\n", "sys/vm/swappiness": "60\n"})
    assert usable_swap(str(tmp_path)) == 2048

    tree(tmp_path, {"sys/vm/swappiness": "0\n"})
    assert usable_swap(str(tmp_path)) == 0

    tree(tmp_path, {"sys/vm/swappiness": "60\n", "meminfo": "MemTotal:  16000 kB\n"})
    with pytest.raises(Malformed, match="meminfo"):
        usable_swap(str(tmp_path))
