"""Sizes of writable layers at the ends of containers: measured once nobody writes any more, and never half of one that is being removed."""

import asyncio
import logging
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import layer_look
from agent.layer_look import Root
from agent.layer_walk import Pace
from agent.sources import Told, layers_ends
from agent.sources.layers import LayersSource
from collectors.inquest.facts import Born, Emptied, Exited, LayerMeasured
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.last_words import LastWords
from collectors.layers import Layers
from tests.tree import LABELS, A, B, Link, cgroup, collect, docker, node, remove_cgroup, tree

UPPER = "/var/lib/docker/overlay2/7f3c/diff"
SIZE = "coroner_container_writable_layer_bytes"
LATER = 4_000_000_000.0
"""An end behind which nothing on this disk was changed."""


class Host:
    """A node whose containers A and B have a layer, and a source that looks at them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = tree(
            root,
            {"proc/1/root": Link("../../disk"), **cgroup(docker(A)), **cgroup(docker(B)), f"disk{UPPER}/srv/data": 100_000 * "x"},
        )
        self.now = 1000.0
        self.told: list[Told] = []
        self.source = LayersSource(proc_root=f"{root}/proc", tell=self.told.append, clock=lambda: self.now)
        self.looked: list[str] = []
        self.inodes = {one.id.key: one.cgroup.inode for one in node(self.root).containers}
        monkeypatch.setattr(layers_ends, "root_of", self._root_of)

    def _root_of(self, _proc_root: str, directory: str) -> Root:
        self.looked.append(directory.rpartition("/")[2])
        return Root("overlay", UPPER.encode())

    def fact(self, key: ContainerKey, time: float) -> dict[str, Any]:
        """Return what facts of a container have."""
        [one] = [each for each in node(self.root).containers if each.id.key == key]
        return {"container": key, "source": "cgroup", "time": time, "inode": self.inodes[key], "id": one.id, "cgroup": one.cgroup}

    def end(self, key: ContainerKey, time: float) -> Emptied:
        """Return that the last process of a container has ended, which was noticed at once."""
        return Emptied(**self.fact(key, time), words=LastWords())

    def measured(self) -> list[tuple[ContainerKey, int | None]]:
        """Return what was told."""
        return [(fact.container, fact.size) for fact in self.told if isinstance(fact, LayerMeasured)]

    def size(self) -> int:
        """Return what the layer takes."""
        layer = self.root / f"disk{UPPER}"
        return sum(512 * path.lstat().st_blocks for path in (layer, *layer.rglob("*")))

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Let the source work, when it knows where the layers are."""
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

    async def know(self) -> None:
        """Take a census and wait until the layers are known."""
        self.source.compare(node(self.root))
        await self.until(lambda: len(self.source.ends._uppers) == 2)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Make a node with two containers."""
    return Host(tmp_path, monkeypatch)


async def test_an_end_of_the_agent_during_a_walk_is_no_failure(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody wants the answer any more; what fails after that is still logged."""
    entered = threading.Event()
    left = threading.Event()

    def measure(_proc_root: str, _upper: bytes, _ended: float, pace: Pace) -> Any:
        entered.set()
        try:
            while True:
                pace.rest()
                time.sleep(0.001)
        finally:
            left.set()

    monkeypatch.setattr(layers_ends, "measure_end", measure)
    async with host.followed():
        await host.know()
        host.source.ends.ended(host.end(A, LATER))
        await host.until(entered.is_set)
    await host.until(left.is_set)
    await host.until(lambda: not any(thread.name == "layers" for thread in threading.enumerate()))

    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_layer_is_measured_when_its_container_has_ended(host: Host) -> None:
    """Once, and the size is told and stays on the page, as long as the name does."""
    async with host.followed():
        await host.know()
        end = host.end(A, LATER)
        for fact in (Exited(container=A, source="exits", time=LATER, inode=host.inodes[A], how="reaped", status=0), end, end):
            host.source.ends.ended(fact)
        await host.until(lambda: bool(host.measured()))
        host.source.ends.ended(replace(host.end(B, LATER), inode=1))
        remove_cgroup(host.root, docker(A))
        seen = node(host.root)
        named = replace(seen, names={**seen.names, A: LABELS[A]})
        host.source.compare(named)
        page = collect(Layers(ended=host.source.ends.sizes), named)
        host.source.compare(seen)

    assert host.measured() == [(A, host.size())]
    assert [(fact.inode, fact.time) for fact in host.told if isinstance(fact, LayerMeasured)] == [(host.inodes[A], LATER)]
    assert page == {(SIZE, LABELS[A]): host.size()}
    assert not host.source.ends.sizes(), "nobody has the name any more"


async def test_a_layer_that_was_touched_after_the_end_has_no_size(host: Host) -> None:
    """It is being removed, so what is found would be a part of it; and one that is gone has none."""
    async with host.followed():
        await host.know()
        host.source.ends.ended(host.end(A, 1_000_000_000.0))
        await host.until(lambda: len(host.measured()) == 1)
        shutil.rmtree(f"{host.root}/disk{UPPER}")
        host.source.ends.ended(host.end(B, LATER))
        await host.until(lambda: len(host.measured()) == 2)

    assert host.measured() == [(A, None), (B, None)]
    assert not host.source.ends.sizes()
    assert [value for _, labels, value in host.source.samples() if labels == ("gone",)] == [2]


async def test_an_end_that_is_noticed_late_has_no_size(host: Host) -> None:
    """What was removed before that left a mark that is older."""
    async with host.followed():
        await host.know()
        host.source.ends.ended(Emptied(**host.fact(A, LATER)))

    assert host.measured() == [(A, None)]
    assert list(host.source.samples()) == [(metric, labels, 0) for metric, labels, _ in host.source.samples()], "nobody walked"


async def test_what_goes_wrong_with_one_stops_no_other(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once."""
    real = layer_look.measure_end

    def measure(proc_root: str, upper: bytes, ended: float, pace: Pace) -> object:
        if ended != LATER:
            raise RuntimeError("a defect")
        return real(proc_root, upper, ended, pace)

    monkeypatch.setattr(layers_ends, "measure_end", measure)
    with caplog.at_level(logging.ERROR):
        async with host.followed():
            await host.know()
            host.source.ends.ended(host.end(A, 5.0))
            host.source.ends.ended(host.end(B, LATER))
            await host.until(lambda: len(host.measured()) == 2)

    assert host.measured() == [(A, None), (B, host.size())]
    assert [record.message for record in caplog.records] == ["layer of an ended container not looked at"]


async def test_one_that_was_just_born_is_looked_up_before_any_census(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second after its birth; what a container makes in itself is not."""
    monkeypatch.setattr(layers_ends, "_SETTLED_SECONDS", 0.0)
    async with host.followed():
        nested = ContainerKey(f"{A}/{B}")
        host.source.ends.born(Born(**{**host.fact(B, 1.0), "container": nested, "id": ContainerId.of_key(nested)}))
        host.source.ends.born(Born(**host.fact(A, 1.0)))
        await host.until(lambda: bool(host.source.ends._uppers))

    assert host.looked == [A]


async def test_one_that_has_no_root_of_its_own_yet_is_looked_up_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has, also if no census is taken meanwhile; its runtime may take its time on a busy node."""
    monkeypatch.setattr(layers_ends, "_SETTLED_SECONDS", 0.001)
    looked = []

    def root_of(_proc_root: str, directory: str) -> Root:
        looked.append(directory)
        return Root(is_early=True) if len(looked) < 4 else Root("overlay", UPPER.encode())

    monkeypatch.setattr(layers_ends, "root_of", root_of)
    async with host.followed():
        host.source.ends.born(Born(**host.fact(A, 1.0)))
        await host.until(lambda: host.inodes[A] in host.source.ends._uppers)
        host.source.ends.ended(host.end(A, LATER))
        await host.until(lambda: bool(host.measured()))

    assert host.measured() == [(A, host.size())]
    assert len(looked) == 4


async def test_one_that_stays_in_the_nodes_own_root_costs_a_look_with_a_census(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not starting: a census after it was looked at is no birth, from which on it would be looked at again and again."""
    monkeypatch.setattr(layers_ends, "_SETTLED_SECONDS", 0.001)
    looked: list[str] = []

    def root_of(_proc_root: str, directory: str) -> Root:
        looked.append(directory)
        return Root(is_early=True)

    monkeypatch.setattr(layers_ends, "root_of", root_of)
    async with host.followed():
        host.source.compare(node(host.root))
        await host.until(lambda: len(looked) >= 2)
        await asyncio.sleep(0.05)

    assert len(looked) == 2, "one for each container"


async def test_one_without_a_layer_is_looked_at_again_and_not_measured(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may only be starting; of another file system there is nothing to measure, ever."""
    looked: list[str] = []

    def root_of(_proc_root: str, directory: str) -> Root:
        looked.append(directory.rpartition("/")[2])
        return Root("btrfs") if directory.endswith(B.id) else Root()

    monkeypatch.setattr(layers_ends, "root_of", root_of)
    async with host.followed():
        for now in (1000.0, 1001.0, 1031.0):
            host.now = now
            host.source.compare(node(host.root))
            await host.until(lambda: A in looked and host.inodes[B] in host.source.ends._uppers)
        await host.until(lambda: len(looked) == 3)
        host.source.ends.ended(host.end(A, LATER))
        assert not host.source.ends._ends

        host.source.ends.ended(host.end(B, LATER))
        assert not host.source.ends._ends

    assert sorted(looked) == sorted([A, A, B])


def test_the_living_one_of_a_name_is_shown_and_of_the_dead_the_last(tmp_path: Path) -> None:
    """A container of a pod that restarts has another id each time."""
    tree(tmp_path, {**cgroup(docker(A)), **cgroup(docker(B))})
    seen = node(tmp_path)
    ended = replace(seen, containers=(), names={A: LABELS[A], B: LABELS[A]})

    assert collect(Layers(ended=lambda: {A: 1, B: 2}), ended) == {(SIZE, LABELS[A]): 2}
    assert collect(Layers(ended=lambda: {A: 1}), seen) == {}
