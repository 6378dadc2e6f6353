"""The life of a container of a real Docker: created, started, paused, entered by exec, stopped; and the kernel's own account of it."""

import os
import signal
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.containers import Container

from tests.lab.guest.deaths import wait_for_deaths
from tests.lab.guest.node import HOLD, Agent, Run, StartAgent, cgroup, docker_containers, wait_for

PAUSES, PAUSED = "coroner_container_pauses_total", "coroner_container_paused_seconds_total"
SESSIONS = "coroner_container_exec_sessions"
START, WAITED = "coroner_container_start_timestamp_seconds", "coroner_container_created_to_start_seconds"
CREATED = "coroner_container_created_timestamp_seconds"
NEVER_STARTED, FIRST_STOP = "never-started", "coroner_container_last_stop_grace_left_seconds"
SECOND = 10**9
SLACK = 1.0
"""Seconds by which times of two clocks on one machine may differ; /proc counts hundredths of a second."""


def wait_for_value(agent: Agent, name: str, value: float | None, **labels: str) -> None:
    """Wait until a series has a value, or is absent."""
    wait_for(lambda: agent.value(name, **labels) == value, 60, f"{name} of {labels} is not {value}")


def seconds(agent: Agent, container: str) -> float:
    """Return for how long a container was paused."""
    return agent.value(PAUSED, container=container) or 0.0


def wait_until_it_rises(agent: Agent, container: str) -> None:
    """From page to page, while the container is paused."""
    before = seconds(agent, container)
    wait_for(lambda: seconds(agent, container) > before, 60, "the time of a pause does not rise")


def test_a_pause_counts_once_and_its_time_rises_while_it_lasts(run: Run, shared_agent: Agent) -> None:
    """By Docker or by hand: the kernel tells. It is 0 first, and stays when the container is removed while it is paused."""
    coroner = shared_agent
    container = run("sleep", "1000", name="napper")
    wait_for_value(coroner, PAUSES, 0, container="napper")
    assert seconds(coroner, "napper") == 0
    container.pause()
    wait_for_value(coroner, PAUSES, 1, container="napper")
    wait_until_it_rises(coroner, "napper")
    container.unpause()
    wait_for(lambda: seconds(coroner, "napper") == seconds(coroner, "napper"), 60, "it rises after the pause")
    assert coroner.value(PAUSES, container="napper") == 1
    (cgroup(container) / "cgroup.freeze").write_text("1")
    wait_for_value(coroner, PAUSES, 2, container="napper")
    before = seconds(coroner, "napper")
    container.remove(force=True)
    wait_for(lambda: not cgroup(container).exists(), 60, "it is still there")
    wait_for(lambda: seconds(coroner, "napper") == seconds(coroner, "napper"), 60, "it rises after the end")
    assert coroner.value(PAUSES, container="napper") == 2
    assert seconds(coroner, "napper") >= before


def test_a_pause_from_before_the_agent_is_time_and_no_pause(run: Run, agent: StartAgent) -> None:
    """What it has seen of it."""
    container = run("sleep", "1000", name="asleep")
    container.pause()
    coroner = agent()
    wait_for_value(coroner, PAUSES, 0, container="asleep")
    wait_until_it_rises(coroner, "asleep")
    assert coroner.value(PAUSES, container="asleep") == 0
    container.unpause()


def start_session(docker: DockerClient, container: Container, *command: str) -> str:
    """Start what docker exec --detach does; return its id."""
    session: str = docker.api.exec_create(container.id, list(command))["Id"]
    docker.api.exec_start(session, detach=True)
    return session


def end_session(docker: DockerClient, session: str) -> None:
    """Kill its process, and no other."""
    os.kill(docker.api.exec_inspect(session)["Pid"], signal.SIGKILL)


def test_exec_sessions_are_who_came_from_outside(docker: DockerClient, run: Run, shared_agent: Agent) -> None:
    """Not what they start, which outlives them here, and not what the container itself does."""
    container = run("sh", "-c", "sleep 1000 & sleep 1000", name="entered")
    coroner = shared_agent
    wait_for_value(coroner, SESSIONS, 0, container="entered")
    alone = start_session(docker, container, "sleep", "1001")
    wait_for_value(coroner, SESSIONS, 1, container="entered")
    parent = start_session(docker, container, "sh", "-c", "sleep 1002 & sleep 1002; true")
    wait_for_value(coroner, SESSIONS, 2, container="entered")

    def started() -> int:
        pids = (cgroup(container) / "cgroup.procs").read_text().split()
        return [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids].count(b"sleep\x001002\x00")

    wait_for(lambda: started() == 2, 60, "the session has not started both")
    end_session(docker, parent)
    wait_for_value(coroner, SESSIONS, 1, container="entered")
    end_session(docker, alone)
    wait_for_value(coroner, SESSIONS, 0, container="entered")
    assert started() == 2, "they outlive their session, as children of the container's init"


def test_a_health_check_is_a_session_while_it_runs(run: Run, agent: StartAgent) -> None:
    """Docker does what docker exec does."""
    run("sleep", "1000", name="checked", healthcheck={"test": ["CMD", "sleep", "1000"], "interval": SECOND, "timeout": 500 * SECOND})
    wait_for_value(agent(), SESSIONS, 1, container="checked")


def test_without_a_pid_namespace_of_its_own_a_container_says_nothing_of_sessions(
    docker: DockerClient, run: Run, shared_agent: Agent
) -> None:
    """In that of the host, or of another container, which does not count it either."""
    owner = run("sleep", "1000", name="owner")
    guest = run("sleep", "1000", name="guest", pid_mode=f"container:{owner.id}")
    hostly = run("sleep", "1000", name="hostly", pid_mode="host")
    coroner = shared_agent
    for container in (owner, guest, hostly):
        start_session(docker, container, "sleep", "1003")
    wait_for_value(coroner, SESSIONS, 1, container="owner")
    for name in ("guest", "hostly"):
        wait_for(partial(coroner.value, "coroner_container_threads", container=name), 60, f"{name} is not there")
        assert coroner.value(SESSIONS, container=name) is None


def told(text: str) -> float:
    """Return a time that Docker's inspection has, seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("is_seen", [True, False], ids=["created after the agent", "created before it"])
def test_created_and_never_started_until_it_is(docker: DockerClient, shared_agent: Agent, agent: StartAgent, is_seen: bool) -> None:
    """Then it has waited, in its first life only; the times are Docker's and the kernel's."""
    with docker_containers(docker):
        coroner = shared_agent if is_seen else None
        container = docker.containers.create("busybox", ["sleep", "1000"], name=NEVER_STARTED, network_disabled=True)
        try:
            coroner = coroner or agent()
            live_through(coroner, container)
        finally:
            container.remove(force=True)


def live_through(coroner: Agent, container: Container) -> None:
    """See it created, started, and started again."""
    created = told(container.attrs["Created"])
    wait_for(lambda: coroner.value(CREATED, container=NEVER_STARTED) is not None, 60, "not seen")
    assert coroner.value(CREATED, container=NEVER_STARTED) == pytest.approx(created, abs=SLACK + 1)
    assert coroner.value(START, container=NEVER_STARTED) is None
    container.start()
    container.reload()
    wait_for(lambda: coroner.value(START, container=NEVER_STARTED) is not None, 60, "not started")
    wait_for_value(coroner, CREATED, None, container=NEVER_STARTED)
    first = coroner.value(START, container=NEVER_STARTED) or 0.0
    assert created - SLACK <= first <= told(container.attrs["State"]["StartedAt"]) + SLACK
    waited = coroner.value(WAITED, container=NEVER_STARTED)
    if waited is not None:  # nobody tells an agent of it that came after the creation
        assert waited == pytest.approx(first - created, abs=SLACK)
    container.restart(timeout=0)
    wait_for(lambda: (coroner.value(START, container=NEVER_STARTED) or 0.0) > first, 60, "no second life")
    assert coroner.value(WAITED, container=NEVER_STARTED) is None
    assert coroner.value(CREATED, container=NEVER_STARTED) is None


def histogram(coroner: Agent, *, openmetrics: bool) -> dict[str, float]:
    """Return the node's histogram by the bounds of its buckets, and its count and sum by those words."""
    page = coroner.scrape(openmetrics=openmetrics)
    name = "coroner_stop_duration_seconds"
    return {
        dict(labels).get("le", series.removeprefix(f"{name}_")): value
        for (series, labels), value in page.items()
        if series.startswith(name)
    }


def is_ready(container: Container) -> bool:
    """Whether the shell has got as far as to say so."""
    return bool(container.exec_run(["test", "-e", "/ready"]).exit_code == 0)


def test_stops_are_in_the_histogram_and_what_was_left_of_their_grace(docker: DockerClient, agent: StartAgent) -> None:
    """One that is obeyed and one that is not; an exit is no stop."""
    coroner = agent()
    assert set(histogram(coroner, openmetrics=False).values()) == {0}
    commands = {
        "obeys": (["sh", "-c", f"trap 'exit 0' TERM; touch /ready; {HOLD}"], 400),
        "deaf": (["sh", "-c", "touch /ready; sleep 1000; true"], 2),
        "exits": (["true"], 400),
    }
    made = []
    try:
        for name, (command, grace) in commands.items():
            made.append(docker.api.create_container("busybox", command, name=name, network_disabled=True, stop_timeout=grace)["Id"])
            container = docker.containers.get(name)
            container.start()
            if name != "exits":
                wait_for(partial(is_ready, container), 60, "not ready")
                container.stop()
        found = wait_for_deaths(coroner, dict.fromkeys(commands, 1))
        assert {name: verdict["cause"] for name, [verdict] in found.items()} == {
            "obeys": "stopped",
            "deaf": "forced_kill",
            "exits": "completed",
        }
        taken = {name: found[name][0]["stop_seconds"] for name in ("obeys", "deaf")}
        for openmetrics in (False, True):
            shown = histogram(coroner, openmetrics=openmetrics)
            assert (shown["count"], shown["+Inf"], shown["1.0"]) == (2, 2, sum(each <= 1 for each in taken.values()))
            assert shown["sum"] == pytest.approx(sum(taken.values()))
        assert coroner.value(FIRST_STOP, container="obeys") == pytest.approx(400 - taken["obeys"])
        assert coroner.value(FIRST_STOP, container="deaf") == 0
        assert coroner.value(FIRST_STOP, container="exits") is None
    finally:
        for identifier in made:
            docker.api.remove_container(identifier, force=True)
