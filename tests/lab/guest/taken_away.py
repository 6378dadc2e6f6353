"""What is taken away from the agent that the manifest describes, one by one, and what each costs: the table in deploy/README.md."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.kustomize import OVERLAYS, render
from tests.lab.guest.pod_spec import Spec

ISOLATION = "coroner_container_isolation_info"
CANDIDATE = "coroner_container_oom_candidate_info"
HIDING, PROCESSES_ALONE = "/run/proc-hiding", "/run/proc-processes-alone"
"""A /proc that shows processes to those that may trace them, and one that has nothing but processes."""


def without_capability(name: str) -> Callable[[Spec], None]:
    """Return what takes one of the three away."""
    return lambda spec: spec["containers"][0]["securityContext"]["capabilities"]["add"].remove(name)


def without_mount(name: str) -> Callable[[Spec], None]:
    """Return what takes a mount away."""

    def change(spec: Spec) -> None:
        mounts = spec["containers"][0]["volumeMounts"]
        mounts[:] = [mount for mount in mounts if mount["name"] != name]

    return change


def minimal(spec: Spec) -> None:
    """Make it what the component of that name renders: no capabilities at all."""
    spec |= render(OVERLAYS["minimal"])["DaemonSet/coroner"]["spec"]["template"]["spec"]


@dataclass(frozen=True)
class Variant:
    """What is taken away, the sources that then are not 1, what the log names, and what is seen otherwise than by the one that has all."""

    change: Callable[[Spec], object] = lambda _: None
    blind: Mapping[str, float | None] = field(default_factory=dict)
    named: Sequence[str] = ()
    sees: Mapping[str, Any] = field(default_factory=dict)
    layers: bool = False
    """Asked for: --source.layers."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """What is not where the manifest has it, by what that has."""

    @property
    def flags(self) -> list[str]:
        """What is asked for beyond the manifest."""
        return ["--source.layers"] if self.layers else []

    def is_said(self, log: str) -> bool:
        """Whether the log names all that it should."""
        return all(words in log for words in self.named)


NOT_COMPARED = object()
"""A race; or it would be all of a catalogue."""
ISOLATED = {"process": "init", "user_namespace": "host", "seccomp": "disabled", "read_only_root": "false", "host_namespaces": "net,uts"}
SEEN = {
    "names": True,
    "zombies": 2,
    "zombies of the namespace": 2,
    "handles its stop signal": 1,
    "isolation": ISOLATED,
    "kills": 1,
    "kills by scope": 1,
    "victims": ["tail"],
    "PIDs of victims": True,
    "next victim": "sleep",
    "limits without a next victim": 0,
    "deaths": 1,
    "verdict": ("error", 3),
    "casebook": 1,
    "layers": set(),
    "failed": set(),
    "lost": set(),
}
"""What is found out by who has all that the manifest grants (Node.sees); `lost` are metrics that he has, of whatever begins with these."""
LOSABLE = ("coroner_container_", "coroner_pid_namespace_", "coroner_node_")
"""Not what is left over, of which nothing is said in the first minute."""
LAYERS = {"careless", "hungry", "full"}
OF_NAMESPACES = {
    *("coroner_container_init_info", "coroner_container_init_handles_stop_signal", "coroner_container_init_ignores_sigchld"),
    *("coroner_container_exec_sessions", "coroner_container_services"),
}
OF_CANDIDATES = {CANDIDATE, "coroner_container_oom_candidate_badness_bytes", "coroner_container_oom_candidate_rss_bytes"}
OF_PROCESSES = {
    *("coroner_container_zombies", "coroner_container_oldest_zombie_timestamp_seconds"),
    *("coroner_pid_namespace_zombies", "coroner_pid_namespace_processes"),
}
OF_ISOLATION = {"coroner_container_extra_capabilities", "coroner_container_runtime_socket_mounted"}
OF_NODE = {"coroner_node_threads", "coroner_node_threads_limit", "coroner_node_pid_limit"}
WITHOUT_NAMESPACES: dict[str, Any] = {
    "zombies of the namespace": None,
    "handles its stop signal": None,
    "isolation": {**ISOLATED, "host_namespaces": ""},
    "lost": OF_NAMESPACES,
}
WITHOUT_KERNEL_LOG: dict[str, Any] = {"victims": [], "PIDs of victims": False}
WITHOUT_CANDIDATES: dict[str, Any] = {"next victim": None, "limits without a next victim": 1}
WITHOUT_PROCESSES: dict[str, Any] = {
    **WITHOUT_CANDIDATES,
    "zombies": None,
    "zombies of the namespace": None,
    "handles its stop signal": None,
    "isolation": {},
    "PIDs of victims": False,
    "failed": {"init", "services", "sessions", "zombies"},
    "lost": OF_NAMESPACES | OF_CANDIDATES | OF_PROCESSES,
}
VARIANTS = {
    "all": Variant(),
    "no-ptrace": Variant(
        without_capability("SYS_PTRACE"), {"proc": 0, "layers": 0}, ["CAP_SYS_PTRACE", "/host/proc/1/root"], WITHOUT_NAMESPACES, layers=True
    ),
    "no-syslog": Variant(without_capability("SYSLOG"), {"kmsg": 0}, ["CAP_SYSLOG"], WITHOUT_KERNEL_LOG),
    "no-dac": Variant(
        without_capability("DAC_READ_SEARCH"),
        {},
        ["layers of some containers cannot be read", "CAP_DAC_READ_SEARCH"],
        {"layers": LAYERS - {"full"}},
        layers=True,
    ),
    "minimal": Variant(minimal, {"proc": 0, "kmsg": 0}, ["CAP_SYS_PTRACE", "CAP_SYSLOG"], WITHOUT_NAMESPACES | WITHOUT_KERNEL_LOG),
    "no-pid": Variant(
        lambda spec: spec.update(hostPID=False),
        {"exits": 0},
        ["hostPID", "containers are in other PID namespaces"],
        WITHOUT_CANDIDATES | {"lost": OF_CANDIDATES},
        layers=True,
    ),
    "no-proc": Variant(
        without_mount("proc"),
        {"proc": 0, "exits": 0},
        ["/host/proc: ", "collector=host ", "collector=zombies "],
        WITHOUT_PROCESSES
        | {
            "casebook": 0,
            "failed": {"init", "services", "sessions", "zombies", "host"},
            "lost": {ISOLATION, *OF_ISOLATION, *OF_NAMESPACES, *OF_CANDIDATES, *OF_PROCESSES, *OF_NODE},
        },
    ),
    "hidden": Variant(
        without_capability("SYS_PTRACE"),
        {"proc": 0},
        ["hidepid=ptraceable", "collector=zombies "],
        WITHOUT_PROCESSES,
        paths={"/proc": HIDING},
    ),
    "no-node-files": Variant(
        named=["boot_id", "collector=host "],
        sees={**WITHOUT_CANDIDATES, "casebook": 0, "failed": {"host"}, "lost": OF_CANDIDATES | OF_NODE},
        paths={"/proc": PROCESSES_ALONE},
    ),
    "no-cgroup": Variant(
        without_mount("cgroup"),
        {"cgroup": 0, "exits": None},
        ["/host/sys/fs/cgroup"],
        {
            "zombies": None,
            "handles its stop signal": None,
            "isolation": {},
            "victims": [],
            "PIDs of victims": False,
            "next victim": None,
            "limits without a next victim": None,
            "lost": NOT_COMPARED,
        },
    ),
    "no-bundles": Variant(without_mount("bundles"), {"oci": 0}, ["/run/containerd/io.containerd.runtime.v2.task"], {"names": False}),
    "no-exits": Variant(
        without_mount("exits"),
        {"exit_files": 0},
        ["/var/lib/containerd/io.containerd.grpc.v1.cri"],
        {"deaths": NOT_COMPARED, "verdict": NOT_COMPARED, "lost": {"coroner_container_created_to_start_seconds"}},
    ),
    "no-state": Variant(without_mount("state"), {}, ["casebook"], {"casebook": 0, "layers": LAYERS}, layers=True),
}
"""The rows of the table in deploy/README.md, and two that mount a /proc that hides something. Without exits the kernel tells the status, if
the runtime is slower than the agent."""
