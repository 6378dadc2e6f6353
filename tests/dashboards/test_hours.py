"""Five hours of nodes: one that is healthy, though much happens there, raises no alert, and each trouble raises its own.

The pages of the healthy one are those of a real kernel with a real Docker and containerd (`python -m tests.nodes.healthy_node`). promtool
evaluates the rules over them as Prometheus does: with `for` and `keep_firing_for`, with what is recorded, and with series that end, which
blocks cannot say.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.dashboards.queries import ALERTS, ROOT, asked_metrics, promtool
from tests.dashboards.test_alerts import RULES
from tests.nodes.pages import INTERVAL, Values, healthy, played, recording

HOURS = 5
EVALUATION = 30
"""Seconds between two evaluations."""
ASKED = set().union(*(asked_metrics(rule["expr"]) for rule in RULES))


class Raised(NamedTuple):
    """Alerts, each followed by the container or the source that it names."""

    pending: set[str]
    firing: set[str]


def spelled(series: Values) -> str:
    """Return the values as promtool reads them. Of a series that is no longer on the page Prometheus notes the end."""
    words = []
    before: float | None = None
    for value in series:
        words.append(f"{value:.15g}" if value is not None else "_" if before is None else "stale")
        before = value
    return " ".join(words)


def raised(series: Mapping[str, Values], directory: Path) -> Raised:
    """Return the alerts that are pending at any time of these scrapes, and those that fire."""
    end = f"{len(next(iter(series.values()))) * INTERVAL}s"
    asked = [
        f'count by (alertname, container, source) (count_over_time(ALERTS{{alertstate="{state}"}}[{end}])) or vector(0)'
        for state in Raised._fields
    ]
    test = {
        "interval": f"{INTERVAL}s",
        "input_series": [{"series": name, "values": spelled(values)} for name, values in series.items() if name.partition("{")[0] in ASKED],
        "promql_expr_test": [{"expr": expr, "eval_time": end} for expr in asked],
    }
    file = directory / "test.json"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": f"{EVALUATION}s", "tests": [test]}))
    done = promtool("test", "rules", file)
    answers = re.findall(r"^ +got: (.*)", done.stdout + done.stderr, re.MULTILINE)  # nothing was expected, and vector(0) is always there
    assert len(answers) == len(asked), done.stdout + done.stderr
    return Raised(*({_named(labels) for labels in re.findall(r"\{([^{}]+)\}", answer)} for answer in answers))


def _named(labels: str) -> str:
    have = dict(re.findall(r'(\w+)="([^"]*)"', labels))
    return " ".join(have[name] for name in ("alertname", "container", "source") if have.get(name))


def test_a_healthy_node_raises_no_alert(tmp_path: Path) -> None:
    """Zombies that are reaped in time are pending meanwhile, so the rules do look."""
    series = played(healthy('job="coroner",instance="node-1"'), HOURS)
    found = raised(series, tmp_path)
    assert found.firing == set()
    assert "CoronerZombiesNearPidLimit pool" in found.pending


def test_pages_that_stay_the_same_raise_alerts_for_what_is_wrong_on_them_all_the_time(tmp_path: Path) -> None:
    """Old kills and deaths are in the counts of these nodes, and none of them is taken for new."""
    series: dict[str, Values] = {}
    for node in ("docker-6.1", "kubernetes-5.10"):
        page = (ROOT / "tests" / "nodes" / node / "golden.prom").read_text()
        series |= played(recording([page], 1_700_000_000, f'job="coroner",instance="{node}"'), HOURS)
    for metric in ("deaths", "oom_kills"):
        assert any(values[0] for name, values in series.items() if name.startswith(f"coroner_container_{metric}_total"))
    assert raised(series, tmp_path).firing == {
        "CoronerCreatedNeverStarted unstarted",
        "CoronerDyingCgroups",
        "CoronerPaused paused",
        "CoronerPidLimitNear crowded",
        "CoronerSourceBlind exits",
    }
