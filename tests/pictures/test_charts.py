"""Graphs: lines with their gaps, bars, thresholds and the marks of annotations."""

from typing import Any

from tests.pictures.charts import figure, legend

SPAN = (1_800_000_000.0, 1_800_000_060.0)


def panel(unit: str = "short", **custom: Any) -> dict[str, Any]:
    """Return a graph of one query."""
    drawn = {"drawStyle": "line", "fillOpacity": 0, "lineWidth": 1} | custom
    return {
        "targets": [{"refId": "A", "legendFormat": "{{container}}"}],
        "fieldConfig": {"defaults": {"unit": unit, "custom": drawn}},
        "options": {"legend": {"calcs": ["max", "lastNotNull"]}},
    }


def answers(*values: list[float | None]) -> dict[str, Any]:
    """Return series from the beginning of the span, every 15 s."""
    series = [{"labels": {"container": "abc"[number]}, "values": each} for number, each in enumerate(values)]
    return {"A": {"start": 1_800_000_000, "step": 15, "series": series}}


def test_a_value_between_gaps_is_a_point() -> None:
    """And one beside another a part of a line."""
    (line,) = figure(panel(), answers([1, 2, None, 3, None]), SPAN, ())["data"]
    assert line["y"] == [1, 2, None, 3, None]
    assert line["marker"]["size"] == [0, 0, 0, 4, 0]
    assert line["x"][1] == "2027-01-15 08:00:15"


def test_the_axis_begins_at_0_and_has_its_unit() -> None:
    """A little more than the highest value is seen."""
    layout = figure(panel("bytes"), answers([64 << 20]), SPAN, ())["layout"]
    assert layout["yaxis"]["range"] == [0, 1.05 * (64 << 20)]
    assert layout["yaxis"]["ticktext"] == ["0 B", "16 MiB", "32 MiB", "48 MiB", "64 MiB"]


def test_the_axis_of_stacked_bars_is_as_high_as_their_sum() -> None:
    """Events have no halves."""
    stacked = panel(drawStyle="bars", stacking={"mode": "normal"})
    stacked["fieldConfig"]["defaults"]["decimals"] = 0
    found = figure(stacked, answers([1, None], [1, 1]), SPAN, ())
    assert [trace["type"] for trace in found["data"]] == ["bar", "bar"]
    assert found["layout"]["barmode"] == "stack"
    assert found["layout"]["yaxis"]["range"] == [0, 2.1]
    assert found["layout"]["yaxis"]["ticktext"] == ["0", "1", "2"]


def test_thresholds_are_dashed_lines_in_their_colours() -> None:
    """If the panel asks for them."""
    with_steps = panel(thresholdsStyle={"mode": "dashed"})
    steps = [{"color": "green", "value": None}, {"color": "orange", "value": 0.8}, {"color": "red", "value": 0.95}]
    with_steps["fieldConfig"]["defaults"]["thresholds"] = {"steps": steps}
    shapes = figure(with_steps, answers([1]), SPAN, ())["layout"]["shapes"]
    assert [(shape["y0"], shape["line"]["color"]) for shape in shapes] == [(0.8, "#FF9830"), (0.95, "#F2495C")]


def test_an_event_is_a_line_and_a_region_has_two_and_is_tinted() -> None:
    """With a foot, as in Grafana."""
    event = figure(panel(), answers([1]), SPAN, [(1_800_000_030, 1_800_000_030, "#F2495C")])["layout"]["shapes"]
    region = figure(panel(), answers([1]), SPAN, [(1_800_000_030, 1_800_000_045, "#F2495C")])["layout"]["shapes"]
    assert [shape["type"] for shape in event] == ["line", "rect"]
    assert [shape["type"] for shape in region] == ["line", "line", "rect", "rect"]
    assert region[-1]["fillcolor"] == "rgba(242,73,92,0.08)"


def test_a_legend_has_what_its_panel_asks_for() -> None:
    """In the colours of the lines."""
    assert legend(panel("percentunit"), answers([0.5, 0.25, None], [0, 0, 0])) == [
        ("#73BF69", "a", ["50%", "25%"]),
        ("#FADE2A", "b", ["0%", "0%"]),
    ]
