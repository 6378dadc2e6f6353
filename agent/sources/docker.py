"""Docker, or what speaks its API: a list, then its events, each over the Engine API by the docker SDK in a thread of its own.

The SDK blocks, so nothing here is ever awaited by a scrape: the thread hands messages to the loop, which tells what they say
(docker_facts.py).
"""

import asyncio
import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from agent.identities import KnownIdentities, Listed, is_digest
from agent.inotify import appearance
from agent.sources import Tell
from agent.sources.docker_facts import (
    EVENTS,
    IDENTIFIER,
    SOURCE,
    facts_of_container,
    facts_of_event,
    id_of_event,
    identities_of,
    image_of,
    nanoseconds_of,
)
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
        tell: Tell,
        identities: KnownIdentities,
        connect: Connect | None = None,
        window: float = WINDOW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Make it; `clock` is the identities', `wall` the daemon's: seconds since 1970."""
        # Where nobody asked for Docker, and it is not here, its absence is no trouble.
        self.status = Status(SOURCE, optional=url == DEFAULT_URL and not os.path.exists(DEFAULT_URL.removeprefix("unix://")))
        self._url = url
        self._tell = tell
        self._identities = identities
        self._connect = connect or _connect
        self._window = window
        self._clock, self._wall = clock, wall
        self._since = _timestamp(int(wall() * 1e9))
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
        listener = _Listener(
            connect=self._connect,
            url=self._url,
            since=self._since,
            window=self._window,
            post=_poster(loop, messages),
            wall=self._wall,
        )
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
            self._tell(Listed(SOURCE, identities_of(content, self._clock())))
            self.status.up()
        elif kind == "look":
            for change in facts_of_container(content):
                self._tell(change)
        else:
            nanoseconds = nanoseconds_of(content)
            self._since = self._since if nanoseconds is None else _timestamp(nanoseconds)
            for fact in facts_of_event(content, clock=self._clock(), wall=self._wall()):
                self._tell(fact)


class _Listener:
    """The thread. Everything in it may block; it ends when its stream is closed under it."""

    def __init__(
        self,
        *,
        connect: Connect,
        url: str,
        since: str,
        window: float,
        post: Callable[[Message], None],
        wall: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._url = url
        self._since = since
        self._window = window
        self._post = post
        self._wall = wall
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
        now = int(self._wall() * 1e9)
        # A clock that was set back would ask for events of the future only, which Docker refuses.
        since = min(self._since, _timestamp(now), key=float)
        # The stream is opened before the list is asked for: what happens between the two is then an event, not a gap.
        self._stream = client.events(  # type: ignore[call-overload] # the API takes fractions of a second, its stubs do not
            since=since,
            until=_timestamp(now + int(self._window * 1e9)),
            filters={"type": ["container"], "event": list(EVENTS)},
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
                if not isinstance(event, dict):
                    continue
                self._since = _timestamp(nanoseconds_of(event) or int(self._wall() * 1e9))
                self._post(("event", event))
                if answers and event.get("Action") == "die":  # and nothing else tells whether Docker will start it again
                    answers = self._look(client, id_of_event(event))

    def _look(self, client: "APIClient", identifier: str) -> bool:
        """Inspect a container; false if there was no answer in time. It is not asked for its image again."""
        from docker.errors import APIError

        if not IDENTIFIER.fullmatch(identifier):
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
        self._images[identifier] = image_of(container)
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


def _timestamp(nanoseconds: int) -> str:
    """Spell a time as the Engine API wants it: seconds, a dot, nine digits."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
