"""Docker, or what speaks its API: lists and events (docker_listener.py), and inspections of what they leave open (docker_looks.py).

Both come from threads, for the docker SDK blocks. Here, in the loop, what they say is told (docker_facts.py, docker_inspect.py), and
decided who is to be inspected (docker_lives.py).
"""

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.identities import Amended, KnownIdentities, Listed, is_digest
from agent.inotify import appearance
from agent.sources import Tell
from agent.sources.docker_execs import command_of, probe_of
from agent.sources.docker_facts import SOURCE, facts_of_event, id_of_event, identities_of, nanoseconds_of
from agent.sources.docker_inspect import facts_of_container, image_of, is_restarting, key_of
from agent.sources.docker_listener import Connect, Connected, Containers, Event, Failed, Inspected, Listener, Message, timestamp
from agent.sources.docker_lives import MOST_DEAD, Lives, Look
from agent.sources.docker_looks import LOOK_SECONDS, Looks
from agent.sources.docker_url import DEFAULT_URL
from agent.status import Status
from agent.supervise import LONGEST_DELAY_SECONDS, Blind, rest
from collectors.base import Sample
from collectors.inquest.execs import Execs
from collectors.kernel.container_id import ContainerKey

if TYPE_CHECKING:
    from docker import APIClient

WINDOW_SECONDS = 60
"""An event stream is asked for in windows: a full list follows each, which finds what was missed, and a daemon that hangs is noticed."""

_PATIENCE_SECONDS = 15

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
        execs: Execs | None = None,
        connect: Connect | None = None,
        window: float = WINDOW_SECONDS,
        since: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Make it; `execs` is told of exec sessions. `clock` is the identities', `wall` the daemon's: seconds since 1970.

        Events are asked for from `since` on, by the same clock, as far as the daemon remembers them (256); from now on if it is not given.
        """
        # Where nobody asked for Docker, and it is not here, its absence is no trouble.
        self.status = Status(SOURCE, optional=url == DEFAULT_URL and not os.path.exists(DEFAULT_URL.removeprefix("unix://")))
        self._url = url
        self._tell = tell
        self._identities = identities
        self._connect = connect or _connect
        self._window = window
        self._clock, self._wall = clock, wall
        self._since = timestamp(int(min(wall(), wall() if since is None else since) * 1e9))
        self._lives = Lives()
        self._execs = execs or Execs(identities.lives)
        self._is_podman = False
        self._looks: Looks | None = None
        self._images: dict[ContainerKey, str] = {}
        """Of containers of which a list says no more than the digest; "" while it is not known."""
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
        messages: asyncio.Queue[Message] = asyncio.Queue()
        post = _poster(asyncio.get_running_loop(), messages)
        listener = Listener(connect=self._connect, url=self._url, since=self._since, window=self._window, post=post, wall=self._wall)
        listener.start()
        try:
            while True:
                async with asyncio.timeout(self._window + _PATIENCE_SECONDS):
                    message = await messages.get()
                match message:
                    case Failed():
                        raise self._blind(message.reason)
                    case Connected():
                        self._lives.connected(tells_stops=not message.is_podman)
                        self._is_podman = message.is_podman
                        client = partial(self._connect, base_url=self._url, version=message.version, timeout=LOOK_SECONDS)
                        self._looks = Looks(connect=client, post=post)
                    case _:
                        self._take(message)
        except TimeoutError as error:
            raise Blind(f"{self._url}: no answer for {self._window + _PATIENCE_SECONDS:.0f} s; the daemon hangs") from error
        finally:
            listener.stop()
            if self._looks is not None:
                self._looks.stop()

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

    def _take(self, message: Containers | Event | Inspected) -> None:
        match message:
            case Containers():
                self._list(message)
            case Event():
                self._happen(message.content)
            case Inspected():
                self._inspect(message)

    def _list(self, message: Containers) -> None:
        # Of an image whose tag was moved to another one since, a list gives only the digest.
        digests = {key: row for row in message.rows if (key := key_of(row)) is not None and is_digest(str(row.get("Image")))}
        self._images = {key: image for key, image in self._images.items() if key in digests}
        for key, image in self._images.items():
            digests[key]["Image"] = image or digests[key]["Image"]
        self._tell(Listed(SOURCE, identities_of(message.rows, self._clock())))
        self.status.up()
        follows = self._lives.listed(message.rows, message.opened, is_gap=message.is_gap)
        for fact in follows.watched:
            self._tell(fact)
        if follows.passed_over:
            log.info("more containers ended than are asked for: not of the oldest", extra={"asked": MOST_DEAD, "not": follows.passed_over})
        for look in follows.looks:
            self._look(look)
        for key in digests.keys() - self._images.keys():
            self._look(Look(key))

    def _happen(self, event: Mapping[str, Any]) -> None:
        nanoseconds = nanoseconds_of(event)
        self._since = self._since if nanoseconds is None else timestamp(nanoseconds)
        if (command := command_of(event)) is not None:  # most events are these
            self._execs.start(ContainerKey(id_of_event(event)), command, nanoseconds or 0)
            return
        wall, event = self._wall(), self._lives.believed(event)
        for fact in facts_of_event(event, clock=self._clock(), wall=wall):
            self._tell(fact)
        watched, look = self._lives.happened(event, wall if nanoseconds is None else nanoseconds / 10**9)
        for each in watched:
            self._tell(each)
        if look is not None:
            self._look(look)

    def _look(self, look: Look) -> None:
        self._images.setdefault(look.container, "")  # nobody is asked for it again
        if self._looks is not None:
            self._looks.ask(look)

    def _inspect(self, message: Inspected) -> None:
        key = key_of(message.content)
        if key is None:
            return
        image, known = image_of(message.content), self._identities.known.get(key)
        self._images[key] = image
        if image and (known is None or known.image != image):
            self._tell(Amended(SOURCE, key, {"image": image}))
        self._lives.inspected(message.content)
        if not self._is_podman:  # whose exec sessions nobody counts: no number, and no 0
            self._execs.know(key, probe_of(message.content))
        if is_restarting(message.content) and self._lives.has_ended(key):  # and was not started meanwhile
            self._tell(Amended(SOURCE, key, {"state": "restarting", "ended": None}))
        for fact in facts_of_container(message.content, wall=self._wall(), since=message.since):
            self._tell(fact)


def _connect(**options: Any) -> "APIClient":
    """Connect by the docker SDK. With what it imports it holds 4 MiB: not before there is a daemon to ask."""
    from agent.sources.docker_sdk import APIClient

    return APIClient(**options)


def _poster(loop: asyncio.AbstractEventLoop, messages: asyncio.Queue[Message]) -> Callable[[Message], None]:
    def post(message: Message) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the agent is stopping
            loop.call_soon_threadsafe(messages.put_nowait, message)

    return post
