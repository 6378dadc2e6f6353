"""CPU: time used and time withheld, in seconds."""

from pathlib import Path

import pytest

from collectors.base import Ended
from collectors.cpu import Cpu
from collectors.kernel.cgroupfs import CpuStat
from collectors.kernel.last_words import LastWords
from tests.tree import FULL, LABELS, A, B, C, Content, cgroup, collect, docker, node, remove_cgroup, series, tree

USED = {"container_cpu_usage_seconds_total": 2.5, "container_cpu_user_seconds_total": 1.5, "container_cpu_system_seconds_total": 1.0}
WITHHELD = {
    "container_cpu_cfs_periods_total": 40,
    "container_cpu_cfs_throttled_periods_total": 4,
    "container_cpu_cfs_throttled_seconds_total": 0.25,
}
LIMIT = {"container_cpu_limit_cores": 1.5}


def without(*names: str) -> dict[str, Content]:
    """All files but these."""
    return {name: content for name, content in FULL.items() if name not in names}


@pytest.mark.parametrize(
    ("files", "values"),
    [
        (FULL, USED | WITHHELD | LIMIT),
        ({**FULL, "cpu.max": "max 100000\n"}, USED | WITHHELD),
        (without("cpu.max"), USED | WITHHELD),
        (without("cpu.stat"), LIMIT),
        ({"cpu.stat": "usage_usec 2500000\nuser_usec 1500000\nsystem_usec 1000000\n"}, USED),
        ({}, {}),
    ],
    ids=["everything", "unlimited", "no cpu.max", "no cpu.stat", "no controller", "nothing"],
)
def test_values(tmp_path: Path, files: dict[str, Content], values: dict[str, float]) -> None:
    """What the kernel does not say is absent, not 0."""
    tree(tmp_path, {**cgroup("/system.slice"), **cgroup(docker(A), files), **cgroup(docker(B))})
    seen = node(tmp_path)

    assert collect(Cpu(), seen) == series(LABELS[A], values) | series(LABELS[B], USED | WITHHELD | LIMIT)
    assert seen.malformed == []


@pytest.mark.parametrize(("wrong", "values"), [("cpu.stat", LIMIT), ("cpu.max", USED | WITHHELD)])
def test_a_malformed_file_costs_its_own_values_and_is_remembered(tmp_path: Path, wrong: str, values: dict[str, float]) -> None:
    """The other file and the other container are read all the same."""
    garbage: dict[str, Content] = {**FULL, wrong: "1 0\n"}
    tree(tmp_path, {**cgroup(docker(A), garbage), **cgroup(docker(B))})
    seen = node(tmp_path)

    assert collect(Cpu(), seen) == series(LABELS[A], values) | series(LABELS[B], USED | WITHHELD | LIMIT)
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup{docker(A)}/{wrong}"]


def test_a_container_that_ends_after_the_walk_costs_only_its_own_series(tmp_path: Path) -> None:
    """That is normal, and nothing to report."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    seen = node(tmp_path)
    remove_cgroup(tmp_path, docker(A))

    assert collect(Cpu(), seen) == series(LABELS[B], USED | WITHHELD | LIMIT)
    assert seen.malformed == []


def test_final_times_of_the_departed_stay_and_limits_do_not(tmp_path: Path) -> None:
    """Without the cpu controller there is only the time used; where nobody read it, nothing."""
    ended = [
        Ended(LABELS[A], LastWords(cpu_stat=CpuStat(2500000, 1500000, 1000000, 40, 4, 250000))),
        Ended(LABELS[B], LastWords(cpu_stat=CpuStat(2500000, 1500000, 1000000, None, None, None))),
        Ended(LABELS[C], LastWords()),
    ]

    assert collect(Cpu(), node(tmp_path, ended=ended)) == series(LABELS[A], USED | WITHHELD) | series(LABELS[B], USED)
