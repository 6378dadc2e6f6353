"""The rules of findings: complete, and of one mind with the alerts, the catalogue and the runbooks."""

import re
from pathlib import Path

import pytest
import yaml

import collectors
from collectors.deaths import DeathCounts
from collectors.findings import RULES, Rule
from collectors.inquest.kills import KillLedger
from collectors.life import Life

ROOT = Path(__file__).parents[2]
COLLECTORS = collectors.all_collectors(KillLedger(), DeathCounts(), Life())
SHORT = "coroner_container_"


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_a_rule_needs_the_collectors_of_its_metrics(rule: Rule) -> None:
    """The contract with the catalogue: each metric is one that a collector has, and that collector is named."""
    owners = {metric.name: collector.name for collector in COLLECTORS for metric in collector.metrics}
    named = {name for name in rule.collectors if name in collectors.NAMES}

    assert {owners[name] for name in rule.metrics} == named


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_a_rule_is_complete(rule: Rule) -> None:
    """Why in two lines at most, a fix that ends, a runbook with the sections of any other."""
    assert re.fullmatch("[a-z]+(-[a-z]+)+|[a-z]+", rule.id)
    assert len(rule.why.splitlines()) <= 2
    assert rule.why.endswith(".")
    assert rule.fix.endswith(".")
    text = (ROOT / "dashboards" / "runbooks" / f"{rule.runbook}.md").read_text()
    assert re.findall("(?m)^## (.*)$", text) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]


def test_rules_differ() -> None:
    """An id is a label: one for each."""
    assert len({rule.id for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.alert], ids=lambda rule: str(rule.id))
def test_a_rule_with_an_alert_has_its_threshold_severity_and_runbook(rule: Rule) -> None:
    """Or the page would be calm while the alert fires."""
    groups = yaml.safe_load((ROOT / "dashboards" / "alerts.yaml").read_text())["groups"]
    alerts = [
        alert
        for group in groups
        for alert in group["rules"]
        if alert.get("alert") == rule.alert and alert["labels"]["severity"] == rule.severity
    ]

    assert [bool(re.search(rf"[<>=]=? {rule.threshold:g}(?![0-9.])", alert["expr"])) for alert in alerts] == [True]
    assert alerts[0]["annotations"]["runbook_url"].endswith(f"/{rule.runbook}.md")


def test_the_catalogue_lists_the_rules() -> None:
    """In their order, with severity and alert."""
    text = (ROOT / "collectors" / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| Finding | Severity |") :].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]

    assert [(row[0], row[1], row[2] == "node", row[5]) for row in cells] == [
        (rule.id, rule.severity, not any(name.startswith(SHORT) for name in rule.metrics), rule.alert) for rule in RULES
    ]
