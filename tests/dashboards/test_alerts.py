"""The alerts: promtool judges the rules and runs their cases; every alert has a runbook, and every rule fires and stays silent once."""

import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from collectors.findings import RULES as FINDING_RULES
from dashboards.thresholds import THRESHOLDS
from tests.dashboards.queries import ALERTS, ROOT, asked_metrics, declared_metric_names, parsed, promtool, recorded, selectors

CASES = sorted((ROOT / "dashboards").glob("alerts*_test.yaml"))
SOURCES = sorted((ROOT / "dashboards" / "rules").iterdir())
RUNBOOKS = ROOT / "dashboards" / "runbooks"
RUNBOOK_URL = "https://github.com/coroner-agent/coroner/blob/main/"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]

_ALL: list[dict[str, Any]] = [rule for group in parsed(ALERTS)["groups"] for rule in group["rules"]]
RULES = [rule for rule in _ALL if "alert" in rule]
RECORDS = [rule for rule in _ALL if "record" in rule]
NAMES = sorted({rule["alert"] for rule in RULES})
OWN = [
    name for name in NAMES if any(rule["alert"] == name and f"/{name.lower()}.md" in rule["annotations"]["runbook_url"] for rule in RULES)
]
OF_FINDINGS = sorted({rule.runbook for rule in FINDING_RULES} - {name.lower() for name in OWN})
"""Runbooks of findings that have not the name of an alert."""
TESTS: list[dict[str, Any]] = [test for path in CASES for test in parsed(path)["tests"]]


def rule_id(rule: dict[str, Any]) -> str:
    """An alert may have one rule per severity."""
    return f"{rule['alert']}-{rule['labels']['severity']}" if "alert" in rule else str(rule["record"])


def queries_of(runbook: Path) -> list[str]:
    """Return the expressions of its promql blocks: one a line, continued by indented lines."""
    blocks = re.findall(r"^ *```promql\n(.*?)^ *```$", runbook.read_text(), re.MULTILINE | re.DOTALL)
    queries: list[str] = []
    for block in blocks:
        margin = re.match(" *", block)
        assert margin
        for line in block.splitlines():
            text = line.removeprefix(margin[0])
            if text.startswith(" "):
                queries[-1] += text
            else:
                queries.append(text)
    return queries


def test_rules_are_sound() -> None:
    """Prometheus 2.42, the oldest that is supported, takes the file without a complaint."""
    result = promtool("check", "rules", "--lint=all", "--lint-fatal", ALERTS)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("cases", CASES, ids=lambda path: str(path.stem))
def test_rules_do_what_their_cases_say(cases: Path) -> None:
    """Every case, on real evaluations."""
    result = promtool("test", "rules", cases)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("cases", CASES, ids=lambda path: str(path.stem))
def test_cases_of_a_changed_rule_fail(cases: Path, tmp_path: Path) -> None:
    """The cases are not vacuous: with every `for` taken away, one of the first three that are of such a rule fails, and so the file."""
    waiting = {rule["alert"] for rule in RULES if "for" in rule}
    of_file = parsed(cases)
    asked = [test for test in of_file["tests"] if waiting & {case["alertname"] for case in test.get("alert_rule_test", ())}][:3]
    (tmp_path / cases.name).write_text(yaml.safe_dump(of_file | {"tests": asked}))
    (tmp_path / ALERTS.name).write_text(re.sub(r"^ +for: .*\n", "", ALERTS.read_text(), flags=re.MULTILINE))
    result = promtool("test", "rules", tmp_path / cases.name)
    assert result.returncode != 0
    assert "alertname: " in result.stdout + result.stderr, "it is no alert that makes it fail"


def test_every_alert_is_there() -> None:
    """All promises."""
    assert NAMES == [
        "CoronerAgentDown",
        "CoronerAgentExpensive",
        "CoronerCasebookDown",
        "CoronerCollectorFailing",
        "CoronerCpuThrottled",
        "CoronerCrashLoop",
        "CoronerCreatedNeverStarted",
        "CoronerDyingCgroups",
        "CoronerForcedKills",
        "CoronerForgedRecords",
        "CoronerForkFailures",
        "CoronerInitDeaf",
        "CoronerKilledUnasked",
        "CoronerLeftovers",
        "CoronerMemoryStalled",
        "CoronerNodePidTableNear",
        "CoronerOomKill",
        "CoronerOomKillOfChild",
        "CoronerOomKillsRepeated",
        "CoronerOomNear",
        "CoronerPaused",
        "CoronerPidExhaustionForecast",
        "CoronerPidLimitNear",
        "CoronerRecordsLost",
        "CoronerRuntimeDown",
        "CoronerSourceBlind",
        "CoronerZombieGrowth",
        "CoronerZombiesNearPidLimit",
    ]


@pytest.mark.parametrize("rule", RULES, ids=rule_id)
def test_rule_fires_and_stays_silent(rule: dict[str, Any]) -> None:
    """At least one case expects the alert with this severity, and one expects none of it at all."""
    expectations = [case["exp_alerts"] for test in TESTS for case in test.get("alert_rule_test", ()) if case["alertname"] == rule["alert"]]
    severities = [{alert["exp_labels"]["severity"] for alert in alerts} for alerts in expectations]
    assert any(rule["labels"]["severity"] in expected for expected in severities)
    assert set() in severities


COUNTERS = [(rule, metric) for rule in RULES for metric in sorted(asked_metrics(rule["expr"])) if metric.endswith("_total")]


def expanded(values: str) -> list[float | None]:
    """Return the samples that promtool makes of an input series; None: the scrape did not have it."""
    samples: list[float | None] = []
    for word in values.split():
        match = re.fullmatch(r"(_|stale|[\d.]+)([+-][\d.]+)?(?:x(\d+))?", word)
        assert match, word
        first, step, times = match.groups()
        if first in ("_", "stale"):
            samples += [None] * int(times or 1)
        else:
            samples += [float(first) + number * float(step or 0) for number in range(int(times or 0) + 1)]
    return samples


@pytest.mark.parametrize(("rule", "metric"), COUNTERS, ids=[f"{rule_id(rule)}-{metric}" for rule, metric in COUNTERS])
def test_a_rule_has_cases_of_its_counter_born_at_0_and_of_a_restarted_agent(rule: dict[str, Any], metric: str) -> None:
    """The first sample is 0, and it rises; and it is away for a while or falls, in cases of this alert."""
    of_alert = [test for test in TESTS if any(case["alertname"] == rule["alert"] for case in test.get("alert_rule_test", ()))]
    series = [
        expanded(str(each["values"]))
        for test in of_alert
        for each in test["input_series"]
        if each["series"].startswith(f"{metric}{{") and 'job="coroner"' in each["series"]
    ]
    known = [[(at, value) for at, value in enumerate(values) if value is not None] for values in series]
    assert any(values[0][1] == 0 and values[-1][1] > 0 for values in known)
    assert any(at - before > 1 or value < last for values in known for (before, last), (at, value) in pairwise(values))


@pytest.mark.parametrize("rule", RECORDS, ids=rule_id)
def test_what_is_recorded_has_a_name_by_the_rules_and_a_case(rule: dict[str, Any]) -> None:
    """level:metric:operations; its cases have values."""
    cases = [case for test in TESTS for case in test.get("promql_expr_test", ())]

    assert re.fullmatch(r"[a-z_]+:coroner_[a-z_]+:[a-z0-9_]+", rule["record"])
    assert any(rule["record"] in case["expr"] and case["exp_samples"] for case in cases)


@pytest.mark.parametrize("rule", [*RULES, *RECORDS], ids=rule_id)
def test_rule_watches_coroner_only(rule: dict[str, Any]) -> None:
    """Every selector has the job, or another exporter's series could fire it."""
    found = selectors(rule["expr"])
    assert found
    assert [name for name, matchers in found if 'job="coroner"' not in matchers] == []


@pytest.mark.parametrize("rule", [*RULES, *RECORDS], ids=rule_id)
def test_rule_keeps_the_cluster(rule: dict[str, Any]) -> None:
    """Nodes of two clusters may have one name: what is summed or joined by labels is so by the cluster, too."""
    lists = re.findall(r"\b(?:by|on|ignoring) \(([^()]*)\)", rule["expr"])
    assert [labels for labels in lists if "cluster" not in labels.split(", ")] == []


@pytest.mark.parametrize("rule", RULES, ids=rule_id)
def test_dashboard_of_rule_is_that_of_what_it_is_about(rule: dict[str, Any]) -> None:
    """A path below Grafana's address that chooses the container or the node."""
    link = rule["annotations"]["dashboard"]
    assert "var-cluster={{ urlquery $labels.cluster }}&var-instance={{ urlquery $labels.instance }}" in link
    assert re.search(r"/d/coroner-(container|node)\?", link)


def test_thresholds_are_in_one_place() -> None:
    """Every one is used, and no source of a rule compares with a number but 0, 1 and 2, which nobody tunes."""
    text = "\n".join(path.read_text() for path in SOURCES)
    shown = "\n".join(path.read_text() for path in (ROOT / "dashboards").glob("*.py"))
    used = set(re.findall(r"@(\w+)@", text)) | set(re.findall(r"THRESHOLDS\[[\"'](\w+)[\"']\]", shown))
    assert sorted(THRESHOLDS.keys() - used) == []
    assert set(re.findall(r"[<>=] (\d[\d.]*)", re.sub(r"(?m)^ *#.*|(summary|description):.*", "", text))) <= {"0", "1", "2"}


@pytest.mark.parametrize("rule", RULES, ids=rule_id)
def test_rule_is_complete(rule: dict[str, Any]) -> None:
    """A severity to route by, a summary of one sentence, a description, and slack: `for`, or staying after the event."""
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url", "dashboard"}
    assert rule["annotations"]["summary"].endswith(".")
    assert ("for" in rule) != ("keep_firing_for" in rule)


@pytest.mark.parametrize("rule", RULES, ids=rule_id)
def test_runbook_of_rule_exists(rule: dict[str, Any]) -> None:
    """It is this repository's, and has the name of the alert in lower case, or is that of the findings that have the alert."""
    url = rule["annotations"]["runbook_url"]
    of_findings = {finding.runbook for finding in FINDING_RULES if finding.alert == rule["alert"]}
    assert url.removeprefix(f"{RUNBOOK_URL}dashboards/runbooks/").removesuffix(".md") in (of_findings or {rule["alert"].lower()})
    assert (ROOT / url.removeprefix(RUNBOOK_URL)).is_file()


@pytest.mark.parametrize("name", [*OWN, *OF_FINDINGS])
def test_runbook_has_its_sections(name: str) -> None:
    """Meaning, Impact, Diagnosis, Mitigation, in this order, and something in each."""
    title, *parts = re.split(r"^## ", (RUNBOOKS / f"{name.lower()}.md").read_text(), flags=re.MULTILINE)
    assert title.strip() == f"# {name}"
    assert [part.partition("\n")[0] for part in parts] == SECTIONS
    assert all(part.partition("\n")[2].strip() for part in parts)
    assert "```sh" in parts[2]


@pytest.mark.parametrize("rule", RULES, ids=rule_id)
def test_runbook_names_its_alert_and_asks_the_agent(rule: dict[str, Any]) -> None:
    """Some runbooks are of several alerts; all have a command of the agent in their diagnosis."""
    text = (RUNBOOKS / rule["annotations"]["runbook_url"].rpartition("/")[2]).read_text()
    diagnosis = text.partition("## Diagnosis")[2].partition("## Mitigation")[0]
    assert rule["alert"] in text
    assert re.search(r"^coroner (check|cases)\b", diagnosis, re.MULTILINE)


def test_no_runbook_is_left_over() -> None:
    """A runbook without an alert or a finding is out of date."""
    assert sorted(path.name for path in RUNBOOKS.iterdir()) == sorted(f"{name.lower()}.md" for name in [*OWN, *OF_FINDINGS])


def test_queries_of_the_runbooks_are_promql(tmp_path: Path) -> None:
    """Whoever is on call can paste every one of them."""
    queries = [query for path in sorted(RUNBOOKS.iterdir()) for query in queries_of(path)]
    file = tmp_path / "queries.yaml"
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    result = promtool("check", "rules", "--lint=none", file)
    assert result.returncode == 0, result.stderr
    assert f"{len(rules)} rules found" in result.stdout


def test_every_metric_is_in_the_catalogue() -> None:
    """The contract: what rules, their cases and the runbooks ask for is what the agent exports."""
    asked: defaultdict[str, set[str]] = defaultdict(set)
    records = re.compile("|".join(map(re.escape, recorded())))
    for path in (ALERTS, *CASES, *RUNBOOKS.iterdir()):
        for name in re.findall(r"coroner_[a-z_]+", records.sub("", path.read_text())):
            asked[name].add(path.name)
    declared = declared_metric_names()
    assert {name: places for name, places in asked.items() if name not in declared} == {}


def test_only_a_severity_tells_rules_of_one_alert_apart() -> None:
    """Two rules that can give the same alert would hide each other."""
    assert Counter(map(rule_id, RULES)).most_common(1)[0][1] == 1
