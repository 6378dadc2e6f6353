"""When containers were created and started is told once per life, whoever tells it and in whatever order."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from collectors.inquest.facts import Created, Emptied, Exited, Fact, Removed, Started, StopReturned
from collectors.inquest.starts import MOST, Starts
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId, ContainerKey

KEY = ContainerKey("a" * 64)


def created(at: float) -> Fact:
    """Docker has made it."""
    return Created(container=KEY, source="docker", time=at)


def started(at: float, inode: int | None = None) -> Fact:
    """Its init runs: as Docker tells it, or the kernel."""
    return Started(container=KEY, source="docker" if inode is None else "exits", time=at, inode=inode)


def exited(at: float, inode: int | None = None) -> Fact:
    """Its init has ended."""
    return Exited(container=KEY, source="docker" if inode is None else "exits", time=at, inode=inode, how="runtime", code=0)


def emptied(at: float, inode: int) -> Fact:
    """Its cgroup is empty."""
    cgroup = Cgroup(f"/docker/{KEY}", "/x", inode, has_children=False)
    return Emptied(container=KEY, source="cgroup", time=at, inode=inode, id=ContainerId.of_key(KEY), cgroup=cgroup)


def starts(*facts: Fact) -> Starts:
    """Take facts in their order."""
    made = Starts()
    for fact in facts:
        made.tell(fact)
    return made


def test_the_kernel_is_believed_before_the_runtime() -> None:
    """In any order, for the life with that cgroup."""
    for facts in permutations((created(10), started(10.5), started(10.25, 7))):
        known = starts(*facts)
        assert known.started(KEY, 7) == 10.25
        assert known.waited(KEY, 7) == 0.25
        assert known.started(KEY, 8) is None, "another life"


def test_without_the_kernel_the_runtime_tells() -> None:
    """It does not know the inode."""
    known = starts(created(10), started(10.5))
    assert (known.started(KEY, 7), known.waited(KEY, 7)) == (10.5, 0.5)


def test_what_nobody_told_is_absent() -> None:
    """No time is 0."""
    assert Starts().started(KEY, 7) is None
    assert Starts().waited(KEY, 7) is None
    assert starts(created(10)).started(KEY, 7) is None
    assert starts(started(10, 7)).waited(KEY, 7) is None
    assert starts(created(11), started(10, 7)).waited(KEY, 7) is None, "a clock was set"


def test_a_life_that_has_ended_is_over() -> None:
    """And the next one did not wait since the creation."""
    known = starts(created(10), started(10.5, 7), exited(20, 7), emptied(20.1, 7), exited(20))
    assert known.started(KEY, 7) is None
    known.tell(started(30, 8))
    assert (known.started(KEY, 8), known.waited(KEY, 8)) == (30, None)
    known.tell(created(10))
    assert known.waited(KEY, 8) is None, "an inspection tells of the creation again"


def test_one_that_is_removed_is_forgotten() -> None:
    """Its id never comes again."""
    known = starts(created(10), Removed(container=KEY, source="docker", time=11))
    known.tell(started(12, 7))
    assert known.waited(KEY, 7) is None


def test_an_end_before_the_start_is_of_an_earlier_life() -> None:
    """An agent that has just started hears of both from one inspection, before or after the kernel's word."""
    for facts in permutations((created(10), exited(20), started(30), started(30, 8))):
        known = starts(*facts, started(30))
        assert known.started(KEY, 8) == 30
        if facts.index(exited(20)) > facts.index(created(10)):
            assert known.waited(KEY, 8) is None
    late = starts(created(10), started(10.5, 7), started(30, 8), exited(20, 7), emptied(20.1, 7))
    assert (late.started(KEY, 8), late.waited(KEY, 8)) == (30, None)


def test_only_so_many_are_remembered() -> None:
    """The oldest goes."""
    known = Starts()
    for number in range(MOST + 1):
        known.tell(Started(container=ContainerKey(f"{number:064x}"), source="exits", time=1.0, inode=number + 1))
    assert known.started(ContainerKey(f"{0:064x}"), 1) is None
    assert known.started(ContainerKey(f"{MOST:064x}"), MOST + 1) == 1


def test_one_that_lives_is_remembered_however_many_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its start is told of once."""
    monkeypatch.setattr("collectors.inquest.starts.MOST", 2)
    known = Starts(lambda key: key == KEY)
    known.tell(started(5, 7))
    for number in range(10):
        known.tell(Started(container=ContainerKey(f"{number:064x}"), source="exits", time=1.0, inode=number + 1))
    assert known.started(KEY, 7) == 5


@pytest.mark.parametrize("time", [float("nan"), -1.0, float("inf")])
def test_a_time_that_cannot_be_is_none(time: float) -> None:
    """It is of nothing."""
    assert starts(started(time, 7), created(time)).started(KEY, 7) is None


FACTS = some.one_of(
    some.builds(created, some.floats(allow_nan=True)),
    some.builds(started, some.floats(allow_nan=True), some.none() | some.integers(1, 3)),
    some.builds(exited, some.floats(0, 100), some.none() | some.integers(1, 3)),
    some.builds(emptied, some.floats(0, 100), some.integers(1, 3)),
    some.just(StopReturned(container=KEY, source="docker", time=5.0)),
)


@given(some.lists(FACTS, max_size=12))
def test_no_order_of_facts_makes_it_fail_or_wait_for_less_than_no_time(facts: list[Fact]) -> None:
    """Whatever is told."""
    known = starts(*facts)
    for inode in range(4):
        waited = known.waited(KEY, inode)
        assert waited is None or waited >= 0
        assert waited is None or known.started(KEY, inode) is not None
