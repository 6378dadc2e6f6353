"""What a verdict follows from, a sentence each, the most important first. Pure."""

from collections.abc import Callable

from collectors.inquest.case import Case
from collectors.inquest.conditions import mirrored_oom_victim
from collectors.inquest.exit_status import Exit, name_of
from collectors.inquest.facts import Emptied, Exited, HealthReported, LayerMeasured, OomReported, Paused, Watched
from collectors.inquest.rules import Rule
from collectors.inquest.stop_conditions import asked_at, stop_signal_at
from collectors.inquest.stops import Stop
from collectors.inquest.words import duration, limit_of, mebibytes, process, quoted

_MOST = 3
"""Victims, faults and the like that are named; of more there is a number."""


def sentences(rule: Rule, case: Case) -> tuple[str, ...]:
    """Return the evidence for the rule that held."""
    first = _FIRST.get(rule.name, ())
    said = [sentence for builder in (*first, *_ALL) for sentence in builder(case)]
    return tuple(dict.fromkeys(said))


def stop_time(case: Case) -> float | None:
    """Return when a stop was asked for, or else its signal sent; None if it is not known or was not."""
    return asked_at(case) if case.stop is None else case.stop.time


def _init_victim(case: Case) -> list[str]:
    victim = case.init_victim
    return [] if victim is None else [f"the OOM killer took its init, {process(victim)}, at {limit_of(victim.scope)}"]


def _mirrored_victim(case: Case) -> list[str]:
    victim = mirrored_oom_victim(case)
    return [] if victim is None else [f"mirrors OOM of {process(victim)}"]


def _other_victims(case: Case) -> list[str]:
    others = [victim for victim in case.victims if not case.is_init(victim)]
    said = [
        f"the OOM killer took {process(victim)} at {limit_of(victim.scope)}, "
        + ("which was not its init" if case.is_init(victim) is False else "perhaps its init")
        for victim in others[-_MOST:]
    ]
    return said if len(others) <= _MOST else [*said, f"{len(others)} of its processes were taken by the OOM killer"]


def _group(case: Case) -> list[str]:
    kills = case.memory.oom_group_kill if case.memory is not None else None
    return [f"the kernel counted {kills} kills of a whole memory.oom.group in it"] if kills else []


def _status(case: Case) -> list[str]:
    end = case.end
    if end is None:
        return ["nobody told how its init ended"]
    who = "the kernel" if end.how in ("reaped", "zombie") else {"kubelet": "the kubelet", "inspect": "inspect"}.get(end.how, "the runtime")
    return [f"{_ended(end)}, says {who} ({end.how})"]


def _ended(end: Exit) -> str:
    if end.signal is None:
        doubt = "" if end.is_exact or end.behind is None else f", which may stand for {name_of(end.behind)}"
        return f"its init ended with exit code {end.code}{doubt}"
    core = ", with a core dump" if end.has_core else ""
    doubt = "" if end.is_exact else f" (exit code {end.code})"
    return f"its init was ended by {name_of(end.signal)}{doubt}{core}"


def _stop(case: Case) -> list[str]:
    stop = case.stop
    if stop is None:
        return []
    what = "a stop was asked for" + (f" by {quoted(stop.by)}" if stop.by else "")
    return [f"{what}{_with(stop)}{_until_end(case, stop.time)}"]


def _with(stop: Stop) -> str:
    return "" if stop.signal is None else f" with {name_of(stop.signal)}"


def _until_end(case: Case, asked: float | None) -> str:
    if asked is None or case.ended is None or case.ended < asked:
        return ""
    return f", {duration(case.ended - asked)} before the end"


def _signal_as_stop(case: Case) -> list[str]:
    """Say who sent the stop signal, where nobody told of a stop."""
    asked = asked_at(case)
    if case.stop is not None or asked is None:
        return []
    sent = next(fact for fact in reversed(case.asking) if fact.time == asked)
    who = f"asked by docker kill{'' if case.is_watched else ' or docker stop'}" if sent.source == "docker" else "asked by a signal"
    by = f" from {quoted(sent.by)}" if sent.by else ""
    return [f"{who}: {name_of(sent.signal)} was sent{by}{_until_end(case, asked)}"]


def _kill(case: Case) -> list[str]:
    kill, asked = case.kill, stop_signal_at(case)
    if kill is None:
        return []
    by = f" by {quoted(kill.by)}" if kill.by else ""
    after = f", {duration(kill.time - asked)} after the stop signal" if asked is not None and kill.time > asked else ""
    return [f"SIGKILL was sent{by}{after}"]


def _deadline(case: Case) -> list[str]:
    if case.stop is None or case.stop.deadline is None or case.stop.grace is None or case.ended is None:
        return []
    left = case.stop.deadline - case.ended
    grace = f"its grace of {duration(case.stop.grace)}"
    return [f"{grace} had run out when it ended" if left <= 1 else f"{duration(left)} of {grace} were left"]


def _discarded(case: Case) -> list[str]:
    return [
        f"the kernel discarded {name_of(fact.signal)}: its init neither handles nor awaits it"
        for fact in case.signals
        if fact.is_accepted is False
    ]


def _no_stop(case: Case) -> list[str]:
    if not case.is_watched or case.stop is not None:
        return []
    told = {fact.source for fact in case.facts if isinstance(fact, Watched) and fact.kind == "stops"}
    return [f"no stop was asked for, which {quoted(' and '.join(sorted(told)))} would have told"]


def _faults(case: Case) -> list[str]:
    return [f"the kernel logged a fault of PID {fault.pid}: {quoted(fault.text)}" for fault in case.faults[:_MOST]]


def _signals(case: Case) -> list[str]:
    names = list(dict.fromkeys(name_of(fact.signal) for fact in case.signals))
    return [f"signals that were sent to its init: {', '.join(names[:10])}"] if names else []


def _paused(case: Case) -> list[str]:
    return ["it had been paused"] if any(isinstance(fact, Paused) for fact in case.facts) else []


def _health(case: Case) -> list[str]:
    """Say for how long it had been unhealthy when its end began."""
    asked = stop_time(case)
    until, what = (case.ended, "it ended") if asked is None else (asked, "the stop was asked for")
    since = None
    for fact in case.facts:
        if isinstance(fact, HealthReported) and until is not None and fact.time <= until:
            since = None if fact.status != "unhealthy" else since or fact.time
    return [] if since is None or until is None else [f"it had been unhealthy for {duration(until - since)} when {what}"]


def _opinions(case: Case) -> list[str]:
    told = {f"{quoted(fact.source)} says OOM" for fact in case.facts if isinstance(fact, OomReported)}
    told |= {f"{quoted(fact.source)} calls it {quoted(fact.reason)}" for fact in case.facts if isinstance(fact, Exited) and fact.reason}
    return sorted(told)


def _memory_peak(case: Case) -> list[str]:
    peaks = [fact.words.memory_peak for fact in case.facts if isinstance(fact, Emptied) and fact.words and fact.words.memory_peak]
    return [f"its memory peaked at {mebibytes(max(peaks))}"] if peaks else []


def _layer(case: Case) -> list[str]:
    sizes = [fact.size for fact in case.facts if isinstance(fact, LayerMeasured)]
    known = [f"it had written {mebibytes(size)} into its own layer" for size in sizes if size is not None and size >= 0]
    return known[:1] or ["its own layer could not be measured when it had ended"] * bool(sizes)


_Builder = Callable[[Case], list[str]]

_ALL: tuple[_Builder, ...] = (
    _status,
    _stop,
    _kill,
    _deadline,
    _discarded,
    _init_victim,
    _other_victims,
    _no_stop,
    _faults,
    _signals,
    _paused,
    _health,
    _memory_peak,
    _layer,
    _opinions,
)

_FIRST: dict[str, tuple[_Builder, ...]] = {
    "oom-of-init": (_init_victim,),
    "oom-of-group": (_group,),
    "oom-of-child": (_mirrored_victim,),
    "fault-of-init": (_faults,),
    "fault-of-child": (_faults,),
    "stop-then-kill": (_kill, _stop),
    "stop-until-deadline": (_deadline, _stop),
    "stop": (_stop,),
    "stop-signal": (_signal_as_stop,),
    "stop-signal-then-kill": (_kill, _signal_as_stop),
    "signal": (_kill, _status, _no_stop),
}
"""What a rule is about. The rest follows in one order."""
