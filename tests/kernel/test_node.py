"""What /proc says of the whole node."""

from pathlib import Path

import pytest

from collectors.kernel import node
from collectors.kernel.cgroupfs import Pressure
from collectors.kernel.files import Gone, Malformed, ReadError
from tests.tree import descriptors_left, tree


def test_node_numbers(tmp_path: Path) -> None:
    """Tasks are behind the slash; settings are one number."""
    tree(tmp_path, {"loadavg": "0.20 0.18 0.12 1/820 11206\n", "sys/kernel/pid_max": "4194304\n"})

    assert node.threads(str(tmp_path)) == 820
    assert node.kernel_setting(str(tmp_path), "pid_max") == 4194304


@pytest.mark.parametrize("content", ["0.20 0.18 0.12 1/820 11206\n", "garbage\n", "0.20 0.18 0.12 1 11206\n", "a b c d/e f\n"])
def test_cut_or_wrong_node_numbers_are_malformed(tmp_path: Path, content: str) -> None:
    """A cut number is a wrong number."""
    for end in range(len(content) if content.startswith("0.20 0.18 0.12 1/") else len(content) + 1):
        tree(tmp_path, {"loadavg": content[:end], "sys/kernel/pid_max": content[:end]})
        for read in (node.threads, lambda root: node.kernel_setting(root, "pid_max")):
            with pytest.raises(Malformed):
                read(str(tmp_path))


SOME = "some avg10=1.21 avg60=1.00 avg300=0.38 total=3000000\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (SOME + "full avg10=0.07 avg60=0.04 avg300=0.00 total=2000000\n", Pressure(3000000, 2000000)),
        (SOME, Pressure(3000000, None)),
        (SOME.replace(" total", " avg900=0.00 total") + "most avg10=0.00 total=7\n", Pressure(3000000, None)),
    ],
    ids=["all versions", "CPUs before 5.13", "newer"],
)
def test_pressure_of_the_node(tmp_path: Path, content: str, expected: Pressure) -> None:
    """The format is that of cgroups, the name is not; without the directory the kernel has none."""
    with pytest.raises(Gone):
        node.pressure(str(tmp_path), "io")
    tree(tmp_path, {"pressure/io": content})
    assert node.pressure(str(tmp_path), "io") == expected


@pytest.mark.parametrize("content", ["", "garbage\n", SOME[:-1], SOME.replace("3000000", "-1"), SOME.replace("some", "full")])
def test_cut_or_wrong_pressure_is_malformed(tmp_path: Path, content: str) -> None:
    """Also where only the end of the line is missing: a cut number is a wrong number."""
    tree(tmp_path, {"pressure/io": content})
    with pytest.raises(Malformed, match=r"/pressure/io: "):
        node.pressure(str(tmp_path), "io")


PARTITIONS = "major minor  #blocks  name\n\n   8        0  268435456 sda\n   8       16       1024 sdb\n 259        0     999 nvme0n1\n"


def test_block_devices(tmp_path: Path) -> None:
    """Names by number; none without the file."""
    assert node.block_devices(str(tmp_path)) == {}
    tree(tmp_path, {"partitions": PARTITIONS})
    assert node.block_devices(str(tmp_path)) == {"8:0": "sda", "8:16": "sdb", "259:0": "nvme0n1"}


def test_cut_partitions_never_give_a_wrong_name(tmp_path: Path) -> None:
    """A device whose line is cut has no name."""
    names = {"8:0": "sda", "8:16": "sdb", "259:0": "nvme0n1"}
    for end in range(len(PARTITIONS)):
        tree(tmp_path, {"partitions": PARTITIONS[:end]})
        assert node.block_devices(str(tmp_path)).items() <= names.items()


def test_partitions_that_cannot_be_read_now(tmp_path: Path) -> None:
    """Devices must not change their names because of one failed read."""
    tree(tmp_path, {"partitions": PARTITIONS})

    with descriptors_left(0), pytest.raises(ReadError):
        node.block_devices(str(tmp_path))
