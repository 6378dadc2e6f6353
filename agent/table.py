"""Tables of commands: columns as wide as what is in them, and what does not fit a terminal is cut or has a line of its own. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unicodedata import category, east_asian_width

_GAP = "  "
_CUT = "..."


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns are called. The last one is a sentence."""

    header: tuple[str, ...]
    name: int
    """Which one is cut, at its front, where the terminal is too narrow for all but the last."""
    right: frozenset[int] = frozenset()
    """Those that are aligned to the right."""
    last: int = 30
    """Columns of the terminal that the beginning of the last one needs to say something; with fewer it has a line of its own."""


def laid_out(layout: Layout, rows: Sequence[Sequence[str]], width: int | None) -> Iterator[tuple[str, ...]]:
    """Yield the lines of the header and of each row, one or two. `width` is that of the terminal; None: nothing is cut."""
    lines = [layout.header, *rows]
    widths = [max(_width(cell) for cell in column) for column in zip(*lines, strict=True)]
    if width is None:
        yield from ((_line(layout, line, widths),) for line in lines)
        return
    room = width - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1)
    if room >= min(widths[-1], layout.last):
        yield from ((cut(_line(layout, line, widths), width),) for line in lines)
        return

    widths = widths[:-1]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    widths[layout.name] = max(widths[layout.name] - max(over, 0), len(layout.header[layout.name]))
    yield (cut(_line(layout, layout.header[:-1], widths), width),)
    for row in rows:
        *cells, last = row
        cells[layout.name] = _cut_front(cells[layout.name], widths[layout.name])
        yield cut(_line(layout, cells, widths), width), cut(f"{_GAP}{last}", width)


def _line(layout: Layout, line: Sequence[str], widths: Sequence[int]) -> str:
    padded = []
    for place, (cell, width) in enumerate(zip(line, widths, strict=True)):
        blank = " " * (width - _width(cell))
        padded.append(f"{blank}{cell}" if place in layout.right else f"{cell}{blank}")
    return _GAP.join(padded).rstrip(" ")


def cut(text: str, width: int) -> str:
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
