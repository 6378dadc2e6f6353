"""Zombies: per container, by who fails to wait for them, and per PID namespace, with or without a container."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from collectors.base import CONTAINER, Node, Sample, gauge
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.processes import Zombie

_NAMESPACE = ("pid_namespace", *CONTAINER)
ZOMBIES = gauge(
    "coroner_container_zombies",
    'Processes that have exited and were not waited for, by the parent that fails to: PID 1 ("init": of its own children '
    "and of orphans it adopted) or another process (/proc/PID/stat state Z).",
    (*CONTAINER, "parent"),
)
OLDEST = gauge(
    "coroner_container_oldest_zombie_timestamp_seconds", "When the oldest zombie of the container was first seen; absent while it has none."
)
NAMESPACE_ZOMBIES = gauge("coroner_pid_namespace_zombies", "Zombies in each PID namespace on the node (/proc/PID/ns/pid).", _NAMESPACE)
NAMESPACE_PROCESSES = gauge("coroner_pid_namespace_processes", "Processes in each PID namespace, zombies included.", _NAMESPACE)

_NO_CONTAINER = ("", "", "")
_NONE = ContainerKey()


class Zombies:
    """Counts state Z with one thread in one scan of /proc; a zombie keeps its cgroup and its PID namespace."""

    name = "zombies"
    metrics = (ZOMBIES, OLDEST, NAMESPACE_ZOMBIES, NAMESPACE_PROCESSES)

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.first_seen: Mapping[tuple[int, int], float] = {}
        """When each zombie that the last pass saw was first seen, by PID and start time; replaced as a whole, so any thread may read it."""

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield counts, and wall-clock seconds for the oldest."""
        processes = node.processes
        self._remember(processes.zombies)

        counts: Counter[tuple[ContainerKey, bool]] = Counter()
        oldest: dict[ContainerKey, float] = {}
        for zombie in processes.zombies:
            owner = _container_of(zombie.cgroup)
            counts[owner, zombie.parent_is_init] += 1
            seen = self.first_seen[zombie.pid, zombie.start_time]
            oldest[owner] = min(seen, oldest.get(owner, seen))
        for container in node.containers:
            yield ZOMBIES, (*container.labels, "init"), counts[container.id.key, True]
            yield ZOMBIES, (*container.labels, "other"), counts[container.id.key, False]
            if container.id.key in oldest:
                yield OLDEST, container.labels, oldest[container.id.key]
        for inode, namespace in processes.namespaces.items():
            owner = _container_of(namespace.init_cgroup)
            labels = (inode, *(node.names.get(owner) or node.sandboxes.get(owner) or _NO_CONTAINER))
            yield NAMESPACE_ZOMBIES, labels, namespace.zombies
            yield NAMESPACE_PROCESSES, labels, namespace.processes

    def _remember(self, zombies: Iterable[Zombie]) -> None:
        # The kernel keeps no time of death (no field of /proc has it), so the first sight is the best there is.
        now = self._clock()
        self.first_seen = {(zombie.pid, zombie.start_time): self.first_seen.get((zombie.pid, zombie.start_time), now) for zombie in zombies}


def _container_of(cgroup: str | None) -> ContainerKey:
    found = container_id.parse(cgroup) if cgroup else None
    return found.key if found else _NONE
