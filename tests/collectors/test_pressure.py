"""Pressure stall time of each container, in seconds."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from collectors.pressure import Pressure
from tests.tree import FULL, LABELS, A, B, Content, cgroup, collect, docker, node, remove_cgroup, series, tree

CPU = {"container_pressure_cpu_waiting_seconds_total": 1.5, "container_pressure_cpu_stalled_seconds_total": 0.5}
MEMORY = {"container_pressure_memory_waiting_seconds_total": 0.25, "container_pressure_memory_stalled_seconds_total": 0.125}
IO = {"container_pressure_io_waiting_seconds_total": 3.0, "container_pressure_io_stalled_seconds_total": 2.0}

COSTS = {"cpu.pressure": MEMORY | IO, "memory.pressure": CPU | IO, "io.pressure": CPU | MEMORY}
"""What is left without each file."""


def test_everything(tmp_path: Path) -> None:
    """Totals become seconds; averages are left to Prometheus."""
    tree(tmp_path, {**cgroup("/system.slice"), **cgroup(docker(A)), **cgroup(docker(B))})

    assert collect(Pressure(), node(tmp_path)) == series(LABELS[A], CPU | MEMORY | IO) | series(LABELS[B], CPU | MEMORY | IO)


def test_5_10_does_not_know_whether_all_tasks_waited_for_a_cpu(tmp_path: Path) -> None:
    """The line `full` is missing: absent, not 0."""
    tree(tmp_path, cgroup(docker(A), {"cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n"}))

    assert collect(Pressure(), node(tmp_path)) == series(LABELS[A], {"container_pressure_cpu_waiting_seconds_total": 1.5})


@pytest.mark.parametrize(("missing", "left"), COSTS.items(), ids=COSTS)
def test_a_missing_file_costs_its_own_values(tmp_path: Path, missing: str, left: dict[str, float]) -> None:
    """Pressure accounting can be switched off per cgroup."""
    tree(tmp_path, cgroup(docker(A), {name: content for name, content in FULL.items() if name != missing}))
    seen = node(tmp_path)

    assert collect(Pressure(), seen) == series(LABELS[A], left)
    assert seen.malformed == []


def test_pressure_that_is_switched_off_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With psi=0 the files of 5.10 are there, but cannot be read."""
    tree(tmp_path, cgroup(docker(A)))
    seen = node(tmp_path)

    def fail(*_: Any) -> bytes:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "pread", fail)

    assert collect(Pressure(), seen) == {}


@pytest.mark.parametrize(("wrong", "left"), COSTS.items(), ids=COSTS)
def test_a_malformed_file_costs_its_own_values_and_is_remembered(tmp_path: Path, wrong: str, left: dict[str, float]) -> None:
    """The other container keeps all of its values."""
    garbage: dict[str, Content] = {**FULL, wrong: "some avg10=0.00\n"}
    tree(tmp_path, {**cgroup(docker(A), garbage), **cgroup(docker(B))})
    seen = node(tmp_path)

    assert collect(Pressure(), seen) == series(LABELS[A], left) | series(LABELS[B], CPU | MEMORY | IO)
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup{docker(A)}/{wrong}"]


def test_a_container_that_ends_after_the_walk_costs_only_its_own_series(tmp_path: Path) -> None:
    """That is normal, and nothing to report."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    seen = node(tmp_path)
    remove_cgroup(tmp_path, docker(A))

    assert collect(Pressure(), seen) == series(LABELS[B], CPU | MEMORY | IO)
    assert seen.malformed == []
