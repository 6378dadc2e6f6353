"""What happened to a container between two tellings of Kubernetes: each fact once, with the times that the API server has."""

from dataclasses import replace
from typing import Any

import pytest

from agent.identities import Identity, Termination
from agent.sources.kubernetes_facts import facts_between
from collectors.inquest.facts import Configured, Exited, Fact, StopRequested
from tests.tree import A

WALL = 1_800_000_000.0
TOLD: dict[str, Any] = {"container": A, "source": "kubernetes"}
ALIVE = Identity(("shop", "web-0", "app"), grace_seconds=30)
DELETED = replace(ALIVE, deletion_timestamp=1030.0)
KILLED = Termination(137, "OOMKilled", 9, 1010.0)
ENDED = replace(ALIVE, state="exited", ended=5.0, last_termination=KILLED)
STOP = StopRequested(**TOLD, time=1000.0, grace_seconds=30, by="deletion of its pod")
EXIT = Exited(**TOLD, time=1010.0, how="kubelet", code=137, signal=9, reason="OOMKilled")


def facts(before: Identity | None, now: Identity) -> list[Fact]:
    """Return what happened between the two."""
    return list(facts_between(A, before, now, WALL))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(None, ALIVE, [], id="it runs"),
        pytest.param(ALIVE, DELETED, [STOP], id="its pod is deleted"),
        pytest.param(None, DELETED, [STOP], id="its pod was deleted before it was heard of"),
        pytest.param(DELETED, replace(DELETED, restarts=1), [], id="something else has changed since"),
        pytest.param(ALIVE, ENDED, [EXIT], id="it ended"),
        pytest.param(None, ENDED, [EXIT], id="it ended before it was heard of"),
        pytest.param(ENDED, replace(ENDED, workload="web"), [], id="something else has changed since its end"),
        pytest.param(ALIVE, replace(ENDED, deletion_timestamp=1030.0), [STOP, EXIT], id="both at once"),
        pytest.param(DELETED, replace(ENDED, deletion_timestamp=1030.0), [EXIT], id="one after the other"),
        pytest.param(ENDED, replace(ENDED, deletion_timestamp=2000.0), [], id="its pod is deleted after its end"),
    ],
)
def test_what_happened_is_told_once(before: Identity | None, now: Identity, expected: list[Fact]) -> None:
    """Not again with whatever changes next."""
    assert facts(before, now) == expected


def test_the_stop_signal_is_told_once_while_the_container_lives() -> None:
    """From Kubernetes 1.33 on; one that is no signal is not known."""
    quits = replace(ALIVE, stop_signal="SIGQUIT")
    assert facts(None, quits) == facts(ALIVE, quits) == [Configured(**TOLD, time=WALL, stop_signal=3)]
    assert facts(quits, replace(quits, restarts=1)) == []
    assert facts(None, replace(ALIVE, stop_signal="x" * 300)) == [Configured(**TOLD, time=WALL, stop_signal=None)]
    assert facts(None, replace(ENDED, stop_signal="SIGQUIT")) == [EXIT]


def test_a_grace_that_was_shortened_is_told() -> None:
    """`kubectl delete --force` after one that took too long: the API server counts the new grace from the first request."""
    assert facts(DELETED, replace(DELETED, deletion_timestamp=1000.0, grace_seconds=0)) == [replace(STOP, grace_seconds=0)]


def test_how_the_life_before_ended_is_no_end_of_this_one() -> None:
    """The last termination of a container that runs is another one's."""
    assert facts(None, replace(ALIVE, last_termination=KILLED)) == []
    assert facts(replace(ALIVE, last_termination=KILLED), ENDED) == [EXIT]


def test_an_end_without_a_time_is_told_as_of_now() -> None:
    """It was learnt then; and without a signal there was none to tell."""
    (fact,) = facts(ALIVE, replace(ENDED, last_termination=Termination(1)))

    assert fact == Exited(**TOLD, time=WALL, how="kubelet", code=1)


def test_an_exit_code_that_a_kubelet_has_made_up_is_not_told() -> None:
    """It says 137 of a container that it cannot find any more, which looks like SIGKILL."""
    assert facts(ALIVE, replace(ENDED, last_termination=Termination(137, "ContainerStatusUnknown"))) == []
