"""HTTPS to one API of Kubernetes, with a token and the cluster's authority. What goes wrong is told as Blind, with its remedy."""

import asyncio
import contextlib
import errno
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping

import aiohttp

from agent import __version__
from agent.sources.kubernetes_access import Access, Pace
from agent.supervise import Blind

PIECE = 64 * 1024
"""Bytes of an answer that are read at once."""
CUT = (aiohttp.ClientPayloadError, aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
"""What reading an answer raises when its connection is cut."""

_LONGEST_EVENT = 8 * 2**20
_LONGEST_FILE = 2**20


class Gone(Blind):
    """410: the API server does not remember so far back."""


@contextlib.asynccontextmanager
async def connected(access: Access, pace: Pace) -> AsyncIterator["Client"]:
    """Yield a client, and close its connections in the end."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=2),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=pace.connect, sock_connect=pace.connect),
        # Not compressed: a list that grows a thousandfold when it is unpacked is none of ours.
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"coroner/{__version__}"},
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield Client(session, access, pace)


class Client:
    """Asks one API. Whatever goes wrong is told as Blind, with its remedy."""

    def __init__(self, session: aiohttp.ClientSession, access: Access, pace: Pace) -> None:
        self._session = session
        self._access = access
        self._pace = pace
        self._authority: tuple[bytes, ssl.SSLContext] | None = None

    def url(self, path: str) -> str:
        """Return what a message calls the request."""
        return f"{self._access.url}{path}"

    @contextlib.asynccontextmanager
    async def get(self, path: str, parameters: Mapping[str, str], then: float | None = None) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask, and hand out the answer while it is read: all of it in time, or its head in time and `then` seconds more for the rest."""
        with self._explained(path):
            async with asyncio.timeout(self._pace.answer) as deadline:
                async with self._asked(path, parameters) as response:
                    if then is not None:
                        deadline.reschedule(asyncio.get_running_loop().time() + then)
                    yield response

    @contextlib.asynccontextmanager
    async def _asked(self, path: str, parameters: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        # The files are read for each request: the kubelet replaces the token about hourly, and reading it costs less than minding it.
        # A token that is refused nevertheless may have been replaced between the two.
        async with self._request(path, parameters) as response:
            if response.status != 401:
                self._check(path, response.status)
                yield response
                return
        async with self._request(path, parameters) as response:
            self._check(path, response.status)
            yield response

    def _request(self, path: str, parameters: Mapping[str, str]) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.get(
            self.url(path),
            params=parameters,
            headers={"Authorization": f"Bearer {self._token()}"},
            ssl=False if self._access.skip_verify else self._trust(),
            allow_redirects=False,
        )

    def _token(self) -> str:
        path = self._access.token_file
        raw = _read(path, "the pod needs automountServiceAccountToken: true, or set --kubernetes.token-file").strip()
        if not re.fullmatch(rb"[!-~]+", raw):
            raise Blind(f"{path}: no token in it; it is one word of ASCII characters")
        return raw.decode()

    def _trust(self) -> ssl.SSLContext:
        path = self._access.ca_file
        raw = _read(path, "it comes with a service account's token, or set --kubernetes.ca-file")
        if self._authority is None or self._authority[0] != raw:
            # As Go verifies, which made the certificates: any that is given is trusted, also if another has signed it. Not
            # create_default_context, whose strictness since Python 3.13 refuses the authority of many clusters (EKS, kubeadm).
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            try:
                context.load_verify_locations(cadata=raw.decode("ascii"))
            except (ssl.SSLError, ValueError) as error:
                raise Blind(f"{path}: no certificate in it ({error}); set --kubernetes.ca-file to the authority's, in PEM") from error
            self._authority = raw, context
        return self._authority[1]

    def _check(self, path: str, status: int) -> None:
        if status == 200:
            return
        is_kubelet = self._access.mode == "kubelet"
        match status:
            case 401:
                remedy = f"the token in {self._access.token_file} is not accepted: is it of this cluster, and still valid?"
                remedy += " The kubelet must ask the API server about it (authentication.webhook.enabled)" if is_kubelet else ""
            case 403 if is_kubelet:
                remedy = (
                    "the agent's service account needs `get` on `nodes/pods` (a ClusterRole); before Kubernetes 1.33 the kubelet asks for "
                    "nodes/proxy, which is too much to grant: use --kubernetes.source=apiserver there"
                )
            case 403:
                remedy = "the agent's service account needs `list` and `watch` on `pods` (a ClusterRole)"
            case 410:
                raise Gone(f"{self.url(path)}: answered 410")
            case _ if 300 <= status < 400:
                remedy = "redirects are not followed, the token would go with them: give the address it leads to"
            case _:
                remedy = f"see the log of the {self._what}"
        raise Blind(f"{self.url(path)}: answered {status}; {remedy}")

    @property
    def _what(self) -> str:
        return "kubelet" if self._access.mode == "kubelet" else "API server"

    @contextlib.contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        url = self.url(path)
        where = " (NODE_IP, or --kubernetes.kubelet-url)" if self._access.mode == "kubelet" else " (KUBERNETES_SERVICE_HOST)"
        try:
            yield
        except aiohttp.ClientSSLError as error:
            remedy = "--kubernetes.ca-file must be of the authority that signed its certificate"
            if self._access.mode == "kubelet":
                remedy += (
                    ". A kubelet signs its own unless it has serverTLSBootstrap: true; else use --kubernetes.source=apiserver, or "
                    "--kubernetes.kubelet-insecure-skip-verify"
                )
            raise Blind(f"{url}: the certificate of the {self._what} is not accepted: {_reason(error)}; {remedy}") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise Blind(
                f"{url}: no connection within {self._pace.connect:g} s; is this the {self._what}'s address{where}, and may the agent "
                "reach it (NetworkPolicy, firewall)?"
            ) from error
        except TimeoutError as error:
            raise Blind(f"{url}: no complete answer in time; the {self._what} hangs") from error
        except aiohttp.ClientConnectorError as error:
            raise Blind(f"{url}: {_reason(error)}; is the {self._what} running, and is this its address{where}?") from error
        except aiohttp.ClientError as error:
            raise Blind(f"{url}: the answer was cut or is not HTTP ({type(error).__name__}); is this the {self._what}'s port?") from error


def _reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    number = error.os_error.errno or 0
    return os.strerror(number).lower() if number in errno.errorcode else str(error.os_error)


def _read(path: str, remedy: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST_FILE)
    except OSError as error:
        raise Blind(f"{path}: {error.strerror}; {remedy}") from error


async def lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield complete lines; what is left at the end was cut off, and comes again. Raises ValueError for one that does not end."""
    buffer = bytearray()
    async for piece in stream.iter_chunked(PIECE):
        *lines, rest = piece.split(b"\n")
        for line in lines:
            yield bytes(buffer + line)
            buffer.clear()
        buffer += rest
        if len(buffer) > _LONGEST_EVENT:
            raise ValueError(f"one is longer than {_LONGEST_EVENT} bytes")
