"""One OCI bundle: the annotations in its config.json, and what they tell of the container.

A bundle is a directory named by the container's id: containerd keeps ID/config.json, CRI-O ID/userdata/config.json. The file also holds
the container's environment: nothing but the annotations named here is kept of it, or said in a message.
https://github.com/containerd/containerd/blob/main/pkg/cri/annotations/annotations.go
https://github.com/cri-o/cri-o/blob/main/pkg/annotations/internal.go
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agent.directory import Entry
from collectors.kernel.files import FLAGS

IDENTIFIER = re.compile("[0-9a-f]{64}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
_LARGEST_CONFIG = 1 << 20
_LONGEST_VALUE = 1024
"""Kubernetes' names have at most 253 characters, and images not many more."""


class _Keys(NamedTuple):
    """How a runtime spells its annotations."""

    type: str
    namespace: str
    pod: str
    container: str
    uid: str
    image: str


_CONTAINERD = _Keys(
    type="io.kubernetes.cri.container-type",
    namespace="io.kubernetes.cri.sandbox-namespace",
    pod="io.kubernetes.cri.sandbox-name",
    container="io.kubernetes.cri.container-name",
    uid="io.kubernetes.cri.sandbox-uid",
    image="io.kubernetes.cri.image-name",
)
_CRIO = _Keys(
    type="io.kubernetes.cri-o.ContainerType",
    namespace="io.kubernetes.pod.namespace",
    pod="io.kubernetes.pod.name",
    container="io.kubernetes.container.name",
    uid="io.kubernetes.pod.uid",
    image="io.kubernetes.cri-o.ImageName",
)
_CRIO_ID = "io.kubernetes.cri-o.ContainerID"
_CRIO_SANDBOX = "POD"


class Unreadable(Exception):
    """A config.json that is not one, or not yet. The message holds nothing of its content."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is looked at of a config.json."""

    annotations: Mapping[str, object]
    is_crio: bool
    """By where the runtime put it, which no container has a say in."""


def list_bundles(path: str) -> set[str]:
    """Ids of all bundles in a directory of them. Raises OSError."""
    with _opened(path, _DIRECTORY) as place:
        return {name for name in os.listdir(place) if IDENTIFIER.fullmatch(name)}


def read_bundle(path: str, identifier: str) -> Bundle:
    """Read the config.json of a bundle, in either layout. Raises OSError and Unreadable."""
    with _opened(path, _DIRECTORY) as place, _opened(identifier, _DIRECTORY | os.O_NOFOLLOW, place) as bundle:
        try:
            return Bundle(_annotations(_content(bundle)), is_crio=False)
        except FileNotFoundError:
            with _opened("userdata", _DIRECTORY | os.O_NOFOLLOW, bundle) as userdata:
                return Bundle(_annotations(_content(userdata)), is_crio=True)


@contextlib.contextmanager
def _opened(path: str, flags: int, parent: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _content(bundle: int) -> bytes:
    with _opened("config.json", FLAGS, bundle) as file:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("config.json is not a regular file")
        if found.st_size > _LARGEST_CONFIG:
            raise Unreadable("config.json is larger than 1 MiB")
        return os.read(file, found.st_size)


def _annotations(raw: bytes) -> Mapping[str, object]:
    document: object = None
    with contextlib.suppress(ValueError, RecursionError, MemoryError):  # they hold the whole text, so none of them gets out of here
        document = json.loads(raw)
    if not isinstance(document, dict):
        raise Unreadable("config.json is not complete JSON")
    found = document.get("annotations")
    return found if isinstance(found, dict) else {}


def entry_of(identifier: str, config: Bundle, *, was_there: bool) -> Entry | None:
    """Say what a bundle tells; None for one that Kubernetes has nothing to do with."""

    def value(key: str) -> str:
        found = config.annotations.get(key)
        return found if isinstance(found, str) and len(found) <= _LONGEST_VALUE else ""

    # Podman lays bundles out as CRI-O does, and copies into them whatever annotations an image has: only a runtime can know the new id.
    if config.is_crio and value(_CRIO_ID) != identifier:
        return None
    keys = _CRIO if config.is_crio else _CONTAINERD
    namespace, pod, container = value(keys.namespace), value(keys.pod), value(keys.container)
    # A pod's own annotations overwrote CRI-O's type of its sandbox for years; the name is not a valid one of a container.
    is_sandbox = value(keys.type) == "sandbox" or (config.is_crio and container == _CRIO_SANDBOX)
    if not namespace or not pod or not (container or is_sandbox):
        return None
    is_alive = not (config.is_crio and was_there)
    return Entry(
        name=(namespace, pod, "" if is_sandbox else container),
        image=value(keys.image),
        state="running" if is_alive else "unknown",
        seen_alive=is_alive,
        is_sandbox=is_sandbox,
        pod_uid=value(keys.uid),
    )
