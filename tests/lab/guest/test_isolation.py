"""What the kernel enforces on containers of a real Docker, whatever they asked for, and how many services run in them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from collectors.kernel.process_stat import Stat, parse_stat
from tests.lab.guest.node import (
    CGROUPS,
    DOCKER_URL,
    PYTHON_TREES,
    Agent,
    agents,
    cgroup,
    docker_containers,
    in_parallel,
    python_command,
    wait_for,
)

INFO, EXTRA = "coroner_container_isolation_info", "coroner_container_extra_capabilities"
SOCKET, SERVICES = "coroner_container_runtime_socket_mounted", "coroner_container_services"

SERVER_THAT_DOES_NOT_ANSWER = """
import ctypes, os, signal
device = os.open("/dev/fuse", os.O_RDWR)
os.mkdir("/hung")
options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
assert ctypes.CDLL(None, use_errno=True).mount(b"hung", b"/hung", b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
for name in b"asks", b"cache":
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, name)  # PR_SET_NAME
        if name == b"asks":
            os.statvfs("/hung")  # it waits for its server, which is the parent
        signal.pause()
signal.pause()
"""
"""In the container's own mount namespace: Docker would ask a volume before it starts anything. Its workers have names of their own."""

TWO = "/bin/httpd -f -p 127.0.0.1:81 & /bin/syslogd -n -O /dev/null & wait"
POOL = "for port in 81 82 83; do /bin/httpd -f -p 127.0.0.1:$port & done; wait"
SLEEP = ("sleep", "1000")
CONTAINERS = ("default", "two", "pool", "hung", "capable", "hardened", "mapped", "pid-of-host", "net-of-host")
ALL, ALL_OF_DOCKER = int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1, 38
"""Capabilities of this kernel, and those that Docker 20.10 knows."""
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
    socket = {"/run/docker.sock": {"bind": "/tmp/innocent", "mode": "ro"}}
    frozen, two, pool, hung, *_ = in_parallel(
        partial(run, *SLEEP, name="default"),
        partial(run, "sh", "-c", TWO, name="two"),
        partial(run, "sh", "-c", POOL, name="pool"),
        partial(run, *python_command(SERVER_THAT_DOES_NOT_ANSWER), name="hung", privileged=True, **python),
        partial(run, *SLEEP, name="capable", cap_add=["NET_ADMIN", "SYS_PTRACE"], volumes=socket),
        partial(run, *SLEEP, name="hardened", cap_drop=["ALL"], read_only=True, security_opt=["no-new-privileges"]),
        partial(run, "unshare", "-U", "-r", *SLEEP, name="mapped", user="1000:1000", security_opt=["seccomp=unconfined"]),
        partial(run, *SLEEP, name="pid-of-host", pid_mode="host"),
        partial(run, *SLEEP, name="net-of-host", network_mode="host", network_disabled=False, uts_mode="host", mounts=[run_directory]),
    )
    docker.api.exec_start(docker.api.exec_create(pool.id, ["/bin/syslogd", "-n", "-O", "/dev/null"])["Id"], detach=True)
    init = pid_of(hung)
    assert init, hung.logs()
    wait_for(lambda: b" /hung " in Path(f"/proc/{init}/mountinfo").read_bytes(), 60, "it has not mounted it")
    wait_for(lambda: len((cgroup(two) / "cgroup.procs").read_text().split()) == 3, 60, "they do not run")
    frozen.pause()


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
    [found] = [dict(labels) for labels in agent.family(INFO) if dict(labels)["container"] == container]
    return {name: found.get(name, "") for name in DEFAULT}


@pytest.mark.parametrize(
    ("container", "other", "extra"),
    [
        ("default", {}, 0),
        ("capable", {"extra_capabilities": "NET_ADMIN,SYS_PTRACE"}, 2),
        ("hardened", {"no_new_privileges": "true", "read_only_root": "true"}, 0),
        ("mapped", {"user_namespace": "own", "root_is_host_root": "false", "seccomp": "disabled", "extra_capabilities": "all"}, ALL - 14),
        ("pid-of-host", {"process": "first", "host_namespaces": "pid"}, 0),
        ("net-of-host", {"host_namespaces": "net,uts"}, 0),
        ("hung", {"seccomp": "disabled", "extra_capabilities": "all"}, ALL_OF_DOCKER - 14),
    ],
)
def test_what_the_kernel_enforces(coroner: Agent, container: str, other: dict[str, str], extra: int) -> None:
    """One has a mount whose server never answers, another one is frozen: nobody waits for them."""
    wait_for(lambda: coroner.value(EXTRA, container=container) is not None, 30, "it was not looked at")
    assert isolation(coroner, container) == DEFAULT | other
    assert coroner.value(EXTRA, container=container) == extra


def test_a_server_that_does_not_answer_holds_up_who_asks_it_and_no_pass(coroner: Agent) -> None:
    """The control: the same file system does make others wait."""
    [(pid, state)] = [(name, stat.state) for name, stat in processes() if stat.comm == b"asks"]

    assert state == b"D", "it does not wait"
    assert b" /hung " in Path(f"/proc/{pid}/mountinfo").read_bytes()
    assert coroner.value(SOCKET, container="hung") == 0
    assert coroner.value("coroner_scrape_collector_success", collector="isolation") == 1


def processes() -> Iterator[tuple[str, Stat]]:
    """All that there are."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            yield pid, parse_stat(Path(f"/proc/{pid}/stat").read_bytes())


@pytest.mark.parametrize(("container", "is_mounted"), [("capable", 1), ("net-of-host", 1), ("default", 0), ("hung", 0)])
def test_a_socket_of_a_runtime_is_seen_wherever_it_is_mounted(coroner: Agent, container: str, is_mounted: int) -> None:
    """By itself under another name, and with the directory that it is in."""
    assert coroner.value(SOCKET, container=container) == is_mounted


def test_services_are_told_from_workers(coroner: Agent) -> None:
    """Two programs under a shell; not three of one kind, nor what came by exec, nor what a program started, whatever it is called."""
    wait_for(lambda: coroner.value(SERVICES, container="two") == 2, 90, "the two are not there")
    found = {name: coroner.value(SERVICES, container=name) for name in ("pool", "hung", "default", "pid-of-host")}
    assert found == {"pool": 1, "hung": 1, "default": 1, "pid-of-host": None}


def test_the_live_view_shows_them_once_as_text(coroner: Agent) -> None:
    """It asks the agent that runs here, and makes passes of its own where none does."""
    address = coroner.url.removeprefix("http://")
    command = [f"{sys.prefix}/bin/coroner", "top", "--once", "--interval=0.1", "--sort=name", f"--docker.url={DOCKER_URL}"]
    own = ["--web.listen-address=127.0.0.1:1", f"--path.state={coroner.state}", f"--path.cgroupfs={CGROUPS}"]

    def shown(*flags: str) -> tuple[str, set[str]]:
        done = subprocess.run([*command, *flags], check=True, stdout=subprocess.PIPE, text=True)
        lines = done.stdout.splitlines()
        return lines[1], {word for line in lines[3:] for word in line.split()}

    asked, passed = in_parallel(lambda: shown(f"--web.listen-address={address}"), lambda: shown(*own))
    assert asked[0].startswith(f"agent at {address}")
    assert passed[0].startswith("own passes")
    assert {*CONTAINERS} <= asked[1] & passed[1]
