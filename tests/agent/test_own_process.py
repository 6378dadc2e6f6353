"""What the agent tells of its own process."""

import os

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import Metric

from agent import own_process
from agent.own_process import OwnProcess
from collectors.kernel.files import Unsupported


def families(collector: OwnProcess | ProcessCollector) -> list[Metric]:
    """Return what a page would show."""
    registry = CollectorRegistry()
    registry.register(collector)
    return list(registry.collect())


def test_it_is_what_prometheus_client_tells() -> None:
    """The same families in the same order, with the values of another moment."""
    own, theirs = families(OwnProcess()), families(ProcessCollector(registry=None))

    assert [(each.name, each.documentation, each.type) for each in own] == [(each.name, each.documentation, each.type) for each in theirs]
    for one, other in zip(own, theirs, strict=True):
        (value,), (expected,) = ([sample.value for sample in each.samples] for each in (one, other))
        assert value == pytest.approx(expected, rel=0.2, abs=2), one.name
        assert [sample.name for sample in one.samples] == [sample.name for sample in other.samples]


def test_where_the_boot_time_is_hidden_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As prometheus_client does."""

    def hidden(path: str) -> bytes:
        raise Unsupported(path, "hidden")

    monkeypatch.setattr(own_process, "read_once", hidden)

    assert families(OwnProcess()) == []


def test_every_open_descriptor_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the size of the directory, which is 0 before Linux 6.2."""
    before = own_process.descriptors()
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    try:
        assert own_process.descriptors() == before + 20
        monkeypatch.setattr(os, "stat", lambda _: os.stat_result((0,) * 10))
        assert own_process.descriptors() - 21 <= before  # the listing itself has one open
        assert own_process.descriptors() >= before + 20
    finally:
        for descriptor in taken:
            os.close(descriptor)
