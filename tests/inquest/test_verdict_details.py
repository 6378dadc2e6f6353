"""What a verdict says beside the cause: times, the status that is believed, who watched, and what others wrote."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from collectors.inquest.facts import Created, Exited, Fact, Removed, Signalled, Started, StopRequested, StopReturned
from collectors.inquest.verdict import Verdict, judge
from collectors.kernel.cgroupfs import MemoryEvents
from collectors.kernel.last_words import LastWords
from tests.inquest.deaths import DEATHS
from tests.inquest.told import (
    INODE,
    KERNEL,
    START,
    TERM,
    at,
    deletion,
    die,
    emptied,
    fault,
    health,
    kill,
    layer,
    oom,
    reaped,
    stop,
    traced,
    victim,
    watch,
)


def told(*facts: Fact) -> Verdict:
    """Judge facts beside those that Docker and the kernel always tell."""
    return judge((*KERNEL, TERM, Started(**at(0.3, "docker")), watch("stops", "docker"), *facts))


def test_a_verdict_has_the_times_of_a_stop() -> None:
    """From the request to the end, and the grace as it was."""
    verdict = told(Created(**at(0, "docker")), kill(30, 15), kill(40, 9), die(40.5, 137), stop(40.7), Removed(**at(41, "docker")))

    assert verdict == replace(
        verdict,
        instance=INODE,
        created=START,
        started=START + 0.15,
        stop_requested=START + 30,
        ended=START + 40.5,
        removed=START + 41,
        exit_code=137,
        signal=9,
        stop_signal=15,
        stop_seconds=10.5,
        grace_seconds=10.0,
        sources=("cgroup", "docker", "proc"),
        how="runtime",
    )
    assert verdict.timeline == (
        (START, "created"),
        (START + 0.1, "its cgroup was made"),
        (START + 0.15, "started"),
        (START + 30, "SIGTERM was sent"),
        (START + 40, "SIGKILL was sent"),
        (START + 40.5, "ended by SIGKILL"),
        (START + 40.7, "the stop returned"),
        (START + 41, "removed"),
    )


def test_the_grace_of_a_deleted_pod_is_measured_from_its_signal() -> None:
    """A hook before the stop has taken five seconds of it."""
    verdict = judge((*KERNEL, deletion(10), traced(15, 15), traced(40, 9), reaped(40.1, 9)))

    assert (verdict.cause, verdict.stop_requested, verdict.grace_seconds) == ("forced_kill", START + 10, 25.0)


def test_a_stop_signal_of_sigkill_has_no_grace() -> None:
    """And is no forced kill."""
    [death] = [death for death in DEATHS if death.name == "docker: stop, STOPSIGNAL=KILL, pidfd"]

    assert (judge(death.facts).grace_seconds, judge(death.facts).stop_signal) == (None, 9)


def test_an_end_before_the_start_is_at_the_start() -> None:
    """Docker's FinishedAt can be some milliseconds before StartedAt."""
    verdict = judge([Started(**at(32.875, "docker")), die(32.869, 3)])

    assert (verdict.started, verdict.ended) == (START + 32.875, START + 32.875)
    assert [text for _, text in verdict.timeline] == ["started", "ended with exit code 3"]


def test_times_of_before_the_clock_was_set_are_not_known() -> None:
    """The clock went back an hour while it ran: no duration is negative."""
    verdict = judge([Created(**at(3600, "docker")), Started(**at(3600.5, "docker")), kill(3700, 15), die(100, 0), stop(100.2)])

    assert (verdict.cause, verdict.created, verdict.started, verdict.stop_requested) == ("stopped", None, None, None)
    assert (verdict.ended, verdict.stop_seconds, verdict.grace_seconds) == (START + 100, None, None)


@pytest.mark.parametrize(
    ("facts", "instance"),
    [
        ([reaped(40, 0), Started(**at(1, "docker"))], INODE),
        ([Started(**at(1.5, "docker")), Created(**at(1, "docker")), die(3, 0)], int((START + 1.5) * 1e6)),
        ([Created(**at(1, "docker")), die(3, 0)], int((START + 1) * 1e6)),
        ([die(3, 0)], int((START + 3) * 1e6)),
        ([], 0),
    ],
    ids=["inode", "started", "created", "ended", "nothing"],
)
def test_what_tells_lives_apart(facts: list[Fact], instance: int) -> None:
    """The inode of the cgroup, else when it began."""
    assert judge(facts).instance == instance


def exited(how: Any, **told: Any) -> Exited:
    """Tell an end."""
    return Exited(**at(40, "any"), how=how, **told)


REAPED, ZOMBIE, RUNTIME = exited("reaped", status=0), exited("zombie", status=1 << 8), exited("runtime", code=2)
KUBELET, INSPECT = exited("kubelet", code=3), exited("inspect", code=4)


@pytest.mark.parametrize("first", range(5))
def test_the_most_reliable_status_is_believed(first: int) -> None:
    """Whoever else tells another."""
    verdict = judge((REAPED, ZOMBIE, RUNTIME, KUBELET, INSPECT)[first:])

    assert (verdict.exit_code, verdict.how) == (first, ("reaped", "zombie", "runtime", "kubelet", "inspect")[first])


@pytest.mark.parametrize(
    ("fact", "code", "signal"),
    [
        (exited("reaped", status=0x8B), 139, 11),
        (exited("reaped", status=137 << 8), 137, None),
        (exited("reaped", status=0x137F), None, None),
        (exited("reaped", status=0x0109), None, None),
        (exited("reaped", status=-1), None, None),
        (exited("reaped"), None, None),
        (exited("runtime", code=137), 137, None),
        (exited("runtime", code=139), 139, 11),
        (exited("runtime", code=134), 134, None),
        (exited("runtime", code=255), 255, None),
        (exited("runtime", code=-1), None, None),
        (exited("kubelet", code=137, signal=9), 137, 9),
    ],
    ids=["core", "exit 137", "stopped", "nonsense", "no status", "late", "137", "139", "134", "255", "negative", "kubelet's signal"],
)
def test_what_a_status_says(fact: Exited, code: int | None, signal: int | None) -> None:
    """A code of 128 + n is a signal only where nothing else can be."""
    assert (judge([fact]).exit_code, judge([fact]).signal) == (code, signal)


def test_a_watch_that_began_in_the_window_of_a_stop_says_nothing() -> None:
    """One that began before says that there was none; so does one from the birth of a container that lived a moment."""
    assert judge((*KERNEL, watch("stops", "docker", 39), reaped(100, 9))).cause == "killed"
    assert judge((*KERNEL, watch("stops", "docker", 90), reaped(100, 9))).missing == ("stop request",)
    assert judge((*KERNEL, watch("stops", "docker", 0), reaped(1, 9))).cause == "killed"


def test_a_gap_in_the_watch_makes_it_unknown() -> None:
    """A later Watched of the same source says that there was one; that of another source does not."""
    facts = (*KERNEL, watch("stops", "docker"), reaped(100, 9))

    assert judge((*facts, watch("stops", "docker", 95))).cause == "unknown"
    assert judge((*facts, watch("stops", "kubernetes", 95))).cause == "killed"
    assert judge((*facts, watch("signals", "docker", 95))).cause == "killed"


def test_a_signal_of_the_kernels_own_is_nobodys() -> None:
    """The OOM killer's SIGKILL, and that of a namespace which ends."""
    verdict = judge((*KERNEL, watch("stops", "docker"), traced(39.9, 9, by="kernel"), exited("runtime", code=137)))

    assert (verdict.cause, verdict.missing) == ("unknown", ("exact exit status",))


def test_a_request_after_the_end_is_none() -> None:
    """Of two deletions the earlier deadline counts."""
    assert told(reaped(40, 0), deletion(42)).cause == "completed"
    shorter = (deletion(10, 60), StopRequested(**at(20, "kubernetes"), grace_seconds=5))
    assert judge((*KERNEL, *shorter, reaped(25.1, 9))).cause == "forced_kill"


def test_what_a_container_writes_is_quoted_in_evidence() -> None:
    """A name of a process may hold anything."""
    verdict = told(replace(victim(39.9), comm="a\nb\x1b[31m\udc80"), reaped(40, 9))

    assert verdict.evidence[0] == r"the OOM killer took its init, PID 31337 (a\nb\x1b[31m\udc80), at the limit of the container"


def test_a_deaf_init_is_in_the_evidence() -> None:
    """The kernel said that it discarded the signal."""
    verdict = judge((*KERNEL, deletion(10), traced(10, 15, is_accepted=False), traced(40, 9), reaped(40.1, 9)))

    assert "the kernel discarded SIGTERM: its init neither handles nor awaits it" in verdict.evidence


def every(kind: type[Fact], facts: Iterable[Fact]) -> list[Fact]:
    """Return the facts of a kind."""
    return [fact for fact in facts if isinstance(fact, kind)]


def test_the_same_signal_told_by_two_sources_is_in_the_timeline_once() -> None:
    """Docker and the kernel tell of it within a second."""
    facts = [kill(38, 15), replace(traced(38.01, 15), by=""), die(40, 0), StopReturned(**at(40.1, "docker"))]

    assert len(every(Signalled, facts)) == 2
    assert [text for _, text in told(*facts).timeline].count("SIGTERM was sent") == 1


def test_what_docker_says_of_an_oom_kill_is_kept_and_decides_nothing() -> None:
    """A child was killed, or only Docker says so; the init ended well."""
    verdict = told(oom(20), die(40, 0))

    assert (verdict.cause, verdict.missing) == ("completed", ())
    assert "docker says OOM" in verdict.evidence
    assert (START + 20, "docker said OOM") in verdict.timeline


def test_how_much_its_removal_loses_is_said() -> None:
    """Or that it could not be measured in time; nothing where nobody looked."""
    assert "it had written 5.0 MiB into its own layer" in told(die(40, 0), layer(40, 5 << 20)).evidence
    assert "it had written 0.0 MiB into its own layer" in told(die(40, 0), layer(40, 0), layer(40, None)).evidence
    assert "its own layer could not be measured when it had ended" in told(die(40, 0), layer(40, None)).evidence
    assert not [line for line in told(die(40, 0)).evidence if "layer" in line]


def test_for_how_long_it_had_been_unhealthy_is_said() -> None:
    """Until the stop was asked for, else until its end; one that has become healthy again was not."""
    sick = [health(1, "healthy"), health(2, "unhealthy"), health(3, "healthy"), health(5, "unhealthy")]
    stopped = told(*sick, kill(30, 15), health(31, "unhealthy"), die(40, 0), stop(40.2))

    assert "it had been unhealthy for 25.0 s when the stop was asked for" in stopped.evidence
    assert (START + 5, "its health check said unhealthy") in stopped.timeline
    assert "it had been unhealthy for 35.0 s when it ended" in told(*sick, die(40, 1)).evidence
    assert not [line for line in told(*sick[:3], die(40, 1)).evidence if "unhealthy" in line]


def test_a_fault_long_ago_is_none_of_its_end() -> None:
    """A child crashed and was replaced; the code is the program's own."""
    assert told(fault(20, 400), reaped(40, 139 << 8)).cause == "error"
    assert told(fault(35, 400), reaped(40, 139 << 8)).cause == "crashed"


def test_the_line_of_a_fault_makes_a_code_of_a_runtime_sure() -> None:
    """139 may be chosen by a program; with the kernel's word for it nothing is missing. A line about another signal is no such word."""
    assert told(die(40, 139)).missing == ("exact exit status",)
    assert told(die(40, 139), fault(39.9)).missing == ()
    assert told(die(40, 139), fault(39.9, signal=None)).missing == ()
    assert told(die(40, 139), fault(39.9, 400, signal=4)).missing == ("exact exit status",)
    assert told(reaped(40, 132 << 8), fault(39.9, 400, signal=4)).rule == "fault-of-child"
    assert told(reaped(40, 139 << 8), fault(39.9, 400, signal=4)).rule == "failure"


def test_an_oom_kill_long_ago_is_not_mirrored() -> None:
    """Only that of a child just before an exit with 137 is."""
    assert told(victim(20, 400, is_init=False), reaped(40, 137 << 8)).rule == "failure"
    assert told(victim(39, 400, is_init=False), reaped(40, 137 << 8)).evidence[0] == "mirrors OOM of PID 400 (java)"


def test_a_core_dump_is_in_the_evidence() -> None:
    """The kernel says so in the wait status."""
    assert told(reaped(40, 0x8B)).evidence[0] == "its init was ended by SIGSEGV, with a core dump, says the kernel (reaped)"


def test_a_kernel_that_counts_no_oom_kills_excludes_none() -> None:
    """Nor does a second reading without them take away what the first said."""
    facts = (watch("stops", "docker"), reaped(40, 9))
    old = replace(emptied(40.2), words=LastWords(memory_events=MemoryEvents(0, 0, 0, None, None, None)))

    assert judge((*facts, old)).missing == ("OOM kills",)
    assert judge((*facts, old, emptied(40.1))).cause == "killed"


def test_a_log_that_lost_a_kill_excludes_none() -> None:
    """The kernel counted one, and the log, which was read, told of no victim; one of a whole group took the init too."""
    assert told(reaped(40, 9), emptied(40.1, 1)).missing == ("OOM kills",)
    assert told(reaped(40, 9), emptied(40.1, 2, 1)).rule == "oom-of-group"
    assert told(reaped(40, 9), emptied(40.1, 2, 1), victim(20, 400, is_init=False)).cause == "killed"
