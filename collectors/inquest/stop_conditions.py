"""The conditions on stops that the rules for causes are made of: a function each, true where that is known. Pure."""

import signal as signals

from collectors.inquest.case import Case
from collectors.inquest.conditions import ended_by_sigkill
from collectors.inquest.stops import DEFAULT_GRACE, SECOND

_UNUSUAL_GRACE = 60.0
"""Seconds before the end within which a signal may have been that of a stop, where the settings are not known."""


def watched(case: Case) -> bool:
    """Somebody would have told of a stop."""
    return case.is_watched


def unwatched(case: Case) -> bool:
    """Nobody would have told of a stop."""
    return not case.is_watched


def knows_of_stops(case: Case) -> bool:
    """Whether there was a stop is known."""
    return case.is_watched or case.stop is not None


def stop_asked(case: Case) -> bool:
    """A stop was asked for."""
    return case.stop is not None


def stop_signal_is_milder(case: Case) -> bool:
    """A stop was asked for, with a signal other than SIGKILL."""
    return case.stop is not None and case.stop.signal not in (None, signals.SIGKILL)


def kill_told(case: Case) -> bool:
    """Somebody told of a SIGKILL that was sent."""
    return case.kill is not None


def deadline_passed(case: Case) -> bool:
    """It ended when the grace of a stop had run out, of which no signals are told."""
    stop = case.stop
    if stop is None or stop.deadline is None or case.ended is None or stop.signal == signals.SIGKILL:
        return False
    return case.kill is None and not case.signal_watchers and case.ended >= stop.deadline - SECOND


def grace_unknown(case: Case) -> bool:
    """Of a stop only the request is told, and not how long it was to wait before SIGKILL."""
    return case.stop is not None and not case.stop.is_returned and case.stop.grace is None and not _signals_known(case)


def stop_signals_unknown(case: Case) -> bool:
    """Nobody told of the signals of a stop that has returned, or not of the first."""
    if case.stop is None or not case.stop.is_returned:
        return False
    return case.stop.signal is None if case.kill is not None else not _signals_known(case)


def sigkill_is_explained(case: Case) -> bool:
    """Either it was no SIGKILL, or the signals are known."""
    return not ended_by_sigkill(case) or _signals_known(case)


def _signals_known(case: Case) -> bool:
    """Whether it is known if the stop sent SIGKILL."""
    is_kill = case.stop is not None and case.stop.signal == signals.SIGKILL
    return is_kill or case.kill is not None or bool(case.signal_watchers)


def has_settings(case: Case) -> bool:
    """The stop signal and the grace are known."""
    return case.settings.signal is not None or case.settings.seconds is not None


def asked_at(case: Case) -> float | None:
    """Return when the stop signal was sent last, by whom is not known; None if it was not."""
    wanted = case.settings.signal or signals.SIGTERM
    return next((fact.time for fact in reversed(case.asking) if fact.signal == wanted), None)


def stop_signal_at(case: Case) -> float | None:
    """Return when the stop signal was sent, where something other than SIGKILL is it; None if nobody told."""
    stop = case.stop
    if stop is None:
        return asked_at(case)
    if stop.signal == signals.SIGKILL:
        return None
    return stop.time if stop.is_returned else next((fact.time for fact in case.signals if fact.signal == stop.signal), None)


def ended_by_itself(case: Case) -> bool:
    """It exited, or died of the stop signal; no SIGKILL did it."""
    end = case.end
    return end is not None and not end.may_be_sigkill and end.signal in (None, case.settings.signal or signals.SIGTERM)


def _since_asked(case: Case) -> float | None:
    asked = asked_at(case)
    return None if asked is None or case.ended is None else case.ended - asked


def within_grace(case: Case) -> bool:
    """It ended before a stop would have sent SIGKILL."""
    seconds = _since_asked(case)
    grace = DEFAULT_GRACE if case.settings.seconds is None else case.settings.seconds
    return seconds is not None and -SECOND <= seconds <= grace + SECOND


def killed_after_grace(case: Case) -> bool:
    """SIGKILL was sent when the grace that it is configured to have was over."""
    asked = asked_at(case)
    if asked is None or case.kill is None or case.settings.seconds is None or not ended_by_sigkill(case):
        return False
    return case.settings.seconds - SECOND <= case.kill.time - asked <= case.settings.seconds + 5 * SECOND


def settings_matter(case: Case) -> bool:
    """A signal was sent that would be a stop's with other settings than those known."""
    if case.ended is None or case.settings.signal is not None:
        return False
    return any(-SECOND <= case.ended - fact.time <= _UNUSUAL_GRACE for fact in case.asking)
