"""Findings as JSON, as /api/v1/findings answers and `coroner check --format json` prints them, and back.

{
  "time": 1767225600.0,                    seconds of the wall clock: when the pass was that was examined
  "containers": [                          all that were looked at or have ended lately; outside Kubernetes the first two are empty
    {"namespace": "shop", "pod": "web-0", "container": "web", "container_id": "containerd://4f..."}
  ],
  "findings": [                            the worst first
    {
      "namespace": "shop", "pod": "web-0", "container": "web",     all three empty: the node
      "finding": "init-deaf",              the rule
      "severity": "warning",               critical, warning or info
      "evidence": "PID 1 ...",             one sentence with numbers
      "why": "...",                        why it matters, two lines at most
      "fix": "...",                        what to change
      "runbook": "https://...",
      "details": ["sh (PID 4711 ...) ..."] sentences with the names behind it: who does not wait for zombies, which services there are
    }
  ],
  "could_not_look": [                      rules that lack something that failed or is blind: their silence proves nothing
    {"finding": "zombies-under-init", "reason": "proc: ..."}
  ],
  "left_out": [...]                        as above: what the rule needs is switched off, or not to be had on this node
}

Keys may be added. Names and evidence may hold whatever a container is called or calls itself.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from collectors.findings import SEVERITIES, Examination, Finding

_NAMES = ("namespace", "pod", "container")


def as_json(examination: Examination) -> dict[str, Any]:
    """Return the object."""
    return {
        "time": examination.time,
        "containers": [
            {**dict(zip(_NAMES, labels, strict=True)), "container_id": identifier} for labels, identifier in examination.containers.items()
        ],
        "findings": [
            {
                **dict(zip(_NAMES, finding.labels, strict=True)),
                "finding": finding.rule,
                "severity": finding.severity,
                "evidence": finding.evidence,
                "why": finding.why,
                "fix": finding.fix,
                "runbook": finding.runbook,
                "details": finding.details,
            }
            for finding in examination.findings
        ],
        "could_not_look": [{"finding": rule, "reason": reason} for rule, reason in examination.could_not_look],
        "left_out": [{"finding": rule, "reason": reason} for rule, reason in examination.left_out],
    }


def from_json(answer: object) -> Examination:
    """Return what an object says. Raises ValueError if it is not of that form."""
    try:
        match answer:
            case {"time": int() | float() as time, "containers": [*containers], "findings": [*findings], **rest} if isfinite(time):
                return Examination(
                    [_finding(each) for each in findings],
                    _reasons(rest["could_not_look"]),
                    _reasons(rest["left_out"]),
                    {_labels(each): _text(each, "container_id") for each in containers},
                    time,
                )
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
    raise ValueError("no findings")


def _finding(each: Mapping[str, Any]) -> Finding:
    severity = next((severity for severity in SEVERITIES if severity == each["severity"]), None)
    if severity is None:
        raise ValueError("severity")
    texts = [_text(each, key) for key in ("evidence", "why", "fix", "runbook")]
    details = each.get("details", [])
    if not isinstance(details, list) or not all(isinstance(line, str) for line in details):
        raise TypeError("details")
    evidence, why, fix, runbook = texts
    return Finding(_labels(each), _text(each, "finding"), severity, evidence, why, fix, runbook, tuple(details))


def _reasons(found: Any) -> list[tuple[str, str]]:
    return [(_text(each, "finding"), _text(each, "reason")) for each in found]


def _labels(each: Mapping[str, Any]) -> tuple[str, str, str]:
    return _text(each, "namespace"), _text(each, "pod"), _text(each, "container")


def _text(each: Mapping[str, Any], key: str) -> str:
    if not isinstance(text := each[key], str):
        raise TypeError(key)
    return text
