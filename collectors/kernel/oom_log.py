"""The kernel log's OOM kills: Records in order -> OomKill. No I/O.

One OOM incident is several records (mm/oom_kill.c), here with memory.oom.group set (6.12, prefixes and sizes left out):

    oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/b,task_memcg=/b,task=eat,pid=88,uid=0
    Memory cgroup out of memory: Killed process 88 (eat) total-vm:85364kB, ...
    Tasks in /b are going to be killed due to memory.oom.group set
    Memory cgroup out of memory: Killed process 86 (python3) total-vm:19828kB, ...
    Memory cgroup out of memory: Killed process 88 (eat) total-vm:85364kB, ...        <- the first victim, printed again

A victim that has exited by its turn has no kill line: `OOM victim 88 (eat) is already exiting. Skip killing the task` instead since 5.9.
Only the kill line is always there; the `oom-kill:` report, which alone names cgroups, is rate-limited and may be split.
"""

import re
from collections import deque
from dataclasses import dataclass, replace

from collectors.kernel import oom_lines
from collectors.kernel.kmsg import Record
from collectors.kernel.oom_lines import Facts, Line, is_within

_KERN_INFO = 6
_REPORT_BURST = 10
_REPORT_INTERVAL_US = 6_000_000
"""The kernel prints 10 reports per 5 s (oom_kill_process oom_rs) counted in ticks; a second more is allowed for."""
_SHORTEST_REPORT = 16
"""Records in a report: two headers, a stack trace, memory counters, a task table."""


@dataclass(frozen=True, slots=True)
class OomKill:
    """One process killed by the OOM killer. Sizes in bytes, at the moment of the kill; None is unknown, never 0."""

    sequence: int
    """Of the kill line; with the boot id it identifies the kill."""
    timestamp_us: int
    pid: int | None
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


def concerns_oom(text: bytes) -> bool:
    """Whether a record with this text can change what the recogniser thinks, other than by its being there."""
    return text.startswith(oom_lines.STARTS)


def looks_like_oom(text: bytes) -> bool:
    """Whether a text would count as evidence of an OOM kill. In a record of facility != 0 that is a forgery."""
    if not text.startswith(oom_lines.STARTS):
        return False
    return text.startswith(b"oom-kill:constraint=") or bool(oom_lines.KILL.fullmatch(text) or oom_lines.GROUP.fullmatch(text))


class OomRecogniser:
    """Finds OOM kills in the kernel log. Feed it every record in order, those of user space too: a gap means lost records.

    What it remembers is one incident. After a restart, feed the log from its start and ignore kills up to the last known sequence.
    """

    def __init__(self) -> None:
        self.named: OomKill | None = None
        """After feed(): the kill that was returned last, without a cgroup, if this record is the group line that names one for it."""
        self._next: int | None = None
        self._open: Line | None = None  # takes continuations: the report or group line that came last
        self._report: Line | None = None  # not yet claimed by a kill line
        self._report_times: deque[int] = deque(maxlen=_REPORT_BURST)
        self._announces = False  # this kernel prints a candidate before each kill (up to 5.0)
        self._candidate: bytes | None = None  # beginning of the candidate line not yet followed by a kill line
        self._facts: Facts | None = None  # of this incident's first victim, killed or exiting
        self._last: tuple[OomKill, bytes] | None = None  # the kill line right before, and its caller
        self._last_pid: int | None = None  # of that line, as printed
        self._group: _Group | None = None
        self._usage: tuple[int | None, int | None] = (None, None)  # of the report that comes with it, before or after it

    def feed(self, record: Record) -> OomKill | None:
        """Return the kill that this record completes, if any: each killed process once, on its first kill line. See `named`, too."""
        self.named = None
        if record.sequence != self._next:
            self._lose(record)
        self._next = record.sequence + 1
        if record.facility != 0:
            return None
        if record.continuation:  # never evidence by itself: it may begin with the name of a cgroup
            if self._open is not None:
                self._open.join(record)
                self._name_first()
            return None
        return self._recognise(record) if record.text.startswith(oom_lines.STARTS) else None

    def _recognise(self, record: Record) -> OomKill | None:
        text = record.text
        if text.startswith(oom_lines.IN_PIECES):
            # The level keeps out the warning `COMM invoked oom-killer:`, which begins with a name of the process's choice.
            if record.level == _KERN_INFO and not text.startswith(b"Tasks in "):
                self._begin_report(record)
            elif record.level == _KERN_INFO:
                self._begin_group(record)
                self._name_first()
        elif kill := oom_lines.KILL.fullmatch(text):
            return self._kill(record, kill)
        elif (usage := oom_lines.USAGE.fullmatch(text)) and record.level == _KERN_INFO:
            self._usage = oom_lines.size(usage[1]), oom_lines.limit_size(usage[2])
        elif candidate := oom_lines.CANDIDATE.fullmatch(text):
            self._announce(candidate[1])
        elif exiting := oom_lines.EXITING.fullmatch(text):
            self._skip(exiting)
        return None

    def _lose(self, record: Record) -> None:
        """Forget what may have ended among the lost records, and count the reports that may have been there."""
        lost = 0 if self._next is None else record.sequence - self._next
        if lost < 0:  # another boot, or the log is fed again
            self._report_times.clear()
        self._report_times.extend([record.timestamp_us] * min(lost // _SHORTEST_REPORT, _REPORT_BURST))
        self._open = self._report = self._facts = self._last = self._candidate = None
        self._usage = None, None
        if self._group is not None:
            self._group.over = True
            self._group.first = None

    def _begin_report(self, record: Record) -> None:
        self._open = self._report = Line(record)
        self._facts = self._last = self._group = self._candidate = None
        self._last_pid = None
        self._report_times.append(record.timestamp_us)

    def _begin_group(self, record: Record) -> None:
        facts = self._facts
        if facts is None:  # the first victim was exiting, which no line says before 5.9
            report = None if self._may_be_unreported(record.timestamp_us) else self._report
            facts = Facts(is_global=self._candidate == b"Out") if report is None else report.facts(None, b"", only_pid=False)
        last, caller = self._last or (None, b"")
        first = last if last is not None and last.task_memcg is None and not last.group and caller == record.caller else None
        self._open, self._report, self._facts, self._last = Line(record), None, None, None
        self._group = _Group(self._open, set() if self._last_pid is None else {self._last_pid}, facts, first)

    def _name_first(self) -> None:
        """The kill line right before a group line is that of its first victim: name its cgroup, as soon as the group line is whole.

        Only a victim that was exiting, on a kernel before 5.9 and with its report suppressed, would make it another's line.
        """
        group = self._group
        if group is not None and group.first is not None and (path := group.line.group()) is not None:
            self.named, group.first = replace(group.first, group_memcg=path), None

    def _announce(self, message: bytes) -> None:
        if self._candidate is not None:  # the report belongs to a victim that exited by itself, silently
            self._open = self._report = None
        self._announces = True
        self._candidate = message
        self._facts = self._last = self._group = None

    def _skip(self, exiting: re.Match[bytes]) -> None:
        """The victim was exiting: its report says nothing about the next kill line, but what the limit was that its group hit."""
        pid, comm = int(exiting["pid"]), exiting["comm"]
        self._facts = None if self._report is None else self._report.facts(pid, comm, only_pid=True)
        self._open = self._report = self._last = self._last_pid = None

    def _kill(self, record: Record, kill: re.Match[bytes]) -> OomKill | None:
        pid, comm = int(kill["pid"]), kill["comm"]
        message = kill[1] or self._candidate
        facts, group_memcg, member = Facts(), None, False
        unreported = self._may_be_unreported(record.timestamp_us)
        if self._group is not None:
            if pid in self._group.killed:
                self._last = None
                return None
            self._group.killed.add(pid)
            if not (unreported or self._group.over):
                member, group_memcg, facts = True, self._group.line.group(), self._group.told()
        elif self._report is not None:
            facts = self._report.facts(pid, comm, only_pid=unreported)
            if message is not None and facts.is_global != (message == b"Out"):
                facts = Facts()  # the report is of a victim that exited by itself, silently
        self._open = self._report = self._candidate = None
        uid = oom_lines.user_id(kill["uid"] or kill["uid_el7"])
        usage, limit = self._usage if facts.oom_memcg is not None else (None, None)
        found = OomKill(
            sequence=record.sequence,
            timestamp_us=record.timestamp_us,
            pid=oom_lines.process_id(kill["pid"]),
            comm=comm,
            constraint=facts.constraint,
            oom_memcg=facts.oom_memcg,
            task_memcg=facts.task_memcg,
            is_global=facts.is_global if message is None else message == b"Out",
            group=member,
            group_memcg=group_memcg,
            total_vm_bytes=oom_lines.size(kill["total_vm"]),
            anon_rss_bytes=oom_lines.size(kill["anon"]),
            file_rss_bytes=oom_lines.size(kill["file"]),
            shmem_rss_bytes=oom_lines.size(kill["shmem"]),
            uid=facts.uid if uid is None else uid,
            oom_score_adj=oom_lines.score_adjustment(kill["adj"]),
            usage_bytes=usage,
            limit_bytes=limit,
        )
        self._facts = facts._replace(task_memcg=None, is_global=found.is_global)
        self._last, self._last_pid = (found, record.caller), pid
        return found

    def _may_be_unreported(self, now_us: int) -> bool:
        """Whether the kernel may just have suppressed a report: then a kill line need not belong to what was printed before it."""
        times = self._report_times
        return not self._announces and len(times) == _REPORT_BURST and now_us - times[0] < _REPORT_INTERVAL_US


@dataclass(slots=True)
class _Group:
    """The processes of one cgroup with memory.oom.group set, while they are being killed."""

    line: Line
    killed: set[int]
    facts: Facts
    """What the report says of the first victim."""
    first: OomKill | None
    """The first victim, while its cgroup is not known."""
    over: bool = False

    def told(self) -> Facts:
        """Return what the first victim's report says of all members: nothing if it is another group's, whose victim left no line."""
        path, facts = self.line.group(), self.facts
        above_limit = path is not None and facts.oom_memcg is not None and not is_within(path, facts.oom_memcg)
        if above_limit or (path is not None and facts.task_memcg is not None and not is_within(facts.task_memcg, path)):
            return Facts(is_global=facts.is_global)
        return facts._replace(task_memcg=None, uid=None)
