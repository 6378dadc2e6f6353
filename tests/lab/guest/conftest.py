"""What a test of the lab asks for: running daemons, containers and pods without a registry, and the agent."""

import functools
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

from tests.lab.guest import cri
from tests.lab.guest.images import archive
from tests.lab.guest.node import (
    DOCKER_URL,
    PODMAN_URL,
    PYTHON_TREES,
    SLOWNESS,
    Agent,
    Daemon,
    Podman,
    Run,
    StartAgent,
    agents,
    docker_containers,
    python_command,
    wait_for,
)

# It takes as long as all of another file, and `make lab-image` prepares it: who has not does without.
collect_ignore = [] if (Path(__file__).parents[3] / ".lab" / "image" / ".complete").exists() else ["test_image.py"]

DOCKERD = [
    "dockerd",
    f"--host={DOCKER_URL}",
    f"--containerd={cri.SOCKET}",
    "--live-restore",
    "--data-root=/run/docker-data",
    "--exec-root=/run/docker-exec",
    "--storage-driver=overlay2",
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-masq=false",
]


PODMAN = [
    "podman",
    "--root=/run/podman-data",
    "--runroot=/run/podman",
    "--cgroup-manager=cgroupfs",
    "--events-backend=file",
]


@pytest.fixture(scope="session")
def images() -> Path:
    """Make the archive of images that every runtime loads."""
    file = Path("/run/images.tar")
    file.write_bytes(archive())
    return file


@pytest.fixture(name="cri_client", scope="session")
def cri_client_() -> Iterator[cri.Cri]:
    """Make a client of containerd's CRI, which need not run yet."""
    with closing(cri.Cri()) as client:
        yield client


@pytest.fixture(scope="session")
def containerd(cri_client: cri.Cri) -> Iterator[Daemon]:
    """Start containerd once for all tests, for Docker and for pods as on a Kubernetes node; a test that stops it starts it again."""
    config = Path("/run/containerd.toml")
    config.write_text(cri.CONFIG)
    cri.RUNC_WITH_SYSTEMD_NAMES.write_text(cri.RUNC_SCRIPT)
    cri.RUNC_WITH_SYSTEMD_NAMES.chmod(0o755)
    daemon = Daemon(["containerd", f"--config={config}"], Path("/run/containerd.log"), cri_client.answers)
    daemon.start()
    yield daemon
    daemon.kill()


@pytest.fixture(scope="session")
def dockerd(containerd: Daemon) -> Iterator[Daemon]:
    """Start Docker once for all tests; a test that stops it starts it again. Its containers live on meanwhile."""
    daemon = Daemon(DOCKERD, Path("/run/dockerd.log"), lambda: _answers(DOCKER_URL))
    daemon.start()
    yield daemon
    daemon.kill()


def _answers(url: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(url.removeprefix("unix://"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200 OK" in connection.recv(4096)
        except OSError:
            return False


@pytest.fixture(name="docker", scope="session")
def docker_client(dockerd: Daemon, images: Path) -> Iterator[DockerClient]:
    """Connect to Docker, which has the image busybox."""
    with closing(DockerClient(DOCKER_URL, timeout=SLOWNESS * 60)) as client:
        client.images.load(images.read_bytes())
        yield client


@pytest.fixture
def run(docker: DockerClient) -> Iterator[Run]:
    """Start containers: ``run("sh", "-c", "...", name="web", mem_limit="30m")``; the test's end removes them all."""
    with docker_containers(docker) as start:
        yield start


@pytest.fixture
def run_python(run: Run) -> Run:
    """Start a container with the machine's own Python: ``run_python("import time; time.sleep(9)", name="app")``."""
    volumes = {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}

    def start(code: str, **options: Any) -> Container:
        return run(*python_command(code), volumes=volumes, **options)

    return start


@pytest.fixture(name="pods", scope="session")
def pods_(containerd: Daemon, cri_client: cri.Cri, images: Path) -> cri.MakePods:
    """Give containerd its images: ``with pods() as pod`` is then like the fixture pod, for a scope of its own."""
    subprocess.run(["ctr", "-n", "k8s.io", "images", "import", images], check=True, stdout=subprocess.DEVNULL)
    wait_for(cri_client.has_images, 30, "CRI did not notice the images")
    return functools.partial(cri.pods, cri_client)


@pytest.fixture
def pod(pods: cri.MakePods) -> Iterator[cri.StartPod]:
    """Start pods: ``pod("web", containers={"app": Program(["sleep", "1000"])})``; the test's end removes them all."""
    with pods() as start:
        yield start


@pytest.fixture(scope="session")
def podman_service(images: Path) -> Iterator[Daemon]:
    """Start what answers like Docker for Podman."""
    subprocess.run([*PODMAN, "load", "--quiet", f"--input={images}"], check=True, stdout=subprocess.DEVNULL)
    daemon = Daemon([*PODMAN, "system", "service", "--time=0", PODMAN_URL], Path("/run/podman.log"), lambda: _answers(PODMAN_URL))
    daemon.start()
    yield daemon
    daemon.kill()


@pytest.fixture
def podman(podman_service: Daemon) -> Iterator[Podman]:
    """Run Podman: ``podman("run", "--detach", "--network=none", "--name=web", "busybox", "sleep", "1000")`` returns the id."""

    def call(*arguments: str) -> str:
        return subprocess.run([*PODMAN, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    yield call
    call("rm", "--all", "--force", "--time=0")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Start the agent and wait until it is ready: ``agent("--no-collector.cpu")``; it is killed after the test."""
    with agents(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared_agent(dockerd: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Start one agent for all tests of a module that need no start, flags or casebook of their own; no two of them use the same names."""
    with agents(tmp_path_factory.mktemp("shared")) as start:
        yield start()


@pytest.fixture
def restricted_kernel_log() -> Iterator[None]:
    """Debian, Ubuntu and RHEL keep the kernel log from whoever lacks CAP_SYSLOG; this kernel's default does not."""
    setting = Path("/proc/sys/kernel/dmesg_restrict")
    before = setting.read_text()
    setting.write_text("1")
    yield
    setting.write_text(before)
