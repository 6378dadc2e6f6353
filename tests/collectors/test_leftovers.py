"""Removed cgroups that still hold something, counted where they pile up."""

from pathlib import Path

import pytest

from collectors.kernel.files import Forbidden
from collectors.leftovers import Leftovers
from tests.tree import A, cgroup, collect, docker, forbid, node, remove_cgroup, tree


def dying(path: str, count: int) -> dict[str, str]:
    """Give a cgroup below which `count` removed ones are left."""
    return {f"cgroup{path}/cgroup.stat": f"nr_descendants 1\nnr_dying_descendants {count}\n"}


def found(counts: dict[str, int]) -> dict[tuple[str, tuple[str, ...]], float]:
    """Spell the series."""
    return {("coroner_cgroup_dying_descendants", (path,)): count for path, count in counts.items()}


def test_only_slices_near_the_root(tmp_path: Path) -> None:
    """Not what has no children, not what lies deeper, no pod and no container: there would be thousands of series."""
    pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12345678_1234_1234_1234_123456789abc.slice"
    for number, path in enumerate(
        (
            "",
            "/system.slice",
            "/system.slice/cron.service",
            "/kubepods.slice",
            "/kubepods.slice/kubepods-burstable.slice",
            pod,
            f"{pod}/cri-containerd-{A}.scope",
            "/docker",
            docker(A),
            f"{docker(A)}/nested",
            "/user.slice/user-1000.slice/user@1000.service",
            "/user.slice/user-1000.slice/user@1000.service/app.slice",
            "/kubepods/pod12345678-1234-1234-1234-123456789abc",
            f"/kubepods/pod12345678-1234-1234-1234-123456789abc/{A}",
        )
    ):
        tree(tmp_path, dying(path, 100 + number))

    assert collect(Leftovers(), node(tmp_path)) == found(
        {"/": 100, "/system.slice": 101, "/kubepods.slice": 103, "/kubepods.slice/kubepods-burstable.slice": 104, "/docker": 107}
    )


def test_a_root_without_children(tmp_path: Path) -> None:
    """It is the one that says whether anything is left at all."""
    tree(tmp_path, dying("", 3))

    assert collect(Leftovers(), node(tmp_path)) == found({"/": 3})


def test_none_is_a_value(tmp_path: Path) -> None:
    """A root without leftovers has 0; a missing or malformed file none."""
    tree(tmp_path, {**dying("", 0), **dying("/a.slice/b.service", 0), "cgroup/c.slice/cgroup.stat": "garbage\n", **dying("/c.slice/d", 0)})
    seen = node(tmp_path)

    assert collect(Leftovers(), seen) == found({"/": 0})
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup/c.slice/cgroup.stat"]


def test_a_slice_that_ends_after_the_walk_costs_only_its_own_series(tmp_path: Path) -> None:
    """That is normal, and nothing to report."""
    tree(tmp_path, {**dying("", 3), **dying("/a.slice", 4), **dying("/a.slice/b.service", 5)})
    seen = node(tmp_path)
    remove_cgroup(tmp_path, "/a.slice")

    assert collect(Leftovers(), seen) == found({"/": 3})
    assert seen.malformed == []


def test_a_missing_privilege_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be the same for every slice."""
    tree(tmp_path, cgroup("/a.slice"))
    seen = node(tmp_path)
    forbid(monkeypatch)

    with pytest.raises(Forbidden):
        collect(Leftovers(), seen)
