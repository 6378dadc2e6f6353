"""Cases: which instances are open still, and which have ended, of what. All of it in memory, ahead of the file and without it."""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from itertools import islice

from agent.casebook import schema, verdicts
from agent.casebook.aside import Aside
from agent.casebook.rows import Rows
from agent.casebook.schema import Execute
from agent.casebook.verdicts import CaseKey, Closed
from collectors.inquest.kill_state import Labels
from collectors.inquest.verdict import CAUSES, Verdict
from collectors.kernel.container_id import ContainerKey

MOST_OPEN = 10_000
MOST_DEATHS = 10_000
"""Counters: of containers by cause. Of those that are not on the page the one that has not risen for longest goes."""
_AT_ONCE = 100
"""So many are forgotten together: who is on the page is not asked for each."""

_NAMELESS = ("",) * len(schema.NAME)

Deaths = Mapping[tuple[Labels, str], int]
"""Labels of the container and cause -> how many of its instances ended so."""


class Cases:
    """Each instance is closed once; what it adds to the counters and to the rows of the file is said here."""

    def __init__(self) -> None:
        self.open = Rows("open_cases")
        self.deaths = Rows("deaths")
        self.closed: deque[Closed] = deque(maxlen=1000)
        """Verdicts that the file does not hold yet."""
        self._known: dict[int, None] = {}
        """Digests of the keys that were closed, the oldest first: the keys themselves would be megabytes."""

    def load(self, execute: Execute) -> None:
        """Go on from what the file holds."""
        self._known = dict.fromkeys(map(_digest, verdicts.keys(execute)))
        self.open.load({("open_cases", tuple(key)): (facts,) for *key, facts in execute(schema.select("open_cases"))})
        counters = execute(f"{schema.select('deaths')} ORDER BY time")
        self.deaths.load({("deaths", tuple(key)): (count,) for *key, count in counters})

    def keep(self, key: CaseKey, facts: str) -> None:
        """Keep what is known of an open case; the one that has not changed for longest goes when there are too many."""
        self.open.put(("open_cases", tuple(key)), (facts,))
        if len(self.open) > MOST_OPEN:
            self.open.put(next(iter(self.open)), None)

    def drop(self, key: CaseKey) -> None:
        """Forget an open case."""
        self.open.put(("open_cases", tuple(key)), None)

    def close(self, key: CaseKey, verdict: Verdict, labels: Labels, aside: Aside, shown: Callable[[], Collection[Labels]]) -> bool:
        """Count a death, and add its verdict to what is to be kept, unless that was done before; whether it was new.

        `shown` gives the labels of all containers that are on the page: their counters must not fall.
        """
        instance = _digest(CaseKey(key.boot_id, verdict.container, verdict.instance))
        self.drop(key)
        if instance in self._known:
            return False
        labels = schema.plain(labels) if len(labels) == len(schema.NAME) else _NAMELESS
        self._known[instance] = None
        if len(self._known) > verdicts.KEEP_VERDICTS:
            del self._known[next(iter(self._known))]
        counter = ("deaths", (*labels, verdict.cause if verdict.cause in CAUSES else "unknown"))
        [count] = self.deaths.get(counter) or (0,)
        self.deaths.put(counter, (count + 1,))
        if len(self.deaths) > MOST_DEATHS:
            self._forget_deaths(shown())
        closed = aside.without_poison(Closed(key.boot_id, labels, verdict))
        if closed is not None:
            self.closed.append(closed)
        return True

    def _forget_deaths(self, shown: Collection[Labels]) -> None:
        *before, _latest = self.deaths
        others = (key for key in before if key[1][: len(schema.NAME)] not in shown)
        for key in islice(others, _AT_ONCE):
            self.deaths.put(key, None)
        while len(self.deaths) > MOST_DEATHS:
            self.deaths.put(next(iter(self.deaths)), None)

    def facts(self) -> dict[CaseKey, str]:
        """Return what is known of the open cases."""
        return {
            CaseKey(boot_id, ContainerKey(identifier), instance): facts
            for (_, (boot_id, identifier, instance)), (facts,) in self.open.items()
        }

    def counted(self) -> dict[tuple[Labels, str], int]:
        """Return how many ended, by labels and cause."""
        return {(tuple(labels), cause): count for (_, (*labels, cause)), (count,) in self.deaths.items()}


def _digest(key: CaseKey) -> int:
    """Return 64 bits: of ten thousand keys two are alike once in 10^11. Of a large number hash() alone would make a small one."""
    return hash((key.boot_id, key.container, hex(key.instance)))
