"""Walks of the tree of cgroups: what comes, goes, vanishes meanwhile, and is closed."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.files import Forbidden, Gone, ReadError
from collectors.kernel.hierarchy import Hierarchy
from tests.conftest import without_privileges
from tests.tree import descriptors_left, tree


def paths(cgroups: list[Cgroup]) -> dict[str, bool]:
    """Say which cgroups were found, and whether they have children."""
    return {cgroup.path: cgroup.has_children for cgroup in cgroups}


def test_walk(tmp_path: Path) -> None:
    """All directories from the root down, each with its inode; files and links are not cgroups."""
    tree(tmp_path, {"cgroup.procs": "", "a.slice/cgroup.procs": "", "a.slice/b.scope/x/": "", "c/": ""})
    (tmp_path / "link").symlink_to("a.slice")

    found = Hierarchy(str(tmp_path)).walk()

    assert paths(found) == {"/": True, "/a.slice": True, "/a.slice/b.scope": True, "/a.slice/b.scope/x": False, "/c": False}
    assert found[0].path == "/"
    assert all(cgroup.inode == os.stat(cgroup.directory).st_ino for cgroup in found)
    assert {cgroup.directory for cgroup in found} == {str(tmp_path), *(f"{tmp_path}{cgroup.path}" for cgroup in found[1:])}


@pytest.mark.parametrize("name", ["with space", "line\nbreak", "{}\"'\\", "ü", "a:b", "docker-", os.fsdecode(b"\xff")])
def test_walk_finds_cgroups_of_any_name(tmp_path: Path, name: str) -> None:
    """A container with a cgroup namespace names its own as it likes."""
    (tmp_path / name).mkdir()

    assert paths(Hierarchy(str(tmp_path)).walk()) == {"/": True, f"/{name}": False}


def test_walk_of_a_deep_tree(tmp_path: Path) -> None:
    """Depth costs no recursion, and what lies deeper than a path can be long is left out: a container may go that deep."""
    start = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(20):
            os.mkdir(250 * "d")
            os.chdir(250 * "d")
        found = Hierarchy(str(tmp_path)).walk()
    finally:
        os.chdir(start)
        shutil.rmtree(tmp_path)

    assert 10 < len(found) < 20
    assert found[-1].path == found[-1].path[:251] * (len(found) - 1)


def test_walk_without_a_root(tmp_path: Path) -> None:
    """The root must be there."""
    with pytest.raises(Gone):
        Hierarchy(f"{tmp_path}/removed/too").walk()


def test_walk_leaves_out_what_vanishes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the listing of its parent it still seems to be there; the read of its first file tells."""
    tree(tmp_path, {"a/b/": "", "c/": ""})
    scandir = os.scandir

    def too_late(path: str) -> Any:
        if path.endswith("/a"):
            (tmp_path / "a" / "b").rmdir()
            (tmp_path / "a").rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", too_late)

    assert paths(Hierarchy(str(tmp_path)).walk()) == {"/": True, "/a": False, "/c": False}


def test_what_has_not_changed_is_not_listed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many children as the directory has links, and all of them there: there can be no other one."""
    tree(tmp_path, {"a/b/": "", "a/c/": "", "d/": ""})
    hierarchy, scandir = Hierarchy(str(tmp_path)), os.scandir
    first = hierarchy.walk()
    listed: list[str] = []

    def noted(path: str) -> Any:
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)

    assert hierarchy.walk() == first
    assert listed == []

    (tmp_path / "a" / "b").rename(tmp_path / "a" / "e")  # one is gone, and another one has come
    assert paths(hierarchy.walk()) == {"/": True, "/a": True, "/a/c": False, "/a/e": False, "/d": False}
    assert listed == [f"{tmp_path}/a"]


@pytest.mark.parametrize("change", ["another", "one more", "one less", "none", "one below", "anew"])
def test_a_walk_finds_what_changed_since_the_last_one(tmp_path: Path, change: str) -> None:
    """The same as one that has seen nothing before."""
    tree(tmp_path, {"a/b/": "", "a/c/": "", "d/": ""})
    hierarchy = Hierarchy(str(tmp_path))
    before = {cgroup.path: cgroup.inode for cgroup in hierarchy.walk()}
    match change:
        case "another":
            (tmp_path / "d").rmdir()
            (tmp_path / "e").mkdir()
        case "one more":
            (tmp_path / "a" / "e").mkdir()
        case "one less":
            (tmp_path / "a" / "b").rmdir()
        case "none":
            (tmp_path / "a" / "b").rmdir()
            (tmp_path / "a" / "c").rmdir()
        case "one below":
            (tmp_path / "d" / "e").mkdir()
        case "anew":
            (tmp_path / "other").mkdir()  # takes the next inode, so that the next directory has another one than before
            (tmp_path / "a" / "b").rmdir()
            (tmp_path / "a" / "b").mkdir()

    found = hierarchy.walk()

    assert {*found} == {*Hierarchy(str(tmp_path)).walk()}
    assert {cgroup.path: cgroup.inode for cgroup in found} != before


def test_walk_leaves_out_what_vanishes_during_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its siblings are found all the same."""
    tree(tmp_path, {"a/b/": "", "c/": ""})
    stat = os.stat

    def gone(path: str) -> os.stat_result:
        if path.endswith("/a"):
            raise FileNotFoundError(errno.ENOENT, "", path)
        return stat(path)

    monkeypatch.setattr(os, "stat", gone)
    found = Hierarchy(str(tmp_path)).walk()
    monkeypatch.undo()

    assert paths(found) == {"/": True, "/c": False}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOMEM])
def test_walk_raises_when_a_listing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """The containers below would seem to have ended."""
    tree(tmp_path, {"a/b/": ""})
    scandir = os.scandir

    def fail(path: str) -> Any:
        if path.endswith("/a"):
            raise OSError(code, os.strerror(code), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)

    with pytest.raises(ReadError, match="/a: ") as raised:
        Hierarchy(str(tmp_path)).walk()
    assert type(raised.value) is ReadError


def test_walk_raises_without_descriptors(tmp_path: Path) -> None:
    """An empty node would be a lie."""
    tree(tmp_path, {"a/b/": ""})

    with descriptors_left(0), pytest.raises(ReadError):
        Hierarchy(str(tmp_path)).walk()


# What its owner closed


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111, 0o700])
def test_a_closed_directory_costs_what_is_in_it_alone(unprivileged: Path, mode: int) -> None:
    """It is there itself, and whoever is new sees nothing in it, if names cannot be listed, or not be looked up."""
    tree(unprivileged, {"closed/b/": "", "open/b/": ""})
    (unprivileged / "closed").chmod(mode)
    hierarchy = Hierarchy(str(unprivileged))
    everything = {"/": True, "/closed": True, "/closed/b": False, "/open": True, "/open/b": False}

    is_open = mode == 0o700  # to its owner, who this is
    assert paths(hierarchy.walk()) == {path: parent for path, parent in everything.items() if is_open or path != "/closed/b"}
    assert hierarchy.hidden == (set() if is_open else {"/closed"})
    (unprivileged / "closed").chmod(0o755)
    assert (paths(hierarchy.walk()), hierarchy.hidden) == (everything, frozenset())


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_what_was_seen_before_it_was_closed_has_not_ended(unprivileged: Path, mode: int) -> None:
    """Nobody can tell; when it is opened again it is seen what has."""
    tree(unprivileged, {"closed/b/c/": "", "closed/d/": "", "open/": "", "other/e/": ""})
    hierarchy = Hierarchy(str(unprivileged))
    before = hierarchy.walk()
    (unprivileged / "closed/d").rmdir()
    (unprivileged / "closed").chmod(mode)

    for _ in range(2):
        assert {cgroup.path: cgroup for cgroup in hierarchy.walk()} == {cgroup.path: cgroup for cgroup in before}
        assert hierarchy.hidden == {"/closed"}
    (unprivileged / "closed").chmod(0o755)
    (unprivileged / "closed/f").mkdir()
    for _ in range(2):
        found = {cgroup.path: cgroup.inode for cgroup in hierarchy.walk()}
        assert found.keys() ^ {cgroup.path for cgroup in before} == {"/closed/d", "/closed/f"}
        assert hierarchy.hidden == frozenset()
        assert hierarchy.uncovered == {found["/closed/f"]}, "it may have been there for long"
    (unprivileged / "closed/f").rmdir()
    hierarchy.walk()
    assert hierarchy.uncovered == frozenset()


def test_what_may_be_looked_up_though_not_listed_is_seen_to_end(unprivileged: Path) -> None:
    """Only what is new in there is hidden."""
    tree(unprivileged, {"closed/b/": "", "closed/c/": "", "other/e/": ""})
    hierarchy = Hierarchy(str(unprivileged))
    hierarchy.walk()
    (unprivileged / "closed").chmod(0o111)
    assert "/closed/c" in paths(hierarchy.walk())
    assert hierarchy.hidden == frozenset()

    (unprivileged / "closed").chmod(0o755)
    (unprivileged / "closed/c").rmdir()
    (unprivileged / "closed").chmod(0o111)
    assert "/closed/c" not in paths(hierarchy.walk())
    assert hierarchy.hidden == {"/closed"}


def test_what_was_in_a_directory_that_was_made_anew_has_ended(unprivileged: Path) -> None:
    """A cgroup is removed when nothing is left in it. What is in the new one, which is closed, nobody has seen."""
    tree(unprivileged, {"closed/b/c/": "", "open/": "", "other/e/": ""})
    hierarchy = Hierarchy(str(unprivileged))
    hierarchy.walk()
    (unprivileged / "closed").rename(unprivileged / "before")
    tree(unprivileged, {"closed/d/": ""})
    shutil.rmtree(unprivileged / "before")
    (unprivileged / "closed").chmod(0)

    assert paths(hierarchy.walk()) == {"/": True, "/closed": True, "/open": False, "/other": True, "/other/e": False}
    assert hierarchy.hidden == {"/closed"}


def test_a_closed_directory_without_children_hides_none(unprivileged: Path) -> None:
    """Its links say so."""
    tree(unprivileged, {"closed/": "", "open/b/": ""})
    (unprivileged / "closed").chmod(0)
    hierarchy = Hierarchy(str(unprivileged))

    assert paths(hierarchy.walk()) == {"/": True, "/closed": False, "/open": True, "/open/b": False}
    assert hierarchy.hidden == frozenset()


@pytest.mark.parametrize("closed", ["", "a"])
def test_where_all_is_closed_there_is_no_tree(unprivileged: Path, closed: str) -> None:
    """The root, or each that has anything in it: that is a missing privilege."""
    tree(unprivileged, {"a/b/": "", "c/": ""})
    (unprivileged / closed).chmod(0)
    try:
        with pytest.raises(Forbidden, match=f"{unprivileged / closed}: "):
            Hierarchy(str(unprivileged)).walk()
    finally:
        (unprivileged / closed).chmod(0o755)


class Closable:
    """A tree of cgroups whose directories are made, removed, closed and opened at random; what is in it is asked of one who sees all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modes: dict[str, int] = {}
        tree(root, {"open/b/": ""})

    def change(self, what: str, path: str) -> None:
        """Do one thing; what cannot be done is not."""
        self.open()
        if what == "make":
            (self.root / path).mkdir(parents=True, exist_ok=True)
        elif what == "remove":
            with suppress(OSError):
                (self.root / path).rmdir()
        elif (self.root / path).is_dir():
            self.modes[path] = {"close": 0o000, "list": 0o444, "enter": 0o111, "open": 0o755}[what]
        self.modes = {each: mode for each, mode in self.modes.items() if (self.root / each).is_dir()}
        self.truth = {cgroup.path: cgroup for cgroup in Hierarchy(str(self.root)).walk()}
        for each in sorted(self.modes, key=len, reverse=True):
            (self.root / each).chmod(self.modes[each])

    def open(self) -> None:
        """Open all."""
        for each in sorted(self.modes, key=len):
            (self.root / each).chmod(0o755)

    def is_reachable(self, path: str) -> bool:
        """Whether each directory above it may be listed, and looked into."""
        return all(self.modes.get(above[1:], 0o755) == 0o755 for above in container_id.ancestors(path))


_PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
_CHANGES = st.lists(st.tuples(st.sampled_from(["make", "make", "remove", "close", "list", "enter", "open"]), _PATHS), max_size=30)


@given(changes=_CHANGES)
def test_whatever_is_closed_and_opened_no_other_cgroup_is_lost(changes: list[tuple[str, str]]) -> None:
    """What can be reached is as it is, what cannot is as it was, and nothing is made up; in what is not hidden nothing is missing."""
    with without_privileges() as root:
        closable, hierarchy = Closable(root), Hierarchy(str(root))
        known: set[Cgroup] = set()
        for what, path in changes:
            closable.change(what, path)
            known |= {*closable.truth.values()}
            found = {cgroup.path: cgroup for cgroup in hierarchy.walk()}
            hidden = hierarchy.hidden

            for each, cgroup in closable.truth.items():
                if closable.is_reachable(each):
                    assert (found[each].inode, found[each].has_children) == (cgroup.inode, cgroup.has_children)
                else:
                    assert each in found or not hidden.isdisjoint(container_id.ancestors(each))
            inodes = {(cgroup.path, cgroup.inode) for cgroup in known}
            for each, cgroup in found.items():
                assert (each, cgroup.inode) in inodes
                assert each in closable.truth or not hidden.isdisjoint(container_id.ancestors(each))
        closable.open()
        assert {*hierarchy.walk()} == {*Hierarchy(str(root)).walk()}
