"""Where `coroner top` has its pages from: the agent that runs on this machine, or passes of its own if there is none."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from agent.app import App
from agent.ask_agent import Address, addresses, ask
from agent.config import Config
from agent.kept import only_read
from agent.web.listen import shown
from agent.web.routes import DEFAULT_SCRAPE_SECONDS

log = logging.getLogger(__name__)

Source = tuple[str, Callable[[], Awaitable[bytes]]]
"""What it is called, and what gives a page in the text format; that raises OSError if there is none."""


@asynccontextmanager
async def source(config: Config) -> AsyncIterator[Source]:
    """Ask who listens where an agent with these settings would; make passes if nobody does, or no agent of ours."""
    for address in addresses(config):
        get = partial(_page, address, config.telemetry_path)
        try:
            await get()
        except OSError as error:
            log.debug("no agent answers", extra={"reason": str(error)})
        else:
            yield f"agent at {address if isinstance(address, str) else shown(*address)}", get
            return
    # The trace of signals is the daemon's, and no walk through a layer ends in time.
    app = App(config := replace(config, signals=False, layers=False), only_read(config))
    async with app.following():
        yield "own passes: no agent answers here", lambda: app.render(DEFAULT_SCRAPE_SECONDS, openmetrics=False, compressed=False)


async def _page(address: Address, path: str) -> bytes:
    """Fetch one page of an agent. Raises OSError, also if somebody else answers."""
    body = await ask(address, path, "text/plain;version=0.0.4", DEFAULT_SCRAPE_SECONDS)
    if b"coroner_build_info" not in body:
        raise ConnectionError(f"{path} is no page of an agent")
    return body
