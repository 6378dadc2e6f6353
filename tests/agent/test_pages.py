"""The pages, from the whole agent over a captured node: what is on them, what is unknown, what they cost."""

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from agent.app import App
from agent.gather import Pass
from agent.history import LEVELS, Series
from agent.overview import Overview, Rates, View, overview
from agent.status import Status
from agent.web import words
from agent.web.charts import chart
from agent.web.container_page import Life, container_page
from agent.web.html import asset
from agent.web.index_page import index_page
from agent.web.node_part import About
from agent.web.parts import address, bar, count, percent, size
from agent.web.routes import Routes
from agent.web.view import Pages
from collectors import init
from collectors.base import CONTAINER, Node, Sample
from collectors.findings import Examination, Finding
from collectors.forensics import Culprit
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import Gone
from tests.browser import scene

WEB = ("shop", "web-0", "web")
EMPTY = Overview(0, [], {}, {})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    """An agent on the captured Docker node."""
    async with scene.agent(tmp_path_factory.mktemp("pages")) as app:
        yield app


@pytest.fixture
def pages(app: App) -> Pages:
    """Its pages, of which nobody has seen one."""
    return Pages(app)


class Text(HTMLParser):
    """The words of a page without style and script, and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._is_hidden = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._is_hidden = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._is_hidden = False

    def handle_data(self, data: str) -> None:
        if not self._is_hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(page: bytes | None) -> Text:
    """Read a page."""
    assert page is not None
    return Text(page.decode())


in_module = pytest.mark.asyncio(loop_scope="module")


@in_module
async def test_the_first_page_has_containers_deaths_node_sources_and_collectors(pages: Pages) -> None:
    """All that the pages before it said, too."""
    text = read(await pages.index()).text

    for said in (
        *("careless", "4 that PID 1 does not wait for", "8 of 8", "pid-limit-near", scene.HOSTILE, "0 of 0.20"[:1]),
        *("Why containers ended", "a stop was asked for", "PID table", "of 15,988", "Dying cgroups", "/docker: 1", "Leftover shims"),
        *("What is missing, and what to do", "kmsg", "not looked at yet", "Collectors, last pass", "leftovers", "MiB resident"),
        *("What could not be examined", "the source <i>proc</i> is blind"),
    ):
        assert said in text, said


@in_module
async def test_the_page_of_a_container_has_its_life_and_its_hour(pages: Pages) -> None:
    """What is wrong and how to mend it, levels, charts, and the timeline of the life that goes on."""
    careless = read(await pages.container({"container": "careless"}))
    for said in ("zombies-pile-up", 'ENTRYPOINT ["tini", "--"]', "The last hour", "now 4, highest 4, lowest 0", scene.IMAGE):
        assert said in careless.text, said
    assert "This life" in read(await pages.container({"container": scene.HOSTILE})).text
    tinied = read(await pages.container({"container": "tinied"})).text
    assert "Why it ended before stopped It was asked to end" in tinied
    assert "1.5 s before the end" in tinied


@in_module
@pytest.mark.parametrize("wanted", [{}, {"container": "nobody"}, {"container": "careless", "pod": "x"}, {"container": "\ud800"}])
async def test_one_that_nobody_knows_has_no_page(pages: Pages, wanted: dict[str, str]) -> None:
    """Whatever is asked for."""
    assert await pages.container(wanted) is None


@in_module
async def test_one_that_has_ended_keeps_its_page(app: App, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the casebook."""
    collect = app.gather.collect

    async def without(timeout: float) -> Pass:
        done = await collect(timeout)
        return replace(done, living={labels: key for labels, key in done.living.items() if labels[2] != "tinied"})

    monkeypatch.setattr(app.gather, "collect", without)
    page = read(await pages.container({"container": "tinied"})).text

    assert "It does not run now." in page
    assert "Why it ended stopped" in page
    assert "docker://cd32e711" in page


@in_module
async def test_one_that_has_just_ended_has_a_page_before_its_verdict(app: App, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is known so far; the verdict takes some seconds."""
    collect = app.gather.collect

    async def without(timeout: float) -> Pass:
        return replace(await collect(timeout), living={})

    monkeypatch.setattr(app.gather, "collect", without)
    page = read(await pages.container({"container": scene.HOSTILE})).text

    assert "There is no verdict yet" in page
    assert "This life" in page
    assert "last 1, highest 1" in page


@in_module
async def test_who_looks_soon_after_another_one_sees_the_same_pass(app: App, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, one pass is made; what was kept for them is soon forgotten."""
    passes = []
    collect = app.gather.collect

    async def counted(timeout: float) -> Pass:
        passes.append(timeout)
        return await collect(timeout)

    monkeypatch.setattr(app.gather, "collect", counted)
    monkeypatch.setattr("agent.web.view.SHARED_SECONDS", 0.05)
    await asyncio.gather(pages.index(), pages.containers(), pages.index())
    assert len(passes) == 1
    async with asyncio.timeout(120):
        while pages._last is not None:
            await asyncio.sleep(0.01)
    await pages.index()
    assert len(passes) == 2


@in_module
async def test_the_json_is_what_its_schema_says(pages: Pages) -> None:
    """Of every container, of which some know little."""
    schema = json.loads(asset("containers.schema.json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    told = json.loads(await pages.containers())
    jsonschema.validate(told, schema)

    by_name = {each["container"]: each for each in told["containers"]}
    assert [each["container"] for each in told["containers"]][:2] == ["crowded", "careless"]
    assert by_name["crowded"]["threads"] == {"current": 8, "peak": 8, "limit": 8, "fork_failures": 1}
    assert by_name["careless"]["zombies"]["of_init"] == 4
    assert by_name["careless"]["memory"]["limit_bytes"] is None
    assert by_name["careless"]["init"]["handles_stop_signal"] is False
    assert by_name["paused"]["is_paused"] is True
    assert by_name["careless"]["findings"][0]["finding"] == "zombies-pile-up"


@in_module
async def test_every_link_leads_somewhere_and_none_is_absolute(app: App, pages: Pages) -> None:
    """They work behind a proxy that puts a path in front, too; only runbooks are elsewhere."""
    routes = Routes(render=app.render, is_ready=lambda: True, pages=pages, telemetry_path="/a/b")
    paths = {resource.canonical for resource in routes.application().router.resources()}
    about = About("/a/b", [], [])
    linked = {
        attributes.get("href") or ""
        for page in (index_page(EMPTY, [], about), (await pages.index()).decode())
        for tag, attributes in Text(page).elements
        if tag == "a"
    }

    assert not [each for each in linked if each.startswith("/") or "://" in each]
    local = {f"/{each.partition('?')[0]}" for each in linked if not each.startswith("#")}
    assert local - {"/metrics"} == paths - {"/"}


ANYTHING = st.text(st.characters(codec=None), max_size=30) | st.lists(st.sampled_from(["<", ">", '"', "'", "img ", "on=", "/", "&"])).map(
    "".join
)


@given(ANYTHING, ANYTHING, ANYTHING)
def test_whatever_a_container_writes_is_text(name: str, comm: str, said: str) -> None:
    """In its name, in what its processes call themselves, in evidence: on both pages there are the elements that are always there."""
    labels = (name, name, name)
    samples: list[Sample] = [(init.INFO, (*labels, comm, "app"), 1), (init.HANDLES, (*labels, said), 0)]
    found = [Finding(labels, said, "warning", said, said, said, said)]
    seen = overview(
        samples,
        time=0,
        living={labels: ContainerKey(name)},
        failures={name: said},
        examination=Examination(found, ((said, said),)),
        rates=lambda labels: Rates(),
    )
    life = Life(timeline=((0, said),), culprits=[careless(comm=comm, names=((comm, 1),))])
    pages = (
        index_page(seen, [], About("/metrics", [], [name], [said], said)),
        container_page(labels, seen.views[0], life, seen),
    )

    for page in pages:
        elements = Text(page.encode().decode()).elements
        assert {tag for tag, _ in elements} <= ELEMENTS
        assert [tag for tag, _ in elements].count("script") == 1
        assert not [key for _, attributes in elements for key in attributes if key.startswith("on") or key == "src"]


ELEMENTS = {
    *("html", "head", "meta", "link", "title", "style", "body", "header", "main", "section", "article", "nav", "script"),
    *(
        "h1",
        "h2",
        "h3",
        "p",
        "a",
        "b",
        "i",
        "br",
        "small",
        "strong",
        "code",
        "button",
        "label",
        "input",
        "span",
        "div",
        "details",
        "summary",
    ),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "time", "svg", "path"),
}


def view(**levels: float) -> View:
    """Make a container."""
    [made] = overview(
        [], time=0, living={WEB: ContainerKey("a")}, failures={}, examination=Examination(), rates=lambda labels: Rates()
    ).views
    return replace(made, levels=levels)


def careless(comm: str = "<sh>", names: tuple[tuple[str, int], ...] = (("worker", 1990), ("sleep", 10))) -> Culprit:
    """Make a parent that does not wait for what was started from outside."""
    return Culprit(
        pid=4711,
        container_pid=1,
        comm=comm,
        is_init=True,
        has_waited=False,
        zombies=2000,
        names=names,
        looked=2000,
        statuses=((256, 1500), (9, 499), (0x137F, 1)),
        adopted=2000,
        entered=2000,
        oldest=None,
        seconds_between=None,
    )


@in_module
async def test_the_page_of_a_container_names_who_does_not_wait(app: App) -> None:
    """With what piles up, how it ended, and whether it came from outside; asked of the node as it is now, and only if there are any."""
    asked: list[ContainerKey] = []

    def culprits(node: Node, key: ContainerKey) -> list[Culprit]:
        assert any(container.id.key == key for container in node.containers)
        asked.append(key)
        return [careless()]

    pages = Pages(app, culprits)
    text = read(await pages.container({"container": "careless"})).text
    assert (
        "<sh> (PID 4711 of the node, PID 1 of the container) has not waited for 2,000: 1,990 worker, 10 sleep; they ended: 1,500 with 1, "
        "499 by SIGKILL, 1 with status 4991. Most of them were started from outside"
    ) in text
    await pages.container({"container": "crowded"})
    assert len(asked) == 1


@in_module
async def test_a_page_does_without_what_cannot_be_found_out(app: App) -> None:
    """The process is gone, or /proc is forbidden."""

    def culprits(_node: Node, _key: ContainerKey) -> list[Culprit]:
        raise Gone("/proc/1/stat", "gone")

    assert "4 that PID 1 does not wait for" in read(await Pages(app, culprits).container({"container": "careless"})).text


@pytest.mark.parametrize("say", [words.memory, words.threads, words.zombies, words.init, words.pressure])
def test_what_is_not_known_is_said_to_be_unknown(say: object) -> None:
    """Neither 0 nor nothing."""
    assert callable(say)
    assert Text(say(view())).text == "unknown"
    assert "0" not in words.cpu(view())


def test_no_limit_is_only_said_where_limits_were_read() -> None:
    """The collector may have failed at that very file."""
    assert "no limit" in words.memory(view(memory_usage_bytes=5))
    assert "limit <i>unknown</i>" in words.memory(view(memory_usage_bytes=5), is_complete=False)
    assert "limit <i>unknown</i>" in words.threads(view(threads=5), is_complete=False)
    assert "limit <i>unknown</i>" in words.cpu(view(), is_complete=False)


@pytest.mark.parametrize("success", [[], [(("cpu",), 1), (("memory",), 0)]])
def test_a_limit_is_not_known_where_its_collector_is_off_or_failed(success: list[tuple[tuple[str], float]]) -> None:
    """On both pages."""
    some = view(memory_usage_bytes=5)
    seen = replace(EMPTY, views=[some], node={"coroner_scrape_collector_success": success})

    for page in (index_page(seen, [], About("/metrics", [], [])), container_page(WEB, some, Life(), seen)):
        assert "5\N{NO-BREAK SPACE}B<small>limit <i>unknown</i></small>" in page


def test_a_stopped_cpu_and_pressure_are_shares() -> None:
    """Of the quota's periods and of the time."""
    some = replace(view(cpu_limit_cores=0.5), rates=Rates(0.4, 0.75, 0.1, 0.2, None))

    assert Text(words.cpu(some)).text == "0.40 of 0.50 throttled 75 \N{NO-BREAK SPACE}%".replace(" \N{NO-BREAK SPACE}", " ")
    assert "I/O unknown" in Text(words.pressure(some)).text


def test_bars_end_where_the_whole_ends() -> None:
    """More than all is all; near the limit and above memory.high they are red."""
    assert 'd="M0 0h100"' in bar(3e9, 2)
    assert 'class="m n"' in bar(95, 100)
    assert 'class="m n"' in bar(50, 100, mark=40)
    assert 'class="m"' in bar(50, 100, inner=20, mark=80)
    assert bar(None, 5) == bar(5, None) == bar(5, 0) == bar(math.inf, 5) == bar(5, math.nan) == ""


@pytest.mark.parametrize(
    ("amount", "spelled"),
    [
        (0, "0\N{NO-BREAK SPACE}B"),
        (1023, "1023\N{NO-BREAK SPACE}B"),
        (1536, "1.5\N{NO-BREAK SPACE}KiB"),
        (48 << 20, "48\N{NO-BREAK SPACE}MiB"),
        (2.0**63, "8192\N{NO-BREAK SPACE}PiB"),
    ],
)
def test_bytes_are_spelled_in_binary_units(amount: float, spelled: str) -> None:
    """As Docker and Kubernetes take them."""
    assert size(amount) == spelled


@pytest.mark.parametrize("spell", [size, count, percent])
@pytest.mark.parametrize("amount", [None, math.nan, math.inf])
def test_what_is_no_number_is_unknown(spell: object, amount: float | None) -> None:
    """Also if it was measured."""
    assert callable(spell)
    assert spell(amount) == "<i>unknown</i>"


@pytest.mark.parametrize(
    ("labels", "link"),
    [
        (WEB, "container?namespace=shop&pod=web-0&container=web"),
        (("", "", "a b&c/../<"), "container?container=a+b%26c%2F..%2F%3C"),
        (("shop", "kata-0", ""), "container?namespace=shop&pod=kata-0"),
        (("", "", "\ud800x"), "container?container=%3Fx"),
    ],
)
def test_an_address_holds_any_name(labels: tuple[str, str, str], link: str) -> None:
    """Also what a path would not: two dots, slashes, nothing."""
    assert address(labels) == link


def test_a_chart_breaks_where_nothing_is_known() -> None:
    """A stretch is a line, a lone point a dot; its words say what it shows."""
    times = [60.0 * number for number in range(8)]
    drawn = chart("Threads", times, [1, 2, math.nan, 4, math.nan, 5, 6, 7], count, limit=10)

    assert drawn.count('class="line"') == 2
    assert drawn.count("<circle") == 1
    assert 'aria-label="Threads: now 7, highest 7, lowest 1"' in drawn
    assert "limit 10" in drawn
    assert "limit" not in chart("Threads", times, [1] * 8, count, limit=1000)


def test_what_is_not_known_any_more_is_not_shown_as_of_now() -> None:
    """A container that has ended uses nothing now, and of one that cannot be read nobody knows."""
    times, values = [0.0, 60.0, 120.0], [1.0, 2.0, 3.0]
    assert "now 3" in chart("Threads", times, values, count)
    assert "last 3, highest 3" in chart("Threads", times, values, count, is_living=False)
    assert "last 2, highest 2" in chart("Threads", times, [1.0, 2.0, math.nan], count)


def test_a_chart_breaks_where_the_agent_was_not_looking() -> None:
    """The machine slept for an hour."""
    assert chart("Threads", [0, 60, 4000, 4060], [1, 1, 1, 1], count).count('class="line"') == 2


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_a_chart_of_nothing_says_so(values: list[float]) -> None:
    """In the first minute."""
    assert "Nothing is known yet" in chart("CPU", [0.0] * len(values), values, count)


def test_a_page_without_a_history_has_no_charts() -> None:
    """--no-web.history."""
    assert "The last hour" not in container_page(WEB, view(), Life(), EMPTY)
    assert "The last hour" in container_page(WEB, view(), Life(series=Series([], {level: [] for level in LEVELS})), EMPTY)


def test_victims_say_whose_limit_it_was() -> None:
    """Null is not known."""
    victim: dict[str, object] = {"pid": None, "comm": "<b>", "time": 5.0, "is_init": None, "scope": "pod", "limit_bytes": 1 << 20}
    sizes: dict[str, object] = {"anon_rss_bytes": 1024, "file_rss_bytes": None, "shmem_rss_bytes": 1024}
    text = Text(container_page(WEB, None, Life(victims=[victim | sizes]), EMPTY)).text

    assert re.search(r"unknown \( <b> \) 1970-01-01T00:00:05Z unknown 2.0 KiB pod, 1.0 MiB", text.replace("\N{NO-BREAK SPACE}", " "))


def test_a_node_without_containers_says_why() -> None:
    """The source that would have told of them is blind; its words are data."""
    blind = Status("cgroup")
    blind.down("<b>no cgroup v2</b> here")
    page = index_page(replace(EMPTY, failures={"cpu": "<i>boom</i>"}), [], About("/metrics", [blind], ["cpu"], ["<u>remark</u>"]))

    assert "<b>no cgroup" not in page
    text = Text(page).text
    assert text.count("<b>no cgroup v2</b> here") == 2
    assert "<i>boom</i>" in text
    assert "<u>remark</u>" in text
    assert "blind: cgroup" in text


def large(containers: int) -> tuple[list[Sample], dict[tuple[str, ...], ContainerKey]]:
    """Make the samples of a large node, with what a page shows of each container."""
    samples: list[Sample] = []
    living: dict[tuple[str, ...], ContainerKey] = {}
    for number in range(containers):
        labels = (f"namespace-{number % 20}", f"deployment-{number}-5d8f7c9b6-x2x4q", "application")
        living[labels] = ContainerKey(f"{number:064x}")
        samples += [(metric, labels, value) for metric, value in _LEVELS]
        samples += [(init.INFO, (*labels, "application", "app"), 1), (init.HANDLES, (*labels, "SIGTERM"), 1)]
    return samples, living


_LEVELS = [
    (replace(init.INFO, name=f"coroner_container_{name}", labels=CONTAINER), value)
    for name, value in {
        "memory_usage_bytes": 5e8, "memory_working_set_bytes": 4e8, "memory_limit_bytes": 6e8, "memory_high_bytes": 5.5e8,
        "threads": 45, "threads_limit": 100, "cpu_limit_cores": 2, "frozen": 1,
    }.items()
]  # fmt: skip


def test_the_page_of_a_thousand_containers_has_less_than_a_megabyte() -> None:
    """With all that there may be to say of each, and a finding of every other one."""
    samples, living = large(1000)
    found = [
        Finding(
            (key[0], key[1], key[2]), "memory-near-limit", "warning", "Its working set is 96 % of its limit, and 2 % is free.", "", "", ""
        )
        for key in list(living)[::2]
    ]
    seen = overview(
        samples, time=0, living=living, failures={}, examination=Examination(found), rates=lambda labels: Rates(1.5, 0.6, 0.1, 0.2, 0.3)
    )

    assert 300_000 < len(index_page(seen, [], About("/metrics", [], [])).encode()) < 1_000_000


def colours(scheme: str) -> dict[str, str]:
    """Return the colours of the page by name; `scheme` is light or dark."""
    css = asset("page.css")
    dark = css.index("prefers-color-scheme: dark")
    part = css[:dark] if scheme == "light" else css[dark : css.index("* {")]
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", part))


def contrast(one: str, other: str) -> float:
    """Compute the contrast of two colours: WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""

    def luminance(colour: str) -> float:
        parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(scheme: str) -> None:
    """WCAG AA: 4.5 to 1 for text, 3 to 1 for what is drawn against what is behind it."""
    known = colours(scheme)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for text in ("fg", "dim", "good", "warning", "critical", "info", "link"):
        assert contrast(known[text], known["bg"]) >= 4.5, text
    for drawn in ("fill", "near"):
        assert contrast(known[drawn], known["track"]) >= 3, drawn
        assert contrast(known[drawn], known["bg"]) >= 3, drawn
    assert contrast(known["mark"], known["track"]) >= 3
    assert colours("light").keys() == colours("dark").keys()


def test_no_colour_is_used_that_is_not_in_both_schemes() -> None:
    """Each is one of the variables."""
    css = Path(__file__).parents[2].joinpath("agent", "web", "static", "page.css").read_text(encoding="utf-8")
    rules = css[css.index("* {") :]

    assert re.findall(r"#[0-9a-f]{3,6}\b", rules) == []
    assert set(re.findall(r"var\(--([a-z]+)\)", rules)) <= colours("light").keys()
