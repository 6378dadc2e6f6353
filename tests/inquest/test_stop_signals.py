"""Which signal a container is stopped with, from what sources told."""

from typing import Any

import pytest

from collectors.inquest import stop_signals
from collectors.inquest.facts import Configured, Created, Removed
from collectors.inquest.stop_signals import StopSignals
from tests.tree import A, B

AT: dict[str, Any] = {"time": 100.0, "source": "docker"}


def test_the_signal_that_was_told_stays() -> None:
    """A source that does not know it takes nothing away; another container has its own."""
    signals = StopSignals()
    assert signals.of(A) is None

    signals.tell(Configured(container=A, **AT, stop_signal=3))
    signals.tell(Configured(container=A, **AT, stop_seconds=30.0))
    signals.tell(Created(container=A, **AT))

    assert (signals.of(A), signals.of(B)) == (3, None)


def test_what_is_removed_is_forgotten() -> None:
    """Twice is as good as once."""
    signals = StopSignals()
    signals.tell(Configured(container=A, **AT, stop_signal=3))
    for _ in range(2):
        signals.tell(Removed(container=A, **AT))
        assert signals.of(A) is None


def test_the_oldest_gives_way() -> None:
    """However many are told of."""
    signals = StopSignals()
    for number in range(stop_signals.MOST + 1):
        signals.tell(Configured(container=type(A)(f"{number:064x}"), **AT, stop_signal=3))

    assert signals.of(type(A)(f"{0:064x}")) is None
    assert signals.of(type(A)(f"{1:064x}")) == 3


def test_one_that_lives_keeps_its_signal_however_many_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told of once: were it forgotten, it would be taken for one that is stopped with SIGTERM."""
    monkeypatch.setattr(stop_signals, "MOST", 2)
    signals = StopSignals(lambda key: key == A)
    signals.tell(Configured(container=A, **AT, stop_signal=3))
    for number in range(10):
        signals.tell(Configured(container=type(A)(f"{number:064x}"), **AT, stop_signal=15))

    assert signals.of(A) == 3
