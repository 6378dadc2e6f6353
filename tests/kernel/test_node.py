"""What /proc says of the whole node."""

from pathlib import Path

import pytest

from collectors.kernel import node
from collectors.kernel.files import Malformed, ReadError
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
