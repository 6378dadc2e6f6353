"""The kernel log's OOM kills, from real captures, from the texts of other kernels, and against forgery."""

import re
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.kernel.kmsg import Record, parse_record
from collectors.kernel.oom_log import OomKill, OomRecogniser, looks_like_oom
from tests.kernel.test_kmsg import KERNELS, captured, escaped

SIZES = b"total-vm:2000kB, anon-rss:30kB, file-rss:4kB, shmem-rss:5kB"
TAIL = SIZES + b", UID:7 pgtables:116kB oom_score_adj:-3"
MEMCG = b"Memory cgroup out of memory: "
GROUP = b"Tasks in %s are going to be killed due to memory.oom.group set"


class Log:
    """Writes records as the kernel does."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.sequence = 1000
        self.timestamp = 5_000_000

    def write(self, text: bytes, *, level: int = 6, facility: int = 0, flag: bytes = b"-", caller: bytes = b"") -> None:
        """Write one record; continuations have level 4."""
        self.sequence += 1
        self.timestamp += 100
        more = b",caller=" + caller if caller else b""
        self.raw.append(b"%d,%d,%d,%s%s;%s\n" % (facility << 3 | level, self.sequence, self.timestamp, flag, more, escaped(text)))

    def pieces(self, *pieces: bytes, caller: bytes = b"") -> None:
        """Write a line that was split between all pieces."""
        self.write(pieces[0], caller=caller)
        for piece in pieces[1:]:
            self.write(piece, level=4, flag=b"c", caller=caller)

    def report(self, pid: int, comm: bytes = b"eat", memcg: bytes = b"/a") -> None:
        """Write an `oom-kill:` line of a cgroup at its own limit."""
        self.write(b"".join(report_pieces(pid, comm, memcg, memcg)))

    def kill(self, pid: int, comm: bytes = b"eat", message: bytes = MEMCG) -> None:
        """Write a kill line."""
        self.write(message + b"Killed process %d (%s) %s" % (pid, comm, TAIL), level=3)

    def exiting(self, pid: int, comm: bytes = b"eat", message: bytes = MEMCG) -> None:
        """Write what stands for the kill line of a victim that has exited, since 5.9."""
        self.write(message + b"OOM victim %d (%s) is already exiting. Skip killing the task" % (pid, comm))

    def kills(self) -> list[OomKill]:
        """Recognise everything written."""
        return kills(self.raw)

    def named(self) -> list[tuple[int | None, bytes | None]]:
        """The kills that were named afterwards, and the cgroup of their group."""
        return named(self.raw)


def report_pieces(pid: int, comm: bytes, oom_memcg: bytes | None, task_memcg: bytes, cpuset: bytes = b"/") -> list[bytes]:
    """Return the pieces of an `oom-kill:` line as the kernel prints them; without oom_memcg the node is out of memory."""
    head = b"oom-kill:constraint=CONSTRAINT_%s,nodemask=(null)" % (b"MEMCG" if oom_memcg else b"NONE")
    limit = [b",oom_memcg=", oom_memcg] if oom_memcg else [b",global_oom"]
    return [head, b",cpuset=", cpuset, b",mems_allowed=0-1,3", *limit, b",task_memcg=", task_memcg, b",task=%s,pid=%d,uid=7" % (comm, pid)]


def kills(raw: list[bytes]) -> list[OomKill]:
    """Feed one log to a new recogniser."""
    recogniser = OomRecogniser()
    return [kill for record in raw if (kill := recogniser.feed(parse_record(record)))]


def named(raw: list[bytes]) -> list[tuple[int | None, bytes | None]]:
    """Feed one log to a new recogniser; what it says later of kills that it returned before."""
    recogniser = OomRecogniser()
    found = []
    for record in raw:
        recogniser.feed(parse_record(record))
        if recogniser.named is not None:
            found.append((recogniser.named.pid, recogniser.named.group_memcg))
    return found


# --- captures ---


class Victim(NamedTuple):
    """What the log says of one kill; the same on all captured kernels, but for the pid."""

    comm: bytes
    task_memcg: bytes | None
    oom_memcg: bytes | None = None
    group_memcg: bytes | None = None
    is_global: bool = False
    oom_score_adj: int = 0


def facts(kill: OomKill) -> tuple[int | None, Victim]:
    """Reduce a kill to what a capture is compared by."""
    assert kill.constraint == ("CONSTRAINT_NONE" if kill.is_global else "CONSTRAINT_MEMCG")
    assert (kill.group, kill.uid) == (kill.group_memcg is not None, 0)
    adj = kill.oom_score_adj if kill.oom_score_adj is not None else -1
    return kill.pid, Victim(kill.comm, kill.task_memcg, kill.oom_memcg, kill.group_memcg, kill.is_global, adj)


LONG = b"/kubepods.slice" + b"".join(b"/x%d" % level + b"y" * 200 for level in range(4))
STRANGE = b'/we,ird name=x,pid=7;"\xc3\xa9\\ }'
VICTIMS: dict[str, list[Victim]] = {
    "one process": [Victim(b"eater", b"/a", b"/a")],
    "memory.oom.group": [
        Victim(b"grp-eater", b"/b", b"/b"),
        Victim(b"python3", None, b"/b", b"/b"),
        Victim(b"python3", None, b"/b", b"/b"),
    ],
    "strange process names": [
        Victim(comm, b"/a", b"/a")
        for comm in (b"a) b,pid=1,u", b"nl\nx\\y\x1b[31m", b"\xc3\xa9\xe2\x82\xac,task=", b"Out of memory: ", b"oom-kill:const")
    ],
    "strange cgroup name": [Victim(b"e", STRANGE, STRANGE)],
    "long path": [Victim(b"longcg", LONG, LONG)],
    "limit of the parent": [Victim(b"kid", b"/par/kid", b"/par")],
    "nested PID namespace": [Victim(b"nsvictim", b"/a", b"/a")],
    "leader exited": [Victim(b"threadY", b"/a", b"/a")],
    "nothing to kill": [],
    "allocation refused": [],
    "sysrq f": [Victim(b"sysrqv", b"/free", is_global=True, oom_score_adj=900)],
    "cpuset": [Victim(b"cps", b"/q/leaf, x", b"/q/leaf, x")],
    "node out of memory": [Victim(b"globaleat", b"/free", is_global=True, oom_score_adj=500)],
    "node out of memory, memory.oom.group": [
        Victim(b"globgrp", b"/gg", is_global=True, oom_score_adj=500),
        Victim(b"python3", None, group_memcg=b"/gg", is_global=True),
    ],
    "split lines": [],
    "frozen victim": [Victim(b"frozenbig", b"/fz", b"/fz")],
}
PIDS: dict[str, list[list[int] | None]] = {  # in the order of KERNELS; None: not captured
    "one process": [[85], [95], [151], [115]],
    "memory.oom.group": [[88, 86, 87], [99, 97, 98], [154, 153, 152], [118, 116, 117]],
    "strange process names": [[*range(89, 94)], [*range(100, 105)], [*range(155, 160)], [*range(119, 124)]],
    "strange cgroup name": [[94], [105], [160], [124]],
    "long path": [[95], [106], [161], [125]],
    "limit of the parent": [[96], [107], [162], [126]],
    "nested PID namespace": [[99], [110], [165], [129]],
    "leader exited": [[101], [112], [167], [131]],
    "nothing to kill": [[], [], [], []],
    "allocation refused": [None, [], [], []],
    "sysrq f": [[121], [131], [186], [150]],
    "cpuset": [[86], [96], [148], [113]],
    "node out of memory": [[87], [98], [149], [114]],
    "node out of memory, memory.oom.group": [[89, 88], [100, 99], [151, 150], [116, 115]],
    "split lines": [[], [], None, []],
    "frozen victim": [[118], [129], [181], [146]],
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_scenario_of_a_capture_has_exactly_its_victims(kernel: str) -> None:
    """Each killed process is reported once, with its cgroup, the cgroup whose limit was hit, and the group it shared."""
    found = {name: [facts(kill) for kill in kills(scenario.raw)] for name, scenario in captured(kernel).items()}
    pids = {name: row[KERNELS.index(kernel)] for name, row in PIDS.items()}

    assert found == {name: [*zip(row, VICTIMS[name], strict=True)] for name, row in pids.items() if row is not None}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("boot", [1, 2])
def test_the_log_names_as_many_victims_as_memory_events_counted(kernel: str, boot: int) -> None:
    """Kills named in or below a cgroup equal oom_kill - oom_group_kill: the kernel counts a group's first victim twice."""
    named: Counter[bytes] = Counter()
    compared = 0
    for name, scenario in captured(kernel).items():
        if scenario.boot != boot:
            continue
        for kill in kills(scenario.raw):
            path = kill.task_memcg or kill.group_memcg or b""
            named.update(path[:end] for end in (*(slash.start() for slash in re.finditer(b"/", path)), len(path)) if end)
        for cgroup, (killed, groups) in scenario.events.items():
            if groups is None:  # 5.10 does not count groups: the capture has one in each of these
                groups = int("memory.oom.group" in name)  # noqa: PLW2901 - the one number that this kernel leaves out
            compared += 1

            assert (cgroup, named[cgroup]) == (cgroup, killed - groups)
    assert compared >= 3


def test_sizes_are_bytes_and_everything_else_of_a_kill_is_as_printed() -> None:
    """The whole of a kill of 5.10."""
    [kill] = kills(captured("5.10")["one process"].raw)

    assert kill == OomKill(
        sequence=410,
        timestamp_us=14207667,
        pid=85,
        comm=b"eater",
        constraint="CONSTRAINT_MEMCG",
        oom_memcg=b"/a",
        task_memcg=b"/a",
        is_global=False,
        group=False,
        group_memcg=None,
        total_vm_bytes=85364 * 1024,
        anon_rss_bytes=25256 * 1024,
        file_rss_bytes=4 * 1024,
        shmem_rss_bytes=3756 * 1024,
        uid=0,
        oom_score_adj=0,
        usage_bytes=16 << 20,
        limit_bytes=16 << 20,
    )


@pytest.mark.parametrize(("kernel", "memcg", "pid"), [("5.10", b"/r2", 94), ("6.1", b"/r10", 113), ("7.2", b"/r23", 143)], ids=str)
def test_a_captured_line_split_among_other_records_is_put_together(kernel: str, memcg: bytes, pid: int) -> None:
    """The report comes whole out of its pieces, with what user space wrote in between (left out of the capture) put back."""
    split = [parse_record(raw) for raw in captured(kernel)["split lines"].raw]
    start = next(number for number, record in enumerate(split) if record.text.startswith(b"oom-kill:"))
    end = next(number for number, record in enumerate(split) if record.text.endswith(b"pid=%d,uid=0" % pid))
    pieces = {record.sequence: record for record in split[start : end + 1]}
    last = split[end].sequence + 1
    kill_line = MEMCG + b"Killed process %d (il%s) %s" % (pid, memcg[2:], TAIL)
    pieces[last] = Record(0, 3, last, 0, False, b"", kill_line)
    recogniser = OomRecogniser()
    log = [pieces.get(n, Record(1, 4, n, 0, False, b"", kill_line)) for n in range(split[start].sequence, last + 1)]
    found = [kill for record in log if (kill := recogniser.feed(record))]

    assert [(kill.pid, kill.oom_memcg, kill.task_memcg) for kill in found] == [(pid, memcg, memcg)]


# --- the texts of other kernels ---

UNKNOWN = {"constraint": "", "oom_memcg": None, "task_memcg": None, "is_global": False, "uid": None, "oom_score_adj": None}
POD = b"/kubepods/pod951f0b3c-6b1c-11e9-a6b2-0cc47ad5a3ec/0249" + b"a" * 60


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(
            [
                (6, b"Task in %s killed as a result of limit of %s" % (POD, POD)),
                (3, b"Memory cgroup out of memory: Kill process 62685 (bash) score 0 or sacrifice child"),
                (3, b"Killed process 62769 (cp) total-vm:2000kB, anon-rss:30kB, file-rss:4kB, shmem-rss:5kB"),
            ],
            {"pid": 62769, "comm": b"cp", "constraint": "CONSTRAINT_MEMCG", "oom_memcg": POD, "task_memcg": POD},
            id="4.19, a child of the candidate is killed",
        ),
        pytest.param(
            [
                (3, b"Out of memory: Kill process 1221 (allocate) score 241 or sacrifice child"),
                (3, b"Killed process 1221 (allocate) total-vm:2257144kB, anon-rss:2009128kB, file-rss:4kB, shmem-rss:0kB"),
            ],
            {"pid": 1221, "comm": b"allocate", "is_global": True, "shmem_rss_bytes": 0},
            id="4.19, the node is out of memory",
        ),
        pytest.param(
            [(3, b"Out of memory: Killed process 3035 (oomprocs) total-vm:1056800kB, anon-rss:8kB, file-rss:4kB, shmem-rss:0kB")],
            {"pid": 3035, "comm": b"oomprocs", "is_global": True, "anon_rss_bytes": 8192},
            id="5.3",
        ),
        pytest.param(
            [
                (6, b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/l,task_memcg=/l,task=l,pid=5,uid=7"),
                (3, MEMCG + b"Killed process 6 (t) " + SIZES),
            ],
            {"pid": 6, "constraint": "CONSTRAINT_MEMCG", "oom_memcg": b"/l", "task_memcg": b"/l", "uid": None},
            id="5.3, a thread whose leader has exited",
        ),
        pytest.param(
            [(3, b"Killed process 18177 (palo_be), UID 0, total-vm:70347780kB, anon-rss:45563572kB, file-rss:0kB, shmem-rss:0kB")],
            {"pid": 18177, "comm": b"palo_be", "uid": 0, "total_vm_bytes": 70347780 * 1024},
            id="el7",
        ),
        pytest.param(
            [(3, b"Killed process 1 (no_shmem) total-vm:3kB, anon-rss:2kB, file-rss:1kB")],
            {"pid": 1, "shmem_rss_bytes": None, "file_rss_bytes": 1024},
            id="3.10",
        ),
        pytest.param(
            [
                (
                    3,
                    b"Memory cgroup out of memory: Killed process 63214 (uwsgi) total-vm:3149468kB, anon-rss:164992kB, file-rss:52176kB,"
                    b" shmem-rss:92kB, UID:0 pgtables:1372kB oom_score_adj:986",
                ),
                (6, b"oom_reaper: reaped process 63214 (uwsgi), now anon-rss:0kB, file-rss:0kB, shmem-rss:92kB"),
            ],
            {"pid": 63214, "comm": b"uwsgi", "uid": 0, "oom_score_adj": 986, "shmem_rss_bytes": 92 * 1024},
            id="Ubuntu 5.4",
        ),
        pytest.param(
            [
                (6, b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/l,task_memcg=/l,task=l,pid=23793,uid=0"),
                (3, b"Memory cgroup out of memory: Killed process 23793 (l) " + SIZES),
            ],
            {"pid": 23793, "constraint": "CONSTRAINT_MEMCG", "oom_memcg": b"/l", "task_memcg": b"/l", "uid": 0},
            id="SUSE, no cpusets",
        ),
        pytest.param(
            [
                (
                    6,
                    b"oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=0,2-4,cpuset=x,mems_allowed=0,2-4,global_oom,"
                    b"task_memcg=/user.slice/tab(23).scope,task=(resolved),pid=2621226,uid=1000",
                ),
                (3, b"Out of memory (oom_kill_allocating_task): Killed process 2621226 ((resolved)) " + TAIL),
            ],
            {
                "pid": 2621226,
                "comm": b"(resolved)",
                "constraint": "CONSTRAINT_CPUSET",
                "task_memcg": b"/user.slice/tab(23).scope",
                "is_global": True,
                "uid": 7,
                "oom_score_adj": -3,
            },
            id="lists with commas, and a name in parentheses",
        ),
        pytest.param(
            [(3, MEMCG + b"Killed process 5 (later) " + TAIL + b", memcg:/a,new-field other:-7kB")],
            {"pid": 5, "uid": 7, "oom_score_adj": -3},
            id="a later kernel with more fields",
        ),
    ],
)
def test_the_texts_of_every_kernel_are_understood(lines: list[tuple[int, bytes]], expected: dict[str, object]) -> None:
    """The lines of B6 in the kernels that were not captured; a candidate is never a kill."""
    log = Log()
    for level, text in lines:
        log.write(text, level=level)
    [kill] = log.kills()

    assert {name: getattr(kill, name) for name in UNKNOWN | expected} == UNKNOWN | expected


@pytest.mark.parametrize("reports_before", [0, 10])
def test_a_group_of_4_19_is_read_like_a_later_one(reports_before: int) -> None:
    """The log from the patch that brought memory.oom.group. The next candidate line ends the group, and no storm suppresses that."""
    log = Log()
    for _ in range(reports_before):
        log.write(b"Task in /a killed as a result of limit of /a")
    log.write(b"Out of memory: Kill process 1221 (allocate) score 241 or sacrifice child", level=3)
    log.kill(1221, b"allocate", b"")
    log.write(GROUP % b"/A1")
    for pid in (1217, 1218, 1218, 1221):  # 4.19 went through all threads, so a process came more than once
        log.kill(pid, b"allocate", b"")
    log.write(MEMCG + b"Kill process 1221 (x) score 1 or sacrifice child", level=3)
    log.kill(1221, b"x", b"")

    assert [(kill.pid, kill.is_global, kill.group, kill.group_memcg) for kill in log.kills()] == [
        (1221, True, False, None),
        (1217, True, True, b"/A1"),
        (1218, True, True, b"/A1"),
        (1221, False, False, None),
    ]


def test_two_candidates_without_a_kill_end_the_first_one_s_report() -> None:
    """On 4.19 a victim that exits by itself leaves report and candidate behind; the next one's report may be suppressed."""
    log = Log()
    log.write(b"Task in /a killed as a result of limit of /a")
    for pid in (1, 2):
        log.write(MEMCG + b"Kill process %d (x) score 9 or sacrifice child" % pid, level=3)
    log.kill(2, b"x", b"")
    [kill] = log.kills()

    assert (kill.pid, kill.task_memcg, kill.is_global) == (2, None, False)


# --- incidents ---


def test_the_first_victim_of_a_group_is_not_counted_again_and_the_next_incident_is_not_in_the_group() -> None:
    """The next report ends the group, also for a process that has the same pid."""
    log = Log()
    log.report(10)
    log.kill(10)
    log.write(GROUP % b"/a")
    log.kill(11)
    log.kill(10)
    log.report(10, memcg=b"/z")
    log.kill(10)

    assert [(kill.pid, kill.task_memcg, kill.group, kill.group_memcg) for kill in log.kills()] == [
        (10, b"/a", False, None),
        (11, None, True, b"/a"),
        (10, b"/z", False, None),
    ]


def test_a_pid_killed_twice_outside_a_group_is_two_processes() -> None:
    """Process ids are used again."""
    log = Log()
    log.kill(10)
    log.kill(10)

    assert [kill.pid for kill in log.kills()] == [10, 10]


def test_a_report_explains_one_kill() -> None:
    """It is used up by the first kill line that follows."""
    log = Log()
    log.report(10)
    log.kill(10)
    log.kill(10)

    assert [kill.task_memcg for kill in log.kills()] == [b"/a", None]


def test_a_victim_outside_the_cgroup_at_its_limit_is_in_no_cgroup() -> None:
    """It was moved while it was being chosen, or the paths were not what they seem."""
    log = Log()
    log.write(b"".join(report_pieces(10, b"eat", b"/a", b"/b")))
    log.kill(10)

    assert [(kill.oom_memcg, kill.task_memcg) for kill in log.kills()] == [(None, None)]


def test_a_kill_without_its_report_is_counted_without_a_cgroup() -> None:
    """Fourteen kills at once get ten reports, as on all captured kernels: the last four are in no cgroup, not in the tenth's."""
    log = Log()
    for pid in range(1, 15):
        if pid <= 10:
            log.report(pid, memcg=b"/c%d" % pid)
        log.kill(pid)

    assert [(kill.pid, kill.task_memcg) for kill in log.kills()] == [(pid, b"/c%d" % pid if pid <= 10 else None) for pid in range(1, 15)]


def storm(log: Log) -> None:
    """Write the ten reports after which the kernel may suppress more; the last victim exited by itself."""
    for pid in range(1, 11):
        log.report(pid, memcg=b"/c%d" % pid)
        if pid < 10:
            log.kill(pid)


@pytest.mark.parametrize(("pause_us", "expected"), [(0, None), (6_000_000, b"/c10")])
def test_a_report_for_another_pid_counts_only_if_reports_cannot_have_been_suppressed(pause_us: int, expected: bytes | None) -> None:
    """A report and a kill line name different pids when the leader has exited, or when the kill's own report is missing."""
    log = Log()
    storm(log)
    log.timestamp += pause_us
    log.kill(99)

    assert [(kill.pid, kill.task_memcg) for kill in log.kills()][9:] == [(99, expected)]


def test_in_a_storm_no_kill_is_taken_for_a_member_of_the_last_group() -> None:
    """A suppressed report no longer ends a group, so a member cannot be told from the next victim; repeats still can."""
    log = Log()
    storm(log)
    log.kill(10)
    log.write(GROUP % b"/c10")
    log.kill(11)
    log.kill(10)
    log.kill(20)
    log.write(GROUP % b"/other")
    log.kill(20)

    assert [(kill.pid, kill.task_memcg, kill.group, kill.group_memcg) for kill in log.kills()][9:] == [
        (10, b"/c10", False, None),
        (11, None, False, None),
        (20, None, False, None),
    ]


def test_after_lost_records_nothing_before_them_explains_a_kill() -> None:
    """The report, or the group, of a kill behind a gap may be among the lost; its first victim is still not counted twice."""
    log = Log()
    log.report(10)
    log.sequence += 1
    log.kill(11)
    log.write(GROUP % b"/a")
    log.sequence += 1
    log.kill(12)
    log.kill(11)

    assert [(kill.pid, kill.task_memcg, kill.group) for kill in log.kills()] == [(11, None, False), (12, None, False)]


def test_reports_hidden_by_lost_records_count_as_printed() -> None:
    """After a large gap the kernel may have been in a storm, so a report explains only the pid it names."""
    log = Log()
    log.report(1)
    log.kill(1)
    log.sequence += 1000
    log.report(2)
    log.kill(3)

    assert [kill.task_memcg for kill in log.kills()] == [b"/a", None]


def test_a_log_that_starts_again_starts_without_a_storm() -> None:
    """Sequence numbers fall only when the log is another boot's, or is read again from its start."""
    log = Log()
    storm(log)
    log.sequence = log.timestamp = 0
    log.report(50)
    log.kill(51)

    assert log.kills()[-1].task_memcg == b"/a"


# --- groups whose first victim is not like the others ---


@pytest.mark.parametrize("says_so", [True, False], ids=["since 5.9", "before"])
def test_a_group_whose_first_victim_is_exiting_has_the_limit_of_its_report(says_so: bool) -> None:
    """No kill line is printed for it; report and group line are of one incident, and the members were killed for that limit."""
    log = Log()
    log.kill(9)
    log.write(b"memory: usage 16384kB, limit 16384kB, failcnt 37")
    log.write(b"".join(report_pieces(10, b"eat", b"/pod", b"/pod/c/job")))
    if says_so:
        log.exiting(10)
    log.write(GROUP % b"/pod/c")
    log.exiting(12)
    log.kill(11, b"x")
    log.kill(13, b"y")
    _, *members = log.kills()

    assert [(kill.pid, kill.group_memcg, kill.oom_memcg, kill.limit_bytes, kill.constraint) for kill in members] == [
        (11, b"/pod/c", b"/pod", 16 << 20, "CONSTRAINT_MEMCG"),
        (13, b"/pod/c", b"/pod", 16 << 20, "CONSTRAINT_MEMCG"),
    ]
    assert [(kill.group, kill.task_memcg, kill.uid) for kill in members] == [(True, None, 7)] * 2
    assert log.named() == []


def test_a_group_of_4_19_whose_first_victim_is_exiting_has_the_limit_of_its_report() -> None:
    """Only report and candidate tell of it."""
    log = Log()
    log.write(b"Task in /p/c killed as a result of limit of /p")
    log.write(MEMCG + b"Kill process 10 (eat) score 9 or sacrifice child", level=3)
    log.write(GROUP % b"/p/c")
    log.kill(11, b"x", b"")

    assert [(kill.pid, kill.group_memcg, kill.oom_memcg, kill.is_global) for kill in log.kills()] == [(11, b"/p/c", b"/p", False)]


def test_a_group_of_the_whole_node_whose_first_victim_is_exiting() -> None:
    """The report says that the node was short of memory; on 4.19 there is none, but the candidate."""
    log = Log()
    log.write(b"".join(report_pieces(10, b"eat", None, b"/c")))
    log.exiting(10, message=b"Out of memory: ")
    log.write(GROUP % b"/c")
    log.kill(11, message=b"Out of memory: ")
    log.write(b"Out of memory: Kill process 20 (eat) score 9 or sacrifice child", level=3)
    log.write(GROUP % b"/d")
    log.kill(21, message=b"")
    log.kill(22, message=b"")

    assert [(kill.pid, kill.group_memcg, kill.oom_memcg, kill.is_global) for kill in log.kills()] == [
        (11, b"/c", None, True),
        (21, b"/d", None, True),
        (22, b"/d", None, True),
    ]


@pytest.mark.parametrize(
    ("exiting", "path", "limit"),
    [(99, b"/p/c", None), (10, b"/p/d", None), (10, b"/", None), (10, b"/p/c/d", None), (10, b"/p/c", b"/p"), (10, b"/p", b"/p")],
)
def test_a_report_tells_of_a_group_only_if_it_is_of_its_first_victim(exiting: int, path: bytes, limit: bytes | None) -> None:
    """By pid, and by the group: the victim was in it, and it is not above the cgroup at its limit."""
    log = Log()
    log.write(b"".join(report_pieces(10, b"eat", b"/p", b"/p/c")))
    log.exiting(exiting)
    log.write(GROUP % path)
    log.kill(11)

    assert [(kill.pid, kill.group_memcg, kill.oom_memcg) for kill in log.kills()] == [(11, path, limit)]


def test_the_report_of_a_victim_that_is_exiting_explains_no_other_kill() -> None:
    """The next kill line is another incident's."""
    log = Log()
    log.report(10)
    log.exiting(10)
    log.kill(10)
    log.write(b"".join(report_pieces(10, b"eat", b"/a", b"/a")))
    log.kill(12, message=b"Out of memory: ")

    assert [(kill.pid, kill.task_memcg, kill.oom_memcg) for kill in log.kills()] == [(10, None, None), (12, None, None)]


def test_the_kill_line_right_before_a_group_line_is_of_its_first_victim() -> None:
    """In a storm its report is suppressed; the group line names its cgroup, microseconds later."""
    log = Log()
    storm(log)
    log.kill(10)
    log.write(GROUP % b"/c10")  # its report has named it
    log.kill(20)
    log.write(GROUP % b"/docker/x")
    log.kill(21)
    log.kill(20)

    assert log.named() == [(20, b"/docker/x")]
    recogniser = OomRecogniser()
    *_, first, nothing = [recogniser.feed(parse_record(raw)) for raw in log.raw[:-2]]
    assert first is not None
    assert (nothing, recogniser.named) == (None, replace(first, group_memcg=b"/docker/x"))


def test_a_group_line_in_pieces_names_its_first_victim_once() -> None:
    """When its last piece is there."""
    log = Log()
    log.kill(10)
    log.pieces(b"Tasks in ", b"/a", b" are going to be killed due to memory.oom.group set")
    log.write(b"/other", level=4, flag=b"c")

    assert log.named() == [(10, b"/a")]
    assert named(log.raw[:3]) == []


def write_between(log: Log, what: str) -> None:
    """Write, between a kill line and a group line, what makes the one not the other's."""
    match what:
        case "another victim, exiting":
            log.exiting(11)
        case "a report":
            log.report(11)
        case "a candidate":
            log.write(MEMCG + b"Kill process 11 (eat) score 9 or sacrifice child", level=3)
        case "lost records":
            log.sequence += 1
        case "the repeated line of a group":
            log.write(GROUP % b"/before")
            log.kill(11)
            log.kill(10)
        case "a member of a group":
            log.write(GROUP % b"/before")
            log.kill(11)


@pytest.mark.parametrize(
    "what",
    [
        "another victim, exiting",
        "a report",
        "a candidate",
        "lost records",
        "the repeated line of a group",
        "a member of a group",
        "another caller",
    ],
)
def test_a_kill_line_that_is_not_right_before_the_group_line_is_not_named_by_it(what: str) -> None:
    """The group's first victim is then another one, or nobody knows who."""
    log = Log()
    log.kill(10)
    write_between(log, what)
    log.write(GROUP % b"/a", caller=b"T5" if what == "another caller" else b"")

    assert log.named() == ([(10, b"/before")] if "of a group" in what else [])


# --- lines in pieces ---

WHOLE = report_pieces(10, b"eat", b"/p", b"/p/c")


@pytest.mark.parametrize("at", range(1, len(WHOLE)))
def test_a_report_split_anywhere_is_put_together(at: int) -> None:
    """Other records come between the two parts: what user space wrote, and other lines of the kernel."""
    log = Log()
    log.pieces(b"".join(WHOLE[:at]))
    log.write(b"forged", facility=1, flag=b"c")
    log.write(b"eth0: link up")
    log.write(b"".join(WHOLE[at:]), level=4, flag=b"c")
    log.kill(10)

    assert [(kill.oom_memcg, kill.task_memcg) for kill in log.kills()] == [(b"/p", b"/p/c")]


def test_a_report_in_all_its_pieces_and_a_group_line_too_are_put_together() -> None:
    """The worst that pr_cont() can do."""
    log = Log()
    log.pieces(*WHOLE)
    log.kill(10)
    log.pieces(b"Tasks in ", b"/p", b" are going to be killed due to memory.oom.group set")
    log.kill(11)

    assert [(kill.task_memcg, kill.group_memcg) for kill in log.kills()] == [(b"/p/c", None), (None, b"/p")]


@pytest.mark.parametrize("kept", range(1, len(WHOLE)))
def test_a_report_without_its_end_explains_nothing(kept: int) -> None:
    """The kill is counted, and is in no cgroup."""
    log = Log()
    log.pieces(*WHOLE[:kept])
    log.kill(10)

    assert [(kill.pid, kill.oom_memcg, kill.task_memcg) for kill in log.kills()] == [(10, None, None)]


def test_pieces_of_another_caller_are_not_taken() -> None:
    """With CONFIG_PRINTK_CALLER another task's path cannot get into the line."""
    log = Log()
    log.pieces(*WHOLE[:7], caller=b"T1")
    log.write(b"/victim", level=4, flag=b"c", caller=b"T2")
    for piece in WHOLE[7:]:
        log.write(piece, level=4, flag=b"c", caller=b"T1")
    log.kill(10)

    assert [kill.task_memcg for kill in log.kills()] == [b"/p/c"]


def test_a_path_of_somebody_else_s_line_leaves_the_kill_in_no_cgroup() -> None:
    """`cgroup: fork rejected by pids controller in PATH` is printed in pieces too: of two paths for one place neither is believed."""
    log = Log()
    log.pieces(*WHOLE[:7], b"/victim", *WHOLE[7:])
    log.kill(10)

    assert [(kill.pid, kill.task_memcg) for kill in log.kills()] == [(10, None)]


def test_a_path_that_the_kernel_may_have_cut_is_not_believed() -> None:
    """One printk() keeps about 1000 bytes; the beginning of a path is another cgroup's path."""
    log = Log()
    log.pieces(*WHOLE[:7], b"/p/" + b"c" * 990, WHOLE[-1])
    log.kill(10)

    assert [(kill.pid, kill.task_memcg) for kill in log.kills()] == [(10, None)]


def test_a_piece_is_never_evidence_by_itself() -> None:
    """After `cpuset=` a record may begin with the name of a cgroup, which a container with a delegated tree chooses."""
    log = Log()
    log.kill(1)
    for _ in range(2):
        log.write(MEMCG + b"Killed process 2 (systemd) " + TAIL + b",mems_allowed=0", level=4, flag=b"c")
        log.write(b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=")

    assert [kill.pid for kill in log.kills()] == [1]


def test_a_line_that_never_ends_does_not_fill_the_memory() -> None:
    """Pieces are taken for ever only if every cgroup is called to look like the place before a path."""
    recogniser = OomRecogniser()
    recogniser.feed(Record(0, 6, 1, 0, False, b"", b"Tasks in "))
    for sequence in range(2, 1000):
        recogniser.feed(Record(0, 4, sequence, 0, True, b"", b"/" + b"x" * 900 + b"memcg="))

    assert recogniser._open is not None
    assert len(recogniser._open._text) < 10_000


# --- forgery ---


@pytest.mark.parametrize("facility", [1, 3, 16, 127])
def test_what_user_space_writes_is_never_evidence(facility: int) -> None:
    """The kernel stores <0> and <3> as facility 1, <30> as 3: no writer gets facility 0. Forgeries look like OOM, to be counted."""
    log = Log()
    log.report(10)
    log.write(b"".join(report_pieces(10, b"eat", b"/victim", b"/victim")), facility=facility)
    log.write(MEMCG + b"Killed process 1 (systemd) " + TAIL, level=3, facility=facility)
    log.write(GROUP % b"/victim", facility=facility)
    log.kill(10)

    assert [(kill.pid, kill.task_memcg) for kill in log.kills()] == [(10, b"/a")]
    assert [looks_like_oom(parse_record(raw).text) for raw in log.raw] == [True] * 5


@pytest.mark.parametrize(
    "end", [b": Can't open blockdev", b"\n: Can't open blockdev", b" x:: Can't open blockdev", b" x", b", x", b"\n", b"\nx"]
)
@pytest.mark.parametrize("tail", [SIZES, TAIL])
def test_a_message_that_begins_with_a_kill_line_is_none(tail: bytes, end: bytes) -> None:
    """mount(2) lets its caller begin a message of the kernel with what he likes; he does not choose its end."""
    log = Log()
    log.write(MEMCG + b"Killed process 7 (x) " + tail + end, level=3)

    assert log.kills() == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Out of memory and no killable processes...",
        b"Tasks state (memory values in pages):",
        b"Memory cgroup out of memory: OOM victim 3804877 (stress) is already exiting. Skip killing the task",
        b"Memory cgroup out of memory: Kill process 62685 (bash) score 0 or sacrifice child",
        b"oom_reaper: reaped process 85 (eater), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
        b"my app: Killed process 85 (eater) " + TAIL,
        b"eater invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
    ],
)
def test_other_lines_of_an_incident_are_neither_kills_nor_forgeries(text: bytes) -> None:
    """Only the report, the kill line and the group line are evidence."""
    log = Log()
    log.write(text, level=4)

    assert (log.kills(), looks_like_oom(text)) == ([], False)


@pytest.mark.parametrize(
    "comm", [b"Tasks in /v", b"Task in /v", b"Killed process ", b"Out of memory: ", b"oom-kill:const", b"Killed process 1"]
)
def test_a_line_that_begins_with_a_process_name_changes_nothing(comm: bytes) -> None:
    """`COMM invoked oom-killer:`, `COMM[1]: segfault` and task table rows carry the name that the victim chose."""
    log = Log()
    for line in (b"%s invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0", b"%s[1]: segfault at 0", b"%s (1): x"):
        log.write(line % comm, level=4)
    log.write(b"/v", level=4, flag=b"c")
    log.write(b"[     85]     0    85    21341     7254   118784        0             0 " + comm)
    log.kill(10, comm)

    assert [(kill.pid, kill.comm, kill.group, kill.task_memcg) for kill in log.kills()] == [(10, comm, False, None)]


WORDS = [
    b",pid=1,uid=0",
    b",task=",
    b",task_memcg=",
    b",oom_memcg=",
    b",global_oom",
    b",mems_allowed=0",
    b",cpuset=",
    b"memcg=",
    b") total-vm:1kB,",
]
WORDS += [
    b"Killed process ",
    b" killed as a result of limit of ",
    GROUP % b"x",
    b"oom-kill:constraint=",
    b"\\x0a",
    b"\x1b",
    b"\xff",
    b")",
    b"(",
    b"a",
]
BYTES = st.sampled_from(WORDS) | st.binary(min_size=1, max_size=8)
NAMES = st.lists(BYTES, min_size=1, max_size=6).map(b"".join)
COMMS = NAMES.map(lambda name: name.replace(b"\0", b"")[:15])
COMPONENTS = NAMES.map(lambda name: re.sub(rb"[\0\n/]", b"", name)[:200]).filter(lambda name: name not in {b"", b".", b".."})
PATHS = st.lists(COMPONENTS, min_size=1, max_size=3).map(lambda names: b"/" + b"/".join(names))


FOREIGN = st.none() | PATHS | st.sampled_from([b"", b":", b",cpuset=", b",cpuset=x,mems_allowed=0", b",mems_allowed=0", b"x"])


def write_split(log: Log, pieces: list[bytes], splits: list[bool], foreign: bytes | None = None) -> None:
    """Write a line as the kernel does when others print meanwhile: a forger in user space at every split, and pieces of another line."""
    joined = [pieces[0]]
    for piece, split in zip(pieces[1:], splits, strict=False):
        if split or len(joined[-1] + piece) > 976:
            joined.append(piece)
        else:
            joined[-1] += piece
    for number, text in enumerate(joined):
        log.write(text, level=4 if number else 6, flag=b"c" if number else b"-")
        log.write(MEMCG + b"Killed process 1 (systemd) " + TAIL, facility=1, level=3)
        if foreign is not None:
            log.write(foreign, level=4, flag=b"c")


@given(
    comm=COMMS,
    limit=PATHS,
    below=PATHS | st.just(b""),
    cpuset=COMPONENTS | st.just(b"/"),
    is_global=st.booleans(),
    splits=st.lists(st.booleans(), min_size=8, max_size=8) | st.just([False] * 8),
    foreign=FOREIGN,
)
@example(comm=b"c", limit=b"/a,task_memcg=", below=b"/victim", cpuset=b"/", is_global=False, splits=[False] * 8, foreign=None)
@example(comm=b"c", limit=b"/p,task_memcg=/p/a", below=b"/b", cpuset=b"/", is_global=False, splits=[False] * 8, foreign=None)
@example(
    comm=b",task=x", limit=b"/a,task=b", below=b"", cpuset=b"x,mems_allowed=0,oom_memcg=", is_global=False, splits=[False] * 8, foreign=None
)
@example(
    comm=b"c",
    limit=b"/a,mems_allowed=0,global_oom,task_memcg=",
    below=b"/victim",
    cpuset=b"x,global_oom,task_memcg=",
    is_global=True,
    splits=[False] * 8,
    foreign=None,
)
@example(
    comm=b"c", limit=b"/a,task_memcg=", below=b"/victim,task=c,pid=10,uid=7", cpuset=b"/", is_global=False, splits=[True] * 8, foreign=None
)
def test_no_name_forges_a_victim(
    comm: bytes, limit: bytes, below: bytes, cpuset: bytes, *, is_global: bool, splits: list[bool], foreign: bytes | None
) -> None:
    """Whatever processes and cgroups are called and wherever lines are split: pid, uid and name are right, and cgroups right or None."""
    log = Log()
    log.write(comm + b" invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0", level=4)
    write_split(log, report_pieces(10, comm, None if is_global else limit, limit + below, cpuset), splits, foreign)
    log.kill(10, comm, b"Out of memory: " if is_global else MEMCG)
    [kill] = log.kills()

    assert (kill.pid, kill.uid, kill.comm, kill.is_global, kill.group) == (10, 7, comm, is_global, False)
    assert kill.task_memcg in (limit + below, None)
    assert kill.oom_memcg in (None if is_global else limit, None)
    if not any(splits) and foreign is None and len(limit + below) < 300 and b"memcg=" not in limit + below + cpuset:
        assert (kill.task_memcg, kill.oom_memcg) == (limit + below, None if is_global else limit)


@given(comm=COMMS, path=PATHS, splits=st.lists(st.booleans(), min_size=2, max_size=2), foreign=FOREIGN)
def test_no_name_forges_a_group(comm: bytes, path: bytes, splits: list[bool], foreign: bytes | None) -> None:
    """Members are in the group that the kernel named, whatever it is called."""
    log = Log()
    log.kill(10, comm)
    write_split(log, [b"Tasks in ", path, b" are going to be killed due to memory.oom.group set"], splits, foreign)
    log.kill(11, comm)
    log.kill(10, comm)

    first, member = log.kills()

    assert (first.pid, first.comm, first.group, first.group_memcg) == (10, comm, False, None)
    # Called like the end of the line, it is taken for the cgroup whose name ends there: not for one out of the way.
    end = b" are going to be killed due to memory.oom.group set"
    assert all(pid == 10 and group is not None and (path + end).startswith(group + end) for pid, group in log.named())
    assert len(log.named()) == 1 or (log.named() == [] and (any(splits) or foreign is not None))
    assert (member.pid, member.comm, member.group, member.task_memcg) == (11, comm, True, None)
    assert member.group_memcg in ((path, None) if any(splits) or foreign is not None else (path,))


@given(comm=COMMS, limit=PATHS, below=PATHS | st.just(b""), splits=st.lists(st.booleans(), min_size=3, max_size=3), foreign=FOREIGN)
@example(comm=b"c", limit=b"/p/memcg=", below=b"", splits=[True, False, False], foreign=b"/p/memcg=")
@example(comm=b"c", limit=b"/p", below=b"/ killed as a result of limit of ", splits=[False, True, True], foreign=None)
def test_no_name_forges_a_victim_of_4_19(comm: bytes, limit: bytes, below: bytes, splits: list[bool], foreign: bytes | None) -> None:
    """The older report names the victim's cgroup first."""
    log = Log()
    write_split(log, [b"Task in ", limit + below, b" killed as a result of limit of ", limit], splits, foreign)
    log.write(MEMCG + b"Kill process 10 (%s) score 9 or sacrifice child" % comm, level=3)
    log.kill(10, comm, b"")
    [kill] = log.kills()

    assert (kill.pid, kill.comm, kill.is_global) == (10, comm, False)
    assert (kill.task_memcg, kill.oom_memcg) in ((limit + below, limit), (None, None))


@given(leader=COMMS, thread=COMMS, limit=PATHS, below=PATHS | st.just(b""))
@example(leader=b",task=x", thread=b"t", limit=b"/a", below=b"/b")
def test_no_name_of_an_exited_leader_forges_a_cgroup(leader: bytes, thread: bytes, limit: bytes, below: bytes) -> None:
    """The kill line names the thread that lives on; the report names the leader, so only `,task=` tells where the path ends."""
    log = Log()
    log.write(b"".join(report_pieces(10, leader, limit, limit + below)))
    log.kill(11, thread)
    [kill] = log.kills()

    assert (kill.pid, kill.comm) == (11, thread)
    assert kill.task_memcg in (limit + below, None)
    if not any(word in leader + limit + below for word in (b",task=", b",task_memcg=")):
        assert kill.task_memcg == limit + below


def test_usage_and_limit_are_those_of_the_report() -> None:
    """A line of its own; a kill without a report has neither, nor has one of the whole node, nor one whose line was lost."""
    report = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/a,task_memcg=/a,task=eat,pid={pid},uid=0"
    line = "Memory cgroup out of memory: Killed process {pid} (eat) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB"
    texts = [
        "memory: usage 16384kB, limit 16384kB, failcnt 37",
        report.format(pid=1),
        line.format(pid=1),
        line.format(pid=2),
        "memory: usage 16384kB, limit 9007199254740988kB, failcnt 37",
        report.format(pid=3),
        line.format(pid=3),
    ]
    recogniser = OomRecogniser()
    found = [recogniser.feed(parse_record(f"6,{n},{n},-;{text}\n".encode())) for n, text in enumerate(texts)]

    assert [(kill.pid, kill.usage_bytes, kill.limit_bytes) for kill in found if kill] == [
        (1, 16 << 20, 16 << 20),
        (2, None, None),
        (3, 16 << 20, None),
    ]
