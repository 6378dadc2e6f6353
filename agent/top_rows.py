"""The rows of `coroner top`: two pages make one, sorted by what a person asks for. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agent.top_page import Key, Page, Seen

SEVERITIES = ("critical", "warning", "info")
"""The worst first."""
_LIVING = frozenset(("threads", "memory", "zombies", "frozen"))
"""Levels: only living containers have them, and each needs something else of the node (a controller, /proc, a kernel)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One container. None is not known; what is per second, or a share, is since the page before."""

    name: str
    findings: tuple[tuple[str, str], ...] = ()
    """Severity and id of the rule, the worst first."""
    cpu: float | None = None
    """Cores."""
    memory: float | None = None
    """Bytes of the working set."""
    memory_share: float | None = None
    """Of the nearest limit, from 0 to 1."""
    threads: float | None = None
    threads_limit: float | None = None
    zombies: float | None = None
    throttled: float | None = None
    """Share of the quota's periods, from 0 to 1."""
    pressure: float | None = None
    """Share of the time in which some task waited for memory, from 0 to 1."""
    is_paused: bool = False
    kills: float | None = None

    @property
    def threads_share(self) -> float | None:
        """Of the limit; zombies hold their place in it."""
        return self.threads / self.threads_limit if self.threads is not None and self.threads_limit else None

    @property
    def severity(self) -> str:
        """The worst of its findings, "" without any."""
        return self.findings[0][0] if self.findings else ""


def rows(now: Page, before: Page | None) -> list[Row]:
    """Return a row for each container that runs; counters have no growth without the page before."""
    seconds = now.time - before.time if before is not None else 0
    past = before.containers if before is not None and seconds > 0 else {}
    shown = ((key, seen) for key, seen in now.containers.items() if seen.findings or not _LIVING.isdisjoint(seen.values))
    return [_row(key, seen, past.get(key), seconds) for key, seen in shown]


def _row(key: Key, seen: Seen, before: Seen | None, seconds: float) -> Row:
    value = seen.values.get
    grown = _growth(seen.values, before.values if before is not None else {})
    cpu, periods, pressure = grown("cpu"), grown("periods"), grown("memory_pressure")
    limit, headroom, throttled = value("limit"), value("headroom"), grown("throttled")
    return Row(
        name="/".join(printable(part) for part in key if part) or "-",
        findings=tuple(sorted(((printable(severity), printable(rule)) for severity, rule in seen.findings), key=_rank)),
        cpu=None if cpu is None else cpu / seconds,
        memory=value("memory"),
        memory_share=1 - headroom / limit if limit and headroom is not None else None,
        threads=value("threads"),
        threads_limit=value("threads_limit"),
        zombies=value("zombies"),
        throttled=None if throttled is None or periods is None else throttled / periods if periods else 0.0,
        pressure=None if pressure is None else pressure / seconds,
        is_paused=value("frozen") == 1,
        kills=value("kills"),
    )


def _growth(now: Mapping[str, float], before: Mapping[str, float]) -> Callable[[str], float | None]:
    def grown(name: str) -> float | None:
        if name not in now or name not in before or now[name] < before[name]:  # another life of the container
            return None
        return now[name] - before[name]

    return grown


def _rank(finding: tuple[str, str]) -> tuple[int, str]:
    severity, rule = finding
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES), rule


def _concern(row: Row) -> tuple[float, ...]:
    """By the worst finding and how many there are; where nobody has looked for any, or found none, by what is fullest."""
    worst = len(SEVERITIES) - _rank(row.findings[0])[0] if row.findings else -1
    zombies = row.zombies or 0
    shares = (row.threads_share, row.memory_share, row.throttled, row.pressure)
    return worst, len(row.findings), min(zombies, 1), max(share or 0 for share in shares), zombies


SORTS: Mapping[str, tuple[str, Callable[[Row], tuple[float, ...]]]] = {
    "c": ("concern", _concern),
    "u": ("cpu", lambda row: _down(row.cpu)),
    "m": ("memory", lambda row: (*_down(row.memory_share), *_down(row.memory))),
    "p": ("pids", lambda row: (*_down(row.threads_share), *_down(row.threads))),
    "z": ("zombies", lambda row: _down(row.zombies)),
    "t": ("throttling", lambda row: _down(row.throttled)),
    "w": ("waiting", lambda row: _down(row.pressure)),
    "n": ("name", lambda _row: ()),
}
"""Key -> what to sort by, and how: the greatest first, and those that are equal by name."""
SORT_KEYS = {name: key for key, (name, _) in SORTS.items()}


def _down(value: float | None) -> tuple[float]:
    return (-1.0 if value is None else value,)


def in_order(given: Iterable[Row], key: str) -> list[Row]:
    """Sort by one of SORTS."""
    by_name = sorted(given, key=lambda row: row.name)
    return sorted(by_name, key=SORTS[key][1], reverse=True)


def printable(text: str) -> str:
    """Spell out what a terminal would obey, or not show: a container may be called anything."""
    return text if text.isprintable() else "".join(each if each.isprintable() else _spelled(each) for each in text)


def _spelled(each: str) -> str:
    code = ord(each)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
