"""The API server's pods of one node: one list, then a watch from where it stood.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import contextlib
import json
from collections.abc import Callable

from agent.sources.kubernetes_access import Pace
from agent.sources.kubernetes_client import CUT, Client, Gone, lines
from agent.sources.kubernetes_node_pods import NodePods
from agent.sources.kubernetes_pods import version_of
from agent.supervise import Blind
from collectors.kernel.container_id import ContainerKey

_PODS = "/api/v1/pods"


class ApiServerWatch:
    """Watches the pods of one node. `up` is called when a watch has begun."""

    def __init__(self, pods: NodePods, node_name: str, pace: Pace, up: Callable[[], None]) -> None:
        self._pods = pods
        self._of_node = {"fieldSelector": f"spec.nodeName={node_name}"}
        self._pace = pace
        self._up = up
        self._version = ""
        self._list_version = "0"

    async def follow(self, client: Client) -> None:
        """Tell what happens to pods until the API server does not answer. Raises Blind."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            is_new = not self._version
            try:
                if is_new:
                    await self._list(client)
                await self._watch(client)
            except Gone:
                # What happened since is forgotten there. A list of version 0 may be as old, so the next one must be the newest.
                self._version, self._list_version = "", ""
                if is_new:
                    raise
            await asyncio.sleep(began + self._pace.again - loop.time())

    def seek(self, _key: ContainerKey) -> None:
        """Do nothing: a watch tells of every container as soon as the API server knows it."""

    def ask_about_end(self, _key: ContainerKey) -> None:
        """Do nothing: a watch tells of every deletion and every end."""

    async def _list(self, client: Client) -> None:
        # Version 0: from the API server's memory. Any other list makes it read all pods of the cluster from its database, for each node.
        version = {"resourceVersion": self._list_version} if self._list_version else {}
        listed = await self._pods.read_list(client, _PODS, self._of_node | version)
        if not listed.version:
            raise Blind(f"{client.url(_PODS)}: a list of pods without a resourceVersion; is this a Kubernetes API server?")
        self._pods.tell_list(listed)
        self._version, self._list_version = listed.version, "0"

    async def _watch(self, client: Client) -> None:
        parameters = {
            "watch": "true",
            **self._of_node,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": f"{max(1, round(self._pace.watch))}",
        }
        async with client.get(_PODS, parameters, then=self._pace.watch + self._pace.patience) as response:
            self._up()
            self._pods.tell_names(is_watched=True)
            try:
                # A cut is what the restart of an API server looks like, or a load balancer's impatience: it is resumed where it stood.
                with contextlib.suppress(*CUT):
                    async for line in lines(response.content):
                        self._event(client, line)
                        await asyncio.sleep(0)
            except (ValueError, RecursionError) as error:
                self._version = ""
                raise Blind(f"{client.url(_PODS)}: the answer is not a list of events: {error}") from error
            finally:
                self._pods.tell_names(is_watched=False)

    def _event(self, client: Client, line: bytes) -> None:
        """Tell what an event says. Raises Blind if it says that the watch has failed, ValueError and RecursionError if it is not JSON."""
        event = json.loads(line)
        kind, pod = (event.get("type"), event.get("object")) if isinstance(event, dict) else (None, None)
        if kind == "ERROR":
            code = pod.get("code") if isinstance(pod, dict) else None
            self._version = ""
            raise (Gone if code == 410 else Blind)(f"{client.url('')}: the watch failed with code {code!r}")
        if kind in ("ADDED", "MODIFIED", "DELETED"):
            self._pods.tell_change(pod, is_deleted=kind == "DELETED")
        self._version = version_of(pod) or self._version
