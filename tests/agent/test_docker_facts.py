"""What Docker says, as facts: each event of a container's life, what makes no sense, and names that Kubernetes gave."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identities import Amended, Described, EndedUnseen
from agent.sources import Told
from agent.sources import docker_facts as module
from agent.sources.docker_facts import DOCKERS_EVENTS, EVENTS, facts_of_event, identities_of
from collectors.inquest.facts import (
    Created,
    Exited,
    Fact,
    HealthReported,
    OomReported,
    Paused,
    Removed,
    Resumed,
    Signalled,
    Started,
    StopReturned,
)
from tests.tree import A

WALL = 1_800_000_000.0
THEN = 1_700_000_000.25
TOLD: dict[str, Any] = {"container": A, "source": "docker", "time": THEN}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(A) | st.sampled_from(EVENTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ID", "Attributes", "signal", "name"]), inner, max_size=3),
    max_leaves=8,
)


def event(action: object, time: object = 1_700_000_000_250_000_000, **attributes: object) -> dict[str, Any]:
    """Spell a line of GET /events."""
    actor = {"ID": A, "Attributes": {"name": "web", "image": "img:1", **attributes}}
    return {"Type": "container", "Action": action, "Actor": actor, "time": 0, "timeNano": time}


def told(line: dict[str, Any]) -> list[Told]:
    """Return what an event tells."""
    return list(facts_of_event(line, clock=1000.0, wall=WALL))


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        (event("create"), Created(**TOLD)),
        (event("start"), Started(**TOLD)),
        (event("pause"), Paused(**TOLD)),
        (event("unpause"), Resumed(**TOLD)),
        (event("kill", signal="15"), Signalled(**TOLD, signal=15)),
        (event("stop"), StopReturned(**TOLD)),
        (event("die", exitCode="137"), Exited(**TOLD, how="runtime", code=137)),
        (event("died", exitCode="0"), Exited(**TOLD, how="runtime", code=0)),
        (event("destroy"), Removed(**TOLD)),
        (event("remove"), Removed(**TOLD)),
        (event("oom"), OomReported(**TOLD)),
        *[(event(f"health_status: {each}"), HealthReported(**TOLD, status=each)) for each in ("starting", "healthy", "unhealthy")],
    ],
    ids=lambda value: value["Action"] if isinstance(value, dict) else "",
)
def test_an_event_is_a_fact_at_the_time_that_it_says(line: dict[str, Any], fact: Fact) -> None:
    """Whenever it arrives; Podman has words of its own. Each is one that Docker is asked for."""
    assert [each for each in told(line) if isinstance(each, Fact)] == [fact]
    assert line["Action"].partition(":")[0] in (*EVENTS, *DOCKERS_EVENTS)


@pytest.mark.parametrize(("action", "state"), [("create", "created"), ("start", "running"), ("pause", "paused"), ("unpause", "running")])
def test_an_event_that_changes_the_state_describes_the_container(action: str, state: str) -> None:
    """It may be the first that is heard of it."""
    described = [each for each in told(event(action)) if isinstance(each, Described)]

    assert [(each.source, [(key, found.name[2], found.state) for key, found in each.identities.items()]) for each in described] == [
        ("docker", [(A, "web", state)])
    ]


@pytest.mark.parametrize("action", ["create", "start", "pause", "unpause"])
def test_only_one_that_was_not_started_says_when_it_was_created(action: str) -> None:
    """By its event."""
    [described] = [each for each in told(event(action)) if isinstance(each, Described)]

    assert described.identities[A].created == (THEN if action == "create" else None)


NO_TIMES: list[object] = [None, "1700000000", True, 0, -1, 10**18, [], float("nan")]


@pytest.mark.parametrize(
    ("state", "value", "created"),
    [
        *(("created", 1_700_000_000, 1_700_000_000.0), ("running", 1_700_000_000, None), ("exited", 1_700_000_000, None)),
        *[("created", each, None) for each in NO_TIMES],
    ],
)
def test_a_list_says_when_one_was_created_that_was_not_started(state: str, value: object, created: float | None) -> None:
    """In seconds, if that is what it has."""
    listed = identities_of([{"Id": A, "Names": ["/web"], "Image": "img:1", "State": state, "Created": value}], 1000.0)

    assert listed[A].created == created


def test_a_new_name_is_no_more_than_that() -> None:
    """All else is as it was told before."""
    assert told(event("rename", name="shop")) == [
        Amended("docker", A, {"name": ("", "", "shop"), "is_sandbox": False, "pod_uid": ""}),
    ]


@pytest.mark.parametrize("action", ["health_status", "health_status: ", "health_status: healthy\n", "exec_start: oom"])
def test_a_health_that_is_none_is_no_fact(action: str) -> None:
    """Nor is what somebody runs in a container."""
    assert told(event(action)) == []


def test_a_signal_that_is_not_named_is_no_fact() -> None:
    """Podman says `kill` and not with what."""
    assert told(event("kill")) == []


@pytest.mark.parametrize("code", [None, "", "x", "-1", 3, "1234"])
def test_an_end_without_an_exit_code_is_an_end_all_the_same(code: object) -> None:
    """Of which nobody says how it was."""
    assert told(event("die", exitCode=code)) == [EndedUnseen("docker", A)]


@pytest.mark.parametrize("time", [None, "yesterday", 0, -5, 1.5, pytest.param(10**400, id="larger than any")])
def test_an_event_without_a_time_is_told_as_of_now(time: object) -> None:
    """It was learnt then."""
    (fact,) = told(event("stop", time=time))

    assert isinstance(fact, StopReturned)
    assert fact.time == WALL


@given(action=JSON | st.sampled_from(EVENTS), actor=JSON, attributes=JSON)
def test_no_event_raises_whatever_is_in_it(action: object, actor: object, attributes: object) -> None:
    """It is data, of a daemon that may be another one than its address says."""
    for line in ({"Action": action, "Actor": actor}, {"Action": action, "Actor": {"ID": A, "Attributes": attributes}}):
        assert all(each.source == "docker" for each in told(line))


def test_an_event_without_attributes_is_told_as_far_as_it_goes() -> None:
    """An end without a code, and nothing of a signal."""
    bare = {"Actor": {"ID": A}, "timeNano": 1_700_000_000_250_000_000}

    assert told({**bare, "Action": "die"}) == [EndedUnseen("docker", A)]
    assert told({**bare, "Action": "kill"}) == []
    assert told({**bare, "Action": "stop"}) == [StopReturned(**TOLD)]


UID = "8dbc5577-d0e2-4706-8787-57d52c03ddf2"
POD = {
    "io.kubernetes.pod.name": "coredns-5d78c9869d-abcde",
    "io.kubernetes.pod.namespace": "kube-system",
    "io.kubernetes.pod.uid": UID,
    "io.kubernetes.container.name": "coredns",
    "io.kubernetes.docker.type": "container",
}
NAMED = f"coredns_coredns-5d78c9869d-abcde_kube-system_{UID}_0"
COREDNS = ("kube-system", "coredns-5d78c9869d-abcde", "coredns")
SANDBOX = POD | {"io.kubernetes.docker.type": "podsandbox", "io.kubernetes.container.name": "POD"}


@pytest.mark.parametrize(
    ("name", "labels", "called", "is_sandbox"),
    [
        pytest.param(f"k8s_{NAMED}", POD, COREDNS, False, id="container"),
        pytest.param(f"k8s_POD_{NAMED.partition('_')[2]}", SANDBOX, (*COREDNS[:2], ""), True, id="sandbox"),
        pytest.param(f"k8s_{NAMED}_2fe1", POD, COREDNS, False, id="container that was tried twice"),
        pytest.param("web", POD, ("", "", "web"), False, id="labels of an image"),
        pytest.param("k8s_web", POD, ("", "", "k8s_web"), False, id="labels of an image, and half of a name"),
        pytest.param(f"k8s_{NAMED}", SANDBOX, ("", "", f"k8s_{NAMED}"), False, id="no sandbox by its name"),
        pytest.param(f"k8s_{NAMED}", {}, ("", "", f"k8s_{NAMED}"), False, id="no labels"),
    ],
)
def test_what_cri_dockerd_makes_has_the_name_that_kubernetes_gave_it(
    name: str, labels: dict[str, str], called: tuple[str, ...], is_sandbox: bool
) -> None:
    """By a list and by an event alike; labels that an image may have brought are not believed."""
    listed = identities_of([{"Id": A, "Names": [f"/{name}"], "Image": "img:1", "State": "running", "Labels": labels}], 1000.0)
    (started, _) = told(event("start", **labels | {"name": name}))
    assert isinstance(started, Described)

    for identity in (listed[A], started.identities[A]):
        assert (identity.name, identity.is_sandbox, identity.runtime) == (called, is_sandbox, "docker")
        assert identity.pod_uid == (UID if called[1] else "")


@pytest.mark.parametrize("key", POD)
@given(value=st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text())))
def test_labels_that_make_no_sense_give_no_name_in_kubernetes(key: str, value: object) -> None:
    """Nor an error; what the labels say is only believed if it could be Kubernetes' word."""
    labels: dict[str, Any] = POD | {key: value}
    parts = [labels[f"io.kubernetes.{part}"] for part in ("container.name", "pod.name", "pod.namespace", "pod.uid")]
    name = "_".join(["k8s", *map(str, parts), "0"])
    called, _, _ = module._called(name, labels)

    assert called == ("", "", name) or all(re.fullmatch("[a-z0-9.-]{1,253}", part) for part in called)
