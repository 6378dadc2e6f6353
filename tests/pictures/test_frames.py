"""Legends, tables and regions are what Grafana makes of the same answers."""

from typing import Any

import pytest

from tests.pictures.frames import name, regions, table

WHO = "{{instance}} {{namespace}} {{pod}} {{container}}"


def test_a_legend_has_the_labels_that_it_names() -> None:
    """Outside of Kubernetes two are empty, and a browser shows one space."""
    assert name(f"{WHO} ({{{{scope}}}})", {"instance": "a", "container": "web", "scope": "pod"}) == "a web (pod)"


def test_without_a_legend_it_is_all_labels() -> None:
    """As Grafana writes them."""
    assert name("", {"b": "2", "a": "1"}) == '{a="1", b="2"}'


def panel(*names: str, sort: str = "", index: dict[str, int] | None = None, hidden: tuple[str, ...] = ("Time", "job")) -> dict[str, Any]:
    """Return a table with a query for each of these columns."""
    refs = "ABC"[: len(names)]
    columns = {"Value": names[0]} if len(names) == 1 else {f"Value #{ref}": each for ref, each in zip(refs, names, strict=True)}
    organize = {"excludeByName": dict.fromkeys(hidden, True), "renameByName": columns, "indexByName": index or {}}
    return {
        "targets": [{"refId": ref, "legendFormat": each} for ref, each in zip(refs, names, strict=True)],
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}],
        "options": {"sortBy": [{"displayName": sort, "desc": True}]} if sort else {},
    }


def one(value: float, **labels: str) -> dict[str, Any]:
    """Return a series with one value."""
    return {"labels": labels, "values": [value]}


def test_columns_are_labels_in_the_order_of_the_alphabet_then_the_value() -> None:
    """What is excluded is not there."""
    assert table(panel("kills"), {"A": [one(2, pod="p", job="x", container="web")]}) == (
        ["container", "pod", "kills"],
        [{"container": "web", "pod": "p", "kills": 2}],
    )


def test_columns_that_are_given_a_place_come_first() -> None:
    """The others follow as they were."""
    columns, _ = table(panel("kills", index={"pod": 1, "instance": 0}), {"A": [one(2, container="web", instance="a", pod="p")]})
    assert columns == ["instance", "pod", "container", "kills"]


def test_rows_of_several_queries_are_joined_by_the_labels_that_all_have() -> None:
    """A row that only one query has stays alone."""
    found = table(
        panel("containers", "nodes"),
        {"A": [one(3, finding="deaf"), one(1, finding="full")], "B": [one(2, finding="full"), one(5, finding="dying")]},
    )
    assert found == (
        ["finding", "containers", "nodes"],
        [{"finding": "deaf", "containers": 3}, {"finding": "full", "containers": 1, "nodes": 2}, {"finding": "dying", "nodes": 5}],
    )


def test_rows_that_contradict_each_other_are_not_joined() -> None:
    """That is why no query of several may keep the name of its metric."""
    _, rows = table(
        panel("a", "b", hidden=("Time", "__name__")),
        {"A": [one(1, container="web", __name__="x")], "B": [one(2, container="web", __name__="y")]},
    )
    assert rows == [{"container": "web", "a": 1}, {"container": "web", "b": 2}]


def test_the_largest_is_at_the_top() -> None:
    """Whoever has no value is at the end."""
    _, rows = table(panel("a", "b", sort="a"), {"A": [one(1, n="x"), one(3, n="y")], "B": [one(9, n="z")]})
    assert [row["n"] for row in rows] == ["y", "x", "z"]


def test_an_unknown_transformation_is_an_error() -> None:
    """And not left out."""
    unknown = panel("a") | {"transformations": [{"id": "reduce", "options": {}}]}
    with pytest.raises(ValueError, match="reduce"):
        table(unknown, {"A": [one(1)]})


def test_values_that_follow_each_other_are_one_region() -> None:
    """0 and no value are no event."""
    assert list(regions([1, None, 0, 2, 3, None, None, 1], 1000, 120)) == [(1000, 1000), (1360, 1480), (1840, 1840)]
    assert list(regions([None, 0], 0, 120)) == []
