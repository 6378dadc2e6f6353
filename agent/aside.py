"""Records that the casebook cannot take: one poisoned record is set aside once, counted and logged, and the others are kept."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Any

from agent import tables
from agent.tables import RowKey
from collectors.base import Sample, counter
from collectors.inquest.kill_state import Victim

SET_ASIDE = counter(
    "coroner_casebook_set_aside_total",
    "Records left out of the casebook, or dropped from it, because a value in them cannot be stored. The log names them.",
    (),
)

METRICS = (SET_ASIDE,)

log = logging.getLogger(__name__)


class Aside:
    """Keeps from the casebook what SQLite cannot hold, or what nobody could read back."""

    def __init__(self) -> None:
        self._count = 0
        self._rows: set[RowKey] = set()
        """Those of the state that cannot be kept as they are now."""

    def samples(self) -> Iterable[Sample]:
        """Yield how many there were."""
        yield SET_ASIDE, (), self._count

    def lets_pass(self, victim: Victim) -> bool:
        """Whether a victim can be kept."""
        fault = tables.misfit_victim(victim)
        if fault:
            self._put("victims", fault, astuple(victim))
        return not fault

    def lets_row_pass(self, key: RowKey, values: tuple[Any, ...]) -> bool:
        """Whether a row of the state can be kept; one that cannot is counted once. Raises ValueError for that of the epoch."""
        row = *key[1], *values
        fault = tables.misfit(key[0], row)
        if not fault:
            self._rows.discard(key)
        elif key[0] == "epoch":
            raise ValueError(f"the place in the kernel log cannot be kept, and without it nothing is: {fault}")
        elif key not in self._rows:
            self._rows.add(key)
            self._put(key[0], fault, row)
        return not fault

    def dropped(self, by_table: Mapping[str, int]) -> None:
        """Take note of rows that were found in the file and deleted."""
        for table, number in by_table.items():
            self._count += number
            log.warning("casebook: rows that cannot be true are dropped", extra={"table": table, "rows": number})

    def _put(self, table: str, fault: str, row: tuple[Any, ...]) -> None:
        self._count += 1
        log.error("casebook: a record cannot be kept", extra={"table": table, "reason": fault, "record": tables.spelled(row)})
