"""The dashboard: the rules of grafana/dashboard-linter (which no registry ships), and that it asks for metrics that exist."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards.queries import (
    DASHBOARD,
    ROOT,
    annotations,
    dashboard_queries,
    declared_metric_names,
    panels,
    promtool,
    selectors,
    substitute,
)

RUNBOOK_URL = "https://github.com/coroner-agent/coroner/blob/main/"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"short", "percentunit", "bytes", "ops", "cps", "s"}
RATES = r"\b(rate|irate|increase|delta|idelta|deriv)\s*\("
OF_A_CONTAINER = ("coroner_container_", "coroner_pid_namespace_")

BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())
PANELS = panels(BOARD)
ANNOTATIONS = annotations(BOARD)
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
TARGETS += [({"title": annotation["name"]}, {"expr": annotation["expr"], "range": True}) for annotation in ANNOTATIONS]
"""What is asked, and for what: an annotation is asked over a range, like a graph."""
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}


def test_it_can_be_provisioned() -> None:
    """A stable uid, no id of one Grafana's database, a schema that Grafana 10 to 13 read, and nobody edits a copy unnoticed."""
    assert BOARD["uid"] == "coroner-containers"
    assert BOARD["id"] is None
    assert 39 <= BOARD["schemaVersion"] <= 41
    assert BOARD["editable"] is False
    assert BOARD["graphTooltip"] == 1
    assert "coroner" in BOARD["tags"]


def test_datasource_is_a_variable() -> None:
    """template-datasource: any Prometheus can be chosen."""
    variable = VARIABLES["datasource"]
    assert (variable["type"], variable["query"], variable["label"]) == ("datasource", "prometheus", "Data source")


@pytest.mark.parametrize(
    ("name", "label", "all_value"),
    [("job", "Job", ".+"), ("instance", "Instance", ".+"), ("namespace", "Namespace", ".*"), ("container", "Container", ".*")],
)
def test_variable_selects_several_or_all(name: str, label: str, all_value: str) -> None:
    """template-job, template-instance; "All" of namespace and container includes the empty ones outside Kubernetes."""
    variable = VARIABLES[name]
    assert (variable["label"], variable["allValue"]) == (label, all_value)
    assert variable["multi"] is True
    assert variable["includeAll"] is True
    assert variable["datasource"] == DATASOURCE


def test_variable_queries_are_sound() -> None:
    """template-label-promql, template-on-time-change-reload: each asks a metric for a label, and again when the time range changes."""
    for variable in VARIABLES.values():
        if variable["type"] == "query":
            query = variable["query"]["query"]
            assert re.fullmatch(r"label_values\(coroner_\w+(\{[^{}]*\})?, \w+\)", query)
            assert query == variable["definition"]
            assert variable["refresh"] == 2


def test_panels_are_placed_without_overlap() -> None:
    """Ids and titles are unique, and no panel covers another."""
    everything = BOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)
    for panel in everything:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    overlapping = [(one["title"], other["title"]) for one, other in combinations(everything, 2) if _overlap(one, other)]
    assert overlapping == []


def test_top_row_says_whether_something_is_dying_now() -> None:
    """The first things on the page are single numbers."""
    top = [panel for panel in PANELS if panel["gridPos"]["y"] == 0]
    assert [panel["type"] for panel in top] == ["stat"] * 8


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_panel_is_complete(panel: dict[str, Any]) -> None:
    """panel-title-description, panel-units, panel-datasource, panel-no-targets."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [DATASOURCE] * (1 + len(panel["targets"]))


def test_deaths_are_annotations_and_only_those_that_nobody_asked_for_are_shown_at_first() -> None:
    """Each has its cause as title and tag, says whose death it was, and is far enough from the next that bars and marks agree."""
    assert [(annotation["name"], annotation["enable"]) for annotation in ANNOTATIONS] == [
        ("Deaths", True),
        ("Completed and stopped", False),
    ]
    for annotation in ANNOTATIONS:
        assert annotation["datasource"] == DATASOURCE
        assert (annotation["titleFormat"], annotation["tagKeys"], annotation["step"]) == ("{{cause}}", "cause", "2m")
        assert set(re.findall(r"{{(\w+)}}", annotation["textFormat"])) == {"namespace", "pod", "container", "instance"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
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
    for panel, target in TARGETS:
        for name, matchers in selectors(target["expr"]):
            wanted = ['job=~"$job"', 'instance=~"$instance"']
            if name.startswith(OF_A_CONTAINER):
                wanted += ['namespace=~"$namespace"', 'container=~"$container"']
            assert [matcher for matcher in wanted if matcher not in matchers] == [], (panel["title"], name)


def test_rates_follow_the_scrape_interval() -> None:
    """target-rate-interval: only a single number over the whole time range may use another range than $__rate_interval."""
    for panel, target in TARGETS:
        allowed = {"$__rate_interval"} if target["range"] else {"$__rate_interval", "$__range"}
        assert set(re.findall(r"\[([^\]]*)\]", target["expr"])) <= allowed, panel["title"]


def test_counters_are_never_shown_raw() -> None:
    """target-counter-agg: each counter is the argument of a rate, and nothing else is."""
    for panel, target in TARGETS:
        rated = set(re.findall(RATES + r"(coroner_\w+)", target["expr"]))
        for name, _ in selectors(target["expr"]):
            assert name.endswith("_total") == (name in {metric for _, metric in rated}), (panel["title"], name)


def test_every_metric_is_in_the_catalogue() -> None:
    """The contract: what a panel or a variable asks for is what the agent exports."""
    asked = {name for _, target in TARGETS for name, _ in selectors(target["expr"])}
    asked |= set(re.findall(r"coroner_\w+", json.dumps(BOARD["templating"])))
    assert asked - declared_metric_names() == {"up"}


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
