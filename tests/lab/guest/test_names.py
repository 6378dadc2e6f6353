"""Names: whatever runtime a container has, it is called as its owner calls it, and never by its id for want of waiting."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.containers import Container

from agent.census import PAUSE_MOST_BYTES
from tests.lab.guest.cri import MakePods, Pod, Program, StartPod
from tests.lab.guest.node import (
    PYTHON_TREES,
    Agent,
    Daemon,
    StartAgent,
    agents,
    cgroup,
    docker_containers,
    in_parallel,
    python_command,
    wait_for,
)

Labels = tuple[str, str, str]

INNER = "c0ffee" + 58 * "0"

SLEEP = Program(["sleep", "1000"])
FILES = "--kubernetes.source=files"

# Two children of its own that it never waits for, and two orphans whose init is to.
CARELESS = """
import os, signal
for _ in range(2):
    os.fork() or os._exit(0)
for _ in range(2):
    child = os.fork()
    if child == 0:
        os.fork() or signal.pause()
        os._exit(0)
    os.waitpid(child, 0)
signal.pause()
"""

# What a container runtime does for the agent: a cgroup of its own and nothing else at /sys/fs/cgroup; the host's trees are elsewhere.
OWN_CGROUP = """
mkdir -p $0
echo $$ > $0/cgroup.procs
exec unshare --cgroup --mount "$@"
"""
OWN_MOUNTS = """
mkdir -p /run/host/proc /run/host/cgroup
mount -n --bind /proc /run/host/proc
mount -n --bind /sys/fs/cgroup /run/host/cgroup
umount -n -l /sys/fs/cgroup
mount -n -t cgroup2 cgroup2 /sys/fs/cgroup
exec "$@"
"""
HOST_PID: list[str] = []
OWN_PID = ["--pid", "--fork", "--kill-child"]


@dataclass
class Node:
    """A node with both runtimes, and an agent that was there before anything ran."""

    agent: Agent
    contained: list[Agent]
    """Two more that run in a container, and hear of the others only later."""
    docker: dict[str, Container]
    pods: dict[str, Pod]

    @property
    def names(self) -> dict[Labels, str]:
        """Return the id of each container by what it must be called; only that nobody knows is called by its id."""
        docker = {("", "", name): f"docker://{container.id}" for name, container in self.docker.items()}
        docker["", "", INNER[:12]] = f"docker://{INNER}"
        pods = {
            (pod.namespace, pod.name, name): f"containerd://{container.id}"
            for pod in self.pods.values()
            for name, container in pod.containers.items()
        }
        return docker | pods


@pytest.fixture(scope="module")
def node(docker: DockerClient, pods: MakePods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Start it all at once, as a node does after its boot."""
    with docker_containers(docker) as run, pods() as pod, agents(tmp_path_factory.mktemp("node")) as agent:
        coroner = agent(FILES)
        careless = Program(python_command(CARELESS), mounts=PYTHON_TREES)
        tolerant = Program(["sleep", "1000"], memory=30 << 20, oom_group=False)
        app, outer = in_parallel(
            lambda: run("sleep", "1000", name="app", mem_limit="30m"),
            lambda: run("sleep", "1000", name="outer"),
        )
        web, db, shared = in_parallel(
            lambda: pod("web", containers={"app": tolerant, "proxy": SLEEP}),
            lambda: pod("db", namespace="data", qos="guaranteed", systemd_names=True, containers={"app": SLEEP}),
            lambda: pod("shared", share_pid=True, containers={"app": careless}),
        )
        stop_pause(shared)
        contained = [contain(agent, cgroup(outer) / "agent", *unshare) for unshare in (HOST_PID, OWN_PID)]
        with nested(outer):
            for other in contained:  # it has met everybody from now on
                other.scrape()
            yield Node(coroner, contained, {"app": app, "outer": outer}, {"web": web, "db": db, "shared": shared})


def stop_pause(shared: Pod) -> None:
    """Keep the pause of a pod with a shared PID namespace from reaping the two orphans that it has, which then die."""
    wait_for(lambda: len(shared.pause.children()) == 2, 30, "the orphans are not there")
    shared.pause.suspend()
    for orphan in shared.pause.children():
        orphan.kill()


def contain(agent: StartAgent, directory: Path, *unshare: str) -> Agent:
    """Start an agent in a container with that cgroup; without a PID namespace of its own unless `unshare` says so."""
    under = ["sh", "-ec", OWN_CGROUP, str(directory), *unshare, "sh", "-ec", OWN_MOUNTS, "sh"]
    return agent(FILES, "--path.procfs=/run/host/proc", "--path.cgroupfs=/run/host/cgroup", under=under)


@contextlib.contextmanager
def nested(outer: Container) -> Iterator[None]:
    """Make a container inside of another, with a zombie in it, as a runtime in there would: nobody on the node knows more than its id."""
    directory = cgroup(outer) / f"docker-{INNER}.scope"
    directory.mkdir()
    with subprocess.Popen(["sh", "-c", f"echo $$ > {directory}/cgroup.procs; : & exec sleep 1000"]) as process:
        try:
            yield
        finally:
            process.kill()
    directory.rmdir()


def called(agent: Agent) -> dict[Labels, str]:
    """Return the id of every container that runs by what it is called."""
    page = agent.beginning("coroner_container_frozen{", "coroner_container_info{")
    running = {labels for name, labels in page if name == "coroner_container_frozen"}  # what the others were is on the page too
    infos = [dict(labels) for name, labels in page if name == "coroner_container_info" and any(each <= labels for each in running)]
    return {(info["namespace"], info["pod"], info["container"]): info["container_id"] for info in infos}


def expect(agent: Agent, names: dict[Labels, str]) -> None:
    """Wait until the containers on the page are these and no others."""
    with contextlib.suppress(AssertionError):
        wait_for(lambda: called(agent) == names, 40, "not called so")
    assert called(agent) == names


def expect_the_same(first: Agent, second: Agent, metric: str) -> None:
    """Wait until two agents show the same series of a metric, and some."""
    with contextlib.suppress(AssertionError):
        wait_for(lambda: values(first, metric) == values(second, metric), 30, "not the same")
    assert values(first, metric) == values(second, metric) != {}


def values(agent: Agent, metric: str) -> dict[frozenset[tuple[str, str]], float]:
    """Return every series of a metric."""
    return agent.family(metric)


def kill_one_in(directory: Path) -> None:
    """Have a process of the host's die at the limit of a container's memory."""
    script = f"echo $$ > {directory}/cgroup.procs; exec tail /dev/zero"
    assert subprocess.run(["sh", "-c", script], check=False).returncode == -signal.SIGKILL


def test_containers_of_both_runtimes_have_their_names_and_sandboxes_have_none(node: Node) -> None:
    """What nobody knows came last and is called by its id by then, so nothing that is not can be called so any more."""
    node.pods["web"].run("late", SLEEP)
    wait_for(lambda: ("shop", "web", "late") in called(node.agent), 5, "not named soon after its start")
    expect(node.agent, {labels: url for labels, url in node.names.items() if INNER not in url})

    expect(node.agent, node.names)
    assert node.agent.value("coroner_containers_unnamed") == 1
    assert node.agent.value("coroner_source_up", source="oci") == 1
    assert node.agent.value("coroner_source_up", source="docker") == 1


def test_zombies_of_a_shared_pid_namespace_belong_to_the_container_they_died_in(node: Node) -> None:
    """Two of them wait for pause, which is nobody's container, and two for the app itself."""
    shared = {"namespace": "shop", "pod": "shared"}
    name = "coroner_container_zombies"

    wait_for(lambda: node.agent.value(name, **shared, container="app", parent="init") == 2, 30, "not two zombies of pause")
    assert node.agent.value(name, **shared, container="app", parent="other") == 2
    assert node.agent.value("coroner_pid_namespace_zombies", **shared) == 4
    assert node.agent.value("coroner_pid_namespace_zombies", **shared, container="") == 4
    assert not [labels for labels in values(node.agent, name) if ("container", "") in labels]


def test_an_agent_in_a_container_sees_what_one_outside_sees(node: Node) -> None:
    """Here inside of a node that is a container: its cgroup namespace makes the path of every other container a relative one."""
    for contained in node.contained:
        expect(contained, node.names)
        for metric in ("coroner_container_memory_limit_bytes", "coroner_container_zombies", "coroner_pid_namespace_zombies"):
            expect_the_same(contained, node.agent, metric)
        assert contained.value("coroner_container_zombies", container=INNER[:12], parent="other") == 1


def test_a_pods_container_that_is_killed_and_removed_at_once_is_counted_exactly_once(node: Node, pod: StartPod) -> None:
    """Each process of a group that the kernel kills as one is one kill."""
    batch = pod("batch")
    before = node.agent.value("coroner_oom_kills_total", scope="container")
    assert before is not None

    def short(name: str, script: str) -> None:
        container = batch.run(name, Program(["sh", "-c", script], memory=16 << 20))
        assert container.wait() == 137
        container.remove()

    in_parallel(lambda: short("alone", "exec tail /dev/zero"), lambda: short("crowd", "sleep 1000 & sleep 1000 & exec tail /dev/zero"))
    batch.remove()

    expect_kills(node.agent, ("shop", "batch", "alone"), 1)
    expect_kills(node.agent, ("shop", "batch", "crowd"), 3)
    assert node.agent.value("coroner_oom_kills_total", scope="container") == before + 4


def expect_kills(agent: Agent, names: Labels, kills: int) -> None:
    """Wait until the count of record for one container is this."""
    labels = dict(zip(("namespace", "pod", "container"), names, strict=True))
    wait_for(lambda: agent.value("coroner_container_oom_kills_total", **labels) == kills, 30, f"not {kills} kills in {names}")


def test_a_pod_that_runs_in_its_sandbox_is_called_by_the_pods_name_for_life(node: Node, pod: StartPod) -> None:
    """As with gVisor and Kata, whose processes are all in the sandbox's cgroup; one with nothing but pause is absent, and none counts."""
    coroner = node.agent
    before = coroner.value("coroner_oom_kills_total", scope="pod")
    assert before is not None
    held, plain = in_parallel(
        lambda: pod("held", memory=96 << 20, containers={"app": SLEEP}),
        lambda: pod("plain", containers={"app": SLEEP}),
    )
    apps = {(each.namespace, each.name, "app"): f"containerd://{each['app'].id}" for each in (held, plain)}
    wait_for(lambda: apps.items() <= called(coroner).items(), 30, "not both called so")
    assert not [labels for labels in called(coroner) if not labels[2]]
    # What runc itself needs while it makes a sandbox is not taken for a pod's memory.
    assert int((plain.sandbox.cgroup / "memory.peak").read_text()) < PAUSE_MOST_BYTES

    whole = ("shop", "held", "")
    with in_cgroup(held.sandbox.cgroup, "ballast = b'x' * (48 << 20)"):
        wait_for(lambda: whole in called(coroner), 30, "not exported")
        assert called(coroner)[whole] == f"containerd://{held.sandbox_id}"
        wait_for(lambda: usage_of(coroner, whole) > 48 << 20, 30, "not its memory")
    wait_for(lambda: usage_of(coroner, whole) < 16 << 20, 30, "not back to pause")
    assert whole in called(coroner)
    kill_one_in(held.sandbox.cgroup)

    expect_kills(coroner, whole, 1)
    assert coroner.value("coroner_oom_kills_total", scope="pod") == before + 1
    assert {labels for labels in called(coroner) if not labels[2]} == {whole}
    wait_for(
        lambda: coroner.value("coroner_containers", state="running") == sum(1 for labels in called(coroner) if labels[2]),
        30,
        "sandboxes are counted",
    )


def test_a_namespace_with_thousands_of_services_hides_no_name(node: Node, pod: StartPod) -> None:
    """Kubernetes describes each of them in the environment: 2,900 make a config.json of more than 1 MiB, and the process does start."""
    forged = '"annotations":{"io.kubernetes.cri.container-name":"forged"}'
    services = {f"SVC_{number}_PORT": f"tcp://10.0.0.1:{forged}{'x' * 320}" for number in range(2900)}
    app = pod("served", containers={"app": Program(["sleep", "1000"], environment=services)})["app"]
    bundle = next(Path("/run").rglob(f"k8s.io/{app.id}/config.json"))

    assert bundle.stat().st_size > 1 << 20
    wait_for(lambda: called(node.agent).get(("shop", "served", "app")) == f"containerd://{app.id}", 30, "not called so")


def usage_of(agent: Agent, names: Labels) -> float:
    """Return the memory of what is called so."""
    usage = agent.value("coroner_container_memory_usage_bytes", **dict(zip(("namespace", "pod", "container"), names, strict=True)))
    assert usage is not None
    return usage


@contextlib.contextmanager
def in_cgroup(directory: Path, code: str) -> Iterator[None]:
    """Run Python in a cgroup, and end it when the block is left."""
    command = [sys.executable, "-c", f"{code}\nimport signal\nsignal.pause()"]
    with subprocess.Popen(["sh", "-c", f'echo $$ > {directory}/cgroup.procs; exec "$@"', "sh", *command]) as process:
        try:
            yield
        finally:
            process.kill()


def test_runtimes_that_restart_lose_no_name_and_no_count(node: Node, containerd: Daemon, dockerd: Daemon) -> None:
    """Their containers live on, and are killed meanwhile."""
    mortal = {("shop", "web", "app"): node.pods["web"]["app"].cgroup, ("", "", "app"): cgroup(node.docker["app"])}
    expect(node.agent, node.names)

    dockerd.stop()
    containerd.stop()
    for directory in mortal.values():
        kill_one_in(directory)
    for labels in mortal:
        expect_kills(node.agent, labels, 1)
    assert called(node.agent) == node.names
    containerd.start()
    dockerd.start()

    node.pods["web"].run("later", SLEEP)
    wait_for(lambda: node.agent.value("coroner_source_up", source="docker") == 1, 60, "Docker is not back")
    expect(node.agent, node.names)
    for labels in mortal:
        expect_kills(node.agent, labels, 1)
