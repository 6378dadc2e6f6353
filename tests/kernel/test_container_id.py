"""Cgroup paths as runtimes spell them (the layouts of coroot, tetragon, cAdvisor and the runtimes' own sources), and hostile ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel.container_id import ContainerId, ancestors, parse

A = "a" * 64
B = "0123456789abcdef" * 4
UID = "8dbc5577-d0e2-4706-8787-57d52c03ddf2"
UID_ = UID.replace("-", "_")
STATIC = "fe1a5ba4a6c2b8f3de6a5a5a7f0e4a11"
BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice"
BESTEFFORT = f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice"
GUARANTEED = f"/kubepods.slice/kubepods-pod{UID_}.slice"
KIND = f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{UID_}.slice"
USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(
    ("path", "runtime", "pod_uid", "qos"),
    [
        pytest.param(f"/system.slice/docker-{A}.scope", "docker", "", "", id="Docker, systemd"),
        pytest.param(f"/docker/{A}", "docker", "", "", id="Docker, cgroupfs"),
        pytest.param(f"/some/parent/{A}", "unknown", "", "", id="Docker, cgroupfs, another parent"),
        pytest.param(f"{USER}/user.slice/docker-{A}.scope", "docker", "", "", id="Docker, rootless"),
        pytest.param(f"{GUARANTEED}/docker-{A}.scope", "docker", UID, "guaranteed", id="Docker, Kubernetes"),
        pytest.param(f"{BURSTABLE}/cri-containerd-{A}.scope", "containerd", UID, "burstable", id="containerd, systemd"),
        pytest.param(f"{BESTEFFORT}/cri-containerd-{A}.scope", "containerd", UID, "besteffort", id="containerd, best effort"),
        pytest.param(f"{GUARANTEED}/cri-containerd-{A}.scope", "containerd", UID, "guaranteed", id="containerd, guaranteed"),
        pytest.param(f"/kubepods/burstable/pod{UID}/{A}", "containerd", UID, "burstable", id="containerd, cgroupfs"),
        pytest.param(f"/kubepods/pod{UID}/{A}", "containerd", UID, "guaranteed", id="containerd, cgroupfs, guaranteed"),
        pytest.param(f"/kubelet/kubepods/besteffort/pod{UID}/{A}", "containerd", UID, "besteffort", id="containerd, cgroup root"),
        pytest.param(f"/kubepods/burstable/pod{STATIC}/{A}", "containerd", STATIC, "burstable", id="containerd, static pod"),
        pytest.param(
            f"/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{A}",
            "containerd",
            UID,
            "burstable",
            id="containerd on cgroupfs, kubelet on systemd",
        ),
        pytest.param(
            f"/podruntime.slice/containerd.service/kubepods-pod{STATIC}.slice:cri-containerd:{A}",
            "containerd",
            STATIC,
            "guaranteed",
            id="the same on Talos, static pod",
        ),
        pytest.param(f"/system.slice/nerdctl-{A}.scope", "containerd", "", "", id="nerdctl"),
        pytest.param(f"{BURSTABLE}/crio-{A}.scope", "cri-o", UID, "burstable", id="CRI-O, systemd"),
        pytest.param(f"{BURSTABLE}/crio-{A}", "cri-o", UID, "burstable", id="CRI-O, sandbox"),
        pytest.param(f"/kubepods/burstable/pod{UID}/crio-{A}", "cri-o", UID, "burstable", id="CRI-O, cgroupfs"),
        pytest.param(f"/kubepods/burstable/pod{UID}/kata_{A}", "containerd", UID, "burstable", id="Kata, sandbox, cgroupfs"),
        pytest.param(f"/kubepods/pod{UID}/kata_crio-{A}", "cri-o", UID, "guaranteed", id="Kata, sandbox, CRI-O, cgroupfs"),
        pytest.param(f"/machine.slice/libpod-{A}.scope", "podman", "", "", id="Podman, systemd"),
        pytest.param(f"/system.slice/app.service/libpod-payload-{A}", "podman", "", "", id="Podman, split"),
        pytest.param(f"/libpod_parent/libpod-{A}", "podman", "", "", id="Podman, cgroupfs"),
        pytest.param(f"/libpod_parent/{B}/libpod-{A}", "podman", "", "", id="Podman, cgroupfs, pod"),
        pytest.param(f"/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope", "podman", "", "", id="Podman, pod"),
        pytest.param(f"{USER}/user.slice/libpod-{A}.scope", "podman", "", "", id="Podman, rootless"),
        pytest.param(f"/machine.slice/new-runtime-{A}.scope", "unknown", "", "", id="a runtime yet unknown"),
    ],
)
@pytest.mark.parametrize("inside", ["", "/container", "/init.scope", "/system.slice/nginx.service", "/sub (deleted)", " (deleted)"])
def test_every_runtime_s_layout_gives_the_container_also_for_cgroups_inside(
    path: str, runtime: str, pod_uid: str, qos: str, inside: str
) -> None:
    """Whatever the container makes below its cgroup, and when it has been removed, it is the same container with the same cgroup."""
    assert parse(path + inside) == ContainerId(runtime, A, pod_uid, qos, host_id="", container_path=path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(
            f"/system.slice/docker-{B}.scope{KIND}/cri-containerd-{A}.scope",
            ContainerId("containerd", A, UID, "besteffort", B, f"/system.slice/docker-{B}.scope{KIND}/cri-containerd-{A}.scope"),
            id="kind: a pod in a node that is a container",
        ),
        pytest.param(
            f"/docker/{B}/docker/{A}", ContainerId("docker", A, "", "", B, f"/docker/{B}/docker/{A}"), id="Docker in Docker, cgroupfs"
        ),
        pytest.param(
            f"{BURSTABLE}/cri-containerd-{B}.scope/docker/{A}/x",
            ContainerId("docker", A, "", "", B, f"{BURSTABLE}/cri-containerd-{B}.scope/docker/{A}"),
            id="Docker in a pod: the pod is not the inner container's",
        ),
        pytest.param(
            f"/docker/{B}/docker/{'c' * 64}/{A}",
            ContainerId("unknown", A, "", "", B, f"/docker/{B}/docker/{'c' * 64}/{A}"),
            id="three deep: the outermost is the host",
        ),
        pytest.param(
            f"/docker/{B}{BURSTABLE}/crio-conmon-{A}.scope",
            ContainerId("docker", B, "", "", "", f"/docker/{B}"),
            id="conmon of an inner container is in the outer one",
        ),
    ],
)
def test_the_innermost_container_is_meant_and_the_outermost_is_its_host(path: str, expected: ContainerId) -> None:
    """Containers nest; pod and runtime are those of the innermost."""
    assert parse(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        " (deleted)",
        "/system.slice/nginx.service",
        "/user.slice/user-1000.slice/session-3.scope",
        "/lxc.payload.web/init.scope",
        BURSTABLE,
        f"/kubepods/burstable/pod{UID}",
        f"/system.slice/docker-{A}.mount",
        f"/system.slice/var-lib-docker-{A}-merged.mount",
        f"/machine.slice/libpod-conmon-{A}.scope",
        f"{BURSTABLE}/crio-conmon-{A}.scope",
        f"/machine.slice/machine-libpod_pod_{A}.slice",
        f"/libpod_parent/{A}",
        f"/kata_overhead/{A}",
        f"/system.slice/{A}-f00.service",
        f"/docker/{A[1:]}",
        f"/docker/{A}a",
        f"/docker/x{A}",
        f"/docker/-{A[1:]}",
        f"/docker/{A.upper()}",
        f"/docker/{A}\n",
        f"/docker/docker-{A}.scope.scope",
        "/docker/" + "\N{ARABIC-INDIC DIGIT ONE}" * 64,
    ],
)
def test_what_is_not_a_container_s_cgroup_is_none(path: str) -> None:
    """Services, pods, what watches a container, mounts, and anything but 64 lower-case digits exactly delimited."""
    assert parse(path) is None


@pytest.mark.parametrize(
    ("path", "url"),
    [
        (f"/docker/{A}", f"docker://{A}"),
        (f"{BURSTABLE}/cri-containerd-{A}.scope", f"containerd://{A}"),
        (f"{BURSTABLE}/crio-{A}.scope", f"cri-o://{A}"),
        (f"/machine.slice/libpod-{A}.scope", f"podman://{A}"),
    ],
)
def test_the_url_is_spelt_as_kube_state_metrics_spells_container_id(path: str, url: str) -> None:
    """So that the two join on the label container_id."""
    container = parse(path)

    assert container is not None
    assert container.url == url


COMPONENTS = st.text(max_size=8) | st.sampled_from(
    [
        A,
        B,
        f"docker-{A}.scope",
        f"cri-containerd-{B}.scope",
        "docker",
        "kubepods",
        f"pod{UID}",
        f"x:crio:{A}",
        "..",
        "",
        "-" + A,
        "-conmon-" + A,
    ]
)


@given(st.text() | st.lists(COMPONENTS).map("/".join), st.sampled_from(["", " (deleted)"]))
def test_no_path_raises_and_the_container_is_on_the_path(path: str, deleted: str) -> None:
    """Whatever a container calls its cgroups; the container's own cgroup gives the same container again."""
    container = parse(path + deleted)
    if container is not None:
        assert f"{path}/".startswith(container.container_path + "/")
        assert container.container_path.removesuffix(".scope").endswith(container.id)
        assert container == parse(container.container_path)


@pytest.mark.parametrize("piece", ["-pod", "/", "a", f"/{A}", "-burstable", "a:", "docker-", "pod" + A[:32]])
def test_a_long_path_takes_no_longer_than_its_length(piece: str) -> None:
    """A quadratic search in a megabyte would not end before the test's time is over."""
    parse(piece * (1_000_000 // len(piece)))


@pytest.mark.parametrize(
    ("path", "told", "url"),
    [
        (f"/kubepods/burstable/pod{UID}/{A}", "docker", f"docker://{A}"),
        (f"/kubepods/burstable/pod{UID}/{A}", "containerd", f"containerd://{A}"),
        (f"/kubepods/burstable/pod{UID}/{A}", "", f"containerd://{A}"),
        (f"/actions_job/{A}", "docker", f"docker://{A}"),
        (f"/actions_job/{A}", "", f"unknown://{A}"),
        (f"/libpod_parent/libpod-{A}", "docker", f"podman://{A}"),
        (f"/kubepods.slice/crio-{A}.scope", "cri-o", f"cri-o://{A}"),
    ],
)
def test_the_runtime_that_is_told_goes_before_the_one_that_the_path_suggests(path: str, told: str, url: str) -> None:
    """kube-state-metrics spells it as the kubelet does. Podman answers like Docker, and is known by its path."""
    identifier = parse(path)

    assert identifier is not None
    assert identifier.told(told).url == url
    assert identifier.told(told).key == identifier.key


@pytest.mark.parametrize(("path", "above"), [("/a/b/c", ["/a/b", "/a"]), ("/a", []), ("/", []), ("", [])])
def test_the_cgroups_above_one(path: str, above: list[str]) -> None:
    """The nearest first, without the root."""
    assert list(ancestors(path)) == above
