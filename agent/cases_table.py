"""Verdicts as a table, a line each; two where the terminal is too narrow for why it ended. Pure."""

from collections.abc import Iterable

from agent.cases_rows import UNKNOWN, Row, exit_of, utc, verdict_of, whose
from agent.table import Layout, laid_out

_LAYOUT = Layout(header=("NUMBER", "ENDED", "CONTAINER", "CAUSE", "EXIT", "STOP", "WHY"), name=2, right=frozenset((0, 5)), last=30)


def table(rows: Iterable[Row], width: int | None) -> str:
    """Return the table, in the order of the rows. `width` is that of the terminal; None: nothing is cut."""
    return "".join(f"{line}\n" for lines in laid_out(_LAYOUT, [_cells(row) for row in rows], width) for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    verdict = verdict_of(row)
    stop = UNKNOWN if verdict.stop_seconds is None else f"{verdict.stop_seconds:.1f}s"
    missing = f"missing: {', '.join(verdict.missing)}" if verdict.missing else ""
    why = "" if verdict.cause == "unknown" and missing else next(iter(verdict.evidence), "")
    return (str(row["number"]), utc(verdict.ended), whose(row), verdict.cause, exit_of(verdict), stop, why or missing or UNKNOWN)
