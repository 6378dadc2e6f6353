"""What can be found out about the victim of an OOM kill, while its line in the kernel log is fresh: the log, /proc and its cgroup."""

import time
from collections.abc import Callable

from collectors.inquest.kill_state import Victim, scope_of
from collectors.kernel import container_id
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.formats import single
from collectors.kernel.oom_log import OomKill
from collectors.kernel.process_status import Status
from collectors.kernel.procfs import has_first_pids


def examine(kill: OomKill, *, proc_root: str | None, cgroup_root: str | None, late: bool, clock: Callable[[], float] = time.time) -> Victim:
    """Make the record of one victim. Of one that was logged long ago (`late`) only the log tells: its pid may be another's by now.

    `proc_root` is None where the PIDs of the log are known not to be those of /proc.
    """
    cgroup = _text(kill.task_memcg or kill.group_memcg)
    container = container_id.parse(cgroup)
    limit_of = _text(kill.oom_memcg)
    pid, inside = (kill.pid, ()) if late or kill.pid is None or proc_root is None else _pids(proc_root, kill)
    limit = kill.limit_bytes
    if limit is None and kill.usage_bytes is None and limit_of and cgroup_root is not None and not late:
        limit = _limit(f"{cgroup_root}{limit_of}/memory.max")
    return Victim(
        time=clock(),
        sequence=kill.sequence,
        identifier=container.key if container else "",
        cgroup=cgroup,
        scope=scope_of(kill, container),
        limit_of=limit_of,
        limit_bytes=limit,
        usage_bytes=kill.usage_bytes,
        pid=pid,
        namespace_pid=inside[-1] if inside else None,
        is_init=inside[-1] == 1 if inside else None,
        comm=_text(kill.comm),
        uid=kill.uid,
        oom_score_adj=kill.oom_score_adj,
        total_vm_bytes=kill.total_vm_bytes,
        anon_rss_bytes=kill.anon_rss_bytes,
        file_rss_bytes=kill.file_rss_bytes,
        shmem_rss_bytes=kill.shmem_rss_bytes,
    )


def _pids(proc_root: str, kill: OomKill) -> tuple[int | None, tuple[int, ...]]:
    """Return the pid of the process and its pids in each namespace, the victim dying or a zombie (/proc/PID/status Tgid, NStgid).

    The log may name a thread, whose status is there under its own number. Another name or user: it is another process by now.
    """
    if has_first_pids(proc_root) is False:  # as in the node of a kind cluster, which is a container
        return kill.pid, ()
    try:
        status = parse_once(f"{proc_root}/{kill.pid}/status", Status)
        is_other = status.name != kill.comm or (None not in (kill.uid, status.uid) and status.uid != kill.uid)
        pid, inside = status.process, status.namespace_processes or status.namespace_pids
    except (ReadError, ValueError):
        return kill.pid, ()
    return (kill.pid, ()) if is_other or pid is None else (pid, inside)


def _limit(path: str) -> int | None:
    try:
        return parse_once(path, single)
    except (ReadError, ValueError):  # ValueError: a NUL, which no path has
        return None


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="backslashreplace")
