"""Whose the zombies of a container are, what they were, and how near they bring it to its PID limit. For people, when they ask.

Not for every pass: names and PIDs are unbounded, so they are in no metric. It reads one stat for each zombie, up to MOST of them, and one
status for each culprit, which takes some 20 us each: do it in the sampling thread, or where nobody waits.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from collectors.base import Container, Node
from collectors.kernel import cgroupfs
from collectors.kernel.container_id import ContainerKey, parse
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.process_stat import parse_past, parse_stat
from collectors.kernel.process_status import Status
from collectors.kernel.processes import Namespace, Zombie

T = TypeVar("T")

MOST = 2000
"""Zombies of a container that are looked at one by one: those of whoever has most, the oldest first. All are counted."""
MOST_CULPRITS = 10
MOST_NAMES = 5

_TICKS = os.sysconf("SC_CLK_TCK")

FirstSeen = Mapping[tuple[int, int], float]
"""When zombies were first seen, seconds of the wall clock, by PID and start time: `Zombies.first_seen`, empty in one look."""


@dataclass(frozen=True, slots=True)
class Culprit:
    """A process that does not wait for its children, and what has become of them. Names are the container's word, and may hold anything."""

    pid: int
    """In this /proc; 0 if it is outside of it."""
    container_pid: int | None
    """The same in the PID namespace of the container; None if it is outside of that, or has ended."""
    comm: str
    """"" if it has ended, or is outside of this /proc."""
    is_init: bool
    """Whether it is PID 1, which inherits the orphans of the container and must wait for them too."""
    has_waited: bool | None
    """Whether it has ever waited for any child, also before an execve(2), as the shell of an entrypoint has; None is not known."""
    zombies: int
    names: tuple[tuple[str, int], ...]
    """What they call themselves, and how many; the most frequent MOST_NAMES."""
    looked: int
    """How many of them were looked at one by one, and were still there: what follows is of these."""
    statuses: tuple[tuple[int, int], ...]
    """How they ended, as of wait(2), and how many; the most frequent MOST_NAMES. Empty where the agent may not know."""
    adopted: int
    """Those that it has certainly not started itself: their session is neither its own nor theirs."""
    entered: int
    """Of the adopted, those whose session was begun by a process that is gone, waited for by somebody else, or came in from outside:
    what `docker exec`, `kubectl exec`, health checks and exec probes leave behind. If `has_waited` is false that is certain but for
    workers that do wait: PID 1 cannot have waited for it."""
    oldest: float | None
    """When the one that was seen first was first seen, seconds of the wall clock."""
    seconds_between: float | None
    """Between the starts of two of them, on average; None of one alone."""

    @property
    def is_exec_probe(self) -> bool:
        """Whether most of them came in from outside, and PID 1 should have waited for them."""
        return self.is_init and 2 * self.entered > self.looked


@dataclass(frozen=True, slots=True)
class Forensics:
    """All zombies of one container."""

    zombies: int
    culprits: tuple[Culprit, ...]
    """Who has most comes first; at most MOST_CULPRITS."""
    oldest: float | None
    """As of Culprit."""
    threads_limit: int | None
    """PID limit of the container, which a zombie counts against like a thread; None without one."""

    @property
    def share_of_limit(self) -> float | None:
        """The part of the PID limit that zombies take, 0 to 1; None without a limit."""
        return self.zombies / self.threads_limit if self.threads_limit else None


def examine(node: Node, container: Container, first_seen: FirstSeen | None = None) -> Forensics:
    """Find whose the zombies of a container are. Raises ReadError if /proc cannot be scanned."""
    zombies = _zombies(node, container.id.key)
    return Forensics(
        zombies=len(zombies),
        culprits=_culprits(node, zombies, first_seen or {}),
        oldest=_oldest(zombies, first_seen or {}),
        threads_limit=node.read(cgroupfs.pids_max, container.cgroup),
    )


def culprits(node: Node, key: ContainerKey, first_seen: FirstSeen | None = None) -> tuple[Culprit, ...]:
    """Return who does not wait for the zombies of a container, whoever has most first. Raises ReadError as `examine` does."""
    return _culprits(node, _zombies(node, key), first_seen or {})


def _zombies(node: Node, key: ContainerKey) -> list[Zombie]:
    zombies = node.processes.zombies
    identifiers = {path: parse(path) for path in {zombie.cgroup for zombie in zombies} if path}
    here = {path for path, identifier in identifiers.items() if identifier and identifier.key == key}
    return [zombie for zombie in zombies if zombie.cgroup in here]


def _culprits(node: Node, zombies: list[Zombie], first_seen: FirstSeen) -> tuple[Culprit, ...]:
    families: dict[int, list[Zombie]] = {}
    for zombie in sorted(zombies, key=lambda each: each.start_time):
        families.setdefault(zombie.parent, []).append(zombie)
    worst = sorted(families.values(), key=len, reverse=True)[:MOST_CULPRITS]
    found, left = [], MOST
    for family in worst:
        found.append(_culprit(node, family, left, first_seen))
        left = max(0, left - len(family))
    return tuple(found)


def _culprit(node: Node, family: list[Zombie], most: int, first_seen: FirstSeen) -> Culprit:
    pid, is_init, root = family[0].parent, family[0].parent_is_init, node.proc_root
    name, pids = _read(f"{root}/{pid}/status", _name_and_pids) or (b"", ())
    past = _read(f"{root}/{pid}/stat", parse_past)
    scanned = node.process_table.stat(pid)
    if past is None or scanned is None or past.start_time != scanned.start_time:  # it has ended, and another may have its number
        name, pids, past = b"", (), None
    sessions: dict[int, bool] = {}
    looked = adopted = entered = 0
    statuses: Counter[int] = Counter()
    for zombie in family[:most]:
        its = _read(f"{root}/{zombie.pid}/stat", parse_past)
        if its is None or its.start_time != zombie.start_time:  # somebody has waited for it just now
            continue
        looked += 1
        if its.status or _namespace(root, zombie.pid):  # who may read that may read the status, too
            statuses[its.status] += 1
        if is_init and past is not None and its.session not in (zombie.pid, past.session):
            adopted += 1
            if its.session not in sessions:
                sessions[its.session] = _came_in(root, its.session, family[0].namespace)
            entered += sessions[its.session]
    return Culprit(
        pid=pid,
        container_pid=_inner_pid(pids, node.processes.namespaces.get(family[0].namespace)),
        comm=_text(name),
        is_init=is_init,
        has_waited=past.has_waited if past else None,
        zombies=len(family),
        names=tuple((_text(name), count) for name, count in Counter(zombie.comm for zombie in family).most_common(MOST_NAMES)),
        looked=looked,
        statuses=tuple(statuses.most_common(MOST_NAMES)),
        adopted=adopted,
        entered=entered,
        oldest=_oldest(family, first_seen),
        seconds_between=(family[-1].start_time - family[0].start_time) / _TICKS / (len(family) - 1) if len(family) > 1 else None,
    )


def _came_in(root: str, leader: int, namespace: str) -> bool:
    """Whether a session was begun by a process that is gone, or by one that is still there and came in from outside.

    A number is not used again while there is a session of it. What PID 1 has started and does not wait for would be there as a zombie.
    """
    stat = _read(f"{root}/{leader}/stat", parse_stat)
    return stat is None or not stat.parent or _namespace(root, stat.parent) not in (namespace, None)


def _inner_pid(pids: tuple[int, ...], namespace: Namespace | None) -> int | None:
    """Return the PID in the namespace of the zombies, which may be one around its own."""
    depth = len(namespace.init_pids) if namespace and namespace.init_pids else len(pids)
    return pids[depth - 1] if 0 < depth <= len(pids) else None


def _namespace(root: str, pid: int) -> str | None:
    try:
        return os.readlink(f"{root}/{pid}/ns/pid").removeprefix("pid:[").removesuffix("]")
    except OSError:
        return None


def _oldest(zombies: Iterable[Zombie], first_seen: FirstSeen) -> float | None:
    seen = (first_seen.get((zombie.pid, zombie.start_time)) for zombie in zombies)
    return min((each for each in seen if each is not None), default=None)


def _read(path: str, parse: Callable[[bytes], T]) -> T | None:
    """Read one file; None if the process has ended, or the agent may not."""
    try:
        return parse_once(path, parse)
    except ReadError:
        return None


def _name_and_pids(raw: bytes) -> tuple[bytes, tuple[int, ...]]:
    status = Status(raw)
    return status.name, status.namespace_pids


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
