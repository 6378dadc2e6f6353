"""Every number of every line about OOM kills, over all that printf can print: the line is understood, and no number is made up."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.kernel.kmsg import parse_record
from collectors.kernel.oom_log import OomKill, OomRecogniser, looks_like_oom

B = b"/docker/" + b"b" * 64
MEMCG = b"Memory cgroup out of memory: "
SIZES = b"total-vm:2000kB, anon-rss:30kB, file-rss:4kB, shmem-rss:5kB"
REPORT = b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=eat,pid=%d,uid=%d"

D = st.integers(-(1 << 31), (1 << 31) - 1)
"""%d"""
U = st.integers(0, (1 << 32) - 1)
"""%u"""
LD = st.integers(-(1 << 63), (1 << 63) - 1)
"""%ld"""
LU = st.integers(0, (1 << 64) - 1)
"""%lu, %llu"""
NUMBERS = D | U | LD | LU | st.integers(-(10**20) + 1, 10**20 - 1)
"""As any of them, in a kernel that prints something in another way; up to 20 digits."""
USERS = st.integers(0, (1 << 32) - 2)
"""All user ids there are."""


def signed(uid: int) -> int:
    """Return what %d prints of a user id."""
    return uid if uid < 1 << 31 else uid - (1 << 32)


def kill_of(*lines: bytes) -> OomKill:
    """Return the one kill of some lines; `LEVEL|TEXT`, as in the published logs."""
    recogniser = OomRecogniser()
    records = [b"%s,%d,%d,-;%s\n" % (level, n, n, text) for n, (level, _, text) in enumerate(line.partition(b"|") for line in lines)]
    [kill] = [kill for record in records if (kill := recogniser.feed(parse_record(record)))]
    return kill


def bytes_of(kilobytes: int) -> int | None:
    """Return the size that a number of kB is, None if it is none."""
    return kilobytes * 1024 if 0 <= kilobytes <= (1 << 53) - 1 else None


# --- published logs ---


def test_the_report_of_a_user_id_printed_as_minus_two_is_understood() -> None:
    """5.0-rc, published on linux-mm in January 2019: processes of uid 4294967294."""
    kill = kill_of(
        b"6|memory: usage 204800kB, limit 204800kB, failcnt 2834",
        b"6|oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/test1,task_memcg=/test1,task=a.out,"
        b"pid=8204,uid=-2",
        b"3|Memory cgroup out of memory: Kill process 8204 (a.out) score 822 or sacrifice child",
        b"3|Killed process 8204 (a.out) total-vm:10491132kB, anon-rss:92kB, file-rss:444kB, shmem-rss:167028kB",
    )

    assert (kill.pid, kill.uid, kill.oom_memcg, kill.task_memcg, kill.is_global) == (8204, 4294967294, b"/test1", b"/test1", False)
    assert (kill.usage_bytes, kill.limit_bytes, kill.total_vm_bytes) == (204800 << 10, 204800 << 10, 10491132 << 10)


def test_a_usage_below_0_is_not_known_and_all_else_is() -> None:
    """4.15, published on linux-mm in February 2018: the counter of a cgroup's memory fell below 0."""
    kill = kill_of(
        b"6|Task in %s killed as a result of limit of %s" % (B, B),
        b"6|memory: usage 18446744073709537436kB, limit 16777216kB, failcnt 44",
        b"3|Memory cgroup out of memory: Kill process 28449 (image-starter) score 0 or sacrifice child",
        b"3|Killed process 28449 (image-starter) total-vm:8572kB, anon-rss:136kB, file-rss:0kB, shmem-rss:0kB",
    )

    assert (kill.pid, kill.oom_memcg, kill.task_memcg) == (28449, B, B)
    assert (kill.usage_bytes, kill.limit_bytes, kill.anon_rss_bytes, kill.file_rss_bytes) == (None, 16 << 30, 136 << 10, 0)


# --- one line after the other ---

RSS = b"total-vm:%(vm)dkB, anon-rss:%(anon)dkB, file-rss:%(file)dkB"
SHMEM = RSS + b", shmem-rss:%(shmem)dkB"
ALL = SHMEM + b", UID:%(uid)d pgtables:%(tables)dkB oom_score_adj:%(adj)d"
KILL_LINES = {
    "3.10": b"Killed process %(pid)d (eat) " + RSS,
    "RHEL 7": b"Killed process %(pid)d (eat), UID %(uid)d, " + SHMEM,
    "4.5 to 5.0": b"Killed process %(pid)d (eat) " + SHMEM,
    "5.1": MEMCG + b"Killed process %(pid)d (eat) " + SHMEM,
    "RHEL 8": MEMCG + b"Killed process %(pid)d (eat) " + SHMEM + b", UID:%(uid)d",
    "5.4 on": MEMCG + b"Killed process %(pid)d (eat) " + ALL,
    "the node": b"Out of memory (oom_kill_allocating_task): Killed process %(pid)d (eat) " + ALL,
}
FIELDS = ("pid", "uid", "vm", "anon", "file", "shmem", "tables", "adj")


@pytest.mark.parametrize("line", KILL_LINES.values(), ids=KILL_LINES.keys())
@given(numbers=st.fixed_dictionaries(dict.fromkeys(FIELDS, NUMBERS)))
@example(numbers=dict.fromkeys(FIELDS, -(10**20) + 1))
@example(numbers=dict.fromkeys(FIELDS, (1 << 64) - 4))
@example(numbers=dict.fromkeys(FIELDS, 1 << 53))
def test_a_kill_line_is_a_kill_whatever_its_numbers_are(line: bytes, numbers: dict[str, int]) -> None:
    """A size that none can be, a process or user that cannot be there, an adjustment out of range: not known."""
    values = {name.encode(): value for name, value in numbers.items()}
    text = line % values
    kill = kill_of(b"3|" + text)

    def printed(name: str) -> bool:
        return b"%%(%s)d" % name.encode() in line

    pid, uid, adj = numbers["pid"], numbers["uid"], numbers["adj"]
    assert kill.pid == (pid if 0 < pid < 1 << 31 else None)
    assert [kill.total_vm_bytes, kill.anon_rss_bytes, kill.file_rss_bytes] == [bytes_of(numbers[name]) for name in ("vm", "anon", "file")]
    assert kill.shmem_rss_bytes == (bytes_of(numbers["shmem"]) if printed("shmem") else None)
    assert kill.oom_score_adj == (adj if printed("adj") and -1000 <= adj <= 1000 else None)
    assert kill.uid in ((None, uid, uid + (1 << 32)) if printed("uid") else (None,))
    assert kill.uid is None or 0 <= kill.uid < (1 << 32) - 1
    assert looks_like_oom(text), "a forged one is counted as such"


@pytest.mark.parametrize("line", [KILL_LINES["RHEL 7"], KILL_LINES["RHEL 8"], KILL_LINES["5.4 on"]], ids=["RHEL 7", "RHEL 8", "5.4 on"])
@given(uid=USERS, as_signed=st.booleans())
@example(uid=4294967294, as_signed=True)
@example(uid=1 << 31, as_signed=True)
def test_a_kill_line_has_its_user_as_signed_or_unsigned(line: bytes, uid: int, *, as_signed: bool) -> None:
    """RHEL 7 prints %d, later kernels %u."""
    values = dict.fromkeys((name.encode() for name in FIELDS), 7)

    assert kill_of(b"3|" + line % {**values, b"uid": signed(uid) if as_signed else uid}).uid == uid


@given(uid=USERS)
@example(uid=4294967294)
@example(uid=1 << 31)
def test_a_report_has_its_user_whoever_that_is(uid: int) -> None:
    """It prints %d; kernels before 5.4 have it nowhere else."""
    kill = kill_of(b"6|" + REPORT % (10, signed(uid)), b"3|" + MEMCG + b"Killed process 10 (eat) " + SIZES)

    assert (kill.uid, kill.oom_memcg, kill.task_memcg) == (uid, b"/a", b"/a")


@given(pid=NUMBERS, uid=NUMBERS)
@example(pid=10, uid=-1)
@example(pid=0, uid=-(10**20) + 1)
@example(pid=-1, uid=1 << 63)
def test_a_report_is_understood_whatever_its_numbers_are(pid: int, uid: int) -> None:
    """It names the cgroups; a user that cannot be is not known, nor is that process."""
    kill = kill_of(b"6|" + REPORT % (pid, uid), b"3|" + MEMCG + b"Killed process %d (eat) %s" % (pid, SIZES))

    assert (kill.constraint, kill.oom_memcg, kill.task_memcg) == ("CONSTRAINT_MEMCG", b"/a", b"/a")
    assert kill.uid in (None, uid, uid + (1 << 32))
    assert kill.uid is None or 0 <= kill.uid < (1 << 32) - 1


@pytest.mark.parametrize("constraint", [b"CONSTRAINT_MEMCG", b"CONSTRAINT_SOMETHING_NEW", b"9"])
@pytest.mark.parametrize("nodes", [b"nodemask=(null)", b"nodemask=0", b"nodemask=0,2-4,1023", b"nodemask="])
@pytest.mark.parametrize(
    "cpuset", [b"", b",cpuset=/,mems_allowed=0", b",cpuset=x y:(z),mems_allowed=0-1,3", b",cpuset=a.scope,mems_allowed=", b",cpuset=uid=-2"]
)
def test_a_report_is_understood_whatever_its_words_are(constraint: bytes, nodes: bytes, cpuset: bytes) -> None:
    """Lists with commas, none at all, a kernel without cpusets, and words that later kernels may have."""
    report = b"oom-kill:constraint=" + constraint + b"," + nodes + cpuset + b",oom_memcg=/a,task_memcg=/a/b,task=eat,pid=10,uid=0"
    kill = kill_of(b"6|" + report, b"3|" + MEMCG + b"Killed process 10 (eat) " + SIZES)

    assert (kill.constraint, kill.oom_memcg, kill.task_memcg) == (constraint.decode(), b"/a", b"/a/b")


@given(usage=NUMBERS, limit=NUMBERS, failcnt=NUMBERS, score=NUMBERS, is_old=st.booleans())
@example(usage=18446744073709537436, limit=9007199254740988, failcnt=-1, score=-1, is_old=True)
@example(usage=0, limit=18014398509481983, failcnt=1 << 64, score=1 << 63, is_old=False)
@example(usage=1 << 53, limit=1 << 50, failcnt=0, score=0, is_old=False)
def test_usage_and_limit_are_understood_whatever_they_are(usage: int, limit: int, failcnt: int, score: int, *, is_old: bool) -> None:
    """A usage below 0 is not known, and no limit is none; the candidate's score and the count of failures are read over."""
    old = (b"6|Task in /a killed as a result of limit of /a", b"3|" + MEMCG + b"Kill process 10 (eat) score %d or sacrifice child" % score)
    new = (b"6|" + REPORT % (10, 0), b"3|oom_reaper: nothing")
    report, candidate = old if is_old else new
    kill = kill_of(
        report,
        b"6|memory: usage %dkB, limit %dkB, failcnt %d" % (usage, limit, failcnt),
        candidate,
        b"3|%sKilled process 10 (eat) %s" % (b"" if is_old else MEMCG, SIZES),
    )

    assert (kill.oom_memcg, kill.is_global, kill.usage_bytes) == (b"/a", False, bytes_of(usage))
    assert kill.limit_bytes == (limit * 1024 if 0 <= limit < 1 << 50 else None)


@given(score=NUMBERS, pid=NUMBERS, word=st.sampled_from([b"Memory cgroup out of memory", b"Out of memory"]))
def test_a_candidate_says_whose_memory_was_short_whatever_its_numbers_are(score: int, pid: int, word: bytes) -> None:
    """Up to 5.0 the kill line does not."""
    kill = kill_of(
        b"3|" + word + b": Kill process %d (eat) score %d or sacrifice child" % (pid, score), b"3|Killed process 10 (eat) " + SIZES
    )

    assert kill.is_global == (word == b"Out of memory")


@given(pid=NUMBERS)
def test_a_victim_that_is_already_exiting_is_understood_whatever_its_number_is(pid: int) -> None:
    """Its group hit the limit that its report names."""
    kill = kill_of(
        b"6|" + REPORT % (pid, 0),
        b"6|" + MEMCG + b"OOM victim %d (eat) is already exiting. Skip killing the task" % pid,
        b"6|Tasks in /a are going to be killed due to memory.oom.group set",
        b"3|" + MEMCG + b"Killed process 11 (eat) " + SIZES,
    )

    assert (kill.oom_memcg, kill.group_memcg) == (b"/a", b"/a")
