"""What a test of the lab asks for: a running dockerd, containers without a registry, and the agent."""

import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

from tests.lab.guest.node import DOCKER_URL, Agent, Daemon, Run, StartAgent, in_parallel

DOCKERD = [
    "dockerd",
    f"--host={DOCKER_URL}",
    "--data-root=/run/docker-data",
    "--exec-root=/run/docker-exec",
    "--storage-driver=overlay2",
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-masq=false",
]


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Daemon]:
    """Start Docker once for all tests; a test that stops it starts it again."""
    daemon = Daemon(DOCKERD, Path("/run/dockerd.log"), _docker_answers)
    daemon.start()
    yield daemon
    daemon.kill()


def _docker_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(DOCKER_URL.removeprefix("unix://"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200 OK" in connection.recv(4096)
        except OSError:
            return False


@pytest.fixture(name="docker", scope="session")
def docker_client(dockerd: Daemon) -> Iterator[DockerClient]:
    """Connect to Docker, with one image in it: busybox, imported from the machine's program."""
    program = shutil.which("busybox")
    assert program
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    links = {f"bin/{name}" for name in applets if name != "busybox"}
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as tar:
        tar.add(os.path.realpath(program), "bin/busybox")
        for name in sorted(links):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    with closing(DockerClient(DOCKER_URL)) as client:
        client.api.import_image_from_data(image.getvalue(), repository="busybox")
        yield client


@pytest.fixture
def run(docker: DockerClient) -> Iterator[Run]:
    """Start containers: ``run("sh", "-c", "...", name="web", mem_limit="30m")``; the test's end removes them all."""

    def start(*command: str, **options: Any) -> Container:
        container = docker.containers.create("busybox", list(command), **options)
        container.start()
        return container

    yield start
    in_parallel(*(lambda c=c: c.remove(force=True) for c in docker.containers.list(all=True, sparse=True)))


@pytest.fixture
def run_python(run: Run) -> Run:
    """Start a container with the machine's own Python: ``run_python("import time; time.sleep(9)", name="app")``."""
    trees = {"/usr", "/lib", "/lib64", sys.base_prefix}
    volumes = {tree: {"bind": tree, "mode": "ro"} for tree in trees}

    def start(code: str, **options: Any) -> Container:
        return run(os.path.realpath(sys.executable), "-ISu", "-c", code, volumes=volumes, **options)

    return start


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Start the agent and wait until it is ready: ``agent("--no-collector.cpu")``; it is killed after the test."""
    agents = []

    def start(*flags: str, under: Sequence[str] = ()) -> Agent:
        agents.append(Agent(*flags, directory=tmp_path, under=under))
        agents[-1].start()
        return agents[-1]

    yield start
    for started in agents:
        started.kill()
