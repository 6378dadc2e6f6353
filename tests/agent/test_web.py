"""HTTP: what a scraper, a probe, a person and a misuser get."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping

import pytest
from aiohttp import ClientSession

from agent.findings_json import from_json
from agent.gzip_segments import compress
from agent.page import OPENMETRICS, PLAIN_TEXT
from agent.web.endpoint import serve
from agent.web.listen import CannotListen
from agent.web.routes import Routes, scrape_seconds
from collectors.findings import Examination, Finding


class Agent:
    """What the routes stand in front of."""

    def __init__(self) -> None:
        self.ready = True
        self.asked: list[tuple[float, bool, bool]] = []
        self.scrapers: list[str] = []
        self.body = b"coroner_build_info 1\n"
        self.victims: list[dict[str, object]] = []
        self.verdicts: list[dict[str, object]] = []
        self.examination = Examination()

    async def examined(self) -> Examination:
        return self.examination

    async def render(self, seconds: float, openmetrics: bool, compressed: bool, scraper: str) -> bytes:
        self.asked.append((seconds, openmetrics, compressed))
        self.scrapers.append(scraper)
        return compress(self.body) if compressed else self.body

    async def index(self) -> bytes:
        return b"<h1>Coroner</h1>"

    async def container(self, wanted: Mapping[str, str]) -> bytes | None:
        return b"<h1>web</h1>" if wanted.get("container") == "web" else None

    async def containers(self) -> bytes:
        return b'{"containers": []}'


@pytest.fixture
def agent() -> Agent:
    """An agent that answers at once."""
    return Agent()


@pytest.fixture
async def url(agent: Agent) -> AsyncIterator[str]:
    """Where it listens."""
    routes = Routes(
        render=agent.render,
        is_ready=lambda: agent.ready,
        pages=agent,
        telemetry_path="/metrics",
        victims=lambda: agent.victims,
        verdicts=lambda: agent.verdicts,
        findings=agent.examined,
    )
    endpoint = await serve(routes.application(), [("127.0.0.1", 0)])
    yield f"http://{endpoint.addresses[0]}"
    await endpoint.close()


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    """A client that does not decompress, so that a test sees what was sent."""
    async with ClientSession(auto_decompress=False) as session:
        yield session


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", OPENMETRICS), ("*/*", PLAIN_TEXT), ("", PLAIN_TEXT)],
)
async def test_a_scraper_gets_the_format_it_prefers(agent: Agent, url: str, http: ClientSession, accept: str, content_type: str) -> None:
    """Prometheus 3 refuses a page whose Content-Type is not right."""
    async with http.get(f"{url}/metrics", headers={"Accept": accept, "Accept-Encoding": "identity"}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == content_type
        assert await response.read() == agent.body
    assert agent.asked[0][1:] == (content_type == OPENMETRICS, False)


async def test_a_page_is_compressed_when_the_scraper_takes_it(agent: Agent, url: str, http: ClientSession) -> None:
    """And says so."""
    async with http.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await response.read()) == agent.body


@pytest.mark.parametrize(("header", "scraper"), [({"X-Prometheus-Scrape-Timeout-Seconds": "10"}, "127.0.0.1"), ({}, "")])
async def test_a_scraper_is_known_by_its_address(agent: Agent, url: str, http: ClientSession, header: dict[str, str], scraper: str) -> None:
    """And by the header that it sends."""
    async with http.get(f"{url}/metrics", headers=header):
        assert agent.scrapers == [scraper]


async def test_a_large_page_arrives_whole(agent: Agent, url: str, http: ClientSession) -> None:
    """It is written in pieces."""
    agent.body = b"x" * 1_000_003
    async with http.get(f"{url}/metrics", headers={"Accept-Encoding": "identity"}) as response:
        assert await response.read() == agent.body


async def test_a_client_that_never_reads_is_cut_off(
    agent: Agent, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its page must not stay in memory for as long as it likes."""
    monkeypatch.setattr("agent.web.routes.SEND_SECONDS", 0.2)
    agent.body = b"x" * 50_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    reader._transport.pause_reading()  # type: ignore[attr-defined] # the only way to not read
    async with asyncio.timeout(120):
        while "cut off" not in caplog.text:
            await asyncio.sleep(0.01)
        reader._transport.resume_reading()  # type: ignore[attr-defined] # see above
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(len(agent.body))
    writer.close()


async def test_the_probes_say_alive_and_ready_apart(agent: Agent, url: str, http: ClientSession) -> None:
    """An agent that has not made its first pass is alive but not ready."""
    agent.ready = False
    async with http.get(f"{url}/healthz") as health, http.get(f"{url}/readyz") as readiness:
        assert (health.status, readiness.status) == (200, 503)
    agent.ready = True
    async with http.get(f"{url}/readyz") as readiness:
        assert readiness.status == 200


async def test_a_head_has_the_headers_and_no_body(url: str, http: ClientSession) -> None:
    """As RFC 9110 asks."""
    async with http.head(f"{url}/metrics") as response:
        assert (response.status, response.headers["Content-Type"]) == (200, PLAIN_TEXT)
        assert await response.read() == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed(url: str, http: ClientSession, method: str) -> None:
    """GET and HEAD only."""
    async with http.request(method, f"{url}/metrics", data=b"x") as response:
        assert response.status == 405


async def test_an_unknown_path_is_not_reflected(url: str, http: ClientSession) -> None:
    """A 404 is the same for everyone."""
    async with http.get(f"{url}/<script>alert(1)</script>") as response:
        assert response.status == 404
        assert b"script" not in await response.read()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("10", 9.5),
        ("0.6", 1),
        ("1e-9", 1),
        ("30.5", 30),
        (None, 9.5),
        ("", 9.5),
        ("nan", 9.5),
        ("inf", 9.5),
        ("-3", 9.5),
        ("0", 9.5),
        ("x", 9.5),
    ],
)
def test_the_scrapers_timeout_is_the_passs_deadline(header: str | None, seconds: float) -> None:
    """Half a second is left to send the page; nonsense counts as absent, and too little is too little for those who share the pass."""
    assert scrape_seconds(header) == pytest.approx(seconds)


async def test_a_taken_port_is_an_error_and_leaves_nothing_behind(url: str) -> None:
    """Two agents on one node: the second says so."""
    routes = Routes(render=Agent().render, is_ready=lambda: True, pages=Agent(), telemetry_path="/metrics")
    with pytest.raises(CannotListen, match="Address already in use"):
        await serve(routes.application(), [("127.0.0.1", int(url.rsplit(":", 1)[1]))])


@pytest.mark.parametrize("path", ["/", "/container?container=web"])
async def test_a_page_may_load_nothing_and_send_nothing(url: str, http: ClientSession, path: str) -> None:
    """Whatever a container wrote into it: its own style and script are allowed by their digests."""
    async with http.get(f"{url}{path}") as response:
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        rules = dict(each.split(" ", 1) for each in response.headers["Content-Security-Policy"].split("; "))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
        assert rules["script-src"].startswith("'sha256-")
        assert not any("unsafe" in rule for rule in rules.values())
        assert (response.headers["X-Content-Type-Options"], response.headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


async def test_a_container_that_nobody_knows_is_not_reflected(url: str, http: ClientSession) -> None:
    """Nothing of the address comes back."""
    async with http.get(f"{url}/container?container=<script>alert(1)</script>") as response:
        assert response.status == 404
        assert b"alert" not in await response.read()


async def test_the_api_has_the_containers_and_their_schema(url: str, http: ClientSession) -> None:
    """Both as JSON."""
    async with http.get(f"{url}/api/v1/containers") as response, http.get(f"{url}/api/v1/containers/schema") as schema:
        assert await response.json() == {"containers": []}
        assert "containers" in (await schema.json(content_type="application/schema+json"))["properties"]


async def test_verdicts_are_json(agent: Agent, url: str, http: ClientSession) -> None:
    """What is not known is null."""
    agent.verdicts = [{"cause": "killed", "signal": 9, "exit_code": None, "evidence": ["<b>"]}]
    async with http.get(f"{url}/api/v1/verdicts") as response:
        assert response.content_type == "application/json"
        assert await response.json() == {"verdicts": agent.verdicts}


async def test_findings_are_json(agent: Agent, url: str, http: ClientSession) -> None:
    """In the form that `coroner check` reads."""
    name = ("", "", "<script>")
    agent.examination = Examination(
        [Finding(name, "paused", "warning", "it is paused", "Why.", "Fix.", "https://x")], [], [], {name: "docker://4f"}
    )
    async with http.get(f"{url}/api/v1/findings") as response:
        assert response.content_type == "application/json"
        assert from_json(await response.json()) == agent.examination


async def test_victims_are_json(agent: Agent, url: str, http: ClientSession) -> None:
    """Whatever a process called itself."""
    agent.victims = [{"pid": 7, "comm": "<b>\\xff\n", "is_init": None}]
    async with http.get(f"{url}/api/v1/victims", headers={"Accept-Encoding": "identity"}) as response:
        assert response.headers["Content-Type"].startswith("application/json")
        assert await response.json() == {"victims": agent.victims}
