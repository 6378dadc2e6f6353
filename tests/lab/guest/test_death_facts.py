"""What is told of a death beside its cause, by a real kernel and a real Docker."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.errors import APIError
from docker.models.containers import Container

from tests.lab.guest.deaths import wait_for_deaths
from tests.lab.guest.node import PYTHON_TREES, Agent, agents, docker_containers, in_parallel, memory_events, python_command, wait_for

BLIND_TO_ZOMBIES = ["setpriv", "--bounding-set=-sys_ptrace,-mknod", "--inh-caps=-all"]
"""A container may do something that such an agent may not, so it may not ptrace it: the kernel shows it no exit status of a zombie."""
PYTHON = {"volumes": {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}}
LAYER = "coroner_container_writable_layer_bytes"
WRITES = (
    "mkdir -p /data/a/b; for number in $(seq 200); do head -c 25000 /dev/zero >/data/a/b/$number; done; touch /written; "
    "while [ ! -e /go ]; do sleep 0.1; done; exit 3"
)
WAITS = "while :; do sleep 0.1; done"
LOSES_A_CHILD = "tail /dev/zero; while [ ! -e /go ]; do sleep 0.1; done; exit 0"
PROBE = {"test": ["CMD-SHELL", "test -e /well"], "interval": 3 * 10**9, "retries": 1}
"""Every three seconds."""
SESSIONS = "coroner_container_exec_sessions_started_total"
CRASH = python_command("import ctypes; ctypes.string_at(0)")


@dataclass(frozen=True)
class Deaths:
    """The verdicts of one agent, by the names of containers; and of one that only Docker tells exit codes."""

    agent: Agent
    wrote: list[int]
    """Bytes, of the one that stays and of the one that is removed at once."""
    found: dict[str, list[dict[str, Any]]]
    by_code: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def deaths(docker: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deaths]:
    """Bring them about, all at once."""
    with (
        docker_containers(docker) as run,
        agents(tmp_path_factory.mktemp("facts")) as start,
        agents(tmp_path_factory.mktemp("codes")) as start_another,
    ):
        coroner, blind = in_parallel(lambda: start("--source.layers"), lambda: start_another(under=BLIND_TO_ZOMBIES))
        for one in (coroner, blind):  # an agent is ready before Docker has answered it: what began before that has no witness for its stops
            wait_for(lambda one=one: one.value("coroner_source_up", source="docker") == 1, 60, "Docker was not asked")  # type: ignore[misc] # a lambda with a default
        in_parallel(
            lambda: run(*CRASH, name="segv", **PYTHON).wait(),
            lambda: lose_a_child(run("sh", "-c", LOSES_A_CHILD, name="bereft", mem_limit="16m")),
            lambda: fall_ill(coroner, run("sh", "-c", f"trap 'exit 0' TERM; {WAITS}", name="ill", healthcheck=PROBE)),
        )
        wrote = in_parallel(
            lambda: leave_something(coroner, run("sh", "-c", WRITES, name="writer")),
            lambda: leave_something(coroner, run("sh", "-c", WRITES, name="hasty", auto_remove=True)),
        )
        names = dict.fromkeys(("segv", "bereft", "ill", "writer", "hasty"), 1)
        yield Deaths(coroner, wrote, wait_for_deaths(coroner, names), wait_for_deaths(blind, names))


def lose_a_child(container: Container) -> None:
    """Let it exit when the OOM killer has taken its child; Docker's event comes at once, its `OOMKilled` with the end."""
    wait_for(lambda: memory_events(container)["oom_kill"] == 1, 60, "no OOM kill")
    container.exec_run(["touch", "/go"])
    container.wait()


def fall_ill(agent: Agent, container: Container) -> None:
    """Enter it twice and stop it when its health check has failed; the sessions begin at 0."""
    wait_for(lambda: agent.value(SESSIONS, container="ill", kind="exec") == 0, 60, "not born at 0")
    wait_for(lambda: state(container)["Health"]["Status"] == "unhealthy", 60, "it is well")
    for _ in range(2):
        container.exec_run(["true"])
    container.stop(timeout=60)


def leave_something(agent: Agent, container: Container) -> int:
    """Let it exit when its layer was seen; return what it had written, as du counts it."""
    name = str(container.name)
    wait_for(lambda: agent.value(LAYER, container=name) is not None, 120, "its layer is not known")
    wait_for(lambda: container.exec_run(["test", "-e", "/written"]).exit_code == 0, 60, "it has not written")
    container.reload()
    upper = Path(container.attrs["GraphDriver"]["Data"]["UpperDir"])
    wrote = sum(512 * path.lstat().st_blocks for path in (upper, *upper.rglob("*")))
    container.exec_run(["touch", "/go"])
    with contextlib.suppress(APIError):  # it is removed by its end
        container.wait()
    return wrote


def state(container: Container) -> dict[str, Any]:
    """Return what Docker says by now."""
    container.reload()
    found: dict[str, Any] = container.attrs["State"]
    return found


def test_the_kernels_line_about_a_fault_is_evidence(deaths: Deaths) -> None:
    """Of an init, whose process is gone when the line is read; with it nothing is missing where only a code is known, which may be any."""
    for found in (deaths.found, deaths.by_code):
        [segv] = found["segv"]
        assert (segv["cause"], segv["missing"]) == ("crashed", []), segv
        [line] = [each for each in segv["evidence"] if "the kernel logged a fault" in each]
        assert "]: segfault at 0 ip " in line
    assert deaths.by_code["segv"][0]["how"] == "runtime"


def test_what_docker_says_of_an_oom_kill_is_no_more_than_its_opinion(deaths: Deaths) -> None:
    """The child was killed, and not the container."""
    [bereft] = deaths.found["bereft"]
    assert (bereft["cause"], bereft["missing"]) == ("completed", []), bereft
    assert "docker says OOM" in bereft["evidence"]
    assert "docker said OOM" in [what for _, what in bereft["timeline"]], bereft["timeline"]


def test_a_stop_says_for_how_long_the_container_had_been_unhealthy(deaths: Deaths) -> None:
    """Docker tells of the change, not of each probe."""
    [ill] = deaths.found["ill"]
    assert ill["cause"] == "stopped"
    assert [line for line in ill["evidence"] if line.startswith("it had been unhealthy for ") and line.endswith("the stop was asked for")]
    assert [what for _, what in ill["timeline"]].count("its health check said unhealthy") == 1


def test_exec_sessions_are_counted_and_those_of_the_health_check_apart(deaths: Deaths, docker: DockerClient) -> None:
    """As many as dockerd itself remembers; of one without a health check there is no count of it."""
    ill = docker.containers.get("ill")
    started = docker.events(since=0, until=int(time.time()) + 1, filters={"container": ill.id, "event": "exec_start"}, decode=True)
    commands = [event["Action"] for event in started]
    assert commands.count("exec_start: true ") == 2, commands
    counts = [deaths.agent.value(SESSIONS, container="ill", kind=kind) for kind in ("exec", "healthcheck")]
    assert counts == [2, len(commands) - 2]
    assert len(commands) > 2, "the health check ran"
    assert deaths.agent.value(SESSIONS, container="bereft", kind="exec") == 1
    assert deaths.agent.value(SESSIONS, container="bereft", kind="healthcheck") is None


def test_what_a_container_had_written_is_known_after_its_end(deaths: Deaths, docker: DockerClient) -> None:
    """To the byte, also when it was removed; of one that Docker removed meanwhile it is right or absent, never a part."""
    wrote, _ = deaths.wrote
    [writer], [hasty] = deaths.found["writer"], deaths.found["hasty"]
    said = f"it had written {wrote / 2**20:.1f} MiB into its own layer"
    assert said in writer["evidence"], f"{writer}\n{deaths.agent.value('coroner_layer_walks_total', result='gone')}\n{deaths.agent.log}"
    assert said in hasty["evidence"] or "its own layer could not be measured when it had ended" in hasty["evidence"], hasty
    assert deaths.agent.value(LAYER, container="writer") == wrote > 4 << 20
    docker.containers.get("writer").remove()
    wait_for(lambda: deaths.agent.value("coroner_container_threads", container="writer") is None, 60, "it is still there")
    assert deaths.agent.value(LAYER, container="writer") == wrote
    assert deaths.agent.value(LAYER, container="hasty") in (None, deaths.wrote[1])
