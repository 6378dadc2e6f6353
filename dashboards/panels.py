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
    title: str, queries: Queries, about: str, *, unit: str = "short", steps: Sequence[float] = (), runbook: str = "", none: str = "no data"
) -> Panel:
    """Return a single number, asked now; it is green, orange from the first of `steps` on and red from the last."""
    panel = _panel("stat", title, queries, about, unit=unit, runbook=runbook, now=True)
    panel["fieldConfig"]["defaults"] |= {"thresholds": _thresholds(steps), "color": {"mode": "thresholds"}, "noValue": none}
    panel["options"] = {
        "colorMode": "background" if steps else "value",
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
) -> Panel:
    """Return lines over time, or bars for events; `steps` are drawn as lines of thresholds."""
    panel = _panel("timeseries", title, queries, about, unit=unit, runbook=runbook, now=False)
    drawn = {"drawStyle": "bars", "fillOpacity": 60} if bars else {"drawStyle": "line", "fillOpacity": 5}
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
        "legend": {"calcs": ["max", "lastNotNull"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel | {"size": (8, 8)}


def table(
    title: str,
    queries: Queries,
    about: str,
    *,
    unit: str = "short",
    runbook: str = "",
    link: Mapping[str, Any] | None = None,
    none: str = "none",
    width: int = 8,
) -> Panel:
    """Return what there is now, one row for each series; the columns of values are called as the legends of the queries."""
    panel = _panel("table", title, queries, about, unit=unit, runbook=runbook, now=True)
    panel["fieldConfig"]["defaults"] |= {"noValue": none, "custom": {"filterable": True}}
    if link:
        panel["fieldConfig"]["defaults"]["links"] = [link]
    names = [target["legendFormat"] for target in panel["targets"]]
    columns = (
        {"Value": names[0]} if len(names) == 1 else {f"Value #{target['refId']}": target["legendFormat"] for target in panel["targets"]}
    )
    hidden = dict.fromkeys(("Time", "__name__", "job", *(value for value, name in columns.items() if not name)), True)
    panel["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": hidden, "renameByName": {value: name for value, name in columns.items() if name}}},
    ]
    panel["options"] = {"cellHeight": "sm", "footer": {"show": False}, "showHeader": True}
    return panel | {"size": (width, 8)}


def states(title: str, queries: Queries, about: str, *, runbook: str = "", good: str = "yes", bad: str = "no") -> Panel:
    """Return what is 1 (green, `good`) or 0 (red, `bad`) over time."""
    panel = _panel("state-timeline", title, queries, about, unit="short", runbook=runbook, now=False)
    mapped = {"1": {"color": "green", "index": 0, "text": good}, "0": {"color": "red", "index": 1, "text": bad}}
    panel["fieldConfig"]["defaults"] |= {
        "color": {"mode": "thresholds"},
        "thresholds": {"mode": "absolute", "steps": [{"color": "red", "value": None}, {"color": "green", "value": 1}]},
        "mappings": [{"type": "value", "options": mapped}],
        "noValue": "no data",
    }
    panel["options"] = {"mergeValues": True, "rowHeight": 0.8, "showValue": "never", "legend": {"showLegend": False}}
    return panel | {"size": (8, 8)}


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


def _link(title: str, url: str) -> dict[str, Any]:
    return {"targetBlank": url.startswith("https:"), "title": title, "url": url}


def _thresholds(steps: Sequence[float]) -> dict[str, Any]:
    colours = ["red"] if len(steps) == 1 else ["orange", "red"]
    above = [{"color": colour, "value": value} for colour, value in zip(colours, steps, strict=False)]
    return {"mode": "absolute", "steps": [{"color": "green", "value": None}, *above]}
