"""Pages that were recorded of a node one after another, and what a Prometheus that scrapes on has of them after hours.

A round of them is played again and again, and goes on as the node would have: a counter rises by what it rose by, from where it was, and
begins at 0 where it did; times move along, but those of what was there all the while; a container that is replaced has another id each
time, and a name that ends in -gN is of the next generation. What was recorded after a round comes once, in the middle.
"""

import lzma
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEALTHY = Path(__file__).parent / "healthy.prom.xz"
INTERVAL = 7
"""Seconds between two scrapes of the recording."""
ROUND = 40
"""Scrapes of a round."""
SCRAPE = "# scrape "
"""Begins the line before each page, with the time."""

Values = list[float | None]
"""One a scrape; None: the series is not on that page."""

_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_COUNTS = ("_total", "_bucket", "_count", "_sum")
_TIME = re.compile(r"^\w+_timestamp_seconds|^process_start_time_seconds")
_ID = re.compile(r"[0-9a-f]{64}")
_GENERATION = re.compile(r"-g(\d+)")


@dataclass(frozen=True, slots=True)
class Recording:
    """`series`: by what Prometheus calls it, the values of each scrape; `start`: when the first one was, in seconds since 1970."""

    start: float
    round: int
    """So many scrapes are repeated."""
    series: dict[str, Values]


def recording(pages: Sequence[str], start: float, target: str, once: int = 0) -> Recording:
    """Return these pages as a recording, the last `once` of which come once. Each series has the labels `target`, and `up` says whether the
    agent answered.
    """
    series: defaultdict[str, Values] = defaultdict(lambda: [None] * len(pages))
    for number, page in enumerate(pages):
        samples = _SAMPLE.findall(page)
        for name, labels, value in samples:
            series[f"{name}{{{','.join(filter(None, (target, labels)))}}}"][number] = float(value)
        series[f"up{{{target}}}"][number] = float(bool(samples))
    return Recording(start, len(pages) - once, dict(series))


def healthy(target: str) -> Recording:
    """Return the healthy node."""
    pages = lzma.decompress(HEALTHY.read_bytes()).decode().split(SCRAPE)[1:]
    return recording(pages, float(pages[0].partition("\n")[0]), target, len(pages) - ROUND)


def played(recording: Recording, hours: float) -> dict[str, Values]:
    """Return the series of at least so many hours; times are seconds since the first scrape."""
    rounds = math.ceil(hours * 3600 / INTERVAL / recording.round)
    ids = _ids_that_stay(recording)
    whole: defaultdict[str, Values] = defaultdict(list)
    reached: dict[str, float] = {}
    scrapes = 0
    for number in range(rounds):
        part = slice(None if number == rounds // 2 else recording.round)
        length = len(next(iter(recording.series.values()))[part])
        for name, values in recording.series.items():
            called = _renamed(name, number, ids)
            continued = _continued(name, values[part], recording, scrapes, reached.get(called))
            whole[called] += [None] * (scrapes - len(whole[called])) + continued
            if (last := continued[-1]) is not None:
                reached[called] = last
        scrapes += length
    return {name: values + [None] * (scrapes - len(values)) for name, values in whole.items()}


def _ids_that_stay(recording: Recording) -> set[str]:
    first, last = (
        {match[0] for name, values in recording.series.items() if values[at] is not None for match in _ID.finditer(name)}
        for at in (0, recording.round - 1)
    )
    return first & last


def _renamed(name: str, number: int, stay: set[str]) -> str:
    """Name a series as in this round."""
    if not number:
        return name
    name = _GENERATION.sub(lambda match: f"-g{int(match[1]) + number}", name)
    return _ID.sub(lambda match: match[0] if match[0] in stay else f"{match[0][:-4]}{number:04x}", name)


def _continued(name: str, values: Values, recording: Recording, scrapes: int, reached: float | None) -> Values:
    """Return the values after so many scrapes; `reached`: what the counter was then."""
    metric = name.partition("{")[0]
    if _TIME.match(metric):
        old = values[0] if values[0] == values[recording.round - 1] else None
        moved = scrapes * INTERVAL
        return [value if value is None else value - recording.start + (value != old) * moved for value in values]
    if not metric.endswith(_COUNTS):
        return values
    continued: Values = []
    before, at = (values[0], reached) if reached is not None else (None, None)
    for value in values:
        if value is not None:
            at = value if before is None or at is None or value < before else at + value - before
            before = value
        continued.append(at if value is not None else None)
    return continued
