"""The identities: container id -> what it is called, from all sources together. The dead are kept a while.

The register writes, in the event loop, what sources tell; the sampling thread reads `known`, one immutable mapping that is replaced whole
and never changes under it.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

from collectors.kernel.container_id import ContainerKey

KEEP_DEAD_SECONDS = 15 * 60
"""Event counters must outlive their container by three scrapes at the slowest usual interval, or increase() misses the last event."""

KEEP_DEAD_MOST = 10_000

PRECEDENCE = ("docker", "oci", "kubernetes", "kmsg", "cgroup")
"""Where two sources tell of one container, each fact is taken from the first that has it."""

NAMES = ("kubernetes", "oci", "docker")
"""So is the name, but in this order: Docker calls a container of Kubernetes by a name that the kubelet has made up."""

HEARD_OF = "unknown"
"""The state of a container that something happened to, when nobody has said more of it."""


@dataclass(frozen=True, slots=True)
class Termination:
    """How a runtime says that a container ended; finished_at in seconds of the wall clock."""

    exit_code: int
    reason: str = ""
    signal: int = 0
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What one source, or all of them together, say of one container. Empty means not told.

    `state` is the runtime's word; `seen_alive` is false for one that had ended before the agent first heard of it, or has not run yet;
    `ended` is the identities' clock. `created` is the wall clock, and told of one that was not started yet. `runtime` is the scheme of its
    id where the source spells that: docker, containerd, cri-o. `kind` is app, init, sidecar (a restartable init container) or ephemeral.
    `holds_pod` is true of a sandbox that all of its pod runs in (gVisor, Kata).
    """

    name: tuple[str, ...] = ()
    image: str = ""
    state: str = "running"
    seen_alive: bool = True
    ended: float | None = None
    created: float | None = None
    is_sandbox: bool = False
    holds_pod: bool = False
    pod_uid: str = ""
    runtime: str = ""
    kind: str = ""
    workload_kind: str = ""
    workload: str = ""
    project: str = ""
    service: str = ""
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    restarts: int | None = None
    last_termination: Termination | None = None
    deletion_timestamp: float | None = None
    grace_seconds: float | None = None
    stop_signal: str = ""


@dataclass(frozen=True, slots=True)
class Described:
    """A source describes some containers: as it now sees them, whatever it has said of them before."""

    source: str
    identities: Mapping[ContainerKey, Identity]


@dataclass(frozen=True, slots=True)
class Listed:
    """A source lists all containers that it knows: what it has told of and lists no more was removed."""

    source: str
    identities: Mapping[ContainerKey, Identity]


@dataclass(frozen=True, slots=True)
class Amended:
    """A source corrects some fields of what it has said of a container; it means nothing where it has said nothing."""

    source: str
    container: ContainerKey
    changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EndedUnseen:
    """A container has ended, and its source does not know with what status: else it tells that it exited (facts.py)."""

    source: str
    container: ContainerKey


@dataclass(frozen=True, slots=True)
class PodsListed:
    """Which pods there are: namespace and name by the uid that their cgroup has. `is_watched`: every change is told at once."""

    source: str
    names: Mapping[str, tuple[str, str]]
    is_watched: bool


NameFact = Described | Listed | Amended | EndedUnseen | PodsListed
"""What a source tells of names; what happened to a container is in collectors/inquest/facts.py."""


class KnownIdentities(Protocol):
    """The identities as a source sees them: it reads what is known and can be asked. What it knows itself it tells as facts."""

    @property
    def known(self) -> Mapping[ContainerKey, Identity]:
        """All that is known, in one mapping that never changes."""
        ...

    def lives(self, key: ContainerKey) -> bool:
        """Whether a source knows of a container, and none that it has ended."""
        ...

    def when_heard(self, look: Callable[[ContainerKey], None]) -> None:
        """Have the source asked at once for an id that something happened to; soon nobody may know it any more."""
        ...


@dataclass(frozen=True, slots=True)
class Pods:
    """Namespace and name of the pods that Kubernetes lists, by the uid that their cgroup has.

    `told` is the identities' clock at the last list; infinite while every change is told at once.
    """

    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    told: float = -math.inf


class Identities:
    """Names of containers, living and lately dead."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, dict[ContainerKey, Identity]] = {source: {} for source in PRECEDENCE}
        self._heard: list[Callable[[ContainerKey], None]] = []
        self.known: Mapping[ContainerKey, Identity] = MappingProxyType({})
        self.pods = Pods()
        self._pods_before: dict[str, float] = {}

    def put(self, source: str, changes: Mapping[ContainerKey, Identity]) -> None:
        """Add or replace what a source says of some containers, and forget those that died long ago."""
        told = self._told[source]
        identities = dict(self.known)
        told.update(changes)
        for key in changes:
            identities[key] = self._merged(key)
        for key in self._long_dead(identities):
            del identities[key]
            for by_source in self._told.values():
                by_source.pop(key, None)
        self.known = MappingProxyType(identities)

    def end(self, source: str, key: ContainerKey, state: str) -> None:
        """Note that a source says a container has ended (`exited`, `removed`), if it has told of it."""
        identity = self._told.get(source, {}).get(key)
        if identity is not None and (identity.ended is None or identity.state != state):
            self.put(source, {key: replace(identity, state=state, ended=identity.ended or self._clock())})

    def remove(self, key: ContainerKey) -> None:
        """Note that its runtime removed a container, for all who have told of it: who told the removal need not know names."""
        for source in [source for source, told in self._told.items() if key in told and told[key].state != HEARD_OF]:
            self.end(source, key, "removed")

    def amend(self, source: str, key: ContainerKey, **facts: Any) -> None:
        """Change some facts of what a source says of a container, if it has told of it."""
        identity = self._told[source].get(key)
        if identity is not None:
            self.put(source, {key: replace(identity, **facts)})

    def lives(self, key: ContainerKey) -> bool:
        """Whether a source knows of a container, and none that it has ended."""
        identity = self.known.get(key)
        return identity is not None and identity.ended is None

    def list_pods(self, names: Mapping[str, tuple[str, str]], *, is_watched: bool) -> None:
        """Say which pods there are now; `is_watched` if every change will be told at once."""
        now = self._clock()
        before = {**self._pods_before, **dict.fromkeys(self.pods.names.keys() - names.keys(), now)}
        self._pods_before = {uid: listed for uid, listed in before.items() if now - listed <= KEEP_DEAD_SECONDS and uid not in names}
        self.pods = Pods(dict(names), math.inf if is_watched else now)

    def was_listed(self, pod_uid: str) -> bool:
        """Whether Kubernetes lists a pod, or did so lately."""
        return pod_uid in self.pods.names or pod_uid in self._pods_before

    def resync(self, source: str, listed: Mapping[ContainerKey, Identity]) -> None:
        """Replace what a source said by its full list: what it lists no more has ended."""
        now = self._clock()
        told = self._told[source]
        missing = {
            key: replace(identity, state="removed", ended=identity.ended or now) for key, identity in told.items() if key not in listed
        }
        known = {key: replace(identity, seen_alive=True) for key, identity in listed.items() if key in told and told[key].seen_alive}
        self.put(source, {**missing, **listed, **known})

    def hear(self, source: str, key: ContainerKey) -> None:
        """Note an id that something happened to: it gets a name even if nobody ever lists it, and whoever knows more may look now."""
        if key not in self.known or not self.known[key].seen_alive:
            self.put(source, {key: Identity(state=HEARD_OF, ended=self._clock())})
        self.ask(key)

    def ask(self, key: ContainerKey) -> None:
        """Have whoever may know more of an id look now; if nobody does, it stays unknown."""
        for look in self._heard:
            look(key)

    def when_heard(self, look: Callable[[ContainerKey], None]) -> None:
        """Have a source asked at once for an id that something happened to; soon nobody may know it any more."""
        self._heard.append(look)

    def _merged(self, key: ContainerKey) -> Identity:
        told = [by_source[key] for by_source in self._told.values() if key in by_source]
        merged = told[0]
        for identity in told[1:]:
            merged = _filled(merged, identity)
        named = (self._told[source][key].name for source in NAMES if key in self._told[source])
        names = next(filter(None, named), merged.name)
        # So does a runtime spell an image whose tag was given to another one since.
        image = next((identity.image for identity in told if identity.image and not is_digest(identity.image)), merged.image)
        # An id never lives again, but for Docker's, which nobody else tells of. So whoever tells of its end first is right: a kubelet
        # that is not heard any more says "running" for ever, and CRI-O keeps the bundle of a container that has ended. What one knows to
        # be removed another may still call exited: containerd's bundle goes at the end, and tells no more.
        endings = [(identity.ended, identity.state) for identity in told if identity.ended is not None and identity.state != HEARD_OF]
        ended, state = min(endings) if endings else (merged.ended, merged.state)
        if any(state == "removed" for _, state in endings):
            state = "removed"
        return replace(merged, name=names, image=image, ended=ended, state=state, seen_alive=any(identity.seen_alive for identity in told))

    def _long_dead(self, identities: Mapping[ContainerKey, Identity]) -> list[ContainerKey]:
        now = self._clock()
        dead = sorted((identity.ended, key) for key, identity in identities.items() if identity.ended is not None)
        return [
            key for position, (ended, key) in enumerate(dead) if now - ended > KEEP_DEAD_SECONDS or position < len(dead) - KEEP_DEAD_MOST
        ]


_FACTS = (
    *("name", "image", "is_sandbox", "holds_pod", "pod_uid", "runtime", "kind", "workload_kind", "workload", "project", "service"),
    *("pod_labels", "restarts", "last_termination", "deletion_timestamp", "grace_seconds", "stop_signal"),
)


def never_started(identities: KnownIdentities) -> dict[tuple[str, ...], float]:
    """Return the names of the containers that were created and are not started yet, and when they were, seconds of the wall clock."""
    return {
        identity.name: identity.created
        for identity in identities.known.values()
        if identity.state == "created" and identity.created is not None and identity.name and not identity.is_sandbox
    }


def is_digest(image: str) -> bool:
    """Whether it is the digest of an image and no name."""
    return image.startswith("sha256:")


def _filled(first: Identity, second: Identity) -> Identity:
    """Fill what the first does not tell from the second."""
    return replace(first, **{fact: getattr(second, fact) for fact in _FACTS if not getattr(first, fact) and getattr(second, fact)})
