"""`coroner check` on real containers: each rule that can be provoked has one that it finds and one that it does not."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

from collectors import NAMES
from tests.lab.guest.deaths import wait_for_deaths
from tests.lab.guest.node import (
    CGROUPS,
    DOCKER_URL,
    FORK_BOMB,
    PYTHON_TREES,
    Agent,
    Run,
    agents,
    cgroup,
    docker_containers,
    in_parallel,
    memory_events,
    python_command,
    wait_for,
)

LIMIT = 64 << 20
CALM = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
for _ in range(7):
    if os.fork() == 0:
        os._exit(0)
    os.wait()
print("ready")
while True:
    signal.pause()
"""
CARELESS = """
import os, signal
for _ in range({count}):
    if os.fork() == 0:
        os._exit(0)
print("ready")
while True:
    signal.pause()
"""
FULL = f"""
import os, time
def left():
    lines = open("/sys/fs/cgroup/memory.stat").read().splitlines()
    inactive = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return {LIMIT} - int(open("/sys/fs/cgroup/memory.current").read()) + inactive
held = []
while left() > {LIMIT} * 4 // 100:
    held.append(b"x" * (1 << 17))
print("ready")
while True:
    time.sleep(0.2)
    if os.fork() == 0:
        os._exit(0)
    os.wait()
"""
LOOPING = 'echo x >> /lives; [ "$(wc -l < /lives)" -gt 3 ] && exec sleep 1000; exit 3'

EXPECTED: dict[str, set[str]] = {
    "calm": set(),
    "careless": {"zombies-under-init", "zombies-near-pid-limit"},
    "tinied": {"zombies-under-child"},
    "crowded": {"pid-limit-near", "fork-failures"},
    "greedy": {"oom-kill-of-child"},
    "full": {"memory-near-limit"},
    "paused": {"paused"},
    "throttled": {"cpu-throttled"},
    "unlimited": {"no-memory-limit"},
    "stubborn": {"forced-kill"},
    "looping": {"crash-loop"},
}
"""What is wrong with each container, and nothing else, by the rules of this list."""
RULES = set().union(*EXPECTED.values())

INSIDE: dict[str, dict[str, set[str]]] = {
    "init": {"wrapper": {"init-wrapper"}, "execed": {"init-deaf"}, "calm": set(), "tinied": set()},
    "isolation": {"privileged": {"extra-capabilities"}, "socketed": {"runtime-socket-mounted"}, "calm": set()},
}
"""The same by the rules of these collectors."""
LOOKED_INSIDE = [(name, container) for name, expected in INSIDE.items() if name in NAMES for container in expected]


@dataclass(frozen=True)
class Checked:
    """What a run of the command gave."""

    code: int
    output: str
    errors: str

    @property
    def findings(self) -> dict[str, set[str]]:
        """The rules that found something, by container."""
        found = defaultdict(set)
        for finding in json.loads(self.output)["findings"]:
            found[finding["container"]].add(finding["finding"])
        return found


def coroner_check(*arguments: str, state: Path = Path("/run/no-casebook")) -> Checked:
    """Run the command, as somebody would in a pipe; on its own unless an address is among the arguments."""
    usual = [f"--docker.url={DOCKER_URL}", f"--path.cgroupfs={CGROUPS}", f"--path.state={state}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CORONER_")}
    command = [f"{sys.prefix}/bin/coroner", "check", *usual, *arguments]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    return Checked(ran.returncode, ran.stdout, ran.stderr)


def start_all(run: Run) -> dict[str, Container]:
    """Start one container of each kind."""
    volumes = {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}

    def python(name: str, code: str, **options: Any) -> Container:
        return run(*python_command(code), name=name, volumes=volumes, **{"mem_limit": LIMIT, **options})

    inside: dict[str, tuple[list[str], dict[str, Any]]] = {
        "wrapper": (["sh", "-c", "sleep 1000; true"], {}),
        "execed": (["sh", "-c", "exec sleep 1000"], {}),
        "privileged": (["sleep", "1000"], {"privileged": True}),
        "socketed": (["sleep", "1000"], {"volumes": {"/run/docker.sock": {"bind": "/docker.sock", "mode": "ro"}}}),
    }
    inside = {name: how for name, how in inside.items() if any(name == container for _, container in LOOKED_INSIDE)}
    throttle = {"cpu_period": 10_000, "cpu_quota": 2_000}
    started = in_parallel(
        lambda: run("sh", "-c", "while :; do :; done", name="throttled", mem_limit=LIMIT, **throttle),
        lambda: run("sleep", "1000", name="stubborn", mem_limit=LIMIT),
        lambda: run("sh", "-c", LOOPING, name="looping", mem_limit=LIMIT, restart_policy={"Name": "on-failure"}),
        lambda: python("calm", CALM),
        lambda: python("careless", CARELESS.format(count=12), pids_limit=20),
        lambda: python("tinied", CARELESS.format(count=7), init=True),
        lambda: run("sh", "-c", FORK_BOMB, name="crowded", mem_limit=LIMIT, pids_limit=10),
        lambda: run("sh", "-c", "tail /dev/zero; sleep 1000", name="greedy", mem_limit="8m"),
        lambda: python("full", FULL),
        lambda: run("sleep", "1000", name="paused", mem_limit=LIMIT),
        lambda: run("sleep", "1000", name="unlimited"),
        *(partial(run, *command, name=name, mem_limit=LIMIT, **options) for name, (command, options) in inside.items()),
    )
    return {str(container.name): container for container in started}


def periods(container: Container) -> int:
    """Return how many periods of its quota a container has run in."""
    lines = (cgroup(container) / "cpu.stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("nr_periods "))


@dataclass(frozen=True)
class Node:
    """The agent on a node on which everything is wrong, what a check said before it was, and what is said of it in three ways."""

    agent: Agent
    clean: Checked
    by_agent: Checked
    alone: Checked
    page: dict[str, set[str]]


@pytest.fixture(scope="module")
def node(docker: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Check the clean node, start the agent and one container of each kind, and wait until everything is wrong."""
    clean = coroner_check("--no-daemon")
    with docker_containers(docker) as run, agents(tmp_path_factory.mktemp("check")) as start:
        agent = start()
        there = start_all(run)
        in_parallel(lambda: there["stubborn"].restart(timeout=1), there["paused"].pause)
        for name in ("calm", "careless", "tinied", "full"):
            wait_for(partial(lambda name: there[name].logs() == b"ready\n", name), 60, f"{name} is not ready")
        (cgroup(there["full"]) / "memory.high").write_text(f"{LIMIT * 9 // 10}")
        wait_for(lambda: memory_events(there["full"])["high"] > 0, 60, "full is not slowed down")
        wait_for(lambda: memory_events(there["greedy"])["oom_kill"] > 0, 60, "nothing was killed")
        wait_for(lambda: periods(there["throttled"]) >= 600, 60, "not 600 periods")
        wait_for_deaths(agent, {"stubborn": 1, "looping": 3})
        page = defaultdict(set)
        by_agent = asked(agent, "--severity=info", "--format=json")
        for labels in map(dict, agent.family("coroner_container_findings")):
            page[labels["container"]].add(labels["finding"])
        alone = coroner_check("--no-daemon", "--severity=info", "--format=json", state=agent.state)
        yield Node(agent, clean, by_agent, alone, page)


def asked(agent: Agent, *arguments: str) -> Checked:
    """Ask the agent."""
    return coroner_check(f"--web.listen-address={agent.url.removeprefix('http://')}", *arguments)


def test_a_clean_node_prints_one_line_and_exits_0(node: Node) -> None:
    """Without an agent and without a casebook: what needs a history does not apply."""
    assert node.clean.output.startswith("no findings in 0 containers and the node (")
    assert node.clean.output.count("\n") == 1
    assert (node.clean.code, node.clean.errors) == (0, "")


@pytest.mark.parametrize("name", EXPECTED)
def test_each_rule_finds_what_was_provoked_and_nothing_else(node: Node, name: str) -> None:
    """By the agent's word, by the command's own look, and on the page: they cannot disagree."""
    assert (node.by_agent.code, node.alone.code, node.alone.errors) == (1, 1, "")
    assert node.by_agent.findings[name] & RULES == EXPECTED[name]
    assert node.alone.findings[name] == node.by_agent.findings[name]
    assert node.page[name] == node.by_agent.findings[name]


def test_the_table_has_evidence_and_fix_and_shows_who_is_asked_for(node: Node) -> None:
    """A line for each in a pipe, without a colour; of one container alone."""
    table = asked(node.agent, "careless")
    lines = table.output.splitlines()

    assert table.code == 1
    assert lines[0].split() == ["SEVERITY", "CONTAINER", "FINDING", "EVIDENCE", "FIX"]
    assert {line.split()[1] for line in lines[1:-1]} == {"careless"}
    wanted = ("12 zombies whose parent is PID 1", "PID 1 of the container) has not waited for 12", "docker run --init")
    assert any(all(words in line for words in wanted) for line in lines)
    assert "\x1b" not in table.output


def test_an_unknown_name_is_no_clean_bill(node: Node) -> None:
    """Who is not there is not well."""
    unknown = asked(node.agent, "clam")

    assert unknown.code == 2
    assert "there is no container 'clam'; there are calm, careless, crowded" in unknown.errors


@pytest.mark.parametrize(("collector", "name"), LOOKED_INSIDE)
def test_each_rule_of_the_inside_finds_what_was_provoked(node: Node, collector: str, name: str) -> None:
    """The exec form and tini are no wrappers, and the calm one catches SIGTERM."""
    rules = set().union(*INSIDE[collector].values())
    assert node.by_agent.findings[name] & rules == INSIDE[collector][name]
    assert node.alone.findings[name] & rules == INSIDE[collector][name]
