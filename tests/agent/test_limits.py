"""What clients that are slow, idle, greedy or wrong can cost, and that others are served meanwhile. tests/e2e measures the memory."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from agent.web import limits as module
from agent.web.endpoint import Endpoint, serve
from agent.web.limits import MOST_ANSWERS, MOST_CONNECTIONS, MOST_REQUEST_BYTES
from tests.agent.web_files import SECRET_HASH, certify, web_file

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = 1_000_000
Serve = Callable[..., Awaitable[Endpoint]]


class Page:
    """A page that a test can hold back."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = 0
        self.size = 5

    async def serve(self, _request: web.Request) -> web.Response:
        self.asked += 1
        await self.go_on.wait()
        return web.Response(body=self.size * b"x")


@pytest.fixture
async def page() -> Page:
    """What is served."""
    return Page()


@pytest.fixture
async def start(page: Page) -> AsyncIterator[Serve]:
    """Serve it on any port."""
    endpoints: list[Endpoint] = []

    async def start(web_config: str = "") -> Endpoint:
        application = web.Application(client_max_size=0)
        for path in ("/metrics", "/healthz"):
            application.router.add_get(path, page.serve if path == "/metrics" else _ok)
        endpoints.append(await serve(application, [("127.0.0.1", 0)], web_config))
        return endpoints[-1]

    yield start
    for endpoint in endpoints:
        await endpoint.close()


async def _ok(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes = GET) -> bytes:
        """Send a request, and return head and body of the answer."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await self.reader.readexactly(0 if request.startswith(b"HEAD") else length)

    async def ended(self) -> bytes:
        """Wait until the connection ends; return what was read until then."""
        found = b""
        try:
            async with asyncio.timeout(120):
                while more := await self.reader.read(65536):
                    found += more
        except ConnectionError:
            pass
        return found


Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect, and close at the test's end."""
    clients: list[Client] = []

    async def connect(endpoint: Endpoint, context: ssl.SSLContext | None = None, *, small: bool = False) -> Client:
        host, _, port = endpoint.addresses[0].rpartition(":")
        raw = socket.socket()
        raw.setblocking(False)
        if small:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
        name = "localhost" if context else None
        clients.append(Client(*await asyncio.open_connection(sock=raw, limit=4096, ssl=context, server_hostname=name)))
        return clients[-1]

    yield connect
    for client in clients:
        client.writer.transport.abort()


async def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("begun", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"])
async def test_a_request_that_does_not_arrive_in_time_ends_its_connection(
    start: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """Whether nothing comes, or the half of it, or a byte now and then."""
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.2)
    client = await connect(await start())
    client.writer.write(begun)

    assert await client.ended() == b""


async def test_a_byte_now_and_then_does_not_prolong_it(start: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what a slow loris sends; also behind a first request that was right."""
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.2)
    client = await connect(await start())
    assert (await client.ask()).endswith(b"xxxxx")

    async def drip() -> None:
        for byte in b"GET /metrics HTTP/1.1\r\nX: " + 100_000 * b"x":
            client.writer.write(bytes((byte,)))
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    assert await client.ended() == b""
    dripping.cancel()


async def test_an_idle_connection_serves_again(start: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is for a request that has begun: scrapes are a minute apart."""
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.2)
    client = await connect(await start())
    assert (await client.ask()).endswith(b"xxxxx")
    await asyncio.sleep(0.4)  # twice the deadline: nothing shows that it has passed
    assert (await client.ask()).endswith(b"xxxxx")


async def test_a_connection_that_is_idle_for_too_long_ends(start: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its answer."""
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.2)
    client = await connect(await start())
    assert (await client.ask()).endswith(b"xxxxx")
    assert await client.ended() == b""


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: %s\r\n" % (number, 4000 * b"x") for number in range(10)) + b"\r\n",
        b"GET /" + MOST_REQUEST_BYTES * b"x",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n" + 2 * MOST_REQUEST_BYTES * b"x",
    ],
)
async def test_a_request_that_is_too_large_ends_its_connection(start: Serve, connect: Connect, page: Page, request_: bytes) -> None:
    """All of its headers together, or the body that no request has here."""
    client = await connect(await start())
    client.writer.write(request_)

    assert b" 200 " not in await client.ended()
    assert page.asked == 0


async def test_many_requests_of_one_connection_are_not_one_too_large(start: Serve, connect: Connect) -> None:
    """The bytes are counted from one request to the next."""
    client = await connect(await start())
    request = GET.replace(b"\r\n\r\n", b"\r\nX: " + 4000 * b"x" + b"\r\n\r\n")
    for _ in range(2 * MOST_REQUEST_BYTES // len(request)):
        assert (await client.ask(request)).endswith(b"xxxxx")


async def test_idle_connections_make_room_the_oldest_first(start: Serve, connect: Connect) -> None:
    """Whoever comes gets in, and whoever was served last stays."""
    endpoint = await start()
    served = await connect(endpoint)
    idle = [await connect(endpoint) for _ in range(3 * MOST_CONNECTIONS)]
    assert (await (await connect(endpoint)).ask()).endswith(b"xxxxx")

    assert await served.ended() == b""
    for client in idle[: 2 * MOST_CONNECTIONS]:
        assert await client.ended() == b""
    assert (await idle[-1].ask()).endswith(b"xxxxx")
    assert len(endpoint._limits._connections) == MOST_CONNECTIONS


async def test_clients_that_never_read_make_room_and_their_answers_are_let_go(start: Serve, connect: Connect, page: Page) -> None:
    """Others are served, and no more answers are in memory at once than are allowed."""
    endpoint = await start()
    page.size = LONG
    stuck = [await connect(endpoint, small=True) for _ in range(MOST_ANSWERS + 2)]
    for client in stuck:
        client.writer.write(GET)
    async with asyncio.timeout(120):
        assert len(await (await connect(endpoint)).ask()) > LONG

    assert len(endpoint._limits._connections) <= MOST_ANSWERS, "for each of the last three one had to go"


async def test_a_client_that_never_reads_is_cut_off_when_nobody_waits_too(
    start: Serve, connect: Connect, page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answer would be kept for ever."""
    monkeypatch.setattr(module, "STUCK_SECONDS", 0.05)
    monkeypatch.setattr(module, "SEND_SECONDS", 0.2)
    endpoint = await start()
    page.size = LONG
    client = await connect(endpoint, small=True)
    client.writer.write(GET)

    await wait_for(lambda: page.asked == 1 and not endpoint._limits._connections)
    assert [record.reason for record in caplog.records if record.message == "a client was cut off"] == [  # type: ignore[attr-defined] # our own
        "it did not read its answer in time"
    ]


async def test_probes_are_answered_however_many_wait(start: Serve, connect: Connect, page: Page) -> None:
    """A kubelet that waits for an answer too long kills the agent."""
    endpoint = await start()
    page.go_on.clear()
    busy = [await connect(endpoint) for _ in range(MOST_ANSWERS + 5)]
    for client in busy:
        client.writer.write(GET)
    await wait_for(lambda: endpoint._limits._waiting == 5)

    assert (await (await connect(endpoint)).ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"ok\n")
    assert page.asked == MOST_ANSWERS
    page.go_on.set()
    for client in busy:
        assert (await client.reader.readuntil(b"xxxxx")).startswith(b"HTTP/1.1 200 ")


async def test_no_page_is_made_for_who_has_gone(start: Serve, connect: Connect, page: Page) -> None:
    """Asking and going costs a client nothing, and must cost no more here."""
    endpoint = await start()
    page.go_on.clear()
    busy = [await connect(endpoint) for _ in range(MOST_ANSWERS + 5)]
    for client in busy:
        client.writer.write(GET)
    await wait_for(lambda: endpoint._limits._waiting == 5)
    for client in busy:
        client.writer.transport.abort()
    await wait_for(lambda: not endpoint._limits._connections)
    page.go_on.set()

    assert (await (await connect(endpoint)).ask()).endswith(b"xxxxx")
    assert page.asked == MOST_ANSWERS + 1


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /<script> HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"<script> /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /metrics <script>/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n<script>\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: <script>\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nExpect: <script>\r\n\r\n", 417),
        (b"POST /<script> HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 404),
        (b"OPTIONS /metrics HTTP/1.1\r\nHost: x\r\nOrigin: <script>\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01<script>\r\n\r\n", 400),
    ],
)
async def test_nothing_of_a_request_is_in_the_answer(start: Serve, connect: Connect, request_: bytes, status: int) -> None:
    """Whatever is wrong with it; nor what serves it."""
    answer = await (await connect(await start())).ask(request_)

    assert answer.split()[1] == b"%d" % status
    assert b"script" not in answer
    assert b"Server: coroner\r\n" in answer
    assert b"ython" not in answer


async def test_headers_are_added_to_every_answer_and_users_are_asked_for_everything_but_probes(
    start: Serve, connect: Connect, tmp_path: Path
) -> None:
    """A kubelet has no password, and a probe says nothing but ok."""
    path = web_file(tmp_path, f"http_server_config: {{headers: {{X-Frame-Options: deny}}}}\nbasic_auth_users: {{alice: {SECRET_HASH}}}")
    client = await connect(await start(path))
    for target, header, status in (
        ("/metrics", "", 401),
        ("/nowhere", "", 401),
        ("/metrics", "Authorization: Basic YWxpY2U6d3Jvbmc=\r\n", 401),
        ("/metrics", "Authorization: Basic YWxpY2U6c2VjcmV0\r\n", 200),
        ("/nowhere", "Authorization: Basic YWxpY2U6c2VjcmV0\r\n", 404),
        ("/healthz", "", 200),
    ):
        answer = await client.ask(f"GET {target} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
        assert (target, header, answer.split()[1]) == (target, header, b"%d" % status)
        assert b"X-Frame-Options: deny\r\n" in answer
        assert (b'WWW-Authenticate: Basic realm="coroner"' in answer) == (status == 401)


async def test_a_user_that_is_taken_out_is_not_answered_any_more(start: Serve, connect: Connect, tmp_path: Path) -> None:
    """Not on a connection that is open either."""
    client = await connect(await start(web_file(tmp_path, f"basic_auth_users: {{alice: {SECRET_HASH}, bob: {SECRET_HASH}}}")))
    request = GET.replace(b"Host", b"Authorization: Basic YWxpY2U6c2VjcmV0\r\nHost")
    assert b" 200 " in await client.ask(request)
    web_file(tmp_path, f"basic_auth_users: {{bob: {SECRET_HASH}}}")
    assert b" 401 " in await client.ask(request)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Who signs for servers and clients."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    certify(tmp_path, "server", authority)
    return authority


MUTUAL = """
tls_server_config:
  {cert_file: server.crt, key_file: server.key, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert,
   client_allowed_sans: [prometheus]}
"""


def client_context(directory: Path, authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Make what a client connects with, who has a certificate of these names, if any."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if names:
        certify(directory, "client", authority, *names)
        context.load_cert_chain(directory / "client.crt", directory / "client.key")
    return context


async def test_clients_are_let_in_by_their_certificates(
    start: Serve, connect: Connect, tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """By who signed them, and by a name in them; why one was not is logged once."""
    endpoint = await start(web_file(tmp_path, MUTUAL))
    answer = await (await connect(endpoint, client_context(tmp_path, authority, "prometheus"))).ask()
    assert answer.endswith(b"xxxxx")

    strangers = [client_context(tmp_path, authority), client_context(tmp_path, authority, "other")]
    stranger = strangers[0]
    other_authority = trustme.CA()
    certify(tmp_path, "client", other_authority, "prometheus")
    forged = client_context(tmp_path, authority)
    forged.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
    for context in (*strangers, forged, stranger):
        try:
            client = await connect(endpoint, context)
            client.writer.write(GET)
            assert await client.ended() == b""
        except ssl.SSLError:
            pass
    await wait_for(lambda: "CERTIFICATE_VERIFY_FAILED" in str([vars(record) for record in caplog.records]))
    said = [record.reason for record in caplog.records if record.levelname == "WARNING"]  # type: ignore[attr-defined] # our own
    assert sorted(said) == [
        "CERTIFICATE_VERIFY_FAILED",
        "PEER_DID_NOT_RETURN_A_CERTIFICATE",
        "its certificate has none of client_allowed_sans",
    ]


async def test_handshakes_that_nobody_finishes_make_room(
    start: Serve, connect: Connect, tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They count as connections from the beginning, and end long before their deadline."""
    monkeypatch.setattr("agent.web.endpoint.REQUEST_SECONDS", 600)
    endpoint = await start(web_file(tmp_path, MUTUAL))
    silent = [await connect(endpoint) for _ in range(MOST_CONNECTIONS + 5)]
    answer = await (await connect(endpoint, client_context(tmp_path, authority, "prometheus"))).ask()

    assert answer.endswith(b"xxxxx")
    assert await silent[0].ended() == b""
    assert len(endpoint._limits._connections) <= MOST_CONNECTIONS
