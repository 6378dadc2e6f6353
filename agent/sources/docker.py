"""Names from Docker: a list, then its events, each over the Engine API by the docker SDK in a thread of its own.

The SDK blocks, so nothing here is ever awaited by a scrape: the thread hands messages to the loop, the loop writes the directory.
"""

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from docker import APIClient
from docker.errors import APIError

from agent.directory import Directory, Entry
from agent.status import Status
from agent.supervise import Blind
from agent.words import in_words

WINDOW_SECONDS = 60
"""An event stream is asked for in windows: a full list follows each, which finds what was missed, and a daemon that hangs is noticed."""

_PATIENCE_SECONDS = 15
_ANSWER_SECONDS = 10
_STATE_AFTER = {"create": "created", "start": "running", "unpause": "running", "pause": "paused"}
# Podman filters its events by its own words for them, died and remove, and may tell them in either.
_END_AFTER = {"die": "exited", "died": "exited", "destroy": "removed", "remove": "removed"}
_IDENTIFIER = re.compile("[0-9a-f]{64}")

Message = tuple[str, Any]

log = logging.getLogger(__name__)


class DockerSource:
    """Follows one Docker daemon (or what speaks its API)."""

    def __init__(
        self,
        *,
        url: str,
        directory: Directory,
        status: Status,
        connect: Callable[..., APIClient] = APIClient,
        window: float = WINDOW_SECONDS,
    ) -> None:
        self.status = status
        self._url = url
        self._directory = directory
        self._connect = connect
        self._window = window
        self._since = _timestamp(time.time_ns())

    async def follow(self) -> None:
        """List, then listen, until the daemon stops answering. Raises Blind."""
        loop = asyncio.get_running_loop()
        messages: asyncio.Queue[Message] = asyncio.Queue()
        listener = _Listener(self._connect, self._url, self._since, self._window, _poster(loop, messages))
        listener.start()
        try:
            while True:
                async with asyncio.timeout(self._window + _PATIENCE_SECONDS):
                    kind, content = await messages.get()
                if kind == "failed":
                    raise Blind(
                        f"{self._url}: {content}; is the daemon running, and may the agent use its socket? --docker.url= switches it off"
                    )
                self._take(kind, content)
        except TimeoutError as error:
            raise Blind(f"{self._url}: no answer for {self._window + _PATIENCE_SECONDS:.0f} s; the daemon hangs") from error
        finally:
            listener.stop()

    def _take(self, kind: str, content: Any) -> None:
        if kind == "list":
            self._directory.resync(self.status.source, dict(_listed(content)))
            self.status.up()
        else:
            self._since = _timestamp(content.get("timeNano", 0)) if content.get("timeNano") else self._since
            self._event(content)

    def _event(self, event: Mapping[str, Any]) -> None:
        actor = event.get("Actor") or {}
        identifier, attributes, action = str(actor.get("ID")), actor.get("Attributes") or {}, event.get("Action")
        if not _IDENTIFIER.fullmatch(identifier):
            return
        if action in _STATE_AFTER:
            entry = _entry(attributes.get("name"), attributes.get("image"), _STATE_AFTER[action], attributes)
            self._directory.put(self.status.source, {identifier: entry})
        elif action in _END_AFTER:
            self._directory.end(self.status.source, identifier, _END_AFTER[action])


class _Listener:
    """The thread. Everything in it may block; it ends when its stream is closed under it."""

    def __init__(self, connect: Callable[..., APIClient], url: str, since: str, window: float, post: Callable[[Message], None]) -> None:
        self._connect = connect
        self._url = url
        self._since = since
        self._window = window
        self._post = post
        self._stopped = threading.Event()
        self._stream: Any = None

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

    def _listen(self, client: APIClient) -> None:
        now = time.time_ns()
        # A clock that was set back would ask for events of the future only, which Docker refuses.
        since = min(self._since, _timestamp(now), key=float)
        # The stream is opened before the list is asked for: what happens between the two is then an event, not a gap.
        self._stream = client.events(  # type: ignore[call-overload] # the API takes fractions of a second, its stubs do not
            since=since,
            until=_timestamp(now + int(self._window * 1e9)),
            filters={"type": ["container"], "event": [*_STATE_AFTER, *_END_AFTER]},
            decode=True,
        )
        with contextlib.closing(self._stream):
            self._post(("list", client.containers(all=True)))
            for event in self._stream:
                self._since = _timestamp(event.get("timeNano", time.time_ns()))
                self._post(("event", event))


def _reason(error: Exception) -> str:
    """Say in words why the daemon could not be asked; the SDK wraps its own refusal of a version once more."""
    answer = error if isinstance(error, APIError) else error.__cause__
    if isinstance(answer, APIError):
        return f"answered {answer.status_code}: {answer.explanation or 'nothing more'}"
    return in_words(error) or "the answer is not one of Docker's (--log.level=debug logs it)"


def _poster(loop: asyncio.AbstractEventLoop, messages: asyncio.Queue[Message]) -> Callable[[Message], None]:
    def post(message: Message) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the agent is stopping
            loop.call_soon_threadsafe(messages.put_nowait, message)

    return post


def _listed(containers: list[dict[str, Any]]) -> Iterator[tuple[str, Entry]]:
    for container in containers:
        identifier = str(container.get("Id"))
        if not _IDENTIFIER.fullmatch(identifier):
            continue
        # A container that others link to is listed under those names as well; its own is the one without a second slash.
        names = [name.removeprefix("/") for name in container.get("Names") or () if isinstance(name, str)]
        own = next((name for name in names if "/" not in name), names[0] if names else None)
        state = str(container.get("State"))
        yield identifier, _entry(own, container.get("Image"), state, container.get("Labels") or {})


def _entry(name: object, image: object, state: str, labels: Mapping[str, Any]) -> Entry:
    alive = state not in ("exited", "dead")
    return Entry(
        name=("", "", name) if isinstance(name, str) and name else (),
        image=str(image or ""),
        state=state,
        seen_alive=alive,
        ended=None if alive else time.monotonic(),
        project=str(labels.get("com.docker.compose.project", "")),
        service=str(labels.get("com.docker.compose.service", "")),
    )


def _timestamp(nanoseconds: int) -> str:
    """Spell a time as the Engine API wants it: seconds, a dot, nine digits."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
