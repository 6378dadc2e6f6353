"""Why containers of a real Docker ended: every verdict is the known cause, whatever Docker's own OOMKilled and exit code say."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

from tests.lab.guest.deaths import Row, by_container, catches, table, verdicts, wait_for_deaths, wrong
from tests.lab.guest.node import (
    HOLD,
    PYTHON_TREES,
    WAIT,
    Agent,
    Daemon,
    Run,
    StartAgent,
    agents,
    cgroup,
    docker_containers,
    in_parallel,
    let_go,
    python_command,
    wait_for,
)

VOLUMES = {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}
PYTHON = {"volumes": VOLUMES}


@dataclass(frozen=True)
class Death:
    """How to bring a death about: what runs, with which options, and what is done to it then."""

    what: str
    cause: str
    command: list[str]
    done: Callable[[Container], Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)


def kill_from_the_host(container: Container) -> None:
    """Send SIGKILL to the init as an administrator does."""
    os.kill(container.attrs["State"]["Pid"], signal.SIGKILL)


def stop_paused(container: Container) -> None:
    """Docker thaws it for the stop."""
    container.pause()
    container.stop(timeout=30)


def kill_the_group(container: Container) -> None:
    """Have the OOM killer take all of it."""
    (cgroup(container) / "memory.oom.group").write_text("1")
    let_go(cgroup(container))


SMALL = {"mem_limit": "16m"}
DEATHS = {
    "exit-0": Death("exit 0", "completed", ["true"]),
    "exit-3": Death("exit 3", "error", ["sh", "-c", "exit 3"]),
    "segv": Death("SEGV", "crashed", python_command("import ctypes; ctypes.string_at(0)"), options=PYTHON),
    "abrt": Death("ABRT", "crashed", python_command("import os; os.abort()"), options=PYTHON),
    "drained": Death(
        "SIGTERM, drained in 2 s", "stopped", ["sh", "-c", f"trap 'sleep 2; exit 0' TERM; {HOLD}"], lambda c: c.stop(timeout=60)
    ),
    "deaf": Death("SIGTERM, a deaf shell", "forced_kill", ["sh", "-c", "sleep 1000; true"], lambda c: c.stop(timeout=2)),
    "quit": Death(
        "SIGQUIT, handled",
        "stopped",
        ["sh", "-c", f"trap 'exit 0' QUIT; {HOLD}"],
        lambda c: c.stop(timeout=60),
        {"stop_signal": "SIGQUIT"},
    ),
    "deaf-quit": Death("SIGQUIT, not handled", "forced_kill", ["sleep", "1000"], lambda c: c.stop(timeout=1), {"stop_signal": "SIGQUIT"}),
    "slow": Death("stop -t 1, a drain of 30 s", "forced_kill", ["sh", "-c", f"trap 'sleep 30' TERM; {HOLD}"], lambda c: c.stop(timeout=1)),
    "kill": Death("docker kill", "killed", ["sleep", "1000"], lambda c: c.kill()),
    "kill-term": Death("docker kill -s TERM", "stopped", ["sh", "-c", f"trap 'exit 5' TERM; {HOLD}"], lambda c: c.kill("SIGTERM")),
    "kill-host": Death("kill -9 from the host", "killed", ["sleep", "1000"], kill_from_the_host),
    "oom-init": Death("OOM of init", "oom_kill", ["tail", "/dev/zero"], options=SMALL),
    "oom-child": Death("OOM of a child, exit 0", "completed", ["sh", "-c", "tail /dev/zero; exit 0"], options=SMALL),
    "oom-mirror": Death("OOM of a child, exit 137", "error", ["sh", "-c", "tail /dev/zero; exit 137"], options=SMALL),
    "oom-group": Death("OOM of a group", "oom_kill", ["sh", "-c", f"{WAIT}tail /dev/zero; true"], kill_the_group, SMALL),
    "oom-stop": Death(
        "OOM during a stop", "oom_kill", ["sh", "-c", f"trap 'exec tail /dev/zero' TERM; {HOLD}"], lambda c: c.stop(timeout=60), SMALL
    ),
    "rm": Death("--rm, exit 4", "error", ["sh", "-c", "exit 4"], options={"auto_remove": True}),
    "rm-f": Death("rm -f", "killed", ["sleep", "1000"], lambda c: c.remove(force=True)),
    "paused": Death("paused, then stopped", "stopped", ["sh", "-c", f"trap 'exit 0' TERM; {HOLD}"], stop_paused),
    "loop": Death(
        "restart policy", "error", ["sh", "-c", "exit 1"], options={"restart_policy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    ),
}
LIVES = {"loop": 3}


@dataclass
class Node:
    """All of them happened, seen by one agent from beginning to end."""

    agent: Agent
    rows: dict[str, Row]


@pytest.fixture(scope="module")
def node(docker: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Bring every death about, four at a time."""
    with docker_containers(docker) as run, agents(tmp_path_factory.mktemp("deaths")) as start:
        coroner = start()
        names = list(DEATHS)
        rows: dict[str, Row] = {}
        for first in range(0, len(names), 4):
            four = names[first : first + 4]
            rows |= zip(four, in_parallel(*(lambda name=name: die(run, name) for name in four)), strict=True)
        never = docker.containers.create("busybox", ["true"], name="never-started", network_disabled=True)
        never.remove()
        yield Node(coroner, rows)


def die(run: Run, name: str) -> Row:
    """Bring one about, and return what Docker says of it."""
    death = DEATHS[name]
    container = run(*death.command, name=name, **death.options)
    if death.done is not None:
        container.reload()
        if "trap" in death.command[-1]:
            wait_for(lambda: catches(container.attrs["State"]["Pid"]), 30, "no trap set")
        death.done(container)
    says = "404"
    with contextlib.suppress(Exception):  # it was removed
        if death.done is None or name == "oom-group":
            container.wait(timeout=240)
        container.reload()
        wait_for(lambda: status(container) == "exited", 30, "still there")
        says = f"{container.attrs['State']['ExitCode']}, OOMKilled={container.attrs['State']['OOMKilled']}".lower()
    return Row(death.what, death.cause, says)


def status(container: Container) -> str:
    """Return what Docker says by now."""
    container.reload()
    return str(container.status)


def test_every_death_of_the_corpus_has_its_cause(node: Node) -> None:
    """The table is in the output: Docker's words tell some ten of them."""
    found = wait_for_deaths(node.agent, {name: LIVES.get(name, 1) for name in DEATHS})
    print(table(node.rows, found))  # noqa: T201 - the table is what a reader of the tests wants to see
    assert wrong(node.rows, found) == [], table(node.rows, found)
    assert {name: len(each) for name, each in found.items()} == {name: LIVES.get(name, 1) for name in DEATHS}, "each once"


def test_the_counters_say_what_the_verdicts_say(node: Node) -> None:
    """By name and cause, and 0 for the others."""
    found = wait_for_deaths(node.agent, {name: LIVES.get(name, 1) for name in DEATHS})
    deaths = {
        (labels["container"], labels["cause"]): value
        for labels, value in ((dict(have), value) for have, value in node.agent.family("coroner_container_deaths_total").items())
    }
    forced_kills = node.agent.by_container("coroner_container_forced_kills_total")
    for name, each in found.items():
        causes = [verdict["cause"] for verdict in each]
        for cause in ("completed", "error", "stopped", "forced_kill", "oom_kill", "killed", "crashed", "unknown"):
            assert deaths.get((name, cause)) == causes.count(cause), (name, cause)
        assert forced_kills.get(name) == causes.count("forced_kill")
    [drained] = found["drained"]
    assert drained["stop_seconds"] > 0  # of 2 s, but Docker tells of a signal some time after it was sent
    assert node.agent.value("coroner_container_last_stop_duration_seconds", container="drained") == pytest.approx(
        drained["stop_seconds"], abs=0.01
    )
    [deaf] = found["deaf"]
    assert deaf["grace_seconds"] > 1
    assert 'msg="container died"' in node.agent.log


def test_every_death_has_its_page(node: Node) -> None:
    """The first page leads to each, also to those that were removed: cause, timeline, and whom the OOM killer took at whose limit."""
    found = wait_for_deaths(node.agent, {name: LIVES.get(name, 1) for name in DEATHS})
    first = node.agent.get("/")
    pages = {name: node.agent.get(f"/container?container={name}") for name in DEATHS}
    for name, each in found.items():
        assert f'href="container?container={name}"' in first, name
        assert all(f">{verdict['cause']}</b>" in pages[name] for verdict in each), name
        assert "What happened" in pages[name], name
    assert pages["loop"].count('id="end-') == LIVES["loop"]
    assert re.search(r"the OOM killer took PID \d+ \(tail\)", pages["oom-init"])
    assert "<td>yes<td>" in pages["oom-init"], "PID 1 was the victim"
    assert "container, 16\N{NO-BREAK SPACE}MiB" in pages["oom-init"], "the limit of the container"
    assert "<td>no<td>" in pages["oom-child"]
    assert "<td>paused" in pages["paused"]
    assert "SIGTERM was sent" in pages["drained"]


def test_a_death_while_dockerd_is_down_is_counted_when_it_is_back(dockerd: Daemon, run: Run, node: Node) -> None:
    """No event ever tells of it, not even with `since`: the list and an inspection do."""
    coroner = node.agent
    container = run("sh", "-c", f"{WAIT}exit 7", name="orphan")
    wait_for(lambda: coroner.value("coroner_container_deaths_total", container="orphan", cause="error") == 0, 60, "not born at 0")
    dockerd.kill()
    try:
        let_go(cgroup(container))
        wait_for(
            lambda: not cgroup(container).exists() or "populated 0" in (cgroup(container) / "cgroup.events").read_text(), 60, "it lives"
        )
    finally:
        dockerd.start()
    found = wait_for_deaths(coroner, {"orphan": 1})
    assert [(verdict["cause"], verdict["exit_code"]) for verdict in found["orphan"]] == [("error", 7)]


def test_an_agent_restarted_in_the_middle_of_a_stop_makes_one_verdict_of_it(run: Run, agent: StartAgent) -> None:
    """The request was seen by the one, the death by the next; both were killed with SIGKILL in between."""
    coroner = agent()
    container = run("sh", "-c", f"trap '{WAIT}exit 0' TERM; {HOLD}", name="half")
    container.reload()
    wait_for(lambda: catches(container.attrs["State"]["Pid"]), 30, "no trap set")
    stop = threading.Thread(target=lambda: container.stop(timeout=240))
    stop.start()
    wait_for(lambda: is_asked(coroner, container), 60, "the request was not seen")
    coroner.kill()
    coroner.start()
    let_go(cgroup(container))
    stop.join()
    found = wait_for_deaths(coroner, {"half": 1})
    coroner.kill()
    coroner.start()
    wait_for(lambda: coroner.value("coroner_container_deaths_total", container="half", cause="stopped") is not None, 60, "no counter")
    assert coroner.value("coroner_container_deaths_total", container="half", cause="stopped") == 1
    assert [verdict["cause"] for verdict in found["half"]] == ["stopped"]


def is_asked(coroner: Agent, container: Container) -> bool:
    """Whether the casebook has the stop signal of a container that runs."""
    with closing(sqlite3.connect(f"file:{coroner.state}/casebook.sqlite?mode=ro", uri=True)) as casebook:
        rows = casebook.execute("SELECT facts FROM open_cases WHERE identifier = ?", (container.id,)).fetchall()
    return any("Signalled" in facts for (facts,) in rows)


def test_what_ended_before_the_first_agent_is_history_and_what_ends_while_it_is_away_is_not(run: Run, agent: StartAgent) -> None:
    """Counted at the next start, and only once; Docker remembers its latest events, so a stop is known for one."""
    run("sh", "-c", "exit 9", name="before").wait()
    coroner = agent()
    container = run("sh", "-c", f"{WAIT}exit 6", name="meanwhile")
    asked = run("sh", "-c", f"trap 'exit 5' TERM; {HOLD}", name="asked")
    asked.reload()
    wait_for(lambda: catches(asked.attrs["State"]["Pid"]), 30, "no trap set")
    wait_for(lambda: coroner.value("coroner_container_deaths_total", container="meanwhile", cause="error") == 0, 60, "not born at 0")
    coroner.kill()
    let_go(cgroup(container))
    container.wait()
    run("sh", "-c", "exit 8", name="unseen").wait()
    asked.stop(timeout=60)
    coroner.start()
    found = wait_for_deaths(coroner, {"meanwhile": 1, "unseen": 1, "asked": 1})
    assert {name: [(v["cause"], v["exit_code"]) for v in each] for name, each in found.items()} == {
        "meanwhile": [("error", 6)],
        "unseen": [("error", 8)],
        "asked": [("stopped", 5)],
    }
    coroner.kill()
    coroner.start()
    wait_for(lambda: coroner.value("coroner_open_cases") is not None, 60, "no page")
    assert len(verdicts(coroner)) == 3


def test_a_container_in_a_container_has_no_verdict(run: Run, node: Node) -> None:
    """What it is, is the word of the one around it."""
    coroner = node.agent
    before = set(by_container(coroner))
    outer = run("sleep", "1000", name="outer")
    inner = cgroup(outer) / f"docker-{'c0ffee' * 10}c0ff.scope"
    inner.mkdir()
    with subprocess.Popen(["sh", "-c", f"echo $$ > {inner}/cgroup.procs; exec sleep 1000"]) as process:
        wait_for(lambda: coroner.value("coroner_containers", state="running") == 2, 60, "not seen")
        process.kill()
    wait_for(lambda: "populated 0" in (inner / "cgroup.events").read_text(), 30, "it lives")
    inner.rmdir()
    outer.kill()
    assert set(wait_for_deaths(coroner, {"outer": 1})) == {"outer"} | before
    assert set(by_container(coroner)) == {"outer"} | before
