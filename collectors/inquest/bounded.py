"""What is remembered of containers has a bound, and those that live are the last to be forgotten. Pure."""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def forget_oldest(known: OrderedDict[K, V], most: int, lives: Callable[[K], bool]) -> None:
    """Forget the oldest until so many are left; one that lives, or that was just added, only if there are no others.

    Those that live and were the oldest count as new.
    """
    if len(known) <= most:
        return
    newest = next(reversed(known))
    for _ in range(len(known)):
        if len(known) <= most:
            return
        key = next(iter(known))
        if key == newest or lives(key):
            known.move_to_end(key)
        else:
            del known[key]
    while len(known) > most:
        known.popitem(last=False)


def nobody_lives(_key: object) -> bool:
    """Take the oldest, for whoever does not know who lives."""
    return False
