"""The Kubernetes manifests: what they render to, that an API server would take it, and that they grant no more than they say.

The tests render by themselves (kustomize.py) and never skip; that kubectl renders the same is one test more.
"""

import re
import shutil
import subprocess
from itertools import permutations
from pathlib import Path, PurePosixPath

import kubernetes_validate  # type: ignore[import-untyped]  # it has annotations, but says so nowhere
import pytest
import yaml

from agent.config import Config, load
from agent.sources.exit_files import DEFAULT_EXITS
from agent.sources.kubernetes_access import ACCOUNT, choose
from agent.sources.oci import DEFAULT_BUNDLES
from collectors import NAMES
from tests.deploy.kustomize import (
    BASE,
    BUNDLES,
    COMPONENTS,
    CONTAINERD,
    CONTAINERD_EXITS,
    EXITS,
    GRANTS,
    MANIFESTS,
    OVERLAYS,
    ROOT,
    Object,
    combination,
    keyed,
    kustomization,
    render,
)

README = ROOT / "deploy" / "README.md"
DIRECTORIES = [BASE, *OVERLAYS.values()]

SOCKETS = [
    *("/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock", "/run/crio/crio.sock"),
    *("/run/docker.sock", "/run/podman/podman.sock", "/var/lib/kubelet/pods/kubelet.sock"),
]

COMBINATIONS = [["kubelet", "kmsg"], ["apiserver", "kmsg"], ["k3s", "kubelet", "kmsg"], ["crio", "apiserver", "kmsg"]]
CONTRADICTIONS = [list(order) for pair in (["kubelet", "apiserver"], ["crio", "k3s"], ["kmsg", "minimal"]) for order in permutations(pair)]

EXAMPLES = [block for block in re.findall(r"^```yaml\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL) if "kustomize" in block]
"""The kustomizations of your own that the README proposes."""

EVERY_POD_HAS = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443"}
DOWNWARD = {"spec.nodeName": "node-1", "status.hostIP": "192.0.2.7"}

VERSIONS = ["1.30", kubernetes_validate.latest_version().removesuffix(".0")]
"""The first that has appArmorProfile as a field, and the newest that the validator knows."""

KINDS = {"Namespace", "ServiceAccount", "DaemonSet", "NetworkPolicy", "PodMonitor"}


def pod_of(directory: Path) -> Object:
    """Return the pod template's spec."""
    spec: Object = render(directory)["DaemonSet/coroner"]["spec"]["template"]["spec"]
    return spec


def container_of(directory: Path) -> Object:
    """Return the pod's only container."""
    (container,) = pod_of(directory)["containers"]
    assert isinstance(container, dict)
    return container


def arguments_of(directory: Path) -> list[str]:
    """Return the container's arguments, without the file of the component web-config: it is in a Secret, and would be looked for here."""
    return [argument for argument in container_of(directory)["args"] if not argument.startswith("--web.config.file=")]


def mounts_of(directory: Path) -> dict[str, tuple[str, Object]]:
    """Return the path on the node and the mount itself, by the place in the container, of all that is on the node."""
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod_of(directory)["volumes"] if "hostPath" in volume}
    mounts = container_of(directory)["volumeMounts"]
    return {mount["mountPath"]: (paths[mount["name"]], mount) for mount in mounts if mount["name"] in paths}


def environment_of(directory: Path) -> dict[str, str]:
    """Return the variables that the container would have on node-1."""
    given = {variable["name"]: DOWNWARD[variable["valueFrom"]["fieldRef"]["fieldPath"]] for variable in container_of(directory)["env"]}
    return EVERY_POD_HAS | given


@pytest.fixture(params=["base", *COMPONENTS, *map("+".join, COMBINATIONS), *(f"example {number}" for number in range(len(EXAMPLES)))])
def rendering(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a directory that kustomize takes: each of ours, combinations of components, and the examples of the README."""
    name: str = request.param
    if name in ("base", *COMPONENTS):
        return OVERLAYS.get(name, BASE)
    if name.startswith("example "):
        return kustomization(tmp_path, EXAMPLES[int(name.removeprefix("example "))])
    return combination(tmp_path, name.split("+"))


def test_every_kustomization_is_tested() -> None:
    """A new component must be added to the list above, and an overlay is nothing but the base and the component of its name."""
    found = {path.parent for path in MANIFESTS.rglob("kustomization.yaml")}
    assert found == {*DIRECTORIES, *(MANIFESTS / "components" / name for name in COMPONENTS)}
    for name, overlay in OVERLAYS.items():
        settings = yaml.safe_load((overlay / "kustomization.yaml").read_text())
        assert settings.keys() == {"apiVersion", "kind", "resources", "components"}
        assert (settings["resources"], settings["components"]) == (["../../base"], [f"../../components/{name}"])


def test_readme_has_examples() -> None:
    """Of components that are combined, and of a runtime that is elsewhere."""
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_an_api_server_would_take_it(rendering: Path, version: str) -> None:
    """Every object is valid in the strict schema, where an unknown field is an error; those of the operator are for test_monitoring.py."""
    for manifest in render(rendering).values():
        if manifest["apiVersion"].startswith("monitoring.coreos.com/"):
            continue
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_kubectl_renders_the_same(rendering: Path) -> None:
    """The real kustomize comes to the same objects as the few lines above."""
    assert keyed(yaml.safe_load_all(_run(_kubectl(), "kustomize", str(rendering)))) == render(rendering)


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_components_combine_in_any_order(names: list[str], tmp_path: Path) -> None:
    """Each adds what it adds to the base, and undoes nothing of another's."""
    objects = render(combination(tmp_path, names))
    pod = objects["DaemonSet/coroner"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (api,) = GRANTS.keys() & set(names)

    for number, order in enumerate(permutations(names)):
        assert render(combination(tmp_path / str(number), list(order))) == objects
    assert objects.keys() - render(BASE).keys() == {"ClusterRole/coroner", "ClusterRoleBinding/coroner"}
    assert container["args"][-1] == f"--kubernetes.source={api}"
    assert container["securityContext"]["privileged"] is True
    places = {name: volume["hostPath"]["path"] for volume in pod["volumes"] if (name := volume["name"]) in ("bundles", "exits", "kmsg")}
    assert places == {
        "bundles": next((BUNDLES[name] for name in names if name in BUNDLES), CONTAINERD),
        "exits": next((EXITS[name] for name in names if name in EXITS), CONTAINERD_EXITS),
        "kmsg": "/dev/kmsg",
    }


@pytest.mark.parametrize("names", CONTRADICTIONS, ids="+".join)
def test_components_that_contradict_each_other_are_refused(names: list[str], tmp_path: Path) -> None:
    """Of two APIs, or two places of bundles, the last would win without a word."""
    with pytest.raises((AssertionError, KeyError)):
        render(combination(tmp_path, names))


@pytest.mark.parametrize("names", CONTRADICTIONS, ids="+".join)
def test_kubectl_refuses_components_that_contradict_each_other(names: list[str], tmp_path: Path) -> None:
    """The real kustomize too, by the operation `test` of a JSON patch, or the name that is there already."""
    done = subprocess.run([_kubectl(), "kustomize", combination(tmp_path, names)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert re.search("testing .* failed|test failed|test operation does not apply|already registered id", done.stderr), done.stderr


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


def test_no_component_adds_a_privilege_that_it_does_not_say(rendering: Path) -> None:
    """One of them makes the container privileged, and only that one; the root file system is read-only and all capabilities are dropped."""
    pod, context = pod_of(rendering), container_of(rendering)["securityContext"]
    is_privileged = any(volume["name"] == "kmsg" for volume in pod["volumes"])
    assert context["privileged"] is context["allowPrivilegeEscalation"] is is_privileged
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"]["drop"] == ["ALL"]
    assert {*context["capabilities"].get("add", [])} <= {"SYS_PTRACE", "SYSLOG", "DAC_READ_SEARCH"}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert (pod["hostNetwork"], pod.get("hostIPC", False), len(pod["containers"]), pod.get("initContainers", [])) == (False, False, 1, [])


def test_what_may_be_written_is_the_casebook_and_the_tracing(rendering: Path) -> None:
    """Every other mount is read-only, with the Secrets."""
    written = {mount["name"] for mount in container_of(rendering)["volumeMounts"] if not mount.get("readOnly")}
    assert written <= {"state", "tracing"}


def test_only_the_metrics_port_is_reached_and_only_the_asked_api_reaches_out(rendering: Path) -> None:
    """The policy is for the agent's pods; without an API it makes no connection."""
    objects = render(rendering)
    policy = objects["NetworkPolicy/coroner"]["spec"]
    labels = objects["DaemonSet/coroner"]["spec"]["template"]["metadata"]["labels"]
    args = container_of(rendering)["args"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": "metrics", "protocol": "TCP"}]]
    ports = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
    expected = {"--kubernetes.source=kubelet": [10250], "--kubernetes.source=apiserver": [443, 6443]}
    assert ports == next((expected[arg] for arg in args if arg in expected), [])


def test_privileged_excludes_no_escalation(rendering: Path) -> None:
    """A rule of the API server that is not in its schema: privileged and allowPrivilegeEscalation=false contradict each other."""
    context = container_of(rendering)["securityContext"]
    assert context["privileged"] == context["allowPrivilegeEscalation"]


def test_pod_shares_the_pid_namespace_and_nothing_else() -> None:
    """Processes of the node are seen; its network and IPC are not shared."""
    pod = pod_of(BASE)
    assert pod["hostPID"] is True
    assert pod["hostNetwork"] is False
    assert "hostIPC" not in pod
    assert pod.get("hostUsers", True)  # a user namespace of its own is incompatible with hostPID


def test_only_who_asks_an_api_has_a_token_and_may_read_pods_with_it(rendering: Path) -> None:
    """One rule, for one account, where an API is asked; no token and no rule anywhere else. Never nodes/proxy."""
    objects = render(rendering)
    pod = pod_of(rendering)
    asked = [arg.removeprefix("--kubernetes.source=") for arg in container_of(rendering)["args"] if arg.startswith("--kubernetes.")]
    roles = [manifest for manifest in objects.values() if "rules" in manifest]
    bindings = [manifest for manifest in objects.values() if "subjects" in manifest]
    account = objects["ServiceAccount/coroner"]

    assert pod["automountServiceAccountToken"] is bool(asked)
    assert account["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert not [volume for volume in pod["volumes"] if not volume.keys() <= {"name", "hostPath", "secret"}]
    assert {manifest["kind"] for manifest in objects.values()} - {
        "ClusterRole",
        "ClusterRoleBinding",
        "ConfigMap",
        "PrometheusRule",
    } == KINDS
    assert [role["rules"] for role in roles] == [[GRANTS[api]] for api in asked]
    assert len(bindings) == len(asked)
    for binding in bindings:
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coroner"}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "coroner", "namespace": account["metadata"]["namespace"]}]


def test_pod_knows_its_node() -> None:
    """By the downward API, and no other variable is set: every setting is an argument."""
    assert container_of(BASE)["env"] == [
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
    ]


def test_every_linux_node_gets_an_agent() -> None:
    """Taints do not keep it away, pressure does not evict it first, and an update takes a tenth of the nodes at a time."""
    pod = pod_of(BASE)
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"
    assert container_of(BASE)["resources"] == {"requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}
    strategy = render(BASE)["DaemonSet/coroner"]["spec"]["updateStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}


def test_mounts_are_read_only_and_where_the_flags_look() -> None:
    """The node's /proc, cgroup tree, bundles and exit files, read-only, with what is mounted or unmounted later; the flags name them.

    The casebook alone is written, where the agent keeps it by default.
    """
    container = container_of(BASE)
    mounts = mounts_of(BASE)
    config = load(container["args"], environment_of(BASE), NAMES)
    assert isinstance(config, Config)
    path, mount = mounts.pop(config.state)
    assert path == config.state
    assert "readOnly" not in mount
    assert {place: path for place, (path, _) in mounts.items()} == {
        "/host/proc": "/proc",
        "/host/sys/fs/cgroup": "/sys/fs/cgroup",
        CONTAINERD: CONTAINERD,
        CONTAINERD_EXITS: CONTAINERD_EXITS,
    }
    for _, mount in mounts.values():
        assert mount["readOnly"] is True
        assert mount["mountPropagation"] == "HostToContainer"
    assert {"--path.procfs=/host/proc", "--path.cgroupfs=/host/sys/fs/cgroup", "--docker.url="} <= set(container["args"])
    types = {volume["hostPath"]["path"]: volume["hostPath"]["type"] for volume in pod_of(BASE)["volumes"]}
    # A node without containerd must not lose its agent for it.
    made = dict.fromkeys((CONTAINERD, CONTAINERD_EXITS, path), "DirectoryOrCreate")
    assert types == {"/proc": "Directory", "/sys/fs/cgroup": "Directory", **made}


def test_bundles_are_mounted_where_they_are_looked_for(rendering: Path) -> None:
    """At the place that the flag names, and what the node has there is a place where the agent looks by default."""
    config = load(arguments_of(rendering), environment_of(rendering), NAMES)
    assert isinstance(config, Config)
    (bundles,) = config.bundles
    ((place, (path, mount)),) = [(place, found) for place, found in mounts_of(rendering).items() if found[1]["name"] == "bundles"]

    assert bundles in DEFAULT_BUNDLES
    # Below it, or an empty directory that the kubelet made for the mount would look like a runtime without containers.
    assert PurePosixPath(place) in PurePosixPath(bundles).parents
    assert mount["readOnly"] is True
    assert mount["mountPropagation"] == "HostToContainer"
    assert any(PurePosixPath(default).is_relative_to(path) for default in DEFAULT_BUNDLES)


def test_exit_files_are_mounted_where_they_are_looked_for(rendering: Path) -> None:
    """At the place that the flag names; a new node may have no directory of statuses yet, so that above it is mounted, but for CRI-O's."""
    config = load(arguments_of(rendering), environment_of(rendering), NAMES)
    assert isinstance(config, Config)
    (exits,) = config.exits
    ((place, (path, mount)),) = [(place, found) for place, found in mounts_of(rendering).items() if found[1]["name"] == "exits"]

    assert exits in {*DEFAULT_EXITS, f"{EXITS['k3s']}/containers"}
    assert exits in (EXITS["crio"], f"{place}/containers")
    assert PurePosixPath(exits).is_relative_to(place)
    assert (place == path) or path.endswith("/io.containerd.grpc.v1.cri")
    assert mount["readOnly"] is True
    assert mount["mountPropagation"] == "HostToContainer"


def test_no_socket_of_a_runtime_is_in_reach(rendering: Path) -> None:
    """Not by itself, and not in a directory that is mounted: whoever writes to one is root on the node."""
    places = [PurePosixPath(path) for path, _ in mounts_of(rendering).values()]
    assert [socket for socket in SOCKETS for place in places if PurePosixPath(socket).is_relative_to(place)] == []


def test_agent_understands_its_arguments(rendering: Path) -> None:
    """The flags are those of this release, and mean what the mounts, the variables and the port are made for."""
    config = load(arguments_of(rendering), environment_of(rendering), NAMES)
    assert isinstance(config, Config)
    assert (config.listen, config.telemetry_path) == (((None, 10911),), "/metrics")
    assert (config.procfs, config.cgroupfs) == ("/host/proc", "/host/sys/fs/cgroup")
    assert (config.kmsg, config.docker_url) == ("/dev/kmsg", "")


def test_base_asks_no_api() -> None:
    """Nobody tells it which source to use, and without a token that is the bundles; the pod's variables are no reason to ask."""
    assert not [arg for arg in container_of(BASE)["args"] if arg.startswith("--kubernetes.")]
    choice = choose("auto", environment_of(BASE), exists=lambda _: False)
    assert (choice.source, choice.access, choice.problems) == ("files", None, ())


@pytest.mark.parametrize(("name", "url"), [("kubelet", "https://192.0.2.7:10250"), ("apiserver", "https://10.96.0.1:443")])
def test_api_is_asked_for_the_pods_of_the_node_the_agent_is_on(name: str, url: str) -> None:
    """The variables of the pod have all that the source needs; the token and the authority are where the kubelet mounts them."""
    config = load(container_of(OVERLAYS[name])["args"], environment_of(OVERLAYS[name]), NAMES)
    assert isinstance(config, Config)
    access = config.kubernetes.access
    assert access is not None
    assert (access.mode, access.url, access.node_name) == (name, url, "node-1")
    assert (access.token_file, access.ca_file) == (f"{ACCOUNT}/token", f"{ACCOUNT}/ca.crt")
    assert not access.skip_verify


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


def test_namespace_allows_what_the_pod_needs() -> None:
    """Pod security is set per namespace: hostPID alone is above the baseline level."""
    objects = render(BASE)
    namespace = objects["Namespace/coroner"]["metadata"]
    assert {namespace["labels"][f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"privileged"}
    others = [manifest["metadata"] for manifest in objects.values() if manifest["kind"] != "Namespace"]
    assert {metadata["namespace"] for metadata in others} == {namespace["name"]}


def _kubectl() -> str:
    # What needs it may skip in CI too: no registry that the tests install from ships a kubectl that can do this.
    program = shutil.which("kubectl")
    if program is None or "kustomizeVersion" not in _run(program, "version", "--client", "--output=json"):
        pytest.skip("kubectl >= 1.24 is missing; no package registry has it (Debian's kubernetes-client is 1.20), so CI may skip this too")
    return program


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
