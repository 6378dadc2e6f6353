"""A count that began between two scrapes is shown to Prometheus as 0 first, or increase() never sees what it has counted."""

from collections.abc import Collection, Iterable, Iterator

from collectors import oom
from collectors.base import CONTAINER, Column, Metric, Sample, Samples
from collectors.inquest.kill_state import Labels

CONTAINER_LABELS = len(CONTAINER)
"""A metric's own labels, such as the cause of a death, come behind those."""
MOST_SCRAPERS = 32
MOST_CONTAINERS = 10_000
"""Beyond this only those that are on the page are remembered."""


class ZeroFirst:
    """Remembers on which page each container was shown first, and which page each scraper has had last.

    Prometheus takes the first sample of a series for where it began (https://prometheus.io/docs/prometheus/latest/querying/functions/,
    increase()). A container that was killed and removed between two scrapes would begin at 1 and never rise. Who has had a page from
    before the container gets its event counters as 0 once, which they were then; everybody else gets them as they are.
    """

    def __init__(self) -> None:
        self._page = 0
        self._first: dict[Labels, int] = {}
        self._newest = 0
        """The page on which some container was shown first, the last one."""
        self._shown: dict[Metric, list[Labels]] = {}
        self._last: dict[Metric, dict[Labels, float]] = {}
        """What was shown last, but for 0."""
        self._begun_at: dict[Metric, dict[Labels, float]] = {}
        self._had: dict[str, int] = {}

    def moved(self, before: Labels, now: Labels) -> None:
        """Note that counts go on under other labels: those begin at what was shown of them, not at 0."""
        for metric, last in self._last.items():
            self._begun_at.setdefault(metric, {})[now] = last.get(before, 0)

    def shown(self, samples: Iterable[Sample] | Samples, scraper: str, older_than_agent: Collection[Labels] = ()) -> Samples:
        """Return the samples as this scraper shall see them; an empty name is somebody who does not scrape.

        `older_than_agent`, whenever they got their name: nothing but the agent's own count of their kills began with it.
        """
        self._page += 1
        had = self._had.pop(scraper, self._page)
        if scraper:
            self._had[scraper] = self._page
            if len(self._had) > MOST_SCRAPERS:
                del self._had[next(iter(self._had))]
        page = Samples(samples)
        counts = {metric: column for metric, column in page.columns.items() if metric.zero_first}
        for metric, column in counts.items():
            self._note(metric, column)
        if had < self._newest:
            for metric, column in counts.items():
                page.columns[metric] = column[0], list(self._as_begun(metric, column, had, older_than_agent))
        if len(self._first) > MOST_CONTAINERS:
            on_page = {labels for all_labels, _ in counts.values() for labels in all_labels}
            containers = {labels[:CONTAINER_LABELS] for labels in on_page}
            self._first = {labels: first for labels, first in self._first.items() if labels in containers}
            for table in (*self._last.values(), *self._begun_at.values()):
                for gone in table.keys() - on_page:
                    del table[gone]
        return page

    def _note(self, metric: Metric, column: Column) -> None:
        """Remember who is shown, and with what."""
        labels, values = column
        if labels != self._shown.get(metric):
            self._shown[metric] = labels
            for container in {each[:CONTAINER_LABELS] for each in labels} - self._first.keys():
                self._first[container] = self._newest = self._page
        self._last.setdefault(metric, {}).update({each: value for each, value in zip(labels, values, strict=True) if value})

    def _as_begun(self, metric: Metric, column: Column, had: int, older_than_agent: Collection[Labels]) -> Iterator[float]:
        """Yield the values, of samples that were not on the page that the scraper had as they began."""
        begun_at = self._begun_at.get(metric, {})
        for labels, value in zip(*column, strict=True):
            container = labels[:CONTAINER_LABELS]
            if value and had < self._first[container] and (metric is oom.KILLS or container not in older_than_agent):
                yield min(value, begun_at.get(labels, 0))
            else:
                yield value
