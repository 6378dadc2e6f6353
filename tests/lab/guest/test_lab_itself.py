"""The lab is what the other tests take it for: a real kernel, a real node, and harmless to the machine."""

import re
import subprocess
import time
from pathlib import Path

import pytest
from docker import DockerClient

from tests.lab.guest.node import CGROUPS, Run, kernel_log, memory_events, wait_for


def test_kernel_is_user_mode_linux() -> None:
    """The tests talk to a kernel of their own."""
    assert "User Mode Linux" in Path("/proc/cpuinfo").read_text(encoding="ascii")


def test_machine_stays_as_it_is(tmp_path: Path) -> None:
    """A file written to the root is not in the machine's own tree, which only this test mounts again."""
    written = Path("/written-by-the-lab")
    written.touch()

    mounts = [line.split()[:3] for line in Path("/proc/mounts").read_text(encoding="ascii").splitlines()]
    assert [directory for _, directory, kind in mounts if kind == "hostfs"] == ["/run/lab"]
    subprocess.run(["mount", "-n", "-r", "-t", "hostfs", "none", tmp_path, "-o", "/"], check=True)
    assert (tmp_path / "usr").exists()
    assert not (tmp_path / written.name).exists()
    subprocess.run(["umount", "-n", tmp_path], check=True)


def test_cgroup_v2_has_the_controllers() -> None:
    """Containers get the four controllers that the agent reads."""
    enabled = (CGROUPS / "cgroup.subtree_control").read_text(encoding="ascii").split()

    assert {"cpu", "io", "memory", "pids"} <= set(enabled)


def test_container_runs_to_completion(run: Run) -> None:
    """A container's exit code and output arrive."""
    container = run("sh", "-c", "echo done; exit 3")

    assert container.wait()["StatusCode"] == 3
    assert container.logs() == b"done\n"


def test_python_container(run_python: Run) -> None:
    """The machine's Python runs in a container, as PID 1."""
    container = run_python("import os; print(os.getpid())")

    assert container.wait()["StatusCode"] == 0
    assert container.logs() == b"1\n"


def test_kernel_kills_a_container_out_of_memory(run: Run) -> None:
    """The kernel log, with facility 0, names the container of an init that was killed."""
    container = run("tail", "/dev/zero", mem_limit="30m")
    record = rf"[0-7],\d+,\d+,-;oom-kill:.*,task_memcg=/docker/{container.id},task=tail,"

    assert container.wait()["StatusCode"] == 137
    assert any(re.match(record, line) for line in kernel_log())


def test_docker_sees_a_kill_out_of_memory(run: Run, docker: DockerClient) -> None:
    """Docker says OOMKilled of a container that lost a child, if it heard of that before the container's end."""
    container = run("sh", "-c", "tail /dev/zero; sleep 1000", mem_limit="30m")

    def events() -> list[str]:
        stream = docker.events(since=0, until=int(time.time()), decode=True, filters={"container": container.id})
        return [event["Action"] for event in stream]

    wait_for(lambda: "oom" in events(), 30, "Docker told nothing of the kill")
    assert memory_events(container)["oom_kill"] == 1
    container.kill()
    assert container.wait()["StatusCode"] == 137
    container.reload()
    assert container.attrs["State"]["OOMKilled"] is True


@pytest.mark.parametrize("program", ["prometheus", "prometheus-alertmanager"])
def test_monitoring_runs(program: str) -> None:
    """Prometheus and Alertmanager are there and run."""
    version = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)

    assert "version" in version.stdout + version.stderr
