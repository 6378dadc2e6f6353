"""What `coroner top` reads of a page of metrics: the few values that it shows, by container. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Key = tuple[str, str, str]
"""Namespace, pod and container."""

_PREFIX = b"coroner_"
_LINE = re.compile(rb"(coroner_[a-z0-9_]+)(?:\{(.*)\})? ([^ ]+)(?: .*)?")
_LABEL = re.compile(rb'([a-z_][a-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)

LEVELS = {
    "coroner_container_memory_working_set_bytes": "memory",
    "coroner_container_memory_nearest_limit_bytes": "limit",
    "coroner_container_memory_headroom_bytes": "headroom",
    "coroner_container_threads": "threads",
    "coroner_container_threads_limit": "threads_limit",
    "coroner_container_zombies": "zombies",
    "coroner_container_frozen": "frozen",
    "coroner_container_oom_kills_total": "kills",
}
"""Metric -> what it is called here. Series that differ in another label than the container's are added up."""
COUNTERS = {
    "coroner_container_cpu_usage_seconds_total": "cpu",
    "coroner_container_cpu_cfs_periods_total": "periods",
    "coroner_container_cpu_cfs_throttled_periods_total": "throttled",
    "coroner_container_pressure_memory_waiting_seconds_total": "memory_pressure",
}
"""The same of those of which only the growth is shown."""
FINDINGS, NODE_FINDINGS, SOURCE = "coroner_container_findings", "coroner_node_findings", "coroner_source_up"

_WANTED = {name.encode() for name in (*LEVELS, *COUNTERS, FINDINGS, NODE_FINDINGS, SOURCE)}
_NAMES = LEVELS | COUNTERS


@dataclass(slots=True)
class Seen:
    """One container on one page."""

    values: dict[str, float] = field(default_factory=dict)
    findings: list[tuple[str, str]] = field(default_factory=list)
    """Severity and id of the rule."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page; `time` in seconds of a clock that only grows."""

    time: float
    containers: Mapping[Key, Seen]
    blind: tuple[str, ...] = ()
    """Sources that are down: what they tell is missing, and not zero."""
    findings: tuple[tuple[str, str], ...] = ()
    """Of the node itself, like those of a container."""
    says_findings: bool = False
    """Whether there are findings on it at all: without them nobody has looked for any."""


def read_page(raw: bytes, time: float) -> Page:
    """Read a page in the text format. A line that is not as documented is left out: the rest is shown."""
    containers: dict[Key, Seen] = {}
    blind, of_node = [], []
    says_findings = b"\ncoroner_finding_looked{" in raw
    for name, labels, value in _samples(raw.split(b"\n")):
        key = labels.get("namespace", ""), labels.get("pod", ""), labels.get("container", "")
        if name == SOURCE:
            blind += [labels.get("source", "")] if value == 0 else []
        elif name == NODE_FINDINGS:
            of_node.append((labels.get("severity", ""), labels.get("finding", "")))
        elif name == FINDINGS:
            containers.setdefault(key, Seen()).findings.append((labels.get("severity", ""), labels.get("finding", "")))
        else:
            values = containers.setdefault(key, Seen()).values
            values[_NAMES[name]] = values.get(_NAMES[name], 0.0) + value
    return Page(time, containers, tuple(blind), tuple(of_node), says_findings)


def _samples(lines: Iterable[bytes]) -> Iterable[tuple[str, Mapping[str, str], float]]:
    for line in lines:
        if line.startswith(_PREFIX) and line[: _end_of_name(line)] in _WANTED and (match := _LINE.fullmatch(line)):
            try:
                value = float(match[3])
            except ValueError:
                continue
            labels = {found[1].decode(): _unescaped(found[2]) for found in _LABEL.finditer(match[2] or b"")}
            yield match[1].decode(), labels, value


def _end_of_name(line: bytes) -> int:
    brace = line.find(b"{")
    return brace if brace >= 0 else line.find(b" ")


def _unescaped(value: bytes) -> str:
    text = value if b"\\" not in value else _ESCAPE.sub(lambda found: b"\n" if found[1] == b"n" else found[1], value)
    return text.decode(errors="backslashreplace")
