"""Names from OCI bundles, on a real file system with real inotify: what runtimes write, and what they never should have written."""

import asyncio
import errno
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.identities import Identity
from agent.inotify import IN_Q_OVERFLOW, Event, Inotify
from agent.page import Page
from agent.sources import directory_rescans, oci
from agent.sources.oci import DEFAULT_BUNDLES, OciSource
from agent.supervise import Blind, keep_running
from collectors.base import gauge
from collectors.inquest.facts import Configured, Removed
from collectors.kernel.container_id import ContainerKey
from tests.agent.desk import Desk

WEB, DB, OTHER = ContainerKey("a" * 64), ContainerKey("b" * 64), ContainerKey("c" * 64)
NEVER = 3600.0
"""A rescan that no test waits for: what is found by then, inotify told."""
SECRET = "hunter2-is-not-yours"
WALL = 1_800_000_000.0


def containerd(container: str = "web", pod: str = "shop-7d4b", **more: object) -> dict[str, Any]:
    """Spell a config.json as containerd writes it for a container of a pod."""
    annotations: dict[str, object] = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": container,
        "io.kubernetes.cri.image-name": "registry.example/web:1",
        "io.kubernetes.cri.sandbox-id": "5" * 64,
        "io.kubernetes.cri.sandbox-name": pod,
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-uid": "11111111-2222-3333-4444-555555555555",
    }
    return config(annotations | more)


def containerd_sandbox() -> dict[str, Any]:
    """Spell a config.json as containerd writes it for a sandbox: it has neither image nor container name."""
    found = containerd()
    found["annotations"]["io.kubernetes.cri.container-type"] = "sandbox"
    for key in ("container-name", "image-name"):
        del found["annotations"][f"io.kubernetes.cri.{key}"]
    return found


def crio(identifier: str, container: str = "web", **more: object) -> dict[str, Any]:
    """Spell a config.json as CRI-O writes it for a container of a pod."""
    annotations: dict[str, object] = {
        "io.container.manager": "cri-o",
        "io.kubernetes.container.name": container,
        "io.kubernetes.cri-o.ContainerID": identifier,
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.Image": "sha256:" + "9" * 64,
        "io.kubernetes.cri-o.ImageName": "registry.example/web:1",
        "io.kubernetes.pod.name": "shop-7d4b",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "11111111-2222-3333-4444-555555555555",
    }
    return config(annotations | more)


def config(annotations: object) -> dict[str, Any]:
    """Spell a config.json around annotations, with what else is in one."""
    return {"ociVersion": "1.1.0", "process": {"env": [f"PASSWORD={SECRET}"], "args": [SECRET]}, "annotations": annotations}


class Node:
    """A place where a runtime keeps its bundles, and a source that follows it."""

    def __init__(self, tmp_path: Path, *others: Path, rescan: float = NEVER, notifier: Callable[[], Inotify] = Inotify) -> None:
        self.place = tmp_path / "k8s.io"
        self.place.mkdir(exist_ok=True)
        self.desk = Desk()
        self.identities = self.desk.identities
        self.source = OciSource(
            bundles=[str(self.place), *map(str, others)],
            tell=self.desk.tell,
            identities=self.identities,
            rescan=rescan,
            notifier=notifier,
            wall=lambda: WALL,
        )
        self.status = self.source.status

    def write(self, identifier: str, content: object, *, userdata: bool = False, place: Path | None = None) -> Path:
        """Make a bundle as a runtime does, the directory first; return the path of its config.json."""
        path = (place or self.place) / identifier / ("userdata/config.json" if userdata else "config.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[asyncio.Task[None]]:
        """Follow until the block is left; it is entered once the source is up."""
        task = asyncio.create_task(self.source.follow())
        await self.until(lambda: self.status.is_up or task.done())
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, with a deadline."""
        async with asyncio.timeout(120):
            while not condition():
                await asyncio.sleep(0.005)

    async def settled(self, identifier: ContainerKey) -> None:
        """Wait until a bundle was read and told what it has to tell."""
        await self.until(lambda: identifier in self.source._is_crio)

    async def tried(self, identifier: ContainerKey) -> None:
        """Wait until a bundle was found and then read, in vain."""
        await self._due_again(identifier)
        await self._due_again(identifier)

    async def _due_again(self, identifier: ContainerKey) -> None:
        before = self._due(identifier)
        await self.until(lambda: self._due(identifier) not in (None, before))

    def _due(self, identifier: ContainerKey) -> float | None:
        """When a bundle is read next, if it has to be."""
        bundle = self.source._pending.get(identifier)
        return bundle.due if bundle else None

    def identity(self, identifier: ContainerKey) -> Identity | None:
        """What is known of a container."""
        return self.identities.known.get(identifier)

    def name(self, identifier: ContainerKey) -> tuple[str, ...]:
        """What a container is called."""
        identity = self.identity(identifier)
        return identity.name if identity else ()

    def value(self, name: str, *labels: str) -> float:
        """One of the source's own metrics."""
        return next(value for metric, values, value in self.source.samples() if (metric.name, values) == (name, labels))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node whose source relies on inotify alone after its first look."""
    return Node(tmp_path)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not give a bundle time before it is called unreadable, and do not wait longer for the fifth look than for the first."""
    monkeypatch.setattr(oci, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(oci, "_FIRST_WAIT_SECONDS", 0.01)


class Broken(Inotify):
    """A queue on a node whose limits are used up."""

    error = errno.ENOSPC

    def add(self, path: str, _mask: int) -> int:
        raise OSError(self.error, os.strerror(self.error), path)


class Deaf(Inotify):
    """A queue that loses everything it is told."""

    def read(self) -> list[Event]:
        super().read()
        return []


class Overflowing(Inotify):
    """A queue that loses everything it is told, and says so."""

    def read(self) -> list[Event]:
        return [Event(-1, IN_Q_OVERFLOW, 0, b"")] if super().read() else []


async def test_container_of_containerd_is_named(node: Node) -> None:
    """All that the annotations tell reaches the identities, and nothing else of the file."""
    node.write(WEB, containerd())
    async with node.follow():
        pass

    assert node.identity(WEB) == Identity(
        name=("shop", "shop-7d4b", "web"),
        image="registry.example/web:1",
        state="running",
        pod_uid="11111111-2222-3333-4444-555555555555",
    )
    assert node.status.reason == ""
    assert node.value("coroner_oci_inotify_up") == 0, "it follows no more"
    assert [node.value("coroner_oci_bundles_total", result) for result in ("named", "nameless", "unreadable")] == [1, 0, 0]


async def test_sandbox_of_containerd_is_one(node: Node) -> None:
    """Its name ends with the pod's."""
    node.write(WEB, containerd_sandbox())
    async with node.follow():
        pass

    assert node.identity(WEB) == Identity(name=("shop", "shop-7d4b", ""), is_sandbox=True, pod_uid="11111111-2222-3333-4444-555555555555")


HANDLER = "io.containerd.cri.runtime-handler"


@pytest.mark.parametrize(
    ("handler", "shim", "holds_pod"),
    [
        ("", "/usr/bin/containerd-shim-runc-v2", False),
        ("runc", "", False),
        ("nvidia", "/opt/kata/bin/containerd-shim-runc-v2", False),
        ("untrusted", "/usr/bin/containerd-shim-runsc-v1", True),
        ("", "/usr/local/bin/containerd-shim-kata-v2", True),
        ("", "/opt/kata/bin/containerd-shim-kata-qemu-v2\n", True),
        ("gvisor", "", True),
        ("runsc-kvm", "", True),
        ("Kata-QEMU", "", True),
        ("my.kata", "", True),
        ("sakata", "", False),
    ],
)
async def test_sandbox_that_holds_its_pod_is_known_by_its_runtime(node: Node, handler: str, shim: str, holds_pod: bool) -> None:
    """gVisor and Kata, by the name of the handler if that is told, or by the shim that containerd runs."""
    sandbox = containerd_sandbox()
    sandbox["annotations"][HANDLER] = handler
    path = node.write(WEB, sandbox)
    if shim:
        path.with_name("shim-binary-path").write_text(shim)
    async with node.follow():
        pass

    identity = node.identity(WEB)
    assert identity
    assert (identity.is_sandbox, identity.holds_pod) == (True, holds_pod)


async def test_shim_that_containerd_names_after_the_configuration_is_waited_for(node: Node) -> None:
    """It writes config.json first, starts the shim, and says then which: the sandbox is known at once, and more of it a little later."""
    async with node.follow():
        path = node.write(WEB, containerd_sandbox())
        await node.settled(WEB)
        before = node.identity(WEB)
        path.with_name("shim-binary-path").write_text("/usr/bin/containerd-shim-runsc-v1")
        await node.until(lambda: WEB not in node.source._pending)

    after = node.identity(WEB)
    assert before
    assert after
    assert (before.holds_pod, after.holds_pod) == (False, True)
    assert node.value("coroner_oci_bundles_total", "named") == 1


async def test_shim_that_is_never_named_is_not_waited_for_for_long(node: Node, hasty: None) -> None:
    """containerd before 1.6."""
    async with node.follow():
        node.write(WEB, containerd_sandbox())
        await node.until(lambda: WEB in node.source._is_crio and WEB not in node.source._pending)

    assert node.status.reason == ""
    assert node.name(WEB) == ("shop", "shop-7d4b", "")


async def test_shim_of_a_container_is_not_asked_for(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a sandbox can hold its pod."""
    path = node.write(WEB, containerd(**{HANDLER: "runsc"}))
    path.with_name("shim-binary-path").write_text("/usr/bin/containerd-shim-runsc-v1")
    opened = spy_on_opening(monkeypatch)
    async with node.follow():
        pass

    identity = node.identity(WEB)
    assert identity
    assert not identity.holds_pod
    assert "shim-binary-path" not in opened


@pytest.mark.parametrize(("handler", "holds_pod"), [("kata", True), ("runsc", True), ("crun", False), ("", False)])
async def test_sandbox_of_cri_o_that_holds_its_pod_is_known_by_its_handler(node: Node, handler: str, holds_pod: bool) -> None:
    """CRI-O says which in every bundle."""
    node.write(WEB, crio(WEB, "POD", **{"io.kubernetes.cri-o.RuntimeHandler": handler}), userdata=True)
    node.write(DB, crio(DB, **{"io.kubernetes.cri-o.RuntimeHandler": handler}), userdata=True)
    async with node.follow():
        pass

    sandbox, container = node.identity(WEB), node.identity(DB)
    assert sandbox
    assert container
    assert (sandbox.holds_pod, container.holds_pod) == (holds_pod, False)


async def test_container_of_cri_o_is_named(node: Node) -> None:
    """Its config.json lies one directory deeper, and its annotations have other names."""
    async with node.follow():
        node.write(WEB, crio(WEB), userdata=True)
        await node.settled(WEB)

    assert node.identity(WEB) == Identity(
        name=("shop", "shop-7d4b", "web"),
        image="registry.example/web:1",
        state="running",
        pod_uid="11111111-2222-3333-4444-555555555555",
    )


@pytest.mark.parametrize("more", [{"io.kubernetes.cri-o.ContainerType": "sandbox"}, {"io.kubernetes.cri-o.ContainerType": "container"}])
async def test_sandbox_of_cri_o_is_one_whatever_its_pod_says(node: Node, more: dict[str, object]) -> None:
    """A pod's annotations could overwrite the type, but not the name POD, which is not a valid one of a container."""
    async with node.follow():
        node.write(WEB, crio(WEB, "POD", **more), userdata=True)
        await node.settled(WEB)

    identity = node.identity(WEB)
    assert identity
    assert (identity.name, identity.is_sandbox) == (("shop", "shop-7d4b", ""), True)


async def test_what_cri_o_left_behind_is_not_taken_for_alive(node: Node) -> None:
    """It keeps a bundle until the container is removed, on a disk that outlives a boot: what was there before us may have ended."""
    node.write(WEB, crio(WEB), userdata=True)
    async with node.follow():
        node.write(DB, crio(DB, "db"), userdata=True)
        await node.settled(DB)
        old, new = node.identity(WEB), node.identity(DB)
        shutil.rmtree(node.place / DB)
        await node.until(lambda: DB not in node.source._is_crio)

    assert old
    assert new
    assert (old.name[2], old.state, old.seen_alive) == ("web", "unknown", False)
    assert (new.name[2], new.state, new.seen_alive) == ("db", "running", True)
    removed = node.identity(DB)
    assert removed
    assert removed.state == "removed"
    assert removed.ended is not None
    assert node.desk.facts == [Removed(container=DB, source="oci", time=WALL)]


@pytest.mark.parametrize(
    ("value", "number"), [("SIGQUIT", 3), ("3", 3), ("SIGRTMIN+3", 37), ("", None), ("SIGNONE", None), (7, None), ("x" * 2000, None)]
)
async def test_the_stop_signal_is_told_once(node: Node, value: object, number: int | None) -> None:
    """CRI-O, Podman and nerdctl write it, by name or number; what is none is not told."""
    node.write(DB, config({"org.opencontainers.image.stopSignal": value}), userdata=True)
    async with node.follow():
        await node.until(lambda: DB in node.source._is_crio)
        node.source._rescans.lost()
        node.write(WEB, crio(WEB), userdata=True)
        await node.settled(WEB)

    assert node.desk.facts == ([] if number is None else [Configured(container=DB, source="oci", time=WALL, stop_signal=number)])


@pytest.mark.parametrize(
    ("annotations", "userdata"),
    [
        ({}, False),
        (None, False),
        ([], False),
        (["io.kubernetes.cri.sandbox-name"], False),
        (7, False),
        ("io.kubernetes.cri.sandbox-name", False),
        (dict.fromkeys(containerd()["annotations"], 7), False),
        (dict.fromkeys(containerd()["annotations"]), False),
        ({key: {"a": "b"} for key in containerd()["annotations"]}, False),
        (dict.fromkeys(containerd()["annotations"], ""), False),
        (containerd()["annotations"] | {"io.kubernetes.cri.sandbox-name": ["shop"]}, False),
        (containerd()["annotations"] | {"io.kubernetes.cri.sandbox-namespace": ""}, False),
        (containerd()["annotations"] | {"io.kubernetes.cri.container-name": None}, False),
        (containerd()["annotations"] | {"io.kubernetes.cri.container-name": "x" * 1_000_000}, False),
        ({"nerdctl/name": "web", "org.opencontainers.image.stopSignal": "15"}, False),
        ({"io.container.manager": "libpod", "io.kubernetes.cri-o.SandboxID": DB, "io.kubernetes.cri-o.ContainerType": "container"}, True),
        (crio(WEB)["annotations"], False),
        (containerd()["annotations"], True),
    ],
)
async def test_bundle_without_a_name_tells_nothing(node: Node, annotations: object, userdata: bool) -> None:
    """Docker's and Podman's have none; what is no text is none. It is read once and not complained about."""
    node.write(WEB, config(annotations), userdata=userdata)
    async with node.follow():
        pass

    assert WEB in node.source._is_crio
    assert node.identity(WEB) is None
    assert node.status.reason == ""
    assert node.value("coroner_oci_bundles_total", "nameless") == 1


async def test_image_cannot_name_its_container_through_podman(node: Node) -> None:
    """Podman copies an image's annotations into the bundle, all of them; but an image does not know the id its container will get."""
    async with node.follow():
        node.write(WEB, crio(DB), userdata=True)
        node.write(DB, crio(DB), userdata=True)
        await node.settled(WEB)
        await node.settled(DB)

    assert node.name(WEB) == ()
    assert node.name(DB) == ("shop", "shop-7d4b", "web")


@pytest.mark.parametrize("name", ['a"} 1\nb{c="', "new\nline", "\u202egpj.exe", "\x00\x1b[2J", "\ud800", "ü" * 1024])
async def test_hostile_name_is_data(node: Node, name: str) -> None:
    """It is kept as it is, and cannot break the page."""
    node.write(WEB, containerd(name))
    async with node.follow():
        pass

    assert node.name(WEB) == ("shop", "shop-7d4b", name)
    page = Page().render([(gauge("coroner_x", "X."), node.name(WEB), 1)], openmetrics=True)
    assert page.count(b"\n") == 4


async def test_birth_is_told_by_inotify(node: Node) -> None:
    """A container has its name before its process has started, without a rescan."""
    async with node.follow():
        assert node.value("coroner_oci_inotify_up") == 1
        node.write(WEB, containerd())
        await node.until(lambda: node.name(WEB) != ())


async def test_bundle_that_is_moved_into_place_is_a_birth(node: Node, tmp_path: Path) -> None:
    """However it comes to be there."""
    node.write(WEB, containerd(), place=tmp_path)
    async with node.follow():
        (tmp_path / WEB).rename(node.place / WEB)
        await node.settled(WEB)

    assert node.name(WEB) == ("shop", "shop-7d4b", "web")


async def test_bundle_that_is_deleted_is_an_end(node: Node) -> None:
    """The name stays, for the dead are kept. containerd deletes it when its container has ended, which is not removed by that."""
    node.write(WEB, containerd())
    async with node.follow():
        shutil.rmtree(node.place / WEB)
        await node.until(lambda: WEB not in node.source._is_crio)

    identity = node.identity(WEB)
    assert identity
    assert (identity.name, identity.state) == (("shop", "shop-7d4b", "web"), "exited")
    assert identity.ended is not None
    assert node.desk.facts == []


async def test_bundle_that_is_renamed_away_is_an_end(node: Node) -> None:
    """containerd renames it to .ID and then deletes what is in it: its directory is never deleted by its own name."""
    node.write(WEB, containerd())
    async with node.follow():
        (node.place / WEB).rename(node.place / f".{WEB}")
        await node.until(lambda: WEB not in node.source._is_crio)

    identity = node.identity(WEB)
    assert identity
    assert identity.state == "exited"


@pytest.mark.parametrize("how", ["told by inotify", "found by a rescan"])
async def test_container_in_two_places_ends_with_the_last(tmp_path: Path, how: str) -> None:
    """CRI-O writes to a volatile directory and a lasting one, and deletes both."""
    other = tmp_path / "other"
    node = Node(tmp_path, other)
    if how == "told by inotify":
        other.mkdir()
    async with node.follow():
        node.write(WEB, crio(WEB), userdata=True)
        await node.settled(WEB)
        node.source._rescans._due = NEVER * 1e6 if other.exists() else 0
        node.write(WEB, crio(WEB), userdata=True, place=other)
        node.write(DB, crio(DB, "db"), userdata=True)
        await node.settled(DB)
        shutil.rmtree(node.place / WEB)
        shutil.rmtree(node.place / DB)
        await node.until(lambda: DB not in node.source._is_crio)
        identity = node.identity(WEB)
        assert identity
        assert identity.state == "running"
        shutil.rmtree(other / WEB)
        await node.until(lambda: WEB not in node.source._is_crio)

    identity = node.identity(WEB)
    assert identity
    assert identity.state == "removed"
    assert node.value("coroner_oci_bundles_total", "named") == 2


async def test_place_that_is_given_twice_is_one(tmp_path: Path) -> None:
    """Or a container would not end before the other has been listed as well."""
    node = Node(tmp_path, tmp_path / "k8s.io")
    node.write(WEB, containerd())
    async with node.follow():
        shutil.rmtree(node.place / WEB)
        await node.until(lambda: WEB not in node.source._is_crio)


async def test_rescan_finds_births_and_ends_that_inotify_missed(tmp_path: Path) -> None:
    """Notifications are hints: what was not there at the last look is as new as if one had been told."""
    node = Node(tmp_path, rescan=0.02, notifier=Deaf)
    node.write(DB, containerd("db"))
    async with node.follow():
        (node.place / OTHER).mkdir()
        node.write(WEB, crio(WEB), userdata=True)
        shutil.rmtree(node.place / DB)
        await node.until(lambda: node.name(WEB) != () and DB not in node.source._is_crio and OTHER in node.source._pending)
        (node.place / OTHER).rmdir()
        await node.until(lambda: OTHER not in node.source._pending)

    new, old = node.identity(WEB), node.identity(DB)
    assert new
    assert old
    assert (new.state, new.seen_alive, old.state) == ("running", True, "exited")


async def test_full_queue_is_made_up_for_by_a_rescan(tmp_path: Path) -> None:
    """What was lost is found, and that something was lost is counted."""
    node = Node(tmp_path, notifier=Overflowing)
    node.write(DB, containerd("db"))
    async with node.follow():
        node.write(WEB, containerd())
        shutil.rmtree(node.place / DB)
        await node.until(lambda: node.name(WEB) != () and DB not in node.source._is_crio)

    assert node.value("coroner_oci_inotify_overflows_total") >= 1


@pytest.mark.parametrize(("error", "setting"), [(errno.ENOSPC, "max_user_watches"), (errno.EMFILE, "max_user_instances")])
async def test_without_inotify_a_rescan_finds_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: int, setting: str
) -> None:
    """It is still up, and says once what is missing and which limit to raise."""
    monkeypatch.setattr(directory_rescans, "UNNOTIFIED_SECONDS", 0.01)
    monkeypatch.setattr(Broken, "error", error)
    caplog.set_level("INFO")
    node = Node(tmp_path, notifier=Broken)
    async with node.follow():
        for identifier in (WEB, DB):
            node.write(identifier, containerd(identifier[:1]))
            await node.settled(identifier)
        shutil.rmtree(node.place / DB)
        await node.until(lambda: DB not in node.source._is_crio)
        assert node.value("coroner_oci_inotify_up") == 0
        assert node.status.is_up
        assert f"fs.inotify.{setting}" in node.status.reason
        assert os.strerror(error) in node.status.reason
        monkeypatch.setattr(Broken, "add", Inotify.add)
        await node.until(lambda: node.value("coroner_oci_inotify_up") == 1)
        await node.until(lambda: node.status.reason == "")

    assert len(caplog.records) == 2


async def test_no_instance_of_inotify_left_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is no queue or no room for a watch in it."""
    monkeypatch.setattr(directory_rescans, "UNNOTIFIED_SECONDS", 0.01)

    def none_left() -> Inotify:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "inotify_init1")

    node = Node(tmp_path, notifier=none_left)
    async with node.follow():
        node.write(WEB, containerd())
        await node.settled(WEB)
        assert node.value("coroner_oci_inotify_up") == 0

    assert "fs.inotify.max_user_instances" in node.status.reason


async def test_config_that_is_half_written_is_read_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory comes first, then an empty file, then some of it; for a while nothing of that is a complaint."""
    monkeypatch.setattr(oci, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(oci, "_PATIENCE_SECONDS", NEVER)
    whole = json.dumps(containerd()).encode()
    async with node.follow():
        (node.place / WEB).mkdir()
        await node.tried(WEB)
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            node.write(WEB, whole[:length])
            await node.tried(WEB)
        assert (node.identity(WEB), node.status.reason) == (None, "")
        node.write(WEB, whole)
        await node.settled(WEB)

    assert node.name(WEB) == ("shop", "shop-7d4b", "web")
    assert node.value("coroner_oci_bundles_total", "unreadable") == 0


async def test_config_may_come_long_after_its_directory(tmp_path: Path, hasty: None) -> None:
    """CRI-O sets up the network in between; the directory alone is not a complaint."""
    node = Node(tmp_path, rescan=0.02)
    async with node.follow():
        (node.place / WEB).mkdir()
        await node.until(lambda: WEB in node.source._pending and node.source._pending[WEB].wait == 0.02)
        assert node.status.reason == ""
        node.write(WEB, crio(WEB), userdata=True)
        await node.settled(WEB)

    assert node.name(WEB) == ("shop", "shop-7d4b", "web")
    assert node.value("coroner_oci_bundles_total", "unreadable") == 0


def make_symlink(config: Path) -> None:
    """A link to somebody else's file, of which we must not tell a word."""
    target = config.parent.parent.parent / "elsewhere.json"
    target.write_text(json.dumps(containerd()))
    config.symlink_to(target)


def make_large(config: Path) -> None:
    """More than any runtime writes, and valid."""
    config.write_text(json.dumps(containerd()) + " " * (16 << 20))


def make_huge(config: Path) -> None:
    """More than there is memory, and empty."""
    config.touch()
    os.truncate(config, 1 << 40)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.touch(), "not complete JSON"),
    "cut": (lambda path: path.write_text(json.dumps(containerd())[:-1]), "not complete JSON"),
    "not JSON": (lambda path: path.write_text(f"PASSWORD={SECRET}"), "not complete JSON"),
    "JSON and more": (lambda path: path.write_text(json.dumps(containerd()) + SECRET), "not complete JSON"),
    "a list": (lambda path: path.write_text(f'["{SECRET}"]'), "not complete JSON"),
    "null": (lambda path: path.write_text("null"), "not complete JSON"),
    "not UTF-8": (lambda path: path.write_bytes(b'{"annotations": {"a": "\xff' + SECRET.encode() + b'"}}'), "not complete JSON"),
    "binary": (lambda path: path.write_bytes(bytes(range(256)) * 16), "not complete JSON"),
    "deep": (lambda path: path.write_text('{"a":' * 100_000), "not complete JSON"),
    "deep lists": (lambda path: path.write_text("[" * 500_000 + "]" * 500_000), "not complete JSON"),
    "large": (make_large, "larger than 16 MiB"),
    "huge": (make_huge, "larger than 16 MiB"),
    "a symlink": (make_symlink, os.strerror(errno.ELOOP)),
    "a pipe": (os.mkfifo, "not a regular file"),
    "a directory": (lambda path: path.mkdir(), "not a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), os.strerror(errno.ELOOP)),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("layout", [".", "userdata"])
async def test_config_that_cannot_be_read_is_said_and_stops_nothing(
    node: Node, hasty: None, caplog: pytest.LogCaptureFixture, kind: str, layout: str
) -> None:
    """The others are named, the note says which is not and why, nothing of its content is said, and once it is right it is read."""
    make, reason = BAD[kind]
    bad = node.place / WEB / layout / "config.json"
    caplog.set_level("DEBUG")
    async with node.follow():
        bad.parent.mkdir(parents=True)
        make(bad)
        node.write(DB, containerd("db"))
        await node.settled(DB)
        await node.until(lambda: reason in node.status.reason)
        await node.until(lambda: node.value("coroner_oci_bundles_total", "unreadable") == 1)
        assert node.status.is_up
        assert node.status.reason.startswith(f"{node.place}/{WEB}: ")
        assert (node.identity(WEB), node.name(DB)) == (None, ("shop", "shop-7d4b", "db"))
        bad.rename(node.place / "bad")
        await node.until(lambda: node.status.reason == "")
        node.write(WEB, containerd())
        await node.settled(WEB)

    assert node.name(WEB) == ("shop", "shop-7d4b", "web")
    said = [caplog.text, *(repr(vars(record)) for record in caplog.records), repr(vars(node.source))]
    assert not any(SECRET in text for text in said)


def crowded() -> dict[str, Any]:
    """Spell a config.json in a namespace of 2,900 Services, each of which is in the environment seven times; 1.2 MB."""
    found = containerd()
    for number in range(2900):
        host = f"A_SERVICE_OF_THE_SHOP_{number}_PORT"
        found["process"]["env"] += [f"{host}{more}=tcp://10.96.{number % 250}.1:80" for more in ("", *"ABCDEF")]
    return found


async def test_container_in_a_namespace_of_many_services_is_named(node: Node) -> None:
    """Its environment is larger than 1 MiB, and such a process does start; others have their turn while it is read."""
    path = node.write(WEB, crowded())
    assert path.stat().st_size > 1 << 20
    turns = itertools.count()

    async def count() -> None:
        while True:
            next(turns)
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    async with node.follow():
        counter.cancel()

    assert node.name(WEB) == ("shop", "shop-7d4b", "web")
    assert node.status.reason == ""
    assert next(turns) > 30


async def test_large_config_that_the_kernel_log_told_of_is_read_next(node: Node) -> None:
    """Not at once, for that would keep everybody waiting; and once."""
    async with node.follow():
        path = node.write(WEB, crowded(), place=node.place.parent)
        path.parent.rename(node.place / WEB)
        node.identities.hear("kmsg", WEB)
        await node.settled(WEB)

    assert node.name(WEB) == ("shop", "shop-7d4b", "web")
    assert node.value("coroner_oci_bundles_total", "named") == 1


async def test_large_config_whose_bundle_goes_while_it_is_read_has_ended(node: Node) -> None:
    """What was read of it is from before: it must not come to life by that."""
    async with node.follow():
        path = node.write(WEB, crowded(), place=node.place.parent)
        path.parent.rename(node.place / WEB)
        await node.until(lambda: WEB in node.source._pending)
        steps = node.source._read(WEB)
        told: object = None
        next(steps)
        node.source._gone(WEB)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                told = end.value
                break

    assert told == {}
    assert WEB not in node.source._is_crio


async def test_nothing_of_a_bundle_but_its_annotations_is_kept(node: Node) -> None:
    """The environment is in the same file."""
    node.write(WEB, containerd(**{"example.com/token": SECRET}))
    async with node.follow():
        pass

    assert SECRET not in repr(vars(node.source)) + repr(vars(node.identities))


@pytest.mark.parametrize("layout", [".", "userdata"])
async def test_bundle_behind_a_symlink_is_not_one(node: Node, hasty: None, tmp_path: Path, layout: str) -> None:
    """Neither the directory with the id nor the one in it may be a link; the directory of all bundles may."""
    node.write(WEB, crio(WEB), userdata=True, place=tmp_path)
    (tmp_path / "link").symlink_to(node.place)
    node.source._directories.directories[0].path = str(tmp_path / "link")
    async with node.follow():
        if layout == ".":
            (node.place / WEB).symlink_to(tmp_path / WEB)
        else:
            (node.place / WEB).mkdir()
            (node.place / WEB / "userdata").symlink_to(tmp_path / WEB / "userdata")
        node.write(DB, crio(DB), userdata=True)
        await node.settled(DB)
        await node.tried(WEB)

    assert (node.identity(WEB), node.status.reason) == (None, "")
    assert node.name(DB) == ("shop", "shop-7d4b", "web")


async def test_what_is_not_named_by_an_id_is_not_opened(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """containers.lock, what is being deleted, and whatever else there is."""
    others = ["web", "A" * 64, "a" * 63, "a" * 65, f".{WEB}", f"{WEB}\n", "g" * 64, "..."]
    for other in others:
        node.write(other, containerd())
    (node.place / "containers.json").touch()
    opened = spy_on_opening(monkeypatch)
    async with node.follow():
        for other in others:
            shutil.rmtree(node.place / other)
            node.write(other, containerd())
        node.write(DB, containerd("db"))
        await node.settled(DB)

    assert set(node.identities.known) == {DB}
    assert {name for name in opened if not name.startswith("/")} <= {DB, "config.json", "userdata"}


def spy_on_opening(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the name of every file that is opened will be added."""
    opened: list[str] = []
    really = os.open

    def spy(path: Any, *rest: Any, **named: Any) -> int:
        opened.append(str(path))
        return really(path, *rest, **named)

    monkeypatch.setattr("agent.sources.oci_bundle.os.open", spy)
    return opened


async def test_bundle_that_vanishes_before_it_is_read_is_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its container was never started, or is over; nobody complains."""
    node.write(WEB, containerd())
    node.write(DB, containerd("db"))
    listed = os.listdir

    def vanish(place: int) -> list[str]:
        names = listed(place)
        shutil.rmtree(node.place / WEB, ignore_errors=True)
        return names

    monkeypatch.setattr("agent.sources.oci_bundle.os.listdir", vanish)
    async with node.follow():
        await node.until(lambda: WEB not in node.source._pending)

    assert set(node.identities.known) == {DB}
    assert node.status.reason == ""


async def test_config_that_may_not_be_read_is_said_with_the_remedy(node: Node, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are named."""
    node.write(WEB, containerd())
    node.write(DB, crio(DB), userdata=True)
    deny(monkeypatch, lambda path, parent: path == "config.json" and os.readlink(f"/proc/self/fd/{parent}").endswith(WEB))
    async with node.follow():
        await node.until(lambda: "Permission denied: run the agent as root" in node.status.reason)

    assert node.identity(WEB) is None
    assert node.name(DB) == ("shop", "shop-7d4b", "web")


def deny(monkeypatch: pytest.MonkeyPatch, is_denied: Callable[[str, int | None], bool]) -> None:
    """Have some files refused to us, as they would be if we were not root."""
    really = os.open

    def refuse(path: str, flags: int, *, dir_fd: int | None = None) -> int:
        if is_denied(path, dir_fd):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return really(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr("agent.sources.oci_bundle.os.open", refuse)


async def test_place_that_may_not_be_listed_is_said_and_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what is in it, so what was in it goes on."""
    other = tmp_path / "other"
    node = Node(tmp_path, other, rescan=0.02)
    node.write(WEB, containerd())
    node.write(DB, containerd("db"), place=other)
    async with node.follow():
        await node.settled(WEB)
        with monkeypatch.context() as patch:
            deny(patch, lambda path, _parent: path == str(other))
            await node.until(lambda: f"{other}: Permission denied" in node.status.reason)
            shutil.rmtree(node.place / WEB)
            await node.until(lambda: WEB not in node.source._is_crio)
            assert DB in node.source._is_crio
        await node.until(lambda: node.status.reason == "")

    identity = node.identity(DB)
    assert identity
    assert identity.ended is None


async def test_only_place_that_may_not_be_listed_is_blindness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the path and the remedy; that it may not be watched either needs no word."""
    monkeypatch.setattr(Broken, "error", errno.EACCES)
    node = Node(tmp_path, notifier=Broken)
    deny(monkeypatch, lambda path, _parent: path == str(node.place))
    async with node.follow() as task:
        with pytest.raises(Blind, match=r"k8s\.io: Permission denied: run the agent as root"):
            await task
    assert not any("inotify" in text for text in node.source._directories.unseen)


async def test_no_place_is_blindness_that_names_them_and_the_setting(tmp_path: Path) -> None:
    """A node whose runtime keeps its bundles elsewhere."""
    (tmp_path / "file").touch()
    node = Node(tmp_path, tmp_path / "other", tmp_path / "file")
    node.place.rmdir()
    async with node.follow() as task:
        with pytest.raises(Blind, match=r"/k8s\.io, .*/other, .*/file; .*--path\.bundles"):
            await task
    assert node.value("coroner_oci_inotify_up") == 0


async def test_place_that_appears_later_is_found(tmp_path: Path) -> None:
    """By the next rescan, and inotify tells of what is in it from then on; until then it is no trouble, even if something else is there."""
    other = tmp_path / "other"
    other.touch()
    node = Node(tmp_path, other, rescan=0.02)
    async with node.follow():
        assert (node.status.reason, node.value("coroner_oci_inotify_up")) == ("", 1)
        other.unlink()
        node.write(WEB, containerd(), place=other)
        await node.settled(WEB)
        assert len(node.source._directories._watches) == 2


async def test_runtime_may_take_its_place_away_and_bring_it_back(node: Node) -> None:
    """While it is gone the source is blind and the containers have ended; then everything is as before."""
    node.write(WEB, containerd())
    wait_over = asyncio.Event()

    async def wait(seconds: float) -> None:
        await wait_over.wait()
        wait_over.clear()

    node.source.rest = wait  # type: ignore[method-assign] # the test says when the next try is due
    supervisor = asyncio.create_task(keep_running(node.source))
    await node.until(lambda: node.name(WEB) != ())
    shutil.rmtree(node.place)
    await node.until(lambda: not node.status.is_up)
    assert "--path.bundles" in node.status.reason
    gone = node.identity(WEB)
    assert gone
    assert gone.state == "exited"

    node.place.mkdir()
    node.write(WEB, containerd())
    wait_over.set()
    await node.until(lambda: node.status.is_up)
    node.write(DB, containerd("db"))
    await node.settled(DB)
    back = node.identity(WEB)
    assert back
    assert (back.state, back.ended, node.status.restarts) == ("running", None, 1)
    supervisor.cancel()
    await asyncio.gather(supervisor, return_exceptions=True)


async def test_place_that_is_made_anew_is_watched_anew(tmp_path: Path) -> None:
    """Even if it was replaced by another in one step: it is the path that is followed, not what was there once."""
    node = Node(tmp_path)
    other = tmp_path / "new"
    node.write(WEB, containerd())
    node.write(DB, containerd("db"), place=other)
    async with node.follow():
        node.place.rename(tmp_path / "old")
        other.rename(node.place)
        await node.settled(DB)
        await node.until(lambda: WEB not in node.source._is_crio)
        shutil.rmtree(node.place / DB)
        await node.until(lambda: DB not in node.source._is_crio)
        await node.until(lambda: watches(node) == 1)


def watches(node: Node) -> int:
    """How many watches the kernel keeps for a source."""
    assert node.source._directories._inotify
    return Path(f"/proc/self/fdinfo/{node.source._directories._inotify.fd}").read_text().count("inotify wd:")


async def test_place_that_is_taken_away_ends_what_was_in_it(tmp_path: Path) -> None:
    """Its bundles are gone with it; the other places go on."""
    other = tmp_path / "other"
    node = Node(tmp_path, other)
    node.write(WEB, containerd())
    node.write(DB, containerd("db"), place=other)
    async with node.follow():
        other.rename(tmp_path / "old")
        await node.until(lambda: DB not in node.source._is_crio)
        assert WEB in node.source._is_crio
        assert (node.status.is_up, node.status.reason) == (True, "")


async def test_five_hundred_bundles_are_read_once_and_leave_the_loop_its_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config.json does not change, so a rescan costs a listing."""
    node = Node(tmp_path, rescan=0.01)
    identifiers = [f"{number:064x}" for number in range(500)]
    for identifier in identifiers:
        node.write(identifier, containerd(identifier[-3:]))
    opened = spy_on_opening(monkeypatch)
    turns = itertools.count()

    async def count() -> None:
        while True:
            next(turns)
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    async with node.follow():
        counter.cancel()
        lists = opened.count(str(node.place))
        await node.until(lambda: opened.count(str(node.place)) > lists + 3)

    assert {key: identity.name[2] for key, identity in node.identities.known.items()} == {key: key[-3:] for key in identifiers}
    assert opened.count("config.json") == 500
    assert next(turns) >= 500 / oci._FILES_PER_TURN


async def test_id_that_the_kernel_log_told_of_is_read_at_once(node: Node) -> None:
    """Also before the source follows: soon the bundle will be gone."""
    node.write(WEB, containerd())
    node.identities.hear("kmsg", WEB)

    assert node.name(WEB) == ("shop", "shop-7d4b", "web")
    async with node.follow():
        shutil.rmtree(node.place / WEB)
        await node.until(lambda: WEB not in node.source._is_crio)
    identity = node.identity(WEB)
    assert identity
    assert identity.state == "exited"
    assert node.value("coroner_oci_bundles_total", "named") == 1


async def test_id_that_was_read_at_once_is_not_read_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when it is told of again, nor when its turn comes."""
    node.write(WEB, containerd())
    opened = spy_on_opening(monkeypatch)
    for _ in range(3):
        node.identities.hear("kmsg", WEB)
    async with node.follow():
        pass

    assert opened.count("config.json") == 1


async def test_id_that_is_told_of_while_others_are_read_is_not_read_twice(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes turns with the rest of the agent, the kernel log too."""
    identifiers = [f"{number:064x}" for number in range(20)]
    for identifier in identifiers:
        node.write(identifier, containerd(identifier[-3:]))
    opened = spy_on_opening(monkeypatch)
    task = asyncio.create_task(node.source.follow())
    async with asyncio.timeout(120):
        while "config.json" not in opened:
            await asyncio.sleep(0)
    assert opened.count("config.json") < 20, "it is in the middle of it"
    for identifier in identifiers:
        node.identities.hear("kmsg", ContainerKey(identifier))
    await node.status.looked(20)

    assert node.status.is_up
    assert opened.count("config.json") == 20
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_id_without_a_bundle_is_looked_for_once_in_a_while(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed over and over costs nothing here; and one that gets a bundle after all is found."""
    opened = spy_on_opening(monkeypatch)
    for _ in range(3):
        node.identities.hear("kmsg", WEB)
    assert len(opened) == 2, "the place, and no bundle in it"

    async with node.follow():
        node.write(WEB, containerd())
        await node.settled(WEB)
    assert node.name(WEB) == ("shop", "shop-7d4b", "web")


async def test_miss_is_forgotten_after_a_while(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is looked for again."""
    monkeypatch.setattr(oci, "_MISS_SECONDS", -1.0)
    node.identities.hear("kmsg", WEB)
    node.write(WEB, containerd())
    node.identities.hear("kmsg", WEB)

    assert node.name(WEB) == ("shop", "shop-7d4b", "web")


async def test_misses_are_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the kernel log tells of."""
    monkeypatch.setattr(oci, "_MOST_MISSES", 10)
    for number in range(100):
        node.identities.hear("kmsg", ContainerKey(f"{number:064x}"))

    assert list(node.source._misses) == [f"{number:064x}" for number in range(90, 100)]


@pytest.mark.parametrize("key", [ContainerKey.of(DB, WEB), "../" + WEB, "web", "", WEB.upper(), WEB + "\n"])
async def test_key_that_is_no_id_of_this_node_is_not_looked_for(node: Node, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A container inside a container has its bundle in there, and its id may be a lie."""
    node.write(WEB, containerd())
    opened = spy_on_opening(monkeypatch)
    node.identities.hear("kmsg", ContainerKey(key))

    assert opened == []
    assert node.name(WEB) == ()


async def test_restart_of_the_follower_forgets_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read stays read, and what ended meanwhile has ended."""
    node.write(WEB, containerd())
    node.write(DB, containerd("db"))
    async with node.follow():
        pass
    shutil.rmtree(node.place / DB)
    opened = spy_on_opening(monkeypatch)
    node.status.down("restarted")
    async with node.follow():
        pass

    assert opened == [str(node.place)]
    identity = node.identity(DB)
    assert identity
    assert identity.state == "exited"


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Compare what is open before and after."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) - before == set()


async def test_no_descriptor_is_left_open(descriptors: None, node: Node) -> None:
    """Of the queue, the places and the bundles, readable or not."""
    before = len(os.listdir("/proc/self/fd"))
    for number, (make, _) in enumerate(BAD.values()):
        (node.place / f"{number:064x}").mkdir()
        make(node.place / f"{number:064x}" / "config.json")
    node.write(WEB, containerd())
    async with node.follow():
        assert len(os.listdir("/proc/self/fd")) == before + 1

    assert len(os.listdir("/proc/self/fd")) == before


def test_default_places_are_those_of_the_known_runtimes() -> None:
    """Absolute, each once: one for each distribution of containerd, and the two of CRI-O."""
    assert len(set(DEFAULT_BUNDLES)) == len(DEFAULT_BUNDLES) == 5
    assert all(path.startswith("/") and not path.endswith("/") for path in DEFAULT_BUNDLES)
