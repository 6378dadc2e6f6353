"""A real Prometheus scrapes the agent, asks every question of the dashboards, and tells a real Alertmanager of what is wrong."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker.models.containers import Container

from tests.dashboards.queries import dashboard_queries
from tests.lab.guest.monitoring import Alertmanager, Prometheus
from tests.lab.guest.node import FORK_BOMB, WAIT, Run, StartAgent, cgroup, in_parallel, let_go, wait_for

ANSWERED_HERE = {
    "fleet": (
        "OOM kills, Forced kills, Zombies, Fullest PID limit, Fullest PID table, Blind sources, Agents down, Deaths by cause, "
        "Who was OOM-killed, OOM kills by whose limit was hit, Forced kills by container, Least headroom, Zombies by container, "
        "PID limits in use, Refused forks, PID tables in use, Sources, Containers by state, Agents, Findings, Findings by rule, Deaths"
    ),
    "container": (
        "Memory, Memory events, Headroom, Whom the OOM killer would take, CPU, Throttled periods, Threads, Zombies by parent, "
        "Last stop, PID 1, Age of the oldest zombie, Its PID namespaces, Who it is, Running for, Deaths"
    ),
    "node": (
        "PID table, PID table in use, PID namespaces, Collectors, Duration of collectors, Kernel log, Casebook, CPU of the agent, Versions"
    ),
}
"""Panels that have data in this scenario. The others need PSI, which this kernel has not, hours, or troubles that nobody makes here;
their queries have data in tests/dashboards/test_prometheus.py, from pages of real kernels."""

ZOMBIES = "import os, signal\nfor _ in range(9):\n    os.fork() or os._exit(0)\nsignal.pause()"

MORE_ZOMBIES = "import os, time\nwhile True:\n    os.fork() or os._exit(0)\n    time.sleep(1)"


def squeeze(container: Container) -> Container:
    """Set memory.high, which Docker has no option for, so that the kernel throttles the container."""
    (cgroup(container) / "memory.high").write_text("4M")
    return container


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    """An Alertmanager."""
    server = Alertmanager(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def prometheus(agent: StartAgent, run: Run, run_python: Run, tmp_path: Path, alertmanager: Alertmanager) -> Iterator[Prometheus]:
    """A Prometheus that has scraped a node with every kind of trouble."""
    coroner = agent()
    server = Prometheus(coroner, tmp_path, alertmanager=alertmanager.address)
    server.start()
    _, _, parent, _, bomb, _, _, stubborn = in_parallel(
        lambda: run_python(MORE_ZOMBIES, name="growing"),
        lambda: run_python(ZOMBIES, name="careless", mem_limit="256m", pids_limit=15),
        lambda: run("sh", "-c", WAIT + "tail /dev/zero; sleep 1000", name="parent", mem_limit="8m"),
        lambda: run("sh", "-c", "while :; do :; done", name="busy", cpu_period=100_000, cpu_quota=20_000),
        lambda: run("sh", "-c", WAIT + FORK_BOMB, name="bomb", pids_limit=10),
        lambda: squeeze(run("sh", "-c", "while :; do head -c 6m /dev/zero | tail > /dev/null; sleep 1; done", name="squeezed")),
        lambda: run("sh", "-c", "head -c 18944k /dev/zero > /dev/shm/filler; sleep 1000", name="nearly-full", mem_limit="20m"),
        lambda: run("sh", "-c", "trap '' TERM; while :; do sleep 1; done", name="stubborn"),
    )
    # `increase` sees only what happens after a first scrape.
    for metric, container in (("oom_kills_total", "parent"), ("fork_failures_total", "bomb"), ("forced_kills_total", "stubborn")):
        seen = f'count_over_time(coroner_container_{metric}{{container="{container}"}}[1m]) > 1'
        wait_for(lambda seen=seen: server.query(seen), 60, seen)  # type: ignore[misc] # a lambda with a default
    for waiting in (parent, bomb):
        let_go(cgroup(waiting))
    stubborn.stop(timeout=1)
    in_parallel(
        lambda: run("true", name="done"),
        lambda: run("sh", "-c", "exit 3", name="loop", restart_policy={"Name": "on-failure", "MaximumRetryCount": 4}),
        lambda: run("sleep", "1000", name="deaf", labels={"com.docker.compose.project": "shop", "com.docker.compose.service": "deaf"}),
    )
    yield server
    server.kill()


def test_the_increase_of_a_container_that_lives_200_ms_is_its_kill(agent: StartAgent, run: Run, tmp_path: Path) -> None:
    """Scraped every 5 s: the count is 0 on the first page that has the container, or Prometheus would see it begin at 1 and never rise."""
    server = Prometheus(agent(), tmp_path, interval="5s")
    server.start()
    try:
        wait_for(lambda: server.query("count_over_time(coroner_build_info[1m]) > 1"), 60, "no scrape")
        names = [f"short-{number}" for number in range(3)]
        in_parallel(*(lambda name=name: run("tail", "/dev/zero", name=name, mem_limit="8m", auto_remove=True) for name in names))

        def increases() -> dict[str, float]:
            found = server.query('round(increase(coroner_container_oom_kills_total{container=~"short.*"}[5m]))')
            return {series["metric"]["container"]: float(series["value"][1]) for series in found}

        wait_for(lambda: increases() == dict.fromkeys(names, 1.0), 60, "not one each")
        assert server.query("sum(resets(coroner_container_oom_kills_total[5m])) == 0")
        assert server.query("round(sum(increase(coroner_oom_kills_total[5m]))) == 3")
    finally:
        server.kill()


ALERTS = {
    ("CoronerOomKill", "parent"),
    ("CoronerForcedKills", "stubborn"),
    ("CoronerForkFailures", "bomb"),
    ("CoronerZombiesNearPidLimit", "careless"),
    ("CoronerZombieGrowth", "growing"),
    ("CoronerCrashLoop", "loop"),
    ("CoronerInitDeaf", "deaf"),
}


def test_every_query_of_the_dashboards_returns_data_and_alerts_reach_alertmanager(
    prometheus: Prometheus, alertmanager: Alertmanager
) -> None:
    """What panels and annotations ask, a real Prometheus answers; `increase` sees each kill, because its counter was born at 0."""
    wait_for(lambda: prometheus.query('increase(coroner_container_oom_kills_total{container="parent"}[2m]) > 0'), 60, "no increase")
    wait_for(lambda: alertmanager.alerts().keys() >= ALERTS, 90, lambda: f"no {ALERTS - alertmanager.alerts().keys()}")
    told = alertmanager.alerts()
    for alert in ALERTS:
        assert told[alert]["job"] == "coroner"
        assert not told[alert].get("namespace"), "a container of Docker has none, and not the agent's"
        assert told[alert]["severity"] in ("warning", "critical")
    assert told["CoronerCrashLoop", "loop"]["cause"] == "error"
    assert told["CoronerZombieGrowth", "growing"]["parent"] == "init"

    questions = dashboard_queries(variables={"__rate_interval": "2m", "__range": "5m", "__interval": "5s"})
    unanswered = {f"{board}: {title}" for board, titles in ANSWERED_HERE.items() for title in titles.split(", ")}
    assert unanswered <= {title for title, _ in questions}

    def all_answered() -> bool:
        unanswered.difference_update([title for title, query in questions if title in unanswered and prometheus.query(query)])
        return not unanswered

    with contextlib.suppress(AssertionError):
        wait_for(all_answered, 70, "some have no answer")
    assert unanswered == set()
    for _, query in questions:
        prometheus.query(query)  # an error fails it
    for metric in ("coroner_pid_namespace_zombies", "coroner_container_threads"):
        (series,) = prometheus.query(f'{metric}{{container="careless"}}')
        assert "exported_container" not in series["metric"]
