"""Block I/O by device, with the names that /proc/partitions gives."""

from pathlib import Path

import pytest

from collectors.io import Io
from collectors.kernel.files import Forbidden, ReadError
from tests.tree import LABELS, A, B, C, cgroup, collect, descriptors_left, docker, forbid, node, proc, remove_cgroup, series, tree

PARTITIONS = {"partitions": "major minor  #blocks  name\n\n   8        0  268435456 sda\n 259        1       1024 nvme0n1p1\n"}
SDA = "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n"
NVME = "259:1 rbytes=10 wbytes=20 rios=30 wios=40 dbytes=0 dios=0\n"


def device(labels: tuple[str, ...], name: str, values: tuple[int, int, int, int]) -> dict[tuple[str, tuple[str, ...]], float]:
    """Spell the four series of one device."""
    names = ("reads_bytes", "writes_bytes", "reads", "writes")
    return series((*labels, name), {f"container_fs_{metric}_total": value for metric, value in zip(names, values, strict=True)})


def test_devices_have_names(tmp_path: Path) -> None:
    """A device that is in no table keeps its number; a container without I/O has no series."""
    tree(tmp_path, proc(PARTITIONS))
    tree(tmp_path, cgroup(docker(A), {"io.stat": SDA + NVME}))
    tree(tmp_path, cgroup(docker(B), {"io.stat": SDA.replace("8:0", "7:1") + "8:0 \n"}))
    tree(tmp_path, cgroup(docker(C), {"io.stat": ""}))

    assert collect(Io(), node(tmp_path)) == (
        device(LABELS[A], "sda", (4096, 8192, 1, 2))
        | device(LABELS[A], "nvme0n1p1", (10, 20, 30, 40))
        | device(LABELS[B], "7:1", (4096, 8192, 1, 2))
    )


def test_without_the_table_devices_keep_their_numbers(tmp_path: Path) -> None:
    """A kernel without /proc/partitions still counts."""
    tree(tmp_path, cgroup(docker(A), {"io.stat": SDA}))

    assert collect(Io(), node(tmp_path)) == device(LABELS[A], "8:0", (4096, 8192, 1, 2))


def test_a_table_that_cannot_be_read_now_changes_no_names(tmp_path: Path) -> None:
    """All series of a device would end and others begin."""
    tree(tmp_path, {**proc(PARTITIONS), **cgroup(docker(A), {"io.stat": SDA})})
    seen = node(tmp_path)

    with descriptors_left(0), pytest.raises(ReadError, match="/partitions: "):
        collect(Io(), seen)


def test_a_missing_or_malformed_file_costs_its_own_values(tmp_path: Path) -> None:
    """The io controller may be off; garbage is remembered."""
    tree(tmp_path, cgroup(docker(A), {"io.stat": SDA}))
    tree(tmp_path, cgroup(docker(B), {"io.stat": "8:0 rbytes=1 wbytes=x rios=1 wios=2\n"}))
    tree(tmp_path, cgroup(docker(C), {}))
    seen = node(tmp_path)

    assert collect(Io(), seen) == device(LABELS[A], "8:0", (4096, 8192, 1, 2))
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup{docker(B)}/io.stat"]


def test_a_container_that_ends_after_the_walk_costs_only_its_own_series(tmp_path: Path) -> None:
    """That is normal, and nothing to report."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B), {"io.stat": SDA})})
    seen = node(tmp_path)
    remove_cgroup(tmp_path, docker(A))

    assert collect(Io(), seen) == device(LABELS[B], "8:0", (4096, 8192, 1, 2))
    assert seen.malformed == []


def test_a_missing_privilege_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the same for every container."""
    tree(tmp_path, cgroup(docker(A)))
    seen = node(tmp_path)
    forbid(monkeypatch)

    with pytest.raises(Forbidden):
        collect(Io(), seen)
