"""The Kubernetes manifests: what they render to, that an API server would take it, and that they grant no more than they say.

kustomize is three rules here (resources, labels, JSON patches), so the tests render by themselves and never skip; that kubectl
renders the same is one test more.
"""

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has annotations, but says so nowhere
import pytest
import yaml

import agent
from agent.config import Config, load
from collectors import NAMES

MANIFESTS = Path(__file__).parents[2] / "deploy" / "kubernetes"
BASE = MANIFESTS / "base"
KMSG = MANIFESTS / "overlays" / "kmsg"
DIRECTORIES = [BASE, KMSG]

VERSIONS = ["1.30", kubernetes_validate.latest_version().removesuffix(".0")]
"""The first that has appArmorProfile as a field, and the newest that the validator knows."""

Object = dict[str, Any]


def render(directory: Path) -> dict[str, Object]:
    """Do what kustomize does with the few fields in use here; any other field is an error. Keys are "Kind/name"."""
    settings = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert settings.keys() <= {"apiVersion", "kind", "resources", "labels", "patches"}
    objects: dict[str, Object] = {}
    for resource in settings["resources"]:
        path = directory / resource
        found = render(path) if path.is_dir() else _keyed(yaml.safe_load_all(path.read_text()))
        assert not objects.keys() & found.keys()
        objects |= found
    for label in settings.get("labels", []):
        assert label["includeTemplates"] is True
        for manifest in objects.values():
            manifest["metadata"]["labels"] |= label["pairs"]
            if "template" in manifest.get("spec", {}):
                manifest["spec"]["template"]["metadata"]["labels"] |= label["pairs"]
    for patch in settings.get("patches", []):
        target = objects["{kind}/{name}".format(**patch["target"])]
        for operation in yaml.safe_load((directory / patch["path"]).read_text()):
            _apply(operation, target)
    return objects


def pod_of(directory: Path) -> Object:
    """Return the pod template's spec."""
    spec: Object = render(directory)["DaemonSet/coroner"]["spec"]["template"]["spec"]
    return spec


def container_of(directory: Path) -> Object:
    """Return the pod's only container."""
    (container,) = pod_of(directory)["containers"]
    assert isinstance(container, dict)
    return container


def test_every_kustomization_is_tested() -> None:
    """A new overlay must be added to the list above."""
    assert {path.parent for path in MANIFESTS.rglob("kustomization.yaml")} == set(DIRECTORIES)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_an_api_server_would_take_it(directory: Path, version: str) -> None:
    """Every object is valid in the strict schema, where an unknown field is an error; only the custom resource has no schema."""
    objects = render(directory)
    del objects["PodMonitor/coroner"]
    for manifest in objects.values():
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_kubectl_renders_the_same(directory: Path) -> None:
    """The real kustomize comes to the same objects as the few lines above."""
    # The one test that may skip in CI too: no registry that the tests install from ships a kubectl that can do this.
    program = shutil.which("kubectl")
    if program is None or "kustomizeVersion" not in _run(program, "version", "--client", "--output=json"):
        pytest.skip("kubectl >= 1.24 is missing; no package registry has it (Debian's kubernetes-client is 1.20), so CI may skip this too")
    assert _keyed(yaml.safe_load_all(_run(program, "kustomize", str(directory)))) == render(directory)


def test_container_has_three_capabilities_and_no_more() -> None:
    """User 0, since capabilities do nothing for others in Kubernetes, but stripped of everything that is not needed."""
    assert container_of(BASE)["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE", "SYSLOG", "DAC_READ_SEARCH"]},
        "appArmorProfile": {"type": "Unconfined"},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_privileged_excludes_no_escalation(directory: Path) -> None:
    """A rule of the API server that is not in its schema: privileged and allowPrivilegeEscalation=false contradict each other."""
    context = container_of(directory)["securityContext"]
    assert context["privileged"] == context["allowPrivilegeEscalation"]


def test_pod_shares_the_pid_namespace_and_nothing_else() -> None:
    """Processes of the node are seen; its network and IPC are not shared, and there is no token of the API."""
    pod = pod_of(BASE)
    assert pod["hostPID"] is True
    assert pod["hostNetwork"] is False
    assert "hostIPC" not in pod
    assert pod.get("hostUsers", True)  # a user namespace of its own is incompatible with hostPID
    assert pod["automountServiceAccountToken"] is False
    account = render(BASE)["ServiceAccount/coroner"]
    assert account["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == account["metadata"]["name"]


def test_every_linux_node_gets_an_agent() -> None:
    """Taints do not keep it away, pressure does not evict it first, and an update takes a tenth of the nodes at a time."""
    pod = pod_of(BASE)
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"
    assert container_of(BASE)["resources"] == {"requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"memory": "160Mi"}}
    strategy = render(BASE)["DaemonSet/coroner"]["spec"]["updateStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}


def test_mounts_are_read_only_and_where_the_flags_look() -> None:
    """/proc and the cgroup tree, read-only, with what the node mounts later; the flags name the mount points."""
    volumes = {volume["name"]: volume["hostPath"] for volume in pod_of(BASE)["volumes"]}
    container = container_of(BASE)
    mounts = {mount["mountPath"]: (volumes[mount["name"]]["path"], mount) for mount in container["volumeMounts"]}
    assert {place: path for place, (path, _) in mounts.items()} == {"/host/proc": "/proc", "/host/sys/fs/cgroup": "/sys/fs/cgroup"}
    for _, mount in mounts.values():
        assert mount["readOnly"] is True
        assert mount["mountPropagation"] == "HostToContainer"
    assert {"--path.procfs=/host/proc", "--path.cgroupfs=/host/sys/fs/cgroup", "--docker.url="} <= set(container["args"])


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: path.name)
def test_agent_understands_its_arguments(directory: Path) -> None:
    """The flags are those of this release, and mean what the mounts and the port are made for."""
    config = load(container_of(directory)["args"], {}, NAMES)
    assert isinstance(config, Config)
    assert (config.listen_host, config.listen_port, config.telemetry_path) == (None, 10911, "/metrics")
    assert (config.procfs, config.cgroupfs) == ("/host/proc", "/host/sys/fs/cgroup")
    assert (config.kmsg, config.docker_url) == ("/dev/kmsg", "")


def test_port_is_the_one_that_is_listened_on() -> None:
    """The named port, the flag, the probes and the monitor mean the same port."""
    container = container_of(BASE)
    (port,) = container["ports"]
    assert f"--web.listen-address=:{port['containerPort']}" in container["args"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    (endpoint,) = render(BASE)["PodMonitor/coroner"]["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == port["name"]
    assert endpoint["path"] == "/metrics"


def test_image_is_this_release_in_no_registry() -> None:
    """The tag follows the version of the agent, and whoever deploys names the registry."""
    assert container_of(BASE)["image"] == f"coroner:{agent.__version__}"


def test_namespace_allows_what_the_pod_needs() -> None:
    """Pod security is set per namespace: hostPID alone is above the baseline level."""
    objects = render(BASE)
    namespace = objects["Namespace/coroner"]["metadata"]
    assert {namespace["labels"][f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"privileged"}
    others = [manifest["metadata"] for key, manifest in objects.items() if key != "Namespace/coroner"]
    assert {metadata["namespace"] for metadata in others} == {namespace["name"]}


def test_monitor_finds_the_pods_and_names_them_as_alerts_and_dashboard_expect() -> None:
    """job is "coroner", instance is the node, and the agent's labels are not overwritten by those of its own pod."""
    objects = render(BASE)
    monitor, daemonset = objects["PodMonitor/coroner"]["spec"], objects["DaemonSet/coroner"]["spec"]
    labels = daemonset["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert daemonset["selector"]["matchLabels"].items() <= labels.items()
    assert labels[monitor["jobLabel"]] == "coroner"
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["honorLabels"] is True
    assert endpoint["relabelings"] == [
        {"action": "replace", "sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "instance"}
    ]
    assert _seconds(endpoint["scrapeTimeout"]) < _seconds(endpoint["interval"])


def test_monitor_has_no_unknown_field() -> None:
    """The validator does not know this kind, and an API server drops what it does not know without a word."""
    monitor = render(BASE)["PodMonitor/coroner"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"].keys() == {"jobLabel", "selector", "podMetricsEndpoints"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint.keys() == {"port", "path", "interval", "scrapeTimeout", "honorLabels", "relabelings"}


def test_kmsg_overlay_adds_the_device_and_the_privilege_only() -> None:
    """Undo the four changes that the overlay says it makes, and what is left is the base."""
    objects = render(KMSG)
    pod = objects["DaemonSet/coroner"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["volumes"].pop() == {"name": "kmsg", "hostPath": {"path": "/dev/kmsg", "type": "CharDevice"}}
    assert container["volumeMounts"].pop() == {"name": "kmsg", "mountPath": "/dev/kmsg", "readOnly": True}
    assert "--path.kmsg=/dev/kmsg" in container["args"]
    assert container["securityContext"]["privileged"] is True
    container["securityContext"] |= {"privileged": False, "allowPrivilegeEscalation": False}
    assert objects == render(BASE)


def _keyed(manifests: Any) -> dict[str, Object]:
    return {f"{manifest['kind']}/{manifest['metadata']['name']}": manifest for manifest in manifests}


def _apply(operation: Object, target: Object) -> None:
    """Do one operation of a JSON patch (RFC 6902): test, replace, or add at the end of a list."""
    *parents, last = operation["path"].strip("/").split("/")
    place: Any = target
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    match operation["op"]:
        case "test":
            assert place[last] == operation["value"]
        case "replace":
            assert last in place
            place[last] = operation["value"]
        case "add":
            assert last == "-"
            place.append(copy.deepcopy(operation["value"]))
        case other:
            pytest.fail(f"operation {other} is not known here")


def _seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match
    return int(match[1])


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
