"""What pods say of their containers: the JSON of v1.PodList, read as it comes, and of v1.Pod, turned to an identity per container id.

Pure. No field is believed to be there or to have its type: what is not as documented is not told. A pod's JSON also holds environments
and arguments, which are nobody's business here: nothing outlives the parsing but the fields that are named below.
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

import codecs
import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from agent.identities import Identity, Termination
from collectors.kernel.container_id import ContainerKey

_LONGEST_TEXT = 4096
_LONGEST_LIST = 64 * 2**20
"""Bytes; the list of a node with 110 pods has 1 to 2 MB."""

_LONGEST_POD = 8 * 2**20
"""Characters; etcd keeps no object of more than 1.5 MiB, and JSON is up to some times longer than that."""

_CONTAINER_ID = re.compile("([a-z0-9.+-]{1,63})://([0-9a-f]{64})")

_CRON_JOB_RUN = re.compile("(.+)-([0-9]{8})")
_FIRST_MINUTE = 26_000_000
"""A CronJob calls its jobs NAME-MINUTES, minutes since 1970 (2019 and later), which no date such as 20261122 is taken for."""

_STATUSES = (
    ("initContainerStatuses", "initContainers", "init"),
    ("containerStatuses", "containers", "app"),
    ("ephemeralContainerStatuses", "ephemeralContainers", "ephemeral"),
)


def identities_of(pod: object, labels: Collection[str], *, clock: float, wall: float) -> dict[ContainerKey, Identity]:
    """Return what a v1.Pod tells of its containers, living and last terminated, by id (64 hexadecimal digits).

    `labels` are the keys of the pod's labels to keep. `clock` (the identities') and `wall` are the time now: a death is told in wall time.
    The last_termination of a container that has ended is its own; while it lives, it is that of its life before.
    """
    status = _mapping(_mapping(pod).get("status"))
    spec = _mapping(_mapping(pod).get("spec"))
    shared = _shared(_mapping(_mapping(pod).get("metadata")), spec, labels)
    identities: dict[ContainerKey, Identity] = {}
    for statuses, specs, kind in _STATUSES:
        by_name = {_text(_mapping(each).get("name")): _mapping(each) for each in _list(spec.get(specs))}
        for each in _list(status.get(statuses)):
            container = _mapping(each)
            name = _text(container.get("name"))
            declared = by_name.get(name, {})
            identity = replace(
                shared,
                name=(*shared.name, name) if shared.name and name else (),
                image=_text(declared.get("image")) or _text(container.get("image")),
                runtime=_runtime(container.get("containerID")),
                stop_signal=_text(container.get("stopSignal")),
                kind="sidecar" if kind == "init" and declared.get("restartPolicy") == "Always" else kind,
            )
            for identifier, life in _lives(container, identity):
                identities[identifier] = life if life.ended is None else replace(life, ended=_ended(life, clock, wall))
    return identities


def names_of(pod: object) -> tuple[str, tuple[str, str]]:
    """Return the uid that a pod's cgroup has, its namespace and its name; "" for what is not told."""
    metadata = _mapping(_mapping(pod).get("metadata"))
    return _cgroup_uid(metadata), (_text(metadata.get("namespace")), _text(metadata.get("name")))


def uid_of(pod: object) -> str:
    """Return the uid by which the API knows a pod, a static one's mirror too; "" if that is not told."""
    return _text(_mapping(_mapping(pod).get("metadata")).get("uid"))


def version_of(item: object) -> str:
    """Return the resourceVersion of a pod, a bookmark or a list; "" if that is not told."""
    return _text(_mapping(_mapping(item).get("metadata")).get("resourceVersion"))


def _shared(metadata: Mapping[str, Any], spec: Mapping[str, Any], labels: Collection[str]) -> Identity:
    """Return what is the same for all containers of a pod; its name lacks the container."""
    namespace, pod = _text(metadata.get("namespace")), _text(metadata.get("name"))
    annotations, pod_labels = _mapping(metadata.get("annotations")), _mapping(metadata.get("labels"))
    kind, workload = _workload(metadata, pod_labels)
    if not kind and annotations.get("kubernetes.io/config.source") in ("file", "http"):
        kind, workload = "Node", _text(spec.get("nodeName"))
    grace = _number(metadata.get("deletionGracePeriodSeconds"))
    if grace is None:
        grace = _number(spec.get("terminationGracePeriodSeconds"))
    return Identity(
        name=(namespace, pod) if namespace and pod else (),
        pod_uid=_cgroup_uid(metadata),
        workload_kind=kind,
        workload=workload,
        pod_labels={key: text for key in labels if (text := _text(pod_labels.get(key)))},
        deletion_timestamp=_seconds(metadata.get("deletionTimestamp")),
        grace_seconds=grace,
    )


def _cgroup_uid(metadata: Mapping[str, Any]) -> str:
    # A static pod's cgroup has the hash of its manifest for a uid. The kubelet lists it so; the API server has a mirror of it, whose
    # uid is another and whose annotation is the hash. A mirror that no kubelet made is deleted before it runs.
    return _text(_mapping(metadata.get("annotations")).get("kubernetes.io/config.mirror")) or _text(metadata.get("uid"))


def _workload(metadata: Mapping[str, Any], labels: Mapping[str, Any]) -> tuple[str, str]:
    """Return the kind and the name of what the pod belongs to: its controller, or what that surely belongs to in turn."""
    owners = [_mapping(each) for each in _list(metadata.get("ownerReferences"))]
    owner: Mapping[str, Any] = next((each for each in owners if each.get("controller") is True), {})
    kind, name = _text(owner.get("kind")), _text(owner.get("name"))
    if not kind or not name:
        return "", ""
    template = _text(labels.get("pod-template-hash"))
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}") and len(name) > len(template) + 1:
        return "Deployment", name.removesuffix(f"-{template}")
    run = _CRON_JOB_RUN.fullmatch(name)
    if kind == "Job" and run and int(run[2]) >= _FIRST_MINUTE:
        return "CronJob", run[1]
    return kind, name


def _lives(container: Mapping[str, Any], identity: Identity) -> Iterator[tuple[ContainerKey, Identity]]:
    """Yield the id and the identity of the life before, and of the present one; `ended` is any number for one that has ended."""
    state, last = _mapping(container.get("state")), _mapping(container.get("lastState"))
    restarts = _number(container.get("restartCount"))
    now, before = _termination(state), _termination(last)
    present = _identifier(container.get("containerID")) or _identifier(_mapping(state.get("terminated")).get("containerID"))
    previous = _identifier(_mapping(last.get("terminated")).get("containerID"))
    ended = replace(identity, state="exited", seen_alive=False, ended=0.0)
    if previous and previous != present:
        # restartCount is the number of the present life, counted from 0.
        yield previous, replace(ended, last_termination=before, restarts=restarts - 1 if restarts else None)
    if not present:
        return
    identity, ended = replace(identity, restarts=restarts), replace(ended, restarts=restarts)
    if isinstance(state.get("terminated"), dict):
        yield present, replace(ended, last_termination=now)
    elif previous == present:
        yield present, replace(ended, last_termination=before)  # CrashLoopBackOff: the next life has no id yet
    else:
        alive = "running" if isinstance(state.get("running"), dict) else "created"  # waiting, with an id: made but not started
        yield present, replace(identity, state=alive, last_termination=before)


def _termination(state: Mapping[str, Any]) -> Termination | None:
    terminated = _mapping(state.get("terminated"))
    code = _number(terminated.get("exitCode"), least=-(2**31))
    if code is None:
        return None
    return Termination(
        exit_code=code,
        reason=_text(terminated.get("reason")),
        signal=_number(terminated.get("signal")) or 0,
        finished_at=_seconds(terminated.get("finishedAt")),
    )


def _ended(identity: Identity, clock: float, wall: float) -> float:
    """Return when a container ended by the identities' clock; now if that is not told, or lies in the future."""
    finished = identity.last_termination.finished_at if identity.last_termination else None
    return clock if finished is None else clock - max(0.0, wall - finished)


def _identifier(value: object) -> ContainerKey:
    match = _CONTAINER_ID.fullmatch(value) if isinstance(value, str) else None
    return ContainerKey(match[2] if match else "")


def _runtime(value: object) -> str:
    match = _CONTAINER_ID.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        return ""
    return value if value.isascii() else value.encode(errors="replace").decode()  # JSON can spell half of a character


def _number(value: object, least: int = 0) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31 else None


def _seconds(value: object) -> float | None:
    """Parse a time such as 2026-11-22T01:05:52Z."""
    try:
        time = datetime.fromisoformat(_text(value))
        seconds = time.timestamp() if time.tzinfo else 0.0
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None  # Go's time that was never set is in the year 1


class PodList:
    """Reads the JSON of a v1.PodList in pieces, and gives each pod as soon as it is complete.

    The C scanner of json holds the interpreter lock from its first byte to its last, in whichever thread: 10 to 30 ms per MB, and the
    list of a large node has 8 MB. Pod by pod neither the event loop nor the sampling thread waits longer than for one pod (1 to 2 ms for
    a piece of 64 KiB), nor is the list ever in memory.
    """

    def __init__(self) -> None:
        self.resource_version = ""
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._scan = json.JSONDecoder().raw_decode
        self._length = 0
        self._text = ""
        self._at = 0
        self._again = 0
        self._expected = "{"
        self._key: object = None
        self._has_items = False

    def feed(self, piece: bytes) -> Iterator[Any]:
        """Yield the pods that this piece completes. Raises ValueError, or RecursionError, for what is not JSON of a list."""
        self._length += len(piece)
        if self._length > _LONGEST_LIST:
            raise ValueError(f"it is longer than {_LONGEST_LIST} bytes")
        self._text, self._at = self._text[self._at :] + self._decode(piece), 0
        if len(self._text) < self._again:
            return
        self._again = 0
        while (mark := self._next_mark()) is not None:
            follower = _GRAMMAR.get((self._expected, mark))
            if self._expected == "value" and self._key == "items" and mark == "[":
                follower, self._has_items = "item", True
            if follower is not None:
                self._expected, self._at = follower, self._at + 1
                continue
            if self._expected not in ("key", "value", "item"):
                raise ValueError(f"{mark!r} is not expected there")
            value, end = self._scanned()
            if end is None:
                return
            self._at = end
            if self._expected == "item":
                self._expected = "item end"
                yield value
            elif self._expected == "key":
                self._key, self._expected = value, ":"
            else:
                self._take(value)

    def finish(self) -> Iterator[Any]:
        """Say that this was all, and yield the pods that were still to be scanned. Raises as feed, also if the list is not complete."""
        self._again = 0
        yield from self.feed(b"")
        if self._expected != "nothing":
            raise ValueError("it ends in the middle")
        if not self._has_items:
            raise ValueError("it has no items")

    def _next_mark(self) -> str | None:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        return self._text[self._at] if self._at < len(self._text) else None

    def _scanned(self) -> tuple[Any, int | None]:
        """Scan a value; no end if more of it may come."""
        with contextlib.suppress(json.JSONDecodeError):
            value, end = self._scan(self._text, self._at)
            if end < len(self._text):  # a number at the end may go on
                return value, end
        there = len(self._text) - self._at
        if there > _LONGEST_POD:
            raise ValueError(f"no value is longer than {_LONGEST_POD} characters")
        self._again = there * 3 // 2  # it is scanned from its start again: not for every piece, but when it has grown by half
        return None, None

    def _take(self, value: object) -> None:
        self._expected = "value end"
        if self._key == "metadata":
            self.resource_version = _text(_mapping(value).get("resourceVersion"))
        elif self._key == "items":
            self._has_items = value is None  # so a kubelet without pods spells its list


_GRAMMAR = {
    ("{", "{"): "key",
    ("key", "}"): "nothing",
    (":", ":"): "value",
    ("value end", ","): "key",
    ("value end", "}"): "nothing",
    ("item", "]"): "value end",
    ("item end", ","): "item",
    ("item end", "]"): "value end",
}
"""What is expected, and the character that comes -> what is expected next."""
