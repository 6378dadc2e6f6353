"""What to change after a death: something for each rule, and how to know more where a fact was missing."""

import pytest

from collectors.inquest.advice import advice
from collectors.inquest.rules import RULES
from collectors.inquest.verdict import judge
from tests.inquest.deaths import DEATHS
from tests.inquest.told import KERNEL, Death, deletion, die, kill, reaped, stop, traced


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_there_is_advice_after_each_death(death: Death) -> None:
    """Whole sentences, not many; for an unknown cause how to have the missing fact."""
    verdict = judge(death.facts)
    said = advice(verdict)

    assert said.endswith(".")
    assert 20 < len(said) < 600
    assert ("To be sure the next time: " in said) == bool(verdict.missing)


def test_each_fact_that_may_be_missing_has_a_remedy() -> None:
    """None is named that nobody can do anything about."""
    names = {name for rule in RULES for name, _ in rule.wants}
    verdict = judge(())

    for name in names:
        assert "To be sure" in advice(type(verdict)(container=verdict.container, instance=0, cause="unknown", missing=(name,))), name


def test_a_forced_kill_names_the_signal_and_the_grace() -> None:
    """What to change is to handle the one within the other."""
    said = advice(judge([kill(30, 10), kill(40, 9), die(40.1, 137), stop(40.2)]))

    assert said.startswith("It did not end after SIGUSR1 within its grace of 10.0 s: handle SIGUSR1")


def test_an_init_that_is_deaf_is_told_from_one_that_is_slow() -> None:
    """The kernel said that it discarded the signal."""
    said = advice(judge((*KERNEL, deletion(10), traced(10, 15, is_accepted=False), traced(40, 9), reaped(40.1, 9))))

    assert said.startswith("Its init does not handle SIGTERM: start the program with exec")
