"""Zombies: true counts, and the right one to blame."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guest.node import Agent, Run, wait_for

SEVEN_AND_AN_ORPHAN = """
import os, signal, time
for _ in range(7):
    if os.fork() == 0:
        os._exit(0)
child = os.fork()
if child == 0:
    if os.fork() == 0:
        while os.getppid() == parent_of_orphan:
            time.sleep(0.01)
        os._exit(0)
    os._exit(0)
os.waitpid(child, 0)
print("ready")
signal.pause()
""".replace("while os.getppid() == parent_of_orphan:", "me = os.getppid()\n        while os.getppid() == me and me != 1:")

DEAD_LEADER = """
import ctypes, os, threading, time
if os.fork() == 0:
    threading.Thread(target=time.sleep, args=(1000,)).start()
    print("ready")
    ctypes.CDLL(None).syscall(60, 0)  # exit of this thread alone: the process lives on without its leader
os.wait()
"""


def zombies(agent: Agent, container: str) -> tuple[float | None, float | None]:
    """Zombies of a container: PID 1's fault, and another parent's."""
    name = "coroner_container_zombies"
    return agent.value(name, container=container, parent="init"), agent.value(name, container=container, parent="other")


def test_all_unreaped_children_of_an_init_that_never_waits_are_its_fault(shared_agent: Agent, run_python: Run) -> None:
    """Seven children of its own and one orphan that it adopted."""
    run_python(SEVEN_AND_AN_ORPHAN, name="careless")

    wait_for(lambda: zombies(shared_agent, "careless") == (8, 0), 30, "not eight zombies of init")
    assert shared_agent.value("coroner_pid_namespace_zombies", container="careless") == 8
    assert shared_agent.value("coroner_pid_namespace_processes", container="careless") == 9
    assert shared_agent.value("coroner_container_threads", container="careless") == 9, "zombies hold their place in the PID table"
    first = shared_agent.value("coroner_container_oldest_zombie_timestamp_seconds", container="careless")
    assert first == shared_agent.value("coroner_container_oldest_zombie_timestamp_seconds", container="careless")


def test_under_init_the_orphan_is_reaped_and_the_children_are_the_apps_fault(shared_agent: Agent, run_python: Run) -> None:
    """tini reaps what it adopts, but nobody can wait for another's children."""
    run_python(SEVEN_AND_AN_ORPHAN, name="tinied", init=True)

    wait_for(lambda: zombies(shared_agent, "tinied") == (0, 7), 30, "not seven zombies of the app")


def test_a_dead_leader_with_live_threads_is_not_a_zombie(shared_agent: Agent, run_python: Run) -> None:
    """It is in state Z, but nobody can wait for it while its threads live."""
    container = run_python(DEAD_LEADER, name="leaderless")
    wait_for(lambda: container.logs() == b"ready\n", 30, "the leader did not start")

    def leader_is_dead() -> bool:
        pids = (Path("/sys/fs/cgroup/docker") / str(container.id) / "cgroup.procs").read_text().split()
        return any(f"{pid} (python" in (stat := Path(f"/proc/{pid}/stat").read_text()) and ") Z " in stat for pid in pids)

    wait_for(leader_is_dead, 30, "the leader did not die")
    assert zombies(shared_agent, "leaderless") == (0, 0)
    assert shared_agent.value("coroner_container_oldest_zombie_timestamp_seconds", container="leaderless") is None


@pytest.fixture
def unshared() -> Iterator[subprocess.Popen[str]]:
    """A PID namespace that no container has: its init leaves three children unreaped."""
    code = "import os, signal\nfor _ in range(3):\n    os.fork() or os._exit(0)\nprint('ready', flush=True)\nsignal.pause()"
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def test_a_pid_namespace_without_a_container_counts(shared_agent: Agent, unshared: subprocess.Popen[str]) -> None:
    """`unshare --pid` makes one that no runtime knows of."""
    assert unshared.stdout is not None
    assert unshared.stdout.readline() == "ready\n"
    children = Path(f"/proc/{unshared.pid}/task/{unshared.pid}/ns/pid_for_children").readlink().name
    inode = children.removeprefix("pid:[").removesuffix("]")

    def count() -> float | None:
        return shared_agent.value("coroner_pid_namespace_zombies", pid_namespace=inode, container="")

    wait_for(lambda: count() == 3, 30, lambda: f"not three zombies but {count()}")
    assert shared_agent.value("coroner_pid_namespace_processes", pid_namespace=inode, container="") == 4
