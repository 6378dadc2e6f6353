"""Exec sessions: each counted once, those of the health check apart, whatever is told first."""

import pytest

from collectors.inquest.execs import Execs
from collectors.kernel.container_id import ContainerKey
from tests.tree import A, B

PROBE = "/bin/sh -c curl -f localhost"


def test_sessions_are_told_from_the_runs_of_a_health_check() -> None:
    """By the command alone."""
    execs = Execs()
    execs.know(A, PROBE)
    execs.know(B, None)
    for number, (key, command) in enumerate([(A, PROBE), (A, "sh "), (A, PROBE), (B, PROBE)]):
        execs.start(key, command, 100 + number)

    assert (execs.started(A), execs.started(B)) == ((1, 2), (1, 0))
    assert (execs.has_probe(A), execs.has_probe(B)) == (True, False)


def test_what_was_started_before_its_container_is_known_is_counted_then() -> None:
    """The first inspection may come after the first probe."""
    execs = Execs()
    for number, command in enumerate([PROBE, "sh ", PROBE]):
        execs.start(A, command, number)
    assert (execs.started(A), execs.has_probe(A)) == ((0, 0), None)

    for _ in range(2):
        execs.know(A, PROBE)
        assert execs.started(A) == (1, 2)


def test_what_is_told_again_counts_once() -> None:
    """Docker is asked from its last event on, which it then tells again."""
    execs = Execs()
    execs.know(A, None)
    for _ in range(2):
        for nanoseconds in range(200):
            execs.start(A, "sh ", nanoseconds)

    assert execs.started(A) == (200, 0)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that is never known, and containers."""
    monkeypatch.setattr("collectors.inquest.execs.MOST", 1)
    execs = Execs()
    for number in range(100):
        execs.start(A, f"sh {number}", number)
    execs.know(A, None)
    assert execs.started(A) == (20, 0)

    execs.know(B, None)
    assert (execs.has_probe(A), execs.started(A), execs.has_probe(B)) == (None, (0, 0), False)


def test_one_that_lives_is_counted_however_many_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of once: were it forgotten, its sessions would never be counted again."""
    monkeypatch.setattr("collectors.inquest.execs.MOST", 2)
    execs = Execs(lambda key: key == A)
    execs.know(A, None)
    for number in range(10):
        execs.know(ContainerKey(f"{number:064x}"), PROBE)
        execs.start(A, "sh ", number)

    assert (execs.has_probe(A), execs.started(A)) == (False, (10, 0))
    assert [execs.has_probe(ContainerKey(f"{number:064x}")) for number in range(10)] == [None] * 9 + [True]
