"""How long stops took is shown by prometheus_client's histogram, in both formats, from 0 on."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from agent import stops as stops_module
from agent.page import registry_lines
from agent.stops import Stops
from collectors.deaths import LastStop
from collectors.inquest.verdict import Verdict
from collectors.kernel.container_id import ContainerKey

WEB, OTHER = ("shop", "web-1", "app"), ("", "", "db")


def verdict(seconds: float | None, cause: str = "stopped") -> Verdict:
    """A verdict on a stop that took so long."""
    return Verdict(container=ContainerKey("a" * 64), instance=1, cause=cause, stop_seconds=seconds)


def buckets(stops: Stops, *, openmetrics: bool) -> dict[str, float]:
    """Read the page of the histogram by the parser of its format; every sample by its bound or the end of its name."""
    registry = CollectorRegistry()
    stops.show(registry)
    text = registry_lines(registry, openmetrics=openmetrics).decode()
    [family] = parse_openmetrics(text + "# EOF\n") if openmetrics else parse_text(text)  # type: ignore[no-untyped-call] # prometheus_client
    assert (family.name, family.type) == ("coroner_stop_duration_seconds", "histogram")
    return {sample.labels.get("le", sample.name.removeprefix(family.name)): sample.value for sample in family.samples}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_histogram_is_there_from_0_on(openmetrics: bool) -> None:
    """Or increase() would not see the first stop."""
    shown = buckets(Stops({}), openmetrics=openmetrics)
    assert list(shown) == [
        *("0.1", "0.5", "1.0", "2.0", "5.0", "10.0", "15.0", "30.0", "60.0", "120.0", "300.0", "+Inf"),
        *("_count", "_sum"),
    ]
    assert set(shown.values()) == {0}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_each_stop_counts_once(openmetrics: bool) -> None:
    """What was no stop is in no bucket; what the agent before this one has seen neither."""
    stops = Stops({WEB: (3.0, "stopped")})
    for each in (verdict(0.25), verdict(10.5, "forced_kill"), verdict(None), verdict(1000.0)):
        stops.take(WEB, each, ())
    shown = buckets(stops, openmetrics=openmetrics)
    assert (shown["0.1"], shown["0.5"], shown["10.0"], shown["15.0"], shown["300.0"], shown["+Inf"]) == (0, 1, 1, 2, 2, 3)
    assert (shown["_count"], shown["_sum"]) == (3, 1010.75)


def test_the_last_stop_of_each_container_is_known_with_what_was_left_of_its_grace() -> None:
    """Of one that an agent before this one saw the duration, and whether SIGKILL ended it."""
    stops = Stops({WEB: (3.0, "stopped"), OTHER: (10.5, "forced_kill")})
    assert stops.last == {WEB: LastStop(3.0, None), OTHER: LastStop(10.5, 0.0)}
    stops = Stops({WEB: (3.0, "stopped")})
    stops.take(WEB, verdict(10.5, "forced_kill"), ())
    assert stops.last == {WEB: LastStop(10.5, 0.0)}
    stops.take(WEB, verdict(2.0), ())
    assert stops.last == {WEB: LastStop(2.0, None)}


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was stopped first goes."""
    monkeypatch.setattr(stops_module, "MOST", 2)
    stops = Stops({})
    for name in ("a", "b", "a", "c"):
        stops.take(("", "", name), verdict(1.0), ())
    assert [name for _, _, name in stops.last] == ["a", "c"]
