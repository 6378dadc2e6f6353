"""What the page says of containers' roots: what was found of this life of them, and nothing else."""

from pathlib import Path

from collectors.layers import Layer, Layers
from tests.tree import LABELS, A, B, C, cgroup, collect, docker, node, tree


def test_the_kind_and_the_size_of_each_container(tmp_path: Path) -> None:
    """A size that is not known is absent, and so is a container that nobody has looked at; 0 is a size."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B)), **cgroup(docker(C))})
    seen = node(tmp_path)
    inodes = {one.id.key: one.cgroup.inode for one in seen.containers}
    found = {inodes[A]: Layer("overlay", 0), inodes[B]: Layer("btrfs"), 1: Layer("overlay", 4096)}

    assert collect(Layers(lambda: found), seen) == {
        ("coroner_container_writable_layer_bytes", LABELS[A]): 0,
        ("coroner_container_root_filesystem_info", (*LABELS[A], "overlay")): 1,
        ("coroner_container_root_filesystem_info", (*LABELS[B], "btrfs")): 1,
    }


def test_nothing_without_the_source(tmp_path: Path) -> None:
    """It is off unless it is asked for."""
    tree(tmp_path, cgroup(docker(A)))

    assert collect(Layers(), node(tmp_path)) == {}
