"""Names from Kubernetes: the kubelet's list of pods, polled, or the API server's, watched. Plain HTTPS, no client library.

They tell what the runtime does not know: the pod's labels, the workload it belongs to, which container is a sidecar, how often one was
restarted, how the last one ended, and that a pod is being deleted. The kubelet needs `get` on `nodes/pods` (never `nodes/proxy`, which
is a shell in every pod of the node), the API server `list` and `watch` on `pods`.
"""

import asyncio
import contextlib
import errno
import json
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import Literal

import aiohttp

from agent import __version__
from agent.directory import KEEP_DEAD_SECONDS, Directory, Entry
from agent.sources.pods import PodList, entries_of, uid_of, version_of
from agent.status import Status
from agent.supervise import Blind

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds the token of its service account, and the certificate of the cluster's authority."""

SOURCES = ("auto", "kubelet", "apiserver", "files", "none")

_PIECE = 64 * 1024
_LONGEST_EVENT = 8 * 2**20
_LONGEST_FILE = 2**20
_SOUGHT_MOST = 1000
_TRIES = 4
"""How often an id nobody knows is asked for before it waits for the next poll: the kubelet itself hears of a container seconds late."""


@dataclass(frozen=True, slots=True)
class Access:
    """Which API is asked, and as whom."""

    mode: Literal["kubelet", "apiserver"]
    url: str
    node_name: str = ""
    """Whose pods the API server is asked for."""
    token_file: str = f"{ACCOUNT}/token"
    ca_file: str = f"{ACCOUNT}/ca.crt"
    skip_verify: bool = False
    """Believe any certificate of the kubelet."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What --kubernetes.source comes to on this node. `access` only for the two APIs, and if there are no `problems`."""

    source: str
    reason: str = ""
    access: Access | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pace:
    """How long each thing may take, in seconds."""

    poll: float = 10.0
    seek: float = 2.0
    """The least time between two requests, however many ids are looked for."""
    connect: float = 5.0
    answer: float = 10.0
    watch: float = 120.0
    """The API server is asked to end a watch after this; a longer one makes no difference but to how late a hang is noticed."""
    patience: float = 15.0
    again: float = 1.0
    """The least time between the starts of two watches."""


def choose(
    source: str,
    environ: Mapping[str, str],
    *,
    node_name: str = "",
    kubelet_url: str = "",
    token_file: str = "",
    ca_file: str = "",
    skip_verify: bool = False,
    exists: Callable[[str], bool] = os.path.exists,
) -> Choice:
    """Decide which source of names is used, from the settings (empty: not set) and what the node tells the agent's container."""
    token_file, ca_file = token_file or f"{ACCOUNT}/token", ca_file or f"{ACCOUNT}/ca.crt"
    node_name = node_name or environ.get("NODE_NAME", "")
    node_ip, api_host = environ.get("NODE_IP", ""), environ.get("KUBERNETES_SERVICE_HOST", "")
    api_port = environ.get("KUBERNETES_SERVICE_PORT_HTTPS") or environ.get("KUBERNETES_SERVICE_PORT") or "443"
    kubelet_url = kubelet_url.rstrip("/") or (f"https://{_host(node_ip)}:10250" if node_ip else "")
    accesses = {
        "kubelet": Access("kubelet", kubelet_url, node_name, token_file, ca_file, skip_verify),
        "apiserver": Access("apiserver", f"https://{_host(api_host)}:{api_port}", node_name, token_file, ca_file),
    }
    wants = {
        "kubelet": {"NODE_IP in the environment (downward API: status.hostIP), or kubernetes.kubelet-url": kubelet_url},
        "apiserver": {
            "KUBERNETES_SERVICE_HOST in the environment, as every pod has it": api_host,
            "NODE_NAME in the environment (downward API: spec.nodeName), or kubernetes.node-name": node_name,
        },
    }
    problems = [f"kubernetes.source: got {source}, expected with it {want}" for want, there in wants.get(source, {}).items() if not there]
    if source in ("auto", "kubelet") and kubelet_url and not re.fullmatch(r"https://[^/?#@\s]+", kubelet_url):
        problems.append(f"kubernetes.kubelet-url: got {kubelet_url!r}, expected https://HOST:PORT; without TLS the token is anybody's")
    if problems:
        return Choice(source, problems=tuple(problems))
    if source == "auto":
        if not exists(token_file):
            return Choice("files", f"{token_file} is not there: not in a pod, or in one without automountServiceAccountToken")
        able = next((each for each, there in wants.items() if all(there.values())), None)
        if able is None:
            return Choice("files", "neither NODE_IP (status.hostIP) nor NODE_NAME (spec.nodeName) is in the environment")
        return Choice(able, "a service account's token and the address are there", accesses[able])
    return Choice(source, "as it was set", accesses.get(source))


def _host(address: str) -> str:
    try:
        return f"[{IPv6Address(address)}]"
    except ValueError:
        return address


class KubernetesSource:
    """Follows the pods of one node."""

    def __init__(
        self, *, access: Access, directory: Directory, status: Status, pod_labels: Collection[str] = (), pace: Pace | None = None
    ) -> None:
        self.status = status
        self._access = access
        self._directory = directory
        self._labels = pod_labels
        self._pace = pace or Pace()
        self._note = "any certificate of the kubelet is believed (--kubernetes.kubelet-insecure-skip-verify)" if access.skip_verify else ""
        self._began = time.monotonic()
        self._told: dict[str, Entry] = {}
        self._ids: dict[str, set[str]] = {}
        self._missed: dict[str, float] = {}
        self._sought: dict[str, int] = {}
        self._heard = asyncio.Event()
        self._version = ""
        self._list_version = "0"
        if access.mode == "kubelet":
            directory.when_heard(self._hear)

    async def follow(self) -> None:
        """Give the directory what the API tells until it does not answer. What it was told stays. Raises Blind."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=2),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._pace.connect, sock_connect=self._pace.connect),
            # Not compressed: a list that grows a thousandfold when it is unpacked is none of ours.
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"coroner/{__version__}"},
            auto_decompress=False,
            trust_env=False,
        ) as session:
            client = _Client(session, self._access, self._pace)
            await (self._poll(client) if self._access.mode == "kubelet" else self._watch_on(client))

    # The kubelet: polled, as it has no watch.

    async def _poll(self, client: "_Client") -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._heard.clear()
            asked = loop.time()
            pods, _ = await self._list(client, "/pods", {})
            self._tell_all(self._with_missed(pods))
            self.status.up(self._note)
            self._sought = {key: tries - 1 for key, tries in self._sought.items() if self._is_unknown(key)}
            seeking = any(tries > 0 for tries in self._sought.values())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(asked + (self._pace.seek if seeking else self._pace.poll)):
                    await self._heard.wait()
            await asyncio.sleep(asked + self._pace.seek - loop.time())

    def _hear(self, key: str) -> None:
        # One that was sought in vain, of no pod perhaps, stays there with no tries left. Of pods, an id is never one inside another.
        if self._is_unknown(key) and key not in self._sought and "/" not in key:
            if len(self._sought) >= _SOUGHT_MOST:
                self._sought.clear()
            self._sought[key] = _TRIES
            self._heard.set()

    def _is_unknown(self, key: str) -> bool:
        entry = self._directory.entries.get(key)
        return entry is None or not (entry.name or entry.is_sandbox)

    def _with_missed(self, pods: dict[str, dict[str, Entry]]) -> dict[str, dict[str, Entry]]:
        """Add what was told before and is missing for less than an interval between two polls.

        A kubelet that has just started lists only the pods it has been told of so far (https://github.com/kubernetes/kubernetes/issues/112119).
        """
        now = time.monotonic()
        listed = {key for entries in pods.values() for key in entries}
        self._missed = {key: self._missed.get(key, now) for key in self._told if key not in listed}
        late = {key for key, since in self._missed.items() if now - since < self._pace.poll}
        for uid, keys in self._ids.items():
            if kept := {key: self._told[key] for key in keys & late}:
                pods.setdefault(uid, {}).update(kept)
        return pods

    # The API server: one list, then a watch from where it stood.

    async def _watch_on(self, client: "_Client") -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            is_new = not self._version
            try:
                if is_new:
                    await self._relist(client)
                await self._watch(client)
            except _Gone:
                # What happened since is forgotten there. A list of version 0 may be as old, so the next one must be the newest.
                self._version, self._list_version = "", ""
                if is_new:
                    raise
            await asyncio.sleep(began + self._pace.again - loop.time())

    async def _relist(self, client: "_Client") -> None:
        # Version 0: from the API server's memory. Any other list makes it read all pods of the cluster from its database, for each node.
        parameters = {"fieldSelector": f"spec.nodeName={self._access.node_name}", "resourceVersion": self._list_version}
        pods, version = await self._list(client, "/api/v1/pods", {key: value for key, value in parameters.items() if value})
        if not version:
            raise Blind(f"{client.url('/api/v1/pods')}: a list of pods without a resourceVersion; is this a Kubernetes API server?")
        self._tell_all(pods)
        self._version, self._list_version = version, "0"

    async def _watch(self, client: "_Client") -> None:
        parameters = {
            "watch": "true",
            "fieldSelector": f"spec.nodeName={self._access.node_name}",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": f"{max(1, round(self._pace.watch))}",
        }
        async with client.get("/api/v1/pods", parameters, then=self._pace.watch + self._pace.patience) as response:
            self.status.up(self._note)
            try:
                # A cut is what the restart of an API server looks like, or a load balancer's impatience: it is resumed where it stood.
                with contextlib.suppress(aiohttp.ClientPayloadError, aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                    async for line in _lines(response.content):
                        self._event(line)
                        await asyncio.sleep(0)
            except (ValueError, RecursionError) as error:
                self._version = ""
                raise Blind(f"{client.url('/api/v1/pods')}: the answer is not a list of events: {error}") from error

    def _event(self, line: bytes) -> None:
        """Tell what an event says. Raises Blind if it says that the watch has failed, ValueError and RecursionError if it is not JSON."""
        event = json.loads(line)
        kind, pod = (event.get("type"), event.get("object")) if isinstance(event, dict) else (None, None)
        if kind == "ERROR":
            code = pod.get("code") if isinstance(pod, dict) else None
            self._version = ""
            raise (_Gone if code == 410 else Blind)(f"{self._access.url}: the watch failed with code {code!r}")
        uid = uid_of(pod)
        if uid and kind in ("ADDED", "MODIFIED", "DELETED"):
            now = self._now(self._entries(pod))
            before = self._ids.pop(uid, set())
            if kind == "DELETED":
                self._tell(now, gone=before | now.keys())
            else:
                self._ids[uid] = set(now)
                self._tell(now, gone=before - now.keys())
        self._version = version_of(pod) or self._version

    # Both.

    async def _list(self, client: "_Client", path: str, parameters: Mapping[str, str]) -> tuple[dict[str, dict[str, Entry]], str]:
        """Return the entries of all pods by the pod's uid, and the version of the list."""
        pods: dict[str, dict[str, Entry]] = {}
        reader = PodList()

        def take(found: Iterator[object]) -> None:
            for pod in found:
                pods.setdefault(uid_of(pod), {}).update(self._entries(pod))

        async with client.get(path, parameters) as response:
            try:
                async for piece in response.content.iter_chunked(_PIECE):
                    take(reader.feed(piece))
                    await asyncio.sleep(0)
                take(reader.finish())
            except (ValueError, RecursionError) as error:
                raise Blind(f"{client.url(path)}: the answer is not a list of pods: {error}") from error
        return pods, reader.resource_version

    def _entries(self, pod: object) -> dict[str, Entry]:
        return entries_of(pod, self._labels, clock=time.monotonic(), wall=time.time())

    def _tell_all(self, pods: Mapping[str, Mapping[str, Entry]]) -> None:
        """Tell a full list: what it lists no more is gone."""
        self._ids = {uid: set(entries) for uid, entries in pods.items()}
        now = self._now({key: entry for entries in pods.values() for key, entry in entries.items()})
        self._tell(now, gone=self._told.keys() - now.keys())

    def _now(self, entries: Mapping[str, Entry]) -> dict[str, Entry]:
        """Return the entries with what the directory knows already of the dead: a second telling makes no death younger, or unseen.

        Those of which it knows nothing lived and died between two lists, or before the agent came. They are left out if that is long ago:
        they are listed for as long as their pod is.
        """
        known = self._directory.entries
        now = time.monotonic()
        result = {}
        for key, entry in entries.items():
            told, before = self._told.get(key), known.get(key)
            if entry.ended is None:
                result[key] = entry
            elif told is not None and told.ended is not None:
                result[key] = replace(entry, ended=told.ended, seen_alive=told.seen_alive)
            elif before is not None:
                # The death of one that was alive is dated by this clock: the kubelet's is the wall's, which may be set.
                result[key] = replace(entry, ended=now if before.ended is None else before.ended, seen_alive=before.seen_alive)
            elif now - entry.ended <= KEEP_DEAD_SECONDS:
                is_dated = entry.last_termination is not None and entry.last_termination.finished_at is not None
                result[key] = replace(entry, seen_alive=is_dated and entry.ended >= self._began)
        return result

    def _tell(self, entries: Mapping[str, Entry], gone: Iterable[str]) -> None:
        """Give the directory what is new, at once: most of what is listed is what was listed before."""
        changes = {key: entry for key, entry in entries.items() if self._told.get(key) != entry}
        self._told.update(entries)
        now = time.monotonic()
        for key in gone:
            entry = self._told.pop(key, None)
            if entry is None or key not in self._directory.entries:
                continue  # another source told of its end, so long ago that it is forgotten
            if entry.ended is None:  # how it ended is not told; what is, is how the life before it did
                entry = replace(entry, last_termination=None, ended=now)
            changes[key] = replace(entry, state="removed")
        if changes:
            self._directory.put(self.status.source, changes)


class _Gone(Blind):
    """410: the API server does not remember so far back."""


class _Client:
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
                raise _Gone(f"{self.url(path)}: answered 410")
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


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield complete lines; what is left at the end was cut off, and comes again. Raises ValueError for one that does not end."""
    buffer = bytearray()
    async for piece in stream.iter_chunked(_PIECE):
        *lines, rest = piece.split(b"\n")
        for line in lines:
            yield bytes(buffer + line)
            buffer.clear()
        buffer += rest
        if len(buffer) > _LONGEST_EVENT:
            raise ValueError(f"one is longer than {_LONGEST_EVENT} bytes")
