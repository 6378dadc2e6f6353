"""Which process is PID 1 of which container. A victim of the OOM killer is mostly reaped before its line in the kernel log is read, so
this must be known before: from the last scan of /proc, and of a container that no scan has seen from its birth."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress

from collectors.base import Node
from collectors.inquest.bounded import forget_oldest
from collectors.kernel import cgroupfs, container_id
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.files import ReadError, parse_once
from collectors.kernel.first_pids import has_first_pids
from collectors.kernel.process_status import namespace_pids
from collectors.kernel.processes import Namespace

MOST = 10_000
"""Containers that are remembered."""

_DELAYS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""When a newborn container is looked at. A runtime moves helpers of its own into the cgroup first, and nothing tells when PID 1 follows:
it does within milliseconds, or seconds on a busy node, long before it runs the container's program."""
_MOST_LOOKS = 1000
"""Newborn containers that are looked at in turn."""
_MOST_PROCESSES = 50

_PLACES = ("", "/container")
"""Where a runtime puts PID 1 below the cgroup of a container: crun makes one more with systemd."""


class Inits:
    """Remembers the PID 1 of each container's life. Used in the event loop.

    The kernel log has the PIDs of the first PID namespace. Where /proc or the agent belongs to another one, nothing is known.
    """

    def __init__(self, proc_root: str) -> None:
        self._proc_root = proc_root
        self._is_first_namespace = bool(has_first_pids(proc_root))
        self._known: OrderedDict[ContainerKey, tuple[int, int]] = OrderedDict()
        """Key of a container -> inode of its cgroup and PID of its init."""
        self._scanned: frozenset[tuple[str, tuple[int, ...]]] = frozenset()
        self._living: frozenset[ContainerKey] = frozenset()
        """Those that the last pass saw."""
        self._looks = 0

    def born(self, container: ContainerId, cgroup: Cgroup) -> None:
        """Look for the PID 1 of a container whose cgroup was just made, until it is there."""
        # What a container makes in itself is not looked for: one may make many, and name them as it likes.
        if self._is_first_namespace and cgroup.inode and not container.host_id and self._looks < _MOST_LOOKS:
            self._looks += 1
            self._look_after(0, container, cgroup)

    def scanned(self, node: Node, namespaces: Mapping[str, Namespace]) -> None:
        """Take what a scan of /proc has found: the PID 1 of every PID namespace but the first."""
        if not self._is_first_namespace:
            return
        self._living = frozenset(instance.id.key for instance in node.instances)
        inits = frozenset((each.init_cgroup, each.init_pids) for each in namespaces.values() if each.init_cgroup and each.init_pids)
        found: dict[ContainerKey, tuple[int, list[tuple[int, ...]]]] = {}
        for path, pids in inits - self._scanned:
            container = container_id.parse(path)
            cgroup = node.by_path.get(container.container_path) if container else None
            if container and cgroup:
                found.setdefault(container.key, (cgroup.inode, []))[1].append(pids)
        for key, (inode, candidates) in found.items():
            self._note(key, inode, candidates)
        self._scanned = inits

    def is_init(self, key: ContainerKey, inode: int | None, pid: int) -> bool | None:
        """Whether a process of a container is its PID 1; None is not known. `inode` is that of its cgroup, None when it is gone."""
        known_inode, init = self._known.get(key, (0, 0))
        if inode is None:  # it may have been another life of the container
            return True if init == pid else None
        return init == pid if inode == known_inode else None

    def _look_after(self, turn: int, container: ContainerId, cgroup: Cgroup) -> None:
        asyncio.get_running_loop().call_later(_DELAYS[turn], self._look, turn, container, cgroup)

    def _look(self, turn: int, container: ContainerId, cgroup: Cgroup) -> None:
        candidates = [pids for place in _PLACES for pids in self._namespace_pids(cgroup.directory + place) if pids[-1:] == (1,)]
        if candidates or turn + 1 == len(_DELAYS) or not os.path.isdir(cgroup.directory):
            self._looks -= 1
            self._note(container.key, cgroup.inode, candidates)
        else:
            self._look_after(turn + 1, container, cgroup)

    def _namespace_pids(self, directory: str) -> list[tuple[int, ...]]:
        pids: list[int] = []
        found = []
        with suppress(ReadError):  # the cgroup is gone, or this runtime makes none here
            pids = cgroupfs.processes(directory)
        for pid in pids[:_MOST_PROCESSES]:
            with suppress(ReadError):  # the process has ended
                found.append(parse_once(f"{self._proc_root}/{pid}/status", namespace_pids))
        return found

    def _note(self, key: ContainerKey, inode: int, candidates: list[tuple[int, ...]]) -> None:
        """Remember the one in the outermost namespace, which is the container's own; it stays the same for the life of the container."""
        candidates = sorted(candidates, key=len)
        is_clear = len(candidates) == 1 or (candidates and len(candidates[0]) < len(candidates[1]))
        if is_clear and self._known.get(key, (0, 0))[0] != inode:
            self._known[key] = inode, candidates[0][0]
            self._known.move_to_end(key)
            forget_oldest(self._known, MOST, self._living.__contains__)
