"""Pressure stall time of the node, in seconds."""

import errno
import os
from pathlib import Path

import pytest

from collectors.kernel.files import Forbidden
from collectors.node_pressure import NodePressure
from tests.tree import collect, forbid, node, proc, tree

CPU_5_13 = "some avg10=57.77 avg60=78.49 avg300=55.43 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
CPU_5_10 = "some avg10=57.77 avg60=78.49 avg300=55.43 total=1500000\n"
FILES = {
    "pressure/cpu": CPU_5_13,
    "pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=250000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=125000\n",
    "pressure/io": "some avg10=1.21 avg60=1.00 avg300=0.38 total=3000000\nfull avg10=0.07 avg60=0.04 avg300=0.00 total=2000000\n",
}
PREFIX = "coroner_node_pressure"
CPU = {(f"{PREFIX}_cpu_waiting_seconds_total", ()): 1.5}
MEMORY = {(f"{PREFIX}_memory_waiting_seconds_total", ()): 0.25, (f"{PREFIX}_memory_stalled_seconds_total", ()): 0.125}
IO = {(f"{PREFIX}_io_waiting_seconds_total", ()): 3.0, (f"{PREFIX}_io_stalled_seconds_total", ()): 2.0}
COSTS = {"pressure/cpu": MEMORY | IO, "pressure/memory": CPU | IO, "pressure/io": CPU | MEMORY}
"""What is left without each file."""


@pytest.mark.parametrize("cpu", [CPU_5_10, CPU_5_13], ids=["5.10", "5.13 says 0 of what it does not know"])
def test_everything(tmp_path: Path, cpu: str) -> None:
    """Totals become seconds; that all wait for a CPU is not told of a node, whatever the kernel prints."""
    tree(tmp_path, proc(FILES | {"pressure/cpu": cpu}))
    seen = node(tmp_path)

    assert collect(NodePressure(), seen) == CPU | MEMORY | IO
    assert seen.malformed == []


def test_a_newer_kernel_may_say_more(tmp_path: Path) -> None:
    """Another average, another line, another file, as `irq` was one of 6.1: what is known is read."""
    newer = {name: content.replace(" total=", " avg900=0.00 total=") + "most avg10=0.00 total=7\n" for name, content in FILES.items()}
    tree(tmp_path, proc(newer | {"pressure/irq": "full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"}))

    assert collect(NodePressure(), node(tmp_path)) == CPU | MEMORY | IO


def test_a_kernel_without_pressure_has_no_directory(tmp_path: Path) -> None:
    """CONFIG_PSI is not set, or it was booted with psi=0: absent, never 0, and no failure."""
    tree(tmp_path, proc({"loadavg": "0.20 0.18 0.12 1/820 11206\n"}))
    seen = node(tmp_path)

    assert collect(NodePressure(), seen) == {}
    assert seen.malformed == []


def test_pressure_that_is_switched_off_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of cgroups on 5.10, there may be files that cannot be read."""
    tree(tmp_path, proc(FILES))
    seen = node(tmp_path)

    def fail(*_: object) -> bytes:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "pread", fail)

    assert collect(NodePressure(), seen) == {}
    assert seen.malformed == []


@pytest.mark.parametrize(("missing", "left"), COSTS.items(), ids=COSTS)
def test_a_missing_file_costs_its_own_values(tmp_path: Path, missing: str, left: dict[tuple[str, tuple[str, ...]], float]) -> None:
    """The kernel does not have it: nothing to report."""
    tree(tmp_path, proc({name: content for name, content in FILES.items() if name != missing}))
    seen = node(tmp_path)

    assert collect(NodePressure(), seen) == left
    assert seen.malformed == []


@pytest.mark.parametrize("garbage", ["", "garbage\n", "some avg10=0.00 avg60=0.00 avg300=0.00 total=12", "some total=-1\n"])
@pytest.mark.parametrize(("wrong", "left"), COSTS.items(), ids=COSTS)
def test_a_malformed_file_costs_its_own_values_and_is_remembered(
    tmp_path: Path, wrong: str, left: dict[tuple[str, tuple[str, ...]], float], garbage: str
) -> None:
    """Also one that is cut short: a cut number is a wrong number."""
    tree(tmp_path, proc(FILES | {wrong: garbage}))
    seen = node(tmp_path)

    assert collect(NodePressure(), seen) == left
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/proc/{wrong}"]


def test_a_missing_privilege_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the remedy."""
    tree(tmp_path, proc(FILES))
    seen = node(tmp_path)
    forbid(monkeypatch)

    with pytest.raises(Forbidden):
        collect(NodePressure(), seen)
