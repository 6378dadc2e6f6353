"""How much faster a page is rendered than by prometheus_client, on the same 20,000 samples in the same run.

Run it as `python -m tests.bench.bench_page` from the top of the repository. The budget is 10x in both formats with every
value changed since the last page, both starting from the samples. How prometheus_client does when it finds its families
already built is shown too: that is its rendering alone.
"""

import gc
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as generate_latest_openmetrics

from agent.page import Page
from collectors.base import Metric, Sample, counter, gauge

CONTAINERS = 500
METRICS = 40
ROUNDS = 15


def passes() -> tuple[list[Sample], list[Sample]]:
    """Return the samples of two passes in the order collectors yield them: no value the same, a third with a fraction."""
    numbers = random.Random(1)
    declared = [
        counter(f"coroner_container_cpu_{index}_seconds_total", "CPU time used (cpu.stat).")
        if index % 3 == 0
        else gauge(f"coroner_container_memory_{index}_bytes", "Memory used (memory.current).")
        for index in range(METRICS)
    ]
    names = [(f"team-{index % 20}", f"checkout-{numbers.randrange(16**9):09x}-{index:05d}", "checkout") for index in range(CONTAINERS)]
    first: list[Sample] = [
        (metric, labels, numbers.randrange(1 << 40) / 1e6 if metric.kind == "counter" else numbers.randrange(1 << 34))
        for labels in names
        for metric in declared
    ]
    return first, [(metric, labels, value + 1) for metric, labels, value in first]


class Client:
    """A collector of prometheus_client that yields the same samples, from families built for each page or once."""

    def __init__(self, samples: Sequence[Sample], *, built: bool) -> None:
        self._samples = samples
        self._families = _families(samples) if built else None

    def collect(self) -> Iterator[Family]:
        """Yield the families."""
        yield from self._families or _families(self._samples)


def _families(samples: Sequence[Sample]) -> list[CounterMetricFamily | GaugeMetricFamily]:
    families: dict[Metric, CounterMetricFamily | GaugeMetricFamily] = {}
    for metric, labels, value in samples:
        family = families.get(metric)
        if family is None:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = families[metric] = kind(metric.name, metric.help, labels=metric.labels)
        family.add_metric(labels, value)
    return list(families.values())


def _registry(samples: Sequence[Sample], *, built: bool) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Client(samples, built=built))
    return registry


def _milliseconds(render: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    render()
    return (time.perf_counter() - start) * 1e3


def compare(*, openmetrics: bool, generate: Callable[[CollectorRegistry], object]) -> dict[str, float]:
    """Return the milliseconds of each contestant, our page with every value changed first: the best of several rounds."""
    first, second = passes()
    page, samples = Page(), cycle((first, second))
    contestants: dict[str, Callable[[], object]] = {
        "Page, every value changed": lambda: page.render(next(samples), openmetrics=openmetrics),
        "Page, the first one": lambda: Page().render(first, openmetrics=openmetrics),
        "prometheus_client, families already built": partial(generate, _registry(first, built=True)),
        "prometheus_client, from the samples": partial(generate, _registry(first, built=False)),
    }
    rounds = [[_milliseconds(render) for render in contestants.values()] for _ in range(ROUNDS)]
    return dict(zip(contestants, map(min, zip(*rounds, strict=True)), strict=True))


def _print(name: str, best: dict[str, float]) -> None:
    own = next(iter(best.values()))
    for contestant, milliseconds in best.items():
        sys.stdout.write(f"{name}: {milliseconds:7.1f} ms {milliseconds / own:6.1f}x  {contestant}\n")


def main() -> None:
    """Print milliseconds and ratios for 20,000 samples: the fastest of several rounds, in which all take turns."""
    _print("text 0.0.4", compare(openmetrics=False, generate=generate_latest))
    _print("OpenMetrics 1.0", compare(openmetrics=True, generate=generate_latest_openmetrics))


if __name__ == "__main__":
    main()
