"""Which containers are looked at, when, and what becomes of what was found."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.layer_look import Look
from agent.layer_walk import Pace
from agent.sources import Told, layers
from agent.sources.layers import INTERVAL_SECONDS, LayersSource
from agent.supervise import Blind
from collectors.layers import Layer
from tests.tree import LABELS, A, B, C, Link, cgroup, docker, node, remove_cgroup, tree


class Node:
    """A node with containers, and a source whose looks have the outcomes that are given for them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = tree(root, {"proc/1/root": Link("/"), **cgroup(docker(A)), **cgroup(docker(B))})
        self.now = 1000.0
        self.outcomes: dict[str, Look | Exception] = {}
        self.looks: list[str] = []
        self.told: list[Told] = []
        self.source = LayersSource(proc_root=f"{root}/proc", tell=self.told.append, clock=lambda: self.now)
        monkeypatch.setattr(layers, "look", self._look)

    def _look(self, _proc_root: str, directory: str, _pace: Pace) -> Look:
        container = directory.rpartition("/")[2]
        self.looks.append(container)
        outcome = self.outcomes.get(container, Look(Layer("overlay", 4096), "measured"))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def census(self) -> None:
        """Show the source who is there."""
        self.source.compare(node(self.root))

    def found(self) -> dict[str, Layer]:
        """Return what is known of each container that is there."""
        return {one.id.key.id: layer for one in node(self.root).containers if (layer := self.source.found().get(one.cgroup.inode))}

    def results(self) -> dict[str, float]:
        """Return how many walks there were."""
        return {labels[0]: value for _, labels, value in self.source.samples() if value}

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Let the source work."""
        task = asyncio.create_task(self.source.follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to be so."""
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Make a node with two containers."""
    return Node(tmp_path, monkeypatch)


async def test_each_container_is_looked_at_once_in_ten_minutes(host: Node) -> None:
    """However often a census is taken; a new one at once."""
    host.census()
    async with host.followed():
        await host.until(lambda: sum(host.results().values()) == 2)
        tree(host.root, cgroup(docker(C)))
        host.now += INTERVAL_SECONDS - 1
        host.census()
        await host.until(lambda: sum(host.results().values()) == 3)
        assert sorted(host.looks) == sorted([A.id, B.id, C.id])

        host.outcomes[A.id] = Look(Layer("overlay", 8192), "measured")
        host.now += 2
        host.census()
        await host.until(lambda: sum(host.results().values()) == 5)

    assert sorted(host.looks) == sorted([A.id, A.id, B.id, B.id, C.id])
    assert host.found() == {A.id: Layer("overlay", 8192), B.id: Layer("overlay", 4096), C.id: Layer("overlay", 4096)}
    assert host.source.status.is_up


async def test_a_walk_without_a_value_takes_the_last_one_away(host: Node) -> None:
    """It would be one that nobody renews."""
    host.census()
    async with host.followed():
        await host.until(lambda: len(host.found()) == 2)
        host.outcomes[A.id] = Look(Layer("overlay"), "too_large")
        host.now += INTERVAL_SECONDS
        host.census()
        await host.until(lambda: sum(host.results().values()) == 4)

    assert host.found() == {A.id: Layer("overlay"), B.id: Layer("overlay", 4096)}
    assert host.results() == {"measured": 3, "too_large": 1}


async def test_no_container_stops_another(host: Node, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody thought of is logged once, and counted."""
    host.outcomes[A.id] = RuntimeError("a defect")
    host.census()
    with caplog.at_level(logging.ERROR):
        async with host.followed():
            await host.until(lambda: sum(host.results().values()) == 2)
            host.now += INTERVAL_SECONDS
            host.census()
            await host.until(lambda: sum(host.results().values()) == 4)

    assert host.results() == {"measured": 2, "failed": 2}
    assert host.found() == {B.id: Layer("overlay", 4096)}
    assert [record.message for record in caplog.records] == ["layer not looked at"]


async def test_a_problem_is_said_while_a_container_has_it(host: Node) -> None:
    """The source is up, for it tells of the others."""
    host.outcomes[A.id] = Look(Layer("overlay"), problem="out of sight")
    host.census()
    async with host.followed():
        await host.until(lambda: host.source.status.reason == "out of sight")
        assert host.source.status.is_up
        remove_cgroup(host.root, docker(A))
        host.census()
        await host.until(lambda: host.source.status.reason == "")


async def test_a_container_without_an_init_is_looked_at_again_soon(host: Node) -> None:
    """It may only be starting."""
    host.outcomes = {A.id: Look(), B.id: Look()}
    host.census()
    async with host.followed():
        await host.until(lambda: len(host.source._due) == 2)
        host.outcomes = {}
        host.now += 60
        host.census()
        await host.until(lambda: len(host.found()) == 2)
    assert host.results() == {"measured": 2}


async def test_containers_that_are_gone_are_forgotten(host: Node) -> None:
    """Whatever was known of them."""
    host.outcomes[A.id] = Look(Layer("overlay", 1), "measured", "something")
    host.census()
    async with host.followed():
        await host.until(lambda: len(host.source.found()) == 2)
    remove_cgroup(host.root, docker(A))
    remove_cgroup(host.root, docker(B))
    host.census()

    assert not host.source.found()
    assert not host.source._due
    assert not host.source._problems


async def test_a_container_that_ends_while_it_is_looked_at_is_forgotten(host: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its walk counts."""
    is_gone = threading.Event()

    def walk(*_: object) -> Look:
        is_gone.wait(60)
        return Look(Layer("overlay", 1), "measured")

    monkeypatch.setattr(layers, "look", walk)
    remove_cgroup(host.root, docker(B))
    host.census()
    async with host.followed():
        await host.until(lambda: any(thread.name == "layers" for thread in threading.enumerate()))
        remove_cgroup(host.root, docker(A))
        host.census()
        is_gone.set()
        await host.until(lambda: host.results() == {"measured": 1})

    assert not host.source.found()
    assert not host.source._due


async def test_containers_in_containers_are_not_looked_at(host: Node) -> None:
    """One may make as many as it likes."""
    inner = f"{docker(A)}/docker/{C.id}"
    tree(host.root, cgroup(inner))
    seen = node(host.root)
    nested = [one for one in seen.instances if one.id.host_id]
    assert len(nested) == 1
    host.source.compare(node(host.root, names={**LABELS, nested[0].id.key: ("", "", "inner")}))
    async with host.followed():
        await host.until(lambda: sum(host.results().values()) == 2)

    assert sorted(host.looks) == sorted([A.id, B.id])


async def test_a_walk_ends_when_nobody_follows_any_more(host: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its rest, and without a word: the agent is stopping."""
    begun, ended = threading.Event(), threading.Event()

    def walk(_proc_root: str, _directory: str, pace: Pace) -> Look:
        begun.set()
        try:
            while True:
                pace.rest()
        finally:
            ended.set()

    monkeypatch.setattr(layers, "look", walk)
    host.census()
    async with host.followed():
        await host.until(begun.is_set)
        assert not ended.is_set()
    assert await asyncio.to_thread(ended.wait, 60)
    assert host.results() == {}


async def test_without_the_root_of_pid_1_it_is_blind(tmp_path: Path) -> None:
    """It says what it needs."""
    source = LayersSource(proc_root=f"{tmp_path}/proc", tell=list[Told]().append)

    with pytest.raises(Blind, match=r"proc/1/root: .*it needs the node's procfs, CAP_SYS_PTRACE"):
        await source.follow()
