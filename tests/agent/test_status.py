"""Whether a source can be seen, said once and truly."""

import pytest

from agent.status import ANSWERED, RESTARTS, UP, Status


def values(status: Status) -> dict[str, float]:
    """The status's samples by metric."""
    return {metric.name: value for metric, _, value in status.samples()}


def test_a_source_that_was_never_seen_is_blind_and_has_no_last_answer() -> None:
    """0 is said; a time that never was is not."""
    assert values(Status("kmsg")) == {UP.name: 0, RESTARTS.name: 0}


def test_a_source_that_answered_keeps_the_time_of_it_when_it_goes_blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """How old the names are can be told."""
    monkeypatch.setattr("agent.status.time.time", lambda: 1234.5)
    status = Status("docker")
    status.up()
    status.down("gone")

    assert values(status) == {UP.name: 0, RESTARTS.name: 0, ANSWERED.name: 1234.5}


def test_only_a_change_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A source that stays away does not fill the log."""
    status = Status("docker")
    with caplog.at_level("INFO"):
        for _ in range(3):
            status.down("no socket")
        status.up()
        status.up()
        status.up("without labels")

    assert [record.message for record in caplog.records] == ["source is blind", "source is up", "source is up"]


def test_a_source_that_nobody_asked_for_is_not_missed_until_it_was_there(caplog: pytest.LogCaptureFixture) -> None:
    """A node of Kubernetes has no Docker, and no alert should say so for ever."""
    status = Status("docker", optional=True)
    with caplog.at_level("INFO"):
        status.down("no socket")
    assert values(status) == {}
    assert caplog.records == []

    status.up()
    status.down("gone")

    assert values(status)[UP.name] == 0
