"""A dashboard and the answers to its queries as one page that looks about as in Grafana. Pure: it needs nothing but Plotly's script."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from tests.dashboards.queries import annotations
from tests.pictures import charts, colours, frames, units

LABEL = "Preview: drawn from the dashboard's JSON and real query results of the lab, not by Grafana"
CSS = Path(__file__).with_name("page.css")

WIDTH = 1600
GAP = 8
UNIT = 30
"""Pixels, as in Grafana: of the page, between panels, and of one of a panel's height."""
HEAD = 32
BORDERS = 2
LEGEND_ROW, TABLE_ROW, MORE = 22, 37, 22
LEGEND_PART = 0.35
"""Of the height of a panel that a legend below it may take."""
CALCS = {"max": "Max", "lastNotNull": "Last *"}
FILLED = {"green": "#2f8a44", "orange": "#d1731d", "red": "#cb2f45"}
"""A stat's background is darker than the colour of its threshold."""

_DRAW = """
Promise.all(Object.entries(figures).map(([id, figure]) => Plotly.newPlot(id, figure.data, figure.layout, {staticPlot: true})))
  .then(() => { document.body.className = "drawn" })
"""

Draw = Callable[["Picture", Mapping[str, Any], Mapping[str, Any]], str]


class Picture:
    """What panels draw from: the time range, marks of annotations, and the figures that Plotly is to draw."""

    def __init__(self, board: Mapping[str, Any], results: Mapping[str, Any]) -> None:
        self.board = board
        self.results = results
        self.span = results["from"], results["to"]
        self.figures: dict[str, Any] = {}
        self.marks = [
            (begin, end, colours.COLOURS[annotation["iconColor"]])
            for annotation in annotations(board)
            if annotation["enable"]
            for series in results["annotations"][annotation["name"]]["series"]
            for begin, end in frames.regions(series["values"], *_of(results["annotations"][annotation["name"]]))
        ]

    def html(self, plotly: str) -> str:
        """Return the page with Plotly's script in it."""
        panels = "".join(self._placed(panel) for panel in self.board["panels"])
        height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in self.board["panels"]) * (UNIT + GAP)
        figures = json.dumps(self.figures).replace("<", "\\u003c")
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(self.board["title"])}</title>'
            f"<style>{CSS.read_text(encoding='utf-8')}</style>"
            f'<body>{_head(self.board, self.results)}<main style="height:{height}px">{panels}</main>'
            f"<script>{plotly}</script><script>const figures = {figures}; {_DRAW}</script></body></html>"
        )

    def _placed(self, panel: Mapping[str, Any]) -> str:
        at = panel["gridPos"]
        column = (WIDTH + GAP) / 24
        left, top = at["x"] * column, at["y"] * (UNIT + GAP)
        place = f"left:{left:.0f}px;top:{top}px;width:{at['w'] * column - GAP:.0f}px;height:{height_of(panel)}px"
        title = escape(panel["title"])
        if panel["type"] == "row":
            return f'<div class="row" style="{place}">{title}</div>'
        answers = self.results["panels"][panel["title"]]
        body = KINDS[panel["type"]](self, panel, answers)
        filled = _filled(panel, answers)
        style = f"{place};background:{FILLED[filled]}" if filled else place
        kind = f"panel {panel['type']}{' filled' if filled else ''}"
        return f'<section class="{kind}" style="{style}"><h2>{title}<i>i</i></h2>{body}</section>'


def height_of(panel: Mapping[str, Any]) -> int:
    """Return the pixels that a panel takes."""
    height: int = panel["gridPos"]["h"] * (UNIT + GAP) - GAP
    return height


def stat(_: Picture, panel: Mapping[str, Any], answers: Mapping[str, Any]) -> str:
    """Return the number."""
    value = _value(answers)
    if value is None:
        return f'<div class="value words">{escape(panel["fieldConfig"]["defaults"]["noValue"])}</div>'
    defaults = panel["fieldConfig"]["defaults"]
    mapped = _mapped(defaults).get(f"{value:g}")
    colour = "#fff" if _filled(panel, answers) else colours.of_value(value, defaults["thresholds"])
    text = mapped["text"] if mapped else units.spell(value, defaults["unit"], defaults.get("decimals"))
    return f'<div class="value{" words" if len(text) > 8 else ""}" style="color:{colour}">{escape(text)}</div>'


def timeseries(picture: Picture, panel: Mapping[str, Any], answers: Mapping[str, Any]) -> str:
    """Return the place of the chart, and its legend."""
    if not any(answer["series"] for answer in answers.values()):
        return _nothing(panel)
    name = f"chart{panel['id']}"
    picture.figures[name] = charts.figure(panel, answers, picture.span, picture.marks)
    rows = charts.legend(panel, answers)
    beside = panel["options"]["legend"]["placement"] == "right"
    room = int((height_of(panel) - HEAD) * (1 if beside else LEGEND_PART) / LEGEND_ROW) - 1
    shown, more = (rows, 0) if len(rows) <= room else (rows[: room - beside], len(rows) - room + beside)
    calcs = panel["options"]["legend"]["calcs"]
    wide = 16 + 7 * max(len(value) for _, _, values in shown for value in values)
    heads = "".join(f'<th class="number" style="width:{max(wide, 64)}px">{CALCS[calc]}</th>' for calc in calcs)
    body = "".join(
        f'<tr><td><i style="background:{colour}"></i>{escape(name) or "&nbsp;"}</td>'
        + "".join(f'<td class="number">{escape(value)}</td>' for value in values)
        + "</tr>"
        for colour, name, values in shown
    )
    legend = f'<div class="legend"><table><tr><th>Name</th>{heads}</tr>{body}</table>{_more(more)}</div>'
    return f'<div class="graph {"beside" if beside else "below"}"><div class="chart" id="{name}"></div>{legend}</div>'


def table(_: Picture, panel: Mapping[str, Any], answers: Mapping[str, Any]) -> str:
    """Return the table, as far as there is room without scrolling."""
    columns, rows = frames.table(panel, {ref: answer["series"] for ref, answer in answers.items()})
    if not rows:
        return _nothing(panel)
    room = (height_of(panel) - HEAD) // TABLE_ROW - 1
    if len(rows) > room:
        room = (height_of(panel) - HEAD - MORE) // TABLE_ROW - 1
    shown, more = rows[:room], len(rows) - room
    defaults = panel["fieldConfig"]["defaults"]
    numbers = {column for column in columns if any(isinstance(row.get(column), int | float) for row in rows)}
    widths = {column: _override(panel, column, "custom.width") for column in columns}
    least = defaults["custom"].get("minWidth", 150)
    width = max(sum(widths[column] or least for column in columns), panel["gridPos"]["w"] * (WIDTH + GAP) / 24 - GAP - BORDERS)

    def cell(row: frames.Row, column: str) -> str:
        value = row.get(column, "")
        mapped = _mapped({"mappings": _override(panel, column, "mappings") or ()}).get(
            value if isinstance(value, str) else f"{value:g}", {}
        )
        unit = _override(panel, column, "unit") or defaults["unit"]
        text = mapped.get("text") or (value if isinstance(value, str) else units.spell(value, unit, defaults.get("decimals")))
        coloured = f' style="color:{colours.COLOURS[mapped["color"]]}"' if "color" in mapped else ""
        inner = f"<a{coloured}>{escape(text)}</a>" if defaults.get("links") or coloured else escape(text)
        return f"<td{_class(column in numbers)}>{inner}</td>"

    def head(column: str) -> str:
        wide = f' style="width:{widths[column]}px"' if widths[column] else ""
        return f"<th{_class(column in numbers)}{wide}>{escape(column)}</th>"

    heads = "".join(map(head, columns))
    body = "".join(f"<tr>{''.join(cell(row, column) for column in columns)}</tr>" for row in shown)
    return f'<div class="rows"><table style="width:{width:.0f}px"><tr>{heads}</tr>{body}</table></div>{_more(more)}'


def state_timeline(picture: Picture, panel: Mapping[str, Any], answers: Mapping[str, Any]) -> str:
    """Return a bar for each series, coloured by the value of each time."""
    series = list(frames.named(panel, {ref: answer["series"] for ref, answer in answers.items()}))
    if not series:
        return _nothing(panel)
    mapped = _mapped(panel["fieldConfig"]["defaults"])
    bars = "".join(f'<div class="state"><span>{escape(name)}</span>{_bar(values, mapped)}</div>' for name, values in series)
    times = "".join(f"<b>{_clock(picture.span[0] + part / 5 * (picture.span[1] - picture.span[0]))}</b>" for part in range(6))
    seen = {f"{value:g}" for _, values in series for value in values if value is not None}
    keys = "".join(
        f'<i style="background:{colours.COLOURS[each["color"]]}"></i><b>{escape(each["text"])}</b>'
        for value, each in mapped.items()
        if value in seen
    )
    legend = f'<div class="keys">{keys}</div>' if panel["options"]["legend"]["showLegend"] else ""
    return f'<div class="states">{bars}<div class="times">{times}</div>{legend}</div>'


KINDS: Mapping[str, Draw] = {"stat": stat, "timeseries": timeseries, "table": table, "state-timeline": state_timeline}


def _head(board: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    begin, end = (datetime.fromtimestamp(results[key], UTC) for key in ("from", "to"))
    chosen = {"datasource": "Prometheus"} | results["chosen"]
    variables = "".join(
        f'<span class="box"><b>{escape(each["label"])}</b>{escape(chosen.get(each["name"], "All")) or "(empty)"}</span>'
        for each in board["templating"]["list"]
    )
    marks = ""
    for each in annotations(board):
        colour = colours.COLOURS[each["iconColor"]] if each["enable"] else "#44464f"
        marks += f'<span class="box"><i style="background:{colour}"></i>{escape(each["name"])}</span>'
    links = "".join(f'<span class="box">{escape(each["title"])} ↗</span>' for each in board["links"])
    return (
        f"<header><h1><small>Dashboards &nbsp;/&nbsp;</small> {escape(board['title'])}</h1>"
        f'<span class="preview">{escape(LABEL)}</span>'
        f'<span class="box">{begin:%Y-%m-%d %H:%M} to {end:%H:%M} UTC</span>'
        f'<span class="line"></span>{variables}<span class="space"></span>{marks}{links}</header>'
    )


def _nothing(panel: Mapping[str, Any]) -> str:
    return f'<div class="none">{escape(panel["fieldConfig"]["defaults"]["noValue"])}</div>'


def _more(count: int) -> str:
    return f'<div class="more">{count} more, by scrolling</div>' if count > 0 else ""


def _bar(values: Any, mapped: Mapping[str, Any]) -> str:
    count = len(values)
    rects, first = "", 0
    for position in range(1, count + 1):
        if position == count or values[position] != values[first]:
            if values[first] is not None:
                colour = colours.COLOURS[mapped[f"{values[first]:g}"]["color"]]
                rects += f'<rect x="{first}" width="{position - first}" height="1" fill="{colour}" fill-opacity="0.75"/>'
            first = position
    return f'<svg viewBox="0 0 {count} 1" preserveAspectRatio="none">{rects}</svg>'


def _filled(panel: Mapping[str, Any], answers: Mapping[str, Any]) -> str:
    """Return the name of the colour that fills the panel."""
    value = _value(answers) if panel["type"] == "stat" and panel["options"]["colorMode"] == "background" else None
    if value is None:
        return ""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached: list[str] = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return reached[-1]


def _value(answers: Mapping[str, Any]) -> float | None:
    found = [series["values"][-1] for answer in answers.values() for series in answer["series"]]
    return found[0] if found else None


def _mapped(defaults: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
    return {value: shown for mapping in defaults.get("mappings", ()) for value, shown in mapping["options"].items()}


def _override(panel: Mapping[str, Any], column: str, name: str) -> Any:
    """Return what is set for this column alone; None if nothing is."""
    found = [
        each["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"] == {"id": "byName", "options": column}
        for each in override["properties"]
        if each["id"] == name
    ]
    return found[0] if found else None


def _class(number: bool) -> str:
    return ' class="number"' if number else ""


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M}"


def _of(answer: Mapping[str, Any]) -> tuple[float, float]:
    return answer["start"], answer["step"]
