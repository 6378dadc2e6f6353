"""What the pages and /api/v1/containers show of one pass: its samples by container, those first that are in trouble. Pure.

None is not known: it could not be read, nobody tells it, or it is of a rate that needs two readings.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from collectors.base import CONTAINER, Sample
from collectors.findings import SEVERITIES, Examination, Finding
from collectors.inquest.kill_state import Labels
from collectors.kernel.container_id import ContainerKey

_PREFIX = "coroner_container_"
_SUCCESS = "coroner_scrape_collector_success"
_ALIKE = 0.5
"""Shares of a limit that are below this are not compared."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What is told by two readings, means over the last minute or so; shares are of the time, or of the quota periods."""

    cpu_cores: float | None = None
    throttled_share: float | None = None
    cpu_waiting_share: float | None = None
    memory_waiting_share: float | None = None
    io_waiting_share: float | None = None


UNKNOWN_RATES = Rates()


@dataclass(frozen=True, slots=True)
class Init:
    """PID 1. `handles`: whether it catches or waits for its stop signal."""

    comm: str | None = None
    role: str | None = None
    stop_signal: str | None = None
    handles: bool | None = None
    is_wrapper: bool | None = None


@dataclass(frozen=True, slots=True)
class View:
    """One living container. `levels` are the values of its series that have no labels of their own, by name without coroner_container_."""

    labels: Labels
    key: ContainerKey
    info: Mapping[str, str]
    levels: Mapping[str, float]
    zombies: Mapping[str, float]
    """By the parent that fails to wait: init, other. Empty: not known."""
    init: Init
    rates: Rates = UNKNOWN_RATES
    findings: Sequence[Finding] = ()

    def share(self, level: str, limit: str) -> float | None:
        """Return a level as a share of its limit."""
        now, most = self.levels.get(level), self.levels.get(limit)
        return None if now is None or not most else now / most

    @property
    def name(self) -> str:
        """Spell its labels."""
        return spelled(self.labels)

    def concern(self) -> tuple[object, ...]:
        """Return what containers are sorted by. Shares are taken in tenths, so that of those that are about alike the next one decides."""
        threads = self.share("threads", "threads_limit")
        memory = max(
            self.share("memory_working_set_bytes", "memory_limit_bytes") or 0, self.share("memory_usage_bytes", "memory_high_bytes") or 0
        )
        rates = self.rates
        waiting = max(rates.cpu_waiting_share or 0, rates.memory_waiting_share or 0, rates.io_waiting_share or 0)
        shares = [int(each * 10) if each and each >= _ALIKE else 0 for each in (threads, memory, rates.throttled_share, waiting)]
        grave = [each for each in self.findings if rank(each.severity) < rank("info")]
        worst = min((rank(each.severity) for each in grave), default=len(SEVERITIES))
        # What is worth knowing but no trouble decides last.
        return (worst, -len(grave), -sum(self.zombies.values()), *(-share for share in shares), -len(self.findings), self.labels)


@dataclass(frozen=True, slots=True)
class Overview:
    """All of one pass. `node` has the values of the node's own series by name, with the labels of each."""

    time: float
    """Wall clock of the pass."""
    views: Sequence[View]
    node: Mapping[str, Sequence[tuple[Labels, float]]]
    failures: Mapping[str, str]
    """Why a collector failed, by name."""
    findings: Sequence[Finding] = ()
    """The node's."""
    could_not_look: Sequence[tuple[str, str]] = ()
    by_labels: Mapping[Labels, View] = field(default_factory=dict)
    ended: Mapping[Labels, Mapping[str, str]] = field(default_factory=dict)
    """Of containers that ended lately what they were: the labels of coroner_container_info."""

    def is_complete(self, collector: str) -> bool:
        """Whether a collector ran and could read all: a limit that is absent then is none."""
        return ((collector,), 1) in self.node.get(_SUCCESS, ())


def overview(
    samples: Iterable[Sample],
    *,
    time: float,
    living: Mapping[Labels, ContainerKey],
    failures: Mapping[str, str],
    examination: Examination,
    rates: Callable[[Labels], Rates],
) -> Overview:
    """Make it of the samples of one pass; `living` are the containers that the pass has seen alive."""
    levels: defaultdict[Labels, dict[str, float]] = defaultdict(dict)
    told: defaultdict[tuple[str, Labels], list[tuple[dict[str, str], float]]] = defaultdict(list)
    node: defaultdict[str, list[tuple[Labels, float]]] = defaultdict(list)
    for metric, labels, value in samples:
        name = metric.name
        if metric.labels == CONTAINER:
            levels[labels][name.removeprefix(_PREFIX)] = value
        elif name in _TOLD:
            told[name, labels[:3]].append((dict(zip(metric.labels[3:], labels[3:], strict=True)), value))
        elif metric.labels[:3] != CONTAINER:
            node[name].append((labels, value))

    found: defaultdict[Labels, list[Finding]] = defaultdict(list)
    for finding in sorted(examination.findings, key=lambda each: rank(each.severity)):
        found[finding.labels if finding.labels in living else ()].append(finding)
    views = [
        View(
            labels=labels,
            key=key,
            info=next((said for said, _ in told[_INFO, labels]), {}),
            levels=levels[labels],
            zombies={said["parent"]: count for said, count in told[_ZOMBIES, labels]},
            init=_init(labels, told, levels[labels]),
            rates=rates(labels),
            findings=found[labels],
        )
        for labels, key in living.items()
    ]
    views.sort(key=View.concern)
    return Overview(
        time=time,
        views=views,
        node=node,
        failures=failures,
        findings=found[()],
        could_not_look=examination.could_not_look,
        by_labels={view.labels: view for view in views},
        ended={labels: said[0][0] for (name, labels), said in told.items() if name == _INFO and said and labels not in living},
    )


_INFO, _ZOMBIES = f"{_PREFIX}info", f"{_PREFIX}zombies"
_INIT, _SIGNAL = f"{_PREFIX}init_info", f"{_PREFIX}init_handles_stop_signal"
_TOLD = {_INFO, _ZOMBIES, _INIT, _SIGNAL}


def rank(severity: str) -> int:
    """Return the place of a severity among them, the worst first."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def spelled(labels: Labels) -> str:
    """Spell namespace/pod/container, as far as it has them."""
    return "/".join(filter(None, labels))


def _init(
    labels: Labels, told: Mapping[tuple[str, Labels], Sequence[tuple[Mapping[str, str], float]]], levels: Mapping[str, float]
) -> Init:
    said: Mapping[str, str] = next((each for each, _ in told.get((_INIT, labels), ())), {})
    signal, handles = next(((each["signal"], bool(value)) for each, value in told.get((_SIGNAL, labels), ())), (None, None))
    wrapper = levels.get("init_is_wrapper")
    return Init(said.get("comm"), said.get("role"), signal, handles, None if wrapper is None else bool(wrapper))
