"""What each component of the manifests changes: that and nothing else."""

import pytest

from agent.config import Config, load
from collectors import NAMES
from tests.deploy.kustomize import BASE, BUNDLES, CONTAINERD, CONTAINERD_EXITS, EXITS, GRANTS, OVERLAYS, Object, render


def test_kmsg_overlay_adds_the_device_and_the_privilege_only() -> None:
    """Undo the four changes that the overlay says it makes, and what is left is the base."""
    objects = render(OVERLAYS["kmsg"])
    pod = objects["DaemonSet/coroner"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["volumes"].pop() == {"name": "kmsg", "hostPath": {"path": "/dev/kmsg", "type": "CharDevice"}}
    assert container["volumeMounts"].pop() == {"name": "kmsg", "mountPath": "/dev/kmsg", "readOnly": True}
    assert "--path.kmsg=/dev/kmsg" in container["args"]
    assert container["securityContext"]["privileged"] is True
    container["securityContext"] |= {"privileged": False, "allowPrivilegeEscalation": False}
    assert objects == render(BASE)


def test_signals_overlay_adds_the_tracing_and_the_flags_only() -> None:
    """Undo the changes that the overlay says it makes, and what is left is the base; what is mounted is where the agent looks."""
    objects = render(OVERLAYS["signals"])
    pod = objects["DaemonSet/coroner"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = load(container["args"], {}, NAMES)
    assert isinstance(config, Config)
    assert config.signals
    assert pod["volumes"].pop() == {"name": "tracing", "hostPath": {"path": "/sys/kernel/tracing", "type": "Directory"}}
    assert container["volumeMounts"].pop() == {"name": "tracing", "mountPath": config.tracefs, "mountPropagation": "HostToContainer"}
    assert [container["args"].pop() for _ in range(2)] == [f"--path.tracefs={config.tracefs}", "--source.signals"]
    assert objects == render(BASE)


@pytest.mark.parametrize("name", GRANTS)
def test_api_overlay_adds_the_token_the_grant_and_the_flag_only(name: str) -> None:
    """Undo the five changes that the overlay says it makes, and what is left is the base."""
    objects = render(OVERLAYS[name])
    del objects["ClusterRole/coroner"], objects["ClusterRoleBinding/coroner"]
    pod = objects["DaemonSet/coroner"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"].pop() == f"--kubernetes.source={name}"
    pod["automountServiceAccountToken"] = False
    assert [rule.keys() for rule in objects["NetworkPolicy/coroner"]["spec"]["egress"]] == [{"ports"}]
    objects["NetworkPolicy/coroner"]["spec"]["egress"] = []
    assert objects == render(BASE)


@pytest.mark.parametrize(
    ("name", "bundles", "exits"),
    [
        ("crio", f"{BUNDLES['crio']}/overlay-containers", EXITS["crio"]),
        ("k3s", f"{BUNDLES['k3s']}/k8s.io", f"{EXITS['k3s']}/containers"),
    ],
)
def test_runtime_overlay_changes_the_places_of_the_runtime_only(name: str, bundles: str, exits: str) -> None:
    """Undo the changes that the overlay says it makes, three for the bundles and three for the exit files: what is left is the base."""
    objects = render(OVERLAYS[name])
    pod = objects["DaemonSet/coroner"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    volumes = {volume["name"]: volume["hostPath"] for volume in pod["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    args = container["args"]
    for kind, place, usual in (("bundles", BUNDLES[name], CONTAINERD), ("exits", EXITS[name], CONTAINERD_EXITS)):
        assert volumes[kind]["path"] == mounts[kind]["mountPath"] == place
        volumes[kind]["path"] = mounts[kind]["mountPath"] = usual
    args[args.index(f"--path.bundles={bundles}")] = f"--path.bundles={CONTAINERD}/k8s.io"
    args[args.index(f"--path.exits={exits}")] = f"--path.exits={CONTAINERD_EXITS}/containers"
    assert objects == render(BASE)


def test_memory_overlay_keeps_nothing_and_changes_nothing_else() -> None:
    """No directory of the node is written, and the agent is told so."""
    objects, base = render(OVERLAYS["memory"]), render(BASE)
    container = pod_and_container(objects)[1]
    usual, usual_container = pod_and_container(base)
    assert container["args"].pop() == "--path.state="
    assert usual["volumes"].pop()["name"] == usual_container["volumeMounts"].pop()["name"] == "state"
    assert objects == base
    config = load(pod_and_container(render(OVERLAYS["memory"]))[1]["args"], {}, NAMES)
    assert isinstance(config, Config)
    assert config.state == ""


def test_minimal_overlay_takes_the_capabilities_and_nothing_else() -> None:
    """With them the reason to be without an AppArmor profile has gone; one that is asked for keeps the pod from nodes without AppArmor."""
    objects, base = render(OVERLAYS["minimal"]), render(BASE)
    context = pod_and_container(objects)[1]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert "appArmorProfile" not in context
    usual = pod_and_container(base)[1]["securityContext"]
    context["capabilities"], context["appArmorProfile"] = usual["capabilities"], usual["appArmorProfile"]
    assert objects == base


def test_web_config_overlay_speaks_tls_everywhere() -> None:
    """The agent, the probes and Prometheus; the file is where its Secret is mounted. Undo it, and what is left is the base."""
    objects = render(OVERLAYS["web-config"])
    pod, container = pod_and_container(objects)
    (endpoint,) = objects["PodMonitor/coroner"]["spec"]["podMetricsEndpoints"]
    assert container["args"].pop() == "--web.config.file=/etc/coroner/web-config.yml"
    assert container["volumeMounts"].pop() == {"name": "web", "mountPath": "/etc/coroner", "readOnly": True}
    assert pod["volumes"].pop() == {"name": "web", "secret": {"secretName": "coroner-web", "defaultMode": 0o400}}
    assert [container[probe]["httpGet"].pop("scheme") for probe in ("readinessProbe", "livenessProbe")] == ["HTTPS", "HTTPS"]
    assert endpoint.pop("scheme") == "https"
    assert endpoint.pop("tlsConfig") == {"serverName": "coroner", "ca": {"secret": {"name": "coroner-web", "key": "ca.crt"}}}
    assert [(key, value["name"], value["key"]) for key, value in endpoint.pop("basicAuth").items()] == [
        ("username", "coroner-scrape", "username"),
        ("password", "coroner-scrape", "password"),
    ]
    assert objects == render(BASE)


def pod_and_container(objects: dict[str, Object]) -> tuple[Object, Object]:
    """Return the pod template's spec, and its only container."""
    pod = objects["DaemonSet/coroner"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container
