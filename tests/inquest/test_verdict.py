"""Why containers ended: real sequences of facts with known causes, in any order, twice, and with gaps."""

from collections.abc import Iterable
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.inquest.facts import Created, Exited, Fact, Removed, Signalled, Started, StopRequested, StopReturned, Watched
from collectors.inquest.rules import RULES
from collectors.inquest.verdict import CAUSES, Verdict, judge
from tests.inquest.deaths import DEATHS, INODE, KERNEL, START, TERM, Death, at, deletion, die, kill, reaped, stop, traced, victim, watch
from tests.inquest.facts import FACTS

DOUBTS = {
    ("stopped", "completed", "stop request"),
    ("stopped", "error", "stop request"),
    ("error", "stopped", "stop request"),
    ("error", "stopped", "stop settings"),
    ("crashed", "error", "faults in the kernel log"),
    ("error", "crashed", "exact exit status"),
    ("killed", "error", "exact exit status"),
    ("killed", "forced_kill", "stop request"),
    ("forced_kill", "stopped", "signals sent"),
    ("killed", "oom_kill", "OOM victim"),
}
"""Decided: where one cause is given, not `unknown`, although another would be right if a fact was told that the verdict says is missing."""


def is_honest(verdict: Verdict, right: str) -> bool:
    """Whether a verdict is right, or unknown and says why, or in doubt and says of what."""
    if verdict.cause == "unknown" and right != "unknown":
        return bool(verdict.missing)
    return verdict.cause == right or any((right, verdict.cause, missing) in DOUBTS for missing in verdict.missing)


@st.composite
def parts(draw: st.DrawFn, facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """Lose facts: of some sources any, and with them what they say of having watched."""
    sources = sorted({fact.source for fact in facts})
    lossy = draw(st.sets(st.sampled_from(sources))) if sources else set()
    return tuple(
        fact
        for fact in facts
        if (fact.source not in lossy and not (isinstance(fact, Watched) and draw(st.integers(0, 5)) == 0))
        or (fact.source in lossy and not isinstance(fact, Watched) and draw(st.booleans()))
    )


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_each_death_has_its_cause_by_its_rule(death: Death) -> None:
    """As measured on the runtimes; a certain verdict lacks no fact, and an unknown one says which."""
    verdict = judge(death.facts)

    assert (verdict.cause, verdict.rule) == (death.cause, death.rule)
    assert verdict.evidence
    assert bool(verdict.missing) or verdict.cause != "unknown"


def test_the_corpus_reaches_each_rule_and_each_cause() -> None:
    """A rule that nothing reaches is not known to be right."""
    assert {judge(death.facts).rule for death in DEATHS} == {rule.name for rule in RULES}
    assert {death.cause for death in DEATHS} == set(CAUSES)
    assert len({death.name for death in DEATHS}) == len(DEATHS)


def test_the_table_of_rules_makes_sense() -> None:
    """Names are unique, causes are known, the last rule holds always, and all that are unknown say what they lack."""
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert {rule.cause for rule in RULES} == set(CAUSES)
    assert [rule for rule in RULES if not rule.needs] == [RULES[-1]]
    assert all(rule.wants for rule in RULES if rule.cause == "unknown")
    assert all(condition.__doc__ for rule in RULES for condition in (*rule.needs, *(known for _, known in rule.wants)))


@pytest.mark.parametrize("index", range(len(RULES) - 1), ids=lambda index: RULES[index].name)
def test_each_rule_decides_something(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a death of the corpus has another cause; one rule is there for what it says first."""
    monkeypatch.setattr("collectors.inquest.verdict.RULES", (*RULES[:index], *RULES[index + 1 :]))

    changed = [death for death in DEATHS if judge(death.facts).cause != death.cause]
    assert changed or RULES[index].name == "oom-of-child"


@pytest.mark.parametrize(
    ("index", "need"),
    [(index, need) for index, rule in enumerate(RULES) for need in range(len(rule.needs))],
    ids=str,
)
def test_each_condition_of_each_rule_is_needed(index: int, need: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it a death of the corpus is judged by another rule."""
    rule = RULES[index]
    weaker = replace(rule, needs=(*rule.needs[:need], *rule.needs[need + 1 :]))
    monkeypatch.setattr("collectors.inquest.verdict.RULES", (*RULES[:index], weaker, *RULES[index + 1 :]))

    assert [death for death in DEATHS if judge(death.facts).rule != death.rule], rule.needs[need].__name__


@given(st.data())
@settings(max_examples=400)
def test_order_and_repetition_change_nothing(data: st.DataObject) -> None:
    """Facts arrive as they like."""
    death = data.draw(st.sampled_from(DEATHS))
    again = data.draw(st.lists(st.sampled_from(death.facts)))

    assert judge(data.draw(st.permutations([*death.facts, *again]))) == judge(death.facts)


@given(st.data())
@settings(max_examples=3000, deadline=None)
def test_fewer_facts_make_unknown_not_wrong(data: st.DataObject) -> None:
    """And what is certain stays so, however much is told on top."""
    death = data.draw(st.sampled_from(DEATHS))
    some = data.draw(parts(death.facts))
    fewer = data.draw(parts(some))
    verdict, earlier = judge(some), judge(fewer)

    assert is_honest(verdict, death.cause if death.cause != "unknown" else verdict.cause), verdict
    assert verdict.missing or death.cause in (verdict.cause, "unknown"), verdict
    if earlier.cause != "unknown" and not earlier.missing:
        assert verdict.cause == earlier.cause, (earlier, verdict)


@given(st.lists(FACTS, max_size=12))
@settings(max_examples=1500, deadline=None)
def test_whatever_is_told_there_is_a_verdict(facts: list[Fact]) -> None:
    """Of a known cause, without a negative duration, with text that can be printed and numbers that can be kept."""
    verdict = judge(facts)

    assert verdict.cause in CAUSES
    assert 0 <= verdict.instance < 2**63
    for field in fields(verdict):
        value = getattr(verdict, field.name)
        assert not isinstance(value, float) or 0 <= value <= 1e15, field.name
    times = [time for time in (verdict.created, verdict.started, verdict.stop_requested) if time is not None]
    assert verdict.ended is None or all(time <= verdict.ended for time in times)
    assert verdict.ended is None or verdict.removed is None or verdict.ended <= verdict.removed
    assert all(first[0] <= second[0] for first, second in pairwise(verdict.timeline))
    assert all(text.isprintable() and len(text) < 1000 for text in (*verdict.evidence, *verdict.missing, *dict(verdict.timeline).values()))
    assert len(verdict.timeline) <= 60


@given(st.lists(FACTS, max_size=8), st.randoms())
def test_no_set_of_facts_depends_on_its_order(facts: list[Fact], random: Any) -> None:
    """Not even one that cannot be true."""
    shuffled = [*facts, *facts]
    random.shuffle(shuffled)

    assert judge(shuffled) == judge(facts)


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
        (exited("reaped", status=-1), None, None),
        (exited("reaped"), None, None),
        (exited("runtime", code=137), 137, None),
        (exited("runtime", code=139), 139, 11),
        (exited("runtime", code=134), 134, None),
        (exited("runtime", code=255), 255, None),
        (exited("runtime", code=-1), None, None),
        (exited("kubelet", code=137, signal=9), 137, 9),
    ],
    ids=["core", "exit 137", "stopped", "no status", "late", "137", "139", "134", "255", "negative", "kubelet's signal"],
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
