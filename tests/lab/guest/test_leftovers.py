"""What a removal leaves, made for real: nothing on a node that runs, and each kind when its daemon is not there to clean up.

The minute that a leftover must be old is only told to the collector.
"""

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from collectors.base import Instance, Node
from collectors.kernel import container_id
from collectors.kernel.files import KernelFiles
from collectors.kernel.hierarchy import Hierarchy
from collectors.kernel.procfs import ProcessTable
from collectors.leftovers import Leftovers
from tests.lab.guest.cri import Program, StartPod
from tests.lab.guest.node import CGROUPS, Daemon, Podman, Run, StartAgent, in_parallel, wait_for

NOTHING = {
    **dict.fromkeys(("leftover_cgroups", "leftover_shims", "leftover_overlay_mounts"), 0),
    **{f"containers_without_daemon {daemon}": 0 for daemon in ("containerd", "crio", "dockerd")},
}


class Looks:
    """Looks at this node, a minute later each time."""

    def __init__(self) -> None:
        self._collector = Leftovers(clock=itertools.count(0.0, 61.0).__next__)

    def __call__(self) -> dict[str, float]:
        """Return what is found by name, and behind it the label; not what is dying."""
        cgroups = Hierarchy(str(CGROUPS)).walk()
        identifiers = [(each, container_id.parse(each.path)) for each in cgroups]
        node = Node(
            proc_root="/proc",
            files=KernelFiles(0),
            process_table=ProcessTable("/proc", 0),
            cgroups=cgroups,
            instances=[Instance(found, each) for each, found in identifiers if found and found.container_path == each.path],
        )
        found = list(self._collector.collect(node))
        assert node.malformed == []
        return {" ".join((metric.name[8:], *labels)): value for metric, labels, value in found if "dying" not in metric.name}


@pytest.fixture(name="look")
def look_(docker: DockerClient) -> Looks:
    """Look until nothing is left of the tests before, while Docker runs."""
    assert docker.ping()
    look = Looks()
    wait_for(lambda: {**NOTHING, **look()} == NOTHING, 60, "something is left of an earlier test")
    return look


@pytest.fixture(name="without")
def without_() -> Iterator[list[Daemon]]:
    """Daemons that a test kills and appends are started again after it."""
    killed: list[Daemon] = []
    yield killed
    for daemon in reversed(killed):
        daemon.start()


def test_a_node_that_runs_has_none(agent: StartAgent, run: Run, pod: StartPod, podman: Podman, dockerd: Daemon) -> None:
    """Docker, pods and Podman, a paused container, one that has exited and one that was only created: the agent shows 0 of each."""
    assert dockerd.process.poll() is None
    in_parallel(
        lambda: run("sleep", "1000", name="runs"),
        lambda: run("sleep", "1000", name="paused").pause(),
        lambda: run("true", name="exited").wait(),
        lambda: pod("web", containers={"app": Program(["sleep", "1000"]), "finished": Program(["true"])}),
    )
    podman("run", "--detach", "--network=none", "--name=cellar", "busybox", "sleep", "1000")
    podman("create", "--network=none", "--name=created", "busybox", "true")
    coroner = agent()

    def shown() -> dict[str, float]:
        page = coroner.beginning("coroner_leftover_", "coroner_containers_without_daemon")
        return {" ".join((name[8:], *dict(labels).values())): value for (name, labels), value in page.items()}

    # For a minute nothing is old enough to be one.
    wait_for(lambda: shown().keys() == NOTHING.keys(), 120, "not all kinds are shown", most_pause=5)
    assert shown() == NOTHING


def test_a_death_while_containerd_is_gone_leaves_everything(
    look: Looks, run: Run, pod: StartPod, containerd: Daemon, without: list[Daemon]
) -> None:
    """Shim, cgroup and overlay of the dead; what lives has lost its daemon. When that is back, Docker still takes the dead for running, and
    what it left stays until somebody removes it.
    """
    run("sleep", "1000", name="lives")
    doomed = run("sleep", "1000", name="doomed")
    pod("web", containers={"app": Program(["sleep", "1000"])})
    doomed.reload()
    init = int(doomed.attrs["State"]["Pid"])
    assert [look(), look()][-1] == NOTHING

    containerd.kill()
    without.append(containerd)
    os.kill(init, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{init}").exists(), 60, "the shim did not reap it")

    assert look() == NOTHING, "what has just ended is no leftover"
    three_live = {"containers_without_daemon containerd": 3}  # of which one is the sandbox: no source has told this look so
    assert look() == {**NOTHING, **three_live, "leftover_cgroups": 1, "leftover_shims": 1, "leftover_overlay_mounts": 1}

    without.pop().start()
    doomed.remove(force=True)
    wait_for(lambda: look() == NOTHING, 60, "something is left of what was removed")


def test_containers_outlive_dockerd(look: Looks, run: Run, dockerd: Daemon, without: list[Daemon]) -> None:
    """With live-restore the shim keeps them alive, and containerd is still there."""
    run("sleep", "1000", name="lives")
    assert [look(), look()][-1] == NOTHING

    dockerd.kill()
    without.append(dockerd)

    assert [look(), look()] == [NOTHING, {**NOTHING, "containers_without_daemon dockerd": 1}]
    without.pop().start()
    assert look() == NOTHING


def test_an_overlay_that_somebody_holds(look: Looks, run: Run, tmp_path: Path) -> None:
    """Docker unmounts its own, and another mount of the same overlay keeps it."""
    container = run("sleep", "1000", name="held")
    container.reload()
    subprocess.run(["mount", "--bind", container.attrs["GraphDriver"]["Data"]["MergedDir"], tmp_path], check=True)
    try:
        assert [look(), look()][-1] == NOTHING
        container.remove(force=True)
        assert [look(), look()] == [NOTHING, {**NOTHING, "leftover_overlay_mounts": 1}]
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert look() == NOTHING


def test_a_cgroup_counts_from_its_first_process_on(look: Looks) -> None:
    """One that never had any may be there on purpose."""
    cgroup = CGROUPS / "docker" / (64 * "e")
    cgroup.mkdir()
    try:
        assert [{**NOTHING, **look()} for _ in range(3)][-1] == NOTHING
        subprocess.run(["sh", "-c", f"echo $$ > {cgroup}/cgroup.procs; for n in $(seq 1000); do :; done"], check=True)
        look()
        assert look()["leftover_cgroups"] == 1
    finally:
        cgroup.rmdir()
    assert look()["leftover_cgroups"] == 0


def test_an_overlay_of_nobodys_container(look: Looks, run: Run, tmp_path: Path) -> None:
    """One like Docker's, as of a build or an export, is not taken for a leftover."""
    run("sleep", "1000", name="lives")
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "merged"], check=True)
    try:
        assert [look(), look(), look()][-1] == NOTHING
    finally:
        subprocess.run(["umount", tmp_path / "merged", tmp_path], check=True)
