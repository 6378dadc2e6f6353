"""The thread that inspects containers, one by one and not too fast, so that no event waits for that.

A daemon answers for a container that is stuck when that lets go of it, which may be never: the others have their turn, and it is asked
for again later.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.sources.docker_listener import Inspected
from agent.sources.docker_lives import Look
from collectors.kernel.container_id import ContainerKey

if TYPE_CHECKING:
    from docker import APIClient

MOST_WAITING = 1000
"""Containers to be inspected; an answer takes Docker some milliseconds."""

LOOK_SECONDS = 3
"""An answer is waited for so long."""

_BETWEEN_SECONDS = 0.02
"""So fifty a second at most."""

_STUCK_SECONDS = 60
"""So long a container is not inspected again of which there was no answer in time; then it is, as soon as no other waits."""

log = logging.getLogger(__name__)


class Looks:
    """Inspects containers in a thread, which is started by the first. What is too much is not looked at, and that is said once."""

    def __init__(self, *, connect: Callable[[], "APIClient"], post: Callable[[Inspected], None]) -> None:
        """Make it; `connect` makes a client for the thread alone, and may raise anything."""
        self._connect = connect
        self._post = post
        self._changed = threading.Condition()
        self._waiting: dict[ContainerKey, Look] = {}
        self._stuck: dict[ContainerKey, tuple[float, Look]] = {}
        self._is_started = self._is_stopped = self._is_full = False

    def ask(self, look: Look) -> None:
        """Have a container inspected, once if it waits for that already. Never blocks."""
        with self._changed:
            before = self._waiting.get(look.container)
            if before is None and len(self._waiting) >= MOST_WAITING:
                if not self._is_full:
                    log.warning("too many containers to inspect: some are not", extra={"waiting": MOST_WAITING})
                self._is_full = True
                return
            self._waiting[look.container] = look if before is None else _both(before, look)
            self._changed.notify()
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._run, name="docker-looks", daemon=True).start()

    def stop(self) -> None:
        """End, as soon as the answer that is being waited for is there or given up."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def _run(self) -> None:
        client: APIClient | None = None
        while (look := self._next()) is not None:
            try:
                client = client or self._connect()
                answer = client.inspect_container(look.container)
                self._post(Inspected(answer, look.since))
            except Exception as error:  # the SDK raises requests', urllib3's, json's and its own errors
                log.debug("not inspected", exc_info=error, extra={"id": look.container})
                if getattr(error, "response", None) is None:  # no answer; 404 is one: it was removed meanwhile
                    self._stuck[look.container] = time.monotonic(), look
            time.sleep(_BETWEEN_SECONDS)
        if client is not None:
            with contextlib.suppress(Exception):  # whatever state the connection is in, it is not needed any more
                client.close()

    def _next(self) -> Look | None:
        """Wait for the next container to inspect; None: there will be none."""
        with self._changed:
            while not self._is_stopped:
                while self._waiting:
                    look = self._waiting.pop(next(iter(self._waiting)))
                    if look.container not in self._stuck:
                        return look
                    since, before = self._stuck[look.container]
                    self._stuck[look.container] = since, _both(before, look)
                key = next(iter(self._stuck), None)  # the one that is stuck the longest
                rest = None if key is None else self._stuck[key][0] + _STUCK_SECONDS - time.monotonic()
                if key is not None and rest is not None and rest <= 0:
                    return self._stuck.pop(key)[1]
                self._changed.wait(rest)
        return None


def _both(look: Look, other: Look) -> Look:
    """Return one look for two at one container."""
    times = [each.since for each in (look, other) if each.since is not None]
    return Look(look.container, min(times, default=None))
