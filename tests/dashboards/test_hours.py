"""Hours of nodes: one that is healthy, though much happens there, raises no alert, and each trouble raises its own.

The pages of the healthy one are those of a real kernel with a real Docker and containerd (`python -m tests.nodes.healthy_node`). promtool
evaluates the rules over them as Prometheus does: with `for` and `keep_firing_for`, with what is recorded, and with series that end, which
blocks cannot say.
"""

import json
import re
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tests.dashboards.queries import ALERTS, ROOT, asked_metrics, promtool
from tests.dashboards.test_alerts import RULES, expanded
from tests.nodes.pages import INTERVAL, Values, healthy, played, recording

HOURS = 5
LONG_ENOUGH = 2
"""Hours after which pages that stay the same have nothing to tell any more: no rule looks back for longer than one."""
HALF_AN_HOUR = 1800
EVERY = 3
"""Prometheus scrapes every third page, and so all of them within three rounds: every 21 s, between what most do and its default."""
EVALUATION = 60
"""Seconds between two evaluations, Prometheus' default: no rule that fires at once looks at less than ten minutes."""
NODE = 'job="coroner",instance="node-1"'
ASKED = set().union(*(asked_metrics(rule["expr"]) for rule in RULES))


class Raised(NamedTuple):
    """Alerts, each followed by the container or the source that it names."""

    pending: set[str]
    firing: set[str]


def spelled(series: Values) -> str:
    """Return the values as promtool reads them. Of a series that is no longer on the page Prometheus notes the end.

    What stays the same is spelled once: promtool takes as long to read millions of words as to evaluate them.
    """
    words = []
    before: float | None = None
    for value, run in groupby(series):
        count = len(list(run))
        if value is not None:
            words.append(f"{value:.15g}x{count - 1}")
        elif before is None:
            words.append(f"_x{count}")
        else:
            words += ["stale", *([f"_x{count - 1}"] if count > 1 else [])]
        before = value
    return " ".join(words)


def raised(series: Mapping[str, Values], directory: Path) -> Raised:
    """Return the alerts that are pending at any time of these scrapes, and those that fire."""
    relevant = {name: values[::EVERY] for name, values in series.items() if name.partition("{")[0] in ASKED}
    interval = EVERY * INTERVAL
    end = f"{len(next(iter(relevant.values()))) * interval}s"
    asked = [
        f'count by (alertname, container, source) (count_over_time(ALERTS{{alertstate="{state}"}}[{end}])) or vector(0)'
        for state in Raised._fields
    ]
    test = {
        "interval": f"{interval}s",
        "input_series": [{"series": name, "values": spelled(values)} for name, values in relevant.items()],
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


def test_what_stays_the_same_is_spelled_once_and_read_as_often_as_it_was_scraped() -> None:
    """The end of a series is noted at its first missing scrape."""
    series: Values = [None, None, 1, 1, 1, 2.5, None, None, None, 3, None]
    assert spelled(series) == "_x2 1x2 2.5x0 stale _x2 3x0 stale"
    assert expanded(spelled(series)) == series


def test_a_healthy_node_raises_no_alert(tmp_path: Path) -> None:
    """Zombies that are reaped in time are pending meanwhile, so the rules do look."""
    series = played(healthy(NODE), HOURS)
    found = raised(series, tmp_path)
    assert found.firing == set()
    assert "CoronerZombiesNearPidLimit pool" in found.pending


def test_pages_that_stay_the_same_raise_alerts_for_what_is_wrong_on_them_all_the_time(tmp_path: Path) -> None:
    """Old kills and deaths are in the counts of these nodes, and none of them is taken for new."""
    series: dict[str, Values] = {}
    for node in ("docker-6.1", "kubernetes-5.10"):
        page = (ROOT / "tests" / "nodes" / node / "golden.prom").read_text()
        series |= played(recording([page], 1_700_000_000, f'job="coroner",instance="{node}"'), LONG_ENOUGH)
    for metric in ("deaths", "oom_kills"):
        assert any(values[0] for name, values in series.items() if name.startswith(f"coroner_container_{metric}_total"))
    assert raised(series, tmp_path).firing == {
        "CoronerCreatedNeverStarted unstarted",
        "CoronerDyingCgroups",
        "CoronerPaused paused",
        "CoronerPidLimitNear crowded",
        "CoronerSourceBlind exits",
    }


def test_the_recording_is_of_a_healthy_node_on_which_much_happens() -> None:
    """Deaths that somebody asked for, or that were the end of the work; zombies, a pause, reclaim at a limit, a bit of throttling."""
    series = healthy(NODE).series

    def of(metric: str, label: str) -> set[str]:
        found = re.compile(rf'^{metric}{{.*\b{label}="([^"]*)"')
        return {match[1] for name, values in series.items() if (match := found.match(name)) and any(values)}

    assert of("coroner_container_deaths_total", "cause") == {"completed", "stopped"}
    assert of("coroner_container_forced_kills_total", "container") == of("coroner_container_oom_kills_total", "container") == set()
    assert {"cron", "web", "late", "database", "app", "report"} <= of("coroner_container_deaths_total", "container")
    assert "pool" in of("coroner_container_zombies", "container")
    assert of("coroner_container_frozen", "container") == {"memory"}
    assert of("coroner_container_memory_events_max_total", "container") == {"files"}
    assert of("coroner_container_cpu_cfs_throttled_periods_total", "container") >= {"cpu"}
    restarts = [values for name, values in series.items() if name.startswith("process_start_time_seconds")]
    assert [len(set(values) - {None}) for values in restarts] == [2], "one agent after another"


def test_trouble_on_a_healthy_node_raises_the_alerts_for_it_and_no_other(tmp_path: Path) -> None:
    """Each begins after half an hour, in a container of its own: so the test above can fail."""
    series = played(healthy(NODE), LONG_ENOUGH)
    change(series, "coroner_container_zombies", 'container="memory",parent="init"', lambda value, minute: value + minute)
    change(series, "coroner_container_oom_kills_total", 'container="cpu"', lambda value, _: value + 1)
    change(series, "coroner_container_forced_kills_total", 'container="files"', lambda value, _: value + 1)
    change(series, "coroner_container_fork_failures_total", 'container="pool"', lambda value, minute: value + minute)
    change(series, "coroner_container_init_handles_stop_signal", 'container="orphans",signal="SIGTERM"', lambda *_: 0)
    change(series, "coroner_source_up", 'source="docker"', lambda *_: 0)
    assert raised(series, tmp_path).firing == {
        "CoronerZombieGrowth memory",
        "CoronerOomKill cpu",
        "CoronerOomKillOfChild cpu",
        "CoronerForcedKills files",
        "CoronerForkFailures pool",
        "CoronerInitDeaf orphans",
        "CoronerSourceBlind docker",
    }


def change(series: dict[str, Values], metric: str, labels: str, changed: Callable[[float, float], float]) -> None:
    """Replace the values of the one series that has these labels: `changed` gets each, and the minutes since the trouble began."""
    (name,) = (name for name in series if name.startswith(f"{metric}{{") and labels in name)
    began = HALF_AN_HOUR // INTERVAL
    series[name] = [
        value if value is None or number < began else changed(value, (number - began) * INTERVAL / 60)
        for number, value in enumerate(series[name])
    ]
