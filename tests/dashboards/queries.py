"""What the dashboards and the alerts ask of Prometheus, for the tests here and for those that put the questions to a real one."""

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "dashboards").glob("*.json"))
ALERTS = ROOT / "dashboards" / "alerts.yaml"
CATALOGUE = ROOT / "collectors" / "README.md"

GRAFANA_OWN = {"__rate_interval": "5m", "__range": "1h", "__interval": "1m"}

_KEYWORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "inf", "nan"}
_LABEL_LIST = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_SELECTOR = re.compile(r"(?<![\w.])([a-zA-Z_:][\w:]*)\b(?!\s*\()\s*(\{[^{}]*\})?")
_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)")
_CATALOGUE_ROW = re.compile(r"^\|\s*`(coroner_[a-z0-9_]+)", re.MULTILINE)


def parsed(file: Path) -> Any:
    """Return what a file of YAML holds: with libyaml, where PyYAML has it, in a tenth of the time."""
    return yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all panels that show something: not the rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def annotations(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the annotations that come from Prometheus: not Grafana's own."""
    return [annotation for annotation in dashboard["annotations"]["list"] if "builtIn" not in annotation]


def dashboard_queries(paths: Sequence[Path] = DASHBOARDS, variables: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Return (title of dashboard, ": ", title of panel or annotation; expression) of every query.

    Every variable is replaced: by `variables`, or as "All" would be.
    """
    queries = []
    for path in paths:
        dashboard = json.loads(path.read_text())
        values = dict(GRAFANA_OWN)
        values |= {variable["name"]: variable["allValue"] for variable in dashboard["templating"]["list"] if "allValue" in variable}
        values |= variables or {}
        asked = [(panel["title"], target["expr"]) for panel in panels(dashboard) for target in panel["targets"]]
        asked += [(annotation["name"], annotation["expr"]) for annotation in annotations(dashboard)]
        queries += [(f"{path.stem}: {title}", substitute(expr, values)) for title, expr in asked]
    return queries


@functools.cache
def recorded() -> dict[str, str]:
    """Return the expression of every series that the rules record."""
    groups = parsed(ALERTS)["groups"]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule}


def asked_metrics(expr: str) -> set[str]:
    """Return the metrics that `expr` needs in the end: for a recorded series those it is made of, for a bucket its histogram."""
    records = recorded()
    found = set()
    for name, _ in selectors(expr):
        found |= asked_metrics(records[name]) if name in records else {name.removesuffix("_bucket")}
    return found


def substitute(expr: str, values: Mapping[str, str]) -> str:
    """Replace $name, ${name} and ${name:format}; a name without a value is a KeyError."""
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], expr)


def selectors(expr: str) -> list[tuple[str, str]]:
    """Return (metric name, matchers) of every series selector in a PromQL expression."""
    without_ranges = re.sub(r"\[[^\]]*\]", "", expr)
    without_strings = re.sub(r',\s*"[^"]*"', "", without_ranges)  # of label_replace; those of matchers follow an operator
    without_lists = _LABEL_LIST.sub(" ", without_strings)
    return [(name, matchers or "") for name, matchers in _SELECTOR.findall(without_lists) if name.lower() not in _KEYWORDS]


def declared_metric_names(path: Path = CATALOGUE) -> frozenset[str]:
    """Return the metrics of the catalogue: the first cell of a table row is the name in backticks."""
    return frozenset(_CATALOGUE_ROW.findall(path.read_text()))


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run promtool; without it the test is skipped, or fails where nothing may be skipped."""
    program = shutil.which("promtool")
    if program is None:
        reason = "promtool is missing: install the package `prometheus`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    environment = os.environ | {"GOGC": "300"}  # collects garbage less often, which is a quarter of its work
    return subprocess.run([program, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=240, check=False)
