"""The kernel log's lines about OOM kills, one by one: their formats, their numbers, and the lines that come in pieces. No I/O.

The formats are those of mm/oom_kill.c and mm/memcontrol.c from 4.5 on, and of RHEL 7. The kernel prints some numbers in another way than
it means them: a user id as %d, so that those from 2^31 on are negative, and a count that fell below 0 as %lu, so that it is huge. The line
is evidence all the same: what cannot be true in it is not known, and that is all.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from collectors.kernel.kmsg import Record


def _pattern(text: bytes) -> re.Pattern[bytes]:
    """Compile a line; N is what any of %d, %u, %lu, %ld and %llu may print."""
    return re.compile(text.replace(b"N", rb"-?[0-9]{1,20}"), re.DOTALL)


# Everything before the name is fixed text and digits, everything after it is too, and a name has at most 15 bytes: greedy is exact.
KILL = _pattern(
    rb"(?:(Memory cgroup out|Out) of memory(?: \([^)]*\))?: )?Killed process (?P<pid>N) \((?P<comm>.*)\)"
    rb",? (?:UID (?P<uid_el7>N), )?total-vm:(?P<total_vm>N)kB, anon-rss:(?P<anon>N)kB, file-rss:(?P<file>N)kB"
    rb"(?:, shmem-rss:(?P<shmem>N)kB)?(?:, UID:(?P<uid>N))?(?: pgtables:NkB)?(?: oom_score_adj:(?P<adj>N))?"
    rb"(?:,? [\w-]+:[^\s:]+)*"
)
"""To the end of the line, with fields yet to come: `TEXT: Can't open blockdev` begins with any text that a mount(2) asks for."""
CANDIDATE = _pattern(rb"(Memory cgroup out|Out) of memory(?: \([^)]*\))?: Kill process N \(.*\) score N or sacrifice child")
"""Up to 5.0 each kill is announced, also when its report is suppressed; the killed process may then be a child of the announced one."""
EXITING = _pattern(
    rb"(?:Memory cgroup out|Out) of memory(?: \([^)]*\))?: OOM victim (?P<pid>N) \((?P<comm>.*)\)"
    rb" is already exiting\. Skip killing the task"
)
"""Instead of a kill line, since 5.9; before, such a victim leaves no line."""
GROUP = _pattern(rb"Tasks in (/.*) are going to be killed due to memory\.oom\.group set")
USAGE = _pattern(rb"memory: usage (N)kB, limit (N)kB, failcnt N")
# A cpuset's name is `/` or holds none, so the first other `/` starts the first path: nothing before it can be forged.
_REPORT = _pattern(
    rb"oom-kill:constraint=(\w+),nodemask=[^/]*(?:,cpuset=/,mems_allowed=[0-9,-]*)?"
    rb",(oom_memcg|global_oom,task_memcg)=(/.*),pid=(N),uid=(N)"
)
_KEYS = {
    b"oom-kill:": (b",oom_memcg=", b",global_oom", b",task_memcg=", b",task="),
    b"Tasks in ": (b" are going to be killed due to",),
    b"Task in ": (b" killed as a result of limit of",),
}
"""The lines printed in pieces, and how those of their pieces begin that are not a path."""
IN_PIECES = tuple(_KEYS)
STARTS = (*IN_PIECES, b"memory: usage ", b"Killed process ", b"Memory cgroup out of memory", b"Out of memory")
_CPUSET_KEYS = (b",cpuset=", b",mems_allowed=")
_PATH_NEXT = (b"memcg=", b" limit of ", b"Tasks in ", b"Task in ")
_LONGEST_LINE = 8192
_LONGEST_TASK = len(b",task=") + 15
_UNLIMITED = 1 << 60


def size(kilobytes: bytes | None) -> int | None:
    """Return bytes; None for what none can be. A count below 0 (before 5.13 `usage` could fall there) is printed as 2^64 less that."""
    number = -1 if kilobytes is None else int(kilobytes) * 1024
    return number if 0 <= number < 1 << 63 else None


def limit_size(kilobytes: bytes) -> int | None:
    """Return bytes; None for no limit, which is printed as the largest number that the kernel's counter has."""
    number = size(kilobytes)
    return None if number is None or number >= _UNLIMITED else number


def process_id(text: bytes) -> int | None:
    """Return a process id; None for what none can be."""
    number = int(text)
    return number if 0 < number < 1 << 31 else None


def user_id(text: bytes | None) -> int | None:
    """Return a user id. Reports print it as %d: those from 2^31 on come as negative; -1 is nobody's."""
    if text is None:
        return None
    number = int(text)
    if -1 << 31 <= number < 0:
        number += 1 << 32
    return number if 0 <= number < (1 << 32) - 1 else None


def score_adjustment(text: bytes | None) -> int | None:
    """Return an oom_score_adj; None for what none can be."""
    number = None if text is None else int(text)
    return number if number is not None and -1000 <= number <= 1000 else None


class Facts(NamedTuple):
    """What a report says of one victim; as in OomKill."""

    constraint: str = ""
    is_global: bool = False
    oom_memcg: bytes | None = None
    task_memcg: bytes | None = None
    uid: int | None = None


class Line:
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
        match = GROUP.fullmatch(self._text)
        return match[1] if match and not self._doubted() else None

    def facts(self, pid: int | None, comm: bytes, *, only_pid: bool) -> Facts:
        """Return what a report says about the process that the next line names, None if none does; with only_pid, only if it names it."""
        if self._doubted():
            return Facts()
        if self._text.startswith(b"Task in "):  # up to 4.19: no pid, and the victim comes first
            pairs = ((limit, victim) for victim, limit in _splits(self._text[8:], b" killed as a result of limit of "))
            return Facts("CONSTRAINT_MEMCG", False, *_the_one(pairs))
        report = _REPORT.fullmatch(self._text)
        if report is None or (only_pid and int(report[4]) != pid):
            return Facts()
        constraint, scope, paths, reported_pid, uid = report.groups()
        same = int(reported_pid) == pid
        known = Facts(constraint.decode(), scope != b"oom_memcg", uid=user_id(uid) if same else None)
        end = _task_at(paths, comm if same else None)
        if end < 0:
            return known
        if known.is_global:
            return known._replace(task_memcg=paths[:end])
        oom_memcg, task_memcg = _the_one(_splits(paths[:end], b",task_memcg="))
        return known._replace(oom_memcg=oom_memcg, task_memcg=task_memcg)


def is_within(path: bytes, above: bytes) -> bool:
    """Whether a cgroup is the other one or below it."""
    return path == above or path.startswith(above + b"/")


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
    fitting = [(limit, victim) for limit, victim in pairs if is_within(victim, limit)]
    return fitting[0] if len(fitting) == 1 else (None, None)
