"""Pauses are counted by what cgroup.events says, and their time rises while they last."""

from collectors.inquest.freezes import MOST, NEVER, Freezes
from collectors.kernel.container_id import ContainerKey

KEY = ContainerKey("a" * 64)


def test_a_freeze_counts_once_and_its_time_rises_until_it_ends() -> None:
    """However often it is looked at."""
    freezes = Freezes()
    for now, is_frozen in ((0.0, False), (10.0, True), (11.0, True), (12.0, True)):
        freezes.see(KEY, now, is_frozen=is_frozen)
    assert (freezes.of(KEY).times, freezes.of(KEY).until(13)) == (1, 3)
    freezes.see(KEY, 14, is_frozen=False)
    freezes.see(KEY, 20, is_frozen=True)
    freezes.end(KEY, 21)
    freezes.end(KEY, 25)
    assert (freezes.of(KEY).times, freezes.of(KEY).until(100)) == (2, 5)


def test_one_that_was_frozen_before_is_no_freeze_to_count_but_its_time_is() -> None:
    """From when it was seen."""
    freezes = Freezes()
    freezes.see(KEY, 10, is_frozen=True, is_history=True)
    assert (freezes.of(KEY).times, freezes.of(KEY).until(12)) == (0, 2)


def test_a_kernel_that_does_not_say_tells_nothing() -> None:
    """Before 5.2."""
    freezes = Freezes()
    freezes.see(KEY, 10, is_frozen=None)
    assert not freezes.is_told
    freezes.see(KEY, 10, is_frozen=False)
    assert freezes.is_told
    assert freezes.of(KEY) == NEVER


def test_a_clock_that_goes_back_takes_no_time_away() -> None:
    """It is monotonic, but nobody has to believe that."""
    freezes = Freezes()
    freezes.see(KEY, 10, is_frozen=True)
    assert freezes.of(KEY).until(9) == 0


def test_only_so_many_are_remembered() -> None:
    """The one whose last freeze is the oldest goes."""
    freezes = Freezes()
    for number in range(MOST + 1):
        freezes.see(ContainerKey(f"{number:064x}"), 1, is_frozen=True)
    assert freezes.of(ContainerKey(f"{0:064x}")) == NEVER
    assert freezes.of(ContainerKey(f"{MOST:064x}")).times == 1
