"""Walks of the directories of the cgroup v2 hierarchy."""

import errno
import os
from collections.abc import Sequence

from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ancestors
from collectors.kernel.files import Forbidden, explain


class Hierarchy:
    """The cgroups from a root down, which are walked again and again. Used by one thread at a time."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._last: dict[str, tuple[Cgroup, Sequence[str]]] = {}
        """What the last walk found by path, with the names of its children."""
        self.hidden: frozenset[str] = frozenset()
        """Paths of the cgroups in which the last walk could not see all there is, for their owners closed them."""
        self.uncovered: frozenset[int] = frozenset()
        """Inodes of those that were in such a one when they were not known yet: they may be older than they seem."""

    def walk(self) -> list[Cgroup]:
        """Return every cgroup from the root ("/") down. One that vanishes meanwhile is left out.

        Whoever is given a cgroup may close it, and that must cost nobody else: it is there, and what was seen in it before is taken over
        as it was, for nobody can tell that it has ended. Raises ReadError for the root, Forbidden too when all of it is closed, and when
        a listing fails for another reason: the containers below would seem to have ended.
        """
        try:
            pending = [("", os.stat(self._root))]
        except OSError as error:
            raise explain(error, self._root) from error
        found: dict[str, tuple[Cgroup, Sequence[str]]] = {}
        closed: dict[str, Forbidden] = {}
        while pending:
            path, status = pending.pop()
            cgroup, names = self._last.get(path, (None, ()))
            # kernfs counts a directory's links as 2 + its children: most have none, and if so many are known and there, these are all.
            children = _those_there(self._root + path, names) if len(names) == status.st_nlink - 2 else None
            if children is None:
                try:
                    children = _children(self._root + path)
                    names = [name for name, _ in children]
                except Forbidden as error:
                    closed[path] = error
                    is_known = cgroup is not None and cgroup.inode == status.st_ino  # what was in the one before it ended with that
                    children, names = self._seen_before(path, names if is_known else (), found)
            has_children = bool(children) or path in closed
            if cgroup is None or cgroup.inode != status.st_ino or cgroup.has_children != has_children:
                cgroup = Cgroup(path or "/", self._root + path, status.st_ino, has_children)
            found[cgroup.path if path else ""] = cgroup, names  # of equal text the one that is held anyway
            pending.extend([(f"{path}/{name}", child) for name, child in children])
        if closed:
            tops = [path for path, (cgroup, _) in found.items() if cgroup.has_children and path.count("/") == 1]
            if "" in closed or closed.keys() >= {*tops}:
                raise closed[min(closed)]
        if self.hidden or self.uncovered:
            self.uncovered = frozenset(cgroup.inode for cgroup, _ in found.values() if self._is_uncovered(cgroup))
        self._last, self.hidden = found, frozenset(closed)
        return [cgroup for cgroup, _ in found.values()]

    def _is_uncovered(self, cgroup: Cgroup) -> bool:
        before, _ = self._last.get(cgroup.path, (None, ()))
        is_new = before is None or before.inode != cgroup.inode
        return cgroup.inode in self.uncovered or (is_new and not self.hidden.isdisjoint(ancestors(cgroup.path)))

    def _seen_before(
        self, path: str, names: Sequence[str], found: dict[str, tuple[Cgroup, Sequence[str]]]
    ) -> tuple[list[tuple[str, os.stat_result]], list[str]]:
        """Look at the children that a closed cgroup had; return those that may be looked at, and the names of all that may be there.

        The others are taken over with what was below them. Who may look up names, but not list them, has seen all that he knew of.
        """
        children, kept = [], []
        for name in names:
            try:
                children.append((name, os.stat(f"{self._root}{path}/{name}")))
            except PermissionError:
                kept.append(name)
            except OSError:
                continue
        pending = [f"{path}/{name}" for name in kept]
        while pending:
            each = pending.pop()
            if each in self._last:
                found[each] = self._last[each]
                pending += [f"{each}/{name}" for name in self._last[each][1]]
        return children, [*(name for name, _ in children), *kept]


def _those_there(directory: str, names: Sequence[str]) -> list[tuple[str, os.stat_result]] | None:
    """Look at the children with these names; None if one is not there."""
    try:
        return [(name, os.stat(f"{directory}/{name}")) for name in names]
    except OSError:
        return None


def _children(directory: str) -> list[tuple[str, os.stat_result]]:
    children = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    try:
                        children.append((entry.name, os.stat(entry.path)))
                    except PermissionError:  # it may be listed, and what is in it not be looked up
                        raise
                    except OSError:
                        continue
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise explain(error, directory) from error
    return children
