"""HTTP: /metrics, /healthz, /readyz, the API, the pages for people. GET and HEAD; nothing of a request is reflected."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from aiohttp import web

from agent.findings_json import as_json
from agent.gzip_segments import compress
from agent.page import OPENMETRICS, PLAIN_TEXT, accepts_gzip, negotiate
from agent.web.html import asset, policy
from collectors.findings import Examination

DEFAULT_SCRAPE_SECONDS = 10.0
LEAST_SCRAPE_SECONDS = 1.0
"""Others share the pass, and get what was late in it as failed: so nobody may ask for less time than a large node takes."""
SPARE_SECONDS = 0.5
"""What is left of Prometheus' own timeout for rendering and sending the page."""

SEND_SECONDS = 10.0
"""A client that does not read within this is cut off; its page would be kept in memory for ever."""

MOST_VICTIMS = MOST_VERDICTS = 1000
"""What one answer holds: the latest."""

_CHUNK = 64 * 1024
_JSON = "application/json; charset=utf-8"

log = logging.getLogger(__name__)

Render = Callable[[float, bool, bool, str], Awaitable[bytes]]
"""Seconds it may take, whether in OpenMetrics, whether compressed, for which scraper (empty: none) -> the body."""

_TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
"""Sent with a scrape, and by nobody else."""


def scrape_seconds(header: str | None) -> float:
    """Seconds that a pass may take, from X-Prometheus-Scrape-Timeout-Seconds; nonsense counts as absent."""
    try:
        seconds = float(header or DEFAULT_SCRAPE_SECONDS)
    except ValueError:
        seconds = DEFAULT_SCRAPE_SECONDS
    if not 0 < seconds < 3600:
        seconds = DEFAULT_SCRAPE_SECONDS
    return max(seconds - SPARE_SECONDS, LEAST_SCRAPE_SECONDS)


async def _nothing() -> Examination:
    return Examination()


class Pages(Protocol):
    """The pages for people, and what is in them as JSON."""

    async def index(self) -> bytes:
        """Make the page of all containers."""
        ...

    async def container(self, wanted: Mapping[str, str]) -> bytes | None:
        """Make the page of the container with these labels; None if there is none."""
        ...

    async def containers(self) -> bytes:
        """Describe all containers in JSON."""
        ...


class Routes:
    """Handlers over what the agent has: how to render a page, whether a first one was made, pages, victims, verdicts; and the path."""

    def __init__(
        self,
        *,
        render: Render,
        is_ready: Callable[[], bool],
        pages: Pages,
        telemetry_path: str,
        victims: Callable[[], list[dict[str, Any]]] = list,
        verdicts: Callable[[], list[dict[str, Any]]] = list,
        findings: Callable[[], Awaitable[Examination]] = _nothing,
    ) -> None:
        self._render = render
        self._is_ready = is_ready
        self._pages = pages
        self._victims = victims
        self._verdicts = verdicts
        self._findings = findings
        self._telemetry_path = telemetry_path

    def application(self) -> web.Application:
        """Make the aiohttp application."""
        app = web.Application(client_max_size=0)
        app.router.add_get(self._telemetry_path, self.metrics)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/api/v1/containers", self.containers)
        app.router.add_get("/api/v1/containers/schema", self.containers_schema)
        app.router.add_get("/api/v1/victims", self.victims)
        app.router.add_get("/api/v1/verdicts", self.verdicts)
        app.router.add_get("/container", self.container)
        app.router.add_get("/api/v1/findings", self.findings)
        app.router.add_get("/", self.index)
        return app

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """One page, in the format and encoding that the client prefers."""
        openmetrics = negotiate(request.headers.get("Accept", ""))
        compressed = accepts_gzip(request.headers.get("Accept-Encoding", ""))
        seconds = scrape_seconds(request.headers.get(_TIMEOUT))
        scraper = request.remote or "" if _TIMEOUT in request.headers else ""
        body = await self._render(seconds, openmetrics, compressed, scraper)
        headers = {"Content-Type": OPENMETRICS if openmetrics else PLAIN_TEXT}
        if compressed:
            headers["Content-Encoding"] = "gzip"
        return await _send(request, body, headers)

    async def healthz(self, _request: web.Request) -> web.Response:
        """The event loop runs. No I/O: a dead daemon or kubelet is no reason to restart the agent."""
        return web.Response(text="ok\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """Answer 200 once the first pass is done, and 503 before."""
        return web.Response(text="ok\n") if self._is_ready() else web.Response(status=503, text="the first pass is not done yet\n")

    async def victims(self, _request: web.Request) -> web.Response:
        """The latest victims of the OOM killer, newest first, as JSON; null is not known."""
        return web.json_response({"victims": await asyncio.to_thread(self._victims)})

    async def verdicts(self, _request: web.Request) -> web.Response:
        """Why containers ended, the latest first, as JSON; null is not known."""
        return web.json_response({"verdicts": await asyncio.to_thread(self._verdicts)})

    async def findings(self, _request: web.Request) -> web.Response:
        """What is wrong now, as JSON: the schema is that of agent/findings_json.py."""
        return web.json_response(as_json(await self._findings()))

    async def containers(self, request: web.Request) -> web.StreamResponse:
        """The living containers, as JSON."""
        return await _send(request, await self._pages.containers(), {"Content-Type": _JSON})

    async def containers_schema(self, request: web.Request) -> web.StreamResponse:
        """What that JSON looks like, as a JSON Schema."""
        return await _send(request, asset("containers.schema.json").encode(), {"Content-Type": "application/schema+json"})

    async def index(self, request: web.Request) -> web.StreamResponse:
        """The page of all containers."""
        return await _send(request, await self._pages.index(), _page_headers())

    async def container(self, request: web.Request) -> web.StreamResponse:
        """The page of one container."""
        body = await self._pages.container(request.query)
        if body is None:
            raise web.HTTPNotFound(text="No such container runs, and the casebook has none that ended.\n")
        return await _send(request, body, _page_headers())


def _page_headers() -> dict[str, str]:
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy(),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


async def _send(request: web.Request, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send a whole body; a client that does not read is cut off."""
    if len(body) > _CHUNK and "Content-Encoding" not in headers and accepts_gzip(request.headers.get("Accept-Encoding", "")):
        body = await asyncio.to_thread(compress, body)  # zlib works without the interpreter's lock
        headers = {**headers, "Content-Encoding": "gzip"}
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await response.prepare(request)
            if request.method != "HEAD":
                for start in range(0, len(body), _CHUNK):
                    await response.write(body[start : start + _CHUNK])
            await response.write_eof()
    except TimeoutError:
        log.warning("a client did not read its page in time and was cut off", extra={"seconds": SEND_SECONDS})
        if request.transport is not None:
            request.transport.abort()
    return response
