"""The lab's pods are what the other tests take them for."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.lab.guest.cri import BUNDLES, Cri, MakePods, Pod, Program, StartPod
from tests.lab.guest.node import CGROUPS, PYTHON_TREES, StartAgent, in_parallel, python_command, wait_for

SLEEP = Program(["sleep", "1000"])
UNTIL_TERM = Program(["sh", "-c", "trap 'exit 5' TERM; sleep 1000 & wait"])

TWO_ORPHANS = """
import os, signal
for _ in range(2):
    if os.fork() == 0:
        if os.fork() == 0:
            signal.pause()
        os._exit(0)
    os.wait()
signal.pause()
"""


@pytest.fixture(scope="module")
def kubernetes(pods: MakePods) -> Iterator[dict[str, Pod]]:
    """Three pods that differ in everything a node's pods differ in."""
    greedy, failing = Program(["tail", "/dev/zero"], memory=16 << 20), Program(["sh", "-c", "exit 3"])
    orphans = Program(python_command(TWO_ORPHANS), mounts=PYTHON_TREES)
    with pods() as pod:
        started = in_parallel(
            lambda: pod("web", memory=64 << 20, containers={"app": UNTIL_TERM, "proxy": SLEEP, "greedy": greedy, "failing": failing}),
            lambda: pod("db", qos="guaranteed", systemd_names=True, containers={"app": SLEEP}),
            lambda: pod("shared", qos="besteffort", systemd_names=True, share_pid=True, containers={"app": orphans}),
        )
        yield {started.name: started for started in started}


def test_a_pod_has_the_cgroups_of_a_node_and_its_bundles_name_it(kubernetes: dict[str, Pod], cri_client: Cri) -> None:
    """A sidecar that is an init container to Kubernetes is one like any other to the runtime."""
    web = kubernetes["web"]

    assert web.cgroup == CGROUPS / "kubepods" / "burstable" / f"pod{web.uid}"
    assert (web.cgroup / "memory.max").read_text() == f"{64 << 20}\n"
    sandbox = {"container-type": "sandbox", "sandbox-id": web.sandbox_id, "sandbox-name": "web", "sandbox-namespace": "shop"}
    listed = {container.id: container.metadata.name for container in cri_client.call("ListContainers").containers}
    for name in ("app", "proxy"):
        container = web[name]
        assert (container.status.state, listed[container.id]) == (1, name)
        assert container.cgroup == web.cgroup / container.id
        assert container.pids
        assert (container.cgroup / "memory.oom.group").read_text() == "1\n"
        annotations = sandbox | {"container-type": "container", "container-name": name}
        assert annotations.items() <= cri_annotations(container.id).items()
    assert sandbox.items() <= cri_annotations(web.sandbox_id).items()
    assert (BUNDLES / web.sandbox_id / "shim-binary-path").read_text().endswith("/containerd-shim-runc-v2")
    assert [Path(f"/proc/{pid}/comm").read_text() for pid in web.sandbox.pids] == ["pause\n"]


def cri_annotations(container_id: str) -> dict[str, str]:
    """Return what a bundle says for CRI."""
    annotations = json.loads((BUNDLES / container_id / "config.json").read_text())["annotations"]
    return {key.removeprefix("io.kubernetes.cri."): value for key, value in annotations.items()}


def test_systemds_names_and_the_quality_of_service_are_in_the_path(kubernetes: dict[str, Pod]) -> None:
    """As on a node whose kubelet and containerd use the systemd driver."""
    best, guaranteed = kubernetes["shared"], kubernetes["db"]

    for container, slices in (
        (best["app"], f"kubepods-besteffort.slice/kubepods-besteffort-pod{best.uid.replace('-', '_')}.slice"),
        (guaranteed["app"], f"kubepods-pod{guaranteed.uid.replace('-', '_')}.slice"),
    ):
        assert container.cgroup == CGROUPS / "kubepods.slice" / slices / f"cri-containerd-{container.id}.scope"
        assert container.pids


def test_pause_is_the_init_of_a_shared_pid_namespace_and_reaps(kubernetes: dict[str, Pod]) -> None:
    """A pause that is stopped in its tracks reaps nothing, like one that never waits."""
    shared = kubernetes["shared"]
    pause = shared.pause
    wait_for(lambda: len(pause.children()) == 2, 30, "the orphans are not there")
    orphans = pause.children()
    assert {orphan.pid for orphan in orphans} < set(shared["app"].pids)
    assert len({os.readlink(f"/proc/{pid}/ns/pid") for pid in [pause.pid, *shared["app"].pids]}) == 1

    pause.suspend()
    for orphan in orphans:
        orphan.kill()
    wait_for(lambda: {orphan.status() for orphan in orphans} == {psutil.STATUS_ZOMBIE}, 30, "no zombies")
    pause.resume()
    wait_for(lambda: not pause.children(), 30, "not reaped")


def test_cri_says_why_a_container_ended(kubernetes: dict[str, Pod]) -> None:
    """The reason of a kill out of memory, and the exit code of the others."""
    greedy, failing = kubernetes["web"]["greedy"], kubernetes["web"]["failing"]

    assert (greedy.wait(), greedy.status.reason) == (137, "OOMKilled")
    assert (failing.wait(), failing.status.reason) == (3, "Error")


def test_stop_obeys_the_grace_period_and_remove_leaves_nothing(kubernetes: dict[str, Pod]) -> None:
    """A container under a name that was there before is another."""
    web = kubernetes["web"]
    first = web["app"]
    wait_for(lambda: len(first.pids) == 2, 30, "not behind the trap")
    first.stop(grace=30)
    assert first.wait() == 5
    first.remove()
    assert not first.cgroup.exists()

    assert web.run("app", SLEEP).id != first.id
    web.stop()
    assert web["app"].wait() == 137
    web.remove()
    assert not web.cgroup.exists()


def test_the_end_of_a_container_that_nobody_names_and_no_page_has_shown_is_counted(agent: StartAgent, pod: StartPod) -> None:
    """It is called by its id then. Its cause is unknown where the runtime has reaped it before the agent looked."""
    coroner = agent("--path.bundles=/nowhere")
    failed = pod("quick", containers={"app": Program(["sh", "-c", "exit 3"])})["app"]

    def deaths() -> list[float | None]:
        return [coroner.value("coroner_container_deaths_total", container=failed.id[:12], cause=cause) for cause in ("error", "unknown")]

    wait_for(lambda: sorted(filter(None, deaths())) == [1], 120, lambda: f"{coroner.log}\n{deaths()}")
