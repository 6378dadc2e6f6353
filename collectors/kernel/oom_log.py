"""The kernel log's OOM kills: Records in order -> OomKill. No I/O.

One OOM incident is several records (mm/oom_kill.c), here with memory.oom.group set (6.12, prefixes and sizes left out):

    oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/b,task_memcg=/b,task=eat,pid=88,uid=0
    Memory cgroup out of memory: Killed process 88 (eat) total-vm:85364kB, ...
    Tasks in /b are going to be killed due to memory.oom.group set
    Memory cgroup out of memory: Killed process 86 (python3) total-vm:19828kB, ...
    Memory cgroup out of memory: Killed process 88 (eat) total-vm:85364kB, ...        <- the first victim, printed again

Only the kill line is always there; the `oom-kill:` report, which alone names cgroups, is rate-limited and may be split.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from collectors.kernel.kmsg import Record

_KERN_INFO = 6


@dataclass(frozen=True, slots=True)
class OomKill:
    """One process killed by the OOM killer. Sizes in bytes, at the moment of the kill; None is unknown, never 0."""

    sequence: int
    """Of the kill line; with the boot id it identifies the kill."""
    timestamp_us: int
    pid: int
    """In the first PID namespace. A thread's id when the process's leader had exited already."""
    comm: bytes
    """Name the process gave itself: up to 15 bytes of anything."""
    constraint: str
    """CONSTRAINT_MEMCG, _NONE, _CPUSET or _MEMORY_POLICY; "" when the report is missing."""
    oom_memcg: bytes | None
    """Cgroup whose limit was hit; None when unknown or when the node ran out of memory."""
    task_memcg: bytes | None
    """The victim's cgroup; None when the log does not say it beyond doubt. Up to 5.0 that of its parent, if that was chosen first."""
    is_global: bool
    """The node, a cpuset or a memory policy ran out of memory, not a cgroup."""
    group: bool
    """Killed only because it shares group_memcg, whose memory.oom.group is set, with the first victim."""
    group_memcg: bytes | None
    total_vm_bytes: int | None
    anon_rss_bytes: int | None
    file_rss_bytes: int | None
    shmem_rss_bytes: int | None
    uid: int | None
    """Real user id in the first user namespace."""
    oom_score_adj: int | None
    usage_bytes: int | None = None
    """Of oom_memcg, and its limit; None also for no limit."""
    limit_bytes: int | None = None


# Everything before the name is fixed text and digits, everything after it is too, and a name has at most 15 bytes: greedy is exact.
_KILL = re.compile(
    rb"(?:(Memory cgroup out|Out) of memory(?: \([^)]*\))?: )?Killed process (?P<pid>\d{1,20}) \((?P<comm>.*)\)"
    rb",? (?:UID (?P<uid_el7>\d{1,20}), )?total-vm:(?P<total_vm>\d{1,20})kB, anon-rss:(?P<anon>\d{1,20})kB, file-rss:(?P<file>\d{1,20})kB"
    rb"(?:, shmem-rss:(?P<shmem>\d{1,20})kB)?(?:, UID:(?P<uid>\d{1,20}))?(?: pgtables:\d+kB)?(?: oom_score_adj:(?P<adj>-?\d{1,20}))?"
    rb"(?:,? [\w-]+:[^\s:]+)*",
    re.DOTALL,
)
"""To the end of the line, with fields yet to come: `TEXT: Can't open blockdev` begins with any text that a mount(2) asks for."""
# Up to 5.0 each kill is announced, also when its report is suppressed; the killed process may then be a child of the announced one.
_CANDIDATE = re.compile(
    rb"(Memory cgroup out|Out) of memory(?: \([^)]*\))?: Kill process \d+ \(.*\) score \d+ or sacrifice child", re.DOTALL
)
# A cpuset's name is `/` or holds none, so the first other `/` starts the first path: nothing before it can be forged.
_REPORT = re.compile(
    rb"oom-kill:constraint=(\w+),nodemask=[^/]*(?:,cpuset=/,mems_allowed=[0-9,-]*)?"
    rb",(oom_memcg|global_oom,task_memcg)=(/.*),pid=(\d{1,20}),uid=(\d{1,20})",
    re.DOTALL,
)
_GROUP = re.compile(rb"Tasks in (/.*) are going to be killed due to memory\.oom\.group set", re.DOTALL)
_USAGE = re.compile(rb"memory: usage (\d{1,20})kB, limit (\d{1,20})kB, failcnt \d{1,20}")
_UNLIMITED = 1 << 60
_KEYS = {
    b"oom-kill:": (b",oom_memcg=", b",global_oom", b",task_memcg=", b",task="),
    b"Tasks in ": (b" are going to be killed due to",),
    b"Task in ": (b" killed as a result of limit of",),
}
"""The lines printed in pieces, and how those of their pieces begin that are not a path."""
_STARTS = (*_KEYS, b"memory: usage ", b"Killed process ", b"Memory cgroup out of memory", b"Out of memory")
_CPUSET_KEYS = (b",cpuset=", b",mems_allowed=")
_PATH_NEXT = (b"memcg=", b" limit of ", b"Tasks in ", b"Task in ")
_LONGEST_LINE = 8192
_LONGEST_TASK = len(b",task=") + 15
_REPORT_BURST = 10
_REPORT_INTERVAL_US = 6_000_000
"""The kernel prints 10 reports per 5 s (oom_kill_process oom_rs) counted in ticks; a second more is allowed for."""
_SHORTEST_REPORT = 16
"""Records in a report: two headers, a stack trace, memory counters, a task table."""


def concerns_oom(text: bytes) -> bool:
    """Whether a record with this text can change what the recogniser thinks, other than by its being there."""
    return text.startswith(_STARTS)


def looks_like_oom(text: bytes) -> bool:
    """Whether a text would count as evidence of an OOM kill. In a record of facility != 0 that is a forgery."""
    if not text.startswith(_STARTS):
        return False
    return text.startswith(b"oom-kill:constraint=") or bool(_KILL.fullmatch(text) or _GROUP.fullmatch(text))


class OomRecogniser:
    """Finds OOM kills in the kernel log. Feed it every record in order, those of user space too: a gap means lost records.

    What it remembers is one incident. After a restart, feed the log from its start and ignore kills up to the last known sequence.
    """

    def __init__(self) -> None:
        self._next: int | None = None
        self._open: _Line | None = None  # takes continuations: the report or group line that came last
        self._report: _Line | None = None  # not yet claimed by a kill line
        self._report_times: deque[int] = deque(maxlen=_REPORT_BURST)
        self._announces = False  # this kernel prints a candidate before each kill (up to 5.0)
        self._candidate: bytes | None = None  # beginning of the candidate line not yet followed by a kill line
        self._last: OomKill | None = None  # of this incident
        self._last_pid = 0
        self._group: _Group | None = None
        self._usage: tuple[int | None, int | None] = (None, None)  # of the report that comes with it, before or after it

    def feed(self, record: Record) -> OomKill | None:
        """Return the kill that this record completes, if any: each killed process once, on its first kill line."""
        if record.sequence != self._next:
            self._lose(record)
        self._next = record.sequence + 1
        if record.facility != 0:
            return None
        if record.continuation:  # never evidence by itself: it may begin with the name of a cgroup
            if self._open is not None:
                self._open.join(record)
            return None
        return self._recognise(record) if record.text.startswith(_STARTS) else None

    def _recognise(self, record: Record) -> OomKill | None:
        text = record.text
        if text.startswith(tuple(_KEYS)):
            # The level keeps out the warning `COMM invoked oom-killer:`, which begins with a name of the process's choice.
            if record.level == _KERN_INFO:
                (self._begin_group if text.startswith(b"Tasks in ") else self._begin_report)(record)
        elif kill := _KILL.fullmatch(text):
            return self._kill(record, kill)
        elif (usage := _USAGE.fullmatch(text)) and record.level == _KERN_INFO:
            limit = int(usage[2]) * 1024
            self._usage = int(usage[1]) * 1024, limit if limit < _UNLIMITED else None
        elif candidate := _CANDIDATE.fullmatch(text):
            self._announce(candidate[1])
        return None

    def _lose(self, record: Record) -> None:
        """Forget what may have ended among the lost records, and count the reports that may have been there."""
        lost = 0 if self._next is None else record.sequence - self._next
        if lost < 0:  # another boot, or the log is fed again
            self._report_times.clear()
        self._report_times.extend([record.timestamp_us] * min(lost // _SHORTEST_REPORT, _REPORT_BURST))
        self._open = self._report = self._last = self._candidate = None
        self._usage = None, None
        if self._group is not None:
            self._group.over = True

    def _begin_report(self, record: Record) -> None:
        self._open = self._report = _Line(record)
        self._last = self._group = self._candidate = None
        self._report_times.append(record.timestamp_us)

    def _begin_group(self, record: Record) -> None:
        self._open = _Line(record)
        self._group = _Group(self._open, {self._last_pid})

    def _announce(self, message: bytes) -> None:
        if self._candidate is not None:  # the report belongs to a victim that exited by itself, silently
            self._open = self._report = None
        self._announces = True
        self._candidate = message
        self._last = self._group = None

    def _kill(self, record: Record, kill: re.Match[bytes]) -> OomKill | None:
        pid, comm = int(kill["pid"]), kill["comm"]
        message = kill[1] or self._candidate
        facts, group_memcg, member = _Facts(), None, False
        unreported = self._may_be_unreported(record.timestamp_us)
        if self._group is not None:
            if pid in self._group.killed:
                return None
            self._group.killed.add(pid)
            if not (unreported or self._group.over):
                member, group_memcg = True, self._group.line.group()
                if self._last is not None:
                    facts = _Facts(self._last.constraint, self._last.is_global, self._last.oom_memcg)
        elif self._report is not None:
            facts = self._report.facts(pid, comm, only_pid=unreported)
        self._open = self._report = self._candidate = None
        uid = _number(kill["uid"] or kill["uid_el7"])
        usage, limit = self._usage if facts.oom_memcg is not None else (None, None)
        found = OomKill(
            sequence=record.sequence,
            timestamp_us=record.timestamp_us,
            pid=pid,
            comm=comm,
            constraint=facts.constraint,
            oom_memcg=facts.oom_memcg,
            task_memcg=facts.task_memcg,
            is_global=facts.is_global if message is None else message == b"Out",
            group=member,
            group_memcg=group_memcg,
            total_vm_bytes=_number(kill["total_vm"], 1024),
            anon_rss_bytes=_number(kill["anon"], 1024),
            file_rss_bytes=_number(kill["file"], 1024),
            shmem_rss_bytes=_number(kill["shmem"], 1024),
            uid=facts.uid if uid is None else uid,
            oom_score_adj=_number(kill["adj"]),
            usage_bytes=usage,
            limit_bytes=limit,
        )
        self._last_pid = pid
        self._last = found
        return found

    def _may_be_unreported(self, now_us: int) -> bool:
        """Whether the kernel may just have suppressed a report: then a kill line need not belong to what was printed before it."""
        times = self._report_times
        return not self._announces and len(times) == _REPORT_BURST and now_us - times[0] < _REPORT_INTERVAL_US


class _Facts(NamedTuple):
    """What a report says of one victim; as in OomKill."""

    constraint: str = ""
    is_global: bool = False
    oom_memcg: bytes | None = None
    task_memcg: bytes | None = None
    uid: int | None = None


class _Line:
    """A line that the kernel prints in pieces. When another CPU prints in between, each piece is a record of its own (pr_cont)."""

    __slots__ = ("_caller", "_cut", "_doubtful", "_joined", "_keys", "_text")

    def __init__(self, record: Record) -> None:
        self._text = record.text
        self._keys = next(keys for start, keys in _KEYS.items() if record.text.startswith(start))
        self._caller = record.caller
        self._cut = record.cut
        self._joined = False
        self._doubtful = False

    def join(self, record: Record) -> None:
        """Append a continuation if it can be the next piece: it may as well be a piece of somebody else's line."""
        if record.caller != self._caller:
            return
        line, piece = self._text, record.text
        path, key, cpuset = piece.startswith(b"/"), piece.startswith(self._keys), piece.startswith(_CPUSET_KEYS)
        keys_due = key or (self._at_cpuset() and (cpuset or line.endswith(b",cpuset=")))
        due = path if line.endswith(_PATH_NEXT) else keys_due
        if due and len(line) < _LONGEST_LINE:
            self._doubtful |= self._cut
            self._joined = True
            self._text += piece
            self._cut = record.cut
        elif path or key or cpuset:  # could be ours, but not here: no telling what is
            self._doubtful = True

    def _at_cpuset(self) -> bool:
        """Whether the first path is still to come. Others print `,cpuset=` too (warn_alloc)."""
        return self._text.startswith(b"oom-kill:") and b"memcg=" not in self._text and b"global_oom" not in self._text

    def _doubted(self) -> bool:
        """Whether it may have been put together wrongly: also if a name in it looks like the place before a path."""
        paths = 1 if self._text.startswith(b"Tasks in ") or b",global_oom" in self._text else 2
        return self._doubtful or (self._joined and sum(map(self._text.count, _PATH_NEXT)) != paths)

    def group(self) -> bytes | None:
        """Return the path in `Tasks in PATH are going to be killed due to memory.oom.group set`; None when in doubt."""
        match = _GROUP.fullmatch(self._text)
        return match[1] if match and not self._doubted() else None

    def facts(self, pid: int, comm: bytes, *, only_pid: bool) -> _Facts:
        """Return what a report says about the process that the next kill line names; with only_pid, only if it names the same."""
        if self._doubted():
            return _Facts()
        if self._text.startswith(b"Task in "):  # up to 4.19: no pid, and the victim comes first
            pairs = ((limit, victim) for victim, limit in _splits(self._text[8:], b" killed as a result of limit of "))
            return _Facts("CONSTRAINT_MEMCG", False, *_the_one(pairs))
        report = _REPORT.fullmatch(self._text)
        if report is None or (only_pid and int(report[4]) != pid):
            return _Facts()
        constraint, scope, paths, reported_pid, uid = report.groups()
        same = int(reported_pid) == pid
        known = _Facts(constraint.decode(), scope != b"oom_memcg", uid=int(uid) if same else None)
        end = _task_at(paths, comm if same else None)
        if end < 0:
            return known
        if known.is_global:
            return known._replace(task_memcg=paths[:end])
        oom_memcg, task_memcg = _the_one(_splits(paths[:end], b",task_memcg="))
        return known._replace(oom_memcg=oom_memcg, task_memcg=task_memcg)


@dataclass(slots=True)
class _Group:
    """The processes of one cgroup with memory.oom.group set, while they are being killed."""

    line: _Line
    killed: set[int]
    over: bool = False


def _task_at(text: bytes, comm: bytes | None) -> int:
    """Find where `,task=COMM` begins, at the end of text; -1 when in doubt. The name is unknown for a leader that has exited."""
    if comm is None:
        return text.rfind(b",task=") if text[-_LONGEST_TASK:].count(b",task=") == 1 else -1
    task = b",task=" + comm
    return len(text) - len(task) if text.endswith(task) else -1


def _splits(text: bytes, separator: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the two paths around each separator: a cgroup may be named like one."""
    at = text.find(separator + b"/")
    while at >= 0:
        yield text[:at], text[at + len(separator) :]
        at = text.find(separator + b"/", at + 1)


def _the_one(pairs: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, bytes] | tuple[None, None]:
    """Choose the pair of limit and victim where the victim is in or below the cgroup at its limit; None if that leaves a choice."""
    fitting = [(limit, victim) for limit, victim in pairs if victim == limit or victim.startswith(limit + b"/")]
    return fitting[0] if len(fitting) == 1 else (None, None)


def _number(text: bytes | None, unit: int = 1) -> int | None:
    return None if text is None else int(text) * unit
