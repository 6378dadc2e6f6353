"""PID 1 of real containers: who it is, whether a stop gets through to it, and whose the zombies are. All run beside each other.

Forensics are made in the test itself, on the same node that the agent looks at.
"""

import contextlib
import os
import signal
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
from tests.lab.guest.node import CGROUPS, PYTHON_TREES, Series, agents, cgroup, docker_containers, in_parallel, python_command, wait_for

Said = dict[tuple[str, ...], float]

PROBES = 4
CROWD = 300
FAILED = 10

TWO_COMMANDS = "sleep 1000; true"
SCRIPT = "printf '#!/bin/sh\\nsleep 1000\\ntrue\\n' > /entry.sh; chmod +x /entry.sh; exec /entry.sh"
INTERACTIVE = "echo 'sleep 1000' > /rc; ENV=/rc exec sh -i"
QUITS = """
import os, signal
signal.signal(signal.SIGQUIT, lambda *_: None)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.fork() or os._exit(0)
print("ready")
while True: signal.pause()
"""
TERMINATES_AND_REAPS = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: None)
for status in 0, 3:
    os.fork() or os._exit(status)
    os.wait()
print("ready")
while True: signal.pause()
"""
SIGWAIT = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {15})\nsignal.sigwait({15})"
DEAD_LEADER = """
import ctypes, signal, threading, time
signal.signal(signal.SIGTERM, lambda *_: None)
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).syscall(60, 0)  # exit of this thread alone
"""
FORKS = """
import ctypes, os, signal
def call_me(name): ctypes.CDLL(None).prctl(15, name)  # PR_SET_NAME
call_me(b"worker")  # which children inherit
for number in range({count}):
    os.fork() or os._exit(3 if number < {failed} else 0)
call_me(b"server")
print("ready")
signal.pause()
"""


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
QUIT = ("stop_signal", "SIGQUIT")
CASES = {
    "wrapper-busybox": Case(["sh", "-c", TWO_COMMANDS], "shell", "sh", 0, 1),
    "wrapper-dash": Case(["/usr/bin/dash", "-c", TWO_COMMANDS], "shell", "dash", 0, 1),
    "wrapper-bash": Case(["/usr/bin/bash", "-c", TWO_COMMANDS], "shell", "bash", 0, 1),
    "wrapper-script": Case(["sh", "-c", SCRIPT], "shell", "entry.sh", 0, 1),
    "probed-exec-form": Case(["sleep", "1000"], "app", "sleep", 0),
    "sh-exec": Case(["sh", "-c", "exec sleep 1000"], "app", "sleep", 0),
    "bash-trap": Case(["/usr/bin/bash", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"], "shell", "bash", 1, 0),
    "interactive": Case(["sh", "-c", INTERACTIVE], "shell", "sh", 0, 0, options=(("tty", True), ("stdin_open", True))),
    "tini": Case(["/usr/bin/tini", "--", "sleep", "1000"], "init", "tini", 1),
    "dumb-init": Case(["/usr/bin/dumb-init", "sleep", "1000"], "init", "dumb-init", 1),
    "supervised": Case(python(FORKS.format(count=2, failed=2)), "init", "docker-init", 1, options=(("init", True),)),
    "quits": Case(python(QUITS), "app", PYTHON, 1, signal="SIGQUIT", options=(QUIT,)),
    "deaf-to-quit": Case(python(TERMINATES_AND_REAPS), "app", PYTHON, 0, signal="SIGQUIT", options=(QUIT,)),
    "sigwait": Case(python(SIGWAIT), "app", PYTHON, 1),
    "dead-leader": Case(python(DEAD_LEADER), "app", PYTHON, 1),
    "never-waits": Case(python(FORKS.format(count=CROWD, failed=FAILED)), "app", "server", 0),
    "hostly": Case(["/usr/bin/unshare", "--pid", "--fork", "sleep", "1000"], options=(("pid_mode", "host"), ("privileged", True))),
}


Page = dict[Series, float]


@dataclass(frozen=True)
class Scene:
    """All containers, and a page on which they are."""

    page: Page
    containers: dict[str, Container]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the one series that has these labels."""
        found = [value for (series, have), value in self.page.items() if series == name and labels.items() <= set(have)]
        assert len(found) <= 1
        return found[0] if found else None

    def zombies(self, container: str) -> tuple[float | None, float | None]:
        """PID 1's, and those of another parent."""
        name = "coroner_container_zombies"
        return self.value(name, container=container, parent="init"), self.value(name, container=container, parent="other")

    def forensics(self, name: str) -> Forensics:
        """Look at a container from here."""
        path = f"/docker/{self.containers[name].id}"
        identifier = container_id.parse(path)
        assert identifier
        inside = cgroupfs.Cgroup(path, f"{CGROUPS}{path}", 1, has_children=False)
        node = base.Node(proc_root="/proc", files=KernelFiles(0), process_table=ProcessTable("/proc", 0))
        return examine(node, base.Container(("", "", name), identifier, inside, base.Info()))


def said(page: Page, container: str) -> Said:
    """Return what the page says of a PID 1, by what it is about and the labels of that."""
    prefix, known = "coroner_container_init_", {}
    for (name, have), value in page.items():
        mine = dict(have)
        if mine.get("container") == container and name.startswith(prefix):
            known[(name.removeprefix(prefix), *(mine[label] for label in ("comm", "role", "signal") if label in mine))] = value
    return known


def expected(name: str) -> Said:
    """Return what the page is to say."""
    case = CASES[name]
    if case.role is None:
        return {}
    found: Said = {("info", case.comm, case.role): 1, ("ignores_sigchld",): name == "quits"}
    if case.handles is not None:
        found["handles_stop_signal", case.signal] = case.handles
    if case.is_wrapper is not None:
        found["is_wrapper",] = case.is_wrapper
    return found


@pytest.fixture(name="scene", scope="module")
def scene_(docker: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Start all, let probes come into one of them, and take a page when all is as it is to be, or late."""
    volumes = {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}
    with docker_containers(docker) as run, agents(tmp_path_factory.mktemp("init")) as agent:
        starts = [partial(run, *case.command, name=name, volumes=volumes, **dict(case.options)) for name, case in CASES.items()]
        coroner = agent()
        containers = dict(zip(CASES, in_parallel(*starts), strict=True))
        probed = containers["probed-exec-form"]
        containers["guest"] = run("sleep", "1000", name="guest", pid_mode=f"container:{probed.id}")
        for _ in range(PROBES):
            probed.exec_run(["sh", "-c", "true & exit 0"])
        pages: list[Page] = []

        def is_complete() -> bool:
            pages[:] = [coroner.scrape()]
            counts = [value for (name, _), value in pages[0].items() if name == "coroner_container_zombies"]
            return CROWD in counts and all(said(pages[0], name) == expected(name) for name in CASES)

        with contextlib.suppress(AssertionError):  # the tests say what is missing
            wait_for(is_complete, 60, "")
        yield Scene(pages[0], containers)
        for pid in (cgroup(containers["dead-leader"]) / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)  # Docker takes its init for a zombie that cannot be killed


@pytest.mark.parametrize("name", CASES)
def test_what_pid_1_is_and_does_with_its_stop_signal(scene: Scene, name: str) -> None:
    """By its own name, and by the signal that Docker will send; of one in the host's PID namespace, which has made another, nothing."""
    assert said(scene.page, name) == expected(name)


def test_of_a_container_in_the_namespace_of_another_nothing_is_said(scene: Scene) -> None:
    """It is there all the same, and nothing has failed."""
    assert scene.value("coroner_container_threads", container="guest")
    assert scene.value("coroner_container_threads", container="hostly")
    assert said(scene.page, "guest") == {}
    assert scene.value("coroner_scrape_collector_success", collector="init") == 1


def test_hundreds_of_zombies_of_an_app_that_never_waits_are_its_own(scene: Scene) -> None:
    """It is named by both of its PIDs, with what it has started and how that ended."""
    assert scene.zombies("never-waits") == (CROWD, 0)
    (culprit,) = scene.forensics("never-waits").culprits
    assert (culprit.zombies, culprit.is_init, culprit.container_pid, culprit.comm) == (CROWD, True, 1, "server")
    assert str(culprit.pid) == (cgroup(scene.containers["never-waits"]) / "cgroup.procs").read_text().strip()
    assert culprit.names == (("worker", CROWD),)
    assert culprit.statuses == ((0, CROWD - FAILED), (3 << 8, FAILED))
    assert (culprit.adopted, culprit.is_exec_probe, culprit.has_waited) == (0, False, False)


def test_a_child_of_an_init_that_never_waits_is_named(scene: Scene) -> None:
    """Not the init."""
    assert scene.zombies("supervised") == (0, 2)
    (culprit,) = scene.forensics("supervised").culprits
    assert (culprit.zombies, culprit.is_init, culprit.comm, culprit.statuses) == (2, False, "server", ((3 << 8, 2),))
    assert culprit.container_pid not in (None, 1)


@pytest.mark.parametrize("name", ["deaf-to-quit", "quits"])
def test_whose_children_are_waited_for_is_clean(scene: Scene, name: str) -> None:
    """By the app, or by the kernel because SIGCHLD is ignored."""
    assert scene.zombies(name) == (0, 0)
    assert scene.forensics(name).culprits == ()


def test_what_exec_probes_leave_under_a_pid_1_that_does_not_reap_is_recognised(scene: Scene) -> None:
    """Each leaves an orphan; the probes themselves were waited for by the shim."""
    assert scene.zombies("probed-exec-form") == (PROBES, 0)
    (culprit,) = scene.forensics("probed-exec-form").culprits
    assert (culprit.zombies, culprit.adopted, culprit.entered, culprit.has_waited) == (PROBES, PROBES, PROBES, False)
    assert culprit.is_exec_probe
    assert culprit.names == (("sh", PROBES),)
    assert culprit.seconds_between
