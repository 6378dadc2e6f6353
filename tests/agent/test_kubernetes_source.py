"""Names from Kubernetes, against a kubelet and an API server that list, watch, refuse, forget, hang, lie and die. The TLS is real."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from agent.identities import KEEP_DEAD_SECONDS, Identities, Identity
from agent.sources import kubernetes_client, kubernetes_kubelet, kubernetes_pods
from agent.sources.kubernetes import KubernetesSource
from agent.sources.kubernetes_access import Access, Pace
from agent.sources.kubernetes_api_server import ApiServerWatch
from agent.sources.kubernetes_kubelet import KubeletPoll
from agent.supervise import Blind, keep_running
from collectors.inquest.facts import Exited, StopRequested
from collectors.kernel.container_id import ContainerKey
from tests.agent.desk import Desk
from tests.agent.fake_kubernetes import NODE, Answer, Json, Kubernetes, answer, owned_by, pod_of, status_of, terminated

A, B, C, D = ContainerKey("a" * 64), ContainerKey("b" * 64), ContainerKey("c" * 64), ContainerKey("d" * 64)
HASH = "3f9d2c81a7b64e50923d1f08c6e5ab47"
QUICK = Pace(poll=0.05, seek=0.01, end=0.01, again=0.01)
PATIENT = Pace(poll=3600, seek=0.01, end=0.01, again=0.01)

Mode = Literal["kubelet", "apiserver"]
BOTH = pytest.mark.parametrize("mode", ["kubelet", "apiserver"])


class Remembering(Identities):
    """Identities that remember in which states it was told each container is."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, list[str]] = {}

    def put(self, source: str, changes: Mapping[ContainerKey, Identity]) -> None:
        super().put(source, changes)
        for key, identity in changes.items():
            self.states.setdefault(key, []).append(identity.state)


class Following:
    """A source that follows a cluster."""

    def __init__(self, url: str, account: Path, mode: Mode = "kubelet", pace: Pace = QUICK, **settings: Any) -> None:
        self.identities = Remembering()
        self.desk = Desk(self.identities)
        access = Access(mode, url, NODE, str(account / "token"), str(account / "ca.crt"), settings.pop("skip_verify", False))
        self.source = KubernetesSource(access=access, tell=self.desk.tell, identities=self.identities, pace=pace, **settings)
        self.desk.register.when_ended(self.source.ended)
        self.status = self.source.status

    @property
    def kubelet(self) -> KubeletPoll:
        """How it polls the kubelet."""
        assert isinstance(self.source._api, KubeletPoll)
        return self.source._api

    @property
    def api_server(self) -> ApiServerWatch:
        """How it watches the API server."""
        assert isinstance(self.source._api, ApiServerWatch)
        return self.source._api

    @asynccontextmanager
    async def run(self) -> AsyncIterator[asyncio.Task[None]]:
        """Follow until the block is left."""
        task = asyncio.create_task(self.source.follow())
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], task: asyncio.Task[None] | None = None) -> None:
        """Wait for a condition, with a deadline; a follower that fails meanwhile fails the test."""
        async with asyncio.timeout(120):
            while not condition():
                if task is not None and task.done():
                    task.result()
                await asyncio.sleep(0.005)

    async def blind(self, match: str) -> str:
        """Follow until it is blind, and return why."""
        async with self.run() as task, asyncio.timeout(120):
            with pytest.raises(Blind, match=match) as caught:
                await task
        return str(caught.value)

    def identity(self, identifier: ContainerKey) -> Identity:
        """What is known of a container, or an empty one."""
        return self.identities.known.get(identifier, Identity(state="none"))

    def name(self, identifier: ContainerKey) -> tuple[str, ...]:
        """What a container is called."""
        return self.identity(identifier).name


def recorded_sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make every sleep a short one, and return the list of how long they should have been."""
    delays: list[float] = []
    sleep = asyncio.sleep

    async def recorded(delay: float, result: None = None) -> None:
        delays.append(delay)
        await sleep(min(delay, 0.001), result)

    monkeypatch.setattr("agent.sources.kubernetes.asyncio.sleep", recorded)
    return delays


def recorded_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make every wait of the poll a short one, and return the list of how long they should have been."""
    delays: list[float] = []
    loop = asyncio.get_running_loop()
    wait = kubernetes_kubelet._wait

    async def recorded(event: asyncio.Event, until: float) -> None:
        delays.append(until - loop.time())
        await wait(event, min(until, loop.time() + 0.001))

    monkeypatch.setattr(kubernetes_kubelet, "_wait", recorded)
    return delays


# Both APIs.


@BOTH
async def test_which_pods_there_are_is_told_and_until_when_that_holds(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """Also those without a container so far: their sandboxes are told apart by that. A watch tells of every change, a poll of none."""
    waiting = status_of("app", A) | {"containerID": "", "state": {"waiting": {"reason": "ContainerCreating"}}}
    cluster.put(pod_of("web", waiting))
    cluster.put(pod_of("etcd", annotations={"kubernetes.io/config.mirror": HASH}))
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up and following.identities.pods.told > 0, task)
        assert following.identities.pods.names == {"uid-web": ("shop", "web"), HASH: ("shop", "etcd")}
        assert (following.identities.pods.told == math.inf) == (mode == "apiserver")
        cluster.put(pod_of("db"))
        cluster.delete("web")
        await following.until(lambda: set(following.identities.pods.names) == {"uid-db", HASH}, task)

    assert following.identities.pods.told < math.inf, "nobody tells of changes any more"


@BOTH
async def test_a_container_that_nobody_has_named_ends_the_rest(account: Path, mode: Mode) -> None:
    """The API may be back, and whoever is born while it is away wants a name. Those that have one are no reason to ask."""
    following = Following("https://127.0.0.1:1", account, mode)
    following.identities.put("oci", {A: Identity(("shop", "web-0", "app"))})
    async with asyncio.timeout(120):
        resting = asyncio.create_task(following.source.rest(3600))
        await asyncio.sleep(0)
        following.identities.ask(A)
        following.identities.ask(ContainerKey.of(A, B))
        assert not following.source._wanted.is_set()
        following.identities.ask(B)
        await resting


@BOTH
async def test_what_is_listed_is_named_and_the_source_is_up(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """With workload, chosen labels and all the rest that only Kubernetes knows; and nothing of the environment."""
    labels = {"app": "web", "pod-template-hash": "77"}
    cluster.put(pod_of("web-77-x", status_of("app", A, restarts=2), labels=labels, ownerReferences=[owned_by("ReplicaSet", "web-77")]))
    minute_ago = datetime.fromtimestamp(time.time() - 60, UTC).isoformat(timespec="seconds")
    cluster.put(pod_of("job", status_of("app", B, state=terminated(1, "Error", B, at=minute_ago))))
    cluster.put(pod_of("lost", status_of("app", C, state=terminated(137, "ContainerStatusUnknown", C, at=""))))
    following = Following(cluster.url, account, mode, pod_labels=["app"])
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)

    identity = following.identity(A)
    assert (identity.name, identity.image, identity.state, identity.kind) == (("shop", "web-77-x", "app"), "img:1", "running", "app")
    assert (identity.workload_kind, identity.workload, identity.pod_labels, identity.restarts) == ("Deployment", "web", {"app": "web"}, 2)
    for identifier in (B, C):
        assert (following.identity(identifier).state, following.identity(identifier).seen_alive) == ("exited", False), (
            "before the agent came"
        )
    assert following.status.reason == ""
    assert "hunter2" not in repr(following.identities.known) + repr(vars(following.source))


@BOTH
async def test_special_pods_are_named(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """A static pod by the uid of its cgroup, a sidecar, a debug container, a CronJob's pod, and one that is being deleted."""
    cluster.put(pod_of("etcd", status_of("etcd", A), annotations={"kubernetes.io/config.mirror": HASH}))
    pod = pod_of("report", status_of("app", B), ownerReferences=[owned_by("Job", "report-29388300")])
    pod["spec"]["initContainers"] = [{"name": "proxy", "image": "p:1", "restartPolicy": "Always"}]
    pod["status"]["initContainerStatuses"] = [status_of("proxy", C)]
    pod["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "d:1"}]
    pod["status"]["ephemeralContainerStatuses"] = [status_of("debugger", D)]
    pod["metadata"] |= {"deletionTimestamp": "2026-11-22T01:06:40Z", "deletionGracePeriodSeconds": 5}
    cluster.put(pod)
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)

    assert following.identity(A).pod_uid == HASH
    assert [following.identity(each).kind for each in (B, C, D)] == ["app", "sidecar", "ephemeral"]
    assert (following.identity(B).workload_kind, following.identity(B).workload) == ("CronJob", "report")
    assert (following.identity(B).deletion_timestamp, following.identity(B).grace_seconds) == (1_795_309_600.0, 5)


@BOTH
async def test_a_restart_ends_the_life_before_and_keeps_its_name(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """It was seen alive, so it stays so; how it ended is told; and a second telling makes its death no younger."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.identity(A).state == "running", task)
        old = terminated(137, "OOMKilled", A, at="2001-01-01T00:00:00Z")
        cluster.put(pod_of("web", status_of("app", B, restarts=1, lastState=old)))
        await following.until(lambda: following.identity(B).state == "running", task)
        first = following.identity(A)
        cluster.put(pod_of("web", status_of("app", B, restarts=1, lastState=old), labels={"changed": "yes"}))
        cluster.put(pod_of("other", status_of("app", C)))
        await following.until(lambda: following.name(C) != (), task)

    assert (first.name, first.state, first.seen_alive) == (("shop", "web", "app"), "exited", True)
    assert first.last_termination is not None
    assert (first.last_termination.exit_code, first.last_termination.reason) == (137, "OOMKilled")
    assert following.identity(A) == first, "the wall's clock says 2001, the identities' says now"


@BOTH
async def test_a_stop_and_an_end_are_told_once_each(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """However often they are listed, and with the times that Kubernetes says."""
    deletion: Json = {"deletionTimestamp": "2026-11-22T01:06:40Z", "deletionGracePeriodSeconds": 5}
    ended = status_of("app", A, state=terminated(143, "Error", A, at="2026-11-22T01:06:36Z"))
    pods = [pod_of("web", status_of("app", A)), pod_of("web", status_of("app", A), **deletion), pod_of("web", ended, **deletion)]
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        for number, pod in enumerate(pods):
            for labels in ({}, {"changed": "yes"}):
                cluster.put(pod | {"metadata": pod["metadata"] | {"labels": labels}})
                cluster.put(pod_of(f"other-{number}-{len(labels)}", status_of("app", other := ContainerKey(f"{number}{len(labels)}" * 32))))
                await following.until(lambda key=other: following.name(key) != (), task)  # type: ignore[misc] # mypy: no type for a default
        cluster.delete("web")
        await following.until(lambda: following.identity(A).state == "removed", task)

    told: dict[str, Any] = {"container": A, "source": "kubernetes"}
    assert following.desk.facts == [
        StopRequested(**told, time=1_795_309_595.0, grace_seconds=5, by="deletion of its pod"),
        Exited(**told, time=1_795_309_596.0, how="kubelet", code=143, reason="Error"),
    ]


@BOTH
async def test_a_life_before_the_last_is_listed_no_more_and_removed(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """Kubernetes tells of two lives; the third pushes the first out."""
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        cluster.put(pod_of("web", status_of("app", A)))
        await following.until(lambda: following.identity(A).state == "running", task)
        cluster.put(pod_of("web", status_of("app", B, restarts=1, lastState=terminated(1, "Error", A))))
        await following.until(lambda: following.identity(A).state == "exited", task)
        cluster.put(pod_of("web", status_of("app", C, restarts=2, lastState=terminated(2, "Error", B))))
        await following.until(lambda: following.identity(A).state == "removed", task)

    assert [following.identity(each).state for each in (B, C)] == ["exited", "running"]
    assert following.name(A) == following.name(B) == following.name(C)
    assert following.identity(A).last_termination is not None, "how it ended was told while it was listed"


@BOTH
async def test_a_pod_that_is_gone_has_ended_in_a_way_that_is_not_told(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """Its last known termination was that of the life before, which would be a wrong verdict on this one."""
    cluster.put(pod_of("web", status_of("app", B, restarts=1, lastState=terminated(137, "OOMKilled", A, at="2999-01-01T00:00:00Z"))))
    cluster.put(pod_of("other", status_of("app", C)))
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        assert following.identity(B).last_termination is not None
        cluster.delete("web")
        await following.until(lambda: following.identity(B).state == "removed", task)

    assert (following.name(B), following.identity(B).last_termination) == (("shop", "web", "app"), None)
    assert following.identity(B).ended is not None
    assert (following.identity(A).state, following.identity(A).last_termination is None) == ("removed", False)
    assert following.identity(C).state == "running"


@BOTH
async def test_a_life_between_two_lists_was_seen_alive(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """One that crashes every second is never listed running; that it ended after the agent came is told by its end."""
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        cluster.put(pod_of("web", status_of("app", B, lastState=terminated(1, "Error", A, at="2999-01-01T00:00:00Z"))))
        await following.until(lambda: following.identity(B).state == "running", task)

    assert (following.identity(A).state, following.identity(A).seen_alive) == ("exited", True)


@BOTH
async def test_those_that_ended_long_ago_are_not_dug_up(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """A finished job is listed until somebody deletes it; its series need not be."""
    cluster.put(pod_of("job", status_of("app", A, state=terminated(0, "Completed", A, at="2001-01-01T00:00:00Z"))))
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        cluster.delete("job")
        cluster.put(pod_of("other", status_of("app", C)))
        await following.until(lambda: following.name(C) != (), task)

    assert following.identities.states.keys() == {C}


@BOTH
async def test_the_forgotten_do_not_come_back_when_their_pod_goes(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """A kubelet may be the last to hear of an end that the bundle told of long ago."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.name(A) != (), task)
        following.identities.put("oci", {A: Identity(state="exited", ended=time.monotonic() - KEEP_DEAD_SECONDS - 1)})
        cluster.delete("web")
        cluster.put(pod_of("other", status_of("app", C)))
        await following.until(lambda: following.source._pods.told.keys() == {C}, task)

    assert following.identities.states == {A: ["running", "exited"], C: ["running"]}


@BOTH
@pytest.mark.parametrize("garbage", [{}, {"metadata": None}, {"metadata": {"uid": 7}, "status": {"containerStatuses": [None, {}]}}])
async def test_garbage_among_the_pods_is_passed_over(cluster: Kubernetes, account: Path, mode: Mode, garbage: Json) -> None:
    """The pod behind it is named all the same."""
    cluster.pods = {"garbage": garbage}
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, mode)
    async with following.run() as task:
        await following.until(lambda: following.name(A) != (), task)


@BOTH
async def test_names_stay_while_the_source_is_blind(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """They are still right; that nothing new comes is said by coroner_source_up."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, mode)
    following.source.rest = lambda seconds: asyncio.sleep(0.01)  # type: ignore[method-assign] # nobody waits for the back-off
    task = asyncio.create_task(keep_running(following.source))
    await following.until(lambda: following.status.is_up)
    cluster.instead = [answer(500)] * 1000
    cluster.end()
    await following.until(lambda: not following.status.is_up)

    assert following.identity(A).state == "running"

    cluster.instead = []
    cluster.put(pod_of("new", status_of("app", B)))
    await following.until(lambda: following.status.is_up and following.name(B) != ())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert following.identities.states[A] == ["running"]


@BOTH
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (answer(500, "no"), r"answered 500; see the log of the"),
        (answer(200, "<html>"), "the answer is not a list of pods"),
        (answer(200, '{"kind": "PodList", "items": [{"metadata": {"name"'), "not a list of pods: it ends in the middle"),
        (answer(200, '{"kind": "Status"}'), "not a list of pods: it has no items"),
        (answer(200, '{"items": [' + "[" * 100_000), "the answer is not a list of pods"),
        (answer(200, '{"items": [{"a": ' + "9" * 5000 + "}]}"), "the answer is not a list of pods"),
    ],
)
async def test_an_answer_that_is_no_list_changes_nothing(
    cluster: Kubernetes, account: Path, mode: Mode, given: Answer, message: str
) -> None:
    """Half a list would end everything in the other half."""
    cluster.put(pod_of("web", status_of("app", A)))
    cluster.instead = [given]
    following = Following(cluster.url, account, mode)

    await following.blind(message)

    assert following.identities.states == {}


@BOTH
async def test_a_connection_that_is_cut_in_the_middle_of_the_list_changes_nothing(cluster: Kubernetes, account: Path, mode: Mode) -> None:
    """What had come by then may be but half."""
    for number in range(10):
        cluster.put(pod_of(f"web-{number}", status_of("app", f"{number:064x}")))
    cluster.instead = [cluster.stumble]
    following = Following(cluster.url, account, mode)

    await following.blind("the answer was cut")

    assert following.identities.states == {}


@BOTH
async def test_a_list_without_end_is_cut_off(cluster: Kubernetes, account: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent must not be killed for what another sends."""
    monkeypatch.setattr(kubernetes_pods, "_LONGEST_LIST", 2**20)
    cluster.instead = [cluster.flood]

    await Following(cluster.url, account, mode).blind("it is longer than 1048576 bytes")


# The kubelet.


async def test_a_kubelet_without_pods_lists_none(cluster: Kubernetes, account: Path) -> None:
    """Its list is then null."""
    following = Following(cluster.url, account)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)


async def test_only_the_list_of_pods_is_ever_asked_for(cluster: Kubernetes, account: Path) -> None:
    """Everything else of the kubelet may run commands."""
    following = Following(cluster.url, account)
    async with following.run() as task:
        await following.until(lambda: len(cluster.requests) > 3, task)

    assert {(each.method, each.path_qs) for each in cluster.requests} == {("GET", "/pods")}


async def test_an_id_that_is_heard_of_is_asked_for_at_once(cluster: Kubernetes, account: Path) -> None:
    """And again some times: the kubelet's own list tells of a container only after the API server has."""
    following = Following(cluster.url, account, pace=PATIENT)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        following.identities.hear("kmsg", A)
        await following.until(lambda: len(cluster.requests) >= 3, task)
        cluster.put(pod_of("web", status_of("app", A)))
        await following.until(lambda: following.name(A) == ("shop", "web", "app"), task)
        await following.until(lambda: following.kubelet._sought == {}, task)


async def test_an_id_that_nobody_knows_is_not_asked_for_without_end(cluster: Kubernetes, account: Path) -> None:
    """It may be of no pod at all; the next poll would tell. Ids that are known, or of a container inside another, never are."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, pace=PATIENT)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        following.identities.hear("kmsg", A)
        following.identities.hear("kmsg", ContainerKey.of(B, C))
        assert not following.kubelet._heard.is_set()
        following.identities.hear("kmsg", D)
        await following.until(lambda: following.kubelet._sought == {D: 0}, task)
        following.identities.hear("kmsg", D)
        assert not following.kubelet._heard.is_set()

        assert len(cluster.requests) == 1 + kubernetes_kubelet._TRIES


async def test_a_flood_of_unknown_ids_is_bounded(cluster: Kubernetes, account: Path) -> None:
    """They are remembered, but not for ever."""
    following = Following(cluster.url, account, pace=PATIENT)
    for number in range(2500):
        following.identities.hear("kmsg", ContainerKey(f"{number:064x}"))

    assert len(following.kubelet._sought) <= 1000


async def test_however_many_are_heard_of_the_kubelet_is_asked_at_a_measured_pace(
    cluster: Kubernetes, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests are never closer than two seconds."""
    waits = recorded_waits(monkeypatch)
    following = Following(cluster.url, account, pace=Pace(poll=7200, seek=3600, end=0.01))
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        for identifier in (A, B, C, D):
            following.identities.hear("kmsg", identifier)
        await following.until(lambda: len(cluster.requests) > 1, task)

    assert all(any(least < wait <= most for wait in waits) for least, most in ((3000, 3600), (6000, 7200)))


def exited(key: ContainerKey, how: Literal["zombie", "runtime"] = "runtime") -> Exited:
    """Tell that a container has ended, as somebody beside Kubernetes does."""
    return Exited(container=key, source="exits", time=time.time(), how=how, code=137)


async def test_a_container_that_has_ended_is_asked_about_at_once_and_until_the_kubelet_says_so(cluster: Kubernetes, account: Path) -> None:
    """That its pod is being deleted is listed for seconds only. No poll would ask, and no seeking."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, pace=Pace(poll=3600, seek=3600, end=0.01))
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        deletion: Json = {"deletionTimestamp": "2026-11-22T01:06:40Z", "deletionGracePeriodSeconds": 5}
        cluster.put(pod_of("web", status_of("app", A), **deletion))
        following.desk.tell(exited(A))
        await following.until(lambda: any(isinstance(fact, StopRequested) for fact in following.desk.facts), task)
        cluster.put(pod_of("web", status_of("app", A, state=terminated(137, "Error", A)), **deletion))
        await following.until(lambda: any(fact.source == "kubernetes" and isinstance(fact, Exited) for fact in following.desk.facts), task)
        await following.until(lambda: following.kubelet._ended == {}, task)
        following.kubelet._heard.clear()
        following.desk.tell(exited(A, "zombie"))
        assert not following.kubelet._heard.is_set(), "Kubernetes has said all that it knows"


async def test_a_kubelet_that_never_hears_of_an_end_is_not_asked_without_end(cluster: Kubernetes, account: Path) -> None:
    """Nor about what is no pod's, or inside of another container."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, pace=Pace(poll=3600, seek=3600, end=0.01))
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        following.identities.put("oci", {B: Identity(("", "", "other"))})
        for key in (B, ContainerKey.of(A, B)):
            following.desk.tell(exited(key))
        assert not following.kubelet._heard.is_set()
        following.desk.tell(exited(A))
        await following.until(lambda: len(cluster.requests) == 1 + kubernetes_kubelet._TRIES and following.kubelet._ended == {}, task)


async def test_a_storm_of_ends_is_one_request_a_second(cluster: Kubernetes, account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that are remembered are bounded."""
    keys = [ContainerKey(f"{number:064x}") for number in range(2500)]
    cluster.put(pod_of("web", *(status_of(f"app-{key}", key) for key in keys)))
    delays = recorded_sleeps(monkeypatch)
    following = Following(cluster.url, account, pace=Pace(poll=7200, seek=7200, end=3600))
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        delays.clear()
        for key in keys:
            following.desk.tell(exited(key))
        assert len(following.kubelet._ended) <= 1000
        await following.until(lambda: len(cluster.requests) == 1 + kubernetes_kubelet._TRIES, task)

    assert sum(3000 < delay <= 3600 for delay in delays) >= kubernetes_kubelet._TRIES


@BOTH
async def test_an_end_ends_the_rest(account: Path, mode: Mode) -> None:
    """The API may be back, and knows for seconds only whether its pod was being deleted."""
    following = Following("https://127.0.0.1:1", account, mode)
    following.source._pods.told[A] = Identity(("shop", "web-0", "app"))
    async with asyncio.timeout(120):
        resting = asyncio.create_task(following.source.rest(3600))
        await asyncio.sleep(0)
        following.desk.tell(exited(B))
        assert not following.source._wanted.is_set()
        following.desk.tell(exited(A))
        await resting


async def test_a_kubelet_that_has_just_started_ends_nobody(cluster: Kubernetes, account: Path) -> None:
    """It lists only what it has been told so far: nothing, or the static pods alone."""
    cluster.put(pod_of("web", status_of("app", A)))
    cluster.put(pod_of("etcd", status_of("etcd", B)))
    following = Following(cluster.url, account, pace=PATIENT)
    async with following.run() as task:
        await following.until(lambda: following.status.is_up, task)
        cluster.instead = [answer(200, '{"kind": "PodList", "items": null}')] * 2
        following.identities.hear("kmsg", D)
        await following.until(lambda: len(cluster.requests) >= 4, task)
        cluster.put(pod_of("late", status_of("app", C)))
        following.identities.hear("kmsg", C)
        await following.until(lambda: following.name(C) != (), task)

    assert (following.identities.states[A], following.identities.states[B]) == (["running"], ["running"])


async def test_what_has_not_changed_is_not_told_again(cluster: Kubernetes, account: Path) -> None:
    """A node's list is polled every ten seconds, and most of it is what it was."""
    cluster.put(pod_of("web", status_of("app", B, restarts=1, lastState=terminated(137, "Error", A, at="2999-01-01T00:00:00Z"))))
    following = Following(cluster.url, account)
    async with following.run() as task:
        await following.until(lambda: len(cluster.requests) > 4, task)

    assert following.identities.states == {A: ["exited"], B: ["running"]}


# The API server.


async def test_one_list_then_a_watch_from_where_it_stood(cluster: Kubernetes, account: Path) -> None:
    """Only of this node's pods; the list from the server's memory, the watch with bookmarks and an end."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1 and following.status.is_up, task)
        cluster.put(pod_of("new", status_of("app", B)))
        await following.until(lambda: following.name(B) != (), task)

    mine = {"fieldSelector": f"spec.nodeName={NODE}"}
    assert cluster.asked("/api/v1/pods") == [mine | {"resourceVersion": "0"}]
    watch = {"watch": "true", "resourceVersion": "101", "allowWatchBookmarks": "true", "timeoutSeconds": "120"}
    assert cluster.asked("/api/v1/pods", watch=True) == [mine | watch]


@pytest.mark.parametrize("how", ["cut", "end"])
async def test_a_watch_that_ends_is_resumed_where_it_stood(cluster: Kubernetes, account: Path, how: str) -> None:
    """With what happened meanwhile, without a list, and without being blind for it; the last bookmark counts too."""
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.put(pod_of("web", status_of("app", A)))
        version = cluster.bookmark()
        await following.until(lambda: following.api_server._version == version, task)
        getattr(cluster, how)()
        cluster.put(pod_of("meanwhile", status_of("app", B)))
        await following.until(lambda: following.name(B) != (), task)

    assert len(cluster.asked("/api/v1/pods")) == 1
    assert cluster.asked("/api/v1/pods", watch=True)[1]["resourceVersion"] == version
    assert following.identities.states == {A: ["running"], B: ["running"]}


async def test_half_an_event_at_a_cut_comes_again(cluster: Kubernetes, account: Path) -> None:
    """It does not count, nor does its version."""
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        version = following.api_server._version
        cluster.send('{"type": "ADDED", "object": {"metadata": {"uid": "uid-web", "resourceVersion": "999"}')
        cluster.end()
        cluster.put(pod_of("web", status_of("app", A)))
        await following.until(lambda: following.name(A) != (), task)

    assert cluster.asked("/api/v1/pods", watch=True)[1]["resourceVersion"] == version


async def test_an_event_may_come_in_pieces(cluster: Kubernetes, account: Path) -> None:
    """Where they are cut has nothing to do with where events end."""
    following = Following(cluster.url, account, "apiserver")
    events = [{"type": "ADDED", "object": pod_of(name, status_of("app", key))} for name, key in (("a", A), ("b", B), ("c", C))]
    text = "".join(json.dumps(event) + "\n" for event in events)
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        for at in range(0, len(text), 97):
            cluster.send(text[at : at + 97])
            await asyncio.sleep(0)
        await following.until(lambda: following.name(C) != (), task)

    assert following.identities.states.keys() == {A, B, C}


async def test_watches_that_end_at_once_are_started_at_a_measured_pace(
    cluster: Kubernetes, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something between the agent and the server may end every one."""
    delays = recorded_sleeps(monkeypatch)
    following = Following(cluster.url, account, "apiserver", Pace(again=3600))
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.end()
        await following.until(lambda: len(cluster.asked("/api/v1/pods", watch=True)) == 2, task)

    assert any(3000 < delay <= 3600 for delay in delays)


@pytest.mark.parametrize("gone_as", ["status", "event"])
async def test_a_server_that_has_forgotten_is_asked_for_a_new_list(cluster: Kubernetes, account: Path, gone_as: str) -> None:
    """410, as a status or as an event: nothing is lost that is still there, nothing told twice, and what is gone has ended."""
    cluster.gone_as = gone_as
    cluster.put(pod_of("stays", status_of("app", A)))
    cluster.put(pod_of("goes", status_of("app", B)))
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1 and following.status.is_up, task)
        cluster.end()
        cluster.delete("goes")
        cluster.put(pod_of("comes", status_of("app", C)))
        cluster.forget()
        await following.until(lambda: following.name(C) != () and following.identity(B).state == "removed", task)
        await following.until(lambda: cluster.watches == 1, task)
        cluster.put(pod_of("last", status_of("app", D)))
        await following.until(lambda: following.name(D) != (), task)

    assert following.identities.states == {A: ["running"], B: ["running", "removed"], C: ["running"], D: ["running"]}
    lists = cluster.asked("/api/v1/pods")
    assert [each.get("resourceVersion") for each in lists] == ["0", None], "the second must not come from a memory that is as old"
    assert following.status.is_up


async def test_a_new_list_that_is_too_old_as_well_is_blindness(cluster: Kubernetes, account: Path) -> None:
    """So it is asked for again with a back-off; the next time for the newest, which costs the server more, and only that once."""
    cluster.instead = [answer(410)]
    following = Following(cluster.url, account, "apiserver")

    await following.blind("answered 410")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.send("<html>\n")
        async with asyncio.timeout(120):
            with pytest.raises(Blind, match="not a list of events"):
                await task
    async with following.run() as task:
        await following.until(lambda: len(cluster.asked("/api/v1/pods")) == 3, task)

    assert [each.get("resourceVersion") for each in cluster.asked("/api/v1/pods")] == ["0", None, "0"]


async def test_the_last_words_of_a_deleted_pod_are_heard(cluster: Kubernetes, account: Path) -> None:
    """The event of its deletion tells how its containers ended."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.pods["web"] = pod_of("web", status_of("app", A, state=terminated(143, "Error", A)))
        cluster.delete("web")
        await following.until(lambda: following.identity(A).state == "removed", task)

    identity = following.identity(A)
    assert identity.last_termination is not None
    assert (identity.last_termination.exit_code, identity.seen_alive, identity.name) == (143, True, ("shop", "web", "app"))


@pytest.mark.parametrize("words", [[], [status_of("app", B)]])
async def test_all_that_was_ever_of_a_deleted_pod_is_gone(cluster: Kubernetes, account: Path, words: list[Json]) -> None:
    """Whether its last words name them or not, or name another."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.pods["web"] = pod_of("web", *words)
        cluster.delete("web")
        cluster.put(pod_of("other", status_of("app", C)))
        await following.until(lambda: following.name(C) != (), task)

    assert following.identity(A).state == "removed"
    assert following.source._pods.told.keys() == {C}


async def test_two_pods_that_claim_one_container_do_no_harm(cluster: Kubernetes, account: Path) -> None:
    """A status is written by whoever may; the second deletion finds nothing left to end."""
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        for name in ("one", "two"):
            cluster.put(pod_of(name, status_of("app", A)))
        for name in ("one", "two"):
            cluster.delete(name)
        cluster.put(pod_of("web", status_of("app", B)))
        await following.until(lambda: following.name(B) != (), task)

    assert following.identity(A).state == "removed"


@pytest.mark.parametrize(
    "event",
    [[], 7, {}, {"type": "ADDED"}, {"type": "ADDED", "object": None}, {"type": "SURPRISE", "object": pod_of("x", status_of("app", B))}],
)
async def test_an_event_that_makes_no_sense_is_passed_over(cluster: Kubernetes, account: Path, event: Any) -> None:
    """The one behind it still counts, and where the watch stood is not forgotten for it."""
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.send(event)
        cluster.end()
        cluster.put(pod_of("web", status_of("app", A)))
        await following.until(lambda: following.name(A) != (), task)

    assert following.identities.states.keys() == {A}
    assert len(cluster.asked("/api/v1/pods")) == 1


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ("<html>\n", "/api/v1/pods: the answer is not a list of events"),
        ("[" * 100_000 + "\n", "/api/v1/pods: the answer is not a list of events"),
        ({"type": "ERROR", "object": {"kind": "Status", "code": 500}}, "the watch failed with code 500"),
        ({"type": "ERROR", "object": None}, "the watch failed with code None"),
    ],
)
async def test_a_watch_that_fails_is_blindness_and_then_a_new_list(
    cluster: Kubernetes, account: Path, event: Json | str, message: str
) -> None:
    """Where it stood is not certain any more."""
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.send(event)
        async with asyncio.timeout(120):
            with pytest.raises(Blind, match=message):
                await task
    async with following.run() as task:
        await following.until(lambda: len(cluster.asked("/api/v1/pods", watch=True)) == 2, task)

    assert len(cluster.asked("/api/v1/pods")) == 2


async def test_an_event_without_end_is_given_up(cluster: Kubernetes, account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pod is as long."""
    monkeypatch.setattr(kubernetes_client, "_LONGEST_EVENT", 1000)
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.send("x" * 2000)
        async with asyncio.timeout(120):
            with pytest.raises(Blind, match="not a list of events: one is longer than 1000 bytes"):
                await task


async def test_a_watch_that_does_not_end_when_it_should_hangs(cluster: Kubernetes, account: Path) -> None:
    """A server ends a watch when it was told to; one that is silent beyond that is gone, though the connection stands."""
    following = Following(cluster.url, account, "apiserver", Pace(answer=3600, watch=0.1, patience=0.2))
    reason = await following.blind("no complete answer in time; the API server hangs")

    assert "/api/v1/pods" in reason
    assert len(cluster.asked("/api/v1/pods", watch=True)) == 1


async def test_after_blindness_the_watch_is_resumed_without_a_list(cluster: Kubernetes, account: Path) -> None:
    """An API server that comes back must not be asked for everything by every node at once."""
    cluster.put(pod_of("web", status_of("app", A)))
    following = Following(cluster.url, account, "apiserver")
    async with following.run() as task:
        await following.until(lambda: cluster.watches == 1, task)
        cluster.instead = [answer(503)]
        cluster.end()
        async with asyncio.timeout(120):
            with pytest.raises(Blind, match="answered 503"):
                await task
    cluster.delete("web")
    async with following.run() as task:
        await following.until(lambda: following.identity(A).state == "removed", task)

    assert len(cluster.asked("/api/v1/pods")) == 1


async def test_a_list_without_a_version_is_no_api_server(cluster: Kubernetes, account: Path) -> None:
    """A kubelet's list has none: the two addresses were mixed up."""
    cluster.instead = [answer(200, '{"kind": "PodList", "metadata": {}, "items": []}')]

    await Following(cluster.url, account, "apiserver").blind("without a resourceVersion; is this a Kubernetes API server")
