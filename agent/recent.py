"""Deaths of the last minutes, by container and cause: what a page, which has counts alone, cannot say of a crash loop."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from collectors.inquest.kill_state import Labels
from collectors.inquest.verdict import Verdict

RECENT_SECONDS = 20 * 60
"""The window of the alert CoronerCrashLoop."""
MOST_RECENT = 1000
"""Deaths that are remembered; the oldest go. A crash loop shows in the latest thousand: three deaths of one container are enough."""

Recent = Mapping[tuple[Labels, str], int]
"""Labels of a container and cause -> how many of its lives ended so lately."""


class RecentDeaths:
    """Takes verdicts, in the event loop. `counts` may be asked for in any thread. `clock` is the wall clock."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._deaths: deque[tuple[float, Labels, str]] = deque(maxlen=MOST_RECENT)

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take verdicts that the casebook has, the newest first, as it shows them."""
        for row in reversed(list(rows)):
            if row["ended"] is not None:
                self._deaths.append((row["ended"], (row["namespace"], row["pod"], row["container"]), row["cause"]))

    def take(self, labels: Labels, verdict: Verdict) -> None:
        """Take a new verdict."""
        self._deaths.append((self._clock() if verdict.ended is None else verdict.ended, labels, verdict.cause))

    def counts(self) -> Recent:
        """Count those of the last RECENT_SECONDS."""
        now = self._clock()
        return Counter((labels, cause) for ended, labels, cause in self._deaths.copy() if 0 <= now - ended <= RECENT_SECONDS)
