"""Facts of any content, as a source might tell them that is mad."""

from typing import Any

from hypothesis import strategies as st

from collectors.inquest.facts import (
    Born,
    Configured,
    Created,
    Emptied,
    Exited,
    Fact,
    Faulted,
    HealthReported,
    LayerMeasured,
    OomReported,
    OomVictim,
    Paused,
    Removed,
    Resumed,
    Signalled,
    Started,
    StopRequested,
    StopReturned,
    Watched,
)
from collectors.kernel.cgroupfs import Cgroup, MemoryEvents
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.last_words import LastWords
from tests.tree import A

_TIMES = st.floats() | st.sampled_from([1_700_000_000.0 + each for each in (0, 1, 2, 10, 30, 40, 41)])
_NUMBERS = st.none() | st.integers(-1, 256) | st.integers()
_SECONDS = st.none() | st.floats() | st.just(10.0)
_SIGNALS = st.sampled_from([1, 9, 10, 15]) | st.integers()
_TEXTS = st.text(st.characters(), max_size=300)
_TRUTHS = st.none() | st.booleans()
_CGROUPS = st.builds(Cgroup, st.just("/x"), st.just("/sys/x"), st.integers(0, 9), st.booleans())
_EVENTS = st.builds(MemoryEvents, *[st.integers(0, 3)] * 3, *[st.none() | st.integers(0, 3)] * 3)
_WORDS = st.builds(LastWords, memory_events=st.none() | _EVENTS, memory_peak=st.none() | st.integers(0))


def _facts(type_: type[Fact], /, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Fact]:
    common = {"source": st.sampled_from(["docker", "kmsg", "signals"]) | _TEXTS, "time": _TIMES, "inode": st.none() | st.integers()}
    return st.builds(type_, container=st.just(ContainerKey(A)), **common, **values)


FACTS: st.SearchStrategy[Fact] = st.one_of(
    *[_facts(kind) for kind in (Created, StopReturned, Paused, Resumed, Removed, OomReported)],
    _facts(Born, id=st.just(ContainerId.of_key(A)), cgroup=_CGROUPS),
    _facts(Emptied, id=st.just(ContainerId.of_key(A)), cgroup=_CGROUPS, words=st.none() | _WORDS),
    _facts(Started, pid=_NUMBERS, comm=_TEXTS),
    _facts(Configured, stop_signal=_NUMBERS, stop_seconds=_SECONDS),
    _facts(Watched, kind=st.sampled_from(["stops", "signals", "oom_kills"])),
    _facts(StopRequested, signal=_NUMBERS, grace_seconds=_SECONDS, by=_TEXTS),
    _facts(Signalled, signal=_SIGNALS, is_accepted=_TRUTHS, by=_TEXTS),
    _facts(OomVictim, pid=st.integers(), comm=_TEXTS, scope=_TEXTS, is_init=_TRUTHS),
    _facts(LayerMeasured, size=_NUMBERS),
    _facts(HealthReported, status=st.sampled_from(["starting", "healthy", "unhealthy"])),
    _facts(Faulted, pid=st.integers(), text=_TEXTS, signal=_NUMBERS | st.just(11)),
    _facts(
        Exited,
        how=st.sampled_from(["reaped", "zombie", "runtime", "kubelet", "inspect"]),
        status=_NUMBERS | st.just(9),
        code=_NUMBERS | st.just(137),
        signal=_NUMBERS,
        reason=_TEXTS,
    ),
)
"""One fact of one container."""
