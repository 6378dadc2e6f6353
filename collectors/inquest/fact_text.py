"""Facts of an open case as text, for the casebook, and back. Pure.

Only what the verdict uses is kept: of a cgroup its inode, of last words the OOM kills and the peak of memory. A newer Coroner may have
kinds and fields that this one does not know; they are left out.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from collectors.inquest.case import KINDS, matters
from collectors.inquest.facts import Emptied, Fact
from collectors.inquest.stops import is_possible
from collectors.kernel.cgroupfs import Cgroup, MemoryEvents
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.last_words import LastWords

_Check = Callable[[object], bool]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and is_possible(value)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool)


def _one_of(*values: str) -> _Check:
    return lambda value: isinstance(value, str) and value in values


_REQUIRED: Mapping[str, Mapping[str, _Check]] = {
    "Watched": {"kind": _one_of("stops", "signals", "oom_kills")},
    "Signalled": {"signal": _is_whole},
    "OomVictim": {"pid": _is_whole, "comm": _is_text, "scope": _is_text},
    "Faulted": {"pid": _is_whole, "text": _is_text},
    "HealthReported": {"status": _one_of("starting", "healthy", "unhealthy")},
    "Exited": {"how": _one_of("reaped", "zombie", "runtime", "kubelet", "inspect")},
}

_OPTIONAL: Mapping[str, Mapping[str, _Check]] = {
    "Started": {"pid": _is_whole, "comm": _is_text},
    "Configured": {"stop_signal": _is_whole, "stop_seconds": _is_seconds},
    "StopRequested": {"signal": _is_whole, "grace_seconds": _is_seconds, "by": _is_text},
    "Signalled": {"is_accepted": _is_truth, "by": _is_text},
    "OomVictim": {"is_init": _is_truth},
    "Faulted": {"signal": _is_whole},
    "LayerMeasured": {"size": _is_whole},
    "Exited": {"status": _is_whole, "code": _is_whole, "signal": _is_whole, "reason": _is_text},
}

_WORDS: Mapping[str, _Check] = {"oom_kill": _is_whole, "oom_group_kill": _is_whole, "memory_peak": _is_whole}
"""Of an Emptied, where there are last words."""

_KINDS = {kind.__name__: kind for kind in KINDS}


def to_text(facts: Iterable[Fact]) -> str:
    """Spell the facts of one container, without those that matter to no verdict. Raises ValueError for facts of several containers."""
    told = [fact for fact in facts if matters(fact)]
    containers = {fact.container for fact in told}
    if len(containers) > 1:
        raise ValueError(f"the facts are of {len(containers)} containers: a case is one's")
    return json.dumps({"container": next(iter(containers), ""), "facts": [_spelled(fact) for fact in told]}, separators=(",", ":"))


def from_text(text: str) -> tuple[Fact, ...]:
    """Read what to_text() wrote, the facts in their order. Raises ValueError, with what is wrong."""
    try:
        kept = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(kept, dict) or not isinstance(kept.get("container"), str) or not isinstance(kept.get("facts"), list):
        raise ValueError("it is no object with a container and facts")  # noqa: TRY004 - what is wrong is the text
    container = ContainerKey(kept["container"])
    return tuple(fact for each in kept["facts"] if (fact := _read(container, each)) is not None)


def _spelled(fact: Fact) -> dict[str, Any]:
    kind = type(fact).__name__
    values = {"fact": kind, "source": fact.source, "time": fact.time, "inode": fact.inode}
    if isinstance(fact, Emptied) and fact.words is not None:
        events = fact.words.memory_events
        values["memory_peak"] = fact.words.memory_peak
        values["oom_kill"] = None if events is None else events.oom_kill
        values["oom_group_kill"] = None if events is None else events.oom_group_kill
    values |= {name: getattr(fact, name) for name in (*_REQUIRED.get(kind, ()), *_OPTIONAL.get(kind, ()))}
    return {
        name: value for name, value in values.items() if value is not None and not (isinstance(value, float) and not is_possible(value))
    }


def _read(container: ContainerKey, kept: object) -> Fact | None:
    kind = kept.get("fact") if isinstance(kept, dict) else None
    if not isinstance(kept, dict) or not isinstance(kind, str):
        raise ValueError("a fact does not say of which kind it is")  # noqa: TRY004 - what is wrong is the text
    if kind not in _KINDS:
        return None
    values: dict[str, Any] = {"container": container, **_values(kept, {"source": _is_text, "time": _is_seconds}, {"inode": _is_whole})}
    if kind in ("Born", "Emptied"):
        values |= {"id": ContainerId.of_key(container), "cgroup": Cgroup("", "", values.get("inode", 0), has_children=False)}
    if kind == "Emptied":
        values["words"] = _words(_values(kept, {}, _WORDS))
    if kind == "OomVictim":
        values["is_init"] = None
    if kind == "LayerMeasured":
        values["size"] = None
    return _KINDS[kind](**(values | _values(kept, _REQUIRED.get(kind, {}), _OPTIONAL.get(kind, {}))))


def _words(told: Mapping[str, Any]) -> LastWords | None:
    if not told:
        return None
    kills, groups = told.get("oom_kill"), told.get("oom_group_kill")
    events = None if kills is None and groups is None else MemoryEvents(0, 0, 0, None, kills, groups)
    return LastWords(memory_events=events, memory_peak=told.get("memory_peak"))


def _values(kept: Mapping[str, Any], required: Mapping[str, _Check], optional: Mapping[str, _Check]) -> dict[str, Any]:
    """Take the fields that are told. Raises ValueError for one that is missing or is not of its type."""
    values = {}
    for name, check in {**required, **optional}.items():
        value = kept.get(name)
        if value is None and name in required:
            raise ValueError(f"{kept['fact']} has no {name}")
        if value is not None:
            if not check(value):
                raise ValueError(f"{name} of {kept['fact']} is {value!r:.50}")
            values[name] = value
    return values


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no time and no number")
