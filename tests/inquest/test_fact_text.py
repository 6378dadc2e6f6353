"""Facts of open cases as text: what is read back leads to the same verdict, and what cannot be read is said."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.inquest.case import KINDS
from collectors.inquest.fact_text import from_text, to_text
from collectors.inquest.facts import Emptied, Exited, Fact
from collectors.inquest.verdict import judge
from tests.inquest.deaths import DEATHS
from tests.inquest.facts import FACTS
from tests.inquest.told import Death, die, emptied, kill
from tests.tree import B

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([each.__name__ for each in KINDS]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["fact", "time", "source", "kind", "signal", "pid", "how", "inode", "facts", "container"]), inner)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_what_is_read_back_has_the_same_verdict(death: Death) -> None:
    """And is spelled as before; the text is not long."""
    text = to_text(death.facts)

    assert judge(from_text(text)) == judge(death.facts)
    assert to_text(from_text(text)) == text
    assert len(text) < 120 * (len(death.facts) + 1)


@given(st.lists(FACTS, max_size=10))
@settings(max_examples=100, deadline=None)
def test_facts_of_any_content_are_kept(facts: list[Fact]) -> None:
    """As far as they can be true; the text is ASCII, whatever a container wrote."""
    text = to_text(facts)

    assert text.isascii()
    assert judge(from_text(text)) == judge(facts)


def test_all_other_facts_are_read_back_as_they_were() -> None:
    """Only Born and Emptied lose what no verdict needs."""
    facts = tuple(fact for death in DEATHS for fact in death.facts if type(fact).__name__ not in ("Born", "Emptied"))

    assert from_text(to_text(facts)) == facts


def test_last_words_are_kept_as_far_as_they_matter() -> None:
    """OOM kills and the peak of memory; none where there were none."""
    [read] = from_text(to_text([emptied(40, 3, 1)]))
    [unread] = from_text(to_text([emptied(40, None)]))

    assert isinstance(read, Emptied)
    assert isinstance(unread, Emptied)
    assert read.words is not None
    assert read.words.memory_events is not None
    assert (read.words.memory_events.oom_kill, read.words.memory_events.oom_group_kill, read.words.memory_peak) == (3, 1, 2**25)
    assert unread.words is None


def test_a_case_is_one_containers() -> None:
    """Facts of two would be mixed up."""
    with pytest.raises(ValueError, match="of 2 containers"):
        to_text([die(40, 0), replace(die(40, 0), container=B)])


def test_what_a_newer_coroner_adds_is_left_out() -> None:
    """A kind that is not known, and a field of one that is."""
    text = json.loads(to_text([die(40, 3)]))
    text["facts"][0]["mood"] = "sad"
    text["facts"].append({"fact": "Haunted", "time": "midnight"})

    assert from_text(json.dumps(text)) == (die(40, 3),)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "Expecting value"),
        ("[]", "no object with a container and facts"),
        ('{"container":"a","facts":[3]}', "of which kind"),
        ('{"container":"a","facts":[{"fact":"Removed","source":"x"}]}', "Removed has no time"),
        ('{"container":"a","facts":[{"fact":"Removed","source":"x","time":true}]}', "time of Removed is True"),
        ('{"container":"a","facts":[{"fact":"Removed","source":"x","time":NaN}]}', "NaN"),
        ('{"container":"a","facts":[{"fact":"Removed","source":"x","time":1e999}]}', "time of Removed is inf"),
        ('{"container":"a","facts":[{"fact":"Signalled","source":"x","time":1}]}', "Signalled has no signal"),
        ('{"container":"a","facts":[{"fact":"Exited","source":"x","time":1,"how":"guessed"}]}', "how of Exited is 'guessed'"),
        ('{"container":"a","facts":[{"fact":"Exited","source":"x","time":1,"how":"reaped","status":"9"}]}', "status of Exited is '9'"),
        (100_000 * "[", "nested too deeply"),
    ],
    ids=lambda value: value[:70],
)
def test_what_is_wrong_is_said(text: str, fault: str) -> None:
    """The case is dropped, and the reason logged."""
    with pytest.raises(ValueError, match=fault):
        from_text(text)


@given(JSON | st.builds(lambda facts: {"container": "a", "facts": facts}, st.lists(JSON)))
@settings(max_examples=100, deadline=None)
def test_nothing_but_valueerror_is_raised(kept: Any) -> None:
    """Whatever stands in the casebook; what is read can be judged."""
    try:
        facts = from_text(json.dumps(kept))
    except ValueError:
        return
    assert judge(facts).rule


def test_a_number_that_is_none_is_left_out() -> None:
    """JSON has no infinity; the fact remains."""
    endless = replace(kill(3, 15), time=float("inf"))

    assert from_text(to_text([endless, die(40, 3)])) == (die(40, 3),)
    assert [type(fact) for fact in from_text(to_text([die(40, 3)]))] == [Exited]
