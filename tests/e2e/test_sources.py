"""A whole agent over a fake node: bundles on disk, and a kubelet over real TLS that dies."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from agent.app import App
from agent.config import Config, load
from agent.naming import LISTED_WITHIN_SECONDS
from agent.sources.kubernetes import KubernetesSource
from agent.sources.kubernetes_access import Pace
from agent.supervise import keep_running
from collectors import NAMES
from collectors.base import Node
from tests.agent.fake_kubernetes import Kubernetes, owned_by, pod_of, status_of

ID = "a" * 64
POD = "6f3a1c52-9d0e-4b7f-8a21-5c4de0917b33"
INFO = "coroner_container_info"


@pytest.fixture
async def kubelet(tmp_path: Path) -> AsyncIterator[Kubernetes]:
    """A kubelet, and the token and certificate that it wants, in tmp_path."""
    authority = trustme.CA()
    (tmp_path / "token").write_text("first\n")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    async with Kubernetes(authority) as cluster:
        yield cluster


def make_node(root: Path) -> None:
    """Make a container of a pod, as containerd leaves it on a node."""
    cgroup = root / "cgroup" / "kubepods" / "burstable" / f"pod{POD}" / ID
    cgroup.mkdir(parents=True)
    (root / "cgroup" / "cgroup.controllers").write_text("cpu io memory pids\n")
    (cgroup / "pids.current").write_text("3\n")
    bundle = root / "bundles" / ID
    bundle.mkdir(parents=True)
    names = {"container-type": "container", "container-name": "app", "sandbox-name": "web-0", "sandbox-namespace": "shop"}
    annotations = {f"io.kubernetes.cri.{key}": value for key, value in names.items()}
    (bundle / "config.json").write_text(json.dumps({"annotations": annotations}))


def kubernetes(app: App) -> KubernetesSource:
    """Return the agent's source of that kind."""
    [source] = [source for source in app.sources if isinstance(source, KubernetesSource)]
    return source


async def info(app: App) -> dict[str, str]:
    """Scrape; return the labels of the one container, or nothing."""
    page = (await app.render(10, openmetrics=False, compressed=False)).decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    up = {f"up_{sample.labels['source']}": str(sample.value) for sample in samples if sample.name == "coroner_source_up"}
    found = [sample.labels for sample in samples if sample.name == INFO]
    assert len(found) <= 1
    return {**up, **(found[0] if found else {})}


async def until(app: App, condition: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """Scrape until a condition holds, with a deadline."""
    async with asyncio.timeout(120):
        while not condition(labels := await info(app)):
            await asyncio.sleep(0.01)
    return labels


async def test_without_the_kubelet_the_names_of_the_bundles_stay(tmp_path: Path, kubelet: Kubernetes) -> None:
    """It adds the workload and the labels; when it dies, they stay too, and the source says that it is blind."""
    make_node(tmp_path)
    kubelet.put(pod_of("web-0", status_of("app", ID), uid=POD, labels={"tier": "front"}, ownerReferences=[owned_by("StatefulSet", "web")]))
    config = load(
        [
            *(
                f"--path.cgroupfs={tmp_path}/cgroup",
                f"--path.bundles={tmp_path}/bundles",
                "--path.kmsg=/dev/null",
                "--docker.url=",
                "--path.state=",
            ),
            *("--kubernetes.source=kubelet", f"--kubernetes.kubelet-url={kubelet.url}", "--kubernetes.pod-labels=tier"),
            *(f"--kubernetes.token-file={tmp_path}/token", f"--kubernetes.ca-file={tmp_path}/ca.crt"),
        ],
        {},
        NAMES,
    )
    assert isinstance(config, Config)
    app = App(config)
    kubernetes(app)._api._pace = Pace(poll=0.05, seek=0.01, end=0.01)
    followers = [asyncio.create_task(keep_running(source)) for source in app.sources if source.status.source in ("oci", "kubernetes")]
    try:
        labels = await until(app, lambda labels: labels.get("workload") == "web")
        assert (labels["namespace"], labels["pod"], labels["container"]) == ("shop", "web-0", "app")
        assert (labels["container_id"], labels["pod_uid"], labels["label_tier"]) == (f"containerd://{ID}", POD, "front")
        assert (labels["up_oci"], labels["up_kubernetes"]) == ("1", "1")

        await kubelet.__aexit__()
        labels = await until(app, lambda labels: labels["up_kubernetes"] == "0")
        assert (labels["namespace"], labels["pod"], labels["container"], labels["workload"]) == ("shop", "web-0", "app", "web")
    finally:
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)


_BUNDLES = "--path.bundles={root}/bundles"


@pytest.mark.parametrize(("flags", "told"), [([_BUNDLES], True), ([], False), ([_BUNDLES, "--docker.url=unix://{root}/none"], False)])
async def test_states_that_only_a_runtime_knows_are_absent_until_one_has_told(tmp_path: Path, flags: list[str], told: bool) -> None:
    """With nobody to tell of them too; and a daemon that was asked for and is silent leaves them out, whoever else has told."""
    make_node(tmp_path)
    usual = ["--path.cgroupfs={root}/cgroup", "--path.bundles=", "--path.exits=", "--path.kmsg=/dev/null", "--docker.url=", "--path.state="]
    flags = [flag.format(root=tmp_path) for flag in (*usual, "--kubernetes.source=files", *flags)]
    config = load(flags, {}, NAMES)
    assert isinstance(config, Config)
    app = App(config)
    sources = [source for source in app.sources if source.status.source in ("oci", "docker")]
    followers = [asyncio.create_task(keep_running(source)) for source in sources]
    try:
        for source in sources:
            await source.status.looked(20)
        page = (await app.render(10, openmetrics=False, compressed=False)).decode()
    finally:
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)

    assert ('coroner_containers{state="exited"} 0' in page, 'coroner_containers{state="created"} 0' in page) == (told, told)
    assert 'coroner_containers{state="paused"} 0' in page


async def test_with_the_kubelet_alone_a_sandbox_is_no_container(tmp_path: Path, kubelet: Kubernetes) -> None:
    """It lists the containers of a pod and not the sandbox, which was there first; and it knows the runtime, which the path does not."""
    make_node(tmp_path)
    pod = tmp_path / "cgroup" / "kubepods" / "burstable" / f"pod{POD}"
    sandbox = in_order_of_birth(pod / ("b" * 64), pod / ID)
    kubelet.put(pod_of("web-0", status_of("app", ID, runtime="docker"), uid=POD))
    flags = [
        f"--path.cgroupfs={tmp_path}/cgroup",
        "--path.bundles=",
        "--path.exits=",
        "--path.kmsg=/dev/null",
        "--docker.url=",
        "--path.state=",
    ]
    flags += ["--kubernetes.source=kubelet", f"--kubernetes.kubelet-url={kubelet.url}"]
    flags += [f"--kubernetes.token-file={tmp_path}/token", f"--kubernetes.ca-file={tmp_path}/ca.crt"]
    config = load(flags, {}, NAMES)
    assert isinstance(config, Config)
    app = App(config)
    source = kubernetes(app)
    later = 0.0
    app.census._clock = app.census._identities._clock = lambda: time.monotonic() + later
    source._api._pace = Pace(poll=0.05, seek=0.01, end=0.01)
    follower = asyncio.create_task(keep_running(source))
    try:
        labels = await until(app, lambda labels: labels.get("container") == "app")
        assert labels["container_id"] == f"docker://{ID}"
        later = 2 * LISTED_WITHIN_SECONDS
        async with asyncio.timeout(120):
            while sandbox not in (await taken(app)).sandboxes:
                await asyncio.sleep(0.01)
        node = await taken(app)
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)

    assert dict(node.names) == {ID: ("shop", "web-0", "app")}
    assert dict(node.sandboxes) == {sandbox: ("shop", "web-0", "")}


def in_order_of_birth(first: Path, second: Path) -> str:
    """Make the first directory beside the second, and give it the lesser inode: those of cgroups only grow, others need not."""
    first.mkdir()
    if first.stat().st_ino > second.stat().st_ino:
        first.rename(first.with_name("swap"))
        second.rename(first)
        first.with_name("swap").rename(second)
    return first.name


async def taken(app: App) -> Node:
    """Take a census, in the sampling thread as ever."""
    sampler = app.gather._sampler
    return await app.gather.run(lambda: app.census.take(sampler.files, sampler.process_table))


async def test_a_proc_that_is_not_there_is_what_every_source_that_needs_it_names(tmp_path: Path) -> None:
    """On a host whose cgroup v2 is to be looked up in the table of mounts it is not the hierarchy that is to blame."""
    (tmp_path / "cgroup").mkdir()
    nope = f"{tmp_path}/nope"
    arguments = (f"--path.procfs={nope}", f"--path.cgroupfs={tmp_path}/cgroup", f"--path.state={tmp_path}/state", "--path.kmsg=/dev/null")
    config = load([*arguments, "--docker.url=", "--path.bundles=", "--path.exits="], {}, NAMES)
    assert isinstance(config, Config)
    app = App(config)

    await app.render(10, openmetrics=False, compressed=False)

    assert app.cgroup_status.reason.startswith(f"{nope}/self/mountinfo: No such file or directory")
    assert "--path.procfs" in app.cgroup_status.reason
    assert "v1" not in app.cgroup_status.reason
    assert app.casebook.reason.startswith(f"{nope}/sys/kernel/random/boot_id cannot be read (--path.procfs)")
    assert f"{nope}: No such file or directory" in app.proc_status.reason
    app.gather._sampler.retire()
    app.casebook.close()
