"""The conditions on how it ended that the rules for causes are made of: a function each, true where that is known. Pure."""

import signal as signals

from collectors.inquest.case import AT_THE_END, Case
from collectors.inquest.exit_status import FAULTS
from collectors.inquest.facts import OomVictim

_OF_STOPS = (signals.SIGTERM, signals.SIGINT, signals.SIGQUIT)


def never(_: Case) -> bool:
    """Not known, or the rule would not hold."""
    return False


def has_status(case: Case) -> bool:
    """The exit status is known."""
    return case.end is not None


def has_no_status(case: Case) -> bool:
    """The exit status is not known."""
    return case.end is None


def exit_is_exact(case: Case) -> bool:
    """The exit status means one thing only."""
    return case.end is not None and case.end.is_exact


def may_be_sigkill(case: Case) -> bool:
    """SIGKILL ended it, or it exited with 137."""
    return case.end is not None and case.end.may_be_sigkill


def sigkill_or_no_status(case: Case) -> bool:
    """SIGKILL ended it; of an end just after the OOM kill that needs no status: the kernel logs no victim that is ending already."""
    if case.end is not None:
        return case.end.is_sigkill
    return case.init_victim is not None and case.ended is not None and case.init_victim.time >= case.ended - AT_THE_END


def ended_by_sigkill(case: Case) -> bool:
    """SIGKILL ended it."""
    return case.end is not None and case.end.is_sigkill


def ended_by_signal(case: Case) -> bool:
    """A signal ended it."""
    return case.end is not None and case.end.signal is not None


def ended_by_fault(case: Case) -> bool:
    """A fault ended it."""
    return case.end is not None and case.end.signal in FAULTS


def fault_is_sure(case: Case) -> bool:
    """The status is exact, or the kernel logged the fault."""
    return exit_is_exact(case) or fault_logged(case)


def mirrors_fault(case: Case) -> bool:
    """It exited with the code that shells and small inits give for a fault of their child."""
    return case.end is not None and case.end.signal is None and case.end.behind in FAULTS


def no_fault_mirrored(case: Case) -> bool:
    """Its code is not that of a fault."""
    return not mirrors_fault(case)


def fault_logged(case: Case) -> bool:
    """The kernel logged a fault of one of its processes near the end, as far as is told with the signal that it ended with."""
    return case.end is not None and any(fault.signal in (None, case.end.behind) for fault in case.faults)


def init_faulted(case: Case) -> bool:
    """The kernel logged a fault of its init: it is printed where nothing handles the signal."""
    return any(case.is_init(fault) for fault in case.faults)


def mirrors_oom_kill(case: Case) -> bool:
    """It exited with 137, as its child was killed by the OOM killer."""
    return mirrored_oom_victim(case) is not None


def mirrored_oom_victim(case: Case) -> OomVictim | None:
    """Return the child whose OOM kill its init mirrors with exit code 137, the last of several; None if it does not."""
    if case.end is None or case.end.signal is not None or case.end.behind != signals.SIGKILL or case.ended is None:
        return None
    near = [victim for victim in case.victims if victim.time >= case.ended - AT_THE_END]
    return near[-1] if near else None


def code_is_zero(case: Case) -> bool:
    """It exited with 0."""
    return case.end is not None and case.end.code == 0


def code_is_of_stop_signal(case: Case) -> bool:
    """It exited with 128 + a signal that stops are asked for with."""
    return case.end is not None and case.end.behind in (*_OF_STOPS, case.settings.signal) and case.end.behind is not None


def init_was_oom_victim(case: Case) -> bool:
    """The OOM killer took its init."""
    return case.init_victim is not None


def group_was_oom_killed(case: Case) -> bool:
    """The kernel counted the kill of a whole memory.oom.group, and its log told of no victim."""
    return not case.victims and case.memory is not None and bool(case.memory.oom_group_kill)


def oom_possible(case: Case) -> bool:
    """The OOM killer may have taken its init."""
    return not case.is_oom_excluded


def no_kill_told(case: Case) -> bool:
    """Nobody told of a SIGKILL that was sent."""
    return case.kill is None


def oom_excluded_or_kill_told(case: Case) -> bool:
    """Where a SIGKILL came from is no question."""
    return case.is_oom_excluded or case.kill is not None
