"""Ask a Prometheus what the panels of a dashboard would ask it, as Grafana does, and keep the answers in a file."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.dashboards.queries import annotations, panels, substitute

SCRAPE_INTERVAL = 15
"""Seconds: what Grafana takes for it unless the data source says otherwise, and the step of a graph of an hour or less."""

Ask = Callable[..., list[dict[str, Any]]]
"""Asks for a path of the API with parameters, and returns the result."""


def answers(board: Mapping[str, Any], ask: Ask, start: float, end: float, chosen: Mapping[str, str]) -> dict[str, Any]:
    """Return what all panels and annotations get for this time range (seconds since 1970); variables that are not chosen are "All"."""
    values = {variable["name"]: variable["allValue"] for variable in board["templating"]["list"] if "allValue" in variable} | dict(chosen)
    values["__range"] = f"{end - start:.0f}s"

    def over_time(expr: str, step: int) -> dict[str, Any]:
        first, last = start // step * step, end // step * step
        rate = max(step + SCRAPE_INTERVAL, 4 * SCRAPE_INTERVAL)
        query = substitute(expr, values | {"__rate_interval": f"{rate}s", "__interval": f"{step}s"})
        found = ask("query_range", query=query, start=first, end=last, step=step)
        count = int((last - first) // step) + 1
        return {"start": first, "step": step, "series": [_series(each, first, step, count) for each in found]}

    def now(expr: str) -> dict[str, Any]:
        query = substitute(expr, values | {"__rate_interval": f"{4 * SCRAPE_INTERVAL}s"})
        found = ask("query", query=query, time=end)
        return {"series": [{"labels": each["metric"], "values": [_short(each["value"][1])]} for each in found]}

    def panel_answers(panel: Mapping[str, Any]) -> dict[str, Any]:
        step = _seconds(panel.get("interval", "15s"))
        return {
            each["refId"]: {"expr": each["expr"]} | (now(each["expr"]) if each["instant"] else over_time(each["expr"], step))
            for each in panel["targets"]
        }

    return {
        "from": start,
        "to": end,
        "chosen": dict(chosen),
        "panels": {panel["title"]: panel_answers(panel) for panel in panels(board)},
        "annotations": {each["name"]: over_time(each["expr"], _seconds(each["step"])) for each in annotations(board) if each["enable"]},
    }


def write(file: Path, answers: Mapping[str, Any]) -> None:
    """Write a series a line, so that whoever reads a diff sees what has changed."""
    text = json.dumps(answers, ensure_ascii=False, separators=(",", ":"))
    file.write_text(text.replace('{"labels"', '\n{"labels"') + "\n", encoding="utf-8")


def _series(series: Mapping[str, Any], first: float, step: int, count: int) -> dict[str, Any]:
    values: list[float | None] = [None] * count
    for at, value in series["values"]:
        values[round((at - first) / step)] = _short(value)
    return {"labels": series["metric"], "values": values}


def _short(value: str) -> float | None:
    """Round to six digits, of which no more can be seen; NaN is no value."""
    number = float(f"{float(value):.6g}")
    if not math.isfinite(number):
        return None
    return int(number) if number == int(number) else number


def _seconds(interval: str) -> int:
    return int(interval[:-1]) * {"s": 1, "m": 60}[interval[-1]]
