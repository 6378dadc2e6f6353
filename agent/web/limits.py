"""How much clients can cost: so many connections at once, so long for each step, so many bytes for a request.

aiohttp bounds a line of a request and how long a connection may be idle. It has no deadline for a request that arrives byte by byte, none
for a client that does not read, no bound for all headers together, and none for connections. Here a newcomer always gets in: the
connection that has kept the agent waiting the longest makes room.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import cast

from aiohttp import web

from agent.web.tls import is_allowed

MOST_CONNECTIONS = 24
"""Each holds 100 KiB if it has TLS."""

MOST_ANSWERS = 4
"""How many answers are made and sent at once; each is held in memory as a whole."""

REQUEST_SECONDS = 5.0
"""A TLS handshake may take so long, and so may a request to arrive, from its first byte on or from that of the connection."""

IDLE_SECONDS = 75.0
"""Between two requests of a connection: longer than between two scrapes, as a rule."""

SEND_SECONDS = 10.0
"""A client that takes nothing within this is cut off; its answer would be kept in memory for ever."""

STUCK_SECONDS = 0.5
"""A client that takes nothing for so long makes room for others."""

MOST_REQUEST_BYTES = 16 * 1024
"""From one request to the next, headers and all: GET and HEAD have no body."""

_UNSENT_BYTES = 64 * 1024
"""With more of an answer waiting in the transport the client is waited for."""

SERVER = "coroner"
"""The header Server: not which version of what."""

_SAY_AGAIN_SECONDS = 60.0

log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """One client, from when it was accepted."""

    __slots__ = ("_bytes", "_deadline", "_limits", "_wire", "allowed_sans", "hang_up", "is_answered", "is_cut", "is_stuck")

    def __init__(self, server: web.Server, limits: "Limits") -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # none is kept; web.Server passes it on like this
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=1.0,
            read_bufsize=MOST_REQUEST_BYTES,
        )
        self.hang_up: Callable[[], object] | None = None
        """Ends the TLS handshake, while it lasts."""
        self.allowed_sans: frozenset[str] | None = None
        """Who may stay, by its certificate; None: whoever got in."""
        self.is_answered = False
        """Whether an answer to it is being made or sent."""
        self.is_stuck = False
        self.is_cut = False
        self._limits = limits
        self._wire: asyncio.Transport | None = None
        self._bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def can_go(self) -> bool:
        """Whether it is the client that is waited for."""
        return not self.is_answered or self.is_stuck

    def cut(self, why: str) -> None:
        """Close the connection now."""
        self.is_cut = True
        self._limits.forget(self)
        self._wait(None)
        self._limits.say(why)
        self.force_close()  # nothing more is read
        if self._wire is not None:
            self._wire.abort()
        elif self.hang_up is not None:
            with suppress(OSError):  # the client was faster
                self.hang_up()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self._wire = cast(asyncio.Transport, transport)
        if self.is_cut:  # before the handshake, or in it
            self._wire.abort()
            return
        self._wire.set_write_buffer_limits(_UNSENT_BYTES)  # with TLS it is 512 KiB
        self.hang_up = None
        super().connection_made(transport)
        if is_allowed(transport.get_extra_info("peercert"), self.allowed_sans):
            self._wait(REQUEST_SECONDS, "its request did not arrive in time")
        else:
            self.cut("its certificate has none of client_allowed_sans")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free its place."""
        self._wait(None)
        self._limits.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        self._bytes += len(data)
        if self._bytes > MOST_REQUEST_BYTES:
            self.cut("its request was too large")
            return
        if self._deadline is None and not self.is_answered:
            self._wait(REQUEST_SECONDS, "its request did not arrive in time")
        super().data_received(data)

    def answering(self) -> None:
        """Note that a request has arrived."""
        self._bytes = 0
        self._wait(None)
        self.is_answered = True

    def answered(self) -> None:
        """Note that the client's next request is waited for; the end of the answer may still be on its way."""
        self.is_answered = False
        self._limits.moved(self)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._wait(STUCK_SECONDS, "")

    def resume_writing(self) -> None:
        """Note that it has read."""
        super().resume_writing()
        self.is_stuck = False
        self._wait(None)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP, or a failure of ours, without a word of the request, which aiohttp's own message has."""
        if isinstance(exc, ConnectionError):
            # The client has gone, which is no failure. The frames of the traceback hold the answer, and asyncio the exception, in a
            # cycle: it would be kept until the next full garbage collection, which is hours away.
            exc.__context__ = exc.__cause__ = None
            raise exc.with_traceback(None)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log_exception("a request could not be answered", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, there is no place for an error in it")
        response = web.Response(status=status, text=f"{status}: {HTTPStatus(status).phrase}", headers={"Server": SERVER})
        response.force_close()
        return response

    def _wait(self, seconds: float | None, why: str = "") -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            call, arguments = (self.cut, (why,)) if why else (self._stuck, ())
            self._deadline = asyncio.get_running_loop().call_later(seconds, call, *arguments)

    def _stuck(self) -> None:
        self.is_stuck = True
        self._wait(SEND_SECONDS - STUCK_SECONDS, "it did not read its answer in time")
        self._limits.relieve()


class Limits:
    """All connections there are, those that have waited for their clients the longest first."""

    def __init__(self) -> None:
        self._connections: dict[Connection, None] = {}
        self._gone = asyncio.Event()
        self._answers = asyncio.Semaphore(MOST_ANSWERS)
        self._waiting = 0
        self._said: dict[str, float] = {}

    async def admit(self, connection: Connection) -> None:
        """Take one in. Waits only while all others are at work."""
        while len(self._connections) >= MOST_CONNECTIONS:
            if not self._cut_one("others needed its place"):
                self._gone.clear()
                await self._gone.wait()
        self._connections[connection] = None

    def forget(self, connection: Connection) -> None:
        """Let one go; also one that is not here any more."""
        if self._connections.pop(connection, self) is None:
            self._gone.set()

    def moved(self, connection: Connection) -> None:
        """Note that one begins to wait anew."""
        if connection in self._connections:
            del self._connections[connection]
            self._connections[connection] = None
            self._gone.set()

    def relieve(self) -> None:
        """Cut one that is stuck, if somebody waits for its place."""
        if self._waiting:
            self._cut_one("others needed its place", only_answered=True)
        self._gone.set()

    @asynccontextmanager
    async def turn(self, connection: web.RequestHandler, *, at_once: bool = False) -> AsyncIterator[None]:
        """Wait for one's turn to be answered, if not `at_once`.

        Raises HTTPServiceUnavailable if too many wait, and ConnectionError if the client has gone meanwhile.
        """
        known = connection if isinstance(connection, Connection) else None
        if known is not None:
            known.answering()
        try:
            if at_once:
                yield
            else:
                await self._acquire()
                try:
                    if connection.transport is None:
                        raise ConnectionResetError("the client has gone")
                    yield
                finally:
                    self._answers.release()
        finally:
            if known is not None:
                known.answered()

    async def _acquire(self) -> None:
        if self._waiting >= MOST_CONNECTIONS:  # more than there are: of clients that ask and go, for whom there is no end of work
            raise web.HTTPServiceUnavailable
        if self._answers.locked():
            self._cut_one("others needed its place", only_answered=True)
        self._waiting += 1
        try:
            await self._answers.acquire()
        finally:
            self._waiting -= 1

    def say(self, why: str) -> None:
        """Log why a client was cut off, each reason once in a while: who attacks must not fill the log."""
        now = asyncio.get_running_loop().time()
        if why and now >= self._said.get(why, now):
            self._said[why] = now + _SAY_AGAIN_SECONDS
            log.warning("a client was cut off", extra={"reason": why})

    def _cut_one(self, why: str, *, only_answered: bool = False) -> bool:
        for connection in self._connections:
            if connection.can_go and (connection.is_answered or not only_answered):
                connection.cut(why)
                return True
        return False
