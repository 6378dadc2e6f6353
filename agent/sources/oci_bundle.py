"""One OCI bundle: the annotations in its config.json (oci_config_json.py), and what they tell of the container.

A bundle is a directory named by the container's id: containerd keeps ID/config.json, CRI-O ID/userdata/config.json. The file also holds
the container's environment: nothing but the annotations named here is kept of it, or said in a message.
https://github.com/containerd/containerd/blob/main/pkg/cri/annotations/annotations.go
https://github.com/cri-o/cri-o/blob/main/pkg/annotations/internal.go
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from agent.identities import Identity
from agent.sources.oci_config_json import MOST_BYTES, Steps, Unreadable, read_annotations, too_large
from agent.sources.signal_names import signal_number
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import FLAGS

IDENTIFIER = re.compile("[0-9a-f]{64}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
_LONGEST_PATH = 4096

_HOLDS_POD = re.compile("(?:^|[^a-z0-9])(?:runsc|gvisor|kata)")
"""In the name of a runtime handler, or of a shim: gVisor and Kata Containers run all of a pod in its sandbox."""


class _Keys(NamedTuple):
    """How a runtime spells its annotations."""

    type: str
    namespace: str
    pod: str
    container: str
    uid: str
    image: str
    handler: str


_CONTAINERD = _Keys(
    type="io.kubernetes.cri.container-type",
    namespace="io.kubernetes.cri.sandbox-namespace",
    pod="io.kubernetes.cri.sandbox-name",
    container="io.kubernetes.cri.container-name",
    uid="io.kubernetes.cri.sandbox-uid",
    image="io.kubernetes.cri.image-name",
    handler="io.containerd.cri.runtime-handler",
)
_CRIO = _Keys(
    type="io.kubernetes.cri-o.ContainerType",
    namespace="io.kubernetes.pod.namespace",
    pod="io.kubernetes.pod.name",
    container="io.kubernetes.container.name",
    uid="io.kubernetes.pod.uid",
    image="io.kubernetes.cri-o.ImageName",
    handler="io.kubernetes.cri-o.RuntimeHandler",
)
_CRIO_ID = "io.kubernetes.cri-o.ContainerID"
_CRIO_SANDBOX = "POD"
_STOP_SIGNAL = "org.opencontainers.image.stopSignal"
"""Of the image, or what the container was told instead: CRI-O and Podman write it, containerd does not
(https://github.com/opencontainers/image-spec/blob/main/conversion.md)."""
_WANTED = frozenset((*_CONTAINERD, *_CRIO, _CRIO_ID, _STOP_SIGNAL))


@dataclass(frozen=True, slots=True)
class Bundle:
    """What is looked at of a bundle."""

    annotations: Mapping[str, str]
    """Those that are named here; "" for what is no text, or too long for a name."""
    is_crio: bool
    """By where the runtime put it, which no container has a say in."""
    shim: str = ""
    """Name of the program that containerd runs a sandbox with (ID/shim-binary-path, since 1.6); "" if that is not told, or not yet."""

    @property
    def lacks_shim(self) -> bool:
        """Whether containerd may still tell it."""
        return not self.is_crio and not self.shim

    @property
    def stop_signal(self) -> int | None:
        """Number of the signal that the container is stopped with; None if that is not told, or is none."""
        return signal_number(self.annotations.get(_STOP_SIGNAL))


def list_bundles(path: str) -> set[ContainerKey]:
    """Ids of all bundles in a directory of them. Raises OSError."""
    with _opened(path, _DIRECTORY) as place:
        return {ContainerKey(name) for name in os.listdir(place) if IDENTIFIER.fullmatch(name)}


def read_bundle(path: str, identifier: str) -> Steps[Bundle]:
    """Read a bundle, in either layout, in steps of a few milliseconds. Raises OSError and Unreadable."""
    with _opened(path, _DIRECTORY) as place, _opened(identifier, _DIRECTORY | os.O_NOFOLLOW, place) as bundle:
        try:
            annotations = yield from _annotations(bundle)
            is_sandbox = annotations.get(_CONTAINERD.type) == "sandbox"
            return Bundle(annotations, is_crio=False, shim=_shim(bundle) if is_sandbox else "")
        except FileNotFoundError:
            with _opened("userdata", _DIRECTORY | os.O_NOFOLLOW, bundle) as userdata:
                annotations = yield from _annotations(userdata)
                return Bundle(annotations, is_crio=True)


@contextlib.contextmanager
def _opened(path: str, flags: int, parent: int | None = None) -> Iterator[int]:
    fd = os.open(path, flags, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _annotations(bundle: int) -> Steps[Mapping[str, str]]:
    with _opened("config.json", FLAGS, bundle) as file:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise Unreadable("config.json is not a regular file")
        if found.st_size > MOST_BYTES:
            raise too_large()
        return (yield from read_annotations(partial(os.read, file), _WANTED))


def _shim(bundle: int) -> str:
    try:
        with _opened("shim-binary-path", FLAGS, bundle) as file:
            return os.path.basename(os.read(file, _LONGEST_PATH)).decode(errors="replace")
    except OSError:
        return ""


def identity_of(identifier: str, config: Bundle, *, was_there: bool) -> Identity | None:
    """Say what a bundle tells; None for one that Kubernetes has nothing to do with."""

    def value(key: str) -> str:
        return config.annotations.get(key, "")

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
    return Identity(
        name=(namespace, pod, "" if is_sandbox else container),
        image=value(keys.image),
        state="running" if is_alive else "unknown",
        seen_alive=is_alive,
        is_sandbox=is_sandbox,
        holds_pod=is_sandbox and any(map(_HOLDS_POD.search, (value(keys.handler).lower(), config.shim))),
        pod_uid=value(keys.uid),
    )
