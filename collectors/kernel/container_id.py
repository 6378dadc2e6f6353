"""Which container a cgroup belongs to, from its path alone. Runtimes do not agree on how to name a container's cgroup:

    /system.slice/docker-ID.scope                                                   Docker, systemd (the default on cgroup v2)
    /docker/ID                                                                      Docker, cgroupfs
    /kubepods.slice/.../kubepods-burstable-podUID_.slice/cri-containerd-ID.scope    containerd, systemd
    /kubepods/burstable/podUID/ID                                                   containerd, cgroupfs
    /system.slice/containerd.service/kubepods-podUID_.slice:cri-containerd:ID       containerd on cgroupfs, kubelet on systemd
    /kubepods.slice/.../kubepods-podUID_.slice/crio-ID.scope/container              CRI-O; its sandboxes are crio-ID without .scope
    /kubepods/burstable/podUID/kata_ID                                              Kata on cgroupfs, of a sandbox
    /machine.slice/libpod-ID.scope/container                                        Podman

ID is 64 hexadecimal digits. UID is the pod's, with `_` for `-` in systemd's names; a static pod's is 32 digits, a hash of its manifest.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

_HEX_ID = re.compile(r"[0-9a-f]{64}")
_POD = re.compile(r"(?:^|-)pod([0-9a-f]{8}([-_])[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12}|[0-9a-f]{32})(?=$|\.slice(?:$|:))")
_KUBEPODS = re.compile(r"(?:^|-)kubepods(?:$|[-.])")
_QOS = re.compile(r"(?:^|-)(besteffort|burstable)(?:$|[-.])")
_RUNTIMES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
}


class ContainerKey(str):
    """What tells containers apart, as text: the id, or HOST/ID of one inside another, for that is another's word.

    It is text so that it is quick to look up, and the same in the casebook and the log; nobody else takes it apart.
    """

    __slots__ = ()

    @classmethod
    def of(cls, host: str, id_: str) -> "ContainerKey":
        """Make the key of a container; `host` is the id of the outermost one around it, or empty."""
        return cls(f"{host}/{id_}" if host else id_)

    @property
    def host(self) -> str:
        """The id of the outermost container around it; empty if there is none."""
        return self.rpartition("/")[0]

    @property
    def id(self) -> str:
        """The container's own id."""
        return self.rpartition("/")[2]

    @property
    def is_nested(self) -> bool:
        """Whether it is inside another container."""
        return "/" in self


@dataclass(frozen=True, slots=True)
class ContainerId:
    """A container as its cgroup path names it.

    A container with a cgroup namespace names the cgroups below its own as it likes, also like another container. So an id with a
    host_id is that container's word (true of a Kubernetes node in Docker): it must never displace the same id without a host_id.
    """

    runtime: str
    """docker, containerd, cri-o, podman or unknown."""
    id: str
    """64 hexadecimal digits; the innermost when containers are nested."""
    pod_uid: str
    """"" outside Kubernetes."""
    qos: str
    """guaranteed, burstable or besteffort; "" outside Kubernetes."""
    host_id: str
    """Id of the outermost container when nested, else ""."""
    container_path: str
    """The container's own cgroup: the path up to and including the component with the id; "" when it is not known."""
    key: ContainerKey = field(init=False, repr=False, compare=False)
    """What tells containers apart: the id, and for one inside another also whose word that id is."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", ContainerKey.of(self.host_id, self.id))  # once: it is asked for some 20 times a pass

    @classmethod
    def of_key(cls, key: ContainerKey) -> "ContainerId":
        """Return what is known of a container when its cgroup's path is not."""
        return cls("unknown", key.id, "", "", key.host, "")

    @property
    def url(self) -> str:
        """Return the id as the kubelet and kube-state-metrics spell container_id: `containerd://<64 hex>`."""
        return f"{self.runtime}://{self.id}"

    def told(self, runtime: str) -> "ContainerId":
        """Return it with the runtime that its source tells, "" for none: a cgroup named by the id alone shows only where it is.

        Podman answers as Docker does, but writes its own name into the path.
        """
        return self if runtime in ("", self.runtime) or self.runtime == "podman" else replace(self, runtime=runtime)


def parse(path: str) -> ContainerId | None:
    """Find the innermost container that the cgroup at path (below the cgroup root) is, or is inside of; None if there is none.

    >>> parse("/system.slice/docker-" + 64 * "a" + ".scope/init.scope").container_path == "/system.slice/docker-" + 64 * "a" + ".scope"
    True
    """
    names = path.removesuffix(" (deleted)").split("/")  # /proc/PID/cgroup says so of a removed cgroup
    found = [(depth, *match) for depth, name in enumerate(names) if (match := _split(name, parent=names[depth - 1] if depth else ""))]
    if not found:
        return None
    depth, prefix, id_ = found[-1]
    outer = found[-2][0] + 1 if len(found) > 1 else 0
    parents = names[outer : depth + 1]  # of this container, not of the one around it
    container_path = "/".join(names[: depth + 1])
    pods = [pod[1] for name in parents if (pod := _POD.search(name))]
    in_kubernetes = any(_KUBEPODS.search(name) for name in parents)
    return ContainerId(
        runtime=_RUNTIMES.get(prefix, "unknown") if prefix else _unnamed_runtime(parents, in_kubernetes=in_kubernetes),
        id=id_,
        pod_uid=pods[-1].replace("_", "-") if pods else "",
        qos=_qos(parents) if in_kubernetes else "",
        host_id=found[0][2] if len(found) > 1 else "",
        container_path=path if container_path == path else container_path,  # equal text is held once
    )


def ancestors(path: str) -> Iterator[str]:
    """Yield the paths of the cgroups above the one at path, the nearest first; not that of the root.

    >>> list(ancestors("/kubepods/burstable/podUID"))
    ['/kubepods/burstable', '/kubepods']
    """
    while path := path.rpartition("/")[0]:
        yield path


def is_pod(path: str) -> bool:
    """Whether the cgroup at path is that of a Kubernetes pod, which holds the pod's containers."""
    return bool(_POD.search(path.rpartition("/")[2]))


def _split(name: str, *, parent: str) -> tuple[str, str] | None:
    """Split one component into the runtime's name for itself ("" when it writes none) and the id; None if it is not a container's.

    Names that end otherwise (`.mount`, `.slice` of a Podman pod) are not, nor is conmon, which only watches a container, nor what Kata
    keeps out of its sandbox.
    """
    if parent == "kata_overhead":
        return None
    name = name.removesuffix(".scope").removeprefix("kata_")
    before, id_ = name[:-64], name[-64:]
    if not _HEX_ID.fullmatch(id_) or before[-1:] not in ("", "-", ":") or before.endswith("conmon-"):
        return None
    if not before and parent == "libpod_parent":  # a pod of Podman on cgroupfs; its containers are libpod-ID below
        return None
    return before[:-1].rpartition(":")[2], id_


def _unnamed_runtime(parents: list[str], *, in_kubernetes: bool) -> str:
    """Guess the runtime of a cgroup named by the id alone, from where it is."""
    if in_kubernetes:  # CRI-O writes crio- here too, and the kubelet has not driven Docker by itself since 1.24
        return "containerd"
    return "docker" if "docker" in parents else "unknown"


def _qos(parents: list[str]) -> str:
    """Return the QoS class: guaranteed pods lie directly below kubepods, the others in a cgroup of their class."""
    return next((qos[1] for name in parents if (qos := _QOS.search(name))), "guaranteed")
