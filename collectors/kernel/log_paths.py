"""Paths of the kernel log, which begin at the root of the cgroup hierarchy, brought to the tree that the agent sees.

A node that is itself a container (kind, k3d, minikube, Docker in Docker, LXC) has a cgroup namespace: its tree begins at its own cgroup.

    the log      /docker/HOST/kubelet/kubepods/podUID/ID    /system.slice/docker-HOST.scope/kubelet.slice/...
    the tree                 /kubelet/kubepods/podUID/ID                                   /kubelet.slice/...

What is above the tree no file tells. The log itself does, as soon as the rest of one of its paths is a container or a pod of this tree.
"""

import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import replace

from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.oom_lines import is_within
from collectors.kernel.oom_log import OomKill

_ROOT_INODE = 1
"""Of the hierarchy's root, and of no other cgroup (kernfs numbers them from 1)."""


class LogPaths:
    """Tells which kills are of this tree. `root` is the directory of the tree; None: there is none, and paths stay what they are.

    `was_here` says of the key of a container whether it was in the tree lately; its cgroup may be gone.
    """

    def __init__(self, root: str | None, was_here: Callable[[ContainerKey], bool] = lambda _key: False) -> None:
        self._root = root
        self._was_here = was_here
        self._above: bytes | None = b"" if root is None or _inode(root) == _ROOT_INODE else None
        """Where in the hierarchy the tree begins, "" for its root; None while that is not known."""

    def place(self, kill: OomKill) -> OomKill | None:
        """Return the kill with its paths as this tree has them; None when it is not known to be of this tree.

        Of a node that is a container only memory.events counts such a kill, if it is of this tree: others share the kernel and its log,
        and would all count it. A limit outside of the tree is spelt as the kernel does: `/..`.
        """
        victim = kill.task_memcg or kill.group_memcg
        for path in (victim, kill.oom_memcg):
            if path is not None and (self._above is None or not is_within(path, self._above)):
                self._above = self._find(path)
        if self._above == b"" or (self._above is None and not self._is_inside()):
            return kill
        if self._above is None or victim is None or not is_within(victim, self._above):
            return None
        return replace(
            kill,
            task_memcg=self._rebase(kill.task_memcg),
            oom_memcg=self._rebase(kill.oom_memcg),
            group_memcg=self._rebase(kill.group_memcg),
        )

    @property
    def is_part(self) -> bool:
        """Whether the tree is known to be a part of the hierarchy: that of a node that is a container."""
        return bool(self._above)

    def _is_inside(self) -> bool:
        """Whether the tree is a part of the hierarchy: its root has no cgroup.events."""
        return os.path.exists(f"{self._root}/cgroup.events")

    def _find(self, path: bytes) -> bytes | None:
        """Find what of a path is above the tree: as little as possible, for what a container makes inside of itself looks alike.

        A container is always believed, for no two have one id; so a path that was made to look alike elsewhere misleads only until the
        next kill here. A pod is while nothing is known: static pods of two nodes with one name have one UID.
        """
        names = path.split(b"/")[1:]
        for start in range(len(names)):
            if any(self._is_here(*piece) for piece in _pieces(names[start:])):
                return b"".join(b"/" + name for name in names[:start])
        return self._above

    def _is_here(self, path: bytes, container: ContainerId | None) -> bool:
        """Whether a container, or a pod, is at this path of the tree; or was, and what it was in is still there."""
        if container is None and self._above is not None:
            return False
        directory = os.fsencode(f"{self._root}") + path
        was_here = container is not None and path.count(b"/") > 1 and self._was_here(container.key)
        return os.path.isdir(directory) or (was_here and os.path.isdir(os.path.dirname(directory)))

    def _rebase(self, path: bytes | None) -> bytes | None:
        if path is None or not self._above:
            return path
        if is_within(path, self._above):
            return path[len(self._above) :] or b"/"
        return b"/" + posixpath.relpath(path, self._above)


def _pieces(names: list[bytes]) -> Iterator[tuple[bytes, ContainerId | None]]:
    """Yield the paths that begin with the first of these names and end with a container, or else with a pod."""
    for end in range(len(names), 0, -1):
        piece = b"".join(b"/" + name for name in names[:end])
        text = piece.decode(errors="backslashreplace")
        found = container_id.parse(text)
        if found is not None and found.container_path == text:
            yield piece, found
        elif container_id.is_pod(text):
            yield piece, None


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
