"""The register: what becomes of each fact, and of one that cannot be taken."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.identities import Amended, Described, EndedUnseen, Identity, Listed, PodsListed
from agent.sources import Told
from collectors.inquest.facts import (
    Born,
    Configured,
    Emptied,
    Exited,
    Faulted,
    FaultLogged,
    LogClosed,
    LogRead,
    OomVictim,
    Removed,
    Started,
)
from collectors.inquest.kill_state import Cursor
from collectors.inquest.verdict import judge
from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup, CpuStat, MemoryEvents
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.fault_lines import Fault
from collectors.kernel.last_words import LastWords
from tests.agent.desk import Desk
from tests.kills import KILL, settle, told
from tests.tree import HOST_NAMESPACE, A, B, Link, cgroup, docker, proc, tree

POD = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555"
WORDS = LastWords(MemoryEvents(1, 2, 3, 4, 5, 1), CpuStat(2500000, 1500000, 1000000, 40, 4, 250000), 2, 9, 6000000, group_kills=1)
WEB = Identity(("", "", "web"))
SANDBOX = Identity(("shop", "web-0", ""), is_sandbox=True)
TOLD: dict[str, Any] = {"container": A, "source": "docker", "time": 5.0}


@pytest.fixture
def desk() -> Desk:
    """A register of a node that nothing has happened on."""
    desk = Desk()
    desk.kills()
    return desk


def of_cgroup(path: str) -> dict[str, Any]:
    """Return what a fact of the cgroup source says of the container at a path."""
    found = container_id.parse(path)
    assert found is not None
    cgroup = Cgroup(path, f"/cgroup{path}", 7, has_children=False)
    return {"container": found.key, "source": "cgroup", "time": 5.0, "inode": 7, "id": found, "cgroup": cgroup}


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    """Return what each line with this message tells beyond it."""
    usual = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
    return [
        {key: value for key, value in vars(record).items() if key not in usual} for record in caplog.records if record.message == message
    ]


def test_what_sources_say_of_names_is_known(desk: Desk) -> None:
    """Described, corrected, ended, and listed without what there was before."""
    desk.tell(Described("docker", {A: WEB}))
    desk.tell(Amended("docker", A, {"image": "img:1"}))
    assert desk.identities.known == {A: Identity(("", "", "web"), image="img:1")}

    desk.tell(EndedUnseen("docker", A))
    assert desk.identities.known[A].state == "exited"

    desk.tell(Listed("docker", {B: WEB}))
    assert (desk.identities.known[A].state, desk.identities.known[B]) == ("removed", WEB)


def test_which_pods_there_are_is_known(desk: Desk) -> None:
    """Sandboxes are told apart by that."""
    desk.tell(PodsListed("kubernetes", {"uid": ("shop", "web-0")}, is_watched=True))

    assert desk.identities.pods.names == {"uid": ("shop", "web-0")}


@pytest.mark.parametrize(
    ("fact", "state"),
    [
        (Exited(**TOLD, how="runtime", code=1), "exited"),
        (Removed(**TOLD), "removed"),
        (Started(**TOLD), "running"),
        pytest.param(Exited(**TOLD, how="inspect", code=1), "running", id="the life before this one"),
    ],
)
def test_an_end_ends_what_its_source_has_described(desk: Desk, fact: Told, state: str) -> None:
    """And nothing else does."""
    desk.tell(Described("docker", {A: WEB, B: WEB}))
    desk.tell(fact)

    assert (desk.identities.known[A].state, desk.identities.known[A].ended is not None) == (state, state != "running")
    assert desk.identities.known[B] == WEB


def test_an_end_that_another_source_tells_of_ends_no_description(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Neither of one that describes containers too, nor of one that never does."""
    desk.tell(Described("docker", {A: WEB}))
    for source in ("kubernetes", "proc"):
        desk.tell(Exited(**TOLD | {"source": source}, how="reaped", status=0))

    assert desk.identities.known == {A: WEB}
    assert not caplog.records


def test_a_birth_is_heard_and_sources_are_asked_for_its_name(desk: Desk) -> None:
    """One in a pod may be a sandbox, so only a source can make it known; one inside of another is that one's word."""
    asked: list[str] = []
    desk.identities.when_heard(asked.append)

    for path in (docker(A), f"{POD}/{B}", f"{docker(A)}/docker/{B}"):
        desk.tell(Born(**of_cgroup(path)))

    assert asked == [A, B]
    assert set(desk.identities.known) == {A}


def test_the_init_of_a_newborn_is_looked_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A victim of the OOM killer is mostly reaped before its line in the kernel log is read."""
    looked: list[object] = []
    monkeypatch.setattr(desk.inits, "born", lambda *born: looked.append(born))
    born = Born(**of_cgroup(docker(A)))

    desk.tell(born)

    assert looked == [(born.id, born.cgroup)]


def test_who_watches_inits_hears_of_each_birth(desk: Desk) -> None:
    """At once, and also of what is inside of a container: that is for the source to leave out."""
    heard: list[Born] = []
    desk.register.when_born(heard.append)
    births = [Born(**of_cgroup(docker(A))), Born(**of_cgroup(f"{docker(A)}/docker/{B}"))]

    for born in births:
        desk.tell(born)

    assert heard == births


def test_who_wants_to_know_of_ends_hears_of_each_fact_that_tells_one(desk: Desk) -> None:
    """At once; one who fails costs nobody else the fact, nor the container its end."""
    heard: list[Emptied | Exited] = []

    def fail(_fact: Emptied | Exited) -> None:
        raise RuntimeError

    desk.register.when_ended(fail)
    desk.register.when_ended(heard.append)
    desk.tell(Described("docker", {A: WEB}))
    ends = [Exited(**TOLD, how="runtime", code=3), Emptied(**of_cgroup(docker(A)))]
    for fact in (Started(**TOLD), *ends, Removed(**TOLD)):
        desk.tell(fact)

    assert heard == ends
    assert desk.identities.known[A].state == "removed"


def test_a_watch_that_fails_costs_no_container_its_name(desk: Desk) -> None:
    """Nor its init, which is looked for beside that, nor another one its birth."""
    heard: list[Born] = []

    def fail(_born: Born) -> None:
        raise RuntimeError

    desk.register.when_born(fail)
    desk.register.when_born(heard.append)
    desk.tell(born := Born(**of_cgroup(docker(A))))

    assert set(desk.identities.known) == {A}
    assert heard == [born]


async def test_an_init_that_is_found_at_its_containers_birth_is_that_ones(tmp_path: Path) -> None:
    """Who watches births may find it at once, and tell before the birth has come to all others."""
    tree(tmp_path, {**cgroup(docker(A)), **proc({"self/ns/pid": Link(f"pid:[{HOST_NAMESPACE}]")})})
    desk = Desk(proc_root=f"{tmp_path}/proc")
    desk.register.when_born(lambda born: desk.tell(Started(**{**TOLD, "inode": born.inode}, pid=77)))
    desk.tell(Born(**of_cgroup(docker(A))))
    desk.tell(told(replace(KILL, pid=77)))

    assert [fact.container for fact in desk.cases.facts(A) if isinstance(fact, OomVictim)] == [A]


def test_the_end_of_a_container_is_one_line_with_what_it_needed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """And what became of it; what is not known is left out."""
    desk.tell(Described("docker", {A: WEB}))
    with caplog.at_level("INFO", "agent.register"):
        desk.tell(Emptied(**of_cgroup(docker(A)), words=WORDS))
        desk.tell(Emptied(**of_cgroup(docker(B)), words=LastWords(threads_peak=9)))
        desk.tell(Emptied(**of_cgroup(docker(B)), words=None))
        desk.tell(Emptied(**of_cgroup(f"{docker(A)}/docker/{B}"), words=WORDS))

    names = {"namespace": "", "pod": "", "container": "web"}
    used = {"memory_peak_bytes": 6000000, "oom_kill": 5, "cpu_seconds": 2.5, "throttled_periods": 4, "threads_peak": 9, "fork_failures": 2}
    assert logged(caplog, "container ended") == [
        {"id": f"docker://{A}"} | names | used,
        {"id": f"docker://{B}", "threads_peak": 9},
        {"id": f"docker://{B}"},
    ]


def test_the_end_of_a_sandbox_is_not_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """It is no container."""
    desk.tell(Described("oci", {A: SANDBOX}))
    with caplog.at_level("INFO", "agent.register"):
        desk.tell(Emptied(**of_cgroup(f"{POD}/{A}"), words=WORDS))

    assert logged(caplog, "container ended") == []


def test_the_end_of_a_sandbox_that_holds_its_pod_is_logged(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """With gVisor or Kata it is the end of all that ran in the pod."""
    desk.tell(Described("oci", {A: Identity(("shop", "web-0", ""), is_sandbox=True, holds_pod=True)}))
    with caplog.at_level("INFO", "agent.register"):
        desk.tell(Emptied(**of_cgroup(f"{POD}/{A}"), words=None))

    assert [(line["pod"], line["container"]) for line in logged(caplog, "container ended")] == [("web-0", "")]


def test_the_kills_of_last_words_are_counted(desk: Desk) -> None:
    """oom_kill less oom_group_kill; those of a sandbox too."""
    desk.tell(Described("oci", {A: SANDBOX}))
    desk.tell(Emptied(**of_cgroup(f"{POD}/{A}"), words=WORDS))
    desk.tell(Emptied(**of_cgroup(docker(B)), words=None))

    assert desk.kills() == 4


def test_with_local_events_last_words_say_too_little_to_be_counted() -> None:
    """They leave out what is nested."""
    desk = Desk(local_events=True)
    desk.kills()
    desk.tell(Emptied(**of_cgroup(docker(A)), words=WORDS))

    assert desk.kills() == 0


def test_a_kill_is_counted_examined_and_logged_under_the_name_of_its_container(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """And one that the log names no cgroup for is counted too."""
    desk.tell(Described("docker", {A: WEB}))
    line = replace(KILL, oom_memcg=docker(A).encode(), task_memcg=docker(A).encode(), limit_bytes=4096)
    desk.tell(told(line))
    desk.tell(told(KILL))

    assert desk.kills() == 2
    first, second = logged(caplog, "OOM kill")
    assert (first["container"], first["cgroup"], first["scope"], first["limit_bytes"]) == ("web", docker(A), "container", 4096)
    assert ("container" in second, second["cgroup"], second["scope"]) == (False, "", "ancestor")


def test_a_kill_counts_although_looking_for_its_name_fails(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """A source that is asked for the name may fail in a way that nobody has thought of: the kernel log tells of the kill only once."""

    def look(_key: ContainerKey) -> None:
        raise RuntimeError

    desk.identities.when_heard(look)
    desk.tell(told(replace(KILL, oom_memcg=docker(A).encode(), task_memcg=docker(A).encode()), cursor=Cursor(7, 7000)))

    assert (desk.kills(), desk.ledger.cursor) == (1, Cursor(7, 7000))
    assert len(logged(caplog, "fact not taken")) == 1


def test_a_victim_is_examined_before_its_name_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is dying: /proc has it for a moment, and a name may need a file to be read."""
    status = tmp_path / "77/status"
    status.parent.mkdir()
    status.write_text("Name:\tapp\nTgid:\t77\nNStgid:\t77\t3\n")
    desk = Desk(proc_root=str(tmp_path))
    desk.identities.when_heard(lambda _key: status.unlink())

    desk.tell(told(replace(KILL, task_memcg=docker(A).encode())))

    (line,) = logged(caplog, "OOM kill")
    assert (line["pid"], line["namespace_pid"]) == (77, 3)


def test_how_far_the_kernel_log_is_read_is_known(desk: Desk) -> None:
    """For the next agent, and for whoever must know whether silence means that there was no kill."""
    desk.tell(LogRead(source="kmsg", cursor=Cursor(7, 7000)))
    assert (desk.ledger.cursor, desk.ledger.log_is_followed) == (Cursor(7, 7000), True)

    desk.tell(LogClosed(source="kmsg"))
    assert (desk.ledger.cursor, desk.ledger.log_is_followed) == (Cursor(7, 7000), False)


def test_what_a_container_is_stopped_with_is_known(desk: Desk) -> None:
    """For whoever looks at its PID 1."""
    desk.tell(Configured(container=A, source="docker", time=100.0, stop_signal=3))

    assert [desk.register.stop_signals.of(key) for key in (A, B)] == [3, None]


def test_a_fact_that_cannot_be_taken_stops_no_other_and_is_logged_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Once per kind, with what it was, although it keeps coming: here of a source that nobody expects names from."""
    for key in (A, B):
        desk.tell(Described("nobody", {key: WEB}))
    desk.tell(Listed("nobody", {A: WEB}))
    desk.tell(Described("docker", {B: WEB}))

    assert desk.identities.known == {B: WEB}
    lines = logged(caplog, "fact not taken")
    assert [(line["source_name"], line["fact"].partition("(")[0]) for line in lines] == [("nobody", "Described"), ("nobody", "Listed")]
    assert A in lines[0]["fact"]
    assert all(record.exc_info for record in caplog.records)


def test_a_fault_is_in_the_case_of_the_container_whose_process_it_ended(tmp_path: Path) -> None:
    """By the PID of its init, which is reaped by then; one of no container's is nobody's."""
    tree(tmp_path, {"proc/self/ns/pid": Link(f"pid:[{HOST_NAMESPACE}]")})
    desk = Desk(proc_root=f"{tmp_path}/proc")
    born = of_cgroup(docker(A))
    desk.tell(Born(**born))
    desk.tell(Started(**{**TOLD, "source": "exits", "inode": 7}, pid=77))
    for pid in (77, 78):
        desk.tell(FaultLogged(source="kmsg", time=6.0, fault=Fault(pid, b"app", 11, b"app\xff[77]: segfault" + 999 * b"x")))
    desk.tell(Emptied(**{**born, "time": 6.1}))

    [case] = desk.cases._open[A]
    [fault] = case.all(Faulted)
    assert (fault.container, fault.inode, fault.pid, fault.signal, fault.source) == (A, 7, 77, 11, "kmsg")
    assert fault.text.startswith("app\\xff[77]: segfaultxxx")
    assert len(fault.text) == 300
    assert judge(case).cause == "crashed"


@pytest.mark.parametrize("is_gone", [True, False], ids=["its cgroup is gone", "its cgroup is there"])
def test_a_kill_of_which_the_log_says_the_pid_alone_is_that_of_the_container_whose_init_it_was(tmp_path: Path, *, is_gone: bool) -> None:
    """Of more than ten in five seconds it says no more. It counts once, in its container, whatever is told of it later."""
    tree(tmp_path, {"proc/self/ns/pid": Link(f"pid:[{HOST_NAMESPACE}]"), **cgroup(docker(A), {})})
    files = {"memory.events": "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"}
    desk = Desk(proc_root=f"{tmp_path}/proc", cgroup_root=f"{tmp_path}/cgroup")
    desk.kills()
    born = of_cgroup(docker(A))
    desk.tell(Born(**{**born, "cgroup": replace(born["cgroup"], directory=f"{tmp_path}/cgroup{docker(A)}")}))
    desk.tell(Started(**{**TOLD, "source": "exits", "inode": 7}, pid=77))
    if not is_gone:
        tree(tmp_path, cgroup(docker(A), files))
    desk.tell(told(replace(KILL, pid=78, sequence=1)))
    desk.tell(told(replace(KILL, pid=77, sequence=2)))

    def counted() -> tuple[dict[Any, int], dict[str, int]]:
        totals = settle(desk.ledger, {A: ("", "", "web")})
        return dict(totals.by_container), dict(totals.by_scope)

    scopes = {"container": 0, "pod": 0, "ancestor": 2, "node": 0} if is_gone else {"container": 1, "pod": 0, "ancestor": 1, "node": 0}
    assert counted() == ({("", "", "web"): 1}, scopes)
    words = None if is_gone else LastWords(memory_events=MemoryEvents(0, 0, 9, 1, 1, 0))
    desk.tell(Emptied(**{**born, "time": 6.1}, words=words))
    assert counted() == ({("", "", "web"): 1}, scopes)
    [case] = desk.cases._open[A]
    [victim] = case.all(OomVictim)
    assert (victim.pid, victim.is_init, victim.inode, victim.scope) == (77, True, 7, "")
    assert judge(case).cause == "oom_kill"
