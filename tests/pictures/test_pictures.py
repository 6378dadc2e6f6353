"""The committed pictures: their results answer the committed dashboards, and a real browser draws them."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.dashboards.queries import DASHBOARDS, annotations, panels
from tests.pictures import ask, draw, frames
from tests.pictures.__main__ import PICTURES, TOP
from tests.pictures.page import LABEL

BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}
RESULTS: dict[str, dict[str, Any]] = {name: json.loads((PICTURES / f"{name}.json").read_text()) for name in BOARDS}
REMEDY = "run python -m tests.pictures ask; for what the recording has not, python -m tests.pictures record"
EVERY_BOARD = pytest.mark.parametrize("name", BOARDS)

WITHOUT_DATA = {
    "fleet": {"Memory pressure"},
    "container": {"Memory pressure", "CPU pressure", "I/O pressure"},
    "node": {"Memory pressure of the node", "CPU pressure of the node", "I/O pressure of the node"},
}
"""Panels without data in the lab, whose kernel has no PSI."""


@EVERY_BOARD
def test_the_committed_results_answer_every_query_of_the_dashboard(name: str) -> None:
    """Whoever adds a panel or changes a query makes the pictures anew."""
    asked = {panel["title"]: {target["refId"]: target["expr"] for target in panel["targets"]} for panel in panels(BOARDS[name])}
    answered = {title: {ref: answer["expr"] for ref, answer in found.items()} for title, found in RESULTS[name]["panels"].items()}
    assert answered == asked, f"the pictures are out of date: {REMEDY}"
    shown = [annotation["name"] for annotation in annotations(BOARDS[name]) if annotation["enable"]]
    assert list(RESULTS[name]["annotations"]) == shown, f"the pictures are out of date: {REMEDY}"


@EVERY_BOARD
def test_most_panels_have_something_to_show(name: str) -> None:
    """Without data are those for which this kernel has none, and a few more."""
    empty = {title for title, answers in RESULTS[name]["panels"].items() if not any(answer["series"] for answer in answers.values())}
    assert WITHOUT_DATA[name] <= empty
    assert len(empty) < len(RESULTS[name]["panels"]) / 4


@EVERY_BOARD
def test_pictures_are_small_and_in_the_documentation(name: str) -> None:
    """Each is shown in dashboards/README.md."""
    assert (PICTURES / f"{name}.png").stat().st_size < 400_000
    assert (PICTURES / f"{name}.json").stat().st_size < 300_000
    assert f"(pictures/{name}.png)" in (PICTURES.parent / "README.md").read_text()


def test_the_picture_in_the_readme_is_the_top_of_fleet() -> None:
    """Drawn by the same command."""
    with Image.open(PICTURES / "fleet.png") as fleet, Image.open(PICTURES / "fleet-top.png") as top:
        assert top.size == (fleet.width, TOP)
        assert top.convert("RGB").tobytes() == fleet.crop((0, 0, *top.size)).convert("RGB").tobytes()
    assert "(dashboards/pictures/fleet-top.png)" in (PICTURES.parents[1] / "README.md").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all."""
    program = shutil.which("chromium")
    if program is None:
        reason = "chromium is missing: install the package `chromium`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=120_000)
        yield browser
        browser.close()


@EVERY_BOARD
def test_a_browser_draws_every_panel_without_an_error(browser: Browser, name: str) -> None:
    """With its title, its data or the words that say there are none, and the label that says what the picture is."""
    page = browser.new_page(viewport={"width": 1640, "height": 900})
    page.set_default_timeout(120_000)
    draw.show(page, BOARDS[name], RESULTS[name])

    assert page.locator(".preview").inner_text() == LABEL
    shown = dict(zip(page.locator(".panel h2").all_inner_texts(), page.locator(".panel").all(), strict=True))
    assert [title.removesuffix("i") for title in shown] == [panel["title"] for panel in panels(BOARDS[name])]
    for panel, place in zip(panels(BOARDS[name]), shown.values(), strict=True):
        answers = RESULTS[name]["panels"][panel["title"]]
        if any(answer["series"] for answer in answers.values()):
            assert place.locator(DRAWN[panel["type"]]).count() > 0, panel["title"]
        else:
            assert panel["fieldConfig"]["defaults"]["noValue"] in place.inner_text(), panel["title"]
    assert page.evaluate(OVERFLOWING) == []
    page.close()


DRAWN = {"stat": ".value", "timeseries": ".chart .scatter, .chart .bars", "table": ".rows td", "state-timeline": ".states rect"}
OVERFLOWING = """
[...document.querySelectorAll(".panel")]
  .filter(panel => [...panel.querySelectorAll(".rows, .legend, .states")]
    .some(part => part.scrollWidth > part.clientWidth || part.getBoundingClientRect().bottom > panel.getBoundingClientRect().bottom + 1))
  .map(panel => panel.querySelector("h2").textContent)
"""
"""Panels with something that does not fit."""


def only(titles: set[str]) -> dict[str, Any]:
    """Return Fleet with these panels alone: a browser takes a second to draw all of them."""
    return BOARDS["fleet"] | {"panels": [panel for panel in BOARDS["fleet"]["panels"] if panel["title"] in titles]}


def test_a_panel_without_an_answer_is_told_by_its_name(browser: Browser) -> None:
    """And what its words for it are is on the page."""
    results = json.loads(json.dumps(RESULTS["fleet"]))
    for answer in results["panels"]["Refused forks"].values():
        answer["series"] = []
    page = browser.new_page()
    page.set_default_timeout(120_000)
    draw.show(page, only({"Refused forks", "Deaths by cause"}), results)
    assert "none refused" in page.locator(".panel", has=page.locator("h2", has_text="Refused forks")).inner_text()
    page.close()


def test_what_labels_say_is_not_obeyed(browser: Browser) -> None:
    """A container may be called like a script: in every panel, in legends and in tables, that names it."""
    hostile = "</script><script>document.title = 'owned'</script>"
    naming = {title for title, answers in RESULTS["fleet"]["panels"].items() if "image-resizer" in json.dumps(answers)}
    results = json.loads(json.dumps(RESULTS["fleet"]).replace("image-resizer", json.dumps(hostile)[1:-1]))
    page = browser.new_page()
    page.set_default_timeout(120_000)
    draw.show(page, only(naming), results)
    assert page.title() == "Coroner / Fleet"
    assert hostile in page.locator("main").inner_text()
    page.close()


def test_a_script_that_fails_is_an_error(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no empty picture."""
    monkeypatch.setattr(draw, "get_plotlyjs", lambda: "throw new Error('no Plotly today')")
    page = browser.new_page()
    page.set_default_timeout(2_000)
    with pytest.raises(RuntimeError, match="no Plotly today"):
        draw.show(page, only({"Refused forks"}), RESULTS["fleet"])
    page.close()


@EVERY_BOARD
def test_the_committed_picture_is_of_this_size(name: str) -> None:
    """It is as high as the dashboard, so it is of this layout."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in BOARDS[name]["panels"]) * 38
    with Image.open(PICTURES / f"{name}.png") as picture:
        assert picture.width == 1640
        assert height < picture.height < height + 200, "the picture is of another layout: run python -m tests.pictures"


def prometheus(path: str, **parameters: Any) -> list[dict[str, Any]]:
    """Answer every question with its own words, and with 1 at every second step."""
    labels = {"query": parameters["query"]}
    if path == "query":
        return [{"metric": labels, "value": [parameters["time"], "1.23456789"]}]
    times = range(int(parameters["start"]), int(parameters["end"]) + 1, 2 * parameters["step"])
    return [{"metric": labels, "values": [[at, "1"] for at in times]}]


BOARD = {
    "templating": {"list": [{"name": "job", "allValue": ".+"}, {"name": "container", "allValue": ".*"}]},
    "annotations": {"list": [{"name": "Deaths", "enable": True, "expr": 'd{job=~"$job"}', "step": "2m"}]},
    "panels": [
        {"type": "row", "title": "A row"},
        {
            "type": "timeseries",
            "title": "Graph",
            "targets": [{"refId": "A", "instant": False, "expr": 'rate(x{container=~"$container"}[$__rate_interval])'}],
        },
        {
            "type": "timeseries",
            "title": "Bars",
            "interval": "2m",
            "targets": [{"refId": "A", "instant": False, "expr": "increase(x[$__rate_interval])"}],
        },
        {"type": "stat", "title": "Number", "targets": [{"refId": "A", "instant": True, "expr": "increase(x[$__range])"}]},
    ],
}


def test_questions_are_those_that_grafana_would_ask() -> None:
    """Steps and rate intervals follow from a scrape interval of 15 s, times are multiples of the step, a number is asked for at the end."""
    found = ask.answers(BOARD, prometheus, 1000, 1300, {"container": "web"})
    asked = {title: answers["A"]["series"][0]["labels"]["query"] for title, answers in found["panels"].items()}
    assert asked == {"Graph": 'rate(x{container=~"web"}[60s])', "Bars": "increase(x[135s])", "Number": "increase(x[300s])"}
    assert found["panels"]["Bars"]["A"] == {
        "expr": "increase(x[$__rate_interval])",
        "start": 960,
        "step": 120,
        "series": [{"labels": {"query": "increase(x[135s])"}, "values": [1, None, 1]}],
    }
    assert found["panels"]["Number"]["A"]["series"][0]["values"] == [1.23457]
    assert found["annotations"]["Deaths"]["series"][0]["labels"] == {"query": 'd{job=~".+"}'}
    assert list(frames.regions([1, None, 1], 960, 120)) == [(960, 960), (1200, 1200)]


def test_results_are_written_a_series_a_line(tmp_path: Path) -> None:
    """So a diff is read."""
    found = ask.answers(BOARD, prometheus, 1000, 1300, {})
    ask.write(tmp_path / "board.json", found)
    text = (tmp_path / "board.json").read_text()
    assert json.loads(text) == found
    assert len([line for line in text.splitlines() if line.startswith('{"labels"')]) == 4
