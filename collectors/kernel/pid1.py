"""PID 1 of a PID namespace: what it is by its name, and what becomes of a signal that is sent to it.

It gets no signal whose action is the default one, whoever sends it, but SIGKILL and SIGSTOP from outside: the kernel discards it
(kernel/signal.c sig_task_ignored). So SIGTERM reaches one that catches it, or has it blocked and fetches it, and no other.
/proc/PID/status tells, and what it sleeps in (sleeps.py).
"""

import signal
from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

from collectors.kernel.process_status import Status

INITS = frozenset(
    b"catatonit circusd dinit docker-init dumb-init finit init my_init nosh openrc-init podman-init runit runsvdir s6-linux-init s6-svscan "
    b"supervisord systemd tini tini-static".split()
)
SHELLS = frozenset(b"ash bash busybox csh dash docker-entrypoi fish hush ksh ksh93 mksh oksh rbash sh tcsh toybox yash zsh".split())
"""A script has the name of its file, not of its shell, and the kernel keeps 15 bytes of it: docker-entrypoint.sh."""

_AWAIT = frozenset((b"catatonit", b"docker-init", b"podman-init", b"tini", b"tini-static"))
"""Inits that sit in sigtimedwait(2), for where the kernel does not say so, and for when they have just woken."""
_RAISE_AGAIN = frozenset((b"node", b"nodejs"))
"""Node.js always catches SIGINT and SIGTERM: if the program does not, to give the signal its default back and raise it, which does nothing
to PID 1 (src/node.cc SignalExit). Its masks are the same either way."""

_UNSTOPPABLE = (signal.SIGKILL, signal.SIGSTOP)
_FIRST_REAL_TIME = 34


class Pid1(NamedTuple):
    """What /proc/PID/status tells; a tuple, for one is made per container in each pass."""

    comm: bytes
    pids: tuple[int, ...]
    """NSpid, in this /proc first."""
    is_running: bool
    is_zombie: bool
    signals: tuple[int, int, int] | None
    """Blocked, ignored, caught: bit n-1 is signal n. None where the kernel does not say."""

    @property
    def role(self) -> Literal["init", "shell", "app"]:
        """What it is by its name, and it can give itself any: an init reaps and forwards signals, a shell forwards none."""
        if self.comm in INITS:
            return "init"
        return "shell" if self.comm in SHELLS or self.comm.endswith((b".sh", b".bash")) else "app"

    @property
    def ignores_sigchld(self) -> bool | None:
        """Whether it ignores SIGCHLD: the kernel reaps for it then (kernel/signal.c do_notify_parent). SA_NOCLDWAIT cannot be seen."""
        return None if self.signals is None else _has(self.signals[1], signal.SIGCHLD)

    @property
    def ignores_sigterm(self) -> bool | None:
        """Whether it ignores SIGTERM: bash, dash and busybox do if they are interactive, or after `trap '' TERM`."""
        return None if self.signals is None else _has(self.signals[1], signal.SIGTERM)

    def handles(self, number: int, awaits: Callable[[int], bool | None]) -> bool | None:
        """Whether a signal reaches something in it; None if that cannot be told, or nothing can handle it.

        `awaits` tells of a PID whether it sleeps until a signal comes that it has asked for: what is waited for in sigwait(3) and
        sigtimedwait(2) is in no mask meanwhile.
        """
        if self.signals is None or number in _UNSTOPPABLE:
            return None
        blocked, ignored, caught = self.signals
        if _has(caught, number):
            return None if self.comm in _RAISE_AGAIN else True
        if _has(blocked, number):
            return True
        if _has(ignored, number) or self.role == "shell":  # shells wait in wait(2) and read(2)
            return False
        told = awaits(self.pids[0])
        if told is None and self.comm in _AWAIT:
            return True
        return None if told is None and not self.is_running else bool(told)


def parse_pid1(raw: bytes) -> Pid1:
    """Return what a /proc/PID/status tells. Raises ValueError."""
    status = Status(raw)
    state = status.state
    # Of a dead leader the other threads live on, and catch what it has caught.
    is_zombie = state == b"Z" and status.threads == 1
    return Pid1(status.name, status.namespace_pids, state == b"R", is_zombie, status.signals)


@cache
def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGTERM and SIGRTMIN+3."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - _FIRST_REAL_TIME}"


def _has(mask: int, number: int) -> bool:
    return bool(mask >> (number - 1) & 1)
