"""Pods as a Kubernetes node has them, without Kubernetes: containerd's CRI, asked as the kubelet asks it, and the kubelet's cgroups."""

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
import psutil
from google.protobuf.message_factory import GetMessageClass

from tests.lab.guest.images import BUSYBOX, PAUSE
from tests.lab.guest.node import CGROUPS, SLOWNESS, in_parallel, wait_for

SOCKET = Path("/run/containerd/containerd.sock")
BUNDLES = Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io")
EXITS = "/run/containerd-data/io.containerd.grpc.v1.cri"
"""Where the CRI keeps what it knows of each container."""
RUNC_WITH_SYSTEMD_NAMES = Path("/run/lab-runc-with-systemd-names")

# Of a task that does not say its state in time, usually 2 s, containerd takes it that its pid is 0.
CONFIG = f"""
version = 2
root = "/run/containerd-data"
state = "/run/containerd"
[grpc]
address = "{SOCKET}"
[timeouts]
"io.containerd.timeout.task.state" = "60s"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.systemd]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.systemd.options]
BinaryName = "{RUNC_WITH_SYSTEMD_NAMES}"
"""

# No systemd runs here to place a scope below a slice, so a bundle that asks systemd for SLICE:cri-containerd:ID gets the path of that.
RUNC_SCRIPT = r"""#!/bin/sh
bundle=""
for word in "$@"; do
    [ "$previous" = --bundle ] && bundle=$word
    previous=$word
done
if [ -n "$bundle" ]; then
    scope='(kubepods(-[a-z]+)?-pod[^:"]+\.slice):cri-containerd:([0-9a-f]+)"'
    sed -E -i -e "s#\"$scope#\"/kubepods.slice/kubepods\2.slice/\1/cri-containerd-\3.scope\"#" \
        -e 's#/kubepods\.slice/kubepods\.slice/#/kubepods.slice/#' "$bundle/config.json"
fi
exec runc "$@"
"""


@dataclass(frozen=True, slots=True)
class Program:
    """What a container of a pod runs, from the busybox image unless told otherwise, and what it may use."""

    command: Sequence[str]
    memory: int = 0
    oom_group: bool = True
    """The kernel kills all or nothing: the kubelet's default since 1.28."""
    mounts: Sequence[str] = ()
    """Paths of the machine that are there at the same place, read-only."""
    environment: Mapping[str, str] = field(default_factory=dict)


class Cri:
    """A client of the Container Runtime Interface."""

    def __init__(self) -> None:
        # wait_for_ready below waits for a containerd that starts; it must not wait longer than that takes.
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
        self._channel = grpc.insecure_channel(f"unix://{SOCKET}", options=options)
        self._services = grpc.protos("tests/lab/guest/cri.proto").DESCRIPTOR.services_by_name

    def call(self, method: str, *, service: str = "RuntimeService", seconds: float = 60, **fields: Any) -> Any:
        """Make a request of these fields and return the answer; both are messages of cri.proto."""
        description = self._services[service].methods_by_name[method]
        request, answer = GetMessageClass(description.input_type), GetMessageClass(description.output_type)
        path = f"/{self._services[service].full_name}/{method}"
        call = self._channel.unary_unary(path, request_serializer=request.SerializeToString, response_deserializer=answer.FromString)
        return call(request(**fields), timeout=SLOWNESS * seconds, wait_for_ready=True)

    def answers(self) -> bool:
        """Say whether containerd is up."""
        try:
            return bool(self.call("Version", seconds=1).runtime_name)
        except grpc.RpcError:
            return False

    def has_images(self, *names: str) -> bool:
        """Say whether CRI has noticed the images that were imported behind its back: these, or the two that all have."""
        images = names or (BUSYBOX, PAUSE)
        return all(self.call("ImageStatus", service="ImageService", image={"image": image}).image.id for image in images)

    def close(self) -> None:
        """Disconnect."""
        self._channel.close()


class PodContainer:
    """A container of a pod."""

    def __init__(self, cri: Cri, name: str, container_id: str, cgroup: Path, log: Path | None = None) -> None:
        self._cri = cri
        self._log = log
        self.name = name
        self.id = container_id
        self.cgroup = cgroup

    @property
    def log(self) -> str:
        """Return what it wrote, as containerd keeps it for the kubelet: each line behind its time, stream and a tag."""
        assert self._log, "only what Pod.start starts has a log"
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def status(self) -> Any:
        """Return what CRI says of it: state, exit_code, reason and so on."""
        return self._cri.call("ContainerStatus", container_id=self.id).status

    @property
    def pids(self) -> list[int]:
        """Return its living processes."""
        return [int(pid) for pid in (self.cgroup / "cgroup.procs").read_text(encoding="ascii").split()]

    def wait(self, seconds: float = 30) -> int:
        """Return its exit code when it has ended."""
        wait_for(lambda: self.status.finished_at, seconds, f"{self.name} did not end")
        code: int = self.status.exit_code
        return code

    def stop(self, grace: int = 0) -> None:
        """Send SIGTERM, and SIGKILL after the grace period."""
        self._cri.call("StopContainer", container_id=self.id, timeout=grace)

    def remove(self) -> None:
        """Remove it; it need not be stopped."""
        self._cri.call("RemoveContainer", container_id=self.id)


class Pod:
    """A pod: its cgroup with all controllers, as the kubelet makes it, a sandbox with the pause process, and containers."""

    def __init__(
        self,
        cri: Cri,
        name: str,
        *,
        namespace: str = "shop",
        uid: str = "",
        qos: str = "burstable",
        share_pid: bool = False,
        host_pid: bool = False,
        systemd_names: bool = False,
        memory: int = 0,
    ) -> None:
        self._cri = cri
        self.name, self.namespace, self.uid = name, namespace, uid or str(uuid.uuid4())
        self.containers: dict[str, PodContainer] = {}
        self._systemd_names = systemd_names
        self._attempts = itertools.count()
        self._pid = "NODE" if host_pid else "POD" if share_pid else "CONTAINER"
        self._logs = Path(f"/run/pod-logs/{namespace}_{name}_{self.uid}")
        self.cgroup = _pod_cgroup(self.uid, qos, systemd_names=systemd_names)
        _make(self.cgroup)
        if memory:
            (self.cgroup / "memory.max").write_text(str(memory), encoding="ascii")
        self._config = {
            "metadata": {"name": name, "namespace": namespace, "uid": self.uid},
            "labels": self._labels(),
            "log_directory": str(self._logs),
            "linux": {
                "cgroup_parent": f"/{self.cgroup.relative_to(CGROUPS)}",
                "security_context": {"namespace_options": self._namespaces()},
            },
        }
        handler = "systemd" if systemd_names else ""
        self.sandbox_id: str = cri.call("RunPodSandbox", config=self._config, runtime_handler=handler).pod_sandbox_id

    @property
    def sandbox(self) -> PodContainer:
        """Return the pause container, which CRI itself does not call a container."""
        return PodContainer(self._cri, "", self.sandbox_id, self._cgroup_of(self.sandbox_id))

    @property
    def pause(self) -> psutil.Process:
        """Return the process of the sandbox, the init of all containers when they share its PID namespace."""
        (pid,) = self.sandbox.pids
        return psutil.Process(pid)

    def __getitem__(self, container: str) -> PodContainer:
        """Return the container of that name."""
        return self.containers[container]

    def run(self, name: str, program: Program) -> PodContainer:
        """Start a container in it, also one of a name that was there before."""
        resources: dict[str, Any] = {"unified": {"memory.oom.group": "1"}} if program.oom_group else {}
        if program.memory:
            resources["memory_limit_in_bytes"] = program.memory
        return self._start(
            name,
            {
                "image": {"image": BUSYBOX},
                "command": list(program.command),
                "envs": [{"key": key, "value": value} for key, value in program.environment.items()],
                "mounts": [{"container_path": path, "host_path": path, "readonly": True} for path in program.mounts],
                "linux": {"resources": resources},
            },
        )

    def start(self, name: str, config: Mapping[str, Any]) -> PodContainer:
        """Start a container of a configuration, as CRI has it, with its log kept; what follows from the pod is added."""
        self._logs.mkdir(parents=True, exist_ok=True)
        return self._start(name, {**config, "log_path": f"{name}.log"})

    def _start(self, name: str, config: Mapping[str, Any]) -> PodContainer:
        linux = config["linux"]
        context = {**linux.get("security_context", {}), "namespace_options": self._namespaces()}
        whole = {
            **config,
            "metadata": {"name": name, "attempt": next(self._attempts)},
            "labels": {**self._labels(), "io.kubernetes.container.name": name},
            "linux": {**linux, "security_context": context},
        }
        answer = self._cri.call("CreateContainer", pod_sandbox_id=self.sandbox_id, config=whole, sandbox_config=self._config)
        self._cri.call("StartContainer", container_id=answer.container_id)
        cgroup, log = self._cgroup_of(answer.container_id), self._logs / f"{name}.log"
        container = PodContainer(self._cri, name, answer.container_id, cgroup, log if "log_path" in config else None)
        self.containers[name] = container
        return container

    def stop(self) -> None:
        """End all its processes; the sandbox and the containers are still known to containerd."""
        self._cri.call("StopPodSandbox", pod_sandbox_id=self.sandbox_id)

    def remove(self) -> None:
        """Leave nothing of it, also when it runs, or was removed before."""
        self._cri.call("RemovePodSandbox", pod_sandbox_id=self.sandbox_id)
        with contextlib.suppress(FileNotFoundError):
            self.cgroup.rmdir()

    def _labels(self) -> dict[str, str]:
        return {f"io.kubernetes.pod.{key}": value for key, value in (("name", self.name), ("namespace", self.namespace), ("uid", self.uid))}

    def _namespaces(self) -> dict[str, str]:
        """Choose the host's network, which needs no CNI plugin."""
        return {"network": "NODE", "pid": self._pid, "ipc": "POD"}

    def _cgroup_of(self, container_id: str) -> Path:
        return self.cgroup / (f"cri-containerd-{container_id}.scope" if self._systemd_names else container_id)


class StartPod(Protocol):
    """The fixture ``pod``."""

    def __call__(
        self,
        name: str,
        *,
        namespace: str = "shop",
        uid: str = "",
        qos: str = "burstable",
        containers: Mapping[str, Program] | None = None,
        share_pid: bool = False,
        host_pid: bool = False,
        systemd_names: bool = False,
        memory: int = 0,
    ) -> Pod:
        """Start a pod and its containers; qos is guaranteed, burstable or besteffort, memory the pod's own limit."""


MakePods = Callable[[], contextlib.AbstractContextManager[StartPod]]


@contextlib.contextmanager
def pods(cri: Cri) -> Iterator[StartPod]:
    """Yield what starts pods; at the end all that it started are removed."""
    started: list[Pod] = []

    def start(name: str, *, containers: Mapping[str, Program] | None = None, **options: Any) -> Pod:
        pod = Pod(cri, name, **options)
        started.append(pod)
        in_parallel(*(lambda c=c, p=p: pod.run(c, p) for c, p in (containers or {}).items()))
        return pod

    try:
        yield start
    finally:
        in_parallel(*(pod.remove for pod in started))


def _pod_cgroup(uid: str, qos: str, *, systemd_names: bool) -> Path:
    """Spell a pod's cgroup as the kubelet does with either of its cgroup drivers; guaranteed pods have no level of their class."""
    levels = ["kubepods", *([] if qos == "guaranteed" else [qos]), f"pod{uid}"]
    if not systemd_names:
        return CGROUPS.joinpath(*levels)
    levels[-1] = levels[-1].replace("-", "_")
    return CGROUPS.joinpath(*(f"{'-'.join(levels[: depth + 1])}.slice" for depth in range(len(levels))))


def _make(cgroup: Path) -> None:
    cgroup.mkdir(parents=True)
    levels = [parent for parent in cgroup.parents if parent.is_relative_to(CGROUPS)]
    for directory in [*reversed(levels), cgroup]:
        (directory / "cgroup.subtree_control").write_text("+cpu +memory +pids +io", encoding="ascii")
