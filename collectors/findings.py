"""Findings: what is wrong with containers and the node now, by the rules of inquest/finding_rules.py over the samples of one pass.

The page, `coroner check`, /api/v1/findings and Prometheus all show this one examination, so they cannot disagree.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from collectors.base import CONTAINER, Node, Sample, Samples, gauge
from collectors.inquest.finding import NODE, SEVERITIES, Finding, Recent, Rule, Severity, View
from collectors.inquest.finding_rules import RULES
from collectors.kernel.container_id import ancestors

__all__ = ["NODE", "RULES", "SEVERITIES", "Examination", "Finding", "Findings", "Rule", "Severity", "blinded", "examine"]

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
    "1 if the rule saw all that it needs; 0 if it could not look or is left out: then its silence proves nothing.",
    ("finding",),
)

RUNBOOKS = "https://github.com/coroner-agent/coroner/blob/main/dashboards/runbooks/"
_LIVING = ("coroner_container_threads", "coroner_container_memory_usage_bytes")
"""Levels: only living containers have them."""
INFO = "coroner_container_info"
SUCCESS = "coroner_scrape_collector_success"


@dataclass(frozen=True, slots=True)
class Examination:
    """What all rules found in one pass, the worst first, and which looked in vain: the id of the rule and why, in words.

    `could_not_look`: something failed or is blind. `left_out`: what the rule needs is switched off, or is not to be had on this node.
    The silence of neither proves anything.
    """

    findings: Sequence[Finding] = ()
    could_not_look: Sequence[tuple[str, str]] = ()
    left_out: Sequence[tuple[str, str]] = ()
    containers: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """The id of every container that was looked at or has ended lately, by its labels."""
    time: float = 0
    """When it was, seconds of the wall clock."""


def examine(
    samples: Iterable[Sample] | Samples,
    *,
    now: float,
    failures: Mapping[str, str] | None = None,
    blind: Mapping[str, str] | None = None,
    recent: Recent | None = None,
    closed: Mapping[str, str] | None = None,
    partly_seen: Collection[tuple[str, ...]] = frozenset(),
    rules: Sequence[Rule] = RULES,
) -> Examination:
    """Apply the rules to the samples of one pass, in which every collector that ran has its success.

    `now` is in seconds of the wall clock. `failures` says why collectors failed, `blind` why sources are; `recent`
    counts the deaths of the last 20 minutes. `closed` says what was closed to collectors, or in sources: it costs no finding but of what
    the containers that were only `partly_seen` do not have. Pure; raises nothing.
    """
    view = View({metric.name: column for metric, column in Samples.of(samples).columns.items()}, now, recent)
    ran = view.values(SUCCESS)
    findings: list[Finding] = []
    unseen: list[tuple[str, str]] = []
    left_out: list[tuple[str, str]] = []
    for rule in rules:
        off = [collector for collector in rule.collectors if (collector,) not in ran]
        if off:
            left_out.append((rule.id, f"the collector {off[0]} does not run"))
            continue
        reasons = _blind_to(rule, ran, failures or {}, blind or {})
        try:
            found = dict(rule.find(view, rule.threshold))
        except Exception as error:  # noqa: BLE001 - the error boundary: one rule costs only itself
            found = {}
            reasons.append(f"the rule failed, please report it: {type(error).__name__}: {error}")
        if not (reasons and rule.finds_absence):
            unsure = partly_seen if rule.finds_absence else ()
            findings += [_finding(rule, labels, evidence) for labels, evidence in found.items() if labels not in unsure]
        reasons += [f"{name}: {closed[name]}" for name in (*rule.collectors, *rule.sources) if name in closed] if closed else []
        if reasons:
            unseen.append((rule.id, "; ".join(reasons)))
        elif rule.witness and not view.has(rule.witness) and (_is_of_node(rule) or any(map(view.has, _LIVING))):
            left_out.append((rule.id, rule.without))
    containers = {labels[:3]: labels[3] for labels, _one in view.each(INFO)}
    return Examination(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)), unseen, left_out, containers, now)


def blinded(reason: str, now: float) -> Examination:
    """Return what is known after a pass in which nothing could be examined; `now` is in seconds of the wall clock."""
    return Examination(could_not_look=[(rule.id, reason) for rule in RULES], time=now)


def _blind_to(rule: Rule, ran: Mapping[tuple[str, ...], float], failures: Mapping[str, str], blind: Mapping[str, str]) -> list[str]:
    """Say what the rule needs and did not get."""
    return [
        *(f"{name}: {failures.get(name) or 'the log says why'}" for name in rule.collectors if ran[name,] != 1),
        *(f"{name}: {blind[name]}" for name in rule.sources if name in blind),
    ]


def _finding(rule: Rule, labels: tuple[str, ...], evidence: str) -> Finding:
    namespace, pod, container = labels
    runbook = f"{RUNBOOKS}{rule.runbook}.md"
    return Finding((namespace, pod, container), rule.id, rule.severity, evidence, rule.why, rule.fix, runbook)


def _closed(node: Node) -> dict[str, str]:
    """Say of collectors which file was closed to them, and of the cgroups which directory."""
    closed = {name: str(errors[0]) for name, errors in node.refused.items()}
    return {**closed, "cgroup": f"{min(node.hidden)} is closed to the agent, which lacks CAP_DAC_READ_SEARCH"} if node.hidden else closed


def _partly_seen(node: Node) -> set[tuple[str, ...]]:
    """Return the labels of the containers of which some file was closed, their own or one of a cgroup above."""
    places = {os.path.dirname(error.path) for errors in node.refused.values() for error in errors}
    if not places:
        return set()
    root = next((cgroup.directory for cgroup in node.cgroups if cgroup.path == "/"), "")
    return {
        container.labels
        for container in node.containers
        if not places.isdisjoint(root + path for path in (container.cgroup.path, *ancestors(container.cgroup.path)))
    }


def _is_of_node(rule: Rule) -> bool:
    return not rule.witness.startswith("coroner_container_")


class Findings:
    """Examines what the other collectors have yielded: it is the last one. `blind` says which sources are, and why; any thread may
    call it."""

    name = "findings"
    metrics = (FINDINGS, NODE_FINDINGS, LOOKED)

    def __init__(
        self,
        blind: Callable[[Node], Mapping[str, str]] = lambda node: {},
        recent: Callable[[], Recent] = dict,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._blind, self._recent = blind, recent
        self._clock = clock
        self.latest = Examination()
        """The examination of the latest pass."""

    def collect(self, node: Node) -> Iterable[Sample]:
        """Yield 1 for each finding, and for each rule whether it could look."""
        latest = examine(
            node.samples,
            now=self._clock(),
            failures=node.failures,
            blind=self._blind(node),
            recent=self._recent(),
            closed=_closed(node),
            partly_seen=_partly_seen(node),
        )
        self.latest = latest
        for finding in latest.findings:
            if finding.labels == NODE:
                yield NODE_FINDINGS, (finding.rule, finding.severity), 1
            else:
                yield FINDINGS, (*finding.labels, finding.rule, finding.severity), 1
        silent = dict((*latest.could_not_look, *latest.left_out))
        for rule in RULES:
            yield LOOKED, (rule.id,), int(rule.id not in silent)
