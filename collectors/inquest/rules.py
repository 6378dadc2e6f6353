"""Why a container ended: the rules, in the order in which they are tried. The first that holds decides. Pure.

A rule needs all its conditions. What it wants and lacks is told as missing: the verdict without a missing fact is certain, one with some
may be another's once they are known, and `unknown` is for those that would be a guess.
"""

from collections.abc import Callable
from dataclasses import dataclass

from collectors.inquest import conditions as c
from collectors.inquest import stop_conditions as s
from collectors.inquest.case import Case

Condition = Callable[[Case], bool]

STATUS = "exit status"
EXACT = "exact exit status"
STOP = "stop request"
SETTINGS = "stop settings"
GRACE = "grace period"
SIGNALS = "signals sent"
OOM = "OOM kills"
VICTIM = "OOM victim"
FAULT = "faults in the kernel log"


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to end."""

    name: str
    cause: str
    needs: tuple[Condition, ...]
    wants: tuple[tuple[str, Condition], ...] = ()
    """What would make it certain: what it is called, and whether it is known."""

    def holds(self, case: Case) -> bool:
        """Whether all that it needs is so."""
        return all(condition(case) for condition in self.needs)

    def missing(self, case: Case) -> tuple[str, ...]:
        """Name what it wants and is not known."""
        return tuple(name for name, condition in self.wants if not condition(case))


RULES = (
    # The OOM killer comes first: a stop in progress stays evidence.
    Rule("oom-of-init", "oom_kill", (c.init_was_oom_victim, c.sigkill_or_no_status), ((STATUS, c.has_status),)),
    Rule("fault-of-init", "crashed", (c.has_no_status, c.init_faulted), ((STATUS, c.has_status),)),
    Rule("no-status", "unknown", (c.has_no_status,), ((STATUS, c.has_status), (STOP, s.knows_of_stops))),
    Rule("oom-of-group", "oom_kill", (c.group_was_oom_killed, c.may_be_sigkill, c.no_kill_told), ((VICTIM, c.never),)),
    # Faults, of its own or of a child that it mirrors.
    Rule("fault", "crashed", (c.ended_by_fault,), ((EXACT, c.fault_is_sure),)),
    Rule("fault-of-child", "crashed", (c.mirrors_fault, c.fault_logged)),
    # A stop that was asked for for certain.
    Rule("stop-then-kill", "forced_kill", (s.stop_signal_is_milder, c.ended_by_sigkill, s.kill_told)),
    Rule("stop-until-deadline", "forced_kill", (s.deadline_passed, c.may_be_sigkill), ((EXACT, c.exit_is_exact),)),
    Rule("stop-or-oom", "unknown", (s.stop_asked, c.may_be_sigkill, c.no_kill_told, c.oom_possible), ((OOM, c.never),)),
    Rule("stop-without-grace", "unknown", (s.grace_unknown, c.may_be_sigkill), ((GRACE, c.never),)),
    Rule("stop-without-signals", "unknown", (s.stop_signals_unknown, c.may_be_sigkill), ((SIGNALS, c.never),)),
    Rule("stop", "stopped", (s.stop_asked,), ((SIGNALS, s.sigkill_is_explained),)),
    # A stop signal, and nobody who says whose.
    Rule("stop-signal", "stopped", (s.within_grace, s.ended_by_itself), ((SETTINGS, s.has_settings), (STOP, s.watched))),
    Rule("stop-signal-then-kill", "forced_kill", (s.killed_after_grace, s.unwatched), ((STOP, c.never),)),
    # A signal, and no stop.
    Rule("signal-unwatched", "unknown", (c.ended_by_signal, s.unwatched), ((STOP, c.never), (OOM, c.oom_excluded_or_kill_told))),
    Rule("signal-or-oom", "unknown", (c.ended_by_sigkill, c.no_kill_told, c.oom_possible), ((OOM, c.never),)),
    Rule("signal", "killed", (c.ended_by_signal,)),
    Rule("kill-or-exit", "unknown", (c.may_be_sigkill,), ((EXACT, c.never), (STOP, s.watched), (OOM, c.oom_excluded_or_kill_told))),
    # It ended by itself, as far as is known.
    Rule("signal-of-unknown-use", "unknown", (s.settings_matter,), ((SETTINGS, c.never),)),
    Rule("code-of-a-stop", "unknown", (c.code_is_of_stop_signal, s.unwatched), ((STOP, c.never),)),
    Rule("oom-of-child", "error", (c.mirrors_oom_kill,), ((STOP, s.watched),)),
    Rule("success", "completed", (c.code_is_zero,), ((STOP, s.watched),)),
    Rule("failure", "error", (), ((EXACT, c.exit_is_exact), (STOP, s.watched), (FAULT, c.no_fault_mirrored))),
)
"""The last of them holds whenever no other does."""
