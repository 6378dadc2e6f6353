"""How containers ended, as the kernel and the runtimes' own files say it.

The lab's kernel (6.1) keeps no status for who looks after the runtime, so there the kernel's word is a race: it may be missing, and is
never another one. What newer kernels keep is tested with real processes in tests/agent/test_exits_source.py.
"""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

from tests.lab.guest.cri import Program, StartPod
from tests.lab.guest.node import Agent, Podman, Run, StartAgent, cgroup, in_parallel, wait_for

CRI_EXITS = "/run/containerd-data/io.containerd.grpc.v1.cri/containers"
PODMAN_EXITS = "/run/libpod/exits"


def said(agent: Agent, container: str) -> tuple[int, str] | None:
    """Return the wait status that the kernel told of a container, and how; None as long as its init has not ended. Late is (-1, "")."""
    for line in agent.log.splitlines():
        if f"id={container}" in line and "init ended" in line:
            found = re.search(r"status=(\d+) how=(\w+)", line)
            return (int(found[1]), found[2]) if found else (-1, "")
    return None


def codes(agent: Agent, container: str) -> list[int]:
    """Return the codes that runtimes' files told of a container."""
    lines = [line for line in agent.log.splitlines() if "runtime says" in line and f"id={container}" in line]
    return [int(found[1]) for line in lines if (found := re.search(r"code=(\d+)", line))]


def is_watched(agent: Agent, container: str) -> bool:
    """Whether its init was found."""
    return any("init is watched" in line and f"id={container}" in line for line in agent.log.splitlines())


def kill_init(directory: Path) -> None:
    """Kill the only process of a container from the host."""
    [pid] = (directory / "cgroup.procs").read_text().split()
    os.kill(int(pid), signal.SIGKILL)


def test_the_kernel_tells_how_docker_containers_ended_or_that_it_came_too_late(agent: StartAgent, run: Run) -> None:
    """Of each an init is found; 137 is no SIGKILL, and SIGKILL is no 137."""
    coroner = agent("--log.level=debug")
    ends: dict[str, tuple[Callable[[], str], int]] = {
        "zero": (lambda: str(run("true", name="zero").id), 0),
        "three": (lambda: str(run("sh", "-c", "exit 3", name="three").id), 3 << 8),
        "high": (lambda: str(run("sh", "-c", "exit 137", name="high").id), 137 << 8),
        # PID 1 of a namespace cannot send itself a deadly signal, so it crashes below docker-init, which says 128 + n.
        "segv": (lambda: str(run("sh", "-c", "kill -SEGV $$", name="segv", init=True).id), 139 << 8),
    }
    started = {name: start() for name, (start, _) in ends.items()}
    victim = run("sleep", "1000", name="victim")
    wait_for(lambda: is_watched(coroner, str(victim.id)), 60, "its init was not found")
    kill_init(cgroup(victim))

    expected = {started[name]: status for name, (_, status) in ends.items()} | {str(victim.id): int(signal.SIGKILL)}
    wait_for(lambda: all(said(coroner, container) for container in expected), 60, f"not all ends were noticed:\n{coroner.log}")
    told = {container: said(coroner, container) for container in expected}
    late = [container for container, what in told.items() if what == (-1, "")]
    assert {container: what[0] for container, what in told.items() if what and container not in late} == {
        container: status for container, status in expected.items() if container not in late
    }
    assert coroner.value("coroner_exits_missed_total", reason="late") == len(late)
    assert coroner.value("coroner_exits_missed_total", reason="unwatched") == 0
    assert coroner.value("coroner_source_up", source="exits") == 1


def test_a_container_that_is_older_than_the_agent_is_watched(agent: StartAgent, run: Run) -> None:
    """Also one that shares the PID namespace of its host, and has no PID 1."""
    own, shared = in_parallel(
        lambda: run("sleep", "1000", name="own"), lambda: run("sh", "-c", "sleep 1000; exit 5", name="shared", pid_mode="host")
    )
    coroner = agent("--log.level=debug")
    wait_for(lambda: is_watched(coroner, str(own.id)), 60, "the init of its own namespace was not found")
    wait_for(lambda: is_watched(coroner, str(shared.id)), 60, "the oldest process was not found")
    [found] = [line for line in coroner.log.splitlines() if "init is watched" in line and f"id={shared.id}" in line]
    shared.reload()
    assert f"pid={shared.attrs['State']['Pid']}" in found


def test_containerd_says_how_containers_of_pods_ended(agent: StartAgent, pod: StartPod) -> None:
    """In the status file that its CRI keeps; also of one that ended while no agent was there."""
    ends = {"three": "exit 3", "high": "exit 137"}
    web = pod("web", containers={"before": Program(["sh", "-c", "exit 4"])})
    before = web["before"]
    assert before.wait() == 4
    coroner = agent("--docker.url=", "--log.level=debug", f"--path.exits={CRI_EXITS}")
    wait_for(lambda: coroner.value("coroner_source_up", source="exit_files") == 1, 60, "the directory is not read")

    ran = {name: web.run(name, Program(["sh", "-c", script])) for name, script in ends.items()}
    victim = web.run("victim", Program(["sleep", "1000"]))
    wait_for(lambda: is_watched(coroner, victim.id), 60, "its init was not found")
    kill_init(victim.cgroup)
    expected = {before.id: [4], ran["three"].id: [3], ran["high"].id: [137], victim.id: [137]}
    wait_for(lambda: all(codes(coroner, container) for container in expected), 60, f"not all ends were told:\n{coroner.log}")

    assert {container: codes(coroner, container) for container in expected} == expected
    assert said(coroner, victim.id) in ((int(signal.SIGKILL), "zombie"), (-1, "")), "the file has 137 for it"
    assert coroner.value("coroner_exit_files_total", result="malformed") == 0


def test_podman_says_how_its_containers_ended(agent: StartAgent, podman: Podman) -> None:
    """In exit files, which it removes soon, and with --rm at once."""
    coroner = agent("--docker.url=", "--log.level=debug", f"--path.exits={PODMAN_EXITS}")
    usual = ("run", "--detach", "--network=none")
    ended = {
        podman(*usual, "--rm", "busybox", "sh", "-c", "sleep 1; exit 3"): 3,
        podman(*usual, "--rm", "busybox", "sh", "-c", "sleep 1; exit 137"): 137,
        podman(*usual, "busybox", "true"): 0,
    }
    wait_for(lambda: all(codes(coroner, container) for container in ended), 60, f"not all ends were told:\n{coroner.log}")

    assert {container: codes(coroner, container) for container in ended} == {container: [code] for container, code in ended.items()}
