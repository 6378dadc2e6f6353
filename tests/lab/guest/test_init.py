"""PID 1 of real containers: who it is, whether a stop gets through to it, and whose the zombies are. All run beside each other.

Forensics are made in the test itself, on the same node that the agent looks at.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

from collectors import base
from collectors.forensics import Forensics, examine
from collectors.kernel import cgroupfs, container_id
from collectors.kernel.files import KernelFiles
from collectors.kernel.procfs import ProcessTable
from tests.lab.guest.node import CGROUPS, PYTHON_TREES, Agent, agents, docker_containers, in_parallel, python_command, wait_for

Said = dict[tuple[str, ...], float]

PROBES = 12
CROWD = 2000

TWO_COMMANDS = "sleep 1000; true"
SCRIPT = "printf '#!/bin/sh\\nsleep 1000\\ntrue\\n' > /entry.sh; chmod +x /entry.sh; exec /entry.sh"
INTERACTIVE = "echo 'sleep 1000' > /rc; ENV=/rc exec sh -i"
QUIT = "import signal\nsignal.signal(signal.SIG{}, lambda *_: None)\nwhile True: signal.pause()"
SIGWAIT = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {15})\nsignal.sigwait({15})"
BLOCKS = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {15})\nwhile True: signal.pause()"
DEAD_LEADER = """
import ctypes, signal, threading, time
signal.signal(signal.SIGTERM, lambda *_: None)
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit of this thread alone
"""
IGNORES = "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nsignal.pause()"
FORKS = """
import ctypes, os, signal
for status in {statuses}:
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, b"worker")  # PR_SET_NAME
        os._exit(status)
{then}
print("ready")
signal.pause()
"""
REAPS = "while True:\n    try:\n        os.wait()\n    except ChildProcessError:\n        break"
CROWDED = f"import os, signal\nfor _ in range({CROWD}):\n    os.fork() or os._exit(0)\nprint('ready')\nsignal.pause()"


@dataclass(frozen=True)
class Case:
    """A container, and what the page says of its PID 1; None is absent."""

    command: list[str]
    role: str | None = None
    comm: str = ""
    handles: int | None = None
    is_wrapper: int | None = None
    signal: str = "SIGTERM"
    options: tuple[tuple[str, Any], ...] = ()


python = python_command
PYTHON = Path(os.path.realpath(sys.executable)).name
CASES = {
    "wrapper-busybox": Case(["sh", "-c", TWO_COMMANDS], "shell", "sh", 0, 1),
    "wrapper-dash": Case(["/usr/bin/dash", "-c", TWO_COMMANDS], "shell", "dash", 0, 1),
    "wrapper-bash": Case(["/usr/bin/bash", "-c", TWO_COMMANDS], "shell", "bash", 0, 1),
    "wrapper-script": Case(["sh", "-c", SCRIPT], "shell", "entry.sh", 0, 1),
    "exec-form": Case(["sleep", "1000"], "app", "sleep", 0),
    "sh-exec": Case(["sh", "-c", "exec sleep 1000"], "app", "sleep", 0),
    "bash-trap": Case(["/usr/bin/bash", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"], "shell", "bash", 1, 0),
    "busybox-trap": Case(["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"], "shell", "sh", 1, 0),
    "interactive": Case(["sh", "-c", INTERACTIVE], "shell", "sh", 0, 0, options=(("tty", True), ("stdin_open", True))),
    "tini": Case(["/usr/bin/tini", "--", "sleep", "1000"], "init", "tini", 1),
    "dumb-init": Case(["/usr/bin/dumb-init", "sleep", "1000"], "init", "dumb-init", 1),
    "docker-init": Case(["sleep", "1000"], "init", "docker-init", 1, options=(("init", True),)),
    "quits": Case(python(QUIT.format("QUIT")), "app", PYTHON, 1, signal="SIGQUIT", options=(("stop_signal", "SIGQUIT"),)),
    "deaf-to-quit": Case(python(QUIT.format("TERM")), "app", PYTHON, 0, signal="SIGQUIT", options=(("stop_signal", "SIGQUIT"),)),
    "sigwait": Case(python(SIGWAIT), "app", PYTHON, 1),
    "blocks": Case(python(BLOCKS), "app", PYTHON, 1),
    "dead-leader": Case(python(DEAD_LEADER), "app", PYTHON, 1),
    "ignores-sigchld": Case(python(IGNORES), "app", PYTHON, 0),
    "hostly": Case(["/usr/bin/unshare", "--pid", "--fork", "sleep", "1000"], options=(("pid_mode", "host"), ("privileged", True))),
    "restarts": Case(["true"], options=(("restart_policy", {"Name": "always"}),)),
    "never-waits": Case(python(FORKS.format(statuses=[0, 0, 3], then="")), "app", PYTHON, 0),
    "supervised": Case(python(FORKS.format(statuses=[1, 1], then="")), "init", "docker-init", 1, options=(("init", True),)),
    "reaps": Case(python(FORKS.format(statuses=[0, 3], then=REAPS)), "app", PYTHON, 0),
    "probed": Case(["sleep", "1000"], "app", "sleep", 0),
    "crowded": Case(python(CROWDED), "app", PYTHON, 0),
}


@dataclass(frozen=True)
class Scene:
    """All containers, and an agent."""

    agent: Agent
    containers: dict[str, Container]


def is_ready(container: Container) -> bool:
    """Whether it has said so."""
    return b"ready" in container.logs()


@pytest.fixture(name="scene", scope="module")
def scene_(docker: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Start all, then let probes come into one of them."""
    volumes = {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}
    with docker_containers(docker) as run, agents(tmp_path_factory.mktemp("init")) as agent:
        starts = [partial(run, *case.command, name=name, volumes=volumes, **dict(case.options)) for name, case in CASES.items()]
        containers = dict(zip(CASES, in_parallel(*starts), strict=True))
        containers["guest"] = run("sleep", "1000", name="guest", pid_mode=f"container:{containers['probed'].id}")
        for _ in range(PROBES):
            containers["probed"].exec_run(["sh", "-c", "true & exit 0"])
        coroner = agent()
        for name in ("never-waits", "supervised", "reaps", "crowded"):
            wait_for(partial(is_ready, containers[name]), 120, f"{name} is not ready")
        yield Scene(coroner, containers)


def said(agent: Agent, container: str) -> Said:
    """Return what the page says of a PID 1, by what it is about and the labels of that."""
    prefix, known = "coroner_container_init_", {}
    for (name, have), value in agent.scrape().items():
        mine = dict(have)
        if mine.get("container") == container and name.startswith(prefix):
            known[(name.removeprefix(prefix), *(mine[label] for label in ("comm", "role", "signal") if label in mine))] = value
    return known


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.role])
def test_what_pid_1_is_and_does_with_its_stop_signal(scene: Scene, name: str) -> None:
    """By its own name, and by the signal that Docker will send."""
    case = CASES[name]
    expected: Said = {("info", case.comm, str(case.role)): 1}
    if case.handles is not None:
        expected["handles_stop_signal", case.signal] = case.handles
    if case.is_wrapper is not None:
        expected["is_wrapper",] = case.is_wrapper

    def found() -> Said:
        return {key: value for key, value in said(scene.agent, name).items() if key[0] != "ignores_sigchld"}

    wait_for(lambda: found() == expected, 30, f"it says {found()}")
    assert scene.agent.value("coroner_container_init_ignores_sigchld", container=name) == (name == "ignores-sigchld")


@pytest.mark.parametrize("name", ["hostly", "guest", "restarts"])
def test_where_pid_1_is_not_the_containers_nothing_is_said(scene: Scene, name: str) -> None:
    """In the namespace of the host (though one of its processes is PID 1 of another), of another container, and of one that has ended."""
    if name != "restarts":
        assert scene.agent.value("coroner_container_threads", container=name)
        assert said(scene.agent, name) == {}
    assert scene.agent.value("coroner_scrape_collector_success", collector="init") == 1


def forensics(container: Container) -> Forensics:
    """Look at the container from here."""
    path = f"/docker/{container.id}"
    identifier = container_id.parse(path)
    assert identifier
    cgroup = next(each for each in cgroupfs.walk(str(CGROUPS)) if each.path == path)
    node = base.Node(proc_root="/proc", files=KernelFiles(0), process_table=ProcessTable("/proc", 0))
    return examine(node, base.Container(("", "", "x"), identifier, cgroup, base.Info()))


def zombies(agent: Agent, container: str) -> tuple[float | None, float | None]:
    """PID 1's, and those of another parent."""
    name = "coroner_container_zombies"
    return agent.value(name, container=container, parent="init"), agent.value(name, container=container, parent="other")


def test_an_app_that_never_waits_is_named(scene: Scene) -> None:
    """By both of its PIDs, with what it has started and how that ended."""
    assert zombies(scene.agent, "never-waits") == (3, 0)
    found = forensics(scene.containers["never-waits"])
    (culprit,) = found.culprits
    assert (found.zombies, culprit.zombies, culprit.is_init, culprit.container_pid, culprit.comm) == (3, 3, True, 1, PYTHON)
    assert culprit.pid == int((CGROUPS / "docker" / str(scene.containers["never-waits"].id) / "cgroup.procs").read_text())
    assert culprit.names == (("worker", 3),)
    assert culprit.statuses == ((0, 2), (3 << 8, 1))
    assert (culprit.adopted, culprit.is_exec_probe, culprit.has_waited) == (0, False, False)


def test_a_child_of_an_init_that_never_waits_is_named(scene: Scene) -> None:
    """Not the init."""
    assert zombies(scene.agent, "supervised") == (0, 2)
    (culprit,) = forensics(scene.containers["supervised"]).culprits
    assert (culprit.zombies, culprit.is_init, culprit.comm, culprit.statuses) == (2, False, PYTHON, ((1 << 8, 2),))
    assert culprit.container_pid not in (None, 1)


def test_an_app_that_waits_is_clean(scene: Scene) -> None:
    """Nobody is blamed."""
    assert zombies(scene.agent, "reaps") == (0, 0)
    assert forensics(scene.containers["reaps"]).culprits == ()


def test_what_exec_probes_leave_under_a_pid_1_that_does_not_reap_is_recognised(scene: Scene) -> None:
    """Each leaves an orphan; the probes themselves were waited for by the shim."""
    wait_for(lambda: zombies(scene.agent, "probed") == (PROBES, 0), 30, "not one zombie for each probe")
    (culprit,) = forensics(scene.containers["probed"]).culprits
    assert (culprit.zombies, culprit.adopted, culprit.entered, culprit.has_waited) == (PROBES, PROBES, PROBES, False)
    assert culprit.is_exec_probe
    assert culprit.names == (("sh", PROBES),)
    assert culprit.seconds_between


def test_two_thousand_zombies_are_counted_and_attributed(scene: Scene) -> None:
    """In one pass, and in one look."""
    assert zombies(scene.agent, "crowded") == (CROWD, 0)
    assert scene.agent.value("coroner_scrape_collector_success", collector="zombies") == 1
    (culprit,) = forensics(scene.containers["crowded"]).culprits
    assert (culprit.zombies, culprit.container_pid, culprit.statuses) == (CROWD, 1, ((0, CROWD),))
