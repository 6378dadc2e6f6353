"""Every query of every dashboard, and every variable, in a real Prometheus that has the golden pages of two nodes for an hour."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.queries import ALERTS, DASHBOARDS, ROOT, dashboard_queries, promtool, recorded, substitute

NODES = ("docker-6.1", "kubernetes-5.10")
AHEAD = 10
"""Minutes of history that are still to come: so the tests may take their time."""

OF_THE_AGENT = (
    ("process_cpu_seconds_total", 0.5),
    ("process_resident_memory_bytes", 48e6),
    ("up", 1),
    ("scrape_duration_seconds", 0.02),
    ("scrape_samples_scraped", 700),
)
"""What is not on a golden page, with its value."""

Answer = Mapping[str, Any]


class Server:
    """A Prometheus that scrapes nobody: it has blocks, and evaluates the rules."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        config = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "storage": {"tsdb": {"out_of_order_time_window": "1h"}},  # the blocks reach into the future
        }
        (directory / "prometheus.yml").write_text(json.dumps(config))
        self._log = (directory / "log").open("w")
        self._process = subprocess.Popen(
            [
                _program(),
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer; an error is Prometheus' own words."""
        question = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{question}", timeout=60) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:  # it is starting
                raise
            pytest.fail(f"{parameters}: {error.read().decode()}")

    def query(self, expr: str) -> list[Answer]:
        """Return the series that there are now."""
        found: list[Answer] = self.ask("query", query=expr)["result"]
        return found

    def wait_for(self, expr: str) -> None:
        """Return once there is an answer; fail when there is none for long."""
        until = time.monotonic() + 300
        while time.monotonic() < until:
            try:
                if self.query(expr):
                    return
            except OSError:  # it does not listen yet, or is not ready
                assert self._process.poll() is None
            time.sleep(0.2)
        pytest.fail(f"no answer to {expr}")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def _program() -> str:
    promtool("--version")  # skips, or fails, where the package is missing
    return shutil.which("prometheus") or "prometheus"


def page(node: str, start: int, minutes: int) -> Iterator[str]:
    """Yield a golden page for every minute as OpenMetrics; counters rise by two a second, zombies by one a minute."""
    text = (ROOT / "tests" / "nodes" / node / "golden.prom").read_text()
    samples = re.findall(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
    samples += [(name, "", str(value)) for name, value in OF_THE_AGENT]
    for name, labels, value in samples:
        step = 120 if name.endswith(("_total", "_bucket", "_count")) else name == "coroner_container_zombies"
        target = f'job="coroner",instance="{node}:10911"' + (f",{labels}" if labels else "")
        for minute in range(minutes + AHEAD):
            yield f"{name}{{{target}}} {float(value) + minute * step} {start + 60 * minute}"


@contextmanager
def serving(directory: Path, minutes: int) -> Iterator[Server]:
    """Serve two nodes with this much of history, and all that is recorded of them now."""
    start = int(time.time()) - minutes * 60
    lines = [line for node in NODES for line in page(node, start, minutes)]
    (directory / "history.om").write_text("\n".join([*lines, "# EOF", ""]))
    made = promtool("tsdb", "create-blocks-from", "openmetrics", directory / "history.om", directory / "data")
    assert made.returncode == 0, made.stdout + made.stderr
    server = Server(directory)
    try:
        server.wait_for("vector(1)")
        for name in recorded():
            server.wait_for(name)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve two nodes on which everything happens all the time, for an hour and more."""
    with serving(tmp_path_factory.mktemp("busy"), 70) as server:
        yield server


NO_ANSWER = {
    "container: CPU pressure": "these kernels do not tell when all tasks wait for a CPU",
    "node: Lost events": "no agent of these nodes traces signals",
}
"""Panels with a query that nothing on the two pages answers, and why."""


def test_every_query_has_an_answer(server: Server) -> None:
    """As Grafana asks it for a single number, and over a range for a graph: no error, and data."""
    now = time.time()
    empty = set()
    for title, expr in dashboard_queries():
        over_time = server.ask("query_range", query=expr, start=str(now - 1800), end=str(now), step="60")["result"]
        if not server.query(expr) and not over_time:
            empty.add(title)
    assert empty == NO_ANSWER.keys()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: str(path.stem))
def test_every_variable_has_values_and_those_that_lead_to_a_docker_host(server: Server, path: Path) -> None:
    """label_values(SERIES, LABEL), as Grafana asks for it. A host without Kubernetes has no cluster, namespace and pod to choose."""
    variables = [variable for variable in json.loads(path.read_text())["templating"]["list"] if variable["type"] == "query"]
    values = {variable["name"]: variable["allValue"] for variable in variables}
    host = values | {"instance": "docker-6.1:10911"}
    for variable in variables:
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
        assert asked
        found = server.ask(f"label/{asked[2]}/values", **{"match[]": substitute(asked[1], values)})
        of_host = server.ask(f"label/{asked[2]}/values", **{"match[]": substitute(asked[1], host)})
        assert bool(found) == (variable["name"] != "cluster"), variable["name"]
        assert bool(of_host) == (variable["name"] in ("job", "instance", "container")), variable["name"]


def test_a_link_to_a_container_of_docker_shows_that_one_alone(server: Server) -> None:
    """Its link chooses an empty namespace and pod, which match the series that have none."""
    (name, *_) = sorted(series["metric"]["container"] for series in server.query('coroner_container_info{instance=~"docker.*"}'))
    chosen = {"cluster": "", "instance": "docker-6.1:10911", "namespace": "", "pod": "", "container": name}
    queries = dashboard_queries([path for path in DASHBOARDS if path.stem == "container"], chosen)
    shown = [series["metric"].get("container", name) for _, expr in queries for series in server.query(expr)]
    assert len(shown) > 30
    assert set(shown) == {name}


def test_several_can_be_chosen(server: Server) -> None:
    """Grafana joins them to one regular expression."""
    both = "(docker-6.1:10911|kubernetes-5.10:10911)"
    for title, expr in dashboard_queries(variables={"instance": both}):
        assert bool(server.query(expr)) == bool(server.query(expr.replace(both, ".+"))), title
