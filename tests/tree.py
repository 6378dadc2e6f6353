"""Fake /proc and cgroup trees, and the Node that a pass sees of them.

Contents are literals, so that a test shows what the kernel would print. A fake cgroup has no controllers: what is not given is absent.
"""

import errno
import os
import resource
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from collectors.base import Collector, Container, Ended, Info, Instance, Node
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import KernelFiles
from collectors.kernel.hierarchy import Hierarchy
from collectors.kernel.procfs import ProcessTable

HOST_NAMESPACE = 4026531836
"""The first PID namespace of every kernel (include/linux/proc_ns.h)."""

A, B, C = (ContainerKey(64 * digit) for digit in "abc")
"""Ids of containers."""

LABELS = {A: ("shop", "web-0", "web"), B: ("", "", "db"), C: ("", "", "cache")}
"""What they are called."""


@dataclass(frozen=True)
class Link:
    """A symbolic link, which may dangle as `/proc/PID/ns/pid -> pid:[4026531836]` does."""

    target: str


Content = str | bytes | Link


def tree(root: Path, files: Mapping[str, Content]) -> Path:
    """Make the files and links below root, with all directories on the way; a path that ends in `/` is an empty directory.

    A file that exists keeps its inode: a descriptor kept of it shows the new content, as that of a kernel file does.
    """
    for name, content in files.items():
        path = root / name.lstrip("/")
        directory = path if name.endswith("/") else path.parent
        directory.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            continue
        if isinstance(content, Link):
            path.unlink(missing_ok=True)
            path.symlink_to(content.target)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def stat(
    pid: int,
    *,
    comm: bytes = b"app",
    state: bytes = b"S",
    parent: int = 0,
    threads: int = 1,
    start_time: int = 100,
    exit_code: int = 0,
    session: int | None = None,
    child_faults: int = 0,
) -> bytes:
    """Spell /proc/PID/stat: 52 fields, as fs/proc/array.c prints them. `session` is its own if it is not given."""
    head = b"%d (%b) %b %d %d %d 0 -1 4194560 131 %d 0 0 0 0 0 0 20 0 %d 0 %d" % (
        *(pid, comm, state, parent, pid, pid if session is None else session),
        *(child_faults, threads, start_time),
    )
    return head + b" 4096 1 18446744073709551615" + 12 * b" 0" + b" 17" + 13 * b" 0" + b" %d\n" % exit_code


def process(
    pid: int,
    *,
    comm: bytes = b"app",
    state: bytes = b"S",
    parent: int = 1,
    threads: int = 1,
    start_time: int = 100,
    namespace: int = HOST_NAMESPACE,
    pids: tuple[int, ...] | None = None,
    cgroup: str | None = "/",
    session: int | None = None,
    child_faults: int = 0,
    exit_code: int = 0,
    more_status: str = "",
) -> dict[str, Content]:
    """Give the files of one process in a tree of /proc. `pids` is NSpid: its PID in each namespace from the host's inward.

    `more_status` are further lines of its status.
    """
    nspid = "\t".join(map(str, pids or (pid,)))
    files: dict[str, Content] = {
        f"{pid}/stat": stat(
            pid,
            comm=comm,
            state=state,
            parent=parent,
            threads=threads,
            start_time=start_time,
            exit_code=exit_code,
            session=session,
            child_faults=child_faults,
        ),
        f"{pid}/status": (
            b"Name:\t%b\n" % comm.replace(b"\\", rb"\\").replace(b"\n", rb"\n")
            + f"State:\t{state.decode()}\nTgid:\t{pid}\nNStgid:\t{nspid}\nNSpid:\t{nspid}\nThreads:\t{threads}\n{more_status}".encode()
        ),
        f"{pid}/ns/pid": Link(f"pid:[{namespace}]"),
    }
    if cgroup is not None:
        files[f"{pid}/cgroup"] = f"0::{cgroup}\n"
    return files


FULL: Mapping[str, Content] = {
    "cgroup.events": "populated 1\nfrozen 0\n",
    "cgroup.stat": "nr_descendants 0\nnr_dying_descendants 0\n",
    "cpu.max": "150000 100000\n",
    "cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=500000\n",
    "cpu.stat": (
        "usage_usec 2500000\nuser_usec 1500000\nsystem_usec 1000000\nnice_usec 0\ncore_sched.force_idle_usec 0\n"
        "nr_periods 40\nnr_throttled 4\nthrottled_usec 250000\nnr_bursts 0\nburst_usec 0\n"
    ),
    "io.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=3000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\n",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n",
    "memory.current": "5000000\n",
    "memory.events": "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 1\n",
    "memory.high": "9000000\n",
    "memory.low": "1000000\n",
    "memory.max": "10000000\n",
    "memory.peak": "6000000\n",
    "memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=125000\n",
    "memory.stat": "anon 3000000\nfile 2000000\ninactive_anon 0\nactive_anon 3000000\ninactive_file 1500000\nactive_file 500000\n",
    "pids.current": "7\n",
    "pids.events": "max 2\n",
    "pids.max": "100\n",
    "pids.peak": "9\n",
}
"""All files that are read of a container's cgroup, as 6.12 prints them (memory.stat has more keys)."""


def cgroup(path: str, files: Mapping[str, Content] = FULL) -> dict[str, Content]:
    """Give the files of one cgroup, for a tree made at the root that `node` looks at."""
    return {f"cgroup{path}/": "", **{f"cgroup{path}/{name}": content for name, content in files.items()}}


def proc(*parts: Mapping[str, Content]) -> dict[str, Content]:
    """Give the files of /proc, for a tree made at the root that `node` looks at."""
    return {"proc/": "", **{f"proc/{name}": content for part in parts for name, content in part.items()}}


def docker(identifier: str) -> str:
    """Return the cgroup path of a Docker container."""
    return f"/docker/{identifier}"


def node(
    root: Path,
    *,
    names: Mapping[ContainerKey, tuple[str, ...]] = LABELS,
    infos: Mapping[str, Info] | None = None,
    sandboxes: Mapping[ContainerKey, tuple[str, ...]] | None = None,
    resting: Mapping[str, int] | None = None,
    ended: Sequence[Ended] = (),
    files: KernelFiles | None = None,
    process_table: ProcessTable | None = None,
    hierarchy: Hierarchy | None = None,
) -> Node:
    """Look at root/cgroup and root/proc as one pass does. Containers are all cgroups with a container's path whose key is in `names`."""
    proc_root = root / "proc"
    (root / "cgroup").mkdir(exist_ok=True)
    hierarchy = hierarchy or Hierarchy(str(root / "cgroup"))
    cgroups = hierarchy.walk()
    instances = [
        Instance(identifier, cgroup)
        for cgroup in cgroups
        if (identifier := container_id.parse(cgroup.path)) and identifier.container_path == cgroup.path
    ]
    return Node(
        proc_root=str(proc_root),
        files=KernelFiles(0) if files is None else files,
        process_table=ProcessTable(str(proc_root), 0) if process_table is None else process_table,
        cgroups=cgroups,
        hidden=hierarchy.hidden,
        uncovered=hierarchy.uncovered,
        instances=instances,
        containers=[
            Container(names[one.id.key], one.id, one.cgroup, (infos or {}).get(one.id.key, Info()))
            for one in instances
            if one.id.key in names
        ],
        ended=ended,
        names={one.id.key: names[one.id.key] for one in instances if one.id.key in names},
        sandboxes=sandboxes or {},
        resting=resting or {},
    )


def collect(collector: Collector, seen: Node) -> dict[tuple[str, tuple[str, ...]], float]:
    """Run a collector; return all it yields by name and labels. Each sample must be declared, and there may be only one of each."""
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    for metric, labels, value in collector.collect(seen):
        assert metric in collector.metrics
        assert len(labels) == len(metric.labels)
        assert (metric.name, labels) not in found
        found[metric.name, labels] = value
    return found


def series(labels: tuple[str, ...], values: Mapping[str, float]) -> dict[tuple[str, tuple[str, ...]], float]:
    """Spell what `collect` finds for one set of labels: values by the name of the metric, without its prefix `coroner_`."""
    return {(f"coroner_{name}", labels): value for name, value in values.items()}


def remove_cgroup(root: Path, path: str) -> None:
    """Let a container end."""
    shutil.rmtree(f"{root}/cgroup{path}")


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the privilege to open any file."""

    def fail(path: str, _flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "open", fail)


def close(monkeypatch: pytest.MonkeyPatch, *paths: str | Path) -> None:
    """Close these files to this process, as their owner can who is not root."""
    call, closed = os.open, {str(path) for path in paths}

    def guarded(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        if path in closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return call(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", guarded)


def open_descriptors() -> int:
    """Count the descriptors of this process (the one that counts is among them every time)."""
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Let this process open `count` descriptors and no more, as if somebody else had taken all others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, hard))
    taken = []
    try:
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                break
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
