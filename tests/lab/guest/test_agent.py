"""The agent on a real node: limits, states, scrapes and its end."""

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guest.node import (
    CGROUPS,
    DOCKER_URL,
    FORK_BOMB,
    WAIT,
    Agent,
    Daemon,
    Run,
    Series,
    StartAgent,
    cgroup,
    in_parallel,
    let_go,
    samples,
    series,
    wait_for,
)

KILLS, NODE_KILLS = "coroner_container_oom_kills_total", "coroner_oom_kills_total"


def test_a_container_is_named_with_its_image_id_and_runtime(shared_agent: Agent, run: Run) -> None:
    """Everything but the name is on the info metric."""
    container = run("sleep", "1000", name="web")

    wait_for(
        lambda: (
            shared_agent.value("coroner_container_info", container="web", container_id=f"docker://{container.id}", runtime="docker") == 1
        ),
        30,
        "no info",
    )
    assert shared_agent.value("coroner_container_info", image="busybox", cgroup=f"/docker/{container.id}", namespace="", pod="") == 1


def test_a_throttled_container_shows_its_quota_and_its_throttling(shared_agent: Agent, run: Run) -> None:
    """A tenth of a core, and a loop that wants all of it."""
    run("sh", "-c", "while :; do :; done", name="busy", cpu_period=100_000, cpu_quota=10_000)

    wait_for(
        lambda: (shared_agent.value("coroner_container_cpu_cfs_throttled_periods_total", container="busy") or 0) > 3, 30, "not throttled"
    )
    assert shared_agent.value("coroner_container_cpu_limit_cores", container="busy") == 0.1
    page = shared_agent.scrape()
    value = {
        name.removeprefix("coroner_container_cpu_"): value for (name, labels), value in page.items() if ("container", "busy") in labels
    }
    assert 0 < value["cfs_throttled_periods_total"] <= value["cfs_periods_total"]
    assert value["cfs_throttled_seconds_total"] > 0
    assert value["usage_seconds_total"] > 0


def test_refused_forks_are_counted_at_the_pids_limit(shared_agent: Agent, run: Run) -> None:
    """A shell cannot start the container's eleventh process."""
    run("sh", "-c", FORK_BOMB, name="bomb", pids_limit=10)

    wait_for(lambda: (shared_agent.value("coroner_container_fork_failures_total", container="bomb") or 0) >= 1, 30, "no refused fork")
    assert shared_agent.value("coroner_container_threads_limit", container="bomb") == 10
    assert shared_agent.value("coroner_container_threads_peak", container="bomb") == 10


def test_memory_limit_usage_and_peak_are_the_kernels(shared_agent: Agent, run: Run) -> None:
    """An unlimited container has no limit series, rather than one of nine exabytes."""
    in_parallel(
        lambda: run("sleep", "1000", name="small", mem_limit="64m"),
        lambda: run("sleep", "1000", name="unlimited"),
    )

    wait_for(lambda: shared_agent.value("coroner_container_memory_limit_bytes", container="small") == 64 << 20, 30, "no limit")
    usage = shared_agent.value("coroner_container_memory_usage_bytes", container="small")
    assert usage is not None
    assert 0 < usage < 64 << 20
    wait_for(lambda: shared_agent.value("coroner_container_memory_peak_bytes", container="unlimited"), 30, "no peak")
    assert shared_agent.value("coroner_container_memory_limit_bytes", container="unlimited") is None


def test_a_paused_container_is_frozen_and_counted_as_paused(shared_agent: Agent, run: Run) -> None:
    """The cgroup says so, not only Docker."""
    container = run("sleep", "1000", name="still")
    wait_for(lambda: shared_agent.value("coroner_container_frozen", container="still") == 0, 30, "not running")

    container.pause()

    wait_for(lambda: shared_agent.value("coroner_container_frozen", container="still") == 1, 30, "not frozen")
    wait_for(lambda: shared_agent.value("coroner_containers", state="paused") == 1, 30, "not counted as paused")
    wait_for(lambda: shared_agent.value("coroner_containers", state="running") == 0, 30, "counted as running, too")
    container.unpause()
    wait_for(lambda: shared_agent.value("coroner_container_frozen", container="still") == 0, 30, "still frozen")


def test_a_kernel_without_psi_has_no_pressure_and_nothing_has_failed(shared_agent: Agent, run: Run) -> None:
    """Neither of the node nor of a container: absent, not 0. Of a kernel that has it the host's own tests read /proc/pressure."""
    assert not Path("/proc/pressure").exists()
    run("sleep", "1000", name="unhurried")
    wait_for(lambda: shared_agent.value("coroner_container_threads", container="unhurried"), 30, "not running")

    assert {name for name, _ in shared_agent.scrape() if "_pressure_" in name} == set()
    assert shared_agent.value("coroner_scrape_collector_success", collector="node_pressure") == 1
    assert shared_agent.value("coroner_scrape_collector_success", collector="pressure") == 1


def durations(page: str) -> str:
    """What the collectors of a page took: equal to the last digit only if two pages show the same pass."""
    return "\n".join(re.findall("^coroner_scrape_collector_duration_seconds.*$", page, re.MULTILINE))


def test_two_scrapes_at_once_share_a_pass(shared_agent: Agent) -> None:
    """Two Prometheus servers cost one pass when they come together, and two when they do not."""

    def share() -> bool:
        pages: list[str] = in_parallel(*([lambda: shared_agent.get("/metrics")] * 4))
        return len({durations(page) for page in pages}) < 4

    wait_for(share, 30, "never shared")
    assert durations(shared_agent.get("/metrics")) != durations(shared_agent.get("/metrics"))


def test_the_page_is_valid_in_both_formats(shared_agent: Agent, run: Run) -> None:
    """prometheus_client's parsers take it, and promtool has nothing to say."""
    run("sleep", "1000", name="valid", mem_limit="64m")
    wait_for(lambda: shared_agent.value("coroner_container_info", container="valid"), 30, "no container")

    text, openmetrics = shared_agent.scrape(), shared_agent.scrape(openmetrics=True)

    own = {series for series in text if series[0].startswith("coroner_")}
    assert own
    assert own == {series for series in openmetrics if series[0].startswith("coroner_")}
    body = "".join(line + "\n" for line in shared_agent.get("/metrics").splitlines() if "python_" not in line)
    linted = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


def test_a_hung_docker_daemon_delays_no_scrape_and_loses_no_name(agent: StartAgent, run: Run, dockerd: Daemon) -> None:
    """The daemon is stopped in its tracks; what it said before stands, and the kernel's numbers go on."""
    coroner = agent()
    run("sleep", "1000", name="web")
    wait_for(lambda: coroner.value("coroner_container_threads", container="web") == 1, 30, "not named")

    dockerd.process.send_signal(signal.SIGSTOP)
    try:
        assert coroner.value("coroner_container_threads", container="web") == 1
        fresh = agent()
        assert fresh.value("coroner_source_up", source="docker") == 0
        assert fresh.value("coroner_source_up", source="cgroup") == 1
        assert fresh.value("coroner_node_threads")
    finally:
        dockerd.process.send_signal(signal.SIGCONT)
    wait_for(lambda: fresh.value("coroner_container_threads", container="web") == 1, 60, "not named after the daemon went on")


def test_without_any_docker_a_container_is_called_by_its_id(agent: StartAgent, run: Run) -> None:
    """Ten seconds it waits for a name, then it is called by its id for life."""
    coroner = agent("--docker.url=")
    container = run("sleep", "1000", name="web")

    wait_for(lambda: coroner.value("coroner_container_threads", container=str(container.id)[:12]) == 1, 40, "not exported")
    assert coroner.value("coroner_container_threads", container="web") is None
    assert coroner.value("coroner_source_up", source="docker") is None


def test_sigterm_ends_an_idle_agent_with_0_within_its_grace(agent: StartAgent) -> None:
    """Kubernetes waits 10 s, it shall take 5 at most."""
    coroner = agent()

    code, seconds = coroner.stop()

    assert (code, seconds < 5) == (0, True), coroner.log
    assert "stopping" in coroner.log


def test_sigterm_in_the_middle_of_scrapes_ends_it_too(agent: StartAgent) -> None:
    """A scrape that is under way is answered or cut, not waited for without end."""
    coroner = agent()
    scrapes = [threading.Thread(target=unanswered, args=(coroner,)) for _ in range(3)]
    for scrape in scrapes:
        scrape.start()

    code, seconds = coroner.stop()

    for scrape in scrapes:
        scrape.join()
    assert (code, seconds < 5) == (0, True), coroner.log


def printed(*flags: str) -> dict[Series, float]:
    """Return the page that `coroner metrics` prints."""
    done = subprocess.run(
        [f"{sys.prefix}/bin/coroner", "metrics", f"--docker.url={DOCKER_URL}", f"--path.cgroupfs={CGROUPS}", *flags],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return samples(done.stdout)


def test_metrics_says_what_the_daemon_beside_it_says_and_leaves_it_alone(agent: StartAgent, run: Run) -> None:
    """A kill of before is in its casebook and nowhere else: without that it is not known, and not 0."""
    coroner = agent()
    container = run("sh", "-c", f"tail /dev/zero; {WAIT}tail /dev/zero; sleep 1000", name="web", mem_limit="16m")
    wait_for(lambda: coroner.value(KILLS, container="web") == 1, 30, "not counted")

    beside = printed(f"--path.state={coroner.state}")
    alone = printed("--path.state=")

    assert beside[series(KILLS, namespace="", pod="", container="web")] == 1
    assert beside[series(NODE_KILLS, scope="container")] == coroner.value(NODE_KILLS, scope="container")
    assert not {name for name, _ in alone} & {KILLS, NODE_KILLS}
    assert series("coroner_container_threads", namespace="", pod="", container="web") in alone
    let_go(cgroup(container))
    wait_for(lambda: coroner.value(KILLS, container="web") == 2, 30, "the daemon does not count on")
    assert coroner.value("coroner_casebook_up") == 1
    assert coroner.value("coroner_casebook_failures_total") == 0
    assert printed(f"--path.state={coroner.state}")[series(KILLS, namespace="", pod="", container="web")] == 2


@pytest.fixture
def no_ipv6_on_lo() -> Iterator[None]:
    """Take ::1 from the loopback, and let localhost be it all the same, as many /etc/hosts have it."""
    hosts, switch = Path("/etc/hosts"), Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
    before = hosts.read_text(encoding="utf-8"), switch.read_text(encoding="ascii")
    hosts.write_text("::1 localhost\n127.0.0.1 localhost\n", encoding="ascii")
    switch.write_text("1", encoding="ascii")
    yield
    hosts.write_text(before[0], encoding="utf-8")
    switch.write_text(before[1], encoding="ascii")


@pytest.mark.usefixtures("no_ipv6_on_lo")
@pytest.mark.parametrize("host", ["localhost", "[::]"])
def test_where_lo_has_no_ipv6_localhost_and_every_address_are_those_of_ipv4(host: str, tmp_path: Path) -> None:
    """As with other programs: one address of a name is enough."""
    assert {address for *_, (address, *_) in socket.getaddrinfo("localhost", 80)} == {"::1", "127.0.0.1"}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    command = [f"{sys.prefix}/bin/coroner", f"--web.listen-address={host}:{port}", "--docker.url=", "--path.state="]
    coroner = Daemon(command, tmp_path / "log", answers)
    coroner.start()
    assert coroner.stop()[0] == 0


def test_a_port_below_1024_without_the_right_is_said_with_its_remedy() -> None:
    """Not another agent's fault."""
    done = subprocess.run(
        [
            *("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-all", f"{sys.prefix}/bin/coroner"),
            *("--web.listen-address=127.0.0.1:80", "--docker.url=", "--path.state="),
        ],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "127.0.0.1:80: Permission denied: a port below 1024 needs CAP_NET_BIND_SERVICE" in done.stderr


def unanswered(agent: Agent) -> None:
    """Scrape, and do not mind if the agent goes away meanwhile."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        agent.get("/metrics")
