"""The contract about labels: dashboards, rules and runbooks name those that the catalogue has, with the metrics that have them."""

import json
import re

import pytest

from tests.dashboards.queries import CATALOGUE, DASHBOARDS, asked_metrics, dashboard_queries, recorded, selectors
from tests.dashboards.test_alerts import RULES, RUNBOOKS, queries_of
from tests.test_catalogue import rows

OF_TARGETS = {"cluster", "job", "instance"}
"""Who scrapes adds these."""

LABELS = {name: row.labels | OF_TARGETS for name, row in rows(CATALOGUE.read_text())}
EVERYWHERE = set().union(*LABELS.values()) | {"le"}
ASKED = [
    *dashboard_queries(),
    *((rule["alert"], rule["expr"]) for rule in RULES),
    *recorded().items(),
    *((path.name, query) for path in sorted(RUNBOOKS.iterdir()) for query in queries_of(path)),
]


def labels_of(name: str) -> set[str]:
    """Return the labels of a metric, or of the series that is recorded from some."""
    expr = recorded().get(name, name)
    return set().union(*(LABELS.get(metric, OF_TARGETS) for metric in asked_metrics(expr)))


@pytest.mark.parametrize("expr", sorted({expr for _, expr in ASKED}))
def test_labels_are_those_of_the_catalogue(expr: str) -> None:
    """A matcher names a label of its metric, a list of labels those of some metric."""
    for name, matchers in selectors(expr):
        assert set(re.findall(r"(\w+) *[=!]", matchers)) <= labels_of(name), name
    for labels in re.findall(r"\b(?:by|on|ignoring|without|group_left|group_right) *\(([^()]*)\)", expr):
        assert set(re.split(r", *", labels)) <= EVERYWHERE


def test_legends_and_templates_name_labels_of_the_catalogue() -> None:
    """`{{label}}` of a legend or an annotation, and `$labels.label` of an alert but for those that its own expression adds."""
    for path in DASHBOARDS:
        board = json.dumps(json.loads(path.read_text()))
        assert set(re.findall(r"\{\{(\w+)\}\}", board)) <= EVERYWHERE
    for rule in RULES:
        added = set(re.findall(r'"(\w+)", "\w+", "", ""\)', rule["expr"]))
        named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert named <= EVERYWHERE | added, rule["alert"]


def test_a_label_that_nobody_has_is_found() -> None:
    """The test above is not vacuous."""
    assert "culprit" not in labels_of("coroner_container_zombies")
    assert {"parent", "container", "cluster"} <= labels_of("coroner_container_zombies")
    assert "parent" in labels_of("parent:coroner_container_zombies:delta1h")
