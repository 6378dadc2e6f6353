"""The chart, as Helm itself lints and renders it: what its values change is what the kustomize components do."""

from collections.abc import Iterator
from typing import Any

import helm_python
import kubernetes_validate  # type: ignore[import-untyped]  # it has annotations, but says so nowhere
import pytest
import yaml

import agent
from tests.deploy.kustomize import BASE, OVERLAYS, ROOT, Object, keyed, render
from tests.deploy.test_monitoring import check

CHART = ROOT / "deploy" / "helm" / "coroner"
SAME: dict[str, dict[str, Any]] = {
    "apiserver": {"kubernetes": {"source": "apiserver"}},
    "crio": {"runtime": "crio"},
    "k3s": {"runtime": "k3s"},
    "kmsg": {"kernelLogDevice": True},
    "kubelet": {"kubernetes": {"source": "kubelet"}},
    "memory": {"state": {"hostPath": ""}},
    "minimal": {"capabilities": False},
    "monitoring": {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}},
    "signals": {"signals": True},
    "web-config": {"webConfig": {"secretName": "coroner-web"}},
}
"""The values that are each component."""
HELMS_OWN = {"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": f"coroner-{agent.__version__}"}
WRONG: list[dict[str, Any]] = [
    {"podMonitors": {"enabled": True}},
    {"podMonitor": {"enable": True}},
    {"podMonitor": {"enabled": "yes"}},
    {"runtime": "docker"},
    {"kubernetes": {"source": "auto"}},
    {"image": {"digest": "latest"}},
    {"extraArgs": ["path.procfs=/proc"]},
    {"state": {"hostPath": "relative"}},
    {"networkPolicy": {"from": []}},
]


@pytest.fixture(scope="module")
def chart() -> Iterator[helm_python.Chart]:
    """The chart, loaded."""
    with helm_python.Chart.load(CHART) as loaded:
        yield loaded


def rendered(chart: helm_python.Chart, values: dict[str, Any] | None = None, name: str = "coroner") -> dict[str, Object]:
    """Return the objects of a release, without the labels that Helm's conventions add."""
    chart.validate_schema(values)
    files = chart.render(values, name=name, namespace="coroner")
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    objects = keyed(each for text in texts for each in yaml.safe_load_all(text) if each)
    for each in objects.values():
        for place in (each, each.get("spec", {}).get("template", {"metadata": {"labels": dict(HELMS_OWN)}})):
            labels = place["metadata"]["labels"]
            assert {label: labels.pop(label) for label in HELMS_OWN} == HELMS_OWN
    return objects


def without_namespace(objects: dict[str, Object]) -> dict[str, Object]:
    """Helm keeps its record of the release in that namespace, so it must be there first: no chart can bring it."""
    return {key: each for key, each in objects.items() if each["kind"] != "Namespace"}


def test_lint_finds_nothing_but_the_missing_picture() -> None:
    """An icon would be fetched from elsewhere."""
    found = helm_python.lint(CHART, strict=True, namespace="coroner")
    assert ([message["error"] for message in found["messages"]], found["errors"]) == (["icon is recommended"], [])


def test_defaults_are_the_kustomize_base(chart: helm_python.Chart) -> None:
    """Object by object; less the Namespace."""
    assert rendered(chart) == without_namespace(render(BASE))


@pytest.mark.parametrize("name", OVERLAYS)
def test_values_do_what_the_component_does(chart: helm_python.Chart, name: str) -> None:
    """Each component has its value."""
    assert rendered(chart, SAME[name]) == without_namespace(render(OVERLAYS[name]))


@pytest.mark.parametrize("values", WRONG, ids=str)
def test_a_value_that_is_not_known_is_refused(chart: helm_python.Chart, values: dict[str, Any]) -> None:
    """By its schema, which says where."""
    with pytest.raises(helm_python.HelmValuesError):
        chart.validate_schema(values)


def test_values_that_contradict_each_other_are_refused(chart: helm_python.Chart) -> None:
    """As the components are that they stand for."""
    with pytest.raises(helm_python.HelmRenderError, match="choose one"):
        chart.render({"kernelLogDevice": True, "capabilities": False}, name="coroner", namespace="coroner")


@pytest.mark.parametrize("runtime", ["containerd", "k3s", "rke2", "microk8s", "k0s", "crio", ""])
def test_an_api_server_would_take_it_with_everything_on(chart: helm_python.Chart, runtime: str) -> None:
    """On each runtime, under another name, with all that can be said."""
    values: dict[str, Any] = {"runtime": runtime, "extraArgs": ["--kubernetes.pod-labels=app"], "imagePullSecrets": [{"name": "registry"}]}
    for each in SAME.values():
        values |= {key: value for key, value in each.items() if key not in ("runtime", "capabilities", "state")}
    values |= {"image": {"digest": f"sha256:{64 * '0'}"}, "podAnnotations": {"a": "b"}, "priorityClassName": ""}
    objects = rendered(chart, values, name="other")
    for each in objects.values():
        if each["apiVersion"].startswith("monitoring.coreos.com/"):
            check(each)
        else:
            kubernetes_validate.validate(each, "1.30", strict=True)
    (container,) = objects["DaemonSet/other"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"coroner@sha256:{64 * '0'}"
    assert container["args"][-1] == "--kubernetes.pod-labels=app"


def test_monitoring_can_be_left_out(chart: helm_python.Chart) -> None:
    """On a cluster without the operator, whose API server would refuse the whole release for it."""
    objects = rendered(chart, {"podMonitor": {"enabled": False}, "networkPolicy": {"enabled": False}})
    assert {each["kind"] for each in objects.values()} == {"ServiceAccount", "DaemonSet"}


def test_chart_has_the_version_of_the_agent() -> None:
    """Both its own and that of the image."""
    said = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert said["version"] == said["appVersion"] == agent.__version__
