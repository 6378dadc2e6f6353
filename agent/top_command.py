"""`coroner top`: what the containers of this machine do now, the one to worry about most first; live, or once as text."""

import asyncio
import logging
import re
import shutil
import sys
import time

from agent.config import Config
from agent.flags import SWITCH, Flag, Kind, Values, one_of
from agent.output import complain, write
from agent.top_page import read_page
from agent.top_rows import SORT_KEYS, in_order, rows
from agent.top_source import source

CANNOT_LOOK = 2
"""Exit code, like that of what is wrong with the command line."""


def top(config: Config, flags: Values) -> int:
    """Show it; 2 if it cannot be shown here. Raises CannotWrite."""
    try:
        import rich  # noqa: F401 - whether it is there
    except ModuleNotFoundError:
        complain("top needs the library rich, which is not installed: pip install 'coroner-agent[top]'")
        return CANNOT_LOOK
    if flags["once"]:
        asyncio.run(_once(config, flags["interval"], SORT_KEYS[flags["sort"]]))
        return 0
    if sys.stdout is None or not sys.stdout.isatty():
        complain("top needs a terminal to show a live view: use --once for one screen as text")
        return CANNOT_LOOK
    logging.disable(logging.CRITICAL)  # a line of it would break the screen
    asyncio.run(_live(config, flags["interval"], SORT_KEYS[flags["sort"]]))
    return 0


async def _once(config: Config, interval: float, sort: str) -> None:
    """Print one screen, from two pages: what is per second needs a second one."""
    from agent.top_screen import View, as_text

    async with source(config) as (name, fetch):
        before = read_page(await fetch(), time.monotonic())
        await asyncio.sleep(interval)
        now = read_page(await fetch(), time.monotonic())
    view = View(
        rows=in_order(rows(now, before), sort),
        sort=sort,
        source=name,
        clock=time.strftime("%H:%M:%S"),
        blind=now.blind,
        node_findings=now.findings,
        says_findings=now.says_findings,
    )
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else None
    write(as_text(view, styled=is_terminal, width=width).encode(errors="backslashreplace"))


async def _live(config: Config, interval: float, sort: str) -> None:
    from agent.top_live import run

    async with source(config) as found:
        await run(found, interval, sort)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not 0.1 <= float(text) <= 3600:
        raise ValueError
    return float(text)


FLAGS = (
    Flag("once", "false", SWITCH, "Print one screen of all containers as text and exit, instead of the live view."),
    Flag(
        "interval", "2", Kind("seconds from 0.1 to 3600", _seconds), "Seconds between two looks; with --once before the screen is printed."
    ),
    Flag("sort", "concern", one_of(*SORT_KEYS), "What to sort by. Concern is the worst finding, then what is fullest."),
)
