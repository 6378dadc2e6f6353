"""The kubelet's list of pods: polled, as it has no watch, and at once for an id that nobody knows, and when a container has ended."""

import asyncio
import contextlib
from collections.abc import Callable

from agent.sources.kubernetes_access import Pace
from agent.sources.kubernetes_client import Client
from agent.sources.kubernetes_node_pods import ListedPods, NodePods
from collectors.kernel.container_id import ContainerKey

_SOUGHT_MOST = 1000
_TRIES = 4
"""How often an id is asked for before it waits for the next poll: the kubelet itself hears of a container, and of its end, seconds late."""


class KubeletPoll:
    """Lists the pods of the kubelet again and again. `up` is called after each list."""

    def __init__(self, pods: NodePods, pace: Pace, up: Callable[[], None], clock: Callable[[], float]) -> None:
        self._pods = pods
        self._pace = pace
        self._up = up
        self._clock = clock
        self._missed: dict[ContainerKey, float] = {}
        self._sought: dict[ContainerKey, int] = {}
        self._ended: dict[ContainerKey, int] = {}
        self._heard, self._told_of_end = asyncio.Event(), asyncio.Event()

    async def follow(self, client: Client) -> None:
        """Tell what is listed until the kubelet does not answer. Raises Blind."""
        loop = asyncio.get_running_loop()
        while True:
            self._heard.clear()
            self._told_of_end.clear()
            asked = loop.time()
            listed = await self._pods.read_list(client, "/pods", {})
            self._keep_missed(listed)
            self._pods.tell_list(listed)
            self._pods.tell_names(is_watched=False)
            self._up()
            self._sought = {key: tries - 1 for key, tries in self._sought.items() if self._pods.is_unknown(key)}
            self._ended = {key: tries - 1 for key, tries in self._ended.items() if tries > 1 and not self._pods.is_over(key)}
            if not self._ended:
                seeking = any(tries > 0 for tries in self._sought.values())
                await _wait(self._heard, asked + (self._pace.seek if seeking else self._pace.poll))
                await _wait(self._told_of_end, asked + self._pace.seek)
            await asyncio.sleep(asked + self._pace.end - loop.time())

    def seek(self, key: ContainerKey) -> None:
        """Ask for an id that nobody knows. One that was sought in vain, of no pod perhaps, stays there with no tries left."""
        if key not in self._sought:
            if len(self._sought) >= _SOUGHT_MOST:
                self._sought.clear()
            self._sought[key] = _TRIES
            self._heard.set()

    def ask_about_end(self, key: ContainerKey) -> None:
        """Ask about a container that has ended, until the kubelet says so too."""
        if len(self._ended) < _SOUGHT_MOST:
            self._ended.setdefault(key, _TRIES)
        self._told_of_end.set()
        self._heard.set()

    def _keep_missed(self, listed: ListedPods) -> None:
        """Add what was told before and is missing for less than an interval between two polls.

        A kubelet that has just started lists only the pods it has been told of so far (https://github.com/kubernetes/kubernetes/issues/112119).
        """
        now = self._clock()
        there = {key for identities in listed.containers.values() for key in identities}
        self._missed = {key: self._missed.get(key, now) for key in self._pods.told if key not in there}
        late = {key for key, since in self._missed.items() if now - since < self._pace.poll}
        for uid, keys in self._pods.keys.items():
            if kept := {key: self._pods.told[key] for key in keys & late}:
                listed.containers.setdefault(uid, {}).update(kept)


async def _wait(event: asyncio.Event, until: float) -> None:
    """Wait for an event, or until that time of the loop's clock."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            await event.wait()
