"""Where `coroner top` has its pages from: the agent that runs on this machine, or passes of its own if there is none."""

import asyncio
import http.client
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from agent.app import App
from agent.config import Config
from agent.kept import only_read
from agent.web.listen import shown
from agent.web.routes import DEFAULT_SCRAPE_SECONDS

Source = tuple[str, Callable[[], Awaitable[bytes]]]
"""What it is called, and what gives a page in the text format; that raises OSError if there is none."""


@asynccontextmanager
async def source(config: Config) -> AsyncIterator[Source]:
    """Ask who listens where an agent with these settings would; make passes if nobody does, or no agent of ours."""
    host = config.listen_host or "127.0.0.1"
    if host in ("0.0.0.0", "::"):  # noqa: S104 - who listens on all addresses listens on the loopback too
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104 - as above

    async def ask() -> bytes:
        return await asyncio.to_thread(_get, host, config.listen_port, config.telemetry_path)

    try:
        if config.listen_port:
            await ask()
    except OSError:
        pass
    else:
        if config.listen_port:
            yield f"agent at {shown(host, config.listen_port)}", ask
            return
    # The trace of signals is the daemon's, and no walk through a layer ends in time.
    app = App(config := replace(config, signals=False, layers=False), only_read(config))
    logging.getLogger(__name__).debug("no agent answers: own passes")
    async with app.following():
        yield "own passes: no agent answers here", lambda: app.render(DEFAULT_SCRAPE_SECONDS, openmetrics=False, compressed=False)


def _get(host: str, port: int, path: str) -> bytes:
    """Fetch one page of an agent. Raises OSError, also if somebody else answers."""
    connection = http.client.HTTPConnection(host, port, timeout=DEFAULT_SCRAPE_SECONDS)
    try:
        connection.request("GET", path, headers={"Accept": "text/plain;version=0.0.4"})
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{shown(host, port)} does not speak HTTP") from error
    finally:
        connection.close()
    if answer.status != http.client.OK or b"coroner_build_info" not in body:
        raise ConnectionError(f"{shown(host, port)}{path} is no page of an agent (status {answer.status})")
    return body
