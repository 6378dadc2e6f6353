"""Panels of Grafana's classic JSON: one function for each kind that the dashboards use. Pure; where a panel goes is for board.py to say."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Panel = dict[str, Any]
Queries = str | Mapping[str, str]
"""One expression, or expressions by their legends. `{N}` stands for the matchers of a node, `{C}` for those of a container."""

RUNBOOKS = "https://github.com/coroner-agent/coroner/blob/main/dashboards/runbooks/"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WHO = "{{instance}} {{namespace}} {{pod}} {{container}}"
"""Legend of a container: outside Kubernetes the two in the middle are empty."""
BY_CONTAINER = "cluster, instance, namespace, pod, container"
WIDE = 12
"""Columns of a graph whose legend stands beside it: below it there is room for three series."""

_FIRST = ("cluster", "instance", "namespace", "pod", "container")
"""The columns that say whose a row of a table is; Grafana would have all columns in the order of the alphabet."""
_SHORT = 10
"""Letters of the name of a column that needs no more room than `severity`."""
_SEVERITIES = {
    "type": "value",
    "options": {
        name: {"color": colour, "index": index}
        for index, (name, colour) in enumerate({"critical": "red", "warning": "orange", "info": "blue"}.items())
    },
}
_YES_OR_NO = {"type": "value", "options": {"1": {"text": "yes", "index": 0}, "0": {"text": "no", "index": 1}}}

_NODE = 'cluster=~"$cluster", job=~"$job", instance=~"$instance"'
_MATCHERS = {"N": _NODE, "C": f'{_NODE}, namespace=~"$namespace", pod=~"$pod", container=~"$container"'}


def promql(expr: str) -> str:
    """Return `expr` with the matchers of the variables in place of `{N}` and `{C}`; `{C, parent="init"}` has its own beside them."""
    return re.sub(r"\{([NC])\b", lambda match: "{" + _MATCHERS[match[1]], expr)


def link_to_container(whose: str = "__field.labels") -> dict[str, Any]:
    """Return the link of a series (`__field.labels`) or of a row of a table (`__data.fields`) to the dashboard of its container."""
    names = ("cluster", "instance", "namespace", "pod", "container")
    chosen = "&".join(f"var-{name}=${{{whose}.{name}}}" for name in names)
    return _link("This container", f"/d/coroner-container?${{datasource:queryparam}}&{chosen}&${{__url_time_range}}")


def link_to_node(whose: str = "__field.labels") -> dict[str, Any]:
    """Return the link of a series or of a row of a table to the dashboard of its node."""
    chosen = f"var-cluster=${{{whose}.cluster}}&var-instance=${{{whose}.instance}}"
    return _link("This node and its agent", f"/d/coroner-node?${{datasource:queryparam}}&{chosen}&${{__url_time_range}}")


def stat(
    title: str,
    queries: Queries,
    about: str,
    *,
    unit: str = "short",
    steps: Sequence[float] = (),
    least: float | None = None,
    runbook: str = "",
    none: str = "no data",
) -> Panel:
    """Return a single number, asked now; it is green, orange from the first of `steps` on and red from the last.

    Of what should rather be much it is red below `least`.
    """
    panel = _panel("stat", title, queries, about, unit=unit, runbook=runbook, now=True)
    shown = {"thresholds": _thresholds(steps, least), "color": {"mode": "thresholds"}, "noValue": none}
    panel["fieldConfig"]["defaults"] |= shown | _whole(unit)
    panel["options"] = {
        "colorMode": "background" if steps or least is not None else "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    }
    return panel | {"size": (3, 4)}


def graph(
    title: str,
    queries: Queries,
    about: str,
    *,
    unit: str = "short",
    steps: Sequence[float] = (),
    runbook: str = "",
    bars: bool = False,
    link: Mapping[str, Any] | None = None,
    none: str = "no data",
    width: int = 8,
    legend: str = "",
) -> Panel:
    """Return lines over time, or bars for events, one upon the other; `steps` are drawn as lines of thresholds.

    The legend is below, or on the right where the panel is WIDE, unless `legend` says otherwise.
    """
    panel = _panel("timeseries", title, queries, about, unit=unit, runbook=runbook, now=False)
    stacked = {"stacking": {"mode": "normal", "group": "A"}}
    drawn = {"drawStyle": "bars", "fillOpacity": 60} | stacked if bars else {"drawStyle": "line", "fillOpacity": 0}
    custom: dict[str, Any] = drawn | {"lineWidth": 1, "showPoints": "auto", "spanNulls": False}
    panel["fieldConfig"]["defaults"] |= {"color": {"mode": "palette-classic"}, "custom": custom, "min": 0, "noValue": none}
    if steps:
        custom["thresholdsStyle"] = {"mode": "dashed"}
        panel["fieldConfig"]["defaults"]["thresholds"] = _thresholds(steps)
    if link:
        panel["fieldConfig"]["defaults"]["links"] = [link]
    if bars:  # or bars and the marks of annotations would overlap
        panel["interval"] = "2m"
        panel["fieldConfig"]["defaults"]["decimals"] = 0
    panel["options"] = {
        "legend": {
            "calcs": ["max", "lastNotNull"],
            "displayMode": "table",
            "placement": legend or ("right" if width >= WIDE else "bottom"),
            "showLegend": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel | {"size": (width, 8)}


def table(
    title: str,
    queries: Queries,
    about: str,
    *,
    unit: str = "short",
    runbook: str = "",
    link: Mapping[str, Any] | None = None,
    none: str = "none",
    yes_or_no: Sequence[str] = (),
    size: tuple[int, int] = (8, 8),
) -> Panel:
    """Return what there is now, one row for each series; the columns of values are called as the legends of the queries.

    The largest values of the first query are at the top. Queries are joined by the labels that all have: with several, none may have the
    name of its metric. Columns that are `yes_or_no` have 1 or 0.
    """
    panel = _panel("table", title, queries, about, unit=unit, runbook=runbook, now=True)
    panel["fieldConfig"]["defaults"] |= {"noValue": none, "custom": {"filterable": True, "minWidth": 60}} | _whole(unit)
    if link:
        panel["fieldConfig"]["defaults"]["links"] = [link]
    names = [target["legendFormat"] for target in panel["targets"]]
    columns = (
        {"Value": names[0]} if len(names) == 1 else {f"Value #{target['refId']}": target["legendFormat"] for target in panel["targets"]}
    )
    hidden = dict.fromkeys(("Time", "__name__", "job", *(value for value, name in columns.items() if not name)), True)
    organize = {
        "excludeByName": hidden,
        "renameByName": {value: name for value, name in columns.items() if name},
        "indexByName": {name: number for number, name in enumerate(_FIRST)},
    }
    panel["transformations"] = [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]
    overrides = [_override("severity", **{"custom.width": 90, "custom.cellOptions": {"type": "color-text"}, "mappings": [_SEVERITIES]})]
    overrides += [_override(name, **{"custom.width": 90}) for name in names if 0 < len(name) <= _SHORT]
    overrides += [_override(name, mappings=[_YES_OR_NO]) for name in yes_or_no]
    panel["fieldConfig"]["overrides"] = overrides
    panel["options"] = {"cellHeight": "sm", "footer": {"show": False}, "showHeader": True}
    if names[0] and names[0] not in yes_or_no:
        panel["options"]["sortBy"] = [{"displayName": names[0], "desc": True}]
    return panel | {"size": size}


def states(title: str, queries: Queries, about: str, *, runbook: str = "", good: str = "yes", bad: str = "no", height: int = 8) -> Panel:
    """Return what is 1 (green, `good`) or 0 (red, `bad`) over time."""
    panel = _panel("state-timeline", title, queries, about, unit="short", runbook=runbook, now=False)
    mapped = {"1": {"color": "green", "index": 0, "text": good}, "0": {"color": "red", "index": 1, "text": bad}}
    panel["fieldConfig"]["defaults"] |= {
        "color": {"mode": "thresholds"},
        "thresholds": {"mode": "absolute", "steps": [{"color": "red", "value": None}, {"color": "green", "value": 1}]},
        "mappings": [{"type": "value", "options": mapped}],
        "noValue": "no data",
    }
    panel["options"] = {"mergeValues": True, "rowHeight": 0.8, "showValue": "never"}
    panel["options"]["legend"] = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    return panel | {"size": (8, height)}


def _panel(kind: str, title: str, queries: Queries, about: str, *, unit: str, runbook: str, now: bool) -> Panel:
    named = {"": queries} if isinstance(queries, str) else queries
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "links": [_link(f"Runbook {runbook}", f"{RUNBOOKS}{runbook}.md")] if runbook else [],
        "targets": [
            {
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": promql(expr),
                "format": "table" if kind == "table" else "time_series",
                "instant": now,
                "range": not now,
                "legendFormat": legend,
                "refId": chr(ord("A") + number),
            }
            for number, (legend, expr) in enumerate(named.items())
        ],
    }


def _whole(unit: str) -> dict[str, Any]:
    """Return that counts are whole numbers: `increase` estimates them."""
    return {"decimals": 0} if unit == "short" else {}


def _override(column: str, **properties: Any) -> dict[str, Any]:
    listed = [{"id": name, "value": value} for name, value in properties.items()]
    return {"matcher": {"id": "byName", "options": column}, "properties": listed}


def _link(title: str, url: str) -> dict[str, Any]:
    return {"targetBlank": url.startswith("https:"), "title": title, "url": url}


def _thresholds(steps: Sequence[float], least: float | None = None) -> dict[str, Any]:
    if least is not None:
        return {"mode": "absolute", "steps": [{"color": "red", "value": None}, {"color": "green", "value": least}]}
    colours = ["red"] if len(steps) == 1 else ["orange", "red"]
    above = [{"color": colour, "value": value} for colour, value in zip(colours, steps, strict=False)]
    return {"mode": "absolute", "steps": [{"color": "green", "value": None}, *above]}
