"""The history: a point a minute of each container, for an hour, in a fixed number of bytes."""

import math
import sys
import tracemalloc
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gather import Pass
from agent.history import COLLECTORS, KEEP_SECONDS, LEVELS, MOST, POINTS, SECONDS, History, Recorder
from collectors import NAMES, cpu, memory, pids, pressure, zombies
from collectors.base import Metric, Sample, Samples
from collectors.inquest.kill_state import Labels
from collectors.kernel.container_id import ContainerKey

WEB, DB = ("shop", "web-0", "web"), ("", "", "db")


def samples(labels: Labels, **values: float) -> list[Sample]:
    """Spell the samples of one container in one pass."""
    metrics: Mapping[str, Metric] = {
        "used": memory.USAGE,
        "cpu": cpu.USAGE,
        "periods": cpu.PERIODS,
        "throttled": cpu.THROTTLED_PERIODS,
        "waiting": pressure.MEMORY_WAITING,
        "threads": pids.THREADS,
    }
    of_zombies: list[Sample] = [(zombies.ZOMBIES, (*labels, parent), values[parent]) for parent in ("init", "other") if parent in values]
    return [*((metric, labels, values[name]) for name, metric in metrics.items() if name in values), *of_zombies]


def level(history: History, labels: Labels, name: str) -> list[float | None]:
    """Return one level of a container, None where it is not known."""
    series = history.series(labels)
    assert series is not None
    return [None if math.isnan(value) else value for value in series.levels[name]]


def fed(points: Iterable[list[Sample]], living: set[Labels] | None = None) -> History:
    """Feed a history, a minute apart."""
    history = History()
    for number, point in enumerate(points):
        history.feed(point, living or {WEB, DB}, number * SECONDS, 1000 + number * SECONDS)
    return history


def test_levels_are_kept_as_they_were() -> None:
    """Zombies are those of both parents together; what was not told is not known, and no 0."""
    history = fed([samples(WEB, used=100, threads=3, init=4, other=1), samples(WEB, used=200, init=4)])

    assert level(history, WEB, "memory_bytes") == [100, 200]
    assert level(history, WEB, "threads") == [3, None]
    assert level(history, WEB, "zombies") == [5, 4]
    series = history.series(WEB)
    assert series is not None
    assert series.times == [1000, 1060]
    assert series.levels.keys() == set(LEVELS)


def test_rates_are_means_between_two_points() -> None:
    """In cores, and as shares of the periods and of the time."""
    history = fed([samples(WEB, cpu=10, periods=100, throttled=10, waiting=1), samples(WEB, cpu=40, periods=200, throttled=60, waiting=7)])

    rates = history.rates(WEB)
    assert level(history, WEB, "cpu_cores") == [None, 0.5]
    assert rates.cpu_cores == 0.5
    assert rates.throttled_share == 0.5
    assert rates.memory_waiting_share == pytest.approx(0.1)
    assert rates.io_waiting_share is None
    assert history.rates(DB).cpu_cores is None


def test_a_counter_that_began_anew_has_no_rate() -> None:
    """The container was started again."""
    history = fed([samples(WEB, cpu=10), samples(WEB, cpu=2), samples(WEB, cpu=8)])

    assert level(history, WEB, "cpu_cores") == [None, None, pytest.approx(0.1)]


def test_no_period_is_no_throttling() -> None:
    """It did not want to run."""
    assert fed([samples(WEB, periods=5, throttled=1)] * 2).rates(WEB).throttled_share == 0


def test_a_point_comes_a_minute_after_the_one_before_and_not_sooner() -> None:
    """However often somebody scrapes; one who scrapes once a minute may be a little early."""
    history = History()
    for now in (0, 15, 57, 58.5, 59, 118):
        history.feed(samples(WEB, used=now), {WEB}, now, now)

    assert level(history, WEB, "memory_bytes") == [0, 58.5, 118]


def test_after_an_hour_the_oldest_point_goes() -> None:
    """The first and the last are an hour apart."""
    history = fed(samples(WEB, used=number) for number in range(100))

    assert level(history, WEB, "memory_bytes") == [*range(100 - POINTS, 100)]
    series = history.series(WEB)
    assert series is not None
    assert series.times[-1] - series.times[0] == 3600


def test_one_that_came_later_has_nothing_before() -> None:
    """The times are those of all."""
    history = fed([samples(WEB, used=1), samples(WEB, used=1) + samples(DB, used=7)])

    assert level(history, DB, "memory_bytes") == [None, 7]


def test_one_that_is_gone_is_remembered_for_a_while() -> None:
    """Fifteen minutes, in which its line ends; its last counters, which stay on the page, are no life."""
    points = [samples(WEB, used=1, cpu=1) + samples(DB, used=7, cpu=1)]
    history = fed(points)
    minutes = KEEP_SECONDS // 60
    for minute in range(1, minutes + 1):
        history.feed(points[0], {WEB}, minute * SECONDS, minute * SECONDS)
    assert level(history, DB, "memory_bytes") == [7, *[None] * minutes]

    history.feed(points[0], {WEB}, (minutes + 1) * SECONDS, 0)
    assert history.series(DB) is None
    assert len(history) == 1


def test_what_is_called_otherwise_by_now_keeps_its_history() -> None:
    """An id that got its name."""
    history = fed([samples(WEB, used=1)])
    history.moved(WEB, DB)
    history.moved(("", "", "nobody"), WEB)

    assert history.series(WEB) is None
    assert level(history, DB, "memory_bytes") == [1]


def test_a_thousand_containers_take_less_than_two_megabytes() -> None:
    """1.4 KiB each, as --help says, whatever they do; the names are there anyway."""
    names: list[Labels] = [("", "", f"container-{number}") for number in range(1000)]
    point = [sample for name in names for sample in samples(name, used=2.0**40, cpu=1e9, threads=7, periods=1, throttled=1, init=1)]
    living = set(names)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        history = History()
        for minute in range(POINTS + POINTS // 4):
            history.feed(point, living, minute * SECONDS, minute * SECONDS)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(history) == 1000
    assert (after - before) / 1000 < 1.5 * 1024, "what --web.history and the module say of it"
    assert sys.getsizeof(history) < 1000


def test_the_number_of_containers_is_bounded() -> None:
    """A crash loop makes more in fifteen minutes than there is room for."""
    history = History()
    names: list[Labels] = [("", "", str(number)) for number in range(MOST + 5)]
    history.feed([sample for name in names for sample in samples(name, used=1)], set(names), 0, 0)

    assert len(history) == MOST


@given(st.lists(st.dictionaries(st.sampled_from(["used", "cpu", "periods", "throttled", "init"]), st.floats(), max_size=5), max_size=5))
def test_whatever_is_measured_is_survived(points: list[dict[str, float]]) -> None:
    """Infinite, negative, not a number."""
    history = fed(samples(WEB, **point) for point in points)
    rates = history.rates(WEB)

    assert rates.cpu_cores is None or not math.isnan(rates.cpu_cores)


class Clock:
    """Goes on when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_the_recorder_feeds_it_from_passes_and_asks_for_what_it_needs_otherwise() -> None:
    """When nobody scrapes, a look is made every ten seconds anyway: once a minute it measures a little more."""
    clock, history = Clock(), History()

    async def run(job: object) -> None:
        assert callable(job)
        job()

    recorder = Recorder(history, run, clock)
    assert recorder.wanted() == COLLECTORS <= {*NAMES}
    await recorder.take(Pass(Samples(samples(WEB, used=1)), {}, {WEB: ContainerKey("a")}))
    assert recorder.wanted() == frozenset()
    clock.now = SECONDS
    assert recorder.wanted() == COLLECTORS
    assert level(history, WEB, "memory_bytes") == [1]


async def test_a_history_that_fails_costs_no_pass(caplog: pytest.LogCaptureFixture) -> None:
    """The metrics are served; the log says what happened."""

    async def run(_job: object) -> None:
        raise RuntimeError("boom")

    await Recorder(History(), run).take(Pass(Samples(), {}))

    assert "history not fed" in caplog.text


async def test_without_a_history_nothing_is_asked_for() -> None:
    """--no-web.history."""

    async def run(_job: object) -> None:
        raise AssertionError

    recorder = Recorder(None, run)
    await recorder.take(Pass(Samples(), {}))
    recorder.moved(WEB, DB)

    assert recorder.wanted() == frozenset()
