"""The census: one walk of the cgroup tree joined to the directory gives the Node that a pass sees. Runs in the sampling thread."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent.directory import KEEP_DEAD_SECONDS, Directory, Entry
from agent.status import Status
from collectors.base import Container, Instance, Node
from collectors.kernel import cgroupfs, container_id
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId
from collectors.kernel.files import KernelFiles, ReadError
from collectors.kernel.procfs import ProcessTable

NAME_WITHIN_SECONDS = 10
"""A series must never change its labels, so a container waits this long for its name before it is called by its id for life."""


@dataclass(slots=True)
class _Person:
    """One container id: since when it is known, when it was last alive, and the name it was first exported under."""

    since: float
    alive: float
    labels: tuple[str, ...] = ()


class Census:
    """Takes stock of the node once per pass, and remembers what each container was called."""

    def __init__(
        self,
        *,
        cgroup_root: str | None,
        proc_root: str,
        directory: Directory,
        status: Status,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cgroup_root = cgroup_root
        self._proc_root = proc_root
        self._directory = directory
        self._status = status
        self._clock = clock
        self._people: dict[str, _Person] = {}
        self._identifiers: dict[str, ContainerId | None] = {}

    def take(self, files: KernelFiles, process_table: ProcessTable) -> Node:
        """Walk the tree and name what is in it."""
        now = self._clock()
        entries = self._directory.entries
        cgroups = self._walk()
        files.retain({cgroup.directory for cgroup in cgroups})
        instances = self._instances(cgroups)
        living = {instance.id.key for instance in instances}
        self._meet(living, entries, now)
        for identifier, person in self._people.items():
            self._name(identifier, person, entries.get(identifier), now)
        names = {identifier: person.labels for identifier, person in self._people.items() if person.labels}
        resting = Counter(entry.state for identifier, entry in entries.items() if identifier not in living and entry.state in _RESTING)
        containers = self._exported(instances, {identifier: entry.image for identifier, entry in entries.items()})
        return Node(
            proc_root=self._proc_root,
            files=files,
            process_table=process_table,
            cgroups=cgroups,
            instances=instances,
            containers=containers,
            names=names,
            resting=resting,
        )

    def _walk(self) -> list[Cgroup]:
        if self._cgroup_root is None:
            return []
        try:
            cgroups = list(cgroupfs.walk(self._cgroup_root))
        except ReadError as error:
            self._status.down(str(error))
            return []
        self._status.up()
        return cgroups

    def _meet(self, living: set[str], entries: Mapping[str, Entry], now: float) -> None:
        """Add who is new and drop who died long ago."""
        for identifier in living:
            self._people.setdefault(identifier, _Person(now, now)).alive = now
        for identifier, entry in entries.items():
            if entry.seen_alive:
                person = self._people.setdefault(identifier, _Person(now, now))
                person.alive = max(person.alive, now if entry.ended is None else entry.ended)
        self._people = {identifier: person for identifier, person in self._people.items() if now - person.alive <= KEEP_DEAD_SECONDS}

    def _instances(self, cgroups: list[Cgroup]) -> list[Instance]:
        before, self._identifiers = self._identifiers, {}
        found = []
        for cgroup in cgroups:
            path = cgroup.path
            identifier = self._identifiers[path] = before[path] if path in before else container_id.parse(path)
            if identifier is not None and identifier.container_path == path:
                found.append(Instance(identifier, cgroup))
        return found

    @staticmethod
    def _name(identifier: str, person: _Person, entry: Entry | None, now: float) -> None:
        if person.labels:
            return
        if entry is not None and entry.name:
            person.labels = entry.name
        elif now - person.since >= NAME_WITHIN_SECONDS:
            person.labels = ("", "", identifier.rpartition("/")[2][:12])

    def _exported(self, instances: list[Instance], images: dict[str, str]) -> list[Container]:
        newest: dict[tuple[str, ...], Instance] = {}
        # The inode of a cgroup is a number that only grows, so the greater one is the newer life. What a container made inside of
        # itself never takes the place of another container, however it is named.
        for instance in sorted(instances, key=lambda instance: (not instance.id.host_id, instance.cgroup.inode)):
            labels = self._people[instance.id.key].labels
            if labels:
                newest[labels] = instance
        return [Container(labels, instance.id, instance.cgroup, images.get(instance.id.key, "")) for labels, instance in newest.items()]


_RESTING = ("created", "restarting", "exited", "dead")
