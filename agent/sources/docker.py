"""Names from Docker: a list, then its events, each over the Engine API by the docker SDK in a thread of its own.

The SDK blocks, so nothing here is ever awaited by a scrape: the thread hands messages to the loop, the loop writes the identities.
"""

import asyncio
import contextlib
import errno
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from agent.identities import Identities, Identity, is_digest
from agent.inotify import appearance
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS, Blind, rest
from agent.words import in_words
from collectors.base import Sample
from collectors.kernel.container_id import ContainerKey

if TYPE_CHECKING:
    from docker import APIClient

WINDOW_SECONDS = 60
"""An event stream is asked for in windows: a full list follows each, which finds what was missed, and a daemon that hangs is noticed."""

_PATIENCE_SECONDS = 15
_ANSWER_SECONDS = 60
"""Podman asks its package manager for its own version, which takes longer than 10 s on a slow machine, and each time anew."""
_LOOK_SECONDS = 3
"""A daemon answers for a container that is stuck when that lets go of it, which may be never, and for all others meanwhile."""
_STATE_AFTER = {"create": "created", "start": "running", "unpause": "running", "pause": "paused"}
# Podman filters its events by its own words for them, died and remove, and may tell them in either.
_END_AFTER = {"die": "exited", "died": "exited", "destroy": "removed", "remove": "removed"}
_IDENTIFIER = re.compile("[0-9a-f]{64}")
_KUBERNETES_NAME = re.compile("[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_POD_UID = re.compile("[0-9A-Za-z-]{1,64}")

DEFAULT_URL = "unix:///var/run/docker.sock"

Message = tuple[str, Any]
Connect = Callable[..., "APIClient"]

log = logging.getLogger(__name__)


class DockerSource:
    """Follows one Docker daemon (or what speaks its API)."""

    longest_rest = LONGEST_DELAY_SECONDS

    def __init__(
        self,
        *,
        url: str,
        identities: Identities,
        connect: Connect | None = None,
        window: float = WINDOW_SECONDS,
    ) -> None:
        # Where nobody asked for Docker, and it is not here, its absence is no trouble.
        self.status = Status("docker", optional=url == DEFAULT_URL and not os.path.exists(DEFAULT_URL.removeprefix("unix://")))
        self._url = url
        self._identities = identities
        self._connect = connect or _connect
        self._window = window
        self._since = _timestamp(time.time_ns())
        self._wanted = asyncio.Event()
        identities.when_heard(self._hear)

    async def rest(self, seconds: float) -> None:
        """Wait before the next try, but a second only if the socket appears or a container is born that nobody has named."""
        self._wanted.clear()
        with appearance(self._url.removeprefix("unix://"), self._wanted.set):
            await rest(seconds, self._wanted)

    def samples(self) -> Iterable[Sample]:
        """Yield nothing: its status is all that is measured."""
        return ()

    async def follow(self) -> None:
        """List, then listen, until the daemon stops answering. Raises Blind."""
        if self._is_absent():  # no thread and no connection for a node that has no Docker
            raise self._blind(os.strerror(errno.ENOENT))
        loop = asyncio.get_running_loop()
        messages: asyncio.Queue[Message] = asyncio.Queue()
        listener = _Listener(self._connect, self._url, self._since, self._window, _poster(loop, messages))
        listener.start()
        try:
            while True:
                async with asyncio.timeout(self._window + _PATIENCE_SECONDS):
                    kind, content = await messages.get()
                if kind == "failed":
                    raise self._blind(content)
                self._take(kind, content)
        except TimeoutError as error:
            raise Blind(f"{self._url}: no answer for {self._window + _PATIENCE_SECONDS:.0f} s; the daemon hangs") from error
        finally:
            listener.stop()

    def _blind(self, reason: str) -> Blind:
        return Blind(f"{self._url}: {reason}; is the daemon running, and may the agent use its socket? --docker.url= switches it off")

    def _is_absent(self) -> bool:
        try:
            os.stat(self._url.removeprefix("unix://"))
        except OSError as error:  # another one, such as a directory that may not be entered, is told better by who connects
            return self._url.startswith("unix:///") and error.errno == errno.ENOENT
        return False

    def _hear(self, key: ContainerKey) -> None:
        identity = self._identities.known.get(key)
        if identity is None or not identity.name:
            self._wanted.set()

    def _take(self, kind: str, content: Any) -> None:
        if kind == "list":
            self._identities.resync(self.status.source, dict(_listed(content)))
            self.status.up()
        elif kind == "look":
            self._looked(content)
        else:
            self._since = _timestamp(content.get("timeNano", 0)) if content.get("timeNano") else self._since
            self._event(content)

    def _event(self, event: Mapping[str, Any]) -> None:
        actor = event.get("Actor") or {}
        identifier, attributes, action = ContainerKey(actor.get("ID")), actor.get("Attributes") or {}, event.get("Action")
        if not _IDENTIFIER.fullmatch(identifier):
            return
        if action in _STATE_AFTER:
            identity = _identity(attributes.get("name"), attributes.get("image"), _STATE_AFTER[action], attributes)
            self._identities.put(self.status.source, {identifier: identity})
        elif action == "rename":
            name, is_sandbox, pod_uid = _called(attributes.get("name"), attributes)
            self._identities.amend(self.status.source, identifier, name=name, is_sandbox=is_sandbox, pod_uid=pod_uid)
        elif action in _END_AFTER:
            self._identities.end(self.status.source, identifier, _END_AFTER[action])

    def _looked(self, container: Mapping[str, Any]) -> None:
        """Take what `docker inspect` alone tells: that a container waits to be started again, and the image that it was made from."""
        identifier, state = ContainerKey(container.get("Id")), container.get("State")
        if isinstance(state, dict) and state.get("Status") == "restarting":
            self._identities.amend(self.status.source, identifier, state="restarting", ended=None)
        if image := _image(container):
            self._identities.amend(self.status.source, identifier, image=image)


class _Listener:
    """The thread. Everything in it may block; it ends when its stream is closed under it."""

    def __init__(self, connect: Connect, url: str, since: str, window: float, post: Callable[[Message], None]) -> None:
        self._connect = connect
        self._url = url
        self._since = since
        self._window = window
        self._post = post
        self._stopped = threading.Event()
        self._stream: Any = None
        self._images: dict[str, str] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, name="docker", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        with contextlib.suppress(Exception):  # whatever state the connection is in, it is not needed any more
            self._stream.close()

    def _run(self) -> None:
        try:
            # Without a version the SDK asks the daemon for one: a pinned one breaks when Docker raises its minimum.
            with contextlib.closing(self._connect(base_url=self._url, timeout=_ANSWER_SECONDS)) as client:
                while not self._stopped.is_set():
                    self._listen(client)
                    self._stopped.wait(0.5)  # a daemon whose clock is ahead ends every window at once
        except Exception as error:  # the SDK raises requests', urllib3's, json's and its own errors
            log.debug("docker failed", exc_info=error)
            self._post(("failed", _reason(error)))

    def _listen(self, client: "APIClient") -> None:
        now = time.time_ns()
        # A clock that was set back would ask for events of the future only, which Docker refuses.
        since = min(self._since, _timestamp(now), key=float)
        # The stream is opened before the list is asked for: what happens between the two is then an event, not a gap.
        self._stream = client.events(  # type: ignore[call-overload] # the API takes fractions of a second, its stubs do not
            since=since,
            until=_timestamp(now + int(self._window * 1e9)),
            filters={"type": ["container"], "event": [*_STATE_AFTER, "rename", *_END_AFTER]},
            decode=True,
        )
        with contextlib.closing(self._stream):
            containers = client.containers(all=True)
            # Of an image whose tag was moved to another one since, a list gives only the digest.
            digests = {str(each.get("Id")): each for each in containers if is_digest(str(each.get("Image")))}
            self._images = {identifier: image for identifier, image in self._images.items() if identifier in digests}
            for identifier, image in self._images.items():
                digests[identifier]["Image"] = image or digests[identifier]["Image"]
            self._post(("list", containers))
            answers = True  # if not, the others are looked at in the next window: events wait meanwhile
            for identifier in digests.keys() - self._images.keys():
                answers = answers and self._look(client, identifier)
            for event in self._stream:
                self._since = _timestamp(event.get("timeNano", time.time_ns()))
                self._post(("event", event))
                if answers and event.get("Action") == "die":  # and nothing else tells whether Docker will start it again
                    answers = self._look(client, str((event.get("Actor") or {}).get("ID")))

    def _look(self, client: "APIClient", identifier: str) -> bool:
        """Inspect a container; false if there was no answer in time. It is not asked for its image again."""
        from docker.errors import APIError

        if not _IDENTIFIER.fullmatch(identifier):
            return True
        self._images.setdefault(identifier, "")
        client.timeout = _LOOK_SECONDS
        try:
            container = client.inspect_container(identifier)
        except APIError:  # it was removed meanwhile
            return True
        except OSError:  # so all of the SDK's and requests' errors are
            return False
        finally:
            client.timeout = _ANSWER_SECONDS
        self._images[identifier] = _image(container)
        self._post(("look", container))
        return True


def _connect(**options: Any) -> "APIClient":
    """Connect by the docker SDK. With what it imports it holds 12 MiB: not before there is a daemon to ask."""
    from docker import APIClient

    return APIClient(**options)


def _reason(error: Exception) -> str:
    """Say in words why the daemon could not be asked; the SDK wraps its own refusal of a version once more."""
    from docker.errors import APIError

    answer = error if isinstance(error, APIError) else error.__cause__
    if isinstance(answer, APIError):
        return f"answered {answer.status_code}: {answer.explanation or 'nothing more'}"
    return in_words(error) or "the answer is not one of Docker's (--log.level=debug logs it)"


def _poster(loop: asyncio.AbstractEventLoop, messages: asyncio.Queue[Message]) -> Callable[[Message], None]:
    def post(message: Message) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the agent is stopping
            loop.call_soon_threadsafe(messages.put_nowait, message)

    return post


def _listed(containers: list[dict[str, Any]]) -> Iterator[tuple[ContainerKey, Identity]]:
    for container in containers:
        identifier = ContainerKey(container.get("Id"))
        if not _IDENTIFIER.fullmatch(identifier):
            continue
        # A container that others link to is listed under those names as well; its own is the one without a second slash.
        names = [name.removeprefix("/") for name in container.get("Names") or () if isinstance(name, str)]
        own = next((name for name in names if "/" not in name), names[0] if names else None)
        state = str(container.get("State"))
        yield identifier, _identity(own, container.get("Image"), state, container.get("Labels") or {})


def _image(container: Mapping[str, Any]) -> str:
    config = container.get("Config")
    return str(config.get("Image") or "") if isinstance(config, dict) else ""


def _identity(name: object, image: object, state: str, labels: Mapping[str, Any]) -> Identity:
    has_ended = state in ("exited", "dead")
    called, is_sandbox, pod_uid = _called(name, labels)
    return Identity(
        name=called,
        image=str(image or ""),
        runtime="docker",
        state=state,
        seen_alive=not has_ended and state != "created",
        ended=time.monotonic() if has_ended else None,
        is_sandbox=is_sandbox,
        pod_uid=pod_uid,
        project=str(labels.get("com.docker.compose.project", "")),
        service=str(labels.get("com.docker.compose.service", "")),
    )


def _called(name: object, labels: Mapping[str, Any]) -> tuple[tuple[str, ...], bool, str]:
    """Return what a container is called, whether it is a pod's sandbox, and the pod's uid.

    cri-dockerd labels what it makes, and calls it k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT. An image may have any labels, but it does not
    give its containers a name: so the labels are believed where the name says the same.
    """
    if not isinstance(name, str) or not name:
        return (), False, ""
    pod, namespace, uid = (labels.get(f"io.kubernetes.pod.{part}") for part in ("name", "namespace", "uid"))
    container = labels.get("io.kubernetes.container.name")
    is_sandbox = labels.get("io.kubernetes.docker.type") == "podsandbox"
    if not name.startswith(f"k8s_{'POD' if is_sandbox else container}_{pod}_{namespace}_{uid}_") or not _POD_UID.fullmatch(str(uid)):
        return ("", "", name), False, ""
    parts = (str(namespace), str(pod), "pod" if is_sandbox else str(container))
    if not all(map(_KUBERNETES_NAME.fullmatch, parts)):
        return ("", "", name), False, ""
    return (*parts[:2], "" if is_sandbox else parts[2]), is_sandbox, str(uid)


def _timestamp(nanoseconds: int) -> str:
    """Spell a time as the Engine API wants it: seconds, a dot, nine digits."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
