"""The live view: pages come in, keys change what is shown of the last one, and the terminal is left as it was."""

import asyncio
import signal
import sys
import time
from contextlib import ExitStack, suppress

from rich.console import Console
from rich.screen import Screen

from agent.top_keys import typed
from agent.top_page import Page, read_page
from agent.top_rows import SORTS, Row, in_order, rows
from agent.top_screen import View, render
from agent.top_source import Source

_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10, "home": -(10**9), "end": 10**9}
_REDRAW = (signal.SIGWINCH, signal.SIGCONT)
_QUIT = (signal.SIGTERM, signal.SIGHUP)


class Live:
    """What is shown now. All in the event loop."""

    def __init__(self, source: Source, sort: str) -> None:
        self._source, self._fetch = source
        self._sort = sort
        self._now: Page | None = None
        self._before: Page | None = None
        self._rows: list[Row] = []
        self._selected = ""
        """By name, so that it stays when the order changes."""
        self._problem = "the first page is not there yet"
        self.changed = asyncio.Event()
        self.quit = asyncio.Event()

    async def look(self) -> None:
        """Fetch a page; what was shown stays if there is none."""
        try:
            page = read_page(await self._fetch(), time.monotonic())
        except OSError as error:
            self._problem = f"no answer: {error}"
        else:
            self._before, self._now, self._problem = self._now, page, ""
            self._rows = in_order(rows(page, self._before), self._sort)
        self.changed.set()

    def press(self, key: str) -> None:
        """Act on a key that was pressed."""
        if key in ("q", "\x03"):
            self.quit.set()
        elif key in SORTS:
            self._sort = key
            self._rows = in_order(self._rows, key)
        elif key in _STEPS and self._rows:
            self._selected = self._rows[min(max(0, self._place() + _STEPS[key]), len(self._rows) - 1)].name
        self.changed.set()

    def view(self) -> View:
        """Return what the screen shows."""
        now = self._now
        return View(
            rows=self._rows,
            sort=self._sort,
            source=self._source,
            clock=time.strftime("%H:%M:%S"),
            selected=self._place(),
            blind=now.blind if now else (),
            node_findings=now.findings if now else (),
            says_findings=now.says_findings if now else True,
            problem=self._problem,
        )

    def _place(self) -> int:
        return next((place for place, row in enumerate(self._rows) if row.name == self._selected), 0)


async def run(source: Source, interval: float, sort: str) -> None:
    """Show it until somebody quits. Ctrl-C is a KeyboardInterrupt, as everywhere."""
    console, live = Console(), Live(source, sort)
    loop = asyncio.get_running_loop()
    with ExitStack() as stack, console.screen(hide_cursor=True):
        for number in _REDRAW:
            loop.add_signal_handler(number, live.changed.set)
            stack.callback(loop.remove_signal_handler, number)
        for number in _QUIT:
            loop.add_signal_handler(number, live.quit.set)
            stack.callback(loop.remove_signal_handler, number)
        if sys.stdin is not None and sys.stdin.isatty():
            stack.enter_context(typed(sys.stdin.fileno(), live.press))
        looks = asyncio.create_task(_look_again_and_again(live, interval))
        quits = asyncio.create_task(live.quit.wait())
        try:
            while not live.quit.is_set() and not looks.done():
                live.changed.clear()
                _draw(console, live)
                changes = asyncio.create_task(live.changed.wait())
                await asyncio.wait((changes, quits, looks), return_when=asyncio.FIRST_COMPLETED)
                changes.cancel()
        finally:
            looks.cancel()
            quits.cancel()
            with suppress(asyncio.CancelledError):
                await looks


async def _look_again_and_again(live: Live, interval: float) -> None:
    while True:
        await live.look()
        await asyncio.sleep(interval)


def _draw(console: Console, live: Live) -> None:
    width, height = console.size
    console.print(Screen(render(live.view(), width, height)), end="")
