"""What Docker's lists and events say, turned to facts. Podman speaks the same, in places with words of its own. Pure.

No field is believed to be there or to have its type. That a container ended while dockerd was down is in no event: a list tells
(docker_lives.py), and who asks then (docker_inspect.py).
https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System/operation/SystemEvents
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from agent.identities import Amended, Described, EndedUnseen, Identity
from agent.sources import Told
from collectors.inquest.facts import (
    Created,
    Exited,
    HealthReported,
    OomReported,
    Paused,
    Removed,
    Resumed,
    Signalled,
    Started,
    StopReturned,
)
from collectors.inquest.stops import is_possible
from collectors.kernel.container_id import ContainerKey

SOURCE = "docker"

IDENTIFIER = re.compile("[0-9a-f]{64}")

_STATES: Mapping[str, tuple[str, type[Created | Started | Paused | Resumed]]] = {
    "create": ("created", Created),
    "start": ("running", Started),
    "pause": ("paused", Paused),
    "unpause": ("running", Resumed),
}
"""Events after which a container is in a state, and what has happened to it then."""

# Podman filters its events by its own words for them, died and remove, and may tell them in either.
EVENTS = (*_STATES, "rename", "kill", "stop", "die", "died", "destroy", "remove")
"""The events to ask for."""

DOCKERS_EVENTS = ("oom", "health_status", "exec_start")
"""More, of Docker alone: Podman would tell of each run of a health check, not of each change. To these two Docker adds words of its own, so
where one of them is asked for it takes all names of events for their beginnings. No others that it has begin so; a probe makes three events
of exec sessions, of which one is enough.
"""

_HEALTH = re.compile("health_status: (starting|healthy|unhealthy)")

_LAST_NANOSECOND = 2**63 - 1
"""Docker is written in Go, whose time.UnixNano() is an int64."""

_NUMBER = re.compile("[0-9]{1,3}")
_KUBERNETES_NAME = re.compile("[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_POD_UID = re.compile("[0-9A-Za-z-]{1,64}")


def identities_of(containers: list[dict[str, Any]], clock: float) -> dict[ContainerKey, Identity]:
    """Return what `GET /containers/json` tells; `clock` is the identities', now."""
    identities = {}
    for container in containers:
        identifier = ContainerKey(container.get("Id"))
        if not IDENTIFIER.fullmatch(identifier):
            continue
        # A container that others link to is listed under those names as well; its own is the one without a second slash.
        listed = container.get("Names")
        names = [name.removeprefix("/") for name in (listed if isinstance(listed, list) else ()) if isinstance(name, str)]
        own = next((name for name in names if "/" not in name), names[0] if names else None)
        state = str(container.get("State"))
        identity = _identity(own, container.get("Image"), state, mapping_of(container.get("Labels")), clock)
        identities[identifier] = replace(identity, created=_created(container.get("Created"))) if state == "created" else identity
    return identities


def facts_of_event(event: Mapping[str, Any], *, clock: float, wall: float) -> Iterator[Told]:
    """Yield what an event tells, in its own time, or `wall` where it has none; `clock` is the identities', now.

    A label of the container may be among its attributes instead of Docker's own word (Lives.believed).
    """
    identifier, action = ContainerKey(id_of_event(event)), str(event.get("Action"))
    attributes = mapping_of(mapping_of(event.get("Actor")).get("Attributes"))
    if not IDENTIFIER.fullmatch(identifier):
        return
    nanoseconds = nanoseconds_of(event)
    time = wall if nanoseconds is None else nanoseconds / 10**9
    if action in _STATES:
        state, kind = _STATES[action]
        identity = _identity(attributes.get("name"), attributes.get("image"), state, attributes, clock)
        yield Described(SOURCE, {identifier: replace(identity, created=time) if kind is Created else identity})
        yield kind(container=identifier, source=SOURCE, time=time)
    match action:
        case "rename":
            name, is_sandbox, pod_uid = _called(attributes.get("name"), attributes)
            yield Amended(SOURCE, identifier, {"name": name, "is_sandbox": is_sandbox, "pod_uid": pod_uid})
        case "kill":
            signal = number_of(attributes.get("signal"))
            if signal is not None:  # Podman does not say which one
                yield Signalled(container=identifier, source=SOURCE, time=time, signal=signal)
        case "stop":
            yield StopReturned(container=identifier, source=SOURCE, time=time)
        case "die" | "died":
            code = number_of(attributes.get("exitCode"))
            if code is None:
                yield EndedUnseen(SOURCE, identifier)
            else:
                yield Exited(container=identifier, source=SOURCE, time=time, how="runtime", code=code)
        case "destroy" | "remove":
            yield Removed(container=identifier, source=SOURCE, time=time)
        case "oom":
            yield OomReported(container=identifier, source=SOURCE, time=time)
    if health := _HEALTH.fullmatch(action):
        yield HealthReported(container=identifier, source=SOURCE, time=time, status=health[1])  # type: ignore[arg-type] # of the three


def id_of_event(event: Mapping[str, Any]) -> str:
    """Return the id of the container that an event is of; another text if it does not say."""
    return str(mapping_of(event.get("Actor")).get("ID"))


def nanoseconds_of(event: Mapping[str, Any]) -> int | None:
    """Return when an event happened, nanoseconds since 1970; None if it does not say."""
    nanoseconds = event.get("timeNano")
    return nanoseconds if isinstance(nanoseconds, int) and 0 < nanoseconds <= _LAST_NANOSECOND else None


def mapping_of(value: object) -> Mapping[str, Any]:
    """Return an object of JSON; an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def number_of(value: object) -> int | None:
    """Parse a signal or an exit code, which an event has as text; None for what is none."""
    return int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def _created(value: object) -> float | None:
    """Return when a container was created, as a list has it: seconds since 1970; None for what is none."""
    return float(value) if type(value) is int and is_possible(value) and value > 0 else None


def _identity(name: object, image: object, state: str, labels: Mapping[str, Any], clock: float) -> Identity:
    has_ended = state in ("exited", "dead")
    called, is_sandbox, pod_uid = _called(name, labels)
    return Identity(
        name=called,
        image=str(image or ""),
        runtime="docker",
        state=state,
        seen_alive=not has_ended and state != "created",
        ended=clock if has_ended else None,
        is_sandbox=is_sandbox,
        pod_uid=pod_uid,
        project=str(labels.get("com.docker.compose.project", "")),
        service=str(labels.get("com.docker.compose.service", "")),
    )


def _called(name: object, labels: Mapping[str, Any]) -> tuple[tuple[str, ...], bool, str]:
    """Return what a container is called, whether it is a pod's sandbox, and the pod's uid.

    cri-dockerd labels what it makes, and calls it k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT. An image may have any labels, but it does not
    give its containers a name: so the labels are believed where the name says the same.
    """
    if not isinstance(name, str) or not name:
        return (), False, ""
    pod, namespace, uid = (labels.get(f"io.kubernetes.pod.{part}") for part in ("name", "namespace", "uid"))
    container = labels.get("io.kubernetes.container.name")
    is_sandbox = labels.get("io.kubernetes.docker.type") == "podsandbox"
    if not name.startswith(f"k8s_{'POD' if is_sandbox else container}_{pod}_{namespace}_{uid}_") or not _POD_UID.fullmatch(str(uid)):
        return ("", "", name), False, ""
    parts = (str(namespace), str(pod), "pod" if is_sandbox else str(container))
    if not all(map(_KUBERNETES_NAME.fullmatch, parts)):
        return ("", "", name), False, ""
    return (*parts[:2], "" if is_sandbox else parts[2]), is_sandbox, str(uid)
