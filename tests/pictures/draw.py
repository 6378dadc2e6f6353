"""Draw a dashboard: its page in Debian's Chromium, as a PNG of 256 colours."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Error, Page, sync_playwright
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped] # it has no types

from tests.pictures.page import Picture


def draw(board: Mapping[str, Any], results: Mapping[str, Any], file: Path) -> None:
    """Write the picture."""
    program = shutil.which("chromium")
    if not program:
        sys.exit("chromium is missing: install the package `chromium`")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as directory:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=120_000)
        page = browser.new_page(viewport={"width": 1640, "height": 900})
        page.set_default_timeout(120_000)
        show(page, board, results)
        page.screenshot(path=f"{directory}/page.png", full_page=True)
        browser.close()
        with Image.open(f"{directory}/page.png") as picture:
            picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def cut(picture: Path, height: int, file: Path) -> None:
    """Write the top of a picture, its first rows of pixels."""
    with Image.open(picture) as whole:
        whole.crop((0, 0, whole.width, height)).save(file, optimize=True)


def show(page: Page, board: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Have a browser show the page; return when all is drawn, and fail with what its scripts complain of."""
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    page.set_content(Picture(board, results).html(get_plotlyjs()))
    with contextlib.suppress(Error):
        page.wait_for_selector("body.drawn")
    if said or page.locator("body.drawn").count() == 0:
        raise RuntimeError(f"the page was not drawn: {said}")
