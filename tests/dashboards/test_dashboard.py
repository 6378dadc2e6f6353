"""The dashboards: the rules of grafana/dashboard-linter (which no registry ships), and that they ask for metrics that exist."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.build import files
from tests.dashboards.queries import (
    DASHBOARDS,
    ROOT,
    annotations,
    asked_metrics,
    dashboard_queries,
    declared_metric_names,
    panels,
    promtool,
    recorded,
    selectors,
    substitute,
)

RUNBOOK_URL = "https://github.com/coroner-agent/coroner/blob/main/"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"short", "percentunit", "bytes", "Bps", "ops", "cps", "s"}
RATES = r"\b(rate|irate|increase|delta|idelta|deriv)\s*\("
OF_A_CONTAINER = ("coroner_container_", "container:", "parent:", "cause:")

BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in panels(board)]
TARGETS = [(name, panel["title"], target) for name, panel in PANELS for target in panel["targets"]]
TARGETS += [
    (name, annotation["name"], {"expr": annotation["expr"], "range": True})
    for name, board in BOARDS.items()
    for annotation in annotations(board)
]
"""Where what is asked, and for what: an annotation is asked over a range, like a graph."""

ON_NO_PANEL: dict[str, str] = {}
"""Metrics of the catalogue that no dashboard shows, and why."""

NO_THRESHOLDS: dict[str, dict[str, set[str]]] = {
    "its rows are what is wrong, or past a threshold: there is nothing else in it": {
        "fleet": {
            *("Findings by rule", "Containers with findings", "Nodes with findings, and blind rules", "Who was OOM-killed", "Crash loops"),
            *("OOM kills by workload", "Zombies outside of containers"),
        },
        "container": {"What the rules find", "Whom the OOM killer would take"},
        "node": {"What the rules find", "Created and never started"},
    },
    "it tells facts, of which none is too much": {
        "fleet": {"Agents"},
        "container": {"Who it is", "How it is isolated", "PID 1", "Facts in numbers", "Root file system"},
        "node": {"Versions"},
    },
    "each bar is an event, and bars of two minutes cannot say that they come too often: the alerts look at longer times": {
        "fleet": {"Deaths by cause", "OOM kills by whose limit was hit", "Forced kills by container", "Refused forks"},
        "container": {"Memory events", "OOM kills, when", "Refused forks", "Deaths by cause"},
        "node": {
            *("OOM kills by whose limit was hit", "Source restarts", "Lost events", "Transactions", "How exit statuses were learnt"),
            *("Exits that the kernel did not tell", "What was read at the end", "Bundles and layers"),
        },
    },
    "its limits are lines too, and each container or node has another": {
        "container": {"Memory", "CPU", "Threads", "Last stop"},
        "node": {"PID table"},
    },
    "of a bigger node or container more is right; where a part of a limit can be told another panel has it": {
        "fleet": {"Zombies", "Containers by state"},
        "container": {
            *("Headroom", "Bytes read and written", "Read and write operations", "Its PID namespaces", "Sessions and services"),
            "Writable layer",
        },
        "node": {
            *("Containers by state", "Zombies", "PID namespaces", "Kernel log", "Names", "Watches and unknown candidates", "Open cases"),
            "Samples of a page",
        },
    },
    "a busy processor or disk is waited for, and that alone is no trouble": {
        "container": {"CPU pressure", "I/O pressure"},
        "node": {"CPU pressure of the node", "I/O pressure of the node"},
    },
    "what is too long is set elsewhere: each container's grace period, each job's scrape timeout": {
        "fleet": {"How long stops take"},
        "node": {"Scrapes", "Duration of collectors"},
    },
    "to be old is no fault: it may run for years, or wait for events that are rare": {
        "container": {"Running for", "Age of the oldest zombie"},
        "node": {"Last answer of a source"},
    },
    "somebody may have wanted it": {"container": {"Deaths", "Pauses"}},
}
"""Panels without thresholds, and why: for what a series should not reach there is a number in thresholds.py, or 1."""

NOT_OURS = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "process_cpu_seconds_total", "process_resident_memory_bytes"}
"""Prometheus' own of each scrape, and those that prometheus_client has of the agent's process."""

EVERY_BOARD = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
EVERY_PANEL = pytest.mark.parametrize("panel", [panel for _, panel in PANELS], ids=[f"{name}-{panel['title']}" for name, panel in PANELS])


def thresholds(panel: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of a panel, the one without a lower end included; none if that is the only one."""
    steps: list[dict[str, Any]] = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])
    return steps if len(steps) > 1 else []


def variables_of(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return its variables by name."""
    return {variable["name"]: variable for variable in board["templating"]["list"]}


def test_the_committed_files_are_what_the_builder_writes() -> None:
    """Nobody edits JSON by hand: `python -m dashboards.build` is the way."""
    assert {path.name: path.read_text() == text for path, text in files().items()} == dict.fromkeys(
        ["container.json", "fleet.json", "node.json", "alerts.yaml"], True
    )
    assert set(DASHBOARDS) < set(files())


def test_there_are_three_and_each_has_its_own_address() -> None:
    """Links of panels and of alerts lead to these."""
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        "fleet": "coroner-fleet",
        "container": "coroner-container",
        "node": "coroner-node",
    }


@EVERY_BOARD
def test_it_can_be_provisioned(board: dict[str, Any]) -> None:
    """No id of one Grafana's database, a schema that Grafana 10 to 13 read, and nobody edits a copy unnoticed (uneditable-dashboard)."""
    assert board["id"] is None
    assert 39 <= board["schemaVersion"] <= 42
    assert board["editable"] is False
    assert board["graphTooltip"] == 1
    assert "coroner" in board["tags"]


@EVERY_BOARD
def test_it_leads_to_the_others_with_what_is_chosen_and_to_the_runbooks(board: dict[str, Any]) -> None:
    """Both ways: each has the same two links."""
    others, runbooks = board["links"]
    assert (others["type"], others["tags"], others["includeVars"], others["keepTime"]) == ("dashboards", ["coroner"], True, True)
    assert runbooks["url"].endswith("/dashboards/runbooks")


@EVERY_BOARD
def test_datasource_is_a_variable(board: dict[str, Any]) -> None:
    """template-datasource: any Prometheus can be chosen."""
    variable = variables_of(board)["datasource"]
    assert (variable["type"], variable["query"], variable["label"]) == ("datasource", "prometheus", "Data source")


@pytest.mark.parametrize(
    ("name", "label", "all_value"),
    [
        ("cluster", "Cluster", ".*"),
        ("job", "Job", ".+"),
        ("instance", "Instance", ".+"),
        ("namespace", "Namespace", ".*"),
        ("pod", "Pod", ".*"),
        ("container", "Container", ".*"),
    ],
)
def test_variable_selects_several_or_all(name: str, label: str, all_value: str) -> None:
    """template-job, template-instance; "All" of cluster, namespace, pod and container includes the empty ones: a Docker host has none."""
    having = [variables_of(board)[name] for board in BOARDS.values() if name in variables_of(board)]
    assert len(having) == (3 if name in ("cluster", "job", "instance") else 2)
    for variable in having:
        assert (variable["label"], variable["allValue"]) == (label, all_value)
        assert variable["multi"] is True
        assert variable["includeAll"] is True
        assert variable["datasource"] == DATASOURCE


@EVERY_BOARD
def test_variable_queries_are_sound(board: dict[str, Any]) -> None:
    """template-label-promql, template-on-time-change-reload: each asks a metric for a label, and again when the time range changes."""
    for variable in variables_of(board).values():
        if variable["type"] == "query":
            query = variable["query"]["query"]
            assert re.fullmatch(r"label_values\(coroner_\w+(\{[^{}]*\})?, \w+\)", query)
            assert query == variable["definition"]
            assert variable["refresh"] == 2


@EVERY_BOARD
def test_panels_are_placed_without_overlap(board: dict[str, Any]) -> None:
    """Ids and titles are unique, and no panel covers another."""
    everything = board["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)
    for panel in everything:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    overlapping = [(one["title"], other["title"]) for one, other in combinations(everything, 2) if _overlap(one, other)]
    assert overlapping == []


@EVERY_BOARD
def test_top_row_says_whether_something_is_wrong_now(board: dict[str, Any]) -> None:
    """The first things on the page are single numbers."""
    top = [panel for panel in board["panels"] if panel["gridPos"]["y"] == 0]
    assert [panel["type"] for panel in top] == ["stat"] * 8


@EVERY_PANEL
def test_panel_is_complete(panel: dict[str, Any]) -> None:
    """panel-title-description, panel-units, panel-datasource, panel-no-targets."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["fieldConfig"]["defaults"]["noValue"]
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [DATASOURCE] * (1 + len(panel["targets"]))


@pytest.mark.parametrize("name", BOARDS)
def test_panel_has_thresholds_or_a_reason_why_it_has_none(name: str) -> None:
    """A new panel gets a threshold, or somebody says why there cannot be one; and who has one is no longer excused."""
    without = {panel["title"] for board, panel in PANELS if board == name and not thresholds(panel)}
    excused = Counter(title for boards in NO_THRESHOLDS.values() for title in boards.get(name, ()))

    assert without == excused.keys()
    assert set(excused.values()) == {1}, "one reason each"


@EVERY_PANEL
def test_thresholds_of_a_graph_are_drawn_and_those_of_a_number_are_its_colour(panel: dict[str, Any]) -> None:
    """Steps that nobody sees would be none; they rise, and the first of them has no lower end."""
    if steps := thresholds(panel):
        assert [steps[0]["value"], *sorted(step["value"] for step in steps[1:])] == [None, *(step["value"] for step in steps[1:])]
        match panel["type"]:
            case "timeseries":
                assert panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] == {"mode": "dashed"}
            case "stat":
                assert panel["options"]["colorMode"] == "background"
            case kind:
                assert kind == "state-timeline"


@pytest.mark.parametrize(("name", "shown"), [("fleet", False), ("container", True)])
def test_deaths_and_kills_are_annotations_and_those_that_somebody_asked_for_are_hidden_at_first(name: str, shown: bool) -> None:
    """Each says what and whose it was, and is far enough from the next that bars and marks agree. Of a fleet there are too many to show."""
    found = annotations(BOARDS[name])
    assert [(annotation["name"], annotation["enable"]) for annotation in found] == [
        ("Deaths", shown),
        ("OOM kills", shown),
        ("Completed and stopped", False),
    ]
    for annotation in found:
        assert annotation["datasource"] == DATASOURCE
        assert (annotation["titleFormat"] in ("{{cause}}", "OOM kill"), annotation["tagKeys"], annotation["step"]) == (True, "cause", "2m")
        assert set(re.findall(r"{{(\w+)}}", annotation["textFormat"])) == {"namespace", "pod", "container", "instance"}


@EVERY_PANEL
def test_links_of_series_lead_to_a_dashboard_with_what_the_series_has(panel: dict[str, Any]) -> None:
    """Its labels, or the columns of a table, choose the variables of the other dashboard; the query has all of them."""
    for link in panel["fieldConfig"]["defaults"].get("links", ()):
        target = re.match(r"/d/([a-z-]+)\?", link["url"])
        assert target
        (other,) = (board for board in BOARDS.values() if board["uid"] == target[1])
        chosen = dict(re.findall(r"var-(\w+)=\$\{([\w.]+)\}", link["url"]))
        assert chosen.keys() <= variables_of(other).keys()
        whose = "__data.fields" if panel["type"] == "table" else "__field.labels"
        assert chosen == {name: f"{whose}.{name}" for name in chosen}
        for query in (target["expr"] for target in panel["targets"]):
            for by in re.findall(r"\bby \(([^)]*)\)", query):
                assert chosen.keys() <= set(by.split(", "))


@EVERY_PANEL
def test_rows_of_a_table_are_joined_by_labels_alone(panel: dict[str, Any]) -> None:
    """Grafana's `merge` joins no rows that contradict each other: with several queries none may keep the name of its metric."""
    if panel["type"] == "table" and len(panel["targets"]) > 1:
        assert [target["expr"] for target in panel["targets"] if not re.match(r"(sum|count) by \(|\w+\{[^}]*\} \*", target["expr"])] == []


@EVERY_PANEL
def test_counts_are_whole_numbers_and_bars_stand_upon_each_other(panel: dict[str, Any]) -> None:
    """`increase` says 6.98 of 7 kills; and bars that hide each other are not seen."""
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["unit"] == "short" and panel["type"] in ("stat", "table"):
        assert defaults["decimals"] == 0
    if defaults.get("custom", {}).get("drawStyle") == "bars":
        assert (defaults["decimals"], defaults["custom"]["stacking"]["mode"]) == (0, "normal")


@EVERY_PANEL
def test_what_a_row_is_about_comes_first_and_the_largest_is_at_the_top(panel: dict[str, Any]) -> None:
    """Grafana would order columns by the alphabet and rows not at all."""
    if panel["type"] == "table":
        organize = panel["transformations"][1]["options"]
        assert list(organize["indexByName"]) == ["cluster", "instance", "namespace", "pod", "container"]
        for by in panel["options"].get("sortBy", ()):
            assert by["displayName"] == panel["targets"][0]["legendFormat"]


@EVERY_PANEL
def test_panel_links_to_a_runbook_that_exists(panel: dict[str, Any]) -> None:
    """Where there is an alert there is a link to what to do."""
    for link in panel["links"]:
        assert link["url"].startswith(RUNBOOK_URL)
        assert (ROOT / link["url"].removeprefix(RUNBOOK_URL)).is_file()


def test_every_query_is_promql(tmp_path: Path) -> None:
    """target-promql: Prometheus 2.42 parses every query, as it does the rules."""
    rules = [{"record": f"query:{number}", "expr": expr} for number, (_, expr) in enumerate(dashboard_queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    result = promtool("check", "rules", "--lint=none", file)
    assert result.returncode == 0, result.stderr
    assert f"{len(rules)} rules found" in result.stdout


def test_every_selector_obeys_the_variables() -> None:
    """target-job, target-instance: no panel shows what was not selected."""
    for board, title, target in TARGETS:
        for name, matchers in selectors(target["expr"]):
            wanted = ['cluster=~"$cluster"', 'job=~"$job"', 'instance=~"$instance"']
            if name.startswith(OF_A_CONTAINER) and "container" in variables_of(BOARDS[board]):
                wanted += ['namespace=~"$namespace"', 'pod=~"$pod"', 'container=~"$container"']
            assert [matcher for matcher in wanted if matcher not in matchers] == [], (board, title, name)


def test_rates_follow_the_scrape_interval() -> None:
    """target-rate-interval: only a single number over the whole time range may use another range than $__rate_interval."""
    for board, title, target in TARGETS:
        allowed = {"$__rate_interval"} if target["range"] else {"$__rate_interval", "$__range"}
        assert set(re.findall(r"\[([^\]]*)\]", target["expr"])) <= allowed, (board, title)


def test_counters_are_never_shown_raw() -> None:
    """target-counter-agg: each counter is the argument of a rate, and nothing else is."""
    for board, title, target in TARGETS:
        rated = set(re.findall(RATES + r"((?:coroner|process)_\w+)", target["expr"]))
        for name, _ in selectors(target["expr"]):
            assert name.endswith(("_total", "_bucket")) == (name in {metric for _, metric in rated}), (board, title, name)


def test_every_metric_is_in_the_catalogue_and_every_one_of_the_catalogue_is_shown() -> None:
    """The contract: what a panel or a variable asks for is what the agent exports, and what it exports can be seen."""
    asked = set().union(*(asked_metrics(target["expr"]) for _, _, target in TARGETS))
    for board in BOARDS.values():
        asked |= set(re.findall(r"coroner_\w+", json.dumps(board["templating"])))
    assert asked - declared_metric_names() == NOT_OURS
    assert declared_metric_names() - asked == ON_NO_PANEL.keys()


def test_what_a_rule_records_is_not_computed_again() -> None:
    """No query is heavier than its recording rule: none has the expression of one in it."""
    plain = {name: re.sub(r"\{[^{}]*\}|\s", "", expr) for name, expr in recorded().items()}
    for board, title, target in TARGETS:
        asked = re.sub(r"\{[^{}]*\}|\s", "", target["expr"])
        assert [name for name, expr in plain.items() if expr in asked] == [], (board, title)


def test_queries_for_a_real_prometheus_have_no_variables_left() -> None:
    """dashboard_queries yields one expression per target, ready to run; values of the caller win."""
    queries = dashboard_queries(variables={"instance": "node-1"})
    assert len(queries) == len(TARGETS)
    assert not [expr for _, expr in queries if "$" in expr]
    assert any('instance=~"node-1", namespace=~".*"' in expr for _, expr in queries)


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ('sum by (scope) (increase(a_total{x="1"}[5m])) > 0', [("a_total", '{x="1"}')]),
        ("up == bool 0 or a / on (job) group_left (b) c{}", [("up", ""), ("a", ""), ("c", "{}")]),
        ("topk(10, a offset 10m unless b) and vector(1e3)", [("a", ""), ("b", "")]),
    ],
)
def test_selectors_are_found(expr: str, expected: list[tuple[str, str]]) -> None:
    """Functions, keywords, label lists, durations and numbers are not metrics."""
    assert selectors(expr) == expected


def test_all_spellings_of_a_variable_are_replaced() -> None:
    """Grafana knows $name, ${name} and ${name:format}; an unknown one is an error, not an empty string."""
    assert substitute("$a ${a} ${a:regex} $ab", {"a": "1", "ab": "2"}) == "1 1 1 2"
    with pytest.raises(KeyError):
        substitute("$unknown", {})


def test_catalogue_rows_are_found(tmp_path: Path) -> None:
    """A metric is declared by the first cell of a table row, and by nothing else on the page."""
    catalogue = tmp_path / "README.md"
    catalogue.write_text(
        "`coroner_in_prose` | x\n| Metric | Labels |\n|---|---|\n| `coroner_one_total` | see `coroner_two` |\n|`coroner_three`|\n"
    )
    assert declared_metric_names(catalogue) == {"coroner_one_total", "coroner_three"}


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    a, b = one["gridPos"], other["gridPos"]
    return bool(a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"])
