"""The screen of `coroner top`, with rich. It is imported when it is needed: rich is an extra."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from agent.top_rows import SORTS, Row, printable

_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_MARKS = {"critical": "!!", "warning": "!", "info": "i"}
_SHORT = {"memory": "mem", "zombies": "zomb", "throttling": "throt", "waiting": "wait"}
"""So that all keys fit into 80 columns."""
_FULL, _NEAR = 0.9, 0.75
_WIDE = 100
"""Columns from which on findings have one of their own."""
_AROUND = 5
"""Lines that are not rows: two above the table, its header, and two below."""
_UNCUT = 10_000
_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class View:
    """All that one screen shows."""

    rows: Sequence[Row]
    """In their order."""
    sort: str
    """A key of SORTS."""
    source: str
    """Where it is from."""
    clock: str
    selected: int = 0
    blind: tuple[str, ...] = ()
    node_findings: tuple[tuple[str, str], ...] = ()
    says_findings: bool = True
    problem: str = ""
    """Why it is not as of now."""


def render(view: View, width: int, height: int | None) -> RenderableType:
    """Make the screen of that many columns and lines; None: all rows, one after another, and nothing that is for a person at the keys."""
    room = len(view.rows) if height is None else max(0, height - _AROUND)
    first = min(max(0, view.selected - room + 1), max(0, len(view.rows) - room))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, expand=height is not None, header_style="bold", show_edge=False)
    for name, justify in (("", "left"), ("CONTAINER", "left")):
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", ratio=1 if name else None)  # type: ignore[arg-type] # rich wants literals
    for name in ("CPU", "MEM", "MEM%", "PIDS", "ZOMB", "THROT%", "WAIT%"):
        table.add_column(name, justify="right", no_wrap=True)
    is_wide = width >= _WIDE
    if is_wide:
        table.add_column("FINDINGS", no_wrap=True, overflow="ellipsis", ratio=1)
    for place, row in list(enumerate(view.rows))[first : first + room]:
        is_selected = height is not None and place == view.selected
        table.add_row(*_cells(row), *([_findings(row)] if is_wide else []), style=Style(reverse=True) if is_selected else None)
    lines: list[RenderableType] = [_headline(view), _state(view), table]
    if height is not None:
        lines += [Text("")] * max(0, room - len(view.rows)) + [_selected(view), _keys(view)]
    return Group(*lines)


def as_text(view: View, *, styled: bool, width: int | None) -> str:
    """Spell all rows as text that ends in a newline; with colours if `styled`. `width` is that of the terminal; None: nothing is cut."""
    console = Console(width=width or _UNCUT, force_terminal=styled, highlight=False)
    with console.capture() as captured:
        console.print(render(view, console.width, None))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _cells(row: Row) -> list[Text]:
    pids = _UNKNOWN if row.threads is None else f"{row.threads:.0f}" + (f"/{row.threads_limit:.0f}" if row.threads_limit else "")
    return [
        Text(_MARKS.get(row.severity, ""), _STYLES.get(row.severity, "")),
        Text(row.name, "dim" if row.is_paused else ""),
        Text(_UNKNOWN if row.cpu is None else f"{row.cpu:.2f}"),
        Text(_UNKNOWN if row.memory is None else bytes_of(row.memory)),
        _share(row.memory_share),
        Text(pids, _style(row.threads_share)),
        Text(_UNKNOWN if row.zombies is None else f"{row.zombies:.0f}", "yellow" if row.zombies else ""),
        _share(row.throttled),
        _share(row.pressure),
    ]


def _share(share: float | None) -> Text:
    return Text(_UNKNOWN) if share is None else Text(f"{100 * share:.0f}", _style(share))


def _style(share: float | None) -> str:
    return "" if share is None or share < _NEAR else "red" if share >= _FULL else "yellow"


def bytes_of(size: float) -> str:
    """Spell bytes in at most five characters and a letter: powers of 1024."""
    for unit in ("B", "K", "M", "G", "T"):
        if size < 1000 or unit == "T":
            break
        size /= 1024
    return f"{size:.0f}{unit}" if unit == "B" or size >= 100 else f"{size:.1f}{unit}"


def _findings(row: Row) -> Text:
    return Text(" ").join(Text(rule, _STYLES.get(severity, "")) for severity, rule in row.findings)


def _headline(view: View) -> Text:
    zombies = sum(row.zombies or 0 for row in view.rows)
    found = sum(1 for row in view.rows if row.findings)
    with_findings = f", {found} with findings" if view.says_findings else ""
    text = Text(f"coroner top  {view.clock}  ", "bold")
    text.append(f"{len(view.rows)} containers{with_findings}, {zombies:.0f} zombies  by {SORTS[view.sort][0]}", "not bold")
    return _line(text)


def _state(view: View) -> Text:
    """Say what is missing before what is fine: an empty list of a blind agent is no good news."""
    parts = [
        Text(printable(view.problem), "bold red"),
        Text(printable(view.source), "dim"),
        Text(f"blind: {', '.join(map(printable, view.blind))}" if view.blind else "", "yellow"),
        *(Text(f"node: {printable(rule)}", _STYLES.get(severity, "")) for severity, rule in view.node_findings),
        Text("" if view.says_findings else "nobody looks for findings", "dim"),
    ]
    return _line(Text("  ").join(part for part in parts if part))


def _selected(view: View) -> Text:
    if not view.rows:
        return Text("no containers")
    row = view.rows[view.selected]
    told = ["paused"] if row.is_paused else []
    told += [f"OOM kills: {row.kills:.0f}"] if row.kills else []
    parts = [Text(row.name, "bold"), *(Text(f"{severity}: {rule}", _STYLES.get(severity, "")) for severity, rule in row.findings)]
    return _line(Text("  ").join([*parts, *map(Text, told)]))


def _keys(view: View) -> Text:
    keys = Text("q quit  arrows  sort: ", "dim")
    for key, (name, _) in SORTS.items():
        keys.append(f"{key} {_SHORT.get(name, name)} ", "bold" if key == view.sort else "dim")
    return _line(keys)


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
