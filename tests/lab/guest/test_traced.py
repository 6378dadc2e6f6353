"""Traced: the agent reads what deploy/README.md lists, writes its state, asks whom its flags name, and runs nothing."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from tests.lab.guest.cri import MakePods, Program
from tests.lab.guest.deaths import by_container
from tests.lab.guest.kubelet import kubelet
from tests.lab.guest.node import (
    DOCKER_URL,
    PYTHON_TREES,
    Agent,
    StartAgent,
    agents,
    docker_containers,
    in_parallel,
    python_command,
    wait_for,
)
from tests.lab.guest.traced import EXITS, MATRIX, Judge, has_ended, strace

LIKE_THE_IMAGE = ["env", "PYTHONDONTWRITEBYTECODE=1"]
CARELESS = """
import os, signal
for _ in range(12):
    if os.fork() == 0:
        os._exit(0)
while True:
    signal.pause()
"""
FULL = "dd if=/dev/zero of=/dev/shm/x bs=64k count=480 2>/dev/null; dd if=/dev/zero of=/data bs=64k count=9 2>/dev/null; sleep 1000"
"""Of 32 MiB 30 are in use; and something is written into the layer."""
PLANTED = """
import os, signal, socket
open("/proc/1/environ").close()
os.listdir("/root")
open("/run/planted", "w").close()
os.mkdir("/run/planted.d")
with socket.socket() as other:
    other.connect_ex(("127.0.0.1", 9))
os.kill(os.getpid(), 0)
if os.fork() == 0:
    os.execv("/bin/true", ["true"])
os.wait()
"""
NO_DEVICE = Path("/nonexistent/kmsg")
NO_CASEBOOK = Path("/run/no-casebook")
KINDS = ("read", "write", "network", "process")
PORT = re.compile(r":(\d+)$")


@pytest.fixture(scope="module")
def judged(docker: DockerClient, pods: MakePods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Judge]]:
    """Trace an agent with every source, one that reads the kernel log by syslog(2), and two checks; what the four did, by their names."""
    directory = tmp_path_factory.mktemp("traced")
    with kubelet(directory / "kubelet") as lists, agents(directory) as start:
        full, syslog = in_parallel(
            lambda: traced(start, directory / "full", f"--path.exits={EXITS}", "--source.layers", "--source.signals", *lists.flags),
            lambda: traced(start, directory / "syslog", f"--path.kmsg={NO_DEVICE}", "--docker.url="),
        )
        wait_for(lambda: full.value("coroner_source_up", source="docker") == 1, 60, lambda: full.log)  # or a check could not look
        check(directory / "asking", f"--web.listen-address={address(full)}")
        with docker_containers(docker) as run, pods() as pod:
            volumes = {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}
            programs = {"app": Program(["sleep", "1000"]), "failing": Program(["sh", "-c", "exit 3"])}
            calls: list[Callable[[], Any]] = [
                lambda: pod("web", containers=programs | {"grouped": Program(["tail", "/dev/zero"], memory=16 << 20)}),
                lambda: run("sleep", "1000", name="stubborn"),
                lambda: run(*python_command(CARELESS), name="careless", volumes=volumes, pids_limit=20),
                lambda: run("sh", "-c", FULL, name="full", mem_limit="32m"),
            ]
            web, stubborn, *_ = in_parallel(*calls)
            lists.show(web)
            stubborn.stop(timeout=1)
            look(full)
            check(directory / "alone", "--no-daemon")
        for path in ("/", "/api/v1/findings"):
            syslog.get(path)
        in_parallel(full.stop, syslog.stop)
        port = PORT.search(lists.flags[1])
        assert port
        peers = [f'sun_path="{DOCKER_URL.removeprefix("unix://")}"', rf'sin_port=htons\({port[1]}\), sin_addr=inet_addr\("127\.0\.0\.1"\)']
        settings = [directory / "kubelet" / name for name in ("token", "ca.crt")]
        yield {
            "full": judge(directory / "full", full, *peers, settings=settings),
            "syslog": judge(directory / "syslog", syslog, settings=[NO_DEVICE]),
            "asking": judge(directory / "asking", full, state=NO_CASEBOOK),
            "alone": judge(directory / "alone", full, peers[0], state=NO_CASEBOOK),
        }


def traced(start: StartAgent, prefix: Path, *flags: str) -> Agent:
    """Start an agent under strace."""
    return start(*flags, under=[*LIKE_THE_IMAGE, *strace(prefix)])


def address(agent: Agent) -> str:
    """Where it listens."""
    return agent.url.removeprefix("http://")


def check(prefix: Path, *flags: str) -> None:
    """Run `coroner check` under strace; what it finds does not matter here."""
    command = [f"{sys.prefix}/bin/coroner", "check", f"--docker.url={DOCKER_URL}", f"--path.state={NO_CASEBOOK}", *flags]
    ran = subprocess.run([*LIKE_THE_IMAGE, *strace(prefix), *command], check=False, capture_output=True, text=True)
    assert ran.returncode in (0, 1), ran.stderr


def look(agent: Agent) -> None:
    """Ask for everything, as soon as all has happened that makes the agent read more."""
    wait_for(lambda: {"stubborn", "failing", "grouped"} <= by_container(agent).keys(), 30, lambda: f"{[*by_container(agent)]}\n{agent.log}")
    agent.victims(1)

    def is_there(name: str, **labels: str) -> None:
        wait_for(lambda: agent.value(name, **labels), 30, lambda: f"no {name}:\n{agent.log}")

    is_there("coroner_container_writable_layer_bytes", container="full")
    is_there("coroner_container_oom_candidate_badness_bytes", container="full")
    is_there("coroner_container_zombies", container="careless", parent="init")
    index = agent.get("/")
    links = re.findall(r'href="(/?container\?[^"]*)"', index)
    assert links, index[:2000]
    for path in ("/metrics", "/api/v1/containers", "/api/v1/findings", *(f"/{link.lstrip('/')}".replace("&amp;", "&") for link in links)):
        agent.get(path)


def judge(prefix: Path, agent: Agent, *peers: str, state: Path | None = None, settings: Sequence[Path] = ()) -> Judge:
    """Judge what was traced; the agent's own address may be listened on, and asked by a check."""
    wait_for(lambda: has_ended(prefix), 10, "the trace does not end")
    own = rf"sin_port=htons\({address(agent).rpartition(':')[2]}\), sin_addr=inet_addr\(\"127\.0\.0\.1\"\)"
    return Judge(prefix, state=state or agent.state, log=agent.state.parent / "agent.log", settings=settings, peers=[own, *peers])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["full", "syslog", "asking", "alone"])
def test_it_does_nothing_that_the_matrix_does_not_list(judged: dict[str, Judge], name: str, kind: str) -> None:
    """No file is opened and none is written, nobody is asked, and no program is run, but for those."""
    assert not judged[name].wrong[kind], "\n".join(sorted(judged[name].wrong[kind]))


def test_every_source_was_traced(judged: dict[str, Judge]) -> None:
    """Of those that open files, but signals (tests/e2e/test_traced.py). A check that asks the agent looks at itself alone."""
    everything = {row.source for row in MATRIX} - {"signals"}
    for source, paths in judged["full"].seen.items():
        names = {Path(path).name for path in paths} if source in ("cgroup", "layers") else paths
        print(f"{source:<11}", *sorted(names))  # noqa: T201 - the table is what a reader of the tests wants to see
    assert judged["full"].seen.keys() == everything
    assert judged["syslog"].seen.keys() == everything - {"layers", "kmsg"}
    assert judged["alone"].seen.keys() == everything - {"layers"}
    assert {path for paths in judged["asking"].seen.values() for path in paths if not path.startswith("/proc/self/")} <= {"/proc/stat"}


def test_what_may_not_be_done_is_found(tmp_path: Path) -> None:
    """In a program that does one of each."""
    with contextlib.suppress(FileNotFoundError):
        os.remove("/run/planted")
    subprocess.run([*LIKE_THE_IMAGE, *strace(tmp_path / "planted"), *python_command(PLANTED)], check=True, stdin=subprocess.DEVNULL)
    wait_for(lambda: has_ended(tmp_path / "planted"), 10, "the trace does not end")

    wrong = Judge(tmp_path / "planted", state=tmp_path / "state", log=tmp_path / "log").wrong
    for kind, expected in {
        "read": ["/proc/1/environ", '"/root"'],
        "write": ['"/run/planted"', '"/run/planted.d"'],
        "network": ["sin_port=htons(9)"],
        "process": ["kill(", '"/bin/true"', "wait4(", "clone("],
    }.items():
        for word in expected:
            assert any(word in line for line in wrong[kind]), f"{word} was not found:\n{wrong[kind]}"
