"""The pods of one node, as Kubernetes last told of them, whichever API it was. What is new is told on, once."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from agent.identities import KEEP_DEAD_SECONDS, Described, Identity, KnownIdentities, PodsListed
from agent.sources import Tell
from agent.sources.kubernetes_client import PIECE, Client
from agent.sources.kubernetes_facts import SOURCE, facts_between
from agent.sources.kubernetes_pods import PodList, identities_of, names_of, uid_of
from agent.supervise import Blind
from collectors.kernel.container_id import ContainerKey


@dataclass(slots=True)
class ListedPods:
    """One list of pods, by the uid that the API knows each by."""

    containers: dict[str, dict[ContainerKey, Identity]] = field(default_factory=dict)
    names: dict[str, tuple[str, tuple[str, str]]] = field(default_factory=dict)
    """The uid that its cgroup has, its namespace and its name."""
    version: str = ""


class NodePods:
    """What Kubernetes has told of the node's pods: `told` of each container, and the `keys` of those of each pod, by its uid.

    `clock` is the identities', `wall` that of facts: seconds since 1970.
    """

    def __init__(
        self,
        *,
        tell: Tell,
        identities: KnownIdentities,
        labels: Collection[str],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.told: dict[ContainerKey, Identity] = {}
        self.keys: dict[str, set[ContainerKey]] = {}
        self._names: dict[str, tuple[str, tuple[str, str]]] = {}
        self._tell = tell
        self._identities = identities
        self._labels = labels
        self._clock, self._wall = clock, wall
        self._began = clock()

    def is_unknown(self, key: ContainerKey) -> bool:
        """Whether no source has a name for it."""
        identity = self._identities.known.get(key)
        return identity is None or not (identity.name or identity.is_sandbox)

    def is_over(self, key: ContainerKey) -> bool:
        """Whether Kubernetes has told that it has ended."""
        return key in self.told and self.told[key].ended is not None

    async def read_list(self, client: Client, path: str, parameters: Mapping[str, str]) -> ListedPods:
        """Ask for a list of pods. Raises Blind."""
        listed = ListedPods()
        reader = PodList()

        def take(found: Iterator[object]) -> None:
            for pod in found:
                listed.names[uid_of(pod)] = names_of(pod)
                listed.containers.setdefault(uid_of(pod), {}).update(self._containers(pod))

        async with client.get(path, parameters) as response:
            try:
                async for piece in response.content.iter_chunked(PIECE):
                    take(reader.feed(piece))
                    await asyncio.sleep(0)
                take(reader.finish())
            except (ValueError, RecursionError) as error:
                raise Blind(f"{client.url(path)}: the answer is not a list of pods: {error}") from error
        listed.version = reader.resource_version
        return listed

    def tell_list(self, listed: ListedPods) -> None:
        """Tell a full list: what it lists no more is gone."""
        self._names = listed.names
        self.keys = {uid: set(identities) for uid, identities in listed.containers.items()}
        now = self._now({key: identity for identities in listed.containers.values() for key, identity in identities.items()})
        self._tell_new(now, gone=self.told.keys() - now.keys())

    def tell_change(self, pod: object, *, is_deleted: bool) -> None:
        """Tell that a pod was added or modified, or deleted, while pods are watched."""
        uid = uid_of(pod)
        if not uid:
            return
        now = self._now(self._containers(pod))
        before = self.keys.pop(uid, set())
        if is_deleted:
            self._names.pop(uid, None)
            self._tell_new(now, gone=before | now.keys())
        else:
            self._names[uid] = names_of(pod)
            self.keys[uid] = set(now)
            self._tell_new(now, gone=before - now.keys())
        self.tell_names(is_watched=True)

    def tell_names(self, *, is_watched: bool) -> None:
        """Tell which pods there are; `is_watched` if every change will be told."""
        names = {uid: names for uid, names in self._names.values() if uid and all(names)}
        self._tell(PodsListed(SOURCE, names, is_watched=is_watched))

    def _containers(self, pod: object) -> dict[ContainerKey, Identity]:
        return identities_of(pod, self._labels, clock=self._clock(), wall=self._wall())

    def _now(self, identities: Mapping[ContainerKey, Identity]) -> dict[ContainerKey, Identity]:
        """Return the identities with what is known already of the dead: a second telling makes no death younger, or unseen.

        Those of which it knows nothing lived and died between two lists, or before the agent came. They are left out if that is long ago:
        they are listed for as long as their pod is.
        """
        known = self._identities.known
        now = self._clock()
        result = {}
        for key, identity in identities.items():
            told, before = self.told.get(key), known.get(key)
            if identity.ended is None:
                result[key] = identity
            elif told is not None and told.ended is not None:
                result[key] = replace(identity, ended=told.ended, seen_alive=told.seen_alive)
            elif before is not None:
                # The death of one that was alive is dated by this clock: the kubelet's is the wall's, which may be set.
                result[key] = replace(identity, ended=now if before.ended is None else before.ended, seen_alive=before.seen_alive)
            elif now - identity.ended <= KEEP_DEAD_SECONDS:
                is_dated = identity.last_termination is not None and identity.last_termination.finished_at is not None
                result[key] = replace(identity, seen_alive=is_dated and identity.ended >= self._began)
        return result

    def _tell_new(self, identities: Mapping[ContainerKey, Identity], gone: Iterable[ContainerKey]) -> None:
        """Tell what is new: most of what is listed is what was listed before."""
        changes = {key: identity for key, identity in identities.items() if self.told.get(key) != identity}
        wall = self._wall()
        facts = [fact for key, identity in changes.items() for fact in facts_between(key, self.told.get(key), identity, wall)]
        self.told.update(identities)
        now = self._clock()
        for key in gone:
            identity = self.told.pop(key, None)
            if identity is None or key not in self._identities.known:
                continue  # another source told of its end, so long ago that it is forgotten
            if identity.ended is None:  # how it ended is not told; what is, is how the life before it did
                identity = replace(identity, last_termination=None, ended=now)
            changes[key] = replace(identity, state="removed")
        for fact in facts:  # before the description, which may know more of an end that is a fact too
            self._tell(fact)
        if changes:
            self._tell(Described(SOURCE, changes))
