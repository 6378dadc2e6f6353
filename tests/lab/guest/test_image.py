"""The image of deploy/Dockerfile, built by dockerd without a network, and run with the security context of the manifests, and with less."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from docker import DockerClient
from docker.models.containers import Container

import agent
from tests.lab.guest.bases import RUN_BASE
from tests.lab.guest.image import IMAGE, MADE, Page, Spec, build, confined, confinement, docker_options
from tests.lab.guest.node import Run, in_parallel, wait_for

SOURCES = ("cgroup", "proc", "kmsg", "exits")


def without_capability(name: str) -> Callable[[Spec], None]:
    """Return what takes one of the three away."""
    return lambda spec: spec["containers"][0]["securityContext"]["capabilities"]["add"].remove(name)


def without_mount(name: str) -> Callable[[Spec], None]:
    """Return what takes a mount away."""

    def change(spec: Spec) -> None:
        mounts = spec["containers"][0]["volumeMounts"]
        mounts[:] = [mount for mount in mounts if mount["name"] != name]

    return change


@dataclass(frozen=True)
class Variant:
    """What is taken away, the sources that then are not 1, what the log names, and whether there is a casebook."""

    change: Callable[[Spec], object] = lambda _: None
    blind: Mapping[str, float | None] = field(default_factory=dict)
    named: str = ""
    casebook: int = 1


VARIANTS = {
    "all": Variant(),
    "no-ptrace": Variant(without_capability("SYS_PTRACE"), {"proc": 0}, "CAP_SYS_PTRACE"),
    "no-syslog": Variant(without_capability("SYSLOG"), {"kmsg": 0}, "CAP_SYSLOG"),
    "no-dac": Variant(without_capability("DAC_READ_SEARCH")),
    "no-pid": Variant(lambda spec: spec.update(hostPID=False), {"exits": 0}, "hostPID"),
    "no-proc": Variant(without_mount("proc"), {"proc": 0, "exits": 0}, "/host/proc", casebook=0),
    "no-cgroup": Variant(without_mount("cgroup"), {"cgroup": 0, "exits": None}, "/host/sys/fs/cgroup"),
    "no-state": Variant(without_mount("state"), {}, "casebook", casebook=0),
}
"""The rows of the table in deploy/README.md, but for names and exit files: a Docker host has neither."""


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
    yield
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
    for number, name in enumerate(VARIANTS):
        page = Page(11000 + number, VARIANTS[name].change)
        options = docker_options(page.spec, f"/var/lib/coroner/docker-{name}")
        started[name] = InDocker(page, docker.containers.run(image, detach=True, name=f"coroner-{name}", **options))
    try:
        for each in started.values():
            wait_for(lambda each=each: each.page.get("/readyz"), 60, lambda c=each.container: c.logs().decode())  # type: ignore[misc] # defaults
        yield started
    finally:
        in_parallel(*(lambda c=each.container: c.remove(force=True) for each in started.values()))


def test_image_says_what_it_is(docker: DockerClient, image: str) -> None:
    """In its labels. What it adds to its base is in the output."""
    added = docker.images.get(image).attrs["Size"] - docker.images.get(RUN_BASE).attrs["Size"]
    print(f"{added / (1 << 20):.1f} MiB above its base")  # noqa: T201 - deploy/README.md has it from here
    labels = docker.images.get(image).labels
    assert labels["org.opencontainers.image.version"] == agent.__version__
    assert labels["org.opencontainers.image.revision"] == "0123"


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


@pytest.mark.parametrize("name", VARIANTS)
def test_in_docker_what_is_taken_away_costs_what_the_table_says(in_docker: dict[str, InDocker], name: str) -> None:
    """The agent runs, and says on the page and in its log what it is blind for."""
    variant = VARIANTS[name]
    up = in_docker[name].page.up(SOURCES)
    log = in_docker[name].container.logs().decode()  # after the page: what a pass finds is said by then
    assert up == {**dict.fromkeys(SOURCES, 1), **variant.blind}, log
    assert in_docker[name].page.value("coroner_casebook_up") == variant.casebook
    assert variant.named in log


def test_it_stops_when_it_is_told_to(in_docker: dict[str, InDocker]) -> None:
    """As PID 1 of its container or not: in the PID namespace of the node it is none, without that it is."""
    for name in ("all", "no-pid"):
        container = in_docker[name].container
        container.stop(timeout=240)
        assert container.wait()["StatusCode"] == 0
