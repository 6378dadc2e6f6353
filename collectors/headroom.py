"""Headroom: how far from its nearest memory limit a container is, and whom the OOM killer would take there."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf

from collectors.base import CONTAINER, Container, Node, Sample, gauge
from collectors.kernel import badness, cgroupfs, container_id
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.files import Gone, Malformed, ReadError, Unsupported, parse_once
from collectors.kernel.procfs import parse_cgroup, parse_namespace_pids, rebase

HEADROOM = gauge(
    "coroner_container_memory_headroom_bytes",
    "Bytes that it can still take below the nearest limit, its own or one above it, inactive page cache counted as free; "
    "absent without any limit (memory.max, memory.current, memory.stat).",
    (*CONTAINER, "scope"),
)
NEAREST = gauge(
    "coroner_container_memory_nearest_limit_bytes",
    "The limit that the headroom is below, and whose it is (memory.max).",
    (*CONTAINER, "scope"),
)
CANDIDATE = gauge(
    "coroner_container_oom_candidate_info",
    "Always 1: the process that the OOM killer would choose at the limit of this scope, and what would end with it; only while at most a "
    "tenth of that limit is free (/proc/PID/status, oom_score_adj; memory.oom.group).",
    (*CONTAINER, "scope", "comm", "role", "takes"),
)
BADNESS = gauge(
    "coroner_container_oom_candidate_badness_bytes",
    "What the OOM killer compares: memory, swap and page tables of the candidate, shifted by its oom_score_adj.",
)
RSS = gauge("coroner_container_oom_candidate_rss_bytes", "Resident memory of the candidate (/proc/PID/status VmRSS).")
UNKNOWN = gauge(
    "coroner_oom_candidates_unknown",
    "Limits of which at most a tenth is free and whose candidate could not be told: too many processes, or none that may be read.",
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
    """Which of the processes below a limit would be chosen cannot be told."""


class Headroom:
    """Reads the limits on the way up from each container, and processes only where one is near."""

    name = "headroom"
    metrics = (HEADROOM, NEAREST, CANDIDATE, BADNESS, RSS, UNKNOWN)

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield bytes for each container, and a candidate where a limit is near."""
        cgroups = {cgroup.path: cgroup for cgroup in node.cgroups}
        limits: dict[str, _Limit | None] = {}
        for container in node.containers:
            nearest = _UNLIMITED
            for path in _upwards(container.cgroup.path):
                if path not in limits:
                    limits[path] = _limit(node, cgroups[path])
                limit = limits[path]
                if limit is None:
                    break  # it may be the nearest one
                nearest = min(nearest, limit, key=lambda each: each.free)
            else:
                if nearest is not _UNLIMITED:
                    labels = (*container.labels, _scope(nearest, container))
                    yield HEADROOM, labels, nearest.free
                    yield NEAREST, labels, nearest.bytes
        if cgroups:
            near = [limit for limit in limits.values() if limit is not None and limit.free * NEAR <= limit.bytes < inf]
            yield from _candidates(node, near)


def _limit(node: Node, cgroup: Cgroup) -> _Limit | None:
    """Read a cgroup's own limit and what is free below it; None when that cannot be told."""
    try:
        limit = cgroupfs.memory_max(node.files, cgroup.directory)
    except Unsupported:  # the memory controller is not on here
        return _UNLIMITED
    except Gone:
        return None
    except Malformed as error:
        node.malformed.append(error)
        return None
    if limit is None:
        return _UNLIMITED
    usage, inactive = node.read(cgroupfs.memory_current, cgroup), node.read(cgroupfs.memory_inactive_file, cgroup)
    if usage is None or inactive is None:
        return None
    return _Limit(cgroup, limit, max(0, limit - max(0, usage - inactive)))


def _candidates(node: Node, near: list[_Limit]) -> Iterator[Sample]:
    containers = {container.cgroup.path: container for container in node.containers}
    below: dict[str, list[Cgroup]] = {limit.cgroup.path: [] for limit in near}
    for cgroup in node.cgroups if near else ():
        for path in _upwards(cgroup.path):
            if path in below:
                below[path].append(cgroup)
    left, unknown = MOST, 0
    told: set[str] = set()
    # Innermost first: they are the smaller ones, and a container's own limit is the one to tell of.
    for limit in sorted(near, key=lambda limit: limit.cgroup.path.count("/"), reverse=True):
        cgroups = below[limit.cgroup.path]
        try:
            processes = _processes(cgroups, left)
            left -= len(cgroups) + len(processes)
            chosen = badness.choose(node.proc_root, processes, _total(node, limit))
            home = processes[chosen.pid] if chosen else limit.cgroup
            owner = next((path for path in _upwards(home.path) if path in containers), "")
            if chosen is None or not owner or owner in told:
                continue
            role = _role(node, chosen.pid, home)
        except Malformed as error:
            node.malformed.append(error)
            unknown += 1
        except (ReadError, _Unknown):
            unknown += 1
        else:
            told.add(owner)
            labels = containers[owner].labels
            takes = "container" if role == "init" else _takes(node, home, containers[owner].cgroup, limit.cgroup)
            comm = chosen.footprint.comm.decode(errors="backslashreplace")
            yield CANDIDATE, (*labels, _scope(limit, containers[owner]), comm, role, takes), 1
            yield BADNESS, labels, chosen.badness * badness.PAGE
            yield RSS, labels, chosen.footprint.rss
    yield UNKNOWN, (), unknown


def _processes(cgroups: list[Cgroup], left: int) -> dict[int, Cgroup]:
    """List the processes of these cgroups. Raises _Unknown for too many, and for one outside of the agent's PID namespace."""
    found: dict[int, Cgroup] = {}
    for number, cgroup in enumerate(cgroups, 1):
        if number + len(found) > left:
            raise _Unknown
        with suppress(Gone, Unsupported):  # one that has ended, or a threaded one: the cgroup above lists its processes
            found.update(dict.fromkeys(cgroupfs.processes(cgroup.directory), cgroup))
    if 0 in found or len(cgroups) + len(found) > left:
        raise _Unknown
    return found


def _total(node: Node, limit: _Limit) -> int:
    """Bytes that may be used under the limit, swap included (mm/memcontrol.c mem_cgroup_get_max). Raises ReadError."""
    swap, allowed = badness.usable_swap(node.proc_root), node.read(cgroupfs.memory_swap_max, limit.cgroup)
    return int(limit.bytes) + (swap if allowed is None else min(swap, allowed))


def _role(node: Node, pid: int, home: Cgroup) -> str:
    """Tell whether it is PID 1 of its namespace. Raises ReadError, and _Unknown for a process that is not the one listed in its cgroup.

    That is so when /proc is that of another PID namespace than the agent's, or when the number has gone to another process.
    """
    path = parse_once(f"{node.proc_root}/{pid}/cgroup", parse_cgroup)
    if path is None or not f"{rebase(path, node.process_table.cgroup_namespace)}/".startswith(f"{home.path}/"):
        raise _Unknown
    return "init" if parse_once(f"{node.proc_root}/{pid}/status", parse_namespace_pids)[-1:] == (1,) else "other"


def _takes(node: Node, home: Cgroup, container: Cgroup, limit: Cgroup) -> str:
    """Tell what ends with the process: the highest cgroup below the limit with memory.oom.group (mem_cgroup_get_oom_group)."""
    cgroups = {cgroup.path: cgroup for cgroup in node.cgroups}
    takes = "process"
    for path in _upwards(home.path):
        if node.read(cgroupfs.memory_oom_group, cgroups[path]):
            takes = "container" if len(path) <= len(container.path) else "group"
        if path == limit.path:
            break
    return takes


def _scope(limit: _Limit, container: Container) -> str:
    if limit.cgroup.path == container.cgroup.path:
        return "container"
    return "pod" if container_id.is_pod(limit.cgroup.path) else "ancestor"


def _upwards(path: str) -> Iterator[str]:
    """Yield the path and those of the cgroups above it, but not the root's, which has no limit."""
    while path not in ("", "/"):
        yield path
        path = path.rpartition("/")[0]
