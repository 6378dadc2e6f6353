"""Headroom: how far from its nearest memory limit a container is, and whom the OOM killer would take there."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf

from collectors.base import CONTAINER, Node, Sample, gauge
from collectors.inquest.scope import scope_of_limit
from collectors.kernel import badness, cgroupfs
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ancestors
from collectors.kernel.files import Forbidden, Gone, Malformed, ReadError, Unsupported, parse_once
from collectors.kernel.hidepid import require_sight
from collectors.kernel.process_cgroup import parse_cgroup, rebase

HEADROOM = gauge(
    "coroner_container_memory_headroom_bytes",
    "Bytes the container can still allocate below its nearest memory limit, its own or that of a cgroup above, inactive "
    "page cache counted as free; absent without any limit (memory.max, memory.current, memory.stat).",
    (*CONTAINER, "scope"),
)
NEAREST = gauge(
    "coroner_container_memory_nearest_limit_bytes",
    "The memory limit that the headroom is measured against; the label scope says whose it is (memory.max).",
    (*CONTAINER, "scope"),
)
CANDIDATE = gauge(
    "coroner_container_oom_candidate_info",
    "Always 1: the process that the OOM killer would choose if this limit were hit, and what would end with it; exported "
    "only while at most a tenth of the limit is free (/proc/PID/status, oom_score_adj; memory.oom.group).",
    (*CONTAINER, "scope", "comm", "role", "takes"),
)
BADNESS = gauge(
    "coroner_container_oom_candidate_badness_bytes",
    ("What the OOM killer compares processes by: memory, swap and page tables of the candidate, shifted by its oom_score_adj."),
)
RSS = gauge("coroner_container_oom_candidate_rss_bytes", "Resident memory of the candidate (/proc/PID/status VmRSS).")
UNKNOWN = gauge(
    "coroner_oom_candidates_unknown",
    ("Memory limits of which at most a tenth is free and whose OOM candidate is not known: too many processes, or none that may be read."),
    (),
)

NEAR = 10
"""A limit is near while the headroom is at most one part in so many of it."""

MOST = 1000
"""Cgroups and processes that one pass looks at, together. Limits of few come first; those that do not fit are counted as unknown."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """A cgroup with a limit of its own: the limit and what is free below it, in bytes."""

    cgroup: Cgroup
    bytes: float
    free: float


_UNLIMITED = _Limit(Cgroup("/", "", 0, has_children=True), inf, inf)


class _Unknown(Exception):
    """The process is not the one that its cgroup lists, or a file that matters is closed."""


class Headroom:
    """Reads the limits on the way up from each container, and processes only where one is near."""

    name = "headroom"
    metrics = (HEADROOM, NEAREST, CANDIDATE, BADNESS, RSS, UNKNOWN)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield bytes for each container, and a candidate where a limit is near."""
        cgroups = node.by_path
        limits: dict[str, _Limit | None] = {}
        nearest: dict[str, _Limit | None] = {"": _UNLIMITED}
        for container in node.containers:
            limit = _nearest(node, container.cgroup.path, limits, nearest)
            if limit is not None and limit is not _UNLIMITED:
                labels = (*container.labels, scope_of_limit(limit.cgroup.path, container.id))
                yield HEADROOM, labels, limit.free
                yield NEAREST, labels, limit.bytes
        if cgroups:
            near = [limit for limit in limits.values() if limit is not None and limit.free * NEAR <= limit.bytes < inf]
            is_whole = not (node.hidden or node.closed)  # else limits that are closed may be near too
            yield from (sample for sample in _candidates(node, near, cgroups) if is_whole or sample[0] is not UNKNOWN)


def _nearest(node: Node, path: str, limits: dict[str, _Limit | None], nearest: dict[str, _Limit | None]) -> _Limit | None:
    """Find the limit that leaves the least of a cgroup and those above it, the innermost of several; None when one of them cannot be told.

    Both dictionaries are filled: the limit of each that was looked at, and the nearest one. The root's path is empty: it has no limit.
    """
    below = []
    while path not in nearest:  # no recursion: a container may nest cgroups as deep as a path can be long
        below.append(path)
        path = path.rpartition("/")[0]
    least = nearest[path]
    for path in reversed(below):
        limit = limits[path] = _limit(node, node.by_path[path])
        if limit is None or least is None or limit.free <= least.free:
            least = limit if least is not None else None
        nearest[path] = least
    return least


def _limit(node: Node, cgroup: Cgroup) -> _Limit | None:
    """Read a cgroup's own limit and what is free below it; None when that cannot be told."""
    try:
        limit = cgroupfs.memory_max(node.files, cgroup.directory)
    except Unsupported:  # the memory controller is not on here
        return _UNLIMITED
    except (Gone, Malformed, Forbidden) as error:
        node.note(error)
        return None
    if limit is None:
        return _UNLIMITED
    usage, inactive = node.read(cgroupfs.memory_current, cgroup), node.read(cgroupfs.memory_inactive_file, cgroup)
    if usage is None or inactive is None:
        return None
    return _Limit(cgroup, limit, max(0, limit - max(0, usage - inactive)))


def _candidates(node: Node, near: list[_Limit], cgroups: Mapping[str, Cgroup]) -> Iterator[Sample]:
    try:
        if near:
            require_sight(node.proc_root)
    except ReadError:  # the one that would be chosen may be hidden
        yield UNKNOWN, (), len(near)
        return
    containers = {container.cgroup.path: container for container in node.containers}
    below: dict[str, list[Cgroup]] = {limit.cgroup.path: [] for limit in near}
    for cgroup in node.cgroups if near else ():
        for path in _upwards(cgroup.path):
            if path in below:
                below[path].append(cgroup)
    crowds = [(limit, below[limit.cgroup.path], _processes(node, below[limit.cgroup.path])) for limit in near]
    left, unknown = MOST, 0
    told: set[str] = set()
    # The small ones first: a crowd costs nobody else its candidate. An inner limit has fewer below it than the one around it.
    for limit, nested, processes in sorted(crowds, key=lambda crowd: len(crowd[1]) + len(crowd[2] or ())):
        left -= len(nested) + len(processes or ())
        if processes is None or left < 0:
            unknown += 1
            continue
        try:
            chosen = badness.choose(node.proc_root, processes, _total(node, limit))
            role = _role(node, chosen.pid, processes[chosen.pid]) if chosen else ""
        except (ReadError, _Unknown) as error:
            unknown += 1
            if isinstance(error, Malformed):
                node.malformed.append(error)
            continue
        home = processes[chosen.pid].path if chosen else ""
        owner = next((path for path in _upwards(home) if path in containers), "")
        if chosen and owner and owner not in told:
            told.add(owner)
            labels = containers[owner].labels
            takes = "container" if role == "init" else _takes(node, cgroups, home, owner, limit.cgroup.path)
            if takes == "process" and not badness.has_init(
                node.proc_root, (pid for pid, cgroup in processes.items() if owner in _upwards(cgroup.path))
            ):
                takes = "unknown"  # in the PID namespace of its pod or of the host a container ends with its first process, whichever it is
            comm = chosen.footprint.comm.decode(errors="backslashreplace")
            yield CANDIDATE, (*labels, scope_of_limit(limit.cgroup.path, containers[owner].id), comm, role, takes), 1
            yield BADNESS, labels, chosen.badness * badness.PAGE
            yield RSS, labels, chosen.footprint.rss * 1024
    yield UNKNOWN, (), unknown


def _processes(node: Node, cgroups: list[Cgroup]) -> dict[int, Cgroup] | None:
    """List the processes of these cgroups; None for too many, when one is outside of the agent's PID namespace, or what is closed."""
    found: dict[int, Cgroup] = {}
    for cgroup in cgroups:
        if len(cgroups) + len(found) > MOST or cgroup.path in node.hidden:
            return None
        try:
            found.update(dict.fromkeys(cgroupfs.processes(cgroup.directory), cgroup))
        except (Gone, Unsupported):  # it has ended, or is a threaded one: the cgroup above lists its processes
            continue
        except (Malformed, Forbidden) as error:
            node.note(error)
            return None
    return None if 0 in found else found


def _total(node: Node, limit: _Limit) -> int:
    """Bytes that may be used under the limit, swap included (mm/memcontrol.c mem_cgroup_get_max). Raises ReadError, and _Unknown."""
    closed = len(node.closed)
    swap, allowed = badness.usable_swap(node.proc_root) * 1024, node.read(cgroupfs.memory_swap_max, limit.cgroup)
    if len(node.closed) > closed:
        raise _Unknown
    return int(limit.bytes) + (swap if allowed is None else min(swap, allowed))


def _role(node: Node, pid: int, home: Cgroup) -> str:
    """Tell whether it is PID 1 of its namespace. Raises ReadError, and _Unknown for a process that is not the one listed in its cgroup.

    That is so when /proc is that of another PID namespace than the agent's, or when the number has gone to another process.
    """
    path = parse_once(f"{node.proc_root}/{pid}/cgroup", parse_cgroup)
    if path is None or not f"{rebase(path, node.process_table.cgroup_namespace)}/".startswith(f"{home.path}/"):
        raise _Unknown
    return "init" if badness.is_init(node.proc_root, pid) else "other"


def _takes(node: Node, cgroups: Mapping[str, Cgroup], home: str, container: str, limit: str) -> str:
    """Tell what ends with the process: the highest cgroup below the limit with memory.oom.group (mem_cgroup_get_oom_group)."""
    takes, closed = "process", len(node.closed)
    for path in _upwards(home):
        if node.read(cgroupfs.memory_oom_group, cgroups[path]):
            takes = "container" if len(path) <= len(container) else "group"
        if path == limit:
            break
    return takes if len(node.closed) == closed else "unknown"


def _upwards(path: str) -> tuple[str, ...]:
    """Return the path and those of the cgroups above it, but not the root's, which has no limit."""
    return (path, *ancestors(path))
