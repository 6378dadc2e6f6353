"""A day of a node in the lab: who does what when, and all that a Prometheus has seen of it, as blocks outside of the lab."""

import contextlib
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.lab.guest.monitoring import Prometheus
from tests.lab.guest.node import Agent

INTERVAL = "5s"


class Day:
    """What happens when, in seconds from the beginning; what takes longer makes the rest later.

    It is over after so many seconds as the file `seconds` says, or as soon as there is a file `over`, that of the other nodes.
    """

    def __init__(self) -> None:
        self._length = float((shared() / "seconds").read_text())
        self._acts: list[list[Any]] = []

    def every(self, seconds: float, act: Callable[[], object], *, first: float) -> None:
        """Do it at `first`, and then again and again."""
        self._acts.append([first, seconds, act])

    def once(self, at: float, act: Callable[[], object]) -> None:
        """Do it once."""
        self.every(float("inf"), act, first=at)

    def go_by(self) -> None:
        """Return in the evening."""
        start = time.monotonic()
        while not self._is_over(now := time.monotonic() - start):
            for act in self._acts:
                if act[0] <= now:
                    act[0] += act[1]
                    try:
                        act[2]()
                    except Exception:  # noqa: BLE001 # a day on which something could not be done is a day all the same
                        traceback.print_exc(file=sys.__stderr__)
            time.sleep(0.5)

    def _is_over(self, now: float) -> bool:
        return now > self._length or (shared() / "over").exists()


@contextlib.contextmanager
def watched(agent: Agent, directory: Path, instance: str) -> Iterator[Prometheus]:
    """Have a Prometheus scrape the agent as this instance; in the end its blocks are outside."""
    server = Prometheus(agent, directory, INTERVAL, instance=instance, patient=True)
    server.start()
    try:
        yield server
        shutil.copytree(server.snapshot(), shared() / "blocks")
    finally:
        server.kill()


def shared() -> Path:
    """Return the directory that is outside of the lab."""
    return Path(os.environ["CORONER_LAB"])
