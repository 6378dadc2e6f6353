"""Memory: bytes, limits and events of each container."""

from pathlib import Path

import pytest

from collectors.base import Ended
from collectors.kernel.cgroupfs import MemoryEvents
from collectors.kernel.last_words import LastWords
from collectors.memory import Memory
from tests.tree import FULL, LABELS, A, B, C, Content, cgroup, collect, docker, node, remove_cgroup, series, tree

WHOLE = {
    "container_memory_usage_bytes": 5_000_000,
    "container_memory_working_set_bytes": 3_500_000,
    "container_memory_peak_bytes": 6_000_000,
    "container_memory_limit_bytes": 10_000_000,
    "container_memory_high_bytes": 9_000_000,
    "container_memory_low_bytes": 1_000_000,
    "container_memory_events_low_total": 1,
    "container_memory_events_high_total": 2,
    "container_memory_events_max_total": 3,
    "container_memory_events_oom_total": 4,
    "container_memory_events_oom_kill_total": 5,
    "container_memory_events_oom_group_kill_total": 1,
}
EVENTS = {name for name in WHOLE if "_events_" in name}

COSTS = {
    "memory.current": {"container_memory_usage_bytes", "container_memory_working_set_bytes"},
    "memory.stat": {"container_memory_working_set_bytes"},
    "memory.peak": {"container_memory_peak_bytes"},
    "memory.max": {"container_memory_limit_bytes"},
    "memory.high": {"container_memory_high_bytes"},
    "memory.low": {"container_memory_low_bytes"},
    "memory.events": EVENTS,
}
"""What comes from each file."""


def without(names: set[str]) -> dict[str, float]:
    """Everything but these."""
    return {name: value for name, value in WHOLE.items() if name not in names}


def test_everything(tmp_path: Path) -> None:
    """All files, in two containers of which one is unlimited; what is not a container has no series."""
    unlimited = {"memory.current": "5\n", "memory.max": "max\n", "memory.high": "max\n", "memory.low": "max\n"}
    tree(tmp_path, {**cgroup("/system.slice"), **cgroup(docker(A)), **cgroup(docker(B), unlimited)})

    assert collect(Memory(), node(tmp_path)) == series(LABELS[A], WHOLE) | series(LABELS[B], {"container_memory_usage_bytes": 5})


@pytest.mark.parametrize(("missing", "costs"), COSTS.items(), ids=COSTS)
def test_a_missing_file_costs_its_own_values(tmp_path: Path, missing: str, costs: set[str]) -> None:
    """They are absent, not 0: memory.peak came with 5.19."""
    tree(tmp_path, cgroup(docker(A), {name: content for name, content in FULL.items() if name != missing}))
    seen = node(tmp_path)

    assert collect(Memory(), seen) == series(LABELS[A], without(costs))
    assert seen.malformed == []


@pytest.mark.parametrize(("wrong", "costs"), COSTS.items(), ids=COSTS)
def test_a_malformed_file_costs_its_own_values_and_is_remembered(tmp_path: Path, wrong: str, costs: set[str]) -> None:
    """The other container keeps all of its values."""
    garbage: dict[str, Content] = {**FULL, wrong: "garbage\n"}
    tree(tmp_path, {**cgroup(docker(A), garbage), **cgroup(docker(B))})
    seen = node(tmp_path)

    assert collect(Memory(), seen) == series(LABELS[A], without(costs)) | series(LABELS[B], WHOLE)
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup{docker(A)}/{wrong}"]


@pytest.mark.parametrize(
    ("events", "absent"),
    [
        ("low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\n", {"container_memory_events_oom_group_kill_total"}),
        ("low 1\nhigh 2\nmax 3\n", {f"container_memory_events_{name}_total" for name in ("oom", "oom_kill", "oom_group_kill")}),
    ],
    ids=["5.10", "none of the newer keys"],
)
def test_an_older_kernel_counts_less(tmp_path: Path, events: str, absent: set[str]) -> None:
    """What it does not count is absent."""
    tree(tmp_path, cgroup(docker(A), {**FULL, "memory.events": events}))

    assert collect(Memory(), node(tmp_path)) == series(LABELS[A], without(absent))


def test_the_working_set_is_never_negative(tmp_path: Path) -> None:
    """The two files are not read at the same time."""
    tree(tmp_path, cgroup(docker(A), {"memory.current": "1000\n", "memory.stat": "anon 0\ninactive_file 4096\nactive_file 0\n"}))

    assert collect(Memory(), node(tmp_path)) == series(
        LABELS[A], {"container_memory_usage_bytes": 1000, "container_memory_working_set_bytes": 0}
    )


def test_a_container_that_ends_after_the_walk_costs_only_its_own_series(tmp_path: Path) -> None:
    """That is normal, and nothing to report."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    seen = node(tmp_path)
    remove_cgroup(tmp_path, docker(A))

    assert collect(Memory(), seen) == series(LABELS[B], WHOLE)
    assert seen.malformed == []


def test_final_events_of_the_departed_stay_and_levels_do_not(tmp_path: Path) -> None:
    """Keys that this kernel lacks are absent; where nobody read them, all are."""
    ended = [
        Ended(LABELS[A], LastWords(memory_events=MemoryEvents(1, 2, 3, 4, 5, 1), memory_peak=6_000_000)),
        Ended(LABELS[B], LastWords(memory_events=MemoryEvents(1, 2, 3, None, None, None))),
        Ended(LABELS[C], LastWords(memory_peak=6_000_000)),
    ]
    old = {name for name in EVENTS if "oom" not in name}

    assert collect(Memory(), node(tmp_path, ended=ended)) == (
        series(LABELS[A], {name: WHOLE[name] for name in EVENTS}) | series(LABELS[B], {name: WHOLE[name] for name in old})
    )
