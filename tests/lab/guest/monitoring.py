"""Debian's Prometheus and Alertmanager as processes of the lab."""

import json
import re
import shutil
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.dashboards.queries import ROOT
from tests.lab.guest.node import SLOWNESS, Agent, Daemon


def free_address() -> str:
    """Return one on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


class Server(Daemon):
    """A program of Prometheus that listens on an address."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.address = free_address()
        super().__init__([*command, f"--web.listen-address={self.address}"], log, self._is_ready)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def get(self, path: str) -> Any:
        """Ask its API."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=SLOWNESS * 30) as response:
            return json.load(response)


class Alertmanager(Server):
    """Debian's Alertmanager, which tells nobody."""

    def __init__(self, directory: Path) -> None:
        (directory / "alertmanager.yml").write_text('{"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}')
        program = shutil.which("prometheus-alertmanager") or "prometheus-alertmanager"
        files = [f"--config.file={directory}/alertmanager.yml", f"--storage.path={directory}/alertmanager"]
        super().__init__([program, *files, "--cluster.listen-address="], directory / "alertmanager.log")

    def alerts(self) -> dict[tuple[str, str | None], dict[str, str]]:
        """Return the labels of each alert that it was told of, by its name and container."""
        labels = [alert["labels"] for alert in self.get("/api/v2/alerts")]
        return {(each["alertname"], each.get("container")): each for each in labels}


class Prometheus(Server):
    """Debian's Prometheus with one target, which is called `instance` if that is given.

    Unless it is `patient`, what has to last before it is an alert lasts for a second; a quarter of an hour has 15 s, and an hour 30, so
    zombies that are to stay and to become more do so soon.
    """

    def __init__(
        self, agent: Agent, directory: Path, interval: str = "1s", *, alertmanager: str = "", instance: str = "", patient: bool = False
    ) -> None:
        rules = (ROOT / "dashboards" / "alerts.yaml").read_text()
        if not patient:
            rules = re.sub(r"(?m)^( *for:) .*", r"\1 1s", rules).replace("[15m]", "[15s]").replace("[1h]", "[30s]")
        (directory / "alerts.yaml").write_text(rules)
        self._data = directory / "tsdb"
        target: dict[str, Any] = {"targets": [agent.url.removeprefix("http://")]}
        if instance:
            target["labels"] = {"instance": instance}
        config = {
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [str(directory / "alerts.yaml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []},
            "scrape_configs": [{"job_name": "coroner", "honor_labels": True, "static_configs": [target]}],
        }
        (directory / "prometheus.yml").write_text(json.dumps(config))
        program = shutil.which("prometheus") or "prometheus"
        files = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={self._data}"]
        super().__init__([program, *files, "--web.enable-admin-api"], directory / "prometheus.log")

    def snapshot(self) -> Path:
        """Write all that it has as blocks, which another Prometheus can read beside its own; return their directory."""
        question = urllib.request.Request(f"http://{self.address}/api/v1/admin/tsdb/snapshot", method="POST")
        with urllib.request.urlopen(question, timeout=SLOWNESS * 60) as response:
            return self._data / "snapshots" / str(json.load(response)["data"]["name"])

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Ask now; fail when Prometheus does not understand the question."""
        answer = self.get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result
