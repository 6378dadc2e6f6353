"""Copy what a pass reads of a node to a directory, so that a test can look at the same node again: `proc/`, `cgroup/`, and with Docker
and the kernel log also `names.json` and `kmsg` (README.md).

    python -m tests.nodes.capture DIRECTORY [--proc=/proc] [--cgroup=/sys/fs/cgroup] [--docker=URL] [--kmsg=/dev/kmsg]
"""

import argparse
import errno
import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from docker import APIClient

from collectors.kernel import container_id, namespaces, process_stat
from collectors.kernel.hierarchy import Hierarchy

T = TypeVar("T")

NODE_FILES = (
    "loadavg",
    "meminfo",
    "partitions",
    "pressure/cpu",
    "pressure/io",
    "pressure/memory",
    "sys/kernel/pid_max",
    "sys/kernel/random/boot_id",
    "sys/kernel/threads-max",
    "sys/vm/swappiness",
)
PROCESS_FILES = ("stat", "status", "cgroup", "oom_score_adj", "uid_map", "stack", "wchan")
PROCESS_LINKS = tuple(f"ns/{kind}" for kind in namespaces.KINDS)
MOUNTS = "mountinfo"
"""Of this the lines of overlays, of the root and of sockets are copied, if there are any: more of other mounts is not told."""
ROOT_FILES = ("cgroup.controllers",)
CGROUP_FILES = (
    *("cgroup.stat", "memory.current", "memory.events", "memory.events.local", "memory.max", "memory.oom.group", "memory.stat"),
)
CONTAINER_FILES = (
    *("cgroup.events", "cgroup.procs", "cpu.max", "cpu.pressure", "cpu.stat", "io.pressure", "io.stat"),
    *("memory.high", "memory.low", "memory.peak", "memory.pressure", "memory.swap.max"),
    *("pids.current", "pids.events", "pids.max", "pids.peak"),
)

_KTHREADD = 2
_STACK = "stack"


def capture_proc(proc: Path, to: Path) -> None:
    """Copy the node's files and every process but the kernel's own threads: there are too many, and all are alike."""
    _copy_files(proc, to, NODE_FILES)
    for pid in filter(str.isdecimal, os.listdir(proc)):
        copied = _unless_gone(partial(_process, proc / pid))
        if copied is None:
            continue
        contents, links = copied
        (to / pid / "ns").mkdir(parents=True)
        for name, link in links.items():
            (to / pid / name).symlink_to(link)
        for name, content in contents.items():
            (to / pid / name).write_bytes(content)
        mounts = _unless_gone((proc / pid / MOUNTS).read_bytes) or b""
        if lines := [line for line in mounts.splitlines(keepends=True) if b" - overlay " in line or b" / / " in line or b".sock " in line]:
            (to / pid / MOUNTS).write_bytes(b"".join(lines))


def _process(source: Path) -> tuple[dict[str, bytes], dict[str, str]] | None:
    stat = (source / "stat").read_bytes()
    if process_stat.parse_stat(stat).parent == _KTHREADD:
        return None
    others = {name: (source / name).read_bytes() for name in PROCESS_FILES if name not in ("stat", _STACK)}
    stack = _unless_gone((source / _STACK).read_bytes) or b""  # a kernel may lack it
    has_ended = process_stat.parse_stat(stat).state == b"Z"  # it keeps none but that of its PIDs
    links = {name: os.readlink(source / name) for name in PROCESS_LINKS if name == "ns/pid" or not has_ended}
    return {"stat": stat, _STACK: stack, **others}, links


def capture_cgroups(root: Path, to: Path) -> None:
    """Copy the hierarchy: of a container's cgroup, and of what is nested in it, all files that are read; of another one the few."""
    _copy_files(root, to, ROOT_FILES)
    for cgroup in Hierarchy(str(root)).walk():
        is_container = container_id.parse(cgroup.path) is not None
        _copy_files(Path(cgroup.directory), to / cgroup.path.lstrip("/"), (*CGROUP_FILES, *(CONTAINER_FILES if is_container else ())))


def _copy_files(source: Path, to: Path, names: Iterable[str]) -> None:
    for name in names:
        content = _unless_gone((source / name).read_bytes)
        if content is not None:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes(content)


def _unless_gone(read: Callable[[], T]) -> T | None:
    """Read; None when it has ended, when this kernel lacks it, and of the mounts of a zombie (EINVAL)."""
    try:
        return read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EOPNOTSUPP, errno.EINVAL):
            return None
        raise


def names_from_docker(url: str) -> str:
    """Return what Docker answers when it is asked for its containers, of each what the agent looks at."""
    with closing(APIClient(url)) as client:
        listed = client.containers(all=True)
    listed.sort(key=lambda container: container["Names"])
    keys = ("Id", "Names", "Image", "State", "Created")
    lines = [json.dumps({key: each[key] for key in keys if key in each}) for each in listed]
    return "[\n  " + ",\n  ".join(lines) + "\n]\n"


def oom_records(kmsg: Path) -> bytes:
    """Return the kernel log's records from the first OOM incident to the end of the last, with all between: no gap in their numbers."""
    records = []
    descriptor = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            records.append(os.read(descriptor, 8192))
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
    incident = [at for at, record in enumerate(records) if re.search(rb"invoked oom-killer|Killed process|oom_reaper", record)]
    return b"".join(records[incident[0] : incident[-1] + 1]) if incident else b""


def main() -> None:
    """Capture the node that this runs on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--proc", type=Path, default=Path("/proc"))
    parser.add_argument("--cgroup", type=Path, default=Path("/sys/fs/cgroup"))
    parser.add_argument("--docker")
    parser.add_argument("--kmsg", type=Path)
    options = parser.parse_args()
    capture_proc(options.proc, options.directory / "proc")
    capture_cgroups(options.cgroup, options.directory / "cgroup")
    if options.docker:
        (options.directory / "names.json").write_text(names_from_docker(options.docker))
    if options.kmsg:
        (options.directory / "kmsg").write_bytes(oom_records(options.kmsg))


if __name__ == "__main__":
    main()
