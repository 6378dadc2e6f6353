"""Watches inits by their pidfds in the event loop, and says how each ended."""

import asyncio
import contextlib
import errno
import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from agent.supervise import Blind
from collectors.kernel import pidfd
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.container_init import Init
from collectors.kernel.files import FLAGS, ReadError, parse_once
from collectors.kernel.hidepid import may_ptrace
from collectors.kernel.process_stat import parse_stat
from collectors.kernel.process_status import namespace_pids

_STAT_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Ended:
    """An init has ended, `time` in seconds of the wall clock. `how` is None if its status was gone by then."""

    container: ContainerKey
    inode: int
    time: float
    how: Literal["reaped", "zombie"] | None
    status: int | None


@dataclass(slots=True)
class _Watched:
    container: ContainerKey
    inode: int
    fd: int
    stat: int
    """A descriptor of /proc/PID/stat."""
    is_permitted: bool
    time: float | None = None
    """When it ended."""
    zombie_status: int | None = None


class ExitWatch:
    """Watches at most `most` inits, by the inodes of their containers' cgroups. `ended` is called once for each, in the event loop."""

    def __init__(self, proc_root: str, *, most: int, ended: Callable[[Ended], None], wall: Callable[[], float]) -> None:
        self._proc_root = proc_root
        self._most = most
        self._ended = ended
        self._wall = wall
        self._may_ptrace = False
        self._epoll: select.epoll | None = None
        self._watched: dict[int, _Watched] = {}
        self._inodes: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether it may be used."""
        return self._epoll is not None

    def open(self) -> None:
        """Begin to watch. Raises OSError."""
        with contextlib.suppress(ReadError):
            self._may_ptrace = may_ptrace(self._proc_root)
        # One of its own: what was waited for stays readable, and asyncio's could not be told to leave that out.
        self._epoll = select.epoll()
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._wake)

    def close(self) -> None:
        """Watch no more."""
        if self._epoll is not None:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._epoll = None
        for watched in self._watched.values():
            os.close(watched.stat)
            os.close(watched.fd)
        self._watched.clear()
        self._inodes.clear()

    def has(self, inode: int) -> bool:
        """Whether the init of this life of a container is watched."""
        return inode in self._inodes

    def begin(self, container: ContainerKey, inode: int, init: Init) -> bool:
        """Watch an init; false if its PID is another process' by now, or nobody's. Raises OSError (EMFILE) when no more can be watched."""
        if self._epoll is None or inode in self._inodes:
            return False
        if len(self._watched) >= self._most:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with contextlib.ExitStack() as stack:
            try:
                fd = os.pidfd_open(init.pid)
                stack.callback(os.close, fd)
                stat = os.open(f"{self._proc_root}/{init.pid}/stat", FLAGS)
                stack.callback(os.close, stat)
                raw = os.pread(stat, _STAT_BYTES, 0)
                if parse_stat(raw).start_time != init.start_time:
                    return False
                is_permitted = self._may_ptrace and pidfd.is_permitted(raw)
            except ValueError:
                return False
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise
                return False
            self._epoll.register(fd, select.EPOLLIN)
            stack.pop_all()
        self._watched[fd] = _Watched(container, inode, fd, stat, is_permitted)
        self._inodes.add(inode)
        return True

    def _wake(self) -> None:
        if self._epoll is None:
            return
        woken = [watched for fd, _ in self._epoll.poll(0) if (watched := self._watched.get(fd)) is not None]
        # First of all, of each: the runtimes are being woken too.
        for watched in woken:
            if watched.time is None:
                watched.zombie_status = _zombie_status(watched)
        for watched in woken:
            if watched.time is None:
                watched.time = self._wall()
                self._epoll.modify(watched.fd, 0)  # from now on POLLHUP alone (6.9: it was waited for), because POLLIN stays
            self._look(watched)

    def _look(self, watched: _Watched) -> None:
        told = pidfd.info(watched.fd)
        if told is not None and told.exit_status is not None:
            self._end(watched, "reaped", told.exit_status)
        elif watched.zombie_status is not None:
            self._end(watched, "zombie", watched.zombie_status)
        elif told is None or told.is_reaped:
            self._end(watched, None, None)
        # Else nobody has waited for it yet: POLLHUP comes when somebody does.

    def _end(self, watched: _Watched, how: Literal["reaped", "zombie"] | None, status: int | None) -> None:
        del self._watched[watched.fd]
        self._inodes.discard(watched.inode)
        if self._epoll is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(watched.fd)
        os.close(watched.stat)
        os.close(watched.fd)
        self._ended(Ended(watched.container, watched.inode, self._wall() if watched.time is None else watched.time, how, status))


def require_pidfds(proc_root: str) -> None:
    """Raise Blind unless the PIDs of this /proc can be watched."""
    try:
        own = parse_once(f"{proc_root}/self/status", namespace_pids)
    except ReadError as error:
        raise Blind(f"{error}; set --path.procfs to where the procfs of the agent's PID namespace is mounted") from error
    if len(own) > 1:
        raise Blind(
            f"{proc_root} is not that of the agent's PID namespace, so its PIDs are of no use: run the agent in that of the node "
            "(hostPID: true, --pid=host)"
        )
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        remedy = "it needs Linux 5.3" if error.errno == errno.ENOSYS else "allow it in the seccomp profile"
        raise Blind(f"pidfd_open: {os.strerror(error.errno or 0)}; {remedy}") from error


def _zombie_status(watched: _Watched) -> int | None:
    try:
        return pidfd.zombie_status(os.pread(watched.stat, _STAT_BYTES, 0), is_permitted=watched.is_permitted)
    except (OSError, ValueError):  # ESRCH: it was waited for
        return None
