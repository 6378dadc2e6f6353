"""What the manifests tell the Prometheus operator and Grafana: valid by the operator's own schema, and the files of dashboards/."""

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.kustomize import BASE, OVERLAYS, ROOT, Object, render

DASHBOARDS = ROOT / "dashboards"


@cache
def schema(kind: str) -> Any:
    """Return the operator's schema of a kind, in which an unknown field is an error. An API server drops those without a word."""
    # By name, for mypy would read its 57,000 lines. Its version for Python 3.11 is of operator 0.80 (January 2025).
    model = getattr(import_module("cloudcoil.models.prometheus_operator.v1"), kind)
    # One pattern has its flag in a place where only Go takes it.
    found = json.loads(json.dumps(model.model_json_schema(by_alias=True)).replace("^(?i)(", "(?i)^("))
    for part in _objects(found):
        part["additionalProperties"] = False
    return found


def check(manifest: Object) -> None:
    """Raise ValidationError unless the operator's API would know every field."""
    # Of the metadata kubernetes-validate has the schema, and the manifests have but these.
    assert manifest["metadata"].keys() <= {"name", "namespace", "labels"}
    jsonschema.validate(manifest, schema(manifest["kind"]))


def operator_objects() -> Iterator[Object]:
    """Yield every object of the operator that any overlay renders."""
    for directory in (BASE, *OVERLAYS.values()):
        yield from (each for each in render(directory).values() if each["apiVersion"] == "monitoring.coreos.com/v1")


def test_operator_would_take_them() -> None:
    """Every PodMonitor and PrometheusRule."""
    manifests = list(operator_objects())
    assert {manifest["kind"] for manifest in manifests} == {"PodMonitor", "PrometheusRule"}
    for manifest in manifests:
        check(manifest)


@pytest.mark.parametrize("path", [("spec",), ("spec", "podMetricsEndpoints", 0), ("spec", "podMetricsEndpoints", 0, "relabelings", 0)])
def test_operator_would_drop_an_unknown_field(path: tuple[str | int, ...]) -> None:
    """So the test above does find one."""
    manifest = render(BASE)["PodMonitor/coroner"]
    place: Any = manifest
    for key in path:
        place = place[key]
    place["honourLabels"] = True
    with pytest.raises(jsonschema.ValidationError, match="honourLabels"):
        check(manifest)


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


def test_rules_are_those_of_dashboards() -> None:
    """`make manifests` makes them."""
    rule = render(OVERLAYS["monitoring"])["PrometheusRule/coroner"]
    assert rule["spec"] == yaml.safe_load((DASHBOARDS / "alerts.yaml").read_text()), "make manifests"


def test_dashboards_are_those_of_dashboards_under_the_label_that_the_sidecar_looks_for() -> None:
    """In a size that `kubectl apply` can keep in its annotation."""
    objects = render(OVERLAYS["monitoring"])
    for file in DASHBOARDS.glob("*.json"):
        board = objects[f"ConfigMap/coroner-{file.stem}"]
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert board["data"].keys() == {f"coroner-{file.name}"}
        assert json.loads(board["data"][f"coroner-{file.name}"]) == json.loads(file.read_text()), "make manifests"
        assert len(json.dumps(board)) < 256 << 10


def _seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match
    return int(match[1])


def _objects(part: Any) -> Iterator[dict[str, Any]]:
    """Yield every part of a schema that says which fields an object has."""
    if isinstance(part, list):
        for each in part:
            yield from _objects(each)
    elif isinstance(part, dict):
        if isinstance(part.get("properties"), dict) and part.get("type") == "object":
            yield part
        for each in part.values():
            yield from _objects(each)
