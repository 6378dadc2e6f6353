"""A panel of the kind timeseries as a figure of Plotly: https://plotly.com/javascript/reference/. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.pictures import colours, frames, units

GRID = "rgba(204,204,220,0.09)"
TEXT = "rgba(204,204,220,0.75)"
Marks = Sequence[tuple[float, float, str]]
"""Beginning and end of each event, and its colour."""


def figure(panel: Mapping[str, Any], answers: Mapping[str, Any], span: tuple[float, float], marks: Marks) -> dict[str, Any]:
    """Return data and layout of a panel that has series."""
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    traces = []
    highest = 0.0
    bars = custom["drawStyle"] == "bars"
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    number = 0
    sums: dict[float, float] = {}
    for target in panel["targets"]:
        answer = answers[target["refId"]]
        for series in answer["series"]:
            colour = colours.of_series(number)
            number += 1
            at = [answer["start"] + position * answer["step"] for position in range(len(series["values"]))]
            values = series["values"]
            for time, value in zip(at, values, strict=True):
                sums[time] = (sums.get(time, 0.0) if stacked else 0.0) + (value or 0.0)
                highest = max(highest, sums[time])
            traces.append(_bars(at, values, colour, answer["step"]) if bars else _line(at, values, colour, custom))
    fixed = defaults.get("max")
    highest = fixed if fixed is not None else (highest * 1.05 or 1.0)
    ticks = units.ticks(highest, defaults["unit"])
    texts = [units.plain(units.spell(tick, defaults["unit"])) for tick in ticks]
    if defaults.get("decimals") == 0:  # halves of events are none
        whole = [tick for tick in ticks if tick == int(tick)]
        ticks, texts = whole, [units.spell(tick, defaults["unit"], 0) for tick in whole]
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "tickfont": {"color": TEXT, "size": 12}, "fixedrange": True}
    layout = {
        "template": None,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": False,
        "barmode": "stack" if stacked else "overlay",
        "bargap": 0.3,
        "margin": {"l": 14 + 7 * max(map(len, texts)), "r": 10, "t": 8, "b": 24},
        "xaxis": axis | {"type": "date", "range": [_time(span[0]), _time(span[1])], "tickformat": "%H:%M", "nticks": 8},
        "yaxis": axis | {"range": [0, highest], "tickmode": "array", "tickvals": ticks, "ticktext": texts},
        "shapes": [*_lines(defaults), *(shape for mark in marks for shape in _mark(*mark))],
    }
    return {"data": traces, "layout": layout}


def _line(at: Sequence[float], values: Sequence[float | None], colour: str, custom: Mapping[str, Any]) -> dict[str, Any]:
    alone = [
        value is not None
        and (position == 0 or values[position - 1] is None)
        and (position + 1 == len(values) or values[position + 1] is None)
        for position, value in enumerate(values)
    ]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [*map(_time, at)],
        "y": list(values),
        "line": {"color": colour, "width": 1.3 * custom["lineWidth"]},
        "marker": {"color": colour, "size": [4 if single else 0 for single in alone], "line": {"width": 0}},
        "fill": "tozeroy",
        "fillcolor": colours.faint(colour, custom["fillOpacity"] / 100),
        "connectgaps": False,
    }


def _bars(at: Sequence[float], values: Sequence[float | None], colour: str, step: float) -> dict[str, Any]:
    return {
        "type": "bar",
        "x": [*map(_time, at)],
        "y": list(values),
        "width": [step * 700] * len(values),
        "marker": {"color": colours.faint(colour, 0.6), "line": {"color": colour, "width": 1}},
    }


def _lines(defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return thresholds as dashed lines."""
    if defaults["custom"].get("thresholdsStyle", {}).get("mode") != "dashed":
        return []
    steps = [step for step in defaults["thresholds"]["steps"] if step["value"] is not None]
    dashed = {"type": "line", "xref": "paper", "x0": 0, "x1": 1}
    return [
        dashed | {"y0": step["value"], "y1": step["value"], "line": {"color": colours.COLOURS[step["color"]], "width": 1, "dash": "dash"}}
        for step in steps
    ]


def _mark(begin: float, end: float, colour: str) -> list[dict[str, Any]]:
    """Return a dashed line at an event, or a region, with a bar at the bottom."""
    place = {"yref": "paper", "layer": "below"}
    line = place | {"type": "line", "y0": 0, "y1": 1, "line": {"color": colours.faint(colour, 0.8), "width": 1, "dash": "dot"}}
    shapes = [line | {"x0": _time(at), "x1": _time(at)} for at in sorted({begin, end})]
    foot = place | {"type": "rect", "y0": 0, "y1": -0.035, "fillcolor": colour, "line": {"color": colour, "width": 2}}
    shapes.append(foot | {"x0": _time(begin), "x1": _time(end)})
    if end > begin:
        faint = {"fillcolor": colours.faint(colour, 0.08), "line": {"width": 0}}
        shapes.append(place | {"type": "rect", "y0": 0, "y1": 1, "x0": _time(begin), "x1": _time(end)} | faint)
    return shapes


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def legend(panel: Mapping[str, Any], answers: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Return colour, name and the calculated values of each series, as the panel's legend asks for them."""
    unit, decimals = panel["fieldConfig"]["defaults"]["unit"], panel["fieldConfig"]["defaults"].get("decimals")
    of = {ref: answer["series"] for ref, answer in answers.items()}
    rows = []
    for number, (name, values) in enumerate(frames.named(panel, of)):
        known = [value for value in values if value is not None]
        found = {"max": max(known), "lastNotNull": known[-1]}
        rows.append(
            (colours.of_series(number), name, [units.spell(found[calc], unit, decimals) for calc in panel["options"]["legend"]["calcs"]])
        )
    return rows
