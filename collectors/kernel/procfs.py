"""Processes, zombies and PID namespaces from /proc (Documentation/filesystems/proc.rst).

Only files that cannot block on the target's memory lock are opened: stat, status, cgroup and ns/pid. A scan reads one stat per process
from a kept descriptor; a descriptor belongs to one life of a PID, so it can never show another process.
"""

import errno
import os
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from collectors.kernel.files import FLAGS, Gone, Malformed, ReadError, Unsupported, explain, read_all, read_whole
from collectors.kernel.first_pids import INITIAL_PID_NAMESPACE, inode_of, is_own
from collectors.kernel.hidepid import require_sight
from collectors.kernel.process_cgroup import parse_cgroup, rebase
from collectors.kernel.process_stat import Member, Stat, member, parse_stat
from collectors.kernel.process_status import namespace_pids
from collectors.kernel.processes import DAEMON_NAMES, SHIM_NAMES, Entered, Namespace, Processes, RuntimeProcess, Zombie

T = TypeVar("T")

UNKNOWN = "unknown"
"""The PID namespace of a process whose ns/pid may not be read."""

_BUFFER = 1024
"""Longer than any stat: 52 numbers and a name of at most 63 bytes."""

_RUNTIMES = DAEMON_NAMES | SHIM_NAMES


class _Process:
    """A process as last read. Its PID namespace and NSpid never change, so each is read once."""

    __slots__ = ("cgroup", "fd", "inner_parent", "namespace", "namespace_pids", "raw", "stat", "status_fd")

    def __init__(self, raw: bytes) -> None:
        self.fd = self.status_fd = -1
        self.raw = raw
        self.stat = parse_stat(raw)
        self.namespace = UNKNOWN
        self.namespace_pids: tuple[int, ...] | None = None
        self.cgroup: str | None = None
        self.inner_parent = -1  # who is known to be in its namespace

    @property
    def is_zombie(self) -> bool:
        # A dead leader whose other threads live on is also in state Z, but nobody can wait for it yet.
        return self.stat.state == b"Z" and self.stat.threads == 1


class ProcessTable:
    """All processes under one /proc, kept from scan to scan. Used by one thread at a time.

    `cgroup_namespace` is the path at which this process's own cgroup namespace has its root.
    """

    def __init__(self, root: str, limit: int) -> None:
        self._root = root
        self._limit = limit
        self._open = 0
        self._processes: dict[str, _Process] = {}
        self._own_namespace = ""
        self.cgroup_namespace = "/"

    def __len__(self) -> int:
        return self._open

    def scan(self) -> Processes:
        """Read the state of every process. Raises ReadError unless each one was read or has ended: a count of some is a wrong count.

        That is Forbidden where /proc hides those of other users, and where it lists them and they may not be read.
        """
        try:
            pids = [name for name in self._give_way(os.listdir, self._root) if "0" <= name[0] <= "9"]
        except OSError as error:
            raise explain(error, self._root) from error
        require_sight(self._root)
        self._own_namespace = self._own_namespace or self._namespace_of_root()
        for gone in self._processes.keys() - pids:
            self._close(self._processes.pop(gone))
        for pid in pids:
            process = self._refresh(pid, self._processes.get(pid))
            if process is not None:
                self._processes[pid] = process
            else:
                self._processes.pop(pid, None)
        return self._summary()

    def cgroup_of(self, pid: int) -> str | None:
        """Path of the cgroup that a process is in now; None if it has ended, or there is no hierarchy. Raises ReadError."""
        path = self._read_cgroup(str(pid))
        return None if path is None else rebase(path, self.cgroup_namespace)

    def status(self, pid: int) -> bytes:
        """Return /proc/PID/status of a process that the last scan has seen, from a descriptor that is kept.

        Raises ReadError; Gone if it has ended. Where no descriptor is left, another process may have got its number.
        """
        process, path = self._processes.get(str(pid)), f"{self._root}/{pid}/status"
        if process is None:
            raise Gone(path, "not there at the last scan")
        try:
            if process.status_fd < 0 and self._open < self._limit:
                process.status_fd = self._give_way(_open, path)
                self._open += 1
                if process.fd >= 0:
                    os.pread(process.fd, 1, 0)  # ESRCH if it has ended: what was opened may be of another process with its number
            return self._give_way(read_whole, path) if process.status_fd < 0 else read_all(process.status_fd)
        except OSError as error:
            self._close(process)
            raise explain(error, path) from error

    def stat(self, pid: int) -> Stat | None:
        """Return a process as the last scan saw it; None of one that was not there."""
        process = self._processes.get(str(pid))
        return None if process is None else process.stat

    def members(self, namespaces: Collection[str]) -> dict[str, list[Member]]:
        """Return the processes that the last scan found in these PID namespaces, without those that have ended."""
        found: dict[str, list[Member]] = {namespace: [] for namespace in namespaces}
        for pid, process in self._processes.items():
            if process.namespace in found and process.stat.state != b"Z":
                found[process.namespace].append(member(int(pid), process.stat, process.raw))
        return found

    def close(self) -> None:
        """Close every descriptor."""
        for process in self._processes.values():
            self._close(process)
        self._processes = {}

    def _refresh(self, pid: str, process: _Process | None) -> _Process | None:
        if process is not None and process.fd >= 0:
            try:
                raw = os.pread(process.fd, _BUFFER, 0)
                if raw != process.raw:
                    process.raw, process.stat = raw, parse_stat(raw)
            except (OSError, ValueError):
                pass
            else:
                return process
        if process is not None:
            self._close(process)
        return self._first_sight(pid, process)

    def _first_sight(self, pid: str, before: _Process | None) -> _Process | None:
        path = f"{self._root}/{pid}/stat"
        try:
            fd = self._give_way(_open, path)
        except OSError as error:
            _raise_unless_ended(error, path)
            return None
        try:
            process = _Process(os.pread(fd, _BUFFER, 0))
            if before is not None and before.stat.start_time == process.stat.start_time:
                process.namespace, process.namespace_pids, process.cgroup = before.namespace, before.namespace_pids, before.cgroup
            else:
                process.namespace = self._namespace(pid, process)
        except (OSError, ValueError, ReadError) as error:
            os.close(fd)
            _raise_unless_ended(error, path)
            return None
        if self._open < self._limit:
            process.fd = fd
            self._open += 1
        else:
            os.close(fd)
        return process

    def _give_way(self, call: Callable[[str], T], path: str) -> T:
        try:
            return call(path)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # Someone else needs descriptors more than this cache does: give them back and keep none from here on.
            for process in self._processes.values():
                self._close(process)
            self._limit = 0
            return call(path)

    def _namespace_of_root(self) -> str:
        # PID 1 is in the namespace that this /proc was mounted for, and so are an agent with one PID in it and, on a host, kthreadd. Any
        # link but the agent's own may be forbidden.
        for pid in ("1", *(["self"] if is_own(self._root) else []), "2"):
            try:
                return inode_of(os.readlink(f"{self._root}/{pid}/ns/pid"))
            except OSError:
                continue
        return INITIAL_PID_NAMESPACE

    def _namespace(self, pid: str, process: _Process) -> str:
        try:
            return inode_of(os.readlink(f"{self._root}/{pid}/ns/pid"))
        except PermissionError:
            return self._own_namespace if len(self._namespace_pids(pid, process)) == 1 else UNKNOWN
        except FileNotFoundError:
            if not os.path.isdir(f"{self._root}/{pid}"):
                raise  # it has ended
            # A kernel without PID namespaces (CONFIG_PID_NS) has neither the link nor NSpid: all are in the one that there is.
            process.namespace_pids = self._namespace_pids(pid, process) or (int(pid),)
            return self._own_namespace if len(process.namespace_pids) == 1 else UNKNOWN

    def _namespace_pids(self, pid: str, process: _Process) -> tuple[int, ...]:
        if process.namespace_pids is None:
            try:
                process.namespace_pids = self._parsed(f"{self._root}/{pid}/status", namespace_pids)
            except Gone:
                return ()
        return process.namespace_pids

    def _cgroup(self, pid: str, process: _Process) -> str | None:
        path = process.cgroup
        if path is None:
            path = self._read_cgroup(pid)
            if process.is_zombie:  # the living can be moved
                process.cgroup = path
        return None if path is None else rebase(path, self.cgroup_namespace)

    def _read_cgroup(self, pid: str) -> str | None:
        try:
            return self._parsed(f"{self._root}/{pid}/cgroup", parse_cgroup)
        except (Gone, Unsupported):
            return None

    def _parsed(self, path: str, parse: Callable[[bytes], T]) -> T:
        try:
            raw = self._give_way(read_whole, path)
        except OSError as error:
            raise explain(error, path) from error
        try:
            return parse(raw)
        except ValueError as error:
            raise Malformed(path, f"not the documented format ({error}): {raw[:80]!r}") from error

    def _summary(self) -> Processes:
        processes: dict[str, int] = {}
        dead: dict[str, int] = {}
        inits: dict[str, str] = {}
        zombies = []
        runtimes = []
        entered = []
        parents: set[int] = set()
        for pid, process in self._processes.items():
            namespace = process.namespace
            if process.stat.comm in _RUNTIMES and namespace == self._own_namespace:
                runtimes.append((int(pid), process.stat))
            processes[namespace] = processes.get(namespace, 0) + 1
            is_zombie = process.is_zombie
            if is_zombie:
                dead[namespace] = dead.get(namespace, 0) + 1
                zombies.append(self._zombie(pid, process))
            if namespace not in (self._own_namespace, UNKNOWN):
                if not is_zombie:
                    parents.add(process.stat.parent)
                if self._is_init(pid, process):
                    inits[namespace] = pid
                elif process.stat.parent != process.inner_parent and _has_entered(self._processes, process):
                    entered.append(Entered(namespace, self._cgroup(pid, process)))
        namespaces = {name: self._described(count, dead.get(name, 0), inits.get(name), parents) for name, count in processes.items()}
        return Processes(tuple(zombies), namespaces, processes.get(UNKNOWN, 0), _with_children(self._processes, runtimes), tuple(entered))

    def _described(self, processes: int, zombies: int, init: str | None, parents: set[int]) -> Namespace:
        if init is None:
            return Namespace(processes, zombies, None)
        process = self._processes[init]
        return Namespace(processes, zombies, self._cgroup(init, process), self._namespace_pids(init, process), int(init) in parents)

    def _zombie(self, pid: str, process: _Process) -> Zombie:
        parent_pid = str(process.stat.parent)
        parent = self._processes.get(parent_pid)
        parent_is_init = (
            parent is not None
            and self._is_init(parent_pid, parent)
            and len(self._namespace_pids(parent_pid, parent)) == len(self._namespace_pids(pid, process))
        )
        stat = process.stat
        return Zombie(int(pid), stat.start_time, process.namespace, self._cgroup(pid, process), parent_is_init, stat.comm, stat.parent)

    def _is_init(self, pid: str, process: _Process) -> bool:
        return self._namespace_pids(pid, process)[-1:] == (1,)

    def _close(self, process: _Process) -> None:
        for fd in (process.fd, process.status_fd):
            if fd >= 0:
                os.close(fd)
                self._open -= 1
        process.fd = process.status_fd = -1


def _with_children(processes: Mapping[str, _Process], runtimes: list[tuple[int, Stat]]) -> tuple[RuntimeProcess, ...]:
    children: dict[int, list[int]] = {pid: [] for pid, _ in runtimes}
    if children:
        for pid, process in processes.items():
            if process.stat.parent in children:
                children[process.stat.parent].append(int(pid))
    return tuple(RuntimeProcess(pid, stat.start_time, stat.comm, tuple(children[pid])) for pid, stat in runtimes)


def _has_entered(processes: Mapping[str, _Process], process: _Process) -> bool:
    if process.is_zombie:
        return False
    if not process.stat.parent:  # it is outside of the namespace of this /proc, too
        return True
    parent = processes.get(str(process.stat.parent))
    if parent is not None and parent.namespace == process.namespace:
        process.inner_parent = process.stat.parent
        return False
    return parent is not None and parent.namespace != UNKNOWN


def _open(path: str) -> int:
    return os.open(path, FLAGS)


def _raise_unless_ended(error: OSError | ValueError | ReadError, path: str) -> None:
    """Return if the error says that the process has ended; raise ReadError if it says anything else."""
    if isinstance(error, ReadError):
        raise error
    if isinstance(error, ValueError):
        raise Malformed(path, f"not the documented format ({error})") from error
    outcome = explain(error, path)
    if not isinstance(outcome, Gone):  # a file that is missing while its directory is there is no end of a process
        raise outcome from error
