"""/proc/PID/status, the one parser of it (Documentation/filesystems/proc.rst 1.1; fs/proc/array.c). It waits for no memory lock."""

import re
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_SIGNALS = re.compile(rb"SigBlk:\t([0-9a-f]+)\nSigIgn:\t([0-9a-f]+)\nSigCgt:\t([0-9a-f]+)\n")


class Status:
    """One process as /proc/PID/status tells of it. A field is looked for when it is asked for: of some fifty lines few are wanted.

    Each raises ValueError for a line that is not as documented, the constructor for a file that is cut short.
    """

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        if not raw.startswith(b"Name:\t") or not raw.endswith(b"\n"):
            raise ValueError("cut short")
        self._raw = raw

    @property
    def name(self) -> bytes:
        r"""What the process calls itself. The kernel writes `\n` for a newline and `\\` for a backslash, so no name looks like a line."""
        name = self._raw[6 : self._raw.index(b"\n")]
        return name.replace(rb"\\", b"\0").replace(rb"\n", b"\n").replace(b"\0", b"\\") if b"\\" in name else name

    @property
    def process(self) -> int | None:
        """PID of the process, also in the status of one of its threads (Tgid)."""
        return self._field(b"Tgid", int)

    @property
    def uid(self) -> int | None:
        """Real user id in the reader's user namespace (the first number of Uid)."""
        return self._field(b"Uid", lambda value: int(value.split()[0]))

    @property
    def namespace_pids(self) -> tuple[int, ...]:
        """PIDs from the namespace of this /proc inward (NSpid, of a thread its own number); () before kernel 4.1.

        The init of its own namespace has 1 as the last one; two processes with equally many are equally deep.
        """
        return self._field(b"NSpid", _numbers) or ()

    @property
    def namespace_processes(self) -> tuple[int, ...]:
        """The same of the process, also in the status of a thread (NStgid)."""
        return self._field(b"NStgid", _numbers) or ()

    @property
    def state(self) -> bytes | None:
        """The letter of proc_pid_stat(5); Z also of a leader that has ended before its other threads."""
        return self._field(b"State", lambda value: value.split()[0])

    @property
    def threads(self) -> int | None:
        """Its threads (Threads); a zombie has 1."""
        return self._field(b"Threads", int)

    @property
    def signals(self) -> tuple[int, int, int] | None:
        """Signals that are blocked, ignored and caught, as masks of bits n-1 (SigBlk, SigIgn, SigCgt: always three lines in a row).

        What is blocked is so in the main thread, waits until it is unblocked or fetched, and is not in the mask while the thread sits in
        sigwait(3) for it (kernel/signal.c do_sigtimedwait).
        """
        start = self._raw.find(b"\nSigBlk:") + 1
        if not start:
            return None
        found = _SIGNALS.match(self._raw, start)
        if found is None:
            raise ValueError("no masks behind SigBlk")
        return int(found[1], 16), int(found[2], 16), int(found[3], 16)

    @property
    def rss_kib(self) -> int | None:
        """Resident memory in KiB (VmRSS); None of one that has ended, or of a kernel thread: it holds none."""
        return self._field(b"VmRSS", _kib)

    @property
    def swap_kib(self) -> int | None:
        """Swapped memory in KiB (VmSwap)."""
        return self._field(b"VmSwap", _kib)

    @property
    def page_tables_kib(self) -> int | None:
        """Page tables in KiB (VmPTE)."""
        return self._field(b"VmPTE", _kib)

    @property
    def effective_capabilities(self) -> int | None:
        """Bit mask of the capabilities in effect, of the main thread, in the process's own user namespace (CapEff)."""
        return self._field(b"CapEff", _hexadecimal)

    @property
    def no_new_privileges(self) -> int | None:
        """1 if execve(2) can give it no more privileges (NoNewPrivs), else 0; None before kernel 4.10."""
        return self._field(b"NoNewPrivs", int)

    @property
    def seccomp(self) -> int | None:
        """How system calls are restricted: 0 not, 1 strict, 2 by a filter (Seccomp); None of a kernel without CONFIG_SECCOMP."""
        return self._field(b"Seccomp", int)

    def _field(self, key: bytes, parse: Callable[[bytes], T]) -> T | None:
        start = self._raw.find(b"\n" + key + b":")
        if start < 0:
            return None
        start += len(key) + 2
        try:
            return parse(self._raw[start : self._raw.index(b"\n", start)])
        except IndexError as error:
            raise ValueError(f"no value for {key.decode()}") from error


def namespace_pids(raw: bytes) -> tuple[int, ...]:
    """Return Status.namespace_pids of the content of the file. Raises ValueError."""
    return Status(raw).namespace_pids


def _numbers(value: bytes) -> tuple[int, ...]:
    return tuple(map(int, value.split()))


def _hexadecimal(value: bytes) -> int:
    return int(value, 16)


def _kib(value: bytes) -> int:
    number, unit = value.split()
    if unit != b"kB":
        raise ValueError("not in kB")
    return int(number)
