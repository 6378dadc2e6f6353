"""Namespaces that a process shares with the node, and whom root inside is outside."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel.namespaces import KINDS, UserMap, links, links_of_node, parse_uid_map, shared
from tests.tree import Link, process, stat, tree

NODE = {"cgroup": 4026531835, "ipc": 4026531839, "mnt": 4026531840, "net": 4026531992, "pid": 4026531836, "uts": 4026531838}


def ns(pid: int, numbers: dict[str, int]) -> dict[str, Link]:
    """Spell the links of a process."""
    return {f"{pid}/ns/{kind}": Link(f"{kind}:[{number}]") for kind, number in numbers.items()}


def test_what_is_shared_is_what_has_the_same_number(tmp_path: Path) -> None:
    """With --net=host and --uts=host."""
    own = {kind: number + 1000 for kind, number in NODE.items()} | {"net": NODE["net"], "uts": NODE["uts"]}
    root = str(tree(tmp_path, {**ns(1, NODE), **ns(100, own)}))

    assert shared(links(root, 100), links_of_node(root)) == ("net", "uts")
    assert shared(links(root, 1), links_of_node(root)) == KINDS


def test_what_cannot_be_compared_is_not_known(tmp_path: Path) -> None:
    """A zombie has no namespaces but that of its PIDs, and the links of PID 1 may be kept even from root."""
    root = str(tree(tmp_path, {**ns(1, NODE), **ns(100, {"pid": 4026532001})}))
    assert shared(links(root, 100), links_of_node(root)) is None
    assert shared(links(root, 4711), links_of_node(root)) is None

    (tmp_path / "1/ns/net").unlink()
    assert shared(links(root, 1), links_of_node(root)) is None


@pytest.mark.parametrize(("flags", "is_known"), [(2129984, True), (4194560, False)])
def test_kernel_threads_tell_where_pid_1_may_not_be_asked(tmp_path: Path, flags: int, is_known: bool) -> None:
    """A process that calls itself kthreadd, in a container that is a node, tells nothing."""
    kthreadd = stat(2, comm=b"kthreadd").replace(b" 4194560 ", b" %d " % flags)
    root = str(tree(tmp_path, {**ns(2, NODE), "2/stat": kthreadd, **process(1)}))
    (tmp_path / "1/ns/pid").unlink()

    assert links_of_node(root).get("net") == ("net:[4026531992]" if is_known else None)
    assert links_of_node(root)["uts"] == "uts:[4026531838]", "that is so on every kernel"


def test_own_namespaces_are_read_as_the_kernel_prints_them() -> None:
    """All six are there on a kernel that runs containers."""
    assert links("/proc", os.getpid()).keys() == {*KINDS}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"         0          0 4294967295\n", UserMap(is_whole=True, root=0)),
        (b"         0     100000      65536\n", UserMap(is_whole=False, root=100000)),
        (b"         0       1000          1\n         1     100000      65536\n", UserMap(is_whole=False, root=1000)),
        (b"         0          0          1\n", UserMap(is_whole=False, root=0)),
        (b"      1000       1000          1\n", UserMap(is_whole=False, root=None)),
    ],
    ids=["first", "remapped", "rootless", "root as root", "no root"],
)
def test_users_inside_and_outside(raw: bytes, expected: UserMap) -> None:
    """Lines of three numbers."""
    assert parse_uid_map(raw) == expected


@pytest.mark.parametrize("raw", [b"", b"0 0\n", b"0 0 x\n", b"         0          0 42949"])
def test_a_map_that_is_not_there_yet_is_none(raw: bytes) -> None:
    """Between unshare(2) and the write of it the file is empty."""
    with pytest.raises(ValueError, match=r"mapped|to unpack|invalid literal"):
        parse_uid_map(raw)


@given(st.binary())
def test_garbage_is_a_map_or_a_value_error(raw: bytes) -> None:
    """Nothing else."""
    with suppress(ValueError):
        parse_uid_map(raw)
