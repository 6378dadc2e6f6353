"""Which containers there are, what they are made of, and which are paused."""

from dataclasses import replace
from pathlib import Path

from collectors.base import Former, Info
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.lifecycle import Lifecycle
from tests.tree import LABELS, A, B, C, cgroup, collect, docker, node, remove_cgroup, series, tree

POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12345678_1234_1234_1234_123456789abc.slice"
WEB = f"{POD}/cri-containerd-{A}.scope"

UID = "12345678-1234-1234-1234-123456789abc"

RUNNING = {"cgroup.events": "populated 1\nfrozen 0\n"}
PAUSED = {"cgroup.events": "populated 1\nfrozen 1\n"}

INFO_A = series((*LABELS[A], f"containerd://{A}", "", "containerd", UID, "burstable", WEB, "", "", "", "", ""), {"container_info": 1})
INFO_B = series((*LABELS[B], f"docker://{B}", "", "docker", "", "", docker(B), "", "", "", "", ""), {"container_info": 1})
"""Nobody told what the runtime or Kubernetes knows."""


def states(**counts: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """Spell the counts by state; four of the states are always there."""
    known = {"created": 0, "running": 0, "paused": 0, "exited": 0}
    return {("coroner_containers", (state,)): count for state, count in (known | counts).items()}


def test_a_running_and_a_paused_container(tmp_path: Path) -> None:
    """What is not the name is on the info series; cgroups of no container are not counted."""
    tree(tmp_path, {**cgroup("/system.slice", RUNNING), **cgroup(WEB, RUNNING), **cgroup(docker(B), PAUSED)})

    assert collect(Lifecycle(), node(tmp_path)) == (
        INFO_A
        | INFO_B
        | series(LABELS[A], {"container_frozen": 0})
        | series(LABELS[B], {"container_frozen": 1})
        | states(running=1, paused=1)
    )


def test_what_a_runtime_or_kubernetes_tells(tmp_path: Path) -> None:
    """It is on the info series, with the labels of the pod that were asked for."""
    told = Info("nginx:1", "app", "Deployment", "web", "shop", "frontend", {"app.kubernetes.io/name": "web", "secret": "x"})
    tree(tmp_path, cgroup(docker(B), {}))
    collector = Lifecycle(("app.kubernetes.io/name", "tier"))

    found = collect(collector, node(tmp_path, infos={B: told}))

    labels = (f"docker://{B}", "nginx:1", "docker", "", "", docker(B), "app", "Deployment", "web", "shop", "frontend", "web", "")
    assert found == series((*LABELS[B], *labels), {"container_info": 1}) | states()
    assert collector.metrics[0].labels[-2:] == ("label_app_kubernetes_io_name", "label_tier")


def test_one_that_is_not_there_any_more_is_what_it_was(tmp_path: Path) -> None:
    """A join finds the image of a victim; nothing else is said of it. Of one whose cgroup nobody saw there is the id."""
    (tmp_path / "cgroup").mkdir()
    former = Former(LABELS[A], container_id.parse(WEB) or ContainerId.of_key(A), Info("nginx:1", workload="web"))
    unseen = Former(LABELS[B], ContainerId.of_key(ContainerKey.of(C, B)), Info())
    seen = replace(node(tmp_path), formers=[former, unseen])

    told = (f"containerd://{A}", "nginx:1", "containerd", UID, "burstable", WEB, "", "", "web", "", "")
    nothing = (f"unknown://{B}", "", "unknown", *("" for _ in range(8)))
    assert collect(Lifecycle(), seen) == (
        series((*LABELS[A], *told), {"container_info": 1}) | series((*LABELS[B], *nothing), {"container_info": 1}) | states()
    )


def test_an_empty_node_has_the_usual_states_at_0(tmp_path: Path) -> None:
    """Series must not come and go with the last container."""
    assert collect(Lifecycle(), node(tmp_path)) == states()


def test_containers_without_a_cgroup_are_counted_as_their_runtime_says(tmp_path: Path) -> None:
    """With states that are seldom seen."""
    tree(tmp_path, cgroup(docker(B), RUNNING))

    found = collect(Lifecycle(), node(tmp_path, resting={"exited": 3, "created": 1, "dead": 2}))

    assert found == INFO_B | series(LABELS[B], {"container_frozen": 0}) | states(running=1, exited=3, created=1, dead=2)


def test_what_only_a_runtime_knows_is_absent_until_it_has_told(tmp_path: Path) -> None:
    """Right after the start, or while its daemon is down: blind is not zero. Who runs the kernel tells."""
    tree(tmp_path, cgroup(docker(B), RUNNING))

    found = collect(Lifecycle(), replace(node(tmp_path), resting=None))

    assert found == INFO_B | series(LABELS[B], {"container_frozen": 0}) | {
        ("coroner_containers", ("running",)): 1,
        ("coroner_containers", ("paused",)): 0,
    }


def test_a_container_without_a_name_is_counted(tmp_path: Path) -> None:
    """Count first, name later."""
    tree(tmp_path, {**cgroup(docker(A), PAUSED), **cgroup(docker(B), RUNNING)})

    assert collect(Lifecycle(), node(tmp_path, names={})) == states(running=1, paused=1)


def test_a_sandbox_is_not_counted_even_if_it_is_exported(tmp_path: Path) -> None:
    """It is no container; the containers of a pod that runs in it are counted themselves, by their cgroup or as the runtime says."""
    tree(tmp_path, {**cgroup(f"{POD}/cri-containerd-{C}.scope", RUNNING), **cgroup(WEB, PAUSED), **cgroup(docker(B), RUNNING)})
    pod = ("shop", "web-0", "")

    found = collect(Lifecycle(), node(tmp_path, names={A: pod, B: LABELS[B]}, sandboxes={A: pod, C: ()}))

    assert states(running=1).items() <= found.items()
    assert found["coroner_container_frozen", pod] == 1


def test_only_the_newest_life_of_a_name_is_exported(tmp_path: Path) -> None:
    """The older one, paused here, is still one of the node's containers."""
    tree(tmp_path, {**cgroup(docker(A), PAUSED), **cgroup(docker(B), RUNNING)})
    seen = node(tmp_path, names={A: LABELS[B], B: LABELS[B]})
    seen = replace(seen, containers=[container for container in seen.containers if container.id.id == B])

    assert collect(Lifecycle(), seen) == INFO_B | series(LABELS[B], {"container_frozen": 0}) | states(running=1, paused=1)


def test_an_older_kernel_cannot_freeze(tmp_path: Path) -> None:
    """Before 5.2 a container is running, and whether it is frozen is absent."""
    tree(tmp_path, cgroup(docker(B), {"cgroup.events": "populated 1\n"}))

    assert collect(Lifecycle(), node(tmp_path)) == INFO_B | states(running=1)


def test_a_malformed_file_costs_its_own_values_and_is_remembered(tmp_path: Path) -> None:
    """Its state is not known, so it is in no count."""
    tree(tmp_path, {**cgroup(WEB, {"cgroup.events": "garbage\n"}), **cgroup(docker(B), RUNNING)})
    seen = node(tmp_path)

    assert collect(Lifecycle(), seen) == INFO_A | INFO_B | series(LABELS[B], {"container_frozen": 0}) | states(running=1)
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup{WEB}/cgroup.events"]


def test_a_container_that_ends_after_the_walk_costs_only_its_own_series(tmp_path: Path) -> None:
    """It was there when the pass began, but nothing more can be said of it."""
    tree(tmp_path, {**cgroup(WEB, RUNNING), **cgroup(docker(B), RUNNING), **cgroup(docker(C), PAUSED)})
    seen = node(tmp_path, names={A: LABELS[A], B: LABELS[B]})
    remove_cgroup(tmp_path, WEB)
    remove_cgroup(tmp_path, docker(C))

    assert collect(Lifecycle(), seen) == INFO_A | INFO_B | series(LABELS[B], {"container_frozen": 0}) | states(running=1)
    assert seen.malformed == []
