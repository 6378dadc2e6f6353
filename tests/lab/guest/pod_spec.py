"""What a kubelet asks CRI for when it is given the spec of a pod: the fields that deploy/kubernetes uses, and any other is an error."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Spec = dict[str, Any]

FOR_OTHERS = {
    *(
        "serviceAccountName",
        "automountServiceAccountToken",
        "enableServiceLinks",
        "nodeSelector",
        "tolerations",
        "terminationGracePeriodSeconds",
    ),
    *("name", "imagePullPolicy", "ports", "readinessProbe", "livenessProbe"),
}
"""Fields that are no matter of the runtime's."""
CRITICAL = {"system-node-critical": -997}
"""oom_score_adj of a pod of that priority, whatever its class of service."""
PROPAGATIONS = {None: "PROPAGATION_PRIVATE", "HostToContainer": "PROPAGATION_HOST_TO_CONTAINER"}
MASKED = [
    *(f"/proc/{name}" for name in ("asound", "acpi", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi")),
    "/sys/firmware",
]
READ_ONLY = [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")]
MEBI = 1 << 20


def config(spec: Spec, *, paths: Mapping[str, str], node: Mapping[str, str]) -> dict[str, Any]:
    """Return the container of a pod with one, as cri.Pod.start takes it.

    `paths` are places of the node that are not where the spec has them, by what it has; `node` what the fields say that env asks for.
    """
    _only(spec, {"hostPID", "hostNetwork", "priorityClassName", "containers", "volumes"})
    [container] = spec["containers"]
    _only(container, {"image", "command", "args", "env", "resources", "securityContext", "volumeMounts"})
    volumes = {volume["name"]: volume["hostPath"] for volume in spec["volumes"]}
    return {
        "image": {"image": container["image"]},
        "command": container["command"],
        "args": container["args"],
        "envs": [{"key": each["name"], "value": node[each["valueFrom"]["fieldRef"]["fieldPath"]]} for each in container["env"]],
        "mounts": [_mount(mount, volumes[mount["name"]], paths) for mount in container["volumeMounts"]],
        "linux": {
            "resources": _resources(container["resources"], CRITICAL[spec["priorityClassName"]]),
            "security_context": _security_context(container["securityContext"]),
        },
    }


def memory_bytes(container: Spec) -> int:
    """Return the limit of a container."""
    limit = container["resources"]["limits"]["memory"]
    assert limit.endswith("Mi")
    return int(limit.removesuffix("Mi")) * MEBI


def _only(given: Spec, known: set[str]) -> None:
    assert given.keys() <= known | FOR_OTHERS, f"nothing is made of {given.keys() - known - FOR_OTHERS} here"


def _mount(mount: Spec, volume: Spec, paths: Mapping[str, str]) -> dict[str, Any]:
    path = paths.get(volume["path"], volume["path"])
    if volume["type"] == "DirectoryOrCreate":
        Path(path).mkdir(parents=True, exist_ok=True)
    assert Path(path).is_dir(), f"{path}: the pod would not start"
    return {
        "container_path": mount["mountPath"],
        "host_path": path,
        "readonly": mount.get("readOnly", False),
        "propagation": PROPAGATIONS[mount.get("mountPropagation")],
    }


def _resources(resources: Spec, oom_score_adj: int) -> dict[str, Any]:
    milli = int(resources["requests"]["cpu"].removesuffix("m"))
    return {
        "cpu_shares": milli * 1024 // 1000,
        "memory_limit_in_bytes": memory_bytes({"resources": resources}),
        "oom_score_adj": oom_score_adj,
        "unified": {"memory.oom.group": "1"},
    }


def _security_context(context: Spec) -> dict[str, Any]:
    _only(
        context,
        {*("runAsUser", "runAsGroup", "privileged", "allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities")} | PROFILES,
    )
    return {
        "run_as_user": {"value": context["runAsUser"]},
        "run_as_group": {"value": context["runAsGroup"]},
        "privileged": context["privileged"],
        "no_new_privs": not context["allowPrivilegeEscalation"],
        "readonly_rootfs": context["readOnlyRootFilesystem"],
        "capabilities": {"add_capabilities": context["capabilities"].get("add", []), "drop_capabilities": context["capabilities"]["drop"]},
        "seccomp": {"profile_type": context["seccompProfile"]["type"]},
        **({"apparmor": {"profile_type": context["appArmorProfile"]["type"]}} if "appArmorProfile" in context else {}),
        "masked_paths": MASKED,
        "readonly_paths": READ_ONLY,
    }


PROFILES = {"appArmorProfile", "seccompProfile"}
