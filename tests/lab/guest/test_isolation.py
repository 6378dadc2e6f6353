"""What the kernel enforces on containers of a real Docker, whatever they asked for, and how many services run in them."""

import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.lab.guest.node import PYTHON_TREES, Agent, agents, cgroup, docker_containers, in_parallel, python_command, wait_for

INFO, EXTRA = "coroner_container_isolation_info", "coroner_container_extra_capabilities"
SOCKET, SERVICES = "coroner_container_runtime_socket_mounted", "coroner_container_services"

SERVER_THAT_DOES_NOT_ANSWER = """
import ctypes, os, signal
device = os.open("/dev/fuse", os.O_RDWR)
os.mkdir("/hung")
options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
assert ctypes.CDLL(None, use_errno=True).mount(b"hung", b"/hung", b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
if os.fork() == 0:
    os.statvfs("/hung")  # it waits for its server, which is the parent
    os._exit(0)
signal.pause()
"""
"""In a container of its own mount namespace: Docker would ask a volume before it starts anything."""

WORKERS = """
import ctypes, os, signal
for name in b"master", b"cache", b"writer":
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, name)  # PR_SET_NAME
        signal.pause()
signal.pause()
"""

TWO = "/bin/httpd -f -p 127.0.0.1:81 & /bin/syslogd -n -O /dev/null & wait"
POOL = "for port in 81 82 83; do /bin/httpd -f -p 127.0.0.1:$port & done; wait"
SLEEP = ("sleep", "1000")
DEFAULT = {
    "process": "init",
    "user_namespace": "host",
    "root_is_host_root": "true",
    "host_namespaces": "none",
    "seccomp": "filter",
    "no_new_privileges": "false",
    "read_only_root": "false",
    "extra_capabilities": "none",
}


def stage(docker: DockerClient, run: Any) -> None:
    """Start all containers, and enter some."""
    python = {"volumes": {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}}
    run_directory = {"Type": "bind", "Source": "/run", "Target": "/host/run", "ReadOnly": True, "BindOptions": {"NonRecursive": True}}
    _, _, _, _, _, _, _, _, _, two, pool, _, hung = in_parallel(
        partial(run, *SLEEP, name="default"),
        partial(run, *SLEEP, name="privileged", privileged=True),
        partial(run, *SLEEP, name="capable", cap_add=["NET_ADMIN", "SYS_PTRACE"]),
        partial(run, *SLEEP, name="hardened", cap_drop=["ALL"], read_only=True, security_opt=["no-new-privileges"]),
        partial(run, "unshare", "-U", "-r", *SLEEP, name="mapped", user="1000:1000", security_opt=["seccomp=unconfined"]),
        partial(run, *SLEEP, name="pid-of-host", pid_mode="host"),
        partial(run, *SLEEP, name="net-of-host", network_mode="host", network_disabled=False, uts_mode="host"),
        partial(run, *SLEEP, name="socket", volumes={"/run/docker.sock": {"bind": "/tmp/innocent", "mode": "ro"}}),
        partial(run, *SLEEP, name="directory", mounts=[run_directory]),
        partial(run, "sh", "-c", TWO, name="two"),
        partial(run, "sh", "-c", POOL, name="pool"),
        partial(run, *python_command(WORKERS), name="workers", **python),
        partial(run, *python_command(SERVER_THAT_DOES_NOT_ANSWER), name="hung", privileged=True, **python),
    )
    docker.api.exec_start(docker.api.exec_create(pool.id, ["/bin/syslogd", "-n", "-O", "/dev/null"])["Id"], detach=True)
    init = pid_of(hung)
    assert init, hung.logs()
    wait_for(lambda: b" /hung " in Path(f"/proc/{init}/mountinfo").read_bytes(), 60, "it has not mounted it")
    wait_for(lambda: len((cgroup(two) / "cgroup.procs").read_text().split()) == 3, 60, "they do not run")
    hung.pause()


def pid_of(container: Any) -> int:
    """PID of a container's init on the node."""
    container.reload()
    pid: int = container.attrs["State"]["Pid"]
    return pid


@pytest.fixture(scope="module")
def coroner(docker: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent on a node with one container for each claim."""
    subprocess.run(["modprobe", "fuse"], check=True)
    with docker_containers(docker) as run, agents(tmp_path_factory.mktemp("isolation")) as start:
        stage(docker, run)
        yield start()


def isolation(agent: Agent, container: str) -> dict[str, str]:
    """The labels of the info series, without those that say whose it is."""
    [found] = [dict(labels) for name, labels in agent.scrape() if name == INFO and dict(labels)["container"] == container]
    return {name: found.get(name, "") for name in DEFAULT}


@pytest.mark.parametrize(
    ("container", "other", "extra"),
    [
        ("default", {}, 0),
        ("privileged", {"seccomp": "disabled", "extra_capabilities": "all"}, None),
        ("capable", {"extra_capabilities": "NET_ADMIN,SYS_PTRACE"}, 2),
        ("hardened", {"no_new_privileges": "true", "read_only_root": "true"}, 0),
        ("mapped", {"user_namespace": "own", "root_is_host_root": "false", "seccomp": "disabled", "extra_capabilities": "all"}, None),
        ("pid-of-host", {"process": "first", "host_namespaces": "pid"}, 0),
        ("net-of-host", {"host_namespaces": "net,uts"}, 0),
        ("hung", {"seccomp": "disabled", "extra_capabilities": "all"}, None),
    ],
)
def test_what_the_kernel_enforces(coroner: Agent, container: str, other: dict[str, str], extra: int | None) -> None:
    """One is frozen and has a mount whose server never answers: nobody waits for it."""
    wait_for(lambda: coroner.value(EXTRA, container=container) is not None, 30, "it was not looked at")
    assert isolation(coroner, container) == DEFAULT | other
    assert coroner.value(EXTRA, container=container) == (bits_of_node() - 14 if extra is None else extra)


def bits_of_node() -> int:
    """How many capabilities this kernel has."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1


def test_a_server_that_does_not_answer_holds_up_who_asks_it_and_no_pass(coroner: Agent) -> None:
    """The control: the same file system does make others wait."""
    [asks] = [pid for pid in filter(str.isdecimal, os.listdir("/proc")) if b"fuse" in wchan(pid)]

    assert b" /hung " in Path(f"/proc/{asks}/mountinfo").read_bytes()
    assert coroner.value(SOCKET, container="hung") == 0
    assert coroner.value("coroner_scrape_collector_success", collector="isolation") == 1


def wchan(pid: str) -> bytes:
    """Where in the kernel a process waits."""
    try:
        return Path(f"/proc/{pid}/wchan").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(("container", "is_mounted"), [("socket", 1), ("directory", 1), ("default", 0), ("privileged", 0)])
def test_a_socket_of_a_runtime_is_seen_wherever_it_is_mounted(coroner: Agent, container: str, is_mounted: int) -> None:
    """By itself under another name, and with the directory that it is in."""
    assert coroner.value(SOCKET, container=container) == is_mounted


def test_services_are_told_from_workers(coroner: Agent) -> None:
    """Two programs under a shell; not three of one kind, nor what came by exec, nor what a program started, whatever it is called."""
    wait_for(lambda: coroner.value(SERVICES, container="two") == 2, 90, "the two are not there")
    found = {name: coroner.value(SERVICES, container=name) for name in ("pool", "workers", "default", "pid-of-host")}
    assert found == {"pool": 1, "workers": 1, "default": 1, "pid-of-host": None}
