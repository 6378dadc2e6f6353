"""What can be found out about the victim of an OOM kill, while its line in the kernel log is fresh: the log, /proc and its cgroup."""

import os
from collections.abc import Callable
from dataclasses import replace

from collectors.inquest.facts import OomKilled
from collectors.inquest.kill_state import Victim
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.formats import single
from collectors.kernel.oom_log import OomKill
from collectors.kernel.process_status import Status
from collectors.kernel.procfs import has_first_pids

IsInit = Callable[[ContainerKey, int | None, int], bool | None]
"""Container, inode of its cgroup (None: gone) and PID -> whether it is the container's PID 1; None is not known."""


class Postmortem:
    """Looks at once. `is_init` remembers who PID 1 was, for most victims are reaped by then. `cgroup_root` is None without a tree."""

    def __init__(self, *, proc_root: str, cgroup_root: str | None, is_init: IsInit) -> None:
        self._proc_root, self._cgroup_root, self._is_init = proc_root, cgroup_root, is_init

    def examine(self, fact: OomKilled) -> OomKilled:
        """Return the fact with the inode of the container's cgroup, None if it is gone, and with the victim's record.

        Of one that was logged long ago only the log tells: its PID may be another's by now.
        """
        kill, is_fresh = fact.kill, not fact.is_late
        inode = None if fact.id is None or self._cgroup_root is None else _inode(self._cgroup_root + fact.id.container_path)
        pid, inside = self._pids(kill) if is_fresh and not fact.has_foreign_pid else (kill.pid, ())
        namespace_pid = inside[-1] if inside else None
        is_init = namespace_pid == 1 if inside else None
        if fact.id is not None and is_fresh and pid is not None:
            remembered = self._is_init(fact.container, inode, pid)
            if remembered is not None:
                is_init, namespace_pid = remembered, 1 if remembered else namespace_pid
        limit_of = _text(kill.oom_memcg)
        limit = kill.limit_bytes
        if limit is None and kill.usage_bytes is None and limit_of and self._cgroup_root is not None and is_fresh:
            limit = _limit(f"{self._cgroup_root}{limit_of}/memory.max")
        victim = Victim(
            time=fact.time,
            sequence=kill.sequence,
            identifier=fact.container,
            cgroup=fact.cgroup,
            scope=fact.scope,
            limit_of=limit_of,
            limit_bytes=limit,
            usage_bytes=kill.usage_bytes,
            pid=pid,
            namespace_pid=namespace_pid,
            is_init=is_init,
            comm=_text(kill.comm),
            uid=kill.uid,
            oom_score_adj=kill.oom_score_adj,
            total_vm_bytes=kill.total_vm_bytes,
            anon_rss_bytes=kill.anon_rss_bytes,
            file_rss_bytes=kill.file_rss_bytes,
            shmem_rss_bytes=kill.shmem_rss_bytes,
        )
        return replace(fact, inode=inode, victim=victim)

    def _pids(self, kill: OomKill) -> tuple[int | None, tuple[int, ...]]:
        """Return the pid of the process and its pids in each namespace, the victim dying or a zombie (/proc/PID/status Tgid, NStgid).

        The log may name a thread, whose status is there under its own number. Another name or user: it is another process by now.
        """
        if kill.pid is None or has_first_pids(self._proc_root) is False:  # as in the node of a kind cluster, which is a container
            return kill.pid, ()
        try:
            status = parse_once(f"{self._proc_root}/{kill.pid}/status", Status)
            is_other = status.name != kill.comm or (None not in (kill.uid, status.uid) and status.uid != kill.uid)
            pid, inside = status.process, status.namespace_processes or status.namespace_pids
        except (ReadError, ValueError):
            return kill.pid, ()
        return (kill.pid, ()) if is_other or pid is None else (pid, inside)


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except (OSError, ValueError):  # ValueError: a NUL, which no path has
        return None


def _limit(path: str) -> int | None:
    try:
        return parse_once(path, single)
    except (ReadError, ValueError):  # ValueError: a NUL, which no path has
        return None


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="backslashreplace")
