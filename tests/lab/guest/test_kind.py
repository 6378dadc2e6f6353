"""A node that is a container itself (kind, k3d, minikube): the agent's tree begins there, the kernel log's paths at the host's root."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from tests.lab.guest.node import CGROUPS, WAIT, Agent, Run, StartAgent, docker_containers, in_parallel, let_go, wait_for

HOST = "428406e4f18a1cb65e9691d40b63f3d92c95c1b0d15b5c427bed470b6832cd6e"
POD = "/kubelet/kubepods/pod1788d98a-0700-426a-8701-2312e4cc2163"
# What the host's runtime and the node's entrypoint do: a private cgroup namespace that begins at the node's cgroup, no process at its root.
NODE = """
mkdir -p $0
echo $$ > $0/cgroup.procs
exec unshare --cgroup --mount sh -ec '
    umount -n -l /sys/fs/cgroup
    mount -n -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir /sys/fs/cgroup/init
    echo $$ > /sys/fs/cgroup/init/cgroup.procs
    echo "+memory +pids +cpu +io" > /sys/fs/cgroup/cgroup.subtree_control
    exec "$@"
' sh "$@"
"""
TWO_KILLS = f"{WAIT}tail /dev/zero; tail /dev/zero; sleep 1000"


@pytest.fixture
def node(docker: DockerClient) -> Iterator[Path]:
    """Yield where the cgroup of the node shall be, in that of Docker's containers; at the end it is removed, when all in it are gone."""
    with docker_containers(docker) as run:
        run("true", name="docker-has-its-cgroup")
    (CGROUPS / "docker/cgroup.subtree_control").write_text("+memory +pids +cpu +io")
    directory = CGROUPS / "docker" / HOST
    yield directory
    wait_for(lambda: "populated 0" in (directory / "cgroup.events").read_text(), 30, "the node still has processes")
    for made in sorted((path for path in directory.rglob("*") if path.is_dir()), reverse=True):
        made.rmdir()
    directory.rmdir()


def killed_twice(coroner: Agent, name: str) -> bool:
    """Say whether a container has its two kills on the page."""
    return coroner.value("coroner_container_oom_kills_total", container=name) == 2


def test_in_a_node_that_is_a_container_each_kill_counts_once_and_those_of_the_host_do_not(node: Path, agent: StartAgent, run: Run) -> None:
    """The log names /docker/HOST/kubelet/...: one life, two kills; another container of the host is no business of this node."""
    coroner = agent(under=["sh", "-ec", NODE, str(node)])
    names = {"inside": {"cgroup_parent": f"/docker/{HOST}{POD}"}, "elsewhere": {}}
    inside, elsewhere = in_parallel(
        *(lambda name=name, more=more: run("sh", "-c", TWO_KILLS, name=name, mem_limit="8m", **more) for name, more in names.items())
    )
    wait_for(lambda: coroner.value("coroner_container_oom_kills_total", container="inside") == 0, 30, "not born at 0")
    for container in (elsewhere, inside):
        events = next(CGROUPS.rglob(f"{container.id}/memory.events"))
        let_go(events.parent)
        wait_for(lambda file=events: "oom_kill 2" in file.read_text(), 60, "not two kills")  # type: ignore[misc] # the default binds

    wait_for(lambda: killed_twice(coroner, "inside"), 30, "not two on the page")
    kills = coroner.family("coroner_oom_kills_total")
    assert sum(kills.values()) == 2
    victims = coroner.victims(2)
    assert [(victim["container"], victim["cgroup"], victim["scope"]) for victim in victims] == 2 * [
        ("inside", f"{POD}/{inside.id}", "container")
    ]
