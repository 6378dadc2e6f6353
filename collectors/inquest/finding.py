"""What a finding is, what a rule is, and what a rule sees: the samples of one pass by the name of their metric. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["critical", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""The worst first."""

Labels = tuple[str, ...]
NODE = ("", "", "")
"""In place of a container's labels where a finding is the node's."""

Recent = Mapping[tuple[Labels, str], int]
"""Labels of a container and cause -> how many of its lives ended so lately."""

Found = Iterable[tuple[Labels, str]]
"""Whose, and the evidence."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one container, or with the node, now."""

    labels: tuple[str, str, str]
    """namespace, pod, container; NODE is the node."""
    rule: str
    severity: Severity
    evidence: str
    """One sentence with numbers. What a container wrote in it is as it wrote it."""
    why: str
    fix: str
    runbook: str
    """URL."""
    details: tuple[str, ...] = ()
    """Names behind it, in sentences, where somebody has looked for them (agent/particulars.py): the container's word as well."""


class View:
    """The samples of one pass, when it was (seconds of the wall clock), and which deaths there were in the 20 minutes before."""

    def __init__(self, columns: Mapping[str, tuple[Sequence[Labels], Sequence[float]]], now: float, recent: Recent | None = None) -> None:
        """Take the label values and the values of each metric's samples by its name."""
        self.now = now
        self.recent = recent or {}
        self._columns = columns
        self._values: dict[str, Mapping[Labels, float]] = {}

    def has(self, metric: str) -> bool:
        """Whether there are samples of a metric."""
        return metric in self._columns

    def each(self, metric: str) -> Iterable[tuple[Labels, float]]:
        """Yield the samples of a metric: label values, value."""
        return zip(*self._columns.get(metric, ((), ())), strict=True)

    def values(self, metric: str) -> Mapping[Labels, float]:
        """Return the values of a metric by all its label values."""
        if metric not in self._values:
            self._values[metric] = dict(self.each(metric))
        return self._values[metric]


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that may be wrong.

    `find` yields whom it finds it with, each once, and the evidence. It is given the samples and the threshold.
    """

    id: str
    severity: Severity
    metrics: tuple[str, ...]
    """What it looks at; all it may look at."""
    collectors: tuple[str, ...]
    """Whose metrics these are: if one of them failed, the rule could not look; if one is off, the rule is left out."""
    find: Callable[[View, float], Found]
    why: str
    """Two lines at most."""
    fix: str
    runbook: str
    """Name of its file in dashboards/runbooks."""
    threshold: float = 0
    alert: str = ""
    """The alert that has the same threshold; empty: there is none."""
    sources: tuple[str, ...] = ("cgroup",)
    """If one of these (coroner_source_up) is blind, the rule could not look."""
    witness: str = ""
    """One of `metrics` that is there whenever something was measured: without any sample of it the rule is left out, not clean."""
    finds_absence: bool = False
    """It finds what some metric does not have: where it could not look, that is nobody's fault, and nothing is found."""
    without: str = ""
    """Why there may be none: the kernel lacks something, or it is too early."""
