"""Asks the agent that runs on this machine: where it would listen with these settings, in the clear and without a password."""

import asyncio
from collections.abc import Iterator

from agent.config import Config
from agent.web.listen import shown

MOST_BYTES = 1 << 27
"""More than any page: of 1,000 containers it has 5 MiB."""

_LOOPBACK = {None: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens on all addresses listens there too

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""


def addresses(config: Config) -> Iterator[Address]:
    """Yield where an agent can be asked, from the first that it listens on."""
    for listen in config.listen:
        if isinstance(listen, str):
            yield listen
        elif listen[1]:  # of a free port nobody knows the number
            yield _LOOPBACK.get(listen[0]) or listen[0] or "127.0.0.1", listen[1]


async def ask(address: Address, path: str, accept: str, seconds: float) -> bytes:
    """Return the body of an answer. Raises OSError if there is none within so many seconds, or it is no success.

    It can be cancelled: nobody waits for it at the end.
    """
    where = address if isinstance(address, str) else shown(*address)
    async with asyncio.timeout(seconds):  # TimeoutError is an OSError
        if isinstance(address, str):
            reader, writer = await asyncio.open_unix_connection(address)
        else:
            reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
            answer = bytearray()
            while piece := await reader.read(1 << 16):
                answer += piece
                if len(answer) > MOST_BYTES:
                    raise ConnectionError(f"{where} answers without end")
        finally:
            writer.close()
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise ConnectionError(f"{where}{path} is no page of an agent")
    return body
