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
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

CORONER = f"{sys.prefix}/bin/coroner"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CORONER_", "PYTHON"))}
"""What a shell has: with PYTHONUNBUFFERED nothing is left to be written at the end."""

STUCK = """
import sys, threading
from collectors.zombies import Zombies
from agent.__main__ import run
Zombies.collect = lambda self, node: threading.Event().wait()
sys.exit(run(sys.argv[1:]))
"""

STARTING = """
import sys, time
from agent.app import App
from agent.__main__ import run

def wait(self, config, kept=None):
    print("starting", flush=True)
    while True:  # in short sleeps: one that begins just after a signal came is not ended by it
        time.sleep(0.05)

App.__init__ = wait
sys.exit(run(sys.argv[1:]))
"""

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command that listens; return it and its URL."""
    processes = []

    def start(*command: str, log: str = "error") -> tuple["subprocess.Popen[str]", str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        flags = [f"--web.listen-address={address}", "--docker.url=", f"--log.level={log}", f"--path.state={tmp_path}"]
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
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=120) as response:
            body: bytes = response.read()
    except OSError:
        return ""
    return body.decode()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    deadline = monotonic() + 240
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


def command(*arguments: str, environ: dict[str, str] | None = None, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run coroner until it ends."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([CORONER, *arguments], env=ENVIRONMENT | (environ or {}), text=True, check=False, timeout=120, **options)


def test_one_page_can_be_printed_without_a_server() -> None:
    """`coroner metrics` makes one pass over this machine; its page has this very process in it."""
    done = subprocess.run([CORONER, "metrics", "--docker.url="], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=120)

    families = {family.name: family for family in parse_text(done.stdout)}
    assert families["coroner_pid_namespace_processes"].samples[0].value >= 1
    assert families["coroner_node_threads"].samples[0].value >= 1
    assert {sample.labels["source"] for sample in families["coroner_source_up"].samples} == {"cgroup", "proc", "kmsg", "exits"}
    pressure = {name.removeprefix("coroner_node_pressure_") for name in families if name.startswith("coroner_node_pressure_")}
    measured = {"cpu_waiting_seconds", *(f"{of}_{kind}_seconds" for of in ("memory", "io") for kind in ("waiting", "stalled"))}
    assert pressure == (measured if Path("/proc/pressure/cpu").exists() else set()), "what this kernel has, and nothing else"


def test_one_page_can_be_printed_in_openmetrics_and_a_setting_may_stand_before_the_command() -> None:
    """The format is a flag of `coroner metrics` and of nothing else."""
    done = command("--docker.url=", "metrics", "--format", "openmetrics", "--log.level=error")

    families = {family.name for family in parse_openmetrics(done.stdout)}  # type: ignore[no-untyped-call] # prometheus_client
    assert (done.returncode, done.stderr, done.stdout.endswith("# EOF\n")) == (0, "", True)
    assert families >= {"coroner_build_info", "coroner_source_up"}


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["help"], "usage: coroner [FLAG]..."),
        (["--help"], "usage: coroner [FLAG]..."),
        (["help", "metrics"], "usage: coroner metrics [FLAG]..."),
        (["metrics", "--help"], "usage: coroner metrics [FLAG]..."),
        (["--version"], "coroner "),
    ],
)
def test_help_and_version_go_to_standard_output_and_exit_with_0(arguments: list[str], first: str) -> None:
    """Also where a setting is wrong: whoever asks may want to know which."""
    done = command(*arguments, environ={"CORONER_LOG_LEVEL": "loud"})

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(first)


@pytest.mark.parametrize("arguments", [["metric", "--typo"], ["--format=openmetrics", "--typo"], ["metrics", "--format=xml", "--typo"]])
def test_a_wrong_command_line_exits_with_2_and_says_everything(arguments: list[str]) -> None:
    """One line per problem on standard error, nothing on standard output."""
    done = command(*arguments)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 2)
    assert all(line.startswith("coroner: ") for line in done.stderr.splitlines())


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

    _, errors = process.communicate(timeout=120)
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
        timeout=120,
    )

    assert done.returncode == 1
    assert "--web.listen-address" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["metrics", "--docker.url=", "--log.level=error"]])
def test_a_reader_that_has_read_enough_is_no_news(arguments: list[str]) -> None:
    """`coroner --help | head -1`: the pipe is closed before all is written, and Python tries it once more at its end."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = command(*arguments, stdout=writer)
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [["--help"], ["metrics", "--docker.url=", "--log.level=error"]])
@pytest.mark.parametrize(("redirection", "reason"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
def test_output_that_cannot_be_written_is_said(arguments: list[str], redirection: str, reason: str) -> None:
    """A script that keeps a page must not take nothing for one."""
    shell = ["sh", "-c", f'"$@" {redirection}', "sh", CORONER, *arguments]
    done = subprocess.run(shell, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, check=False, timeout=120)

    assert (done.returncode, done.stderr) == (1, f"coroner: cannot write to standard output: {reason}\n")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_bad_configuration_ends_with_2_although_nobody_can_be_told(redirection: str) -> None:
    """Whoever started it still sees which of the two it was."""
    done = subprocess.run(["sh", "-c", f'"$@" {redirection}', "sh", CORONER, "--typo"], env=ENVIRONMENT, check=False, timeout=120)

    assert done.returncode == 2


def test_variables_of_others_are_warned_of_and_do_not_keep_it_from_starting() -> None:
    """An image says its version so, and Kubernetes the port of a Service; what they hold may be a secret."""
    others = {"CORONER_VERSION": "0.1", "CORONER_IMAGE": "secret", "CORONER_PORT": "tcp://10.0.0.1:80", "CORONER_LOGLEVEL": "debug"}
    done = command("metrics", "--docker.url=", "--path.state=", environ=others)

    assert done.returncode == 0
    assert "CORONER_VERSION" in done.stderr
    assert "did you mean CORONER_LOG_LEVEL?" in done.stderr
    assert "CORONER_PORT" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("address", "said"),
    [("192.0.2.1:10911", "not an address of this machine"), ("nowhere.invalid:10911", "the name nowhere.invalid does not resolve")],
)
def test_an_address_that_cannot_be_had_is_said_in_one_line(address: str, said: str) -> None:
    """Another agent is blamed only for a port that is taken."""
    done = command(f"--web.listen-address={address}", "--docker.url=", "--path.state=", "--log.level=error")

    assert done.returncode == 1
    assert done.stderr.startswith(f"coroner: cannot listen on {address}: ")
    assert said in done.stderr
    assert "another agent" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_hang_up_ends_nothing_and_sigterm_still_does(start: Start) -> None:
    """A terminal is closed, or somebody wants a new configuration to be read."""
    process, url = start(CORONER, log="info")
    wait_for(lambda: get(f"{url}/readyz") == "ok\n")

    process.send_signal(signal.SIGHUP)

    assert process.stderr
    while "SIGHUP" not in (line := process.stderr.readline()):
        assert line, "it ended and did not say a word"
    assert get(f"{url}/healthz") == "ok\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_an_agent_whose_log_nobody_reads_any_more_runs_on_and_ends_with_0(start: Start) -> None:
    """The terminal or the program that it logged to is gone."""
    process, url = start(CORONER, log="debug")
    assert process.stderr
    process.stderr.close()
    process.stderr = None

    process.send_signal(signal.SIGHUP)
    assert get(f"{url}/metrics")
    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=120) == 0


@pytest.mark.parametrize(("end", "command", "code"), [("SIGTERM", "", 0), ("SIGINT", "", 0), ("SIGINT", "metrics", 130)])
def test_a_signal_before_it_serves_is_heeded_too(end: str, command: str, code: int) -> None:
    """Opening the casebook may take its time; a hang-up does not end it there either, and an end has no traceback."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTING, *command.split(), "--path.state=", "--log.level=error"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        assert process.stdout.readline() == "starting\n"
        if not command:
            process.send_signal(signal.SIGHUP)
        process.send_signal(getattr(signal, end))
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()

    assert (process.returncode, errors) == (code, "")
