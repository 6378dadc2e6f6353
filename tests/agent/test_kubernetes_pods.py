"""What a pod's JSON says of its containers: what is documented is told, and whatever else comes is not, without harm."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identities import Identity, Termination
from agent.sources import kubernetes_pods
from agent.sources.kubernetes_pods import PodList, identities_of, names_of, uid_of, version_of
from collectors.kernel.container_id import ContainerKey
from tests.agent.fake_kubernetes import NODE, Json, owned_by, pod_of, status_of, terminated

A, B, C, D = ContainerKey("a" * 64), ContainerKey("b" * 64), ContainerKey("c" * 64), ContainerKey("d" * 64)
CLOCK, WALL = 5000.0, 1_795_309_600.0  # 2026-11-22T01:06:40Z
HASH = "3f9d2c81a7b64e50923d1f08c6e5ab47"


def told(pod: object, *labels: str) -> dict[ContainerKey, Identity]:
    """Return the identities of a pod at one moment."""
    return identities_of(pod, labels, clock=CLOCK, wall=WALL)


def test_a_running_container_is_named() -> None:
    """Name, image of the spec, runtime, kind, pod and restarts; the runtime's prefix is not part of the id."""
    pod = pod_of("web-0", status_of("app", A, restarts=3))

    assert told(pod) == {
        A: Identity(("shop", "web-0", "app"), "img:1", pod_uid="uid-web-0", runtime="containerd", kind="app", restarts=3, grace_seconds=30)
    }


@pytest.mark.parametrize("runtime", ["containerd", "cri-o", "docker"])
def test_every_runtime_spells_ids_alike(runtime: str) -> None:
    """What stands before :// is the runtime's name, by which kube-state-metrics calls the container too."""
    assert {key: identity.runtime for key, identity in told(pod_of("web", status_of("app", A, runtime=runtime))).items()} == {A: runtime}


def test_environment_and_arguments_are_not_kept() -> None:
    """They hold secrets."""
    assert "hunter2" in json.dumps(pod_of("web", status_of("app", A)))
    assert "hunter2" not in repr(told(pod_of("web", status_of("app", A)), "PASSWORD"))


def test_init_containers_sidecars_and_debug_containers_are_told_apart() -> None:
    """A sidecar is an init container that is restarted always."""
    pod = pod_of("web", status_of("app", D))
    pod["spec"]["containers"][0]["restartPolicy"] = "Always"  # since 1.34 any container may have one
    pod["spec"]["initContainers"] = [{"name": "migrate", "image": "m:1"}, {"name": "proxy", "image": "p:1", "restartPolicy": "Always"}]
    pod["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "d:1"}]
    pod["status"]["initContainerStatuses"] = [status_of("migrate", A, state=terminated(0, "Completed", A)), status_of("proxy", B)]
    pod["status"]["ephemeralContainerStatuses"] = [status_of("debugger", C)]

    identities = told(pod)

    assert {key: (identity.kind, identity.image, identity.state) for key, identity in identities.items()} == {
        A: ("init", "m:1", "exited"),
        B: ("sidecar", "p:1", "running"),
        C: ("ephemeral", "d:1", "running"),
        D: ("app", "img:1", "running"),
    }


def test_the_stop_signal_is_the_one_that_the_status_has() -> None:
    """From Kubernetes 1.33 on: the pod's lifecycle.stopSignal, or else the image's."""
    assert told(pod_of("web", status_of("app", A) | {"stopSignal": "SIGUSR1"}))[A].stop_signal == "SIGUSR1"
    assert told(pod_of("web", status_of("app", A) | {"stopSignal": 10}))[A].stop_signal == ""


def test_a_container_that_has_ended_says_how_and_when() -> None:
    """The kubelet's time is the wall's; the identities' clock is another."""
    identity = told(pod_of("job", status_of("app", A, state=terminated(137, "OOMKilled", A, signal=9))))[A]

    assert identity.last_termination == Termination(137, "OOMKilled", 9, finished_at=WALL - 48)
    assert (identity.state, identity.seen_alive, identity.ended) == ("exited", False, CLOCK - 48)


@pytest.mark.parametrize("code", [0, 255, -1])
def test_an_end_may_be_the_only_one_that_has_the_id(code: int) -> None:
    """Then that is the id; and a runtime may say any number."""
    identity = told(pod_of("job", status_of("app", A, state=terminated(code, "Error", A)) | {"containerID": ""}))[A]

    assert identity.last_termination is not None
    assert identity.last_termination.exit_code == code


@pytest.mark.parametrize("at", [None, "2026-11-22T03:00:00Z", "0001-01-01T00:00:00Z", "yesterday", "20261122", "2026-11-22T01:00:00", 7])
def test_a_death_without_a_time_or_in_the_future_is_now(at: Any) -> None:
    """The kubelet makes up an end without a time for a container that it cannot find any more."""
    assert told(pod_of("job", status_of("app", A, state=terminated(137, "ContainerStatusUnknown", A, at=at))))[A].ended == CLOCK


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-23:59", "9999-12-31T24:00:00Z", "0001-01-01T00:00:00+23:59"])
def test_a_time_at_the_end_of_all_times_does_no_harm(at: str) -> None:
    """A calendar ends somewhere, and time zones lead across."""
    assert A in told(pod_of("job", status_of("app", A, state=terminated(1, "Error", A, at=at)), deletionTimestamp=at))


def test_the_life_before_is_named_too() -> None:
    """A kill in the kernel log may be of the one before, which the list names only as the last state of the present one."""
    pod = pod_of("web", status_of("app", B, restarts=2, lastState=terminated(1, "Error", A)))

    identities = told(pod)

    error = Termination(1, "Error", finished_at=WALL - 48)
    assert identities[A] == replace(identities[B], state="exited", seen_alive=False, ended=CLOCK - 48, restarts=1)
    assert (identities[B].state, identities[B].ended, identities[B].restarts) == ("running", None, 2)
    assert identities[A].last_termination == identities[B].last_termination == error


def test_between_two_lives_the_container_has_ended() -> None:
    """In CrashLoopBackOff the id is still that of the life before."""
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}}
    pod = pod_of("web", status_of("app", A, restarts=7, state=waiting, lastState=terminated(2, "Error", A)))

    identity = told(pod)[A]

    assert (identity.state, identity.ended, identity.restarts) == ("exited", CLOCK - 48, 7)
    assert identity.last_termination == Termination(2, "Error", finished_at=WALL - 48)


@pytest.mark.parametrize("state", [{"waiting": {}}, {}, None])
def test_a_container_that_waits_with_an_id_is_created(state: Any) -> None:
    """So the kubelet spells what the runtime has made but not started; a state without anything is waiting."""
    assert told(pod_of("web", status_of("app", A, state=state)))[A].state == "created"


def test_a_container_that_waits_without_an_id_is_nobody_yet() -> None:
    """While its image is pulled there is nothing to name."""
    assert told(pod_of("web", status_of("app", A) | {"containerID": "", "state": {"waiting": {"reason": "ContainerCreating"}}})) == {}


def test_a_pod_that_is_being_deleted_says_until_when() -> None:
    """The grace period asked for at deletion beats that of the spec."""
    pod = pod_of("web", status_of("app", A), deletionTimestamp="2026-11-22T01:06:45Z", deletionGracePeriodSeconds=5)

    assert (told(pod)[A].deletion_timestamp, told(pod)[A].grace_seconds) == (WALL + 5, 5)


def test_only_the_labels_that_were_asked_for_are_kept() -> None:
    """Labels are unbounded, and a metric's labels must not be."""
    pod = pod_of("web", status_of("app", A), labels={"app": "web", "team": "red", "secret": "x", "odd": 7})

    assert told(pod, "app", "team", "odd", "none")[A].pod_labels == {"app": "web", "team": "red"}


@pytest.mark.parametrize(
    ("owner", "labels", "workload"),
    [
        (owned_by("ReplicaSet", "web-6d4b75cb6d"), {"pod-template-hash": "6d4b75cb6d"}, ("Deployment", "web")),
        (owned_by("ReplicaSet", "web-6d4b75cb6d"), {}, ("ReplicaSet", "web-6d4b75cb6d")),
        (owned_by("ReplicaSet", "web-6d4b75cb6d"), {"pod-template-hash": "77"}, ("ReplicaSet", "web-6d4b75cb6d")),
        (owned_by("ReplicaSet", "-77"), {"pod-template-hash": "77"}, ("ReplicaSet", "-77")),
        (owned_by("StatefulSet", "db"), {}, ("StatefulSet", "db")),
        (owned_by("DaemonSet", "agent"), {"pod-template-hash": "gent"}, ("DaemonSet", "agent")),
        (owned_by("Job", "report-29388300"), {}, ("CronJob", "report")),
        (owned_by("Job", "import-20261122"), {}, ("Job", "import-20261122")),
        (owned_by("Job", "batch-7"), {}, ("Job", "batch-7")),
        (owned_by("Node", NODE), {}, ("Node", NODE)),
        (owned_by("SparkApplication", "pi"), {}, ("SparkApplication", "pi")),
        ({**owned_by("DaemonSet", "agent"), "controller": False}, {}, ("", "")),
        ({"kind": 7, "controller": True}, {}, ("", "")),
        ("DaemonSet", {}, ("", "")),
    ],
)
def test_the_workload_is_what_surely_owns_the_pod(owner: Any, labels: Json, workload: tuple[str, str]) -> None:
    """A Deployment is known by the hash of its template, a CronJob by the minute in the name of its job, which no date looks like."""
    identity = told(pod_of("x", status_of("app", A), ownerReferences=["x", owner], labels=labels))[A]

    assert (identity.workload_kind, identity.workload) == workload


def test_a_static_pod_has_the_uid_of_its_cgroup_from_either_api() -> None:
    """The kubelet lists it with the hash for a uid; the API server has a mirror with another uid and the hash in an annotation."""
    hashed = {"kubernetes.io/config.hash": HASH, "kubernetes.io/config.source": "file"}
    kubelet = pod_of("etcd-node-1", status_of("etcd", A), uid=HASH, annotations=hashed)
    mirrored = {**hashed, "kubernetes.io/config.mirror": HASH}
    mirror = pod_of("etcd-node-1", status_of("etcd", A), annotations=mirrored, ownerReferences=[owned_by("Node", NODE)])

    assert told(kubelet) == told(mirror)
    assert (told(mirror)[A].pod_uid, told(mirror)[A].workload_kind, told(mirror)[A].workload) == (HASH, "Node", NODE)


def test_a_pod_is_listed_by_the_uid_of_its_cgroup_also_before_it_has_containers() -> None:
    """Its sandbox is there while the images are pulled."""
    waiting = status_of("app", A) | {"containerID": "", "state": {"waiting": {"reason": "ContainerCreating"}}}
    assert names_of(pod_of("web", waiting)) == ("uid-web", ("shop", "web"))
    assert names_of(pod_of("etcd", annotations={"kubernetes.io/config.mirror": HASH})) == (HASH, ("shop", "etcd"))
    assert names_of(None) == names_of({"metadata": {"uid": 7, "name": [], "annotations": "x"}}) == ("", ("", ""))


def test_an_ordinary_pod_is_not_static_whatever_its_annotations_say() -> None:
    """Annotations are anybody's word; the mirror's alone is the kubelet's, who deletes a pod that has it from another."""
    words = {"kubernetes.io/config.hash": HASH, "kubernetes.io/config.source": "file"}
    identity = told(pod_of("web", status_of("app", A), annotations=words, ownerReferences=[owned_by("DaemonSet", "web")]))[A]

    assert (identity.pod_uid, identity.workload_kind, identity.workload) == ("uid-web", "DaemonSet", "web")


def variants(value: Any) -> Iterator[Any]:
    """Yield a JSON value with each part of it replaced by things of another type."""
    yield from (None, 7, -1, 10**30, 1.5, float("nan"), True, "", "x", "x" * 5000, "\ud800", [], [None], {}, {"x": None})
    if isinstance(value, dict):
        for key, part in value.items():
            yield from ({**value, key: variant} for variant in variants(part))
    elif isinstance(value, list):
        for position, part in enumerate(value):
            yield from ([*value[:position], variant, *value[position + 1 :]] for variant in variants(part))


def rich() -> Json:
    """Make a pod in which everything is told."""
    pod = pod_of(
        "web",
        status_of("app", B, restarts=1, lastState=terminated(137, "OOMKilled", A, signal=9)),
        ownerReferences=[owned_by("ReplicaSet", "web-77")],
        labels={"app": "web", "pod-template-hash": "77"},
        annotations={"kubernetes.io/config.mirror": HASH},
        deletionTimestamp="2026-11-22T01:06:45Z",
        deletionGracePeriodSeconds=5,
        resourceVersion="7",
    )
    pod["spec"]["initContainers"] = [{"name": "proxy", "image": "p:1", "restartPolicy": "Always"}]
    pod["status"]["initContainerStatuses"] = [status_of("proxy", C)]
    return pod


def test_whatever_is_not_as_documented_is_not_told() -> None:
    """Each part of a pod in turn is of another type; what is told is of the right one all the same."""
    number = 0
    for pod in variants(rich()):
        for identifier, identity in told(pod, "app").items():
            assert identifier in (A, B, C)
            assert identity.name == () or (len(identity.name) == 3 and all(identity.name))
            texts = (
                *identity.name,
                identity.image,
                identity.state,
                identity.pod_uid,
                identity.kind,
                identity.workload_kind,
                identity.workload,
            )
            assert "".join((*texts, *identity.pod_labels.values())).encode()
            assert max(map(len, (*texts, *identity.pod_labels.values()))) < 5000
            assert identity.grace_seconds is None or (type(identity.grace_seconds) is int and identity.grace_seconds >= 0)
            assert identity.restarts is None or (type(identity.restarts) is int and identity.restarts >= 0)
            assert identity.last_termination is None or type(identity.last_termination.exit_code) is int
            assert (identity.ended is None) == (identity.state in ("running", "created"))
        assert isinstance(uid_of(pod), str)
        assert isinstance(version_of(pod), str)
        number += 1
    assert number > 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda part: st.lists(part) | st.dictionaries(st.text(), part)
)


@given(JSON)
def test_any_json_is_taken(value: Any) -> None:
    """Nothing that JSON can spell raises."""
    assert told(value) == {}


def read(body: bytes, size: int) -> tuple[list[Any], str]:
    """Read a list in pieces of this size; return the pods and the version."""
    reader = PodList()
    found = [pod for at in range(0, len(body), size) for pod in reader.feed(body[at : at + size])]
    found += reader.finish()
    return found, reader.resource_version


LISTS = [
    {
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "7"},
        "items": [rich(), pod_of("grüße"), {}, [1], 7, None, "]"],
    },
    {"items": [{"a": "}],"}, []], "metadata": {"resourceVersion": "7"}, "remaining": 12},
    {"metadata": {"resourceVersion": "7"}, "items": None},
    {"metadata": {"resourceVersion": "7"}, "list": [1], "items": []},
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("content", LISTS)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_reads_the_same_in_pieces_of_any_size(content: Json, size: int, indent: int | None) -> None:
    """A piece may end in the middle of a word, a number, or a character."""
    body = json.dumps(content, ensure_ascii=False, indent=indent).encode()

    assert read(body, size) == (content["items"] or [], "7")


@pytest.mark.parametrize("size", [1, 5, 100_000])
@pytest.mark.parametrize(
    "body",
    [
        *(
            "",
            "<html>",
            "[]",
            "7",
            '{"items": []',
            '{"items": [',
            '{"items": [{}',
            '{"items": [{}}',
            '{"items": [{},',
            '{"items": [{"a": 1',
        ),
        *('{"items": [{]}', '{"items": []}}', '{"items": []} x', '{"items" []}', '{"items": [] "b": 1}', "{}", '{"kind": "Status"}'),
        *('{"items": {}}', '{"items": 7}', '{"items": "x"}', '{"items": [{"a": ' + "1" * 5000 + "}]}"),
    ],
)
def test_what_is_not_a_whole_list_is_refused(body: str, size: int) -> None:
    """Half a list would end everything in the other half."""
    with pytest.raises(ValueError):  # noqa: PT011 - the reason is for people
        read(body.encode(), size)


def test_a_list_nested_beyond_measure_is_refused() -> None:
    """The scanner gives up before the stack does."""
    with pytest.raises(RecursionError):
        read(b'{"items": [' + b"[" * 100_000, 100_000)


def test_a_pod_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one pod is ever kept in memory, and not one of any size."""
    monkeypatch.setattr(kubernetes_pods, "_LONGEST_POD", 1000)

    with pytest.raises(ValueError, match="longer than 1000 characters"):
        read(b'{"items": ["' + b"x" * 2000, 10)


def test_a_list_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small its pods are."""
    monkeypatch.setattr(kubernetes_pods, "_LONGEST_LIST", 1000)

    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        read(b'{"items": [' + b"{}," * 1000, 10)


def test_a_long_pod_is_not_scanned_for_each_piece_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for a list that dribbles must not grow with the square of its length."""
    reader = PodList()
    scan = reader._scan
    starts: list[int] = []

    def counted(text: str, start: int) -> tuple[Any, int]:
        starts.append(start)
        return scan(text, start)

    monkeypatch.setattr(reader, "_scan", counted)
    body = json.dumps({"items": [{"x": "y" * 20_000}]}).encode()
    found = [pod for at in range(0, len(body), 10) for pod in reader.feed(body[at : at + 10])]

    assert len([*found, *reader.finish()]) == 1
    assert len(starts) < 40
