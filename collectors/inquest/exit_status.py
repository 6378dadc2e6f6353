"""Which of the exit statuses that were told to believe, and whether it says for sure what ended the init. Pure.

A wait status tells a signal from an exit. Runtimes say 128 + signal, which a program may also exit with: a shell that exits 137 because its
child was killed looks like one that was killed itself.
"""

import signal as signals
from collections.abc import Iterable
from dataclasses import dataclass, replace

from collectors.inquest.facts import Exited

FAULTS = (4, 5, 6, 7, 8, 11, 31)
"""ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS: what a process dies of by its own doing."""

_FAULTS_OF_INIT = (4, 5, 7, 8, 11)
"""Of those what a code may mean: abort() in PID 1 ends as SEGV, for the kernel discards its ABRT, so 134 was chosen by a program."""

_ORDER = ("reaped", "zombie", "runtime", "kubelet", "inspect")
LAST_SIGNAL = 64
_CORE = 0x80


@dataclass(frozen=True, slots=True)
class Exit:
    """How the init ended."""

    how: str
    """How that was learnt: Exited.how."""
    time: float
    code: int
    """As runtimes spell it: 128 + signal for a signal."""
    signal: int | None
    is_exact: bool
    """It has one meaning only: a runtime's code beyond 128 has two."""
    has_core: bool = False

    @property
    def is_sigkill(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.signal == signals.SIGKILL

    @property
    def may_be_sigkill(self) -> bool:
        """Whether SIGKILL ended it, or it exited with 137: which of them was not told."""
        return self.is_sigkill or (self.code == 128 + signals.SIGKILL and not self.is_exact)

    @property
    def behind(self) -> int | None:
        """The signal that a code beyond 128 stands for, be it the init's own or that of a child that it mirrors."""
        return self.code - 128 if 0 < self.code - 128 <= LAST_SIGNAL else None


def name_of(number: int) -> str:
    """Name a signal, as `kill -l` does."""
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - 34}" if 34 < number < LAST_SIGNAL else f"signal {number}"


def believed(told: Iterable[Exited]) -> Exit | None:
    """Return the most reliable of what was told; None if nothing was that says how it ended."""
    found = [(fact, ended) for fact in told if (ended := _read(fact)) is not None]
    if not found:
        return None
    return min(found, key=lambda each: (_ORDER.index(each[0].how), each[0].status is None, each[0].time, repr(each[0])))[1]


def resolved(ended: Exit, *, is_kill_told: bool) -> Exit:
    """Return it with the signal that an inexact code stands for, where something else says so: for 137 that SIGKILL was sent."""
    behind = None if ended.is_exact else ended.behind
    if behind in _FAULTS_OF_INIT or (behind == signals.SIGKILL and is_kill_told):
        return replace(ended, signal=behind)
    return ended


def _read(fact: Exited) -> Exit | None:
    if fact.how not in _ORDER:
        return None
    if fact.status is not None:
        return _of_status(fact, fact.status)
    if fact.how == "kubelet" and fact.signal and 0 < fact.signal <= LAST_SIGNAL:
        return Exit(fact.how, fact.time, 128 + fact.signal, fact.signal, is_exact=True)
    if fact.code is None or not 0 <= fact.code <= 0xFFFFFFFF:
        return None
    return Exit(fact.how, fact.time, fact.code, None, is_exact=not 0 < fact.code - 128 <= LAST_SIGNAL)


def _of_status(fact: Exited, status: int) -> Exit | None:
    """Take a wait status apart (bits/waitstatus.h)."""
    if not 0 <= status <= 0xFFFF:
        return None
    number = status & 0x7F
    if number == 0:
        return Exit(fact.how, fact.time, status >> 8, None, is_exact=True)
    if number > LAST_SIGNAL or status >> 8:  # stopped or continued, not ended
        return None
    return Exit(fact.how, fact.time, 128 + number, number, is_exact=True, has_core=bool(status & _CORE))
