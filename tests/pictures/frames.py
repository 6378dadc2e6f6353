"""What Grafana makes of Prometheus' answers: names of series, tables with their transformations, regions of annotations. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Answers = Mapping[str, Sequence[Mapping[str, Any]]]
"""Series by the refId of the query: {"labels": {...}, "values": [...]}, None where there is no value at that time."""
Row = dict[str, str | float]


def name(legend: str, labels: Mapping[str, str]) -> str:
    """Return the legend of a series: `{{label}}` is replaced, and white space is as a browser shows it. Without a legend: its labels."""
    if not legend:
        return "{" + ", ".join(f'{label}="{value}"' for label, value in sorted(labels.items())) + "}"
    spelled = re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match[1], ""), legend)
    return " ".join(spelled.split())


def named(panel: Mapping[str, Any], answers: Answers) -> Iterator[tuple[str, Sequence[float | None]]]:
    """Yield the name and the values of each series of a panel, in the order of its queries."""
    for target in panel["targets"]:
        for series in answers[target["refId"]]:
            yield name(target["legendFormat"], series["labels"]), series["values"]


def table(panel: Mapping[str, Any], answers: Answers) -> tuple[list[str], list[Row]]:
    """Return columns and rows of a table after its transformations `merge` and `organize`, sorted as its options say."""
    frames = [_frame(target["refId"], answers[target["refId"]], alone=len(panel["targets"]) == 1) for target in panel["targets"]]
    merged = _merge(frames)
    columns = list(dict.fromkeys(column for columns, _ in frames for column in columns))
    for transformation in panel["transformations"]:
        options = transformation["options"]
        if transformation["id"] == "organize":
            order = options.get("indexByName", {})
            columns = sorted(columns, key=lambda column: order.get(column, len(order)))
            columns = [column for column in columns if not options["excludeByName"].get(column)]
            renamed = options["renameByName"]
            merged = [{renamed.get(column, column): value for column, value in row.items()} for row in merged]
            columns = [renamed.get(column, column) for column in columns]
        elif transformation["id"] != "merge":
            raise ValueError(f"table() in tests/pictures/frames.py does not know the transformation {transformation['id']!r}: add it")
    for by in panel["options"].get("sortBy", ()):
        merged = _sorted(merged, by["displayName"], descending=by["desc"])
    return columns, [{column: row[column] for column in columns if column in row} for row in merged]


def _sorted(rows: Sequence[Row], column: str, *, descending: bool) -> list[Row]:
    having = [row for row in rows if row.get(column) is not None]
    return sorted(having, key=lambda row: row[column], reverse=descending) + [row for row in rows if row.get(column) is None]


def regions(values: Sequence[float | None], start: float, step: float) -> Iterator[tuple[float, float]]:
    """Yield beginning and end of each event of an annotation: values above 0 that are no more than a step apart are one."""
    begin = end = None
    for number, value in enumerate(values):
        at = start + number * step
        if value is None or value <= 0:
            continue
        if begin is None or end is None or end + step < at:
            if begin is not None and end is not None:
                yield begin, end
            begin = at
        end = at
    if begin is not None and end is not None:
        yield begin, end


def _frame(ref: str, series: Sequence[Mapping[str, Any]], *, alone: bool) -> tuple[list[str], list[Row]]:
    value = "Value" if alone else f"Value #{ref}"
    labels = list(dict.fromkeys(label for each in series for label in sorted(each["labels"])))
    rows = [{"Time": 0.0} | {label: each["labels"].get(label, "") for label in labels} | {value: each["values"][-1]} for each in series]
    return ["Time", *labels, value], rows


def _merge(frames: Sequence[tuple[list[str], list[Row]]]) -> list[Row]:
    """Join rows that agree in the columns that all frames have, and in whatever both have."""
    key = set.intersection(*(set(columns) for columns, _ in frames))
    merged: list[Row] = []
    for _, rows in frames:
        before = list(merged)
        for row in rows:
            fitting = [have for have in before if all(have[column] == row[column] for column in {*key, *(have.keys() & row.keys())})]
            for have in fitting:
                have.update(row)
            if not fitting:
                merged.append(dict(row))
    return merged
