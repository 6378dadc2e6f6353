"""Records that the casebook cannot take: one poisoned record is set aside once, counted and logged, and the others are kept."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Any

from agent.casebook import schema, victims
from agent.casebook.schema import RowKey
from agent.casebook.verdicts import Closed
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
        """Those that cannot be kept as they are now, of the rows that change."""

    def samples(self) -> Iterable[Sample]:
        """Yield how many there were."""
        yield SET_ASIDE, (), self._count

    def lets_pass(self, victim: Victim) -> bool:
        """Whether a victim can be kept."""
        fault = victims.misfit(victim)
        if fault:
            self._put("victims", fault, astuple(victim))
        return not fault

    def without_poison(self, closed: Closed) -> Closed | None:
        """Return a verdict as it can be kept: with little more than its cause if a value cannot be, so that it counts once all the same.

        None if not even that can be.
        """
        fault = closed.misfit()
        if not fault:
            return closed
        self._put("verdicts", fault, (closed,))
        bare = closed.bare(fault)
        return None if bare.misfit() else bare

    def lets_row_pass(self, key: RowKey, values: tuple[Any, ...] | None) -> bool:
        """Whether a row can be written, or deleted (None); one that cannot is counted once. Raises ValueError for that of the epoch."""
        table, identifier = key
        if values is None:
            self._rows.discard(key)
            return not schema.misfit(table, identifier, schema.KEYS[table])
        fault = schema.misfit(table, (*identifier, *values))
        if not fault:
            self._rows.discard(key)
        elif table == "epoch":
            raise ValueError(f"the place in the kernel log cannot be kept, and without it nothing is: {fault}")
        elif key not in self._rows:
            self._rows.add(key)
            self._put(table, fault, (*identifier, *values))
        return not fault

    def dropped(self, by_table: Mapping[str, int]) -> None:
        """Take note of rows that were found in the file and deleted."""
        for table, number in by_table.items():
            self._count += number
            log.warning("casebook: rows that cannot be true are dropped", extra={"table": table, "rows": number})

    def _put(self, table: str, fault: str, row: tuple[Any, ...]) -> None:
        self._count += 1
        log.error("casebook: a record cannot be kept", extra={"table": table, "reason": fault, "record": schema.spelled(row)})
