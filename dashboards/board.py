"""A dashboard of Grafana's classic JSON around its panels: variables, links, annotations, and where each panel goes. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.panels import BY_CONTAINER, DATASOURCE, Panel, promql

Rows = Mapping[str, Sequence[Panel]]
"""Panels by the title of their row, in order. The first row has no title."""

_COLUMNS = 24
_VARIABLES = {
    "cluster": ("Cluster", ".*", "coroner_build_info"),
    "job": ("Job", ".+", 'coroner_build_info{cluster=~"$cluster"}'),
    "instance": ("Instance", ".+", 'coroner_build_info{cluster=~"$cluster", job=~"$job"}'),
    "namespace": ("Namespace", ".*", "coroner_container_info{N}"),
    "pod": ("Pod", ".*", 'coroner_container_info{N, namespace=~"$namespace"}'),
    "container": ("Container", ".*", 'coroner_container_info{N, namespace=~"$namespace", pod=~"$pod"}'),
}
"""Label, what "All" matches and whose label it is, by name. `.*` also matches the series without the label: Docker hosts have no pods."""

_DEATHS = "sum by (%s, cause) (increase(coroner_container_deaths_total{C, cause%s}[$__rate_interval])) > 0"
_KILLS = f"sum by ({BY_CONTAINER}) (increase(coroner_container_oom_kills_total{{C}}[$__rate_interval])) > 0"


def board(uid: str, title: str, about: str, rows: Rows, *, of_containers: bool = True, marked: bool = True) -> dict[str, Any]:
    """Return the dashboard. One that is not of containers has neither their variables nor annotations.

    Where deaths and kills are not `marked` at first their annotations can be switched on: of a whole fleet they are too many.
    """
    names = list(_VARIABLES) if of_containers else ["cluster", "job", "instance"]
    return {
        "uid": uid,
        "id": None,
        "title": f"Coroner / {title}",
        "description": about,
        "tags": ["coroner"],
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "weekStart": "",
        "links": [_to_the_others(), _to_the_runbooks()],
        "templating": {"list": [_datasource(), *map(_variable, names)]},
        "annotations": {"list": [_grafanas_own(), *(_annotations(marked) if of_containers else [])]},
        "panels": place(rows),
    }


def place(rows: Rows) -> list[dict[str, Any]]:
    """Return rows and panels with ids and positions, from left to right and from the top; `size` is taken off."""
    placed: list[dict[str, Any]] = []
    y = 0
    for title, panels in rows.items():
        if title:
            at = {"h": 1, "w": _COLUMNS, "x": 0, "y": y}
            placed.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": at, "id": len(placed) + 1})
            y += 1
        x = height = 0
        for panel in panels:
            width, tall = panel["size"]
            if x + width > _COLUMNS:
                x, y, height = 0, y + height, 0
            shown = {key: value for key, value in panel.items() if key != "size"}
            placed.append(shown | {"gridPos": {"h": tall, "w": width, "x": x, "y": y}, "id": len(placed) + 1})
            x, height = x + width, max(height, tall)
        y += height
    return placed


def _datasource() -> dict[str, Any]:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
    }


def _variable(name: str) -> dict[str, Any]:
    label, all_value, series = _VARIABLES[name]
    query = f"label_values({promql(series)}, {name})"
    return {
        "type": "query",
        "name": name,
        "label": label,
        "allValue": all_value,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "options": [],
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
    }


def _to_the_others() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Coroner",
        "tooltip": "The other dashboards, with what is chosen here",
        "icon": "external link",
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "tags": ["coroner"],
        "targetBlank": False,
        "url": "",
    }


def _to_the_runbooks() -> dict[str, Any]:
    return {
        "type": "link",
        "title": "Runbooks",
        "tooltip": "What to do when one of the alerts fires",
        "icon": "doc",
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
        "tags": [],
        "targetBlank": True,
        "url": "https://github.com/coroner-agent/coroner/tree/main/dashboards/runbooks",
    }


def _grafanas_own() -> dict[str, Any]:
    return {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }


def _annotations(marked: bool) -> list[dict[str, Any]]:
    return [
        _annotation("Deaths", _DEATHS % (BY_CONTAINER, '!~"completed|stopped"'), "red", "{{cause}}", shown=marked),
        _annotation("OOM kills", _KILLS, "orange", "OOM kill", shown=marked),
        _annotation("Completed and stopped", _DEATHS % (BY_CONTAINER, '=~"completed|stopped"'), "blue", "{{cause}}", shown=False),
    ]


def _annotation(name: str, expr: str, colour: str, title: str, *, shown: bool) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": shown,
        "hide": False,
        "expr": promql(expr),
        "iconColor": colour,
        "step": "2m",
        "tagKeys": "cause",
        "titleFormat": title,
        "textFormat": "{{namespace}} {{pod}} {{container}} on {{instance}}",
    }
