"""Reading kernel files: one open descriptor per file, and the one place that says what a failed read means.

Kernel pseudo-files have no size, so they are read whole; `pread(fd, n, 0)` on a kept descriptor gives fresh content every time and costs
a fifth of open, read and close (Documentation/admin-guide/cgroup-v2.rst; fs/kernfs/file.c).
"""

import errno
import os
import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_BUFFER = 16384
_SMALL_BUFFER = 479
"""Most files fit, and Python makes so small an object quicker (Objects/obmalloc.c: 512 bytes with what bytes have before them)."""
_OTHERS = 512
"""Descriptors for connections, files that are read once, and all else."""
_RETRY_ABSENT_AFTER = 60
"""Reads of a file that the kernel does not have before it is looked for again: a controller may be enabled later."""
_ANEW_AFTER = 30
"""Passes after which an announced file is read although nothing was announced: who has another mount of the hierarchy, as in a cgroup
namespace, writes unheard (fs/kernfs/mount.c: another superblock), and a controller may be switched off and on. For the same reason one that
has changed is read in the next pass, too: what a runtime in a container writes, it writes when it has just made the cgroup."""
_UNTIL_CHANGED = 1 << 62


class ReadError(Exception):
    """A kernel file could not be read. The subclass says what that means; the message says where and what to do."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path


class Gone(ReadError):
    """What the file described has ended: its directory is gone too. Normal, never logged."""


class Unsupported(ReadError):
    """The kernel, or its configuration, does not have this file, though what it describes is there. The value is absent."""


class Malformed(ReadError):
    """The content is not what the kernel documents, or it is cut short."""


class Forbidden(ReadError):
    """The agent lacks the privilege to read it; the message names the remedy."""


def explain(error: OSError, path: str) -> ReadError:
    """Turn an errno into one of the four outcomes (or a plain ReadError for what has no fifth name, such as EIO).

    kernfs says ENODEV on a kept descriptor of a removed cgroup and ENOENT on opening one; procfs says ESRCH for a reaped process.
    ENOENT alone does not tell a file that this kernel lacks from a directory that has just been removed, so the directory is asked.
    """
    detail = os.strerror(error.errno or 0)
    match error.errno:
        case errno.ENOENT | errno.ENODEV:
            return (Unsupported if os.path.isdir(os.path.dirname(path)) else Gone)(path, detail)
        case errno.ESRCH | errno.ENOTDIR:
            return Gone(path, detail)
        case errno.EOPNOTSUPP:
            return Unsupported(path, f"{detail}: switched off in this kernel's configuration")
        case errno.EACCES | errno.EPERM:
            return Forbidden(path, f"{detail}: run the agent as root, in a container with the capabilities of deploy/README.md")
    return ReadError(path, detail)


def read_once(path: str) -> bytes:
    """Read a whole kernel file that is not worth a kept descriptor. Raises ReadError."""
    try:
        return read_whole(path)
    except OSError as error:
        raise explain(error, path) from error


def parse_once(path: str, parse: Callable[[bytes], T]) -> T:
    """Return `parse(content)` of a file that is not worth a kept descriptor; its ValueError becomes Malformed. Raises ReadError."""
    raw = read_once(path)
    try:
        return parse(raw)
    except ValueError as error:
        raise Malformed(path, f"not the documented format ({error}): {raw[:80]!r}") from error


def read_whole(path: str) -> bytes:
    """Read a whole kernel file, also a list that comes in pieces. Raises OSError."""
    fd = os.open(path, FLAGS)
    try:
        return _read_on(fd, b"")
    finally:
        os.close(fd)


def read_all(fd: int) -> bytes:
    """Read a file of one record, which fills the buffer or is complete; a list (such as cgroup.procs) would be cut after a page."""
    raw = os.pread(fd, _BUFFER, 0)
    return raw if len(raw) < _BUFFER else _read_on(fd, raw)


def _read_on(fd: int, raw: bytes) -> bytes:
    while piece := os.pread(fd, _BUFFER, len(raw)):
        raw += piece
    return raw


class _File:
    """One kept descriptor (-1: none) or watch (0: none), with the hash of the last content and what it was parsed to.

    The hash is Python's, of 64 bits with a key of this process: nobody can write what has that of something else. The content, 1.5 KiB of
    memory.stat alone, need not be kept.
    """

    __slots__ = ("absent_reads", "buffer", "fd", "hash", "read_in", "value", "watch")

    def __init__(self) -> None:
        self.fd = -1
        self.watch = 0
        self.buffer = _SMALL_BUFFER
        self.hash: int | None = None
        self.value: Any = None
        self.read_in = 0
        self.absent_reads = 0


def descriptor_budget(part: float) -> int:
    """Return a part of the descriptors that this process may keep, all but some; the soft limit is raised to the hard one first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return int((hard - min(hard // 8, _OTHERS)) * part)


class Changes(Protocol):
    """Tells which files have changed."""

    def watch(self, path: str) -> int:
        """Tell of its changes from now on, under this number; 0 if that cannot be done."""
        ...

    def forget(self, watch: int) -> None:
        """Tell no more of this one."""
        ...

    def take(self) -> Sequence[int] | None:
        """Return the numbers of those that have changed since the last call; None: it may be any."""
        ...

    def close(self) -> None:
        """Tell of nothing any more."""
        ...


class KernelFiles:
    """Kept descriptors of the files of many directories. Used by one thread at a time.

    When `limit` descriptors are open, further files are opened, read and closed: a pass reads all files in turn, so evicting the
    least recently used one would throw out exactly the file that is needed next. Each costs 5 KiB of the kernel's memory, which counts as
    the agent's (kernfs, a buffer of a page): so of files whose changes are announced none is kept where `changes` tells of them.
    """

    def __init__(self, limit: int, changes: Changes | None = None) -> None:
        self._limit = limit
        self._changes = changes
        self._watched: dict[int, _File] = {}
        self._open = 0
        self._pass = 0
        self._directories: dict[str, dict[str, _File]] = {}
        self._inodes: Mapping[str, int] = {}

    def __len__(self) -> int:
        return self._open

    def begin_pass(self, inodes: Mapping[str, int]) -> None:
        """Begin a pass over the directories that are there, with their inodes; from now on each file is read once until the next.

        What is kept of others is let go, and of one that was made anew. Before the first pass a file is read whenever it is asked for.
        """
        self._pass += 1
        self._let_go([each for each in self._directories if each not in inodes or inodes[each] != self._inodes.get(each)])
        self._inodes = inodes
        changed = self._changes.take() if self._changes is not None else ()
        for file in self._watched.values() if changed is None else filter(None, map(self._watched.get, changed)):
            file.read_in = 0
        for files in islice(self._directories.values(), self._pass % _ANEW_AFTER, None, _ANEW_AFTER):
            for file in files.values():
                file.read_in = 0

    def parsed(self, directory: str, name: str, parse: Callable[[bytes], T], *, again: bool = False, is_announced: bool = False) -> T:
        """Return `parse(content)` of directory/name; unchanged content is not parsed again.

        `again`: it is read although this pass has read it. `is_announced`: inotify tells of each change, because only writes change it
        (settings), or because the kernel says so (events: cgroup-v2.rst, "a file modified event").
        `parse` raises ValueError for content it does not understand, which becomes Malformed with the path. Raises ReadError.
        """
        try:
            file = self._directories[directory][name]
        except KeyError:
            file = self._directories.setdefault(directory, {})[name] = _File()
        if file.read_in < self._pass or again or not self._pass:
            if is_announced and file.fd < 0 and not file.absent_reads:
                self._watch(file, f"{directory}/{name}")
            raw = self._read(file, directory, name)
            is_same = hash(raw) == file.hash
            if not is_same:
                file.read_in = 0
                try:
                    file.value = parse(raw)
                except (ValueError, LookupError, ArithmeticError) as error:
                    raise Malformed(f"{directory}/{name}", f"not the documented format ({error}): {raw[:80]!r}") from error
                file.hash = hash(raw)
            file.read_in = _UNTIL_CHANGED if file.watch and is_same else self._pass
        value: T = file.value
        return value

    def is_closed_everywhere(self, name: str) -> bool:
        """Whether several files of this name were asked for, and none was ever read: that is no single owner's doing."""
        files = [files[name] for files in self._directories.values() if name in files]
        return len(files) > 1 and all(file.hash is None for file in files)

    def remembered(self, directory: str, name: str) -> Any:
        """Return what directory/name was parsed to last, None if it never was; it may be gone since, but for retain()."""
        file = self._directories.get(directory, {}).get(name)
        return None if file is None else file.value

    def close(self) -> None:
        """Close everything."""
        self._let_go(list(self._directories))
        if self._changes is not None:
            self._changes.close()

    def _read(self, file: _File, directory: str, name: str) -> bytes:
        if file.fd >= 0:
            try:
                raw = os.pread(file.fd, file.buffer, 0)
                if len(raw) < file.buffer:
                    return raw
                file.buffer = _BUFFER
                return read_all(file.fd)
            except OSError as error:
                self._close(file)
                # ENODEV is also how a file of a living cgroup ends when its controller is switched off and on again: open it anew.
                if error.errno not in (errno.ENODEV, errno.ESRCH):
                    raise explain(error, f"{directory}/{name}") from error
        return self._open_and_read(file, f"{directory}/{name}")

    def _open_and_read(self, file: _File, path: str) -> bytes:
        if file.absent_reads:
            file.absent_reads -= 1
            raise Unsupported(path, "this kernel does not have the file")
        try:
            fd = self._open_file(path)
            try:
                raw = read_all(fd)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            outcome = explain(error, path)
            if isinstance(outcome, Unsupported):
                file.absent_reads = _RETRY_ABSENT_AFTER
            raise outcome from error
        if self._open < self._limit and not file.watch:
            file.fd = fd
            file.buffer = _SMALL_BUFFER if len(raw) < _SMALL_BUFFER else _BUFFER
            self._open += 1
        else:
            os.close(fd)
        return raw

    def _open_file(self, path: str) -> int:
        try:
            return os.open(path, FLAGS)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            # Someone else needs descriptors more than this cache does: give all back and keep none from here on.
            self._let_go(list(self._directories))
            self._limit = 0
            return os.open(path, FLAGS)

    def _let_go(self, directories: Iterable[str]) -> None:
        for directory in directories:
            for file in self._directories.pop(directory).values():
                self._close(file)
                self._unwatch(file)

    def _close(self, file: _File) -> None:
        if file.fd >= 0:
            os.close(file.fd)
            self._open -= 1
            file.fd = -1

    def _watch(self, file: _File, path: str) -> None:
        """Have changes told of before it is read, so that none is missed; a file that was made anew has another watch."""
        watch = self._changes.watch(path) if self._changes is not None else 0
        if watch != file.watch:
            self._unwatch(file)
            file.watch = watch
            if watch:
                self._watched[watch] = file

    def _unwatch(self, file: _File) -> None:
        if file.watch and self._changes is not None:
            self._changes.forget(file.watch)
            del self._watched[file.watch]
        file.watch = 0
