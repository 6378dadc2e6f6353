"""A pytest plugin for the guest's side: every report leaves the lab as a line of JSON, as soon as it exists."""

import json
import os
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Begin to report."""
    config.pluginmanager.register(_Reporter(config))


class _Reporter:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._path = Path(os.environ["CORONER_LAB"], "reports")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Send the report of a test's setup, call or teardown."""
        self._send(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Say that a test has sent its last report."""
        self._send({"finished": nodeid})

    def _send(self, line: dict[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
