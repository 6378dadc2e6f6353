"""What the tests of the lab use: the agent and Docker as processes, and the kernel's own account of a container."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import prometheus_client.openmetrics.parser
import prometheus_client.parser
from docker import DockerClient
from docker.errors import APIError
from docker.models.containers import Container

T = TypeVar("T")
Series = tuple[str, frozenset[tuple[str, str]]]

CGROUPS = Path("/sys/fs/cgroup")
DOCKER_URL = "unix:///run/docker.sock"
PODMAN_URL = "unix:///run/podman.sock"
SLOWNESS = 4
"""A machine that is shared may be so many times slower than an idle one: every deadline is that much longer."""
NO_KERNEL_LOG = ["setpriv", "--bounding-set=-syslog,-sys_admin", "--inh-caps=-all"]
"""Starts an agent that may not read the kernel log in any way, with restricted_kernel_log."""
PYTHON_TREES = sorted({"/usr", "/lib", "/lib64", sys.base_prefix})
"""Where a container must see the machine's own files for python_command to work."""
WAIT = "mkfifo /go; read -r _ < /go; "
"""A container whose shell begins with this goes on when it is told to (let_go). To look for a file again and again instead would
take much of the guest's only processor."""
HOLD = "sleep 1000 & wait"
"""A shell with a trap does this until the signal comes, which `wait` hears at once."""
FORK_BOMB = "sh -c 'for n in $(seq 30); do sleep 1000 & done'; sleep 1000"
"""busybox' shell ends when it cannot fork: so an inner one, or the container would end with it, and its counters too."""

FORMATS = {
    False: ("text/plain; version=0.0.4", prometheus_client.parser.text_string_to_metric_families),
    True: (
        "application/openmetrics-text; version=1.0.0",
        prometheus_client.openmetrics.parser.text_string_to_metric_families,
    ),
}


def wait_for(condition: Callable[[], T], seconds: float, message: str | Callable[[], str], *, most_pause: float = 0.5) -> T:
    """Return the condition's value as soon as it is true; fail with the message after SLOWNESS times so many seconds."""
    deadline, pause = time.monotonic() + SLOWNESS * seconds, 0.05
    while not (value := condition()):
        assert time.monotonic() < deadline, f"after {SLOWNESS * seconds} s: {message() if callable(message) else message}"
        time.sleep(pause)
        pause = min(1.5 * pause, most_pause)  # a look is mostly a scrape, and the guest has one processor for all
    return value


def in_parallel(*calls: Callable[[], T]) -> list[T]:
    """Make the calls at the same time and return their values in order."""
    with ThreadPoolExecutor(max_workers=max(1, len(calls))) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def python_command(code: str) -> list[str]:
    """Return a command that runs code with the machine's own Python."""
    return [os.path.realpath(sys.executable), "-ISu", "-c", code]


def cgroup(container: Container) -> Path:
    """Return the directory of a container's cgroup."""
    return CGROUPS / "docker" / str(container.id)


def let_go(directory: Path) -> None:
    """Tell what runs in a cgroup that it may go on (WAIT)."""

    def pipe() -> str:
        pid = (directory / "cgroup.procs").read_text(encoding="ascii").split()[0]
        path = f"/proc/{pid}/root/go"
        return path if os.path.exists(path) else ""

    descriptor = os.open(wait_for(pipe, 60, f"nothing waits in {directory}"), os.O_WRONLY)  # returns when it reads
    os.write(descriptor, b"\n")
    os.close(descriptor)


def memory_events(container: Container) -> dict[str, int]:
    """Return the kernel's memory.events of a container, while its cgroup exists."""
    lines = (cgroup(container) / "memory.events").read_text(encoding="ascii").splitlines()
    return {name: int(value) for name, value in map(str.split, lines)}


def kernel_log() -> list[str]:
    """Return every record that /dev/kmsg holds: "priority,sequence,microseconds,flags;text", then its key lines."""
    records = []
    descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                records.append(os.read(descriptor, 8192).decode(errors="replace"))
            except BrokenPipeError:  # the oldest records were overwritten: the next read goes on behind the gap
                continue
            except BlockingIOError:
                return records
    finally:
        os.close(descriptor)


def series(name: str, **labels: str) -> Series:
    """Return the key that a series with exactly these labels has in a page."""
    return name, frozenset(labels.items())


def samples(page: str, *, openmetrics: bool = False) -> dict[Series, float]:
    """Return every sample of a page, read by prometheus_client's parser of its format."""
    found = [sample for family in FORMATS[openmetrics][1](page) for sample in family.samples]
    values = {series(sample.name, **sample.labels): sample.value for sample in found}
    assert len(values) == len(found), "a series is on the page twice"
    return values


class Daemon:
    """A program that runs until it is stopped, with its output in a file. It can be started again."""

    def __init__(self, command: Sequence[str], log: Path, is_ready: Callable[[], bool]) -> None:
        self._command = command
        self._log = log
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 60) -> None:
        """Return when it is ready; fail with its log when it ends before that or takes longer."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CORONER_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + SLOWNESS * seconds
        while not self._is_ready():
            assert self._process.poll() is None, f"{self._command[0]} ended with {self._process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"{self._command[0]} is not ready after {SLOWNESS * seconds} s:\n{self.log}"
            time.sleep(0.05)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Return the process, which may have ended."""
        assert self._process, f"{self._command[0]} was not started"
        return self._process

    @property
    def log(self) -> str:
        """Return what it wrote so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self, seconds: float = 30) -> tuple[int, float]:
        """Send SIGTERM; return the exit code and the seconds that it took."""
        start = time.monotonic()
        self.process.terminate()
        return self.process.wait(SLOWNESS * seconds), time.monotonic() - start

    def kill(self) -> None:
        """Send SIGKILL if it runs."""
        if self._process:
            self._process.kill()
            self._process.wait()


class Agent(Daemon):
    """The program under test, on a port and with a casebook of its own. Flags given here win over the usual ones.

    `under` is a program that starts it.
    """

    def __init__(self, *flags: str, directory: Path, under: Sequence[str] = ()) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        self.state = directory / "state"
        usual = [
            f"--web.listen-address={address}",
            f"--docker.url={DOCKER_URL}",
            f"--path.cgroupfs={CGROUPS}",
            f"--path.state={self.state}",
        ]
        command = [*under, f"{sys.prefix}/bin/coroner", *usual, *flags]
        super().__init__(command, directory / "agent.log", self.is_ready)

    def is_ready(self) -> bool:
        """Say whether /readyz answers 200."""
        try:
            self.get("/readyz")
        except OSError:  # nobody listens yet, or HTTPError: listens but not ready
            return False
        return True

    def get(self, path: str, **headers: str) -> str:
        """Return the body of a page; raise HTTPError unless the status is 200."""
        with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=SLOWNESS * 30) as response:
            body: bytes = response.read()
        return body.decode()

    def scrape(self, *, openmetrics: bool = False) -> dict[Series, float]:
        """Return every sample of /metrics, in that format."""
        return samples(self.get("/metrics", Accept=FORMATS[openmetrics][0]), openmetrics=openmetrics)

    def victims(self, awaited: int = 0) -> list[dict[str, Any]]:
        """Return the victims on the API, newest first, as soon as there are so many: memory.events may tell of a kill before the log."""
        found: list[dict[str, Any]] = []

        def are_there() -> bool:
            found[:] = json.loads(self.get("/api/v1/victims"))["victims"]
            return len(found) >= awaited

        wait_for(are_there, 60, f"not {awaited} victims but {found}")
        return found

    def value(self, name: str, **labels: str) -> float | None:
        """Scrape; return the value of the one series of that name that has these labels, None when there is none."""
        found = [value for have, value in self.family(name).items() if labels.items() <= set(have)]
        assert len(found) <= 1, f"{len(found)} series of {name} have {labels}"
        return found[0] if found else None

    def by_container(self, name: str) -> dict[str, float]:
        """Scrape; return the value of each container's one series of that name, by the container's name."""
        return {dict(have)["container"]: value for have, value in self.family(name).items()}

    def oom_kills(self) -> dict[str, float]:
        """Scrape; return the count of record of each container, by its name."""
        return self.by_container("coroner_container_oom_kills_total")

    def family(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """Scrape; return the series of that name by their labels."""
        return {labels: value for (_, labels), value in self.beginning(f"{name}{{", f"{name} ").items()}

    def beginning(self, *names: str) -> dict[Series, float]:
        """Scrape; return what begins with these names. Of a page asked for so often the parser need not read the rest."""
        lines = self.get("/metrics", Accept=FORMATS[False][0]).splitlines(keepends=True)
        return samples("".join(line for line in lines if line.startswith(names)))


Run = Callable[..., Container]
Podman = Callable[..., str]
StartAgent = Callable[..., Agent]


@contextlib.contextmanager
def docker_containers(docker: DockerClient) -> Iterator[Run]:
    """Yield what starts containers from busybox; at the end all that it started are removed."""
    started = set()
    # A loopback is there all the same, and Docker starts again without looking after a sandbox of every container there was.
    usual = {"network_disabled": True}

    def start(*command: str, **options: Any) -> Container:
        container = docker.containers.create("busybox", list(command), **usual | options)
        started.add(container.id)
        container.start()
        return container

    def left() -> list[Container]:
        return [container for container in docker.containers.list(all=True, sparse=True) if container.id in started]

    def remove(container: Container) -> None:
        try:
            container.remove(force=True)
        except APIError as error:
            if error.status_code not in (404, 409):  # it is gone, or just being removed because of auto_remove
                raise

    try:
        yield start
    finally:
        in_parallel(*(lambda c=c: remove(c) for c in left()))
        wait_for(lambda: not left(), 60, "not all containers were removed")


@contextlib.contextmanager
def agents(directory: Path) -> Iterator[StartAgent]:
    """Yield what starts agents, also in parallel, each with its log and casebook in a directory below this; at the end all are killed."""
    started: list[Agent] = []
    numbers = itertools.count()

    def start(*flags: str, under: Sequence[str] = ()) -> Agent:
        own = directory / f"agent-{next(numbers)}"
        own.mkdir()
        agent = Agent(*flags, directory=own, under=under)
        started.append(agent)
        agent.start()
        return agent

    try:
        yield start
    finally:
        for agent in started:
            agent.kill()
