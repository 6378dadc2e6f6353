"""What real Docker and real Podman tell of a container's life, as the register gets it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from docker import DockerClient

from agent.sources.docker import DockerSource
from collectors.inquest.facts import Created, Exited, Fact, Paused, Removed, Resumed, Signalled, Started, StopReturned
from collectors.kernel.container_id import ContainerKey
from tests.agent.desk import Desk
from tests.lab.guest.node import DOCKER_URL, PODMAN_URL, Podman


@asynccontextmanager
async def told_by(url: str) -> AsyncIterator[Desk]:
    """Follow a daemon; the block is entered once it answers."""
    desk = Desk()
    source = DockerSource(url=url, tell=desk.tell, identities=desk.identities)
    follower = asyncio.create_task(source.follow())
    await source.status.looked(60)
    assert source.status.is_up, source.status.reason
    yield desk
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)


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

    facts = [fact for fact in desk.facts if fact.container == key]
    expected = (Created, Started, Paused, Resumed, Signalled, Signalled, Exited, StopReturned, Removed)
    assert [type(fact) for fact in facts] == list(expected)
    assert [fact.signal for fact in facts if isinstance(fact, Signalled)] == [15, 9]
    assert [(fact.how, fact.code) for fact in facts if isinstance(fact, Exited)] == [("runtime", 137)]
    assert [fact.time for fact in facts] == sorted(fact.time for fact in facts)
    assert desk.identities.known[key].state == "removed"


async def test_what_podman_tells_of_an_end_is_its_exit_code(podman: Podman) -> None:
    """It says `kill`, but not with which signal."""
    async with told_by(PODMAN_URL) as desk:
        key = ContainerKey(await asyncio.to_thread(podman, "run", "--detach", "--network=none", "--name=deaf", "busybox", "sleep", "1000"))
        await until(lambda: has(desk, Started))
        await asyncio.to_thread(podman, "kill", key)
        await until(lambda: has(desk, Exited))
        await asyncio.to_thread(podman, "rm", "--force", "--time=0", key)
        await until(lambda: has(desk, Removed))

    facts = [fact for fact in desk.facts if fact.container == key]
    assert [type(fact) for fact in facts] == [Created, Started, Exited, Removed]
    assert [fact.code for fact in facts if isinstance(fact, Exited)] == [137]
