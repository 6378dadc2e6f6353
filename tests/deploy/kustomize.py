"""kustomize as far as it is in use here: resources, components, labels, JSON patches, images. So no test of it skips."""

import copy
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
BASE = MANIFESTS / "base"
COMPONENTS = ["apiserver", "crio", "k3s", "kmsg", "kubelet", "memory", "minimal", "monitoring", "signals", "web-config"]
OVERLAYS = {name: MANIFESTS / "overlays" / name for name in COMPONENTS}

GRANTS = {
    "kubelet": {"apiGroups": [""], "resources": ["nodes/pods"], "verbs": ["get"]},
    "apiserver": {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
}
"""All that the service account may do, by the component that has it do it."""

CONTAINERD = "/run/containerd/io.containerd.runtime.v2.task"
BUNDLES = {"crio": "/run/containers/storage", "k3s": "/run/k3s/containerd/io.containerd.runtime.v2.task"}
"""What is mounted to find the names in; containerd's where no component says otherwise."""

CONTAINERD_EXITS = "/var/lib/containerd/io.containerd.grpc.v1.cri"
EXITS = {"crio": "/run/crio/exits", "k3s": "/var/lib/rancher/k3s/agent/containerd/io.containerd.grpc.v1.cri"}
"""The same for how containers ended."""

Object = dict[str, Any]


def render(directory: Path, onto: dict[str, Object] | None = None) -> dict[str, Object]:
    """Do what kustomize does with the few fields in use here; any other field is an error. Keys are "Kind/name".

    A component works on the objects of whoever names it, `onto`.
    """
    settings = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert settings["kind"] == ("Kustomization" if onto is None else "Component")
    assert settings.keys() <= {"apiVersion", "kind", "resources", "components", "labels", "patches", "images"}
    objects: dict[str, Object] = {} if onto is None else onto
    for resource in settings.get("resources", []):
        path = directory / resource
        found = render(path) if path.is_dir() else keyed(copy.deepcopy(_parsed(path.read_text())))
        assert not objects.keys() & found.keys()
        objects |= found
    for component in settings.get("components", []):
        render(directory / component, objects)
    for label in settings.get("labels", []):
        assert label["includeTemplates"] is True
        for manifest in objects.values():
            manifest["metadata"]["labels"] |= label["pairs"]
            if "template" in manifest.get("spec", {}):
                manifest["spec"]["template"]["metadata"]["labels"] |= label["pairs"]
    for patch in settings.get("patches", []):
        target = objects["{kind}/{name}".format(**patch["target"])]
        for operation in yaml.safe_load(patch["patch"] if "patch" in patch else (directory / patch["path"]).read_text()):
            _apply(operation, target)
    for image in settings.get("images", []):
        (container,) = objects["DaemonSet/coroner"]["spec"]["template"]["spec"]["containers"]
        assert container["image"].split(":")[0] == image["name"]
        container["image"] = "{newName}:{newTag}".format(**image)
    return objects


@cache
def _parsed(text: str) -> list[Object]:
    """Parse each file once: the dashboards alone take a third of a second, and most tests render them."""
    return list(yaml.safe_load_all(text))


def combination(directory: Path, names: list[str]) -> Path:
    """Lay out a directory with the base and those components."""
    components = "".join(f"  - coroner/deploy/kubernetes/components/{name}\n" for name in names)
    return kustomization(directory, f"kind: Kustomization\nresources:\n  - coroner/deploy/kubernetes/base\ncomponents:\n{components}")


def kustomization(directory: Path, text: str) -> Path:
    """Lay out a directory as the README has it: a kustomization beside a checkout."""
    directory.mkdir(exist_ok=True)
    (directory / "coroner").symlink_to(ROOT)
    (directory / "kustomization.yaml").write_text(text)
    return directory


def keyed(manifests: Iterable[Any]) -> dict[str, Object]:
    """Return objects by "Kind/name"."""
    return {f"{manifest['kind']}/{manifest['metadata']['name']}": manifest for manifest in manifests}


def _apply(operation: Object, target: Object) -> None:
    """Do one operation of a JSON patch (RFC 6902): test, replace, remove, or add a key or at the end of a list."""
    *parents, last = operation["path"].strip("/").split("/")
    place: Any = target
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    key = int(last) if isinstance(place, list) and last != "-" else last
    match operation["op"]:
        case "test":
            assert place[key] == operation["value"]
        case "replace":
            assert place[key] is not None
            place[key] = operation["value"]
        case "remove":
            del place[key]
        case "add" if isinstance(place, dict):
            assert key not in place
            place[key] = copy.deepcopy(operation["value"])
        case "add":
            assert key == "-"
            place.append(copy.deepcopy(operation["value"]))
        case other:
            pytest.fail(f"operation {other} is not known here")
