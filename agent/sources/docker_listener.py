"""The thread that listens to Docker: a list, then the events since, window after window, by the docker SDK.

The SDK blocks, so nothing here is ever awaited by a scrape: the thread hands messages to the loop.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.sources.docker_facts import DOCKERS_EVENTS, EVENTS, nanoseconds_of
from agent.words import in_words

if TYPE_CHECKING:
    from docker import APIClient

ANSWER_SECONDS = 60
"""Podman asks its package manager for its own version, which takes longer than 10 s on a slow machine, and each time anew."""

_EARLY_SECONDS = 1.0
"""A window that ends earlier than this before its time was ended by a daemon that shuts down, and may be another's next time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a daemon: the version of its API, and whether it is Podman, which never says that a container was asked to stop."""

    version: str
    is_podman: bool


@dataclass(frozen=True, slots=True)
class Containers:
    """A list of all containers, and when the events that follow it were subscribed to, seconds since 1970.

    `is_gap`: events before that may be lost.
    """

    rows: list[dict[str, Any]]
    opened: float
    is_gap: bool


@dataclass(frozen=True, slots=True)
class Event:
    """A line of its events, of which only this much is known."""

    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was answered when a container was inspected, whatever it may be; `since` is the look's."""

    content: object
    since: float | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The daemon cannot be asked any more."""

    reason: str


Message = Connected | Containers | Event | Inspected | Failed
Connect = Callable[..., "APIClient"]


class Listener:
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
        """Make it; events are asked for from `since` on, as the API spells times, for `window` seconds and then again."""
        self._connect = connect
        self._url = url
        self._since = since
        self._window = window
        self._post = post
        self._wall = wall
        self._events: list[str] = []
        self._stopped = threading.Event()
        self._stream: Any = None

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._run, name="docker", daemon=True).start()

    def stop(self) -> None:
        """End, whatever is being waited for."""
        self._stopped.set()
        with contextlib.suppress(Exception):  # whatever state the connection is in, it is not needed any more
            self._stream.close()

    def _run(self) -> None:
        try:
            # Without a version the SDK asks the daemon for one: a pinned one breaks when Docker raises its minimum.
            with contextlib.closing(self._connect(base_url=self._url, timeout=ANSWER_SECONDS)) as client:
                with client.get(f"{client.base_url}/_ping", timeout=ANSWER_SECONDS) as pong:
                    is_podman = "Libpod-API-Version" in pong.headers
                self._post(Connected(str(client.api_version), is_podman))
                self._events = [*EVENTS, *(() if is_podman else DOCKERS_EVENTS)]
                is_gap = True
                while not self._stopped.is_set():
                    end = time.monotonic() + self._window
                    self._listen(client, is_gap=is_gap)
                    is_gap = time.monotonic() < end - _EARLY_SECONDS
                    self._stopped.wait(0.5)  # a daemon whose clock is ahead ends every window at once
        except Exception as error:  # the SDK raises requests', urllib3's, json's and its own errors
            log.debug("docker failed", exc_info=error)
            self._post(Failed(_reason(error)))

    def _listen(self, client: "APIClient", *, is_gap: bool) -> None:
        now = self._wall()
        # A clock that was set back would ask for events of the future only, which Docker refuses.
        since = min(self._since, timestamp(int(now * 1e9)), key=float)
        # The stream is opened before the list is asked for: what happens between the two is then an event, not a gap.
        self._stream = client.events(  # type: ignore[call-overload] # the API takes fractions of a second, its stubs do not
            since=since,
            until=timestamp(int((now + self._window) * 1e9)),
            filters={"type": ["container"], "event": self._events},
            decode=True,
        )
        with contextlib.closing(self._stream):
            rows = client.containers(all=True)
            self._post(Containers([row for row in rows if isinstance(row, dict)], now, is_gap))
            for event in self._stream:
                if isinstance(event, dict):
                    self._since = timestamp(nanoseconds_of(event) or int(self._wall() * 1e9))
                    self._post(Event(event))


def timestamp(nanoseconds: int) -> str:
    """Spell a time as the Engine API wants it: seconds, a dot, nine digits."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


def _reason(error: Exception) -> str:
    """Say in words why the daemon could not be asked; the SDK wraps its own refusal of a version once more."""
    from docker.errors import APIError

    answer = error if isinstance(error, APIError) else error.__cause__
    if isinstance(answer, APIError):
        return f"answered {answer.status_code}: {answer.explanation or 'nothing more'}"
    return in_words(error) or "the answer is not one of Docker's (--log.level=debug logs it)"
