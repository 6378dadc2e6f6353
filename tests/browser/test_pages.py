"""The pages in a real browser, Debian's Chromium: what they show, on what screens, and that nothing in them is obeyed or fetched."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote_plus

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from agent.web.view import Pages
from tests.browser import scene

expect.set_options(timeout=120_000)
pytestmark = pytest.mark.asyncio(loop_scope="module")

PICTURE = Path(__file__).parents[2] / "dashboards" / "pictures" / "page.png"
"""What the README shows."""


def chromium() -> str:
    """Find the browser."""
    program = shutil.which("chromium")
    if program is None:
        reason = "chromium is missing: install the package `chromium`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One for all."""
    program = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=120_000)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The pages of an agent on a node with hostile names."""
    async with scene.agent(tmp_path_factory.mktemp("scene")) as app, scene.served(app, Pages(app)) as url:
        yield url


class Visit:
    """A tab of a browser, and what went on in it: requests, and what its console said."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.said: list[str] = []
        page.set_default_timeout(120_000)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A screen of a laptop, in light colours."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def visit(context: BrowserContext, url: str) -> AsyncIterator[Visit]:
    """A visit, after which nothing was fetched from elsewhere, nothing complained, and nothing that a container wrote was obeyed."""
    visit = Visit(await context.new_page())
    yield visit
    assert [each for each in visit.requests if not each.startswith((url, "data:"))] == []
    assert visit.said == []
    assert await visit.page.title() != "owned"
    assert await visit.page.locator("td script, th script, dd script, h1 script, td img, dd img, td i b, small b").count() == 0


async def test_the_first_page_shows_who_is_in_trouble_and_leads_to_its_own_page(visit: Visit, url: str) -> None:
    """By the worst finding first, then by zombies; a click away are the fix and the last hour."""
    page = visit.page
    await page.goto(url)
    names = await page.locator("table.cards tbody th a").all_inner_texts()
    assert names[:3] == ["crowded", "careless", "tinied"]
    assert scene.HOSTILE in names
    row = page.locator("table.cards tbody tr", has_text="careless")
    await expect(row).to_contain_text("zombies-pile-up")
    await expect(row).to_contain_text("4 that PID 1 does not wait for")
    await expect(row).to_contain_text("does not handle SIGTERM")
    await expect(page.locator("main")).to_contain_text("a stop was asked for")

    await page.get_by_role("link", name="careless").click()
    await expect(page.locator("h1")).to_contain_text("careless")
    await expect(page.locator("article")).to_contain_text('ENTRYPOINT ["tini", "--"]')
    assert await page.locator("svg.chart .line").count() == 4
    await page.get_by_role("link", name="All containers").click()
    await expect(page.locator("h1")).to_have_text("Coroner on node-1")


async def test_a_hostile_name_is_a_name(visit: Visit, url: str) -> None:
    """It is shown as it is, leads to its page, and that page shows it too."""
    page = visit.page
    await page.goto(url)
    await page.get_by_role("link", name=scene.HOSTILE).click()
    assert page.url == f"{url}container?container={quote_plus(scene.HOSTILE)}"
    await expect(page.locator("h1")).to_contain_text(scene.HOSTILE)
    await expect(page.locator("dl")).to_contain_text(scene.IMAGE)
    await expect(page.locator("table.timeline")).to_contain_text("created")


async def test_a_container_that_died_keeps_what_is_known_of_it(visit: Visit, url: str) -> None:
    """Its verdict, what led to it and what to change."""
    await visit.page.goto(f"{url}container?container=tinied")
    await expect(visit.page.locator("section", has_text="Why it ended")).to_contain_text("SIGTERM was sent")


async def test_the_filter_leaves_those_that_have_all_words(visit: Visit, url: str) -> None:
    """And stays while the page is loaded anew."""
    page = visit.page
    await page.goto(url)
    rows = page.locator("table.cards tbody tr:visible")
    await page.get_by_label("Filter").fill("zombies careless")
    await expect(rows).to_have_count(1)
    await expect(page.locator("#shown")).to_contain_text("1 of ")
    await page.reload()
    await expect(rows).to_have_count(1)
    await page.get_by_label("Filter").fill("")
    await expect(rows).to_have_count(7)


async def test_the_keyboard_reaches_everything_and_refreshing_can_be_switched_on(visit: Visit, url: str) -> None:
    """The first stop skips to the content; the switch says its state, and keeps it."""
    page = visit.page
    await page.goto(url)
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await expect(page.locator(".skip")).to_be_in_viewport()
    switch = page.get_by_role("button", name="Refresh by itself")
    await page.keyboard.press("Tab")
    await expect(switch).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(switch).to_have_attribute("aria-pressed", "true")
    async with page.expect_navigation():
        await page.clock.install()
        await page.reload()
        await page.clock.run_for(11_000)
    await expect(switch).to_have_attribute("aria-pressed", "true")


@pytest.mark.parametrize("width", [320, 768, 980, 1280])
async def test_no_screen_scrolls_sideways(visit: Visit, url: str, width: int) -> None:
    """320 pixels are the narrowest phone; whatever names are as long as they may be."""
    page = visit.page
    await page.set_viewport_size({"width": width, "height": 640})
    for path in (
        "",
        "container?container=careless",
        f"container?container={quote_plus(scene.HOSTILE)}",
        f"container?container={scene.LONG}",
    ):
        await page.goto(url + path)
        wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path


async def test_on_a_phone_the_rows_are_cards_that_name_their_values(visit: Visit, url: str) -> None:
    """The headings of the columns are not there."""
    page = visit.page
    await page.set_viewport_size({"width": 360, "height": 640})
    await page.goto(url)
    label = await page.locator("table.cards tbody td").nth(1).evaluate("cell => getComputedStyle(cell, '::before').content")
    assert label == '"Memory"'
    await expect(page.locator("table.cards thead")).to_be_hidden()


async def test_the_dark_page_is_dark(visit: Visit, url: str) -> None:
    """Whoever has asked for it; what is drawn is seen on it."""
    page = visit.page
    await page.emulate_media(color_scheme="dark")
    await page.goto(url)
    assert await page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor") == "rgb(20, 24, 29)"


async def test_without_javascript_the_page_says_the_same(browser: Browser, url: str) -> None:
    """Only what needs it is not there."""
    async with await browser.new_context(java_script_enabled=False) as context:
        page = await context.new_page()
        await page.goto(url)
        await expect(page.locator("table.cards tbody tr")).to_have_count(7)
        await expect(page.get_by_label("Filter")).to_be_hidden()
        await expect(page.locator("#live")).to_be_hidden()


async def test_the_picture_in_the_readme_is_of_this_page(browser: Browser, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """It is taken with --update-screenshots; else that it could be is all that is tested."""
    target = PICTURE if pytestconfig.getoption("update_screenshots") else tmp_path / "page.png"
    async with (
        scene.agent(tmp_path, hostile=False) as app,
        scene.served(app, Pages(app)) as url,
        await browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme="light") as context,
    ):
        page = await context.new_page()
        await page.goto(url)
        await page.screenshot(path=target)

    assert target.read_bytes().startswith(b"\x89PNG")
    assert PICTURE.exists()
