"""The endpoint: the routes behind the sockets, and what stands between: TLS, passwords, limits and headers."""

import asyncio
import logging
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any, cast

from aiohttp import web
from aiohttp.typedefs import Handler

from agent.web.limits import REQUEST_SECONDS, SERVER, Connection, Limits
from agent.web.listen import CannotListen
from agent.web.protection import Protection
from agent.web.sockets import Address, close, listen_on, shown_of
from agent.web.users import Users

_PROBES = ("/healthz", "/readyz")
"""They say nothing but ok: answered without a password, which a kubelet has not, and however many others wait."""

_MOST_REASONS = 32

# Each connection with TLS has a buffer of this size from its beginning; it is 256 KiB otherwise, which idle clients would make many MiB.
# A TLS record has 16 KiB at most.
SSLProtocol.max_size = 32 * 1024

log = logging.getLogger(__name__)


async def serve(application: web.Application, addresses: Iterable[Address], web_config: str = "", *, systemd: bool = False) -> "Endpoint":
    """Start listening, on what systemd has opened or else on the addresses. Raises CannotListen, with everything that is wrong."""
    problems: list[str] = []
    protection = Protection(web_config, problems)
    if problems:
        raise CannotListen("; ".join(problems))
    endpoint = Endpoint(application, protection, await listen_on(addresses, systemd=systemd))
    await endpoint.start()
    return endpoint


class Endpoint:
    """Sockets that are listened on, until `close`."""

    def __init__(self, application: web.Application, protection: Protection, sockets: list[socket.socket]) -> None:
        self.protection = protection
        self.addresses = [shown_of(one) for one in sockets]
        """As they are written in --web.listen-address, with the port that was found."""
        self._sockets = sockets
        self._limits = Limits()
        self._users = Users()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reasons: set[str] = set()
        application.middlewares.append(self._guard)
        application.on_response_prepare.append(self._finish)
        self._runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=1.0)

    @property
    def has_tls(self) -> bool:
        """Whether it speaks HTTPS now; it cannot fall back to HTTP."""
        return self.protection.loaded.context is not None

    def trouble(self) -> list[str]:
        """Say why the web configuration on disk is not the one in use, if it is not."""
        return [f"Web configuration: {self.protection.reason}"] if self.protection.reason else []

    async def start(self) -> None:
        """Begin to accept connections."""
        await self._runner.setup()
        for one in self._sockets:
            self._keep(self._accept(one, cast(web.Server, self._runner.server)))

    async def close(self) -> None:
        """End all: what is being answered has a second."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in self._sockets:
            close(one)
        await self._runner.cleanup()

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listening: socket.socket, server: web.Server) -> None:
        while True:
            try:
                client, _ = await asyncio.get_running_loop().sock_accept(listening)
            except OSError as error:  # the client has gone, or no file descriptor is left
                log.debug("a connection could not be accepted", extra={"reason": error.strerror})
                await asyncio.sleep(0.1)
                continue
            connection = Connection(server, self._limits)
            try:
                await self._limits.admit(connection)
            except asyncio.CancelledError:
                client.close()
                raise
            self._keep(self._welcome(client, connection))

    async def _welcome(self, client: socket.socket, connection: Connection) -> None:
        """Make a connection of an accepted socket, after the TLS handshake."""
        try:
            now = await self.protection.current()
        except BaseException:
            client.close()
            raise
        if connection.is_cut:
            client.close()
            return
        # From here on the socket is asyncio's, which closes it in every case. Nobody else may, and a task that is cancelled does not end a
        # handshake; a socket that is shut down does.
        connection.hang_up = partial(client.shutdown, socket.SHUT_RDWR)
        connection.allowed_sans = now.file.tls.allowed_sans if now.file.tls else None
        seconds = {"ssl_handshake_timeout": REQUEST_SECONDS, "ssl_shutdown_timeout": 1.0} if now.context else {}
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, client, ssl=now.context, **seconds)
        except OSError as error:
            self._limits.forget(connection)
            if not connection.is_cut:
                self._say(error)

    def _say(self, error: OSError) -> None:
        """Log why a handshake failed, each reason once: scanners of ports must not fill the log."""
        reason = (isinstance(error, ssl.SSLError) and error.reason) or type(error).__name__
        if reason not in self._reasons and len(self._reasons) < _MOST_REASONS:
            self._reasons.add(reason)
            log.warning("a TLS handshake failed; it is not logged again for this reason", extra={"reason": reason})

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        is_probe = request.path in _PROBES
        async with self._limits.turn(request.protocol, at_once=is_probe):
            users = (await self.protection.current()).file.users
            if users and not is_probe and not await self._users.may_ask(request.headers.get("Authorization", ""), users):
                raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="coroner", charset="UTF-8"'})
            response = await handler(request)
            if isinstance(response, web.Response):  # sent here, while its turn lasts: so many of them are in memory, and no more
                await response.prepare(request)
                await response.write_eof()
            return response

    async def _finish(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = SERVER
        response.headers.update((await self.protection.current()).file.headers)
        if isinstance(response, web.HTTPExpectationFailed):  # it has the header Expect in it
            response.body = body = b"417: Expectation Failed"
            response.headers["Content-Length"] = str(len(body))
