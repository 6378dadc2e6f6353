"""Names from Kubernetes: the kubelet's list of pods, polled, or the API server's, watched. Plain HTTPS, no client library.

They tell what the runtime does not know: the pod's labels, the workload it belongs to, which container is a sidecar, how often one was
restarted, how the last one ended, and that a pod is being deleted. The kubelet needs `get` on `nodes/pods` (never `nodes/proxy`, which
is a shell in every pod of the node), the API server `list` and `watch` on `pods`.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection, Iterable

from agent.identities import KnownIdentities
from agent.sources import Tell
from agent.sources.kubernetes_access import Access, Pace
from agent.sources.kubernetes_api_server import ApiServerWatch
from agent.sources.kubernetes_client import connected
from agent.sources.kubernetes_facts import SOURCE
from agent.sources.kubernetes_kubelet import KubeletPoll
from agent.sources.kubernetes_node_pods import NodePods
from agent.status import Status
from agent.supervise import FAR_DELAY_SECONDS, rest
from collectors.base import Sample
from collectors.inquest.facts import Emptied, Exited
from collectors.kernel.container_id import ContainerKey


class KubernetesSource:
    """Follows the pods of one node."""

    longest_rest = FAR_DELAY_SECONDS

    def __init__(
        self,
        *,
        access: Access,
        tell: Tell,
        identities: KnownIdentities,
        pod_labels: Collection[str] = (),
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Make it; `clock` is the identities', `wall` that of facts: seconds since 1970."""
        self.status = Status(SOURCE)
        self._access = access
        self._pace = pace or Pace()
        self._note = "any certificate of the kubelet is believed (--kubernetes.kubelet-insecure-skip-verify)" if access.skip_verify else ""
        self._pods = NodePods(tell=tell, identities=identities, labels=pod_labels, clock=clock, wall=wall)
        self._api: KubeletPoll | ApiServerWatch = (
            KubeletPoll(self._pods, self._pace, self._up, clock)
            if access.mode == "kubelet"
            else ApiServerWatch(self._pods, access.node_name, self._pace, self._up)
        )
        self._identities = identities
        self._wanted = asyncio.Event()
        identities.when_heard(self._hear)

    async def rest(self, seconds: float) -> None:
        """Wait before the next try, but a second only for a birth that nobody has named, or an end; not all nodes at the same time."""
        self._wanted.clear()
        await rest(seconds * random.uniform(0.5, 1), self._wanted)  # noqa: S311 - no secret

    def samples(self) -> Iterable[Sample]:
        """Yield nothing: its status is all that is measured."""
        return ()

    async def follow(self) -> None:
        """Tell what the API tells until it does not answer. Raises Blind."""
        async with connected(self._access, self._pace) as client:
            await self._api.follow(client)

    def ended(self, fact: Emptied | Exited) -> None:
        """Ask at once about a container of a pod of which others say that it has ended: a deletion is listed for seconds only."""
        key = fact.container
        identity = self._identities.known.get(key)
        is_sandbox = identity is not None and identity.is_sandbox
        is_of_pod = key in self._pods.told or (isinstance(fact, Emptied) and bool(fact.id.pod_uid))
        if is_of_pod and fact.source != SOURCE and not (key.is_nested or is_sandbox or self._pods.is_over(key)):
            self._wanted.set()
            self._api.ask_about_end(key)

    def _hear(self, key: ContainerKey) -> None:
        # Of pods, an id is never one inside another.
        if self._pods.is_unknown(key) and not key.is_nested:
            self._wanted.set()
            self._api.seek(key)

    def _up(self) -> None:
        self.status.up(self._note)
