"""A kubelet and an API server in one, on loopback over real TLS, that speak the documented JSON and can be told to misbehave."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import count
from typing import Any, Self

import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NODE = "node-1"
STARTED = "2026-11-22T01:00:00Z"

Json = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def status_of(container: str, identifier: str, *, restarts: int = 0, runtime: str = "containerd", **states: Json) -> Json:
    """Spell a v1.ContainerStatus: running, unless `state` or `lastState` say otherwise."""
    return {
        "name": container,
        "state": {"running": {"startedAt": STARTED}},
        "lastState": {},
        "ready": True,
        "restartCount": restarts,
        "image": "docker.io/library/img:1",
        "imageID": "docker.io/library/img@sha256:" + "0" * 64,
        "containerID": f"{runtime}://{identifier}",
        "started": True,
        **states,
    }


def terminated(code: int, reason: str, identifier: str, at: str = "2026-11-22T01:05:52Z", **more: Any) -> Json:
    """Spell a v1.ContainerState that has ended."""
    ended = {"exitCode": code, "reason": reason, "startedAt": STARTED, "finishedAt": at, "containerID": f"containerd://{identifier}"}
    return {"terminated": ended | more}


def owned_by(kind: str, name: str) -> Json:
    """Spell a v1.OwnerReference to a controller."""
    return {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "7", "controller": True, "blockOwnerDeletion": True}


def pod_of(name: str, *statuses: Json, namespace: str = "shop", **metadata: Any) -> Json:
    """Spell a v1.Pod with these containers. Its environment holds a secret, which must never be seen again."""
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "creationTimestamp": STARTED, **metadata},
        "spec": {
            "containers": [
                {"name": each["name"], "image": "img:1", "env": [{"name": "PASSWORD", "value": "hunter2"}], "args": ["--key=hunter2"]}
                for each in statuses
            ],
            "nodeName": NODE,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
        },
        "status": {"phase": "Running", "containerStatuses": list(statuses)},
    }


class PlainAuthority:
    """A certificate authority as old clusters have it: neither its certificate nor those it issues have key identifiers."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue_cert(self, host: str) -> trustme.LeafCert:
        """Issue a certificate for an address."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
        builder = self._builder(x509.Name([]), key).add_extension(name, critical=True)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return trustme.LeafCert(pem, certificate, [])

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))


class Kubernetes:
    """Pods, their versions and what happened to them; who may ask; who did, and what; and what is to be answered instead."""

    def __init__(self, authority: trustme.CA | PlainAuthority, host: str = "127.0.0.1") -> None:
        self.pods: dict[str, Json] = {}
        self.tokens = {"first"}
        self.instead: list[Answer] = []
        """Each answers one request in place of what should."""
        self.requests: list[web.Request] = []
        self.events: list[tuple[int, Json]] = []
        self.forgotten = 0
        """Watches from a version before this one are refused with 410, by `gone_as`."""
        self.gone_as = "status"
        self.stopped = asyncio.Event()
        self._versions = count(101)
        self._version = 100
        self._watches: dict[asyncio.Queue[Json | str], web.Request] = {}
        self._certificate = authority.issue_cert(host)
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        """Listen on any free port."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate.configure_cert(context)
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Go away."""
        self.stopped.set()
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()

    # What happens in the cluster.

    def put(self, pod: Json) -> Json:
        """Create or change a pod."""
        kind = "MODIFIED" if pod["metadata"]["name"] in self.pods else "ADDED"
        pod["metadata"]["resourceVersion"] = self._next()
        self.pods[pod["metadata"]["name"]] = pod
        self._happened({"type": kind, "object": pod})
        return pod

    def delete(self, name: str) -> None:
        """Delete a pod."""
        pod = self.pods.pop(name)
        pod["metadata"]["resourceVersion"] = self._next()
        self._happened({"type": "DELETED", "object": pod})

    def bookmark(self) -> str:
        """Tell the watches how far they are."""
        version = self._next()
        metadata = {"resourceVersion": version, "creationTimestamp": None}
        self.send({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"containers": None}}})
        return version

    def forget(self) -> None:
        """Compact: what happened up to now can be watched no more."""
        self._next()
        self.forgotten = self._version
        self.events.clear()

    def send(self, event: Json | str) -> None:
        """Send all watches an event, or these characters as they are."""
        for queue in self._watches:
            queue.put_nowait(event)

    def end(self) -> None:
        """End all watches as after timeoutSeconds."""
        self.send("end")

    def cut(self) -> None:
        """Cut the connections of all watches."""
        for request in self._watches.values():
            if request.transport is not None:
                request.transport.abort()
        self.send("end")

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def asked(self, path: str, *, watch: bool = False) -> list[dict[str, str]]:
        """Return the parameters of the requests so far."""
        return [dict(each.query) for each in self.requests if each.path == path and ("watch" in each.query) == watch]

    def _next(self) -> str:
        self._version = next(self._versions)
        return str(self._version)

    def _happened(self, event: Json) -> None:
        event = json.loads(json.dumps(event))
        self.events.append((self._version, event))
        self.send(event)

    # What is asked.

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.instead:
            return await self.instead.pop(0)(request)
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return web.Response(status=401, text="Unauthorized")
        if request.path == "/pods":
            return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(self.pods.values()) or None})
        if request.path == "/api/v1/pods" and request.query.get("fieldSelector") == f"spec.nodeName={NODE}":
            return await self._watch(request) if request.query.get("watch") == "true" else self._list()
        return web.Response(status=404, text="404 page not found")

    def _list(self) -> web.Response:
        metadata = {"resourceVersion": str(self._version)}
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": list(self.pods.values())})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        gone = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410}
        if since < self.forgotten and self.gone_as == "status":
            return web.json_response(gone, status=410)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        queue: asyncio.Queue[Json | str] = asyncio.Queue()
        for version, event in self.events:
            if version > since:
                queue.put_nowait(event)
        if since < self.forgotten:
            queue.put_nowait({"type": "ERROR", "object": gone})
            queue.put_nowait("end")
        self._watches[queue] = request
        try:
            await response.prepare(request)
            while (item := await queue.get()) != "end":
                await response.write(item.encode() if isinstance(item, str) else json.dumps(item).encode() + b"\n")
        finally:
            del self._watches[queue]
        return response

    # What may go wrong.

    async def hang(self, request: web.Request) -> web.StreamResponse:
        """Never answer."""
        await self.stopped.wait()
        return web.Response()

    async def dribble(self, request: web.Request) -> web.StreamResponse:
        """Answer with a list that goes on for ever, byte by byte."""
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"items": [')
        while not self.stopped.is_set():
            await response.write(b" ")
            await asyncio.sleep(0.01)
        return response

    async def flood(self, request: web.Request) -> web.StreamResponse:
        """Answer with pods without end, as fast as they are read."""
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"items": [{}')
        while not self.stopped.is_set():
            await response.write(b',{"metadata": {"uid": "x"}}' * 1000)
        return response

    async def stumble(self, request: web.Request) -> web.StreamResponse:
        """Cut the connection in the middle of the list."""
        response = web.StreamResponse()
        await response.prepare(request)
        body = json.dumps({"kind": "PodList", "items": list(self.pods.values())}).encode()
        await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.close()
        return response


def answer(status: int = 200, text: str = "", **headers: str) -> Answer:
    """Make an answer that is always the same."""

    async def give(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return give
