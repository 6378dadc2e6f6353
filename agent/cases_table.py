"""Verdicts as a table, a line each; two where the terminal is too narrow for why it ended. Pure."""

from collections.abc import Iterable, Sequence
from unicodedata import category, east_asian_width

from agent.cases_rows import UNKNOWN, Row, exit_of, utc, verdict_of, whose

_HEADER = ("NUMBER", "ENDED", "CONTAINER", "CAUSE", "EXIT", "STOP", "WHY")
_CONTAINER = _HEADER.index("CONTAINER")
_RIGHT = (_HEADER.index("NUMBER"), _HEADER.index("STOP"))
_GAP = "  "
_WHY = 30
"""Columns that its beginning needs to say something."""
_CUT = "..."


def table(rows: Iterable[Row], width: int | None) -> str:
    """Return the table, in the order of the rows. `width` is that of the terminal; None: nothing is cut."""
    lines = [_HEADER, *(_cells(row) for row in rows)]
    widths = [max(_width(cell) for cell in column) for column in zip(*lines, strict=True)]
    if width is None:
        return _text(_line(line, widths) for line in lines)
    room = width - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
    if room >= min(widths[-1], _WHY):
        return _text(_cut(_line(line, widths), width) for line in lines)

    widths = widths[:-1]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    widths[_CONTAINER] = max(widths[_CONTAINER] - max(over, 0), len(_HEADER[_CONTAINER]))
    return _text(_cut(each, width) for line in lines for each in _two_lines(line, widths))


def _cells(row: Row) -> tuple[str, ...]:
    verdict = verdict_of(row)
    stop = UNKNOWN if verdict.stop_seconds is None else f"{verdict.stop_seconds:.1f}s"
    missing = f"missing: {', '.join(verdict.missing)}" if verdict.missing else ""
    why = "" if verdict.cause == "unknown" and missing else next(iter(verdict.evidence), "")
    return (str(row["number"]), utc(verdict.ended), whose(row), verdict.cause, exit_of(verdict), stop, why or missing or UNKNOWN)


def _two_lines(line: Sequence[str], widths: Sequence[int]) -> tuple[str, ...]:
    *cells, why = line
    cells[_CONTAINER] = _cut_front(cells[_CONTAINER], widths[_CONTAINER])
    first = _line(cells, widths)
    return (first,) if why == _HEADER[-1] else (first, f"{_GAP}{why}")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = []
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        blank = " " * (width - _width(cell))
        padded.append(f"{blank}{cell}" if place in _RIGHT else f"{cell}{blank}")
    return _GAP.join(padded).rstrip(" ")


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _cut(text: str, width: int) -> str:
    """Return what fits, and marks that it is not all."""
    return text if _width(text) <= width else f"{_beginning(text, width - len(_CUT))}{_CUT}"[: max(width, 0)]


def _cut_front(name: str, width: int) -> str:
    """Return the end of a name: it says more than its beginning, the namespace."""
    return name if _width(name) <= width else f"{_CUT}{_beginning(name[::-1], width - len(_CUT))[::-1]}"


def _beginning(text: str, width: int) -> str:
    end = taken = 0
    for each in text:
        taken += _width(each)
        if taken > width:
            break
        end += 1
    return text[:end]


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if category(each) in ("Mn", "Me") else 2 if east_asian_width(each) in "WF" else 1 for each in text)
