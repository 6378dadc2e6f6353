"""The cgroup v2 hierarchy: where it is mounted, and one reader per file; hierarchy.py walks its directories.

Each reader takes the open files and the absolute directory of one cgroup, returns kernel units under kernel names, and raises ReadError.
Which file exists depends on the kernel and on the controllers enabled for the parent, so every one is optional (raises Unsupported).
Source: Documentation/admin-guide/cgroup-v2.rst.
"""

import os
import re
from dataclasses import dataclass

from collectors.kernel.files import KernelFiles, ReadError, parse_once, read_once
from collectors.kernel.formats import amount, flat, lines, nested, single


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A directory of the hierarchy. The inode is the kernel's id of this one life of the path, unique while the system is up."""

    path: str
    directory: str
    inode: int
    has_children: bool


def find_root(path: str, mountinfo: str) -> str | None:
    """Find the cgroup v2 mount at `path` or, on a hybrid host, below it (such as `unified`); None if there is none.

    `mountinfo` is a path such as /proc/self/mountinfo (Documentation/filesystems/proc.rst 3.5). Raises ReadError when it is needed and
    cannot be read.
    """
    if os.path.exists(f"{path}/cgroup.controllers"):
        return path
    table = read_once(mountinfo).decode(errors="surrogateescape")
    for line in table.splitlines():
        mount, separator, kind = line.partition(" - ")
        if separator and kind.startswith("cgroup2 "):
            point = mount.split(" ")[4].replace("\\040", " ")
            if point.startswith(f"{path}/") and os.path.exists(f"{point}/cgroup.controllers"):
                return point
    return None


def events_are_local(mountinfo: str) -> bool:
    """Whether memory.events is without the cgroups below (mount option memory_localevents: one for all mounts of the hierarchy)."""
    try:
        table = read_once(mountinfo).decode(errors="surrogateescape")
    except ReadError:
        return False
    mounts = (line.partition(" - ") for line in table.splitlines())
    return any(kind.startswith("cgroup2 ") and "memory_localevents" in re.split("[ ,]", kind) for _, _, kind in mounts)


def controllers(root: str) -> list[str]:
    """Controllers that the v2 hierarchy at `root` has (cgroup.controllers). Raises ReadError."""
    return read_once(f"{root}/cgroup.controllers").decode().split()


@dataclass(frozen=True, slots=True)
class MemoryEvents:
    """memory.events: counts since the cgroup was made, of it and all below it. Keys that this kernel lacks are None."""

    low: int
    high: int
    max: int
    oom: int | None
    oom_kill: int | None
    oom_group_kill: int | None


def memory_current(files: KernelFiles, directory: str) -> int | None:
    """Bytes charged, page cache and kernel memory included (memory.current)."""
    return files.parsed(directory, "memory.current", single)


def memory_peak(files: KernelFiles, directory: str) -> int | None:
    """Largest memory.current so far, in bytes (memory.peak, kernel 5.19)."""
    return files.parsed(directory, "memory.peak", single)


def memory_max(files: KernelFiles, directory: str) -> int | None:
    """Hard limit in bytes, None for unlimited (memory.max)."""
    return files.parsed(directory, "memory.max", single, is_announced=True)


def memory_high(files: KernelFiles, directory: str) -> int | None:
    """Throttling limit in bytes, None for unlimited (memory.high)."""
    return files.parsed(directory, "memory.high", single, is_announced=True)


def memory_low(files: KernelFiles, directory: str) -> int | None:
    """Best-effort protection in bytes, None for all (memory.low)."""
    return files.parsed(directory, "memory.low", single, is_announced=True)


def memory_swap_max(files: KernelFiles, directory: str) -> int | None:
    """Bytes of swap allowed, None for unlimited (memory.swap.max, absent without swap accounting)."""
    return files.parsed(directory, "memory.swap.max", single)


def memory_events(files: KernelFiles, directory: str) -> MemoryEvents:
    """Counts of what happened at the limits (memory.events); read again in the same pass: who counts kills reads in its own order."""
    return files.parsed(directory, "memory.events", _memory_events, again=True)


def memory_events_local(files: KernelFiles, directory: str) -> MemoryEvents:
    """The same counts without those of the cgroups below (memory.events.local, kernel 5.3): `oom` is of its own limit."""
    return files.parsed(directory, "memory.events.local", _memory_events, again=True)


def _memory_events(raw: bytes) -> MemoryEvents:
    keys = flat(raw, known=b"low")
    return MemoryEvents(keys[b"low"], keys[b"high"], keys[b"max"], keys.get(b"oom"), keys.get(b"oom_kill"), keys.get(b"oom_group_kill"))


def memory_oom_group(files: KernelFiles, directory: str) -> bool:
    """Whether the OOM killer takes the whole cgroup at once (memory.oom.group, kernel 4.19)."""
    return files.parsed(directory, "memory.oom.group", single) == 1


def memory_inactive_file(files: KernelFiles, directory: str) -> int:
    """Bytes of page cache that reclaim takes first: usage without it is the working set (memory.stat inactive_file)."""
    return files.parsed(directory, "memory.stat", _inactive_file)


def _inactive_file(raw: bytes) -> int:
    # One of some sixty keys is wanted, and the file changes on every read: looking for it is six times cheaper than a table.
    start = raw.index(b"\ninactive_file ") + 15
    return amount(raw[start : raw.index(b"\n", start)])


@dataclass(frozen=True, slots=True)
class CpuStat:
    """cpu.stat, in microseconds and counts. The last three need the cpu controller and are of this cgroup's own quota."""

    usage_usec: int
    user_usec: int
    system_usec: int
    nr_periods: int | None
    nr_throttled: int | None
    throttled_usec: int | None


def cpu_stat(files: KernelFiles, directory: str) -> CpuStat:
    """CPU time and throttling (cpu.stat, in every cgroup even without the cpu controller)."""
    return files.parsed(directory, "cpu.stat", _cpu_stat)


def _cpu_stat(raw: bytes) -> CpuStat:
    keys = flat(raw, known=b"usage_usec")
    return CpuStat(
        keys[b"usage_usec"],
        keys[b"user_usec"],
        keys[b"system_usec"],
        keys.get(b"nr_periods"),
        keys.get(b"nr_throttled"),
        keys.get(b"throttled_usec"),
    )


def cpu_limit(files: KernelFiles, directory: str) -> float | None:
    """Cores allowed: quota / period, None for unlimited (cpu.max)."""
    return files.parsed(directory, "cpu.max", _cpu_max, is_announced=True)


def _cpu_max(raw: bytes) -> float | None:
    if not raw.endswith(b"\n"):
        raise ValueError("cut short")
    quota, period = raw.split()
    return None if quota == b"max" else int(quota) / int(period)


@dataclass(frozen=True, slots=True)
class DeviceIo:
    """One line of io.stat: bytes and operations since the cgroup was made."""

    rbytes: int
    wbytes: int
    rios: int
    wios: int


_BARE_DEVICE = re.compile(rb"(?:\d+:\d+|\(unknown\)) (?=[\d(])")


def io_stat(files: KernelFiles, directory: str) -> dict[str, DeviceIo]:
    """I/O by device `major:minor` (io.stat). Devices without I/O are left out, and those that the kernel calls `(unknown)`.

    Kernels from 6.1 print a bare `8:0 ` for a device whose counters they have not made yet; 5.14 to 5.16 do so without a newline, so
    the next device follows on the same line (fixed by "blk-cgroup: always terminate io.stat lines").
    """
    return files.parsed(directory, "io.stat", _io_stat)


def _io_stat(raw: bytes) -> dict[str, DeviceIo]:
    return {
        device.decode(): DeviceIo(amount(keys[b"rbytes"]), amount(keys[b"wbytes"]), amount(keys[b"rios"]), amount(keys[b"wios"]))
        for device, keys in nested(_BARE_DEVICE.sub(b"", raw)).items()
        if b"wios" in keys and b"rbytes" in keys and device != b"(unknown)"
    }


def pids_current(files: KernelFiles, directory: str) -> int | None:
    """Tasks charged: threads and unreaped zombies (pids.current)."""
    return files.parsed(directory, "pids.current", single)


def pids_max(files: KernelFiles, directory: str) -> int | None:
    """Limit of tasks, None for unlimited (pids.max)."""
    return files.parsed(directory, "pids.max", single, is_announced=True)


def pids_peak(files: KernelFiles, directory: str) -> int | None:
    """Largest pids.current so far (pids.peak, kernel 6.1)."""
    return files.parsed(directory, "pids.peak", single)


def pids_events_max(files: KernelFiles, directory: str) -> int:
    """Forks refused (pids.events max): of tasks here; from kernel 6.11 for the limit of this cgroup or one below."""
    return files.parsed(directory, "pids.events", _pids_events, is_announced=True)


def _pids_events(raw: bytes) -> int:
    return flat(raw, known=b"max")[b"max"]


@dataclass(frozen=True, slots=True)
class Pressure:
    """Stall time in microseconds since the cgroup was made: some task waited, and all of them did (None on 5.10's cpu)."""

    some: int
    full: int | None


def pressure(files: KernelFiles, directory: str, resource: str) -> Pressure:
    """Pressure stall totals of `cpu`, `memory` or `io` (RESOURCE.pressure; Documentation/accounting/psi.rst)."""
    return files.parsed(directory, f"{resource}.pressure", pressure_totals)


_TOTAL = re.compile(rb"^(some|full) .*\btotal=(-?\d+)(?=[ \n])", re.MULTILINE)


def pressure_totals(raw: bytes) -> Pressure:
    """Parse what the files of cgroups and /proc/pressure have alike; ValueError if it is something else."""
    # One of four numbers a line is wanted, and three such files change on every read: a table takes three times as long.
    totals = dict(_TOTAL.findall(raw))
    some, full = totals.get(b"some"), totals.get(b"full")
    if some is None:
        raise ValueError("no total of some")
    return Pressure(amount(some), None if full is None else amount(full))


@dataclass(frozen=True, slots=True)
class CgroupEvents:
    """cgroup.events. `populated` is false although zombies remain; `frozen` is None before kernel 5.2."""

    populated: bool
    frozen: bool | None


def cgroup_events(files: KernelFiles, directory: str) -> CgroupEvents:
    """Whether live processes remain in or below the cgroup, and whether all of them are frozen (cgroup.events)."""
    return files.parsed(directory, "cgroup.events", _cgroup_events, is_announced=True)


def _cgroup_events(raw: bytes) -> CgroupEvents:
    keys = flat(raw, known=b"populated")
    frozen = keys.get(b"frozen")
    return CgroupEvents(keys[b"populated"] == 1, None if frozen is None else frozen == 1)


def dying_descendants(files: KernelFiles, directory: str) -> int:
    """Removed cgroups below that still hold memory or zombies (cgroup.stat nr_dying_descendants)."""
    return files.parsed(directory, "cgroup.stat", _cgroup_stat)


def _cgroup_stat(raw: bytes) -> int:
    return flat(raw, known=b"nr_dying_descendants")[b"nr_dying_descendants"]


def processes(directory: str) -> list[int]:
    """PIDs of the living in this one cgroup, as the reader's PID namespace counts; 0 for one outside of it (cgroup.procs).

    Raises ReadError; Unsupported for a threaded cgroup, whose processes are listed in the cgroup above it that is none.
    """
    # A list comes a page at a time: the single read of a kept descriptor would take the first one for all of it.
    return parse_once(f"{directory}/cgroup.procs", _pids)


def _pids(raw: bytes) -> list[int]:
    if raw and not raw.endswith(b"\n"):
        raise ValueError("cut short")
    return [int(line) for line in lines(raw)]
