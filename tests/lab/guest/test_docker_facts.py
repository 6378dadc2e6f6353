"""What real Docker and real Podman tell of a container's life, as the register gets it."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container

from agent.sources.docker import DockerSource
from agent.supervise import keep_running
from collectors.inquest.facts import (
    Configured,
    Created,
    Exited,
    Fact,
    Paused,
    Removed,
    Resumed,
    Signalled,
    Started,
    StopReturned,
    Watched,
)
from collectors.kernel.container_id import ContainerKey
from tests.agent.desk import Desk
from tests.lab.guest.node import DOCKER_URL, PODMAN_URL, Daemon, Podman, Run, cgroup, in_parallel, wait_for


@asynccontextmanager
async def told_by(url: str) -> AsyncIterator[Desk]:
    """Follow a daemon; the block is entered once it answers."""
    desk = Desk()
    source = DockerSource(url=url, tell=desk.tell, identities=desk.identities)
    follower = asyncio.create_task(keep_running(source))
    await source.status.looked(60)
    assert source.status.is_up, source.status.reason
    yield desk
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)


TRAP = "trap 'exit 5' TERM; echo ready; sleep 1000 & wait"


def told_of(desk: Desk, container: Container) -> list[Fact]:
    """Return what was told of a container, but what inspections say beside its life, which may come at any time."""
    return [fact for fact in desk.facts if fact.container == container.id and not isinstance(fact, Configured)]


def life(desk: Desk, container: Container) -> list[str]:
    """Return in words what was told of a container, in order."""
    words = []
    for fact in told_of(desk, container):
        match fact:
            case Signalled():
                words.append(f"signal {fact.signal}")
            case Exited():
                words.append(f"{fact.how} {fact.code}")
            case _:
                words.append(type(fact).__name__)
    return words


def ready(container: Container) -> Container:
    """Return a container once it has said that it is ready."""
    wait_for(lambda: b"ready" in container.logs(), 60, "it does not run")
    return container


def is_empty(directory: Path) -> bool:
    """Whether nothing runs in a cgroup; who removes it is dockerd."""
    return not directory.exists() or not (directory / "cgroup.procs").read_text()


def has_exited(desk: Desk, container: Container) -> bool:
    """Whether a container's end was told."""
    return any(isinstance(fact, Exited) for fact in told_of(desk, container))


def pid_of(container: Container) -> int:
    """Return the PID of its init."""
    container.reload()
    return int(container.attrs["State"]["Pid"])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


def has(desk: Desk, kind: type[Fact]) -> bool:
    """Whether a fact of this kind was told."""
    return any(isinstance(fact, kind) for fact in desk.facts)


async def test_a_forced_stop_of_docker_is_told_signal_by_signal(docker: DockerClient) -> None:
    """PID 1 does not hear SIGTERM, so Docker kills it when its grace is over; `stop` tells that both signals were one stop's."""

    def live() -> ContainerKey:
        container = docker.containers.create("busybox", ["sleep", "1000"], name="deaf", network_disabled=True)
        try:
            container.start()
            container.pause()
            container.unpause()
            container.stop(timeout=1)
        finally:
            container.remove(force=True)
        return ContainerKey(container.id)

    async with told_by(DOCKER_URL) as desk:
        key = await asyncio.to_thread(live)
        await until(lambda: has(desk, Removed))

    facts = [fact for fact in desk.facts if fact.container == key and not isinstance(fact, Configured | Watched)]
    expected = (Created, Started, Paused, Resumed, Signalled, Signalled, Exited, StopReturned, Removed)
    assert [type(fact) for fact in facts] == list(expected)
    assert [fact.signal for fact in facts if isinstance(fact, Signalled)] == [15, 9]
    assert [(fact.how, fact.code) for fact in facts if isinstance(fact, Exited)] == [("runtime", 137)]
    assert [fact.time for fact in facts] == sorted(fact.time for fact in facts)
    assert desk.identities.known[key].state == "removed"


async def test_each_way_to_end_is_told_as_it_was(docker: DockerClient, run: Run) -> None:
    """`docker stop` is told from `docker kill -s TERM` by StopReturned and nothing else. Each life is watched from its creation on."""

    def stop(container: Container) -> None:
        container.stop(timeout=60)

    def paused(container: Container) -> None:
        container.pause()
        container.stop(timeout=60)

    def removed(container: Container) -> None:
        container.remove(force=True)

    shell = ("sh", "-c", TRAP)
    cases: dict[str, tuple[tuple[str, ...], dict[str, object], Callable[[Container], object] | None, list[str]]] = {
        "exit": (("sh", "-c", "exit 3"), {}, None, ["runtime 3"]),
        "gone": (("sh", "-c", "exit 4"), {"auto_remove": True}, None, ["runtime 4", "Removed"]),
        "stop": (shell, {}, stop, ["signal 15", "runtime 5", "StopReturned"]),
        "stop-kill": (shell, {"stop_signal": "SIGKILL"}, stop, ["signal 9", "runtime 137", "StopReturned"]),
        "kill": (shell, {}, lambda container: container.kill(), ["signal 9", "runtime 137"]),
        "kill-term": (shell, {}, lambda container: container.kill("TERM"), ["signal 15", "runtime 5"]),
        "paused": (shell, {}, paused, ["Paused", "signal 15", "Resumed", "runtime 5", "StopReturned"]),
        "removed": (shell, {}, removed, ["signal 9", "runtime 137", "Removed"]),
        "loop": (
            ("sh", "-c", "exit 2"),
            {"restart_policy": {"Name": "on-failure", "MaximumRetryCount": 1}},
            None,
            ["runtime 2", "Started", "Watched", "runtime 2"],
        ),
        "host": (shell, {}, lambda container: os.kill(pid_of(container), signal.SIGKILL), ["runtime 137"]),
    }

    def live(name: str) -> Container:
        command, options, end, _ = cases[name]
        container = run(*command, name=name, **options)
        if end is not None:
            end(ready(container))
        return container

    async with told_by(DOCKER_URL) as desk:
        containers = dict(zip(cases, await asyncio.to_thread(in_parallel, *(partial(live, name) for name in cases)), strict=True))
        expected = {name: ["Created", "Watched", "Started", "Watched", *cases[name][3]] for name in cases}
        await until(lambda: {name: life(desk, containers[name]) for name in cases} == expected)
        inspected = {ContainerKey(containers[name].id) for name in ("stop", "stop-kill")}
        await until(lambda: inspected <= {fact.container for fact in desk.facts if isinstance(fact, Configured)})

    for container in containers.values():
        facts = told_of(desk, container)
        assert [fact.time for fact in facts if not isinstance(fact, Watched)] == sorted(
            fact.time for fact in facts if not isinstance(fact, Watched)
        )
        assert {fact.time for fact in facts if isinstance(fact, Watched)} == {facts[0].time}
    configured = {fact.container: fact for fact in desk.facts if isinstance(fact, Configured)}
    signals = {name: configured[ContainerKey(containers[name].id)].stop_signal for name in ("stop", "stop-kill")}
    assert signals == {"stop": 15, "stop-kill": 9}
    assert configured[ContainerKey(containers["stop"].id)].stop_seconds == 10


async def test_labels_of_a_container_are_no_signal_and_no_exit_code(docker: DockerClient, run: Run) -> None:
    """Docker lets them overwrite its own attributes of an event; so the code is that of an inspection."""
    labels = {"exitCode": "0", "signal": "1", "name": "somebody", "image": "other"}
    async with told_by(DOCKER_URL) as desk:
        container = await asyncio.to_thread(lambda: run("sh", "-c", TRAP, name="liar", labels=labels))
        await asyncio.to_thread(lambda: ready(container).kill("TERM"))
        await until(lambda: any(isinstance(fact, Exited) and fact.code is not None for fact in told_of(desk, container)))

    assert [(fact.how, fact.code) for fact in told_of(desk, container) if isinstance(fact, Exited)] == [("inspect", 5)]
    assert not [fact for fact in told_of(desk, container) if isinstance(fact, Signalled | Watched)]
    assert desk.identities.known[ContainerKey(container.id)].name[2] == "liar"


async def test_deaths_while_dockerd_is_down_are_told_once_it_is_back(docker: DockerClient, run: Run, dockerd: Daemon) -> None:
    """No event ever tells of them. Of one that Docker starts again the end of the life before is left; and stops are watched anew."""
    always = {"restart_policy": {"Name": "always"}}
    options = {"live": {}, "dead": {}, "again": always}
    names = tuple(options)

    def start(name: str) -> Container:
        return ready(run("sh", "-c", TRAP, name=name, **options[name]))

    def meanwhile() -> None:
        pids = {name: pid_of(containers[name]) for name in ("dead", "again")}
        dockerd.kill()
        try:
            for name, pid in pids.items():
                os.kill(pid, signal.SIGKILL)
                wait_for(partial(is_empty, cgroup(containers[name])), 60, "it does not end")
        finally:
            dockerd.start()

    async with told_by(DOCKER_URL) as desk:
        started = await asyncio.to_thread(in_parallel, *(partial(start, name) for name in names))
        containers = dict(zip(names, started, strict=True))
        await until(lambda: all("Started" in life(desk, each) for each in started))
        down = time.time()
        await asyncio.to_thread(meanwhile)
        up = time.time()
        for name in ("dead", "again"):
            await until(partial(has_exited, desk, containers[name]))
        await until(lambda: [fact.time for fact in told_of(desk, containers["live"]) if isinstance(fact, Watched)][-1] > down)
        await until(lambda: desk.identities.known[ContainerKey(containers["again"].id)].state == "running")

    exits = {name: [fact for fact in told_of(desk, containers[name]) if isinstance(fact, Exited)] for name in names}
    assert [(fact.how, fact.code) for fact in exits["dead"]] == [("inspect", 137)]
    assert [(fact.how, fact.code) for fact in exits["again"]] == [("inspect", None)]
    assert all(down < exits[name][0].time < up for name in ("dead", "again"))
    assert max(fact.time for fact in told_of(desk, containers["again"]) if isinstance(fact, Started)) > exits["again"][0].time
    assert exits["live"] == []


async def test_a_death_before_the_agent_came_is_told_with_its_times(docker: DockerClient, run: Run) -> None:
    """By the first list; the identity is one that was never seen alive."""
    container = await asyncio.to_thread(lambda: run("sh", "-c", "exit 7", name="early"))
    await asyncio.to_thread(container.wait)
    then = time.time()
    async with told_by(DOCKER_URL) as desk:
        await until(lambda: any(isinstance(fact, Exited) for fact in told_of(desk, container)))

    assert life(desk, container) == ["Created", "Started", "inspect 7"]
    assert all(fact.time < then for fact in told_of(desk, container))
    assert not desk.identities.known[ContainerKey(container.id)].seen_alive


async def test_what_podman_tells_of_an_end_is_its_exit_code(podman: Podman) -> None:
    """It says `kill`, but not with which signal."""
    async with told_by(PODMAN_URL) as desk:
        key = ContainerKey(await asyncio.to_thread(podman, "run", "--detach", "--network=none", "--name=deaf", "busybox", "sleep", "1000"))
        await until(lambda: has(desk, Started))
        await asyncio.to_thread(podman, "kill", key)
        await until(lambda: has(desk, Exited))
        await asyncio.to_thread(podman, "rm", "--force", "--time=0", key)
        await until(lambda: has(desk, Removed))

    facts = [fact for fact in desk.facts if fact.container == key and not isinstance(fact, Configured)]
    assert [type(fact) for fact in facts] == [Created, Started, Exited, Removed], "and no word that stops are told"
    assert [fact.code for fact in facts if isinstance(fact, Exited)] == [137]
