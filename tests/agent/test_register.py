"""The register: what becomes of births and deaths that the cgroup tree tells of."""

import logging

import pytest

from agent.identities import Identities, Identity
from agent.register import Register
from collectors.inquest.kills import KillLedger
from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup, CpuStat, MemoryEvents
from collectors.kernel.container_id import ContainerId
from collectors.kernel.last_words import LastWords
from tests.tree import A, B, docker

POD = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555"
WORDS = LastWords(MemoryEvents(1, 2, 3, 4, 5, 1), CpuStat(2500000, 1500000, 1000000, 40, 4, 250000), 2, 9, 6000000, group_kills=1)


class Desk:
    """A register, what it tells, and what sources were asked for."""

    def __init__(self, *, local_events: bool = False) -> None:
        self.identities = Identities()
        self.ledger = KillLedger()
        self.register = Register(self.identities, self.ledger, local_events=local_events)
        self.ledger.settle(self.ledger.nameless(), {})

    def kills(self) -> int:
        """All that the ledger has counted."""
        return sum(self.ledger.settle(self.ledger.nameless(), {}).by_scope.values())


@pytest.fixture
def desk() -> Desk:
    """A register of a node that nothing has happened on."""
    return Desk()


def container(path: str) -> tuple[ContainerId, Cgroup]:
    """Return a container and its cgroup."""
    found = container_id.parse(path)
    assert found is not None
    return found, Cgroup(path, f"/cgroup{path}", 7, has_children=False)


def facts(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """Return what each line "container ended" tells beyond that."""
    usual = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
    return [
        {key: value for key, value in vars(record).items() if key not in usual}
        for record in caplog.records
        if record.message == "container ended"
    ]


def test_the_end_of_a_container_is_one_line_with_what_it_needed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """And what became of it; what is not known is left out."""
    desk.identities.put("docker", {A: Identity(("", "", "web"))})
    with caplog.at_level("INFO", "agent.register"):
        desk.register.ended(*container(docker(A)), WORDS)
        desk.register.ended(*container(docker(B)), LastWords(threads_peak=9))
        desk.register.ended(*container(docker(B)), None)
        desk.register.ended(*container(f"{docker(A)}/docker/{B}"), WORDS)

    names = {"namespace": "", "pod": "", "container": "web"}
    used = {"memory_peak_bytes": 6000000, "oom_kill": 5, "cpu_seconds": 2.5, "throttled_periods": 4, "threads_peak": 9, "fork_failures": 2}
    assert facts(caplog) == [
        {"id": f"docker://{A}"} | names | used,
        {"id": f"docker://{B}", "threads_peak": 9},
        {"id": f"docker://{B}"},
    ]


def test_the_end_of_a_sandbox_is_not_told(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """It is no container."""
    desk.identities.put("oci", {A: Identity(("shop", "web-0", ""), is_sandbox=True)})
    with caplog.at_level("INFO", "agent.register"):
        desk.register.ended(*container(f"{POD}/{A}"), WORDS)

    assert facts(caplog) == []


def test_the_end_of_a_sandbox_that_holds_its_pod_is_told(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """With gVisor or Kata it is the end of all that ran in the pod."""
    desk.identities.put("oci", {A: Identity(("shop", "web-0", ""), is_sandbox=True, holds_pod=True)})
    with caplog.at_level("INFO", "agent.register"):
        desk.register.ended(*container(f"{POD}/{A}"), None)

    assert [(fact["pod"], fact["container"]) for fact in facts(caplog)] == [("web-0", "")]


def test_a_birth_is_heard_and_sources_are_asked_for_its_name(desk: Desk) -> None:
    """One in a pod may be a sandbox, so only a source can make it known; one inside of another is that one's word."""
    asked: list[str] = []
    desk.identities.when_heard(asked.append)

    desk.register.born(*container(docker(A)))
    desk.register.born(*container(f"{POD}/{B}"))
    desk.register.born(*container(f"{docker(A)}/docker/{B}"))

    assert asked == [A, B]
    assert set(desk.identities.known) == {A}


def test_the_kills_of_last_words_are_counted(desk: Desk) -> None:
    """oom_kill less oom_group_kill; those of a sandbox too."""
    desk.identities.put("oci", {A: Identity(("shop", "web-0", ""), is_sandbox=True)})
    desk.register.ended(*container(f"{POD}/{A}"), WORDS)
    desk.register.ended(*container(docker(B)), None)

    assert desk.kills() == 4


def test_with_local_events_last_words_say_too_little_to_be_counted() -> None:
    """They leave out what is nested."""
    desk = Desk(local_events=True)
    desk.register.ended(*container(docker(A)), WORDS)

    assert desk.kills() == 0
