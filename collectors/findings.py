"""Findings: what is wrong with containers and the node now, by the rules of inquest/finding_rules.py over the samples of one pass.

The page, `coroner check`, /api/v1/findings and Prometheus all show this one examination, so they cannot disagree.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from collectors.base import CONTAINER, Metric, Node, Sample, gauge
from collectors.inquest.finding import NODE, SEVERITIES, Finding, Rule, Severity, View
from collectors.inquest.finding_rules import RULES

__all__ = ["NODE", "RULES", "SEVERITIES", "Examination", "Finding", "Findings", "Rule", "Severity", "examine"]

FINDINGS = gauge(
    "coroner_container_findings",
    "Always 1: a rule finds this wrong with the container now; absent otherwise.",
    (*CONTAINER, "finding", "severity"),
)
NODE_FINDINGS = gauge(
    "coroner_node_findings", "Always 1: a rule finds this wrong with the node now; absent otherwise.", ("finding", "severity")
)
LOOKED = gauge(
    "coroner_finding_looked",
    "1 if the rule saw all that it needs; 0 if it could not look, and its silence proves nothing.",
    ("finding",),
)

RUNBOOKS = "https://github.com/coroner-agent/coroner/blob/main/dashboards/runbooks/"
SUCCESS = "coroner_scrape_collector_success"


@dataclass(frozen=True, slots=True)
class Examination:
    """What all rules found in one pass, the worst first, and which could not look: the id of the rule and why, in words."""

    findings: Sequence[Finding] = ()
    could_not_look: Sequence[tuple[str, str]] = ()


def examine(
    samples: Iterable[Sample],
    *,
    now: float,
    failures: Mapping[str, str] | None = None,
    blind: Mapping[str, str] | None = None,
    rules: Sequence[Rule] = RULES,
) -> Examination:
    """Apply the rules to the samples of one pass, in which every collector that ran has its success.

    `now` is in seconds of the wall clock. `failures` says why collectors failed, `blind` why sources are. Pure; raises nothing.
    """
    failures, blind = failures or {}, blind or {}
    columns = _columns(samples, {name for rule in rules for name in (*rule.metrics, SUCCESS)})
    view = View(columns, now)
    findings: list[Finding] = []
    unseen: list[tuple[str, str]] = []
    for rule in rules:
        reasons = list(_blind_to(rule, view, failures, blind))
        try:
            found = dict(rule.find(view, rule.threshold))
        except Exception as error:  # noqa: BLE001 - the error boundary: one rule costs only itself
            found = {}
            reasons.append(f"the rule failed, please report it: {type(error).__name__}")
        runbook = f"{RUNBOOKS}{rule.runbook}.md"
        findings += [Finding(labels, rule.id, rule.severity, evidence, rule.why, rule.fix, runbook) for labels, evidence in found.items()]
        if reasons:
            unseen.append((rule.id, "; ".join(reasons)))
    return Examination(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)), unseen)


def _columns(samples: Iterable[Sample], names: set[str]) -> Mapping[str, Sequence[Sample]]:
    """Return the samples of these metrics, by name. One look-up for each sample, by the metric itself: its name is asked for once."""
    columns: dict[str, list[Sample]] = {name: [] for name in names}
    columns_of: dict[Metric, list[Sample] | None] = {}
    for sample in samples:
        metric = sample[0]
        try:
            column = columns_of[metric]
        except KeyError:
            column = columns_of[metric] = columns.get(metric.name)
        if column is not None:
            column.append(sample)
    return columns


def _blind_to(rule: Rule, view: View, failures: Mapping[str, str], blind: Mapping[str, str]) -> Iterator[str]:
    """Say what the rule needs and did not get."""
    ran = view.values(SUCCESS)
    for collector in rule.collectors:
        success = ran.get((collector,))
        if success is None:
            yield f"the collector {collector} did not run"
        elif success != 1:
            yield f"the collector {collector} failed: {failures.get(collector, 'the log says why')}"
    for source in rule.sources:
        if source in blind:
            yield f"the source {source} is blind: {blind[source]}"


class Findings:
    """Examines what the other collectors have yielded: it is the last one. `blind` says which sources are, and why; any thread may
    call it."""

    name = "findings"
    metrics = (FINDINGS, NODE_FINDINGS, LOOKED)

    def __init__(self, blind: Callable[[Node], Mapping[str, str]] = lambda node: {}, clock: Callable[[], float] = time.time) -> None:
        self._blind = blind
        self._clock = clock
        self.latest = Examination()
        """That of the latest pass."""

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield 1 for each finding, and for each rule whether it could look."""
        latest = examine(node.samples, now=self._clock(), failures=node.failures, blind=self._blind(node))
        self.latest = latest
        for finding in latest.findings:
            if finding.labels == NODE:
                yield NODE_FINDINGS, (finding.rule, finding.severity), 1
            else:
                yield FINDINGS, (*finding.labels, finding.rule, finding.severity), 1
        unseen = dict(latest.could_not_look)
        for rule in RULES:
            yield LOOKED, (rule.id,), int(rule.id not in unseen)
