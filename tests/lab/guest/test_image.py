"""The image of deploy/Dockerfile, built by dockerd without a network, and run with the security context of the manifest, and with less.

containerd's CRI runs it as the kubelet has it run (pod_spec.py), but in the network of the node; Docker with what it calls the same, and
with the mounts that a Docker host has.
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

import agent
from tests.deploy import sbom
from tests.deploy.locks import for_this_platform
from tests.lab.guest import cri
from tests.lab.guest.bases import RUN_BASE
from tests.lab.guest.cri import Cri, MakePods, Pod, PodContainer, Program
from tests.lab.guest.image import IMAGE, MADE, Page, build, confined, confinement, docker_options, hand_over
from tests.lab.guest.node import CGROUPS, PYTHON_TREES, Run, in_parallel, python_command, samples, wait_for
from tests.lab.guest.pod_spec import config
from tests.lab.guest.taken_away import (
    CANDIDATE,
    HIDING,
    ISOLATED,
    ISOLATION,
    LAYERS,
    LOSABLE,
    NOT_COMPARED,
    PROCESSES_ALONE,
    SEEN,
    VARIANTS,
)

PATHS = {"/var/lib/containerd/io.containerd.grpc.v1.cri": cri.EXITS}
"""What is elsewhere in the lab."""
DOCKER_SOURCES = ("cgroup", "proc", "kmsg", "exits")
SOURCES = (*DOCKER_SOURCES, "oci", "exit_files")
CARELESS = Program(
    python_command(
        "import os, signal\nfor _ in range(2):\n    os.fork() or os._exit(0)\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(0))\nwhile True:\n    signal.pause()"
    ),
    mounts=PYTHON_TREES,
)
HUNGRY = Program(["sh", "-c", "tail /dev/zero & exec sleep 1000"], memory=30 << 20, oom_group=False)
"""Its victim stays a zombie, or it were a race who looks at it first."""
CLOSE = "mkdir /closed; chown 1000 /closed; chmod 700 /closed"
FULL = Program(["sh", "-c", f"{CLOSE}; dd if=/dev/zero of=/dev/shm/file bs=64k count=448; exec sleep 1000"], memory=30 << 20)
"""What is in its memory belongs to none of its processes; and it has closed a directory of its own to everybody else."""
FAILING = Program(["sh", "-c", "exit 3"])
"""Nobody sees it alive."""
IN_DOCKER = ("all", "no-syslog", "no-pid")
"""Those in which Docker is another: its seccomp profile, and who is PID 1."""


@pytest.fixture(scope="module")
def image(docker: DockerClient) -> Iterator[str]:
    """The image, by the name that it has in the manifest."""
    if not (MADE / ".complete").exists():
        pytest.skip("the wheels and bases of the image are not here: make lab-image")
    build(docker)
    yield IMAGE
    docker.images.remove(IMAGE, force=True)


@pytest.fixture(scope="module", autouse=True)
def like_a_node() -> Iterator[None]:
    """As Debian, Ubuntu and RHEL have the kernel log, and as systemd mounts: of a private mount nothing can be a slave."""
    Path("/proc/sys/kernel/dmesg_restrict").write_text("1")
    for mounted in ("/proc", "/sys/fs/cgroup", "/run"):
        subprocess.run(["mount", "-n", "--make-shared", mounted], check=True)
    for place, option in ((HIDING, "hidepid=4"), (PROCESSES_ALONE, "subset=pid")):
        Path(place).mkdir()
        subprocess.run(["mount", "-n", "-t", "proc", "-o", option, "proc", place], check=True)
    yield
    for place in (HIDING, PROCESSES_ALONE):
        subprocess.run(["umount", "-n", "--lazy", place], check=True)
    for mounted in ("/proc", "/sys/fs/cgroup", "/run"):
        subprocess.run(["mount", "-n", "--make-private", mounted], check=True)
    Path("/proc/sys/kernel/dmesg_restrict").write_text("0")


@dataclass
class InDocker:
    """An agent that Docker runs."""

    page: Page
    container: Container


@pytest.fixture(scope="module")
def in_docker(docker: DockerClient, image: str) -> Iterator[dict[str, InDocker]]:
    """Agents that Docker runs, all of them ready."""
    started: dict[str, InDocker] = {}
    for number, name in enumerate(IN_DOCKER):
        page = Page(11000 + number, VARIANTS[name].change, *VARIANTS[name].flags)
        options = docker_options(page.spec, f"/var/lib/coroner/docker-{name}")
        started[name] = InDocker(page, docker.containers.run(image, detach=True, name=f"coroner-{name}", **options))
    try:
        for each in started.values():
            wait_for(lambda each=each: each.page.get("/readyz"), 60, lambda c=each.container: c.logs().decode())  # type: ignore[misc] # defaults
        yield started
    finally:
        in_parallel(*(lambda c=each.container: c.remove(force=True) for each in started.values()))


@dataclass
class Node:
    """A node with agents in pods, and a pod to look at, in which everything has happened."""

    agents: dict[str, tuple[Page, PodContainer]]
    web: Pod

    def sees(self, page: Page) -> dict[str, Any]:
        """Say what an agent has found out of what was brought about, by the names that the containers have there."""
        every = [(name, dict(labels), value) for (name, labels), value in samples(page.get()).items()]
        ours = {name: {"namespace": "shop", "pod": "web", "container": name} for name in self.web.containers}
        unnamed = {name: {"namespace": "", "pod": "", "container": each.id[:12]} for name, each in self.web.containers.items()}
        nameless = {name for name, own in unnamed.items() if any(labels.items() >= own.items() for _, labels, _ in every)}
        ours |= {name: unnamed[name] for name in nameless}

        def value(metric: str, container: str = "", **labels: str) -> float | None:
            wanted = (ours[container] if container else {}) | labels
            return next((value for name, have, value in every if name == metric and have.items() >= wanted.items()), None)

        def told(kind: str, container: str, *keys: str) -> list[Any]:
            about = [each for each in page.api(kind) if ours[container].items() <= each.items()]
            return [tuple(each[key] for key in keys) if keys[1:] else each[keys[0]] for each in about]

        def labels(metric: str, container: str) -> dict[str, str]:
            return next((have for name, have, _ in every if name == metric and have.items() >= ours[container].items()), {})

        return {
            "names": not nameless,
            "zombies": value("coroner_container_zombies", "careless", parent="init"),
            "zombies of the namespace": value("coroner_pid_namespace_zombies", "careless"),
            "handles its stop signal": value("coroner_container_init_handles_stop_signal", "careless"),
            "isolation": {label: said for label, said in labels(ISOLATION, "careless").items() if label in ISOLATED},
            "kills": value("coroner_container_oom_kills_total", "hungry"),
            "kills by scope": value("coroner_oom_kills_total", scope="container"),
            "victims": told("victims", "hungry", "comm"),
            "PIDs of victims": any(told("victims", "hungry", "namespace_pid")),
            "next victim": labels(CANDIDATE, "full").get("comm"),
            "limits without a next victim": value("coroner_oom_candidates_unknown"),
            "deaths": value("coroner_container_deaths_total", "failing", cause="error"),
            "verdict": next(iter(told("verdicts", "failing", "cause", "exit_code")), None),
            "casebook": value("coroner_casebook_up"),
            "layers": {name for name in LAYERS if value("coroner_container_writable_layer_bytes", name) is not None},
            "failed": {have["collector"] for name, have, up in every if name == "coroner_scrape_collector_success" and not up},
        }

    def differs(self, name: str) -> dict[str, Any]:
        """Return what one sees and should not, or the other way round."""
        expected, page = {**SEEN, **VARIANTS[name].sees}, self.agents[name][0]
        found = {**self.sees(page), "lost": {name for name in self.agents["all"][0].metrics() - page.metrics() if name.startswith(LOSABLE)}}
        return {key: (found[key], wanted) for key, wanted in expected.items() if wanted is not NOT_COMPARED and found[key] != wanted}


@pytest.fixture(scope="module")
def node(docker: DockerClient, image: str, pods: MakePods, cri_client: Cri) -> Iterator[Node]:
    """A pod of agents for each PID namespace, whose containers are the variants; then the pod that they watch."""
    hand_over(image)
    wait_for(lambda: cri_client.has_images(image), 30, "CRI did not notice the image")
    told = {"spec.nodeName": "lab", "status.hostIP": "127.0.0.1"}
    with pods() as pod:
        pages = {name: Page(12000 + number, variant.change, *variant.flags) for number, (name, variant) in enumerate(VARIANTS.items())}
        hosts = {host: pod(name, namespace="coroner", host_pid=host) for host, name in ((True, "coroner"), (False, "coroner-no-pid"))}

        def start(name: str, page: Page) -> PodContainer:
            state = {"/var/lib/coroner": f"/var/lib/coroner/{name}"}  # one agent uses a directory at a time
            paths = {**PATHS, **VARIANTS[name].paths, **state}
            return hosts[page.spec["hostPID"]].start(name, config(page.spec, paths=paths, node=told))

        containers = in_parallel(*(lambda n=n, p=p: start(n, p) for n, p in pages.items()))
        agents = {name: (pages[name], container) for name, container in zip(pages, containers, strict=True)}
        for page, container in agents.values():
            wait_for(lambda p=page: p.get("/readyz"), 60, lambda c=container: c.log)  # type: ignore[misc] # defaults
        web = pod("web", containers={"careless": CARELESS, "hungry": HUNGRY, "full": FULL, "failing": FAILING})
        node = Node(agents, web)
        wait_for(lambda: not node.differs("all"), 60, lambda: f"{node.differs('all')}\n{agents['all'][1].log}")
        yield node


def test_image_says_what_it_is(docker: DockerClient, image: str) -> None:
    """In its labels. What it adds to its base is in the output."""
    added = docker.images.get(image).attrs["Size"] - docker.images.get(RUN_BASE).attrs["Size"]
    print(f"{added / (1 << 20):.1f} MiB above its base")  # noqa: T201 - deploy/README.md has it from here
    labels = docker.images.get(image).labels
    assert labels["org.opencontainers.image.version"] == agent.__version__
    assert labels["org.opencontainers.image.revision"] == "0123"


def test_image_says_what_is_in_it(docker: DockerClient, image: str) -> None:
    """What the agent's lock names, and none of what it was built with."""
    container = docker.containers.create(image)
    try:
        with tarfile.open(fileobj=io.BytesIO(b"".join(container.get_archive("/opt/coroner/coroner.cdx.json")[0]))) as archive:
            file = archive.extractfile("coroner.cdx.json")
            assert file
            sbom.check(file.read().decode(), for_this_platform("agent"))
    finally:
        container.remove()


def test_in_docker_a_kill_is_named_and_kept(in_docker: dict[str, InDocker], run: Run) -> None:
    """By syslog(2), without the device; in a casebook, which is all that it writes. There is no shell in it."""
    container, page = in_docker["all"].container, in_docker["all"].page
    run("sh", "-c", "tail /dev/zero; sleep 1000", name="hungry", mem_limit="30m")
    wait_for(lambda: '"tail"' in page.get("/api/v1/victims"), 30, lambda: page.get("/api/v1/victims") + container.logs().decode())
    wait_for(lambda: page.value("coroner_oom_kills_total", scope="container") == 1, 30, page.get)
    assert page.value("coroner_casebook_up") == 1
    assert Path("/var/lib/coroner/docker-all/casebook.sqlite").exists()
    container.reload()
    assert confinement(container.attrs["State"]["Pid"]) == confined(page.spec)
    assert "sh" in str(container.exec_run(["sh", "-c", "true"]).output)


@pytest.mark.parametrize("name", IN_DOCKER)
def test_in_docker_what_is_taken_away_costs_what_the_table_says(in_docker: dict[str, InDocker], name: str) -> None:
    """The agent runs, and says on the page and in its log what it is blind for."""
    variant = VARIANTS[name]
    page, container = in_docker[name].page, in_docker[name].container
    wait_for(lambda: variant.is_said(container.logs().decode()), 30, lambda: container.logs().decode())
    assert page.up(DOCKER_SOURCES) == {**dict.fromkeys(DOCKER_SOURCES, 1), **variant.blind}, container.logs().decode()


def test_it_stops_when_it_is_told_to(in_docker: dict[str, InDocker]) -> None:
    """As PID 1 of its container or not: in the PID namespace of the node it is none, without that it is."""
    for name in ("all", "no-pid"):
        container = in_docker[name].container
        container.stop(timeout=240)
        assert container.wait()["StatusCode"] == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_in_a_pod_what_is_taken_away_costs_what_the_table_says(node: Node, name: str) -> None:
    """The agent runs, and says on the page and in its log what it is blind for; all else it sees, and by name."""
    variant = VARIANTS[name]
    page, container = node.agents[name]
    wait_for(lambda: not node.differs(name), 30, lambda: f"{node.differs(name)}\n{container.log}")  # who has no name gets it after 10 s
    wait_for(lambda: variant.is_said(container.log), 30, lambda: container.log)
    up = {**dict.fromkeys(SOURCES, 1), "layers": 1 if variant.layers else None, **variant.blind}
    assert page.up(tuple(up)) == up, container.log
    assert confinement(container.pids[0]) == confined(page.spec)


def test_in_a_pod_a_directory_that_its_owner_closed_takes_a_capability_to_see(node: Node) -> None:
    """Without it what is in there is missing, with what only all can tell; the log names the directory, and all else is seen."""
    closed = CGROUPS / "closed"
    (closed / "inner").mkdir(parents=True)
    os.chown(closed, 1000, 1000)
    closed.chmod(0o700)
    try:
        page, container = node.agents["no-dac"]
        wait_for(lambda: page.value("coroner_containers", state="running") is None, 60, lambda: container.log)
        assert "/host/sys/fs/cgroup/closed: its owner closed it" in container.log
        assert page.up(("cgroup",)) == {"cgroup": 1}
        assert node.differs("no-dac").keys() == {"limits without a next victim"}, f"{node.differs('no-dac')}\n{container.log}"
        all_page, all_container = node.agents["all"]
        assert all_page.value("coroner_containers", state="running")
        assert (all_page.up(("cgroup",)), node.differs("all")) == ({"cgroup": 1}, {}), all_container.log
    finally:
        (closed / "inner").rmdir()
        closed.rmdir()
