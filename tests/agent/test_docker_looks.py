"""Inspections in a thread: each asked once while it waits, with a bound, whatever the daemon answers."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from agent.sources import docker_looks as module
from agent.sources.docker_listener import Inspected
from agent.sources.docker_lives import Look
from agent.sources.docker_looks import Looks
from tests.tree import A, B, C


class Client:
    """A client of the SDK that answers what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.is_closed = False

    def inspect_container(self, identifier: str) -> Any:
        self.asked.append(identifier)
        self.go.wait(60)
        answer = self.answers.get(identifier, {"Id": identifier})
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.is_closed = True


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Asking:
    """Looks, with what came of them."""

    def __init__(self) -> None:
        self.client = Client()
        self.fails = 0
        self.got: list[Inspected] = []
        self.looks = Looks(connect=self._connect, post=self.got.append)

    def _connect(self) -> Any:
        if self.fails:
            self.fails -= 1
            raise OSError("no socket")
        return self.client


@pytest.fixture
def asking() -> Iterator[Asking]:
    """Looks whose thread ends with the test."""
    asking = Asking()
    yield asking
    asking.client.go.set()
    asking.looks.stop()
    until(lambda: asking.client.is_closed or not asking.client.asked)


def refused(status: int) -> requests.HTTPError:
    """Spell what the SDK raises for an answer with this status."""
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


def test_an_inspection_comes_back_with_its_look(asking: Asking) -> None:
    """Whatever the answer is."""
    asking.client.answers[B] = ["garbage"]
    asking.looks.ask(Look(A))
    asking.looks.ask(Look(B, 5.0))

    until(lambda: len(asking.got) == 2)
    assert asking.got == [Inspected({"Id": A}, None), Inspected(["garbage"], 5.0)]


@pytest.mark.parametrize("error", [refused(404), refused(500), ValueError("not JSON"), requests.ReadTimeout(), RuntimeError("never seen")])
def test_one_that_cannot_be_inspected_keeps_no_other_from_it(asking: Asking, error: Exception) -> None:
    """It was removed, is stuck, or its answer is none."""
    asking.client.answers[A] = error
    asking.looks.ask(Look(A))
    asking.looks.ask(Look(B))

    until(lambda: len(asking.got) == 1)
    assert asking.got == [Inspected({"Id": B}, None)]


def test_one_that_is_stuck_is_left_alone_for_a_while(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each try costs all others seconds. A refusal costs nothing."""
    asking.client.answers |= {A: requests.ReadTimeout(), B: refused(404)}
    for each in (A, B, C, A, B, C):
        asking.looks.ask(Look(each))
        until(lambda: not asking.looks._waiting)
    until(lambda: len(asking.got) == 2)
    assert asking.client.asked == [A, B, C, B, C]

    asking.looks.ask(Look(A, 7.0))
    until(lambda: not asking.looks._waiting)
    asking.client.answers.pop(A)
    monkeypatch.setattr(module, "_STUCK_SECONDS", 0)
    asking.looks.ask(Look(C))
    until(lambda: len(asking.got) == 4)
    assert asking.got[2:] == [Inspected({"Id": C}, None), Inspected({"Id": A}, 7.0)], "nobody has to ask again"


def test_a_daemon_that_cannot_be_connected_to_is_tried_again(asking: Asking) -> None:
    """With the next container."""
    asking.fails = 1
    asking.looks.ask(Look(A))
    asking.looks.ask(Look(B))

    until(lambda: asking.got == [Inspected({"Id": B}, None)])


def test_who_waits_is_asked_for_once_for_all_who_wanted_it(asking: Asking) -> None:
    """The earliest wins, of those who want to know of lives."""
    asking.client.go.clear()
    asking.looks.ask(Look(A))
    until(lambda: asking.client.asked == [A])
    for since in (None, 7.0, 3.0, None, 9.0):
        asking.looks.ask(Look(B, since))
    asking.client.go.set()

    until(lambda: len(asking.got) == 2)
    assert asking.got[1] == Inspected({"Id": B}, 3.0)


def test_too_many_are_not_asked_for_and_that_is_said_once(
    asking: Asking, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The daemon answers slower than containers die; memory does not grow."""
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    caplog.set_level(logging.WARNING)
    asking.client.go.clear()
    asking.looks.ask(Look(A))
    until(lambda: asking.client.asked == [A])
    for each in (B, C, A, A):
        asking.looks.ask(Look(each))
    assert len(asking.looks._waiting) == 2
    asking.client.go.set()

    until(lambda: len(asking.got) == 3)
    assert asking.client.asked == [A, B, C]
    assert [record.message for record in caplog.records] == ["too many containers to inspect: some are not"]


def test_what_is_stopped_asks_for_nobody_any_more(asking: Asking) -> None:
    """The answer that is being waited for is its last, and its client is closed."""
    asking.client.go.clear()
    asking.looks.ask(Look(A))
    until(lambda: asking.client.asked == [A])
    asking.looks.ask(Look(B))
    asking.looks.stop()
    asking.client.go.set()

    until(lambda: asking.client.is_closed)
    assert asking.client.asked == [A]
