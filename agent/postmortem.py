"""What can be found out about the victim of an OOM kill, while its line in the kernel log is fresh: the log, /proc and its cgroup."""

import os
from collections.abc import Callable
from dataclasses import replace

from collectors.inquest.facts import OomKilled
from collectors.inquest.kill_state import Victim
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.first_pids import has_first_pids
from collectors.kernel.formats import single
from collectors.kernel.oom_log import OomKill
from collectors.kernel.process_status import Status

IsInit = Callable[[ContainerKey, int | None, int], bool | None]
"""Container, inode of its cgroup (None: gone) and PID -> whether it is the container's PID 1; None is not known."""


class Postmortem:
    """Looks at once. `is_init` remembers who PID 1 was, for most victims are reaped by then. `cgroup_root` is None without a tree."""

    def __init__(self, *, proc_root: str, cgroup_root: str | None, is_init: IsInit) -> None:
        self._proc_root, self._cgroup_root, self._is_init = proc_root, cgroup_root, is_init

    def examine(self, fact: OomKilled) -> OomKilled:
        """Return the fact with the inode of the container's cgroup, None if it is gone, and with more of the victim.

        Of one that was logged long ago only the log tells: its PID may be another's by now.
        """
        inode = None if fact.id is None or self._cgroup_root is None else _inode(self._cgroup_root + fact.id.container_path)
        victim = fact.victim
        if not fact.is_late:
            victim = self._with_limit(victim)
            if not fact.has_foreign_pid:
                victim = self._with_pids(victim, fact.kill)
            if fact.id is not None and victim.pid is not None:
                is_init = self._is_init(fact.container, inode, victim.pid)
                if is_init is not None:
                    victim = replace(victim, is_init=is_init, namespace_pid=1 if is_init else victim.namespace_pid)
        return replace(fact, inode=inode, victim=victim)

    def _with_limit(self, victim: Victim) -> Victim:
        """Add the limit that was hit, where the log has no line for it."""
        if victim.limit_bytes is not None or victim.usage_bytes is not None or not victim.limit_of or self._cgroup_root is None:
            return victim
        try:
            return replace(victim, limit_bytes=parse_once(f"{self._cgroup_root}{victim.limit_of}/memory.max", single))
        except (ReadError, ValueError):  # ValueError: a NUL, which no path has
            return victim

    def _with_pids(self, victim: Victim, kill: OomKill) -> Victim:
        """Add the pid of the process and that in its own namespace; the victim is dying or a zombie (/proc/PID/status Tgid, NStgid).

        The log may name a thread, whose status is there under its own number. Another name or user: it is another process by now.
        """
        if kill.pid is None or has_first_pids(self._proc_root) is False:  # as in the node of a kind cluster, which is a container
            return victim
        try:
            status = parse_once(f"{self._proc_root}/{kill.pid}/status", Status)
            is_other = status.name != kill.comm or (None not in (kill.uid, status.uid) and status.uid != kill.uid)
            pid, inside = status.process, status.namespace_processes or status.namespace_pids
        except (ReadError, ValueError):
            return victim
        if is_other or pid is None:
            return victim
        return replace(victim, pid=pid, namespace_pid=inside[-1], is_init=inside[-1] == 1) if inside else replace(victim, pid=pid)


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except (OSError, ValueError):  # ValueError: a NUL, which no path has
        return None
