"""The PID table: tasks, limits and refused forks of each container."""

from pathlib import Path

import pytest

from collectors.base import Ended
from collectors.kernel.last_words import LastWords
from collectors.pids import Pids
from tests.tree import FULL, LABELS, A, B, Content, cgroup, collect, docker, node, remove_cgroup, series, tree

WHOLE = {
    "container_threads": 7,
    "container_threads_limit": 100,
    "container_threads_peak": 9,
    "container_fork_failures_total": 2,
}
COSTS = {
    "pids.current": "container_threads",
    "pids.max": "container_threads_limit",
    "pids.peak": "container_threads_peak",
    "pids.events": "container_fork_failures_total",
}
"""What comes from each file."""


def without(name: str) -> dict[str, float]:
    """Everything but this."""
    return {key: value for key, value in WHOLE.items() if key != name}


def test_everything(tmp_path: Path) -> None:
    """All files, in two containers of which one is unlimited and forks at will: its counter is there, at 0."""
    unlimited: dict[str, Content] = {**FULL, "pids.max": "max\n", "pids.events": "max 0\n"}
    tree(tmp_path, {**cgroup("/system.slice"), **cgroup(docker(A)), **cgroup(docker(B), unlimited)})

    assert collect(Pids(), node(tmp_path)) == (
        series(LABELS[A], WHOLE) | series(LABELS[B], without("container_threads_limit") | {"container_fork_failures_total": 0})
    )


@pytest.mark.parametrize(("missing", "costs"), COSTS.items(), ids=COSTS)
def test_a_missing_file_costs_its_own_value(tmp_path: Path, missing: str, costs: str) -> None:
    """It is absent, not 0: pids.peak came with 6.1."""
    tree(tmp_path, cgroup(docker(A), {name: content for name, content in FULL.items() if name != missing}))
    seen = node(tmp_path)

    assert collect(Pids(), seen) == series(LABELS[A], without(costs))
    assert seen.malformed == []


@pytest.mark.parametrize(("wrong", "costs"), COSTS.items(), ids=COSTS)
def test_a_malformed_file_costs_its_own_value_and_is_remembered(tmp_path: Path, wrong: str, costs: str) -> None:
    """The other container keeps all of its values."""
    garbage: dict[str, Content] = {**FULL, wrong: "garbage\n"}
    tree(tmp_path, {**cgroup(docker(A), garbage), **cgroup(docker(B))})
    seen = node(tmp_path)

    assert collect(Pids(), seen) == series(LABELS[A], without(costs)) | series(LABELS[B], WHOLE)
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup{docker(A)}/{wrong}"]


def test_a_container_that_ends_after_the_walk_costs_only_its_own_series(tmp_path: Path) -> None:
    """That is normal, and nothing to report."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    seen = node(tmp_path)
    remove_cgroup(tmp_path, docker(A))

    assert collect(Pids(), seen) == series(LABELS[B], WHOLE)
    assert seen.malformed == []


def test_refused_forks_of_the_departed_stay_and_levels_do_not(tmp_path: Path) -> None:
    """Where nobody read them, nothing is shown."""
    ended = [Ended(LABELS[A], LastWords(fork_failures=3, threads_peak=9)), Ended(LABELS[B], LastWords())]

    assert collect(Pids(), node(tmp_path, ended=ended)) == series(LABELS[A], {"container_fork_failures_total": 3})
