"""Why containers ended: real sequences of facts with known causes, in any order, twice, and with gaps."""

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.inquest.facts import Fact, Watched
from collectors.inquest.rules import RULES
from collectors.inquest.verdict import CAUSES, Verdict, judge
from tests.inquest.deaths import DEATHS
from tests.inquest.facts import FACTS
from tests.inquest.told import Death, health, layer, oom

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
@settings(max_examples=200)
def test_order_and_repetition_change_nothing(data: st.DataObject) -> None:
    """Facts arrive as they like."""
    death = data.draw(st.sampled_from(DEATHS))
    again = data.draw(st.lists(st.sampled_from(death.facts)))

    assert judge(data.draw(st.permutations([*death.facts, *again]))) == judge(death.facts)


@given(st.data())
@settings(max_examples=250, deadline=None)
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


_SECONDS = st.floats(-10, 100) | st.sampled_from([0.0, 39.9, 40.0, 40.1])
_STATES = st.sampled_from(["starting", "healthy", "unhealthy"])
_SIZES = st.builds(layer, st.floats(40, 50), st.none() | st.integers(0))
OPINIONS = st.lists(st.builds(oom, _SECONDS) | st.builds(health, _SECONDS, _STATES) | _SIZES, max_size=4)
"""Made once: to make a strategy takes longer than to draw from it."""


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_opinions_decide_nothing(data: st.DataObject) -> None:
    """What a runtime says of OOM kills and of health, whenever it is, and how large the layer was."""
    death = data.draw(st.sampled_from(DEATHS))
    more = data.draw(OPINIONS)
    verdict, plain = judge((*death.facts, *more)), judge(death.facts)

    for name in ("cause", "rule", "missing", "ended", "exit_code", "signal", "stop_requested", "grace_seconds"):
        assert getattr(verdict, name) == getattr(plain, name), name


@given(st.lists(FACTS, max_size=12))
@settings(max_examples=300, deadline=None)
def test_whatever_is_told_there_is_a_verdict(facts: list[Fact]) -> None:
    """Of a known cause, without a negative duration, with text that can be printed and numbers that can be kept."""
    verdict = judge(facts)

    assert verdict.cause in CAUSES
    assert 0 <= verdict.instance < 2**63
    for field in fields(verdict):
        value = getattr(verdict, field.name)
        assert not isinstance(value, float) or 0 <= value <= 1e15, field.name
    assert all(number is None or 0 < number <= 64 for number in (verdict.signal, verdict.stop_signal))
    assert verdict.exit_code is None or 0 <= verdict.exit_code < 2**32
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
