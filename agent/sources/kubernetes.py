"""Names from Kubernetes: the kubelet's list of pods, polled, or the API server's, watched. Plain HTTPS, no client library.

They tell what the runtime does not know: the pod's labels, the workload it belongs to, which container is a sidecar, how often one was
restarted, how the last one ended, and that a pod is being deleted. The kubelet needs `get` on `nodes/pods` (never `nodes/proxy`, which
is a shell in every pod of the node), the API server `list` and `watch` on `pods`.
"""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from agent.identities import KEEP_DEAD_SECONDS, Identities, Identity
from agent.sources.kubernetes_access import Access, Pace
from agent.sources.kubernetes_client import CUT, PIECE, Client, Gone, connected, lines
from agent.sources.kubernetes_pods import PodList, identities_of, names_of, uid_of, version_of
from agent.status import Status
from agent.supervise import FAR_DELAY_SECONDS, Blind, rest
from collectors.base import Sample
from collectors.kernel.container_id import ContainerKey

_SOUGHT_MOST = 1000
_TRIES = 4
"""How often an id nobody knows is asked for before it waits for the next poll: the kubelet itself hears of a container seconds late."""


class KubernetesSource:
    """Follows the pods of one node."""

    longest_rest = FAR_DELAY_SECONDS

    def __init__(self, *, access: Access, identities: Identities, pod_labels: Collection[str] = (), pace: Pace | None = None) -> None:
        self.status = Status("kubernetes")
        self._access = access
        self._identities = identities
        self._labels = pod_labels
        self._pace = pace or Pace()
        self._note = "any certificate of the kubelet is believed (--kubernetes.kubelet-insecure-skip-verify)" if access.skip_verify else ""
        self._began = time.monotonic()
        self._told: dict[ContainerKey, Identity] = {}
        self._ids: dict[str, set[ContainerKey]] = {}
        self._missed: dict[ContainerKey, float] = {}
        self._sought: dict[ContainerKey, int] = {}
        self._heard = asyncio.Event()
        self._wanted = asyncio.Event()
        self._names: dict[str, tuple[str, tuple[str, str]]] = {}
        self._version = ""
        self._list_version = "0"
        identities.when_heard(self._hear)

    async def rest(self, seconds: float) -> None:
        """Wait before the next try, but a second only if a container is born that nobody has named; not all nodes at the same time."""
        self._wanted.clear()
        await rest(seconds * random.uniform(0.5, 1), self._wanted)  # noqa: S311 - no secret

    def samples(self) -> Iterable[Sample]:
        """Yield nothing: its status is all that is measured."""
        return ()

    async def follow(self) -> None:
        """Give the identities what the API tells until it does not answer. What it was told stays. Raises Blind."""
        async with connected(self._access, self._pace) as client:
            await (self._poll(client) if self._access.mode == "kubelet" else self._watch_on(client))

    # The kubelet: polled, as it has no watch.

    async def _poll(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._heard.clear()
            asked = loop.time()
            pods, _ = await self._list(client, "/pods", {})
            self._tell_all(self._with_missed(pods))
            self._list_pods(is_watched=False)
            self.status.up(self._note)
            self._sought = {key: tries - 1 for key, tries in self._sought.items() if self._is_unknown(key)}
            seeking = any(tries > 0 for tries in self._sought.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(asked + (self._pace.seek if seeking else self._pace.poll)):
                    await self._heard.wait()
            await asyncio.sleep(asked + self._pace.seek - loop.time())

    def _hear(self, key: ContainerKey) -> None:
        # One that was sought in vain, of no pod perhaps, stays there with no tries left. Of pods, an id is never one inside another.
        if not self._is_unknown(key) or key.is_nested:
            return
        self._wanted.set()
        if key not in self._sought:
            if len(self._sought) >= _SOUGHT_MOST:
                self._sought.clear()
            self._sought[key] = _TRIES
            self._heard.set()

    def _is_unknown(self, key: ContainerKey) -> bool:
        identity = self._identities.known.get(key)
        return identity is None or not (identity.name or identity.is_sandbox)

    def _with_missed(self, pods: dict[str, dict[ContainerKey, Identity]]) -> dict[str, dict[ContainerKey, Identity]]:
        """Add what was told before and is missing for less than an interval between two polls.

        A kubelet that has just started lists only the pods it has been told of so far (https://github.com/kubernetes/kubernetes/issues/112119).
        """
        now = time.monotonic()
        listed = {key for identities in pods.values() for key in identities}
        self._missed = {key: self._missed.get(key, now) for key in self._told if key not in listed}
        late = {key for key, since in self._missed.items() if now - since < self._pace.poll}
        for uid, keys in self._ids.items():
            if kept := {key: self._told[key] for key in keys & late}:
                pods.setdefault(uid, {}).update(kept)
        return pods

    # The API server: one list, then a watch from where it stood.

    async def _watch_on(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            is_new = not self._version
            try:
                if is_new:
                    await self._relist(client)
                await self._watch(client)
            except Gone:
                # What happened since is forgotten there. A list of version 0 may be as old, so the next one must be the newest.
                self._version, self._list_version = "", ""
                if is_new:
                    raise
            await asyncio.sleep(began + self._pace.again - loop.time())

    async def _relist(self, client: Client) -> None:
        # Version 0: from the API server's memory. Any other list makes it read all pods of the cluster from its database, for each node.
        parameters = {"fieldSelector": f"spec.nodeName={self._access.node_name}", "resourceVersion": self._list_version}
        pods, version = await self._list(client, "/api/v1/pods", {key: value for key, value in parameters.items() if value})
        if not version:
            raise Blind(f"{client.url('/api/v1/pods')}: a list of pods without a resourceVersion; is this a Kubernetes API server?")
        self._tell_all(pods)
        self._version, self._list_version = version, "0"

    async def _watch(self, client: Client) -> None:
        parameters = {
            "watch": "true",
            "fieldSelector": f"spec.nodeName={self._access.node_name}",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": f"{max(1, round(self._pace.watch))}",
        }
        async with client.get("/api/v1/pods", parameters, then=self._pace.watch + self._pace.patience) as response:
            self.status.up(self._note)
            self._list_pods(is_watched=True)
            try:
                # A cut is what the restart of an API server looks like, or a load balancer's impatience: it is resumed where it stood.
                with contextlib.suppress(*CUT):
                    async for line in lines(response.content):
                        self._event(line)
                        await asyncio.sleep(0)
            except (ValueError, RecursionError) as error:
                self._version = ""
                raise Blind(f"{client.url('/api/v1/pods')}: the answer is not a list of events: {error}") from error
            finally:
                self._list_pods(is_watched=False)

    def _event(self, line: bytes) -> None:
        """Tell what an event says. Raises Blind if it says that the watch has failed, ValueError and RecursionError if it is not JSON."""
        event = json.loads(line)
        kind, pod = (event.get("type"), event.get("object")) if isinstance(event, dict) else (None, None)
        if kind == "ERROR":
            code = pod.get("code") if isinstance(pod, dict) else None
            self._version = ""
            raise (Gone if code == 410 else Blind)(f"{self._access.url}: the watch failed with code {code!r}")
        uid = uid_of(pod)
        if uid and kind in ("ADDED", "MODIFIED", "DELETED"):
            now = self._now(self._entries(pod))
            before = self._ids.pop(uid, set())
            if kind == "DELETED":
                self._names.pop(uid, None)
                self._tell(now, gone=before | now.keys())
            else:
                self._names[uid] = names_of(pod)
                self._ids[uid] = set(now)
                self._tell(now, gone=before - now.keys())
            self._list_pods(is_watched=True)
        self._version = version_of(pod) or self._version

    # Both.

    async def _list(self, client: Client, path: str, parameters: Mapping[str, str]) -> tuple[dict[str, dict[ContainerKey, Identity]], str]:
        """Return the identities of all pods by the pod's uid, and the version of the list."""
        pods: dict[str, dict[ContainerKey, Identity]] = {}
        names: dict[str, tuple[str, tuple[str, str]]] = {}
        reader = PodList()

        def take(found: Iterator[object]) -> None:
            for pod in found:
                names[uid_of(pod)] = names_of(pod)
                pods.setdefault(uid_of(pod), {}).update(self._entries(pod))

        async with client.get(path, parameters) as response:
            try:
                async for piece in response.content.iter_chunked(PIECE):
                    take(reader.feed(piece))
                    await asyncio.sleep(0)
                take(reader.finish())
            except (ValueError, RecursionError) as error:
                raise Blind(f"{client.url(path)}: the answer is not a list of pods: {error}") from error
        self._names = names
        return pods, reader.resource_version

    def _list_pods(self, *, is_watched: bool) -> None:
        self._identities.list_pods({uid: names for uid, names in self._names.values() if uid and all(names)}, is_watched=is_watched)

    def _entries(self, pod: object) -> dict[ContainerKey, Identity]:
        return identities_of(pod, self._labels, clock=time.monotonic(), wall=time.time())

    def _tell_all(self, pods: Mapping[str, Mapping[ContainerKey, Identity]]) -> None:
        """Tell a full list: what it lists no more is gone."""
        self._ids = {uid: set(identities) for uid, identities in pods.items()}
        now = self._now({key: identity for identities in pods.values() for key, identity in identities.items()})
        self._tell(now, gone=self._told.keys() - now.keys())

    def _now(self, identities: Mapping[ContainerKey, Identity]) -> dict[ContainerKey, Identity]:
        """Return the identities with what is known already of the dead: a second telling makes no death younger, or unseen.

        Those of which it knows nothing lived and died between two lists, or before the agent came. They are left out if that is long ago:
        they are listed for as long as their pod is.
        """
        known = self._identities.known
        now = time.monotonic()
        result = {}
        for key, identity in identities.items():
            told, before = self._told.get(key), known.get(key)
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

    def _tell(self, identities: Mapping[ContainerKey, Identity], gone: Iterable[ContainerKey]) -> None:
        """Give the identities what is new, at once: most of what is listed is what was listed before."""
        changes = {key: identity for key, identity in identities.items() if self._told.get(key) != identity}
        self._told.update(identities)
        now = time.monotonic()
        for key in gone:
            identity = self._told.pop(key, None)
            if identity is None or key not in self._identities.known:
                continue  # another source told of its end, so long ago that it is forgotten
            if identity.ended is None:  # how it ended is not told; what is, is how the life before it did
                identity = replace(identity, last_termination=None, ended=now)
            changes[key] = replace(identity, state="removed")
        if changes:
            self._identities.put(self.status.source, changes)
