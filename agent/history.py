"""The history: a point a minute of each container's levels, for the last hour, so that a page can show how it came to what it shows.

Passes that are made anyway feed it, and where nobody scrapes, the look that is made every 10 s (Gather.resync). Of each container it holds
the same number of bytes, about 1.4 KiB, until 15 minutes after it was seen last. A restart of the agent forgets it.
"""

import logging
import math
import time
from array import array
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agent.gather import Pass
from agent.overview import UNKNOWN_RATES, Rates
from collectors import cpu, memory, pids, pressure, zombies
from collectors.base import Metric, Sample
from collectors.inquest.kill_state import Labels

SECONDS = 60.0
"""From one point to the next."""
POINTS = 61
"""The first and the last are an hour apart."""
KEEP_SECONDS = 15 * 60
"""So long a container is remembered that is not there any more."""
MOST = 10_000
"""Containers."""
COLLECTORS = frozenset({cpu.Cpu.name, memory.Memory.name, pids.Pids.name, pressure.Pressure.name, zombies.Zombies.name})
"""What must be measured to feed it."""

LEVELS = ("memory_bytes", "cpu_cores", "threads", "zombies")
"""The levels that have a chart, in the order in which they are kept."""

log = logging.getLogger(__name__)

_UNKNOWN = math.nan
_SLACK_SECONDS = 2.0
"""Scrapes come a little early or late: one a minute shall be a point each."""


@dataclass(frozen=True, slots=True)
class Series:
    """The history of one container: the time of each point, the oldest first, and by name of the level what it was; NaN is not known."""

    times: Sequence[float]
    levels: Mapping[str, Sequence[float]]


class _Past:
    """What is kept of one container."""

    __slots__ = ("base", "levels", "rates", "seen")

    def __init__(self) -> None:
        self.levels = array("f", [_UNKNOWN]) * (POINTS * len(LEVELS))
        self.base = array("d", [_UNKNOWN]) * len(_COUNTERS)
        self.rates = array("f", [_UNKNOWN]) * len(_COUNTERS)
        self.seen = 0.0


class History:
    """Fed in the sampling thread, and read there."""

    def __init__(self) -> None:
        self._times = array("d", [_UNKNOWN]) * POINTS
        self._at = -1
        self._fed: float | None = None
        self._pasts: dict[Labels, _Past] = {}

    def __len__(self) -> int:
        """Return how many containers it remembers."""
        return len(self._pasts)

    def is_due(self, now: float) -> bool:
        """Whether it wants the next point. `now` is the monotonic clock."""
        return self._fed is None or now - self._fed >= SECONDS - _SLACK_SECONDS

    def feed(self, samples: Iterable[Sample], living: Container[Labels], now: float, wall: float) -> None:
        """Take a point from the samples of one pass, if one is due. `living`: whose; `wall` is the wall clock of the pass."""
        if not self.is_due(now):
            return
        elapsed = _UNKNOWN if self._fed is None else now - self._fed
        self._fed = now
        self._at = (self._at + 1) % POINTS
        self._times[self._at] = wall
        found: dict[Labels, list[float]] = {}
        for metric, labels, value in samples:
            place = _PLACES.get(metric)
            if place is not None:
                row = found.get(labels[:3])
                if row is None:
                    row = found[labels[:3]] = [_UNKNOWN] * _WIDTH
                # Zombies come twice, by the parent that fails to wait.
                row[place] = value if metric is not zombies.ZOMBIES or row[place] != row[place] else row[place] + value
        for labels in found:
            if labels in living and labels not in self._pasts and len(self._pasts) < MOST:
                self._pasts[labels] = _Past()
        for labels, past in list(self._pasts.items()):
            self._take(past, found.get(labels) if labels in living else None, now, elapsed)
            if now - past.seen > KEEP_SECONDS:
                del self._pasts[labels]

    def moved(self, before: Labels, now: Labels) -> None:
        """Note that a container is called otherwise by now: what is remembered goes with it."""
        past = self._pasts.pop(before, None)
        if past is not None:
            self._pasts[now] = past

    def series(self, labels: Labels) -> Series | None:
        """Return the history of a container; None: nothing is remembered."""
        past = self._pasts.get(labels)
        if past is None:
            return None
        order = [at for at in self._order() if not math.isnan(self._times[at])]
        return Series(
            [self._times[at] for at in order],
            {level: [past.levels[number * POINTS + at] for at in order] for number, level in enumerate(LEVELS)},
        )

    def rates(self, labels: Labels) -> Rates:
        """Return the rates of a container between the last two points."""
        past = self._pasts.get(labels)
        if past is None:
            return UNKNOWN_RATES
        cores, periods, throttled, *waiting = [None if math.isnan(each) else each for each in past.rates]
        share = None if throttled is None or periods is None else throttled / periods if periods else 0.0
        return Rates(cores, share, *waiting)

    def _order(self) -> Iterator[int]:
        return ((self._at + 1 + step) % POINTS for step in range(POINTS))

    def _take(self, past: _Past, row: Sequence[float] | None, now: float, elapsed: float) -> None:
        if row is None:
            row = [_UNKNOWN] * _WIDTH
        else:
            past.seen = now
        counters = row[len(_GAUGES) :]
        for place, (count, base) in enumerate(zip(counters, past.base, strict=True)):
            # A counter that fell is that of another life: there is no rate over both.
            past.rates[place] = (count - base) / elapsed if count >= base and elapsed > 0 else _UNKNOWN
        past.base = array("d", counters)
        used, threads, dead = row[: len(_GAUGES)]
        for number, level in enumerate((used, past.rates[0], threads, dead)):
            past.levels[number * POINTS + self._at] = level


_GAUGES: tuple[Metric, ...] = (memory.USAGE, pids.THREADS, zombies.ZOMBIES)
_COUNTERS: tuple[Metric, ...] = (
    cpu.USAGE,
    cpu.PERIODS,
    cpu.THROTTLED_PERIODS,
    pressure.CPU_WAITING,
    pressure.MEMORY_WAITING,
    pressure.IO_WAITING,
)
_PLACES = {metric: place for place, metric in enumerate((*_GAUGES, *_COUNTERS))}
_WIDTH = len(_PLACES)


class Recorder:
    """Feeds the history with passes that are made anyway, and says what the look that is made without a scrape must measure for it.

    Without a history it does nothing.
    """

    def __init__(
        self,
        history: History | None,
        run: Callable[[Callable[[], None]], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.history = history
        self._run, self._clock = run, clock

    def wanted(self) -> frozenset[str]:
        """Return the names of the collectors whose samples it wants now."""
        return COLLECTORS if self.history is not None and self.history.is_due(self._clock()) else frozenset()

    async def take(self, done: Pass) -> None:
        """Take a point from a pass, if one is due. Never raises: no page of metrics is lost for a chart."""
        history, now, wall = self.history, self._clock(), time.time()
        if history is None or not history.is_due(now):
            return
        try:
            await self._run(lambda: history.feed(done.samples, done.living, now, wall))
        except Exception:
            log.exception("history not fed")

    def moved(self, before: Labels, now: Labels) -> None:
        """Note, in the sampling thread, that a container is called otherwise by now."""
        if self.history is not None:
            self.history.moved(before, now)
