"""What each container is called on the page: from when on, and for how long a better name may still take the place of another.

A container is named when it runs, not while it is only created: Compose creates one as OLDID_NAME and renames it before it starts. Whoever
has no name by NAME_WITHIN_SECONDS is called by its id. SETTLED_SECONDS after its labels were first served they stay for life; until then
what its runtime calls it takes their place, be it told late or after a rename. Two living containers never have the same labels, for a
kill in one must not count for the other: who comes second is called NAME_ID. Only those of pods may share theirs: two lives of one.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from agent.identities import KEEP_DEAD_SECONDS, Identity, Pods, is_digest
from collectors.base import Instance
from collectors.inquest.kill_state import Labels
from collectors.kernel.container_id import ContainerKey

NAME_WITHIN_SECONDS = 10
"""Series should not change their labels, so a container waits this long for its name before it is called by its id."""

LISTED_WITHIN_SECONDS = 3 * NAME_WITHIN_SECONDS
"""As long waits one in a pod that Kubernetes lists: it may be the sandbox, which shows only by not being listed."""

SETTLED_SECONDS = 300
"""By then every source has told its names, and a deployment has renamed what it found healthy."""


@dataclass(slots=True)
class _Known:
    """One container id: since when it is known, when it was last alive, the inode of its present life, and what it is called.

    `is_sandbox`: taken for one although nobody told so; `holds_pod`: a sandbox that all of its pod runs in, for life.
    `served` is when a page first showed it, or its life began anew after that; None if none did. `lost` are labels that another one has
    now. `image` and `runtime` are as they were told first.
    """

    since: float
    alive: float
    labels: Labels = ()
    lost: Labels = ()
    served: float | None = None
    inode: int = 0
    is_sandbox: bool = False
    holds_pod: bool = False
    image: str = ""
    runtime: str = ""


class Naming:
    """Remembers what each container was called. `kept` are the labels that an agent before this one gave, by key of the container.

    Names among them stay for life; an id may give way to a name once more, for this agent may have sources that the other had not.
    `killed` gives the keys of those with OOM kills, whose counts move with their labels: they must not be added to those of another.
    """

    def __init__(self, kept: Mapping[ContainerKey, Labels], now: float, killed: Callable[[], Collection[ContainerKey]] = frozenset) -> None:
        self.hits = self.misses = 0
        self.moved: list[tuple[Labels, Labels]] = []
        """Labels that were served and gave way, each with those that took their place; whoever makes the page takes them away."""
        self._killed = killed
        self._living: dict[ContainerKey, int] = {}
        self._taken: dict[Labels, ContainerKey] = {}
        self._containers: dict[ContainerKey, _Known] = {}
        self._shown = dict.fromkeys(filter(None, kept.values()), now)
        """When labels were last on a page, for as long as an alert may look back at them."""
        for key, labels in kept.items():
            is_sandbox = labels != () and not labels[2]
            served = now if labels == _by_id(key) else -math.inf
            self._containers[key] = _Known(now, now, labels, served=served, is_sandbox=is_sandbox, holds_pod=is_sandbox)

    def __contains__(self, key: ContainerKey) -> bool:
        return key in self._containers

    def take(self, instances: Sequence[Instance], identities: Mapping[ContainerKey, Identity], pods: Pods, now: float) -> None:
        """Add who is new, drop who died long ago, and give everybody the labels that are due now."""
        self._add_new(instances, identities, now)
        self._taken = self._given(instances, now)
        unnamed = [key for key, container in self._containers.items() if not self._name(key, container, identities, now)]
        if unnamed:
            listed = {instance.id.key for instance in instances if instance.id.pod_uid in pods.names}
            sandboxes = _oldest(instances, pods)
            for key in unnamed:
                self._do_without_name(key, self._containers[key], sandboxes.get(key), pods, now, is_listed=key in listed)

    def served(self, now: float) -> None:
        """Note that a page shows the labels of now."""
        for container in self._containers.values():
            if container.labels:
                self._shown[container.labels] = now
                if container.served is None:
                    container.served = now

    def labels(self, identities: Mapping[ContainerKey, Identity]) -> tuple[dict[ContainerKey, Labels], dict[ContainerKey, Labels]]:
        """Return the labels of everybody who is exported, and those of sandboxes, which are only if their pod runs in them."""
        names: dict[ContainerKey, Labels] = {}
        sandboxes: dict[ContainerKey, Labels] = {}
        for key, container in self._containers.items():
            is_sandbox = _is_sandbox(container, identities.get(key))
            if is_sandbox:
                sandboxes[key] = container.labels
            if container.labels and (container.holds_pod or not is_sandbox):
                names[key] = container.labels
        return names, sandboxes

    def pauses(self, identities: Mapping[ContainerKey, Identity]) -> list[ContainerKey]:
        """Return the keys of sandboxes in which no pod is known to run."""
        return [
            key for key, container in self._containers.items() if not container.holds_pod and _is_sandbox(container, identities.get(key))
        ]

    def hold_pod(self, key: ContainerKey) -> None:
        """Note that all of its pod runs in a sandbox."""
        self._containers[key].holds_pod = True

    def held_pods(self) -> set[Labels]:
        """Return namespace and name of the pods that run in their sandbox."""
        return {container.labels[:2] for container in self._containers.values() if container.holds_pod}

    def is_unnamed(self, key: ContainerKey, identity: Identity | None) -> bool:
        """Whether nobody has told the name of one that was met, nor that it is a sandbox."""
        return not (identity is not None and identity.name) and not self._containers[key].is_sandbox

    def image_and_runtime(self, key: ContainerKey, identity: Identity | None) -> tuple[str, str]:
        """Return both as they were first told, for life; a digest alone gives way to a name, which a runtime forgets when its tag moves."""
        container = self._containers[key]
        if identity is not None:
            if not container.image or (is_digest(container.image) and identity.image and not is_digest(identity.image)):
                container.image = identity.image
            container.runtime = container.runtime or identity.runtime
        return container.image, container.runtime

    def _add_new(self, instances: Sequence[Instance], identities: Mapping[ContainerKey, Identity], now: float) -> None:
        for instance in instances:
            self._containers.setdefault(instance.id.key, _Known(now, now)).alive = now
        for key, identity in identities.items():
            if identity.seen_alive:
                container = self._containers.setdefault(key, _Known(now, now))
                container.alive = max(container.alive, now if identity.ended is None else identity.ended)
        self._containers = {key: container for key, container in self._containers.items() if now - container.alive <= KEEP_DEAD_SECONDS}
        self._shown = {labels: shown for labels, shown in self._shown.items() if now - shown <= KEEP_DEAD_SECONDS}

    def _given(self, instances: Sequence[Instance], now: float) -> dict[Labels, ContainerKey]:
        """Return who of the living has which labels already; of two with the same the later life loses them."""
        self._living = _inodes(instances)
        given: dict[Labels, ContainerKey] = {}
        for key, inode in self._living.items():
            container = self._containers[key]
            if container.inode not in (0, inode) and container.served is not None:
                container.served = now  # it was started again, and its minutes with it
            container.inode = inode
            if not container.labels or container.labels[1]:
                continue
            other = given.setdefault(container.labels, key)
            if other != key:
                first, last = sorted((key, other), key=lambda each: (each.is_nested, self._containers[each].inode))
                given[container.labels] = first
                self._lose(last)
        return given

    def _name(self, key: ContainerKey, container: _Known, identities: Mapping[ContainerKey, Identity], now: float) -> bool:
        """Call somebody as it is told; false if that is not told."""
        identity = identities.get(key)
        if identity is None or not identity.name:
            return False
        is_settled = container.served is not None and now - container.served >= SETTLED_SECONDS
        if not container.labels:
            self.hits += 1
            container.served = None
        if not container.labels or (container.labels != identity.name and (not is_settled or container.is_sandbox or identity.is_sandbox)):
            self._call(key, container, self._free(key, identity.name, identities))
        if container.is_sandbox:
            container.is_sandbox, container.holds_pod = False, container.holds_pod and identity.is_sandbox
        return True

    def _do_without_name(
        self, key: ContainerKey, container: _Known, sandbox: Labels | None, pods: Pods, now: float, *, is_listed: bool
    ) -> None:
        """Take one that nobody names for the sandbox of its pod, or else call it by its id, when it is time."""
        by_id = _by_id(key)
        if sandbox is not None and container.labels in ((), by_id) and min(pods.told, now) - container.since >= NAME_WITHIN_SECONDS:
            if container.labels in self._shown:
                self.moved.append((container.labels, sandbox))
            container.labels, container.is_sandbox = sandbox, True
        elif not container.labels and now - container.since >= (LISTED_WITHIN_SECONDS if is_listed else NAME_WITHIN_SECONDS):
            self.misses += 1
            container.served = None
            self._call(key, container, self._free(key, by_id, {}))

    def _free(self, key: ContainerKey, wanted: Labels, identities: Mapping[ContainerKey, Identity]) -> Labels:
        """Return the labels, or such with an id in them if another one that lives has them."""
        *pod, name = wanted
        for labels in (wanted, (*pod, f"{name}_{key[:12]}"), (*pod, f"{name}_{key}")):
            holder = self._taken.get(labels, key)
            # One that is gone is the life before if the other one has that name; not if it has only kept it after a rename.
            is_same = key not in self._living and (identity := identities.get(holder)) is not None and identity.name == labels
            # What a container made inside of itself never keeps a name from another container, however it is named.
            is_imitation = holder.is_nested and not key.is_nested
            if holder == key or is_same or is_imitation:
                return labels
        return labels

    def _call(self, key: ContainerKey, container: _Known, labels: Labels) -> None:
        if labels == container.labels:
            return
        if container.labels in self._shown and (labels in self._shown or self._is_shared(container.labels)) and key in self._killed():
            return
        if (before := container.labels or container.lost) in self._shown:
            self.moved.append((before, labels))
        if self._taken.get(container.labels) == key:
            del self._taken[container.labels]
        container.labels, container.lost = labels, ()
        if key in self._living and not labels[1]:
            if (holder := self._taken.get(labels, key)) != key:
                self._lose(holder)  # an imitation, which is named anew
            self._taken[labels] = key

    def _lose(self, key: ContainerKey) -> None:
        container = self._containers[key]
        container.labels, container.lost = (), container.labels

    def _is_shared(self, labels: Labels) -> bool:
        return sum(container.labels == labels for container in self._containers.values()) > 1


def _is_sandbox(container: _Known, identity: Identity | None) -> bool:
    return container.is_sandbox or (identity is not None and identity.is_sandbox)


def _by_id(key: ContainerKey) -> Labels:
    return "", "", key.id[:12]


def _inodes(instances: Sequence[Instance]) -> dict[ContainerKey, int]:
    """Return the inode of the newest life of each container; the inode of a cgroup is a number that only grows."""
    inodes: dict[ContainerKey, int] = {}
    for instance in instances:
        inodes[instance.id.key] = max(instance.cgroup.inode, inodes.get(instance.id.key, 0))
    return inodes


def _oldest(instances: Sequence[Instance], pods: Pods) -> dict[ContainerKey, Labels]:
    """Return the labels that the first container of each listed pod has if it is the sandbox: a runtime starts that before all others.

    CRI-O may have none, and gives its containers scopes, but not its sandboxes.
    """
    first: dict[str, Instance] = {}
    for instance in instances:
        pod = instance.id.pod_uid
        if pod in pods.names and not instance.id.host_id and (pod not in first or instance.cgroup.inode < first[pod].cgroup.inode):
            first[pod] = instance
    return {
        instance.id.key: (*pods.names[pod], "")
        for pod, instance in first.items()
        if instance.id.runtime != "cri-o" or not instance.id.container_path.endswith(".scope")
    }
