"""What memory.events is sure of: at least how many processes were killed, where the kernel may have counted one of them twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.inquest.tally import Reading, Tally


def sure(*readings: tuple[int, int | None]) -> list[int]:
    """Take readings of oom_kill and group kills; return what is sure after each."""
    tally, found = Tally(), []
    for kills, groups in readings:
        tally.take(Reading(kills, groups), is_later=True)
        found.append(tally.kills)
    return found


@pytest.mark.parametrize(
    ("kills", "groups", "expected"),
    [(0, 0, 0), (3, 0, 3), (1, 1, 1), (2, 1, 1), (4, 1, 3), (4, 2, 2), (5, 9, 3), (1, None, 1), (2, None, 1), (3, None, 2), (28, None, 14)],
)
def test_the_least_that_one_reading_can_mean(kills: int, groups: int | None, expected: int) -> None:
    """max(E - G, ceil(E/2)): of E kills at most G are in it twice, and each of those has two of them."""
    assert sure((kills, groups)) == [expected]


def test_each_rise_is_judged_by_itself_once_the_last_kill_has_ended() -> None:
    """Three processes, and later one that was ending: 5 - 2 would hide the second kill."""
    assert sure((4, 1), (4, 1), (5, 2)) == [3, 3, 4]


def test_a_reading_in_the_middle_of_a_group_kill_counts_nobody_twice() -> None:
    """The first victim is in the first reading already, and comes again in the third."""
    assert sure((1, 0), (1, 1), (2, 1), (3, 1)) == [1, 1, 1, 2]


def test_a_group_that_was_set_later_takes_nothing_back() -> None:
    """And one that is not set any more leaves what it was."""
    assert sure((10, 0), (10, 0), (11, 1), (11, 1), (12, 1)) == [10, 10, 11, 11, 12]
    assert sure((10, None), (10, None), (11, 0)) == [5, 5, 6]


def test_a_count_that_falls_is_not_believed() -> None:
    """Only what is above the highest one counts."""
    assert sure((7, 0), (2, 0), (2, 0), (7, 0), (8, 0)) == [7, 7, 7, 7, 8]


def test_a_tally_goes_on_where_the_last_agent_was() -> None:
    """One of an older casebook, without its reading, is judged as a whole."""
    kept = Tally(kills=3, events=4, groups=1)
    kept.go_on()
    kept.take(Reading(5, 2), is_later=True)
    assert kept.kills == 4

    older = Tally(kills=3)
    older.go_on()
    older.take(Reading(5, 1), is_later=True)
    assert older.kills == 4


@given(st.lists(st.one_of(st.just("read"), st.tuples(st.integers(1, 4), st.booleans(), st.booleans()))), st.booleans())
def test_it_is_never_more_than_there_were_and_never_none_of_some(steps: list[str | tuple[int, bool, bool]], counts_groups: bool) -> None:
    """Whether the kernel counts group kills or not, wherever readings fall. A step: victims, a group or not, the first twice or not."""
    tally, kills, groups, truth, found = Tally(), 0, 0, 0, [0]

    def read(*, is_later: bool) -> None:
        tally.take(Reading(kills, groups if counts_groups else None), is_later=is_later)
        found.append(tally.kills)
        assert found[-2] <= tally.kills <= truth

    for step in steps:
        if isinstance(step, str):
            read(is_later=True)
            continue
        victims, is_group, is_twice = step
        for victim in range(victims):
            truth, kills = truth + 1, kills + 1
            read(is_later=False)
            if victim == 0 and is_group:
                groups += 1
                read(is_later=False)
                kills += is_twice
                read(is_later=False)
    read(is_later=True)

    assert tally.kills >= (kills + 1) // 2
    if counts_groups:
        assert tally.kills >= kills - groups
