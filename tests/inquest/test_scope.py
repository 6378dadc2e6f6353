"""Whose limit was hit, decided in one place for the kernel log, for memory.events and for the headroom."""

import pytest

from collectors.inquest.scope import scope_of_limit
from collectors.kernel import container_id
from tests.tree import A, B

POD = "/kubepods.slice/kubepods-pod12345678_1234_1234_1234_123456789abc.slice"
OUTER_POD = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555"
IN_SERVICE = f"/system.slice/containerd.service/kubepods-pod12345678_1234_1234_1234_123456789abc.slice:cri-containerd:{A}"


@pytest.mark.parametrize(
    ("container", "limit", "scope"),
    [
        (f"{POD}/cri-containerd-{A}.scope", f"{POD}/cri-containerd-{A}.scope", "container"),
        (f"{POD}/cri-containerd-{A}.scope", f"{POD}/cri-containerd-{A}.scope/worker", "container"),
        (f"{POD}/cri-containerd-{A}.scope", f"{POD}/cri-containerd-{B}.scope", "ancestor"),
        (f"{POD}/cri-containerd-{A}.scope", POD, "pod"),
        (f"{POD}/cri-containerd-{A}.scope", "/kubepods.slice", "ancestor"),
        (f"/docker/{A}", "/docker", "ancestor"),
        (f"/docker/{A}", "/", "ancestor"),
        (IN_SERVICE, "/system.slice/containerd.service", "ancestor"),
        (f"{OUTER_POD}/{A}/docker/{B}", OUTER_POD, "ancestor"),
    ],
    ids=["own", "nested", "a neighbour's", "pod's", "above", "outside of Kubernetes", "root", "a pod without a cgroup", "the pod around"],
)
def test_whose_limit_a_cgroups_is_to_a_container(container: str, limit: str, scope: str) -> None:
    """Its own with what is nested in it, its pod's, or another one's: a pod around the node of a pod is not the pod's own."""
    found = container_id.parse(container)
    assert found is not None

    assert scope_of_limit(limit, found) == scope
