"""The agent as a process on the machine that runs the tests, whatever that machine has."""

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

CORONER = f"{sys.prefix}/bin/coroner"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("CORONER_")}

STUCK = """
import sys, threading
from collectors.zombies import Zombies
from agent.__main__ import run
Zombies.collect = lambda self, node: threading.Event().wait()
sys.exit(run(sys.argv[1:]))
"""

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command that listens; return it and its URL."""
    processes = []

    def start(*command: str) -> tuple["subprocess.Popen[str]", str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = [f"--web.listen-address={address}", "--docker.url=", "--log.level=error", f"--path.state={tmp_path}"]
        processes.append(subprocess.Popen([*command, *flags], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True))
        wait_for(lambda: get(f"http://{address}/healthz") == "ok\n")
        return processes[-1], f"http://{address}"

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def get(url: str, **headers: str) -> str:
    """Return a page, empty if nobody answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
            body: bytes = response.read()
    except OSError:
        return ""
    return body.decode()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    deadline = monotonic() + 60
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


def test_one_page_can_be_printed_without_a_server() -> None:
    """`coroner metrics` makes one pass over this machine; its page has this very process in it."""
    done = subprocess.run([CORONER, "metrics", "--docker.url="], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60)

    families = {family.name: family for family in parse_text(done.stdout)}
    assert families["coroner_pid_namespace_processes"].samples[0].value >= 1
    assert families["coroner_node_threads"].samples[0].value >= 1
    assert {sample.labels["source"] for sample in families["coroner_source_up"].samples} == {"cgroup", "proc", "kmsg"}


def test_a_scraper_gets_both_formats_and_the_probes_answer(start: Start) -> None:
    """The whole agent, over HTTP."""
    _, url = start(CORONER)
    wait_for(lambda: get(f"{url}/readyz") == "ok\n")

    text = get(f"{url}/metrics")
    openmetrics = get(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")

    assert {family.name for family in parse_text(text)}
    assert openmetrics.endswith("# EOF\n")
    openmetrics_families = {family.name for family in parse_openmetrics(openmetrics)}  # type: ignore[no-untyped-call] # prometheus_client
    assert openmetrics_families >= {"coroner_build_info", "coroner_source_up"}
    assert "<h1>Coroner" in get(f"{url}/")


def test_sigterm_ends_it_with_0_although_a_read_hangs_and_a_scrape_waits(start: Start) -> None:
    """A thread that never comes back must not keep the process."""
    process, url = start(sys.executable, "-c", STUCK)
    scrape = threading.Thread(target=get, args=(f"{url}/metrics",))
    scrape.start()

    process.send_signal(signal.SIGTERM)

    _, errors = process.communicate(timeout=30)
    scrape.join()
    assert process.returncode == 0, errors


def test_a_stuck_collector_is_said_and_the_rest_is_served(start: Start) -> None:
    """Also over HTTP, within the scraper's own time."""
    _, url = start(sys.executable, "-c", STUCK)

    page = {
        (sample.name, sample.labels.get("collector")): sample.value
        for family in parse_text(get(f"{url}/metrics", **{"X-Prometheus-Scrape-Timeout-Seconds": "2"}))
        for sample in family.samples
    }

    assert page["coroner_scrape_collector_success", "zombies"] == 0
    assert page["coroner_scrape_collector_success", "oom"] == 1
    assert ("coroner_node_threads", None) in page


def test_bad_configuration_names_every_problem_and_exits_with_2() -> None:
    """One run tells all that is wrong."""
    done = subprocess.run(
        [CORONER, "--web.listen-address=nowhere", "--log.level=loud", "--typo"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert all(word in done.stderr for word in ("--web.listen-address", "nowhere", "--log.level", "loud", "--typo"))
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said_with_the_flag_that_changes_it(start: Start) -> None:
    """Exit 1: the configuration is fine, the machine is not."""
    _, url = start(CORONER)
    done = subprocess.run(
        [CORONER, f"--web.listen-address={url.removeprefix('http://')}", "--docker.url=", "--path.state="],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "--web.listen-address" in done.stderr
    assert "Traceback" not in done.stderr
