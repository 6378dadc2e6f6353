"""What is remembered has a bound, whoever lives."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as some

from collectors.inquest.bounded import forget_oldest


@given(some.lists(some.integers(0, 20), unique=True), some.integers(1, 10), some.sets(some.integers(0, 20)))
def test_who_lives_is_forgotten_last_and_the_bound_holds(known: list[int], most: int, living: set[int]) -> None:
    """Also if all live; the one that was added last always stays."""
    left = OrderedDict.fromkeys(known)
    forget_oldest(left, most, living.__contains__)

    assert len(left) == min(len(known), most)
    assert known[-1:] == [] or known[-1] in left
    lost = set(known) - set(left)
    assert not lost & living or not set(left) - living - {known[-1]}
    dead = [each for each in known if each not in living and each != known[-1]]
    assert [each for each in dead if each in lost] == dead[: len([each for each in dead if each in lost])], "the oldest go first"
