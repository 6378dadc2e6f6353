"""The casebook: what was counted stays counted, whenever the agent is killed, and whatever happens to the file."""

import json
import os
import random
import re
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

from tests.lab.guest.node import WAIT, Agent, Run, StartAgent, cgroup, docker_containers, kernel_log, let_go, memory_events, wait_for
from tests.lab.guest.test_oom import kills, node_kills

LOSES_CHILDREN = "mkfifo /go; while :; do read -r _ < /go; tail /dev/zero; done"
"""The OOM killer takes one child each time it is told to go on."""
SHELL = "while :; do tail /dev/zero; sleep 1; done"


def total(agent: Agent) -> float:
    """All kills of the node."""
    return sum(value or 0 for value in node_kills(agent).values())


def victims(agent: Agent) -> list[dict[str, Any]]:
    """What it tells of the victims, newest first."""
    found: list[dict[str, Any]] = json.loads(agent.get("/api/v1/victims"))["victims"]
    return found


@pytest.fixture(scope="module")
def web(docker: DockerClient) -> Iterator[Container]:
    """A container that lives on when its children are killed; what a test before has had killed in it is history to a new casebook."""
    with docker_containers(docker) as run:
        yield run("sh", "-c", LOSES_CHILDREN, name="web", mem_limit="8m")


@contextmanager
def agent_dies_at_random(agent: Agent, seed: int) -> Iterator[Callable[[], int]]:
    """Kill the agent with SIGKILL again and again, and start it again; yields how often that was done. Leaves it running."""
    stop, times, dice = threading.Event(), [0], random.Random(seed)
    problems: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.wait(dice.uniform(0.05, 2.0)):
                agent.kill()
                times[0] += 1
                stop.wait(dice.uniform(0, 1.5))
                agent.start()
        except BaseException as error:  # noqa: BLE001 - it is raised in the test
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: times[0]
    finally:
        stop.set()
        thread.join()
    assert not problems, problems


def test_killed_at_random_moments_while_kills_go_on(agent: StartAgent, run: Run) -> None:
    """Each start goes on where the last agent was killed: the total is what the kernel counted, container by container.

    Slower than ten kills in five seconds: beyond that the kernel does not say whose they are, and those in a container that is gone
    before it is read are nobody's.
    """
    coroner = agent()
    lasting = [run("sh", "-c", SHELL, name=f"steady-{number}", mem_limit="8m") for number in range(1)]
    gone = 0
    with agent_dies_at_random(coroner, seed=7) as deaths:
        while deaths() < 4 or gone < 4 or any(memory_events(container)["oom_kill"] < 5 for container in lasting):
            run("tail", "/dev/zero", name=f"gone-{gone}", mem_limit="8m").wait()
            gone += 1
    for container in lasting:
        container.pause()
    truth = {str(container.name): memory_events(container)["oom_kill"] for container in lasting}

    assert min(truth.values()) >= 5
    truth |= {f"gone-{number}": 1 for number in range(gone)}
    wait_for(lambda: coroner.oom_kills() == truth, 30, f"not {truth}, which is what the kernel says")
    assert coroner.value("coroner_kmsg_lost_records_total") == 0
    assert total(coroner) == sum(truth.values()), node_kills(coroner)
    assert node_kills(coroner)["container"] == total(coroner)


def test_kills_while_the_agent_was_down_are_counted_from_the_kernel_log(agent: StartAgent, run: Run) -> None:
    """Also those of a container that was born, killed and removed meanwhile; Docker remembers what it was called."""
    coroner = agent()
    known = run("sh", "-c", WAIT + "tail /dev/zero; sleep 1000", name="known", mem_limit="8m")
    wait_for(lambda: kills(coroner, "known") == 0, 30, "the counter was not born at 0")
    coroner.kill()
    let_go(cgroup(known))
    wait_for(lambda: memory_events(known)["oom_kill"] == 1, 30, "no kill")
    run("tail", "/dev/zero", name="between", mem_limit="8m").wait()
    removed = run("tail", "/dev/zero", name="removed", mem_limit="8m")
    removed.wait()
    removed.remove()

    coroner.start()

    wait_for(lambda: (kills(coroner, "known"), kills(coroner, "between")) == (1, 1), 30, "not counted")
    wait_for(lambda: kills(coroner, "removed") == 1, 30, "what is gone is not counted under its name")
    assert node_kills(coroner) == {"container": 3, "pod": 0, "ancestor": 0, "node": 0}


def test_an_orderly_restart_changes_nothing_on_the_page(agent: StartAgent, run: Run) -> None:
    """Neither counts nor names, also of a container that is gone."""
    coroner, counts = agent(), ("coroner_container_oom_kills_total", "coroner_oom_kills_total")
    container = run("tail", "/dev/zero", name="gone", mem_limit="8m")
    run("sh", "-c", "tail /dev/zero; sleep 1000", name="alive", mem_limit="8m")
    wait_for(lambda: (kills(coroner, "gone"), kills(coroner, "alive")) == (1, 1), 30, "not counted")
    container.remove()
    before = coroner.beginning(*counts)

    assert coroner.stop()[0] == 0
    coroner.start()

    wait_for(lambda: kills(coroner, "alive") is not None, 30, "no name")
    assert coroner.beginning(*counts) == before


def test_a_casebook_damaged_while_the_agent_runs(agent: StartAgent, web: Container) -> None:
    """The agent has all in memory: it makes the file anew, and a restart goes on from that."""
    coroner = agent()
    wait_for(lambda: kills(coroner, "web") == 0, 30, "the counter was not born at 0")

    def another(number: int) -> None:
        killed_child(web)
        wait_for(lambda: kills(coroner, "web") == number, 30, lambda: f"{number} by the kernel, but {kills(coroner, 'web')}")

    another(1)
    for count, damage in ((1, "deleted"), (3, "truncated")):
        damaged(coroner.state / "casebook.sqlite", damage)
        another(count + 1)
        coroner.kill()
        coroner.start()
        restored = count + 1
        wait_for(lambda n=restored: kills(coroner, "web") == n, 30, f"{damage}: not {restored} after the restart")  # type: ignore[misc] # the default binds
        another(count + 2)
        assert total(coroner) == count + 2
        assert coroner.value("coroner_casebook_up") == 1


def test_a_casebook_damaged_while_the_agent_is_down_is_history(agent: StartAgent, web: Container) -> None:
    """What cannot be known is not made up: it counts from its start, exactly, and says that the file was broken."""
    coroner = agent()
    killed_child(web)
    wait_for(lambda: kills(coroner, "web") == 1, 30, "not counted")
    coroner.stop()
    damaged(coroner.state / "casebook.sqlite", "overwritten")

    coroner.start()
    wait_for(lambda: kills(coroner, "web") == 0, 30, "history is counted")
    killed_child(web)
    wait_for(lambda: kills(coroner, "web") == 1, 30, "not counted")
    coroner.kill()
    coroner.start()

    wait_for(lambda: kills(coroner, "web") == 1, 30, "the new casebook did not keep it")
    assert coroner.value("coroner_casebook_up") == 1
    assert "begun anew" in coroner.log


def damaged(file: Path, how: str) -> None:
    """Damage the casebook as a full disk, a crash of the host or a hand does."""
    if how == "deleted":
        for part in file.parent.iterdir():
            part.unlink()
    elif how == "truncated":
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.write_bytes(b"garbage" * 1000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MiB."""
    state = tmp_path / "small"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", state], check=True)
    yield state
    subprocess.run(["umount", "--lazy", state], check=True)


def filled(disk: Path) -> Path:
    """Fill it up; to remove the file that is returned makes room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def killed_child(container: Container) -> None:
    """Let the kernel take a child of a container that lives on."""
    before = memory_events(container)["oom_kill"]
    let_go(cgroup(container))
    wait_for(lambda: memory_events(container)["oom_kill"] == before + 1, 30, "no kill")


def test_on_a_disk_that_is_full_from_the_start(agent: StartAgent, web: Container, small_disk: Path) -> None:
    """It counts in memory and says so; once there is room all of it is kept."""
    ballast = filled(small_disk)
    coroner = agent(f"--path.state={small_disk}")
    wait_for(lambda: kills(coroner, "web") == 0, 30, "the counter was not born at 0")
    killed_child(web)
    wait_for(lambda: kills(coroner, "web") == 1, 30, "not counted")
    assert coroner.value("coroner_casebook_up") == 0
    assert "memory only" in coroner.log
    assert "memory only" in coroner.get("/")

    ballast.unlink()
    wait_for(lambda: coroner.value("coroner_casebook_up") == 1, 60, "it did not try again")
    coroner.kill()
    killed_child(web)
    coroner.start()
    wait_for(lambda: kills(coroner, "web") == 2, 30, f"after the restart {kills(coroner, 'web')}")


def test_on_a_disk_that_fills_up(agent: StartAgent, web: Container, small_disk: Path) -> None:
    """The casebook stays behind; killed then, the next agent goes on from there, and the kernel tells it the rest."""
    before = memory_events(web)["oom_kill"]
    coroner = agent(f"--path.state={small_disk}")
    wait_for(lambda: kills(coroner, "web") == 0, 30, "the counter was not born at 0")
    killed_child(web)
    wait_for(lambda: kills(coroner, "web") == 1, 30, "not counted")
    ballast = filled(small_disk)

    def is_behind() -> bool:
        killed_child(web)
        return coroner.value("coroner_casebook_up") == 0

    wait_for(is_behind, 60, "it has room")
    coroner.kill()
    killed_child(web)
    for _ in range(2):
        coroner.start()
        truth = memory_events(web)["oom_kill"] - before
        wait_for(lambda: kills(coroner, "web") == truth, 30, f"the kernel says {truth}")  # noqa: B023 - called at once
        assert total(coroner) == truth
        killed_child(web)
        coroner.kill()

    ballast.unlink()
    coroner.start()
    wait_for(lambda: coroner.value("coroner_casebook_up") == 1, 60, "it did not try again")
    truth = memory_events(web)["oom_kill"] - before
    wait_for(lambda: kills(coroner, "web") == truth, 30, f"the kernel says {truth}")
    assert total(coroner) == truth


def test_on_a_read_only_disk(agent: StartAgent, web: Container, small_disk: Path) -> None:
    """As on a full one: it counts, says that it cannot keep it, and does so as soon as it can."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    coroner = agent(f"--path.state={small_disk}")
    wait_for(lambda: kills(coroner, "web") == 0, 30, "the counter was not born at 0")
    killed_child(web)
    wait_for(lambda: kills(coroner, "web") == 1, 30, "not counted")
    assert coroner.value("coroner_casebook_up") == 0
    assert "Read-only file system" in coroner.get("/")

    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    wait_for(lambda: coroner.value("coroner_casebook_up") == 1, 60, "it did not try again")
    coroner.kill()
    killed_child(web)
    coroner.start()
    wait_for(lambda: kills(coroner, "web") == 2, 30, f"after the restart {kills(coroner, 'web')}")


def test_poisoned_rows_cost_themselves_alone(agent: StartAgent, web: Container) -> None:
    """Something wrote into the file what no agent writes: it starts, counts on, drops those rows and says how many."""
    coroner = agent()
    wait_for(lambda: kills(coroner, "web") == 0, 30, "the counter was not born at 0")
    for number in (1, 2):
        killed_child(web)
        wait_for(lambda: kills(coroner, "web") == number, 30, "not counted")  # noqa: B023 - called at once
    coroner.stop()
    with sqlite3.connect(coroner.state / "casebook.sqlite") as file:
        file.execute("UPDATE victims SET time = 9e999, usage_bytes = x'ff' WHERE number = 1")
        file.execute("INSERT INTO identities (namespace, pod, container, kills) VALUES ('', '', x'ff', 'many')")
    file.close()
    coroner.start()

    wait_for(lambda: kills(coroner, "web") == 2, 30, f"after the restart {kills(coroner, 'web')}")
    assert [victim["number"] for victim in victims(coroner)] == [2]
    assert (coroner.value("coroner_casebook_set_aside_total"), coroner.value("coroner_casebook_up")) == (2, 1)
    killed_child(web)
    wait_for(lambda: kills(coroner, "web") == 3, 30, "it does not count on")


def number(record: str) -> int:
    """Return the sequence number of a record of the kernel log."""
    return int(record.split(",")[1])


def test_in_a_storm_the_first_victim_of_a_group_has_its_container(agent: StartAgent, run: Run) -> None:
    """Ten reports were printed and its own is suppressed: the group's line, right after its own, names the cgroup."""
    coroner = agent()
    before = number(kernel_log()[-1])
    storm = run("sh", "-c", WAIT + "for n in $(seq 14); do tail /dev/zero; done; touch /done; sleep 1000", name="storm", mem_limit="8m")
    group = run("sh", "-c", "sleep 1000 & " + WAIT + "exec tail /dev/zero", name="group", mem_limit="8m")
    (cgroup(group) / "memory.oom.group").write_text("1")
    wait_for(lambda: (kills(coroner, "storm"), kills(coroner, "group")) == (0, 0), 30, "not born at 0")
    root = Path(f"/proc/{(cgroup(storm) / 'cgroup.procs').read_text().split()[0]}/root")
    let_go(cgroup(storm))
    wait_for((root / "done").exists, 30, "no storm")
    let_go(cgroup(group))
    group.wait()

    wait_for(lambda: len(victims(coroner)) >= 15, 30, "not the victims of both")
    found = victims(coroner)
    first = next(victim for victim in found if victim["container"] == "group")
    assert first["comm"] == "tail", "also where a slow machine kills so slowly that the kernel suppresses no report"
    # The other process may end with PID 1 before its turn to be killed comes: what the kernel says it killed is the truth.
    killed = re.findall(r"Killed process (\d+)", "\n".join(record for record in kernel_log() if number(record) > before))
    truth = len(set(killed)) - 14
    assert truth in (1, 2)
    wait_for(lambda: (kills(coroner, "storm"), kills(coroner, "group")) == (14, truth), 30, "not exact")
    assert total(coroner) == 14 + truth
