"""Where `coroner top` has its pages from: the agent that runs on this machine, or passes of its own if there is none."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from agent.app import App
from agent.config import Config
from agent.kept import only_read
from agent.web.listen import shown
from agent.web.routes import DEFAULT_SCRAPE_SECONDS

_MOST_BYTES = 1 << 27
"""More than any page: of 1,000 containers it has 4 MiB."""

log = logging.getLogger(__name__)

Source = tuple[str, Callable[[], Awaitable[bytes]]]
"""What it is called, and what gives a page in the text format; that raises OSError if there is none."""


@asynccontextmanager
async def source(config: Config) -> AsyncIterator[Source]:
    """Ask who listens where an agent with these settings would; make passes if nobody does, or no agent of ours."""
    host = config.listen_host or "127.0.0.1"
    if host in ("0.0.0.0", "::"):  # noqa: S104 - who listens on all addresses listens on the loopback too
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"  # noqa: S104 - as above

    ask = partial(_get, host, config.listen_port, config.telemetry_path)
    if config.listen_port:
        try:
            await ask()
        except OSError as error:
            log.debug("no agent answers: own passes", extra={"reason": str(error)})
        else:
            yield f"agent at {shown(host, config.listen_port)}", ask
            return
    # The trace of signals is the daemon's, and no walk through a layer ends in time.
    app = App(config := replace(config, signals=False, layers=False), only_read(config))
    async with app.following():
        yield "own passes: no agent answers here", lambda: app.render(DEFAULT_SCRAPE_SECONDS, openmetrics=False, compressed=False)


async def _get(host: str, port: int, path: str) -> bytes:
    """Fetch one page of an agent. Raises OSError, also if somebody else answers. It can be cancelled: nobody waits for it at the end."""
    async with asyncio.timeout(DEFAULT_SCRAPE_SECONDS):  # TimeoutError is an OSError
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {shown(host, port)}\r\nAccept: text/plain;version=0.0.4\r\n\r\n".encode())
            answer = bytearray()
            while piece := await reader.read(1 << 16):
                answer += piece
                if len(answer) > _MOST_BYTES:
                    raise ConnectionError(f"{shown(host, port)} answers without end")
        finally:
            writer.close()
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"] or b"coroner_build_info" not in body:
        raise ConnectionError(f"{shown(host, port)}{path} is no page of an agent")
    return body
