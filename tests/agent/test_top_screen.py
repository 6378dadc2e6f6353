"""The screen of `coroner top`: what is on it in 80 columns and 24 lines, and in fewer, and nothing of a name is obeyed."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.screen import Screen

from agent.top_rows import Row
from agent.top_screen import View, as_text, bytes_of, render

WEB = Row(
    "shop/web-5d8f7c9b6-x2x4q/web",
    findings=(("critical", "init-deaf"), ("warning", "zombies-pile-up")),
    cpu=0.25,
    memory=56e6,
    memory_share=0.88,
    threads=90,
    threads_limit=100,
    zombies=73,
    throttled=0.5,
    pressure=0.02,
    kills=2,
)
VIEW = View(
    rows=[WEB, *(Row(f"idle-{number:02}", threads=1) for number in range(40))],
    sort="c",
    source="agent at 127.0.0.1:10911",
    clock="03:00:00",
    blind=("kmsg", "docker"),
    node_findings=(("warning", "pid-table"),),
)


def screen(view: View, width: int = 80, height: int = 24) -> list[str]:
    """Draw it; return its lines."""
    console = Console(width=width, height=height, force_terminal=True, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(Screen(render(view, width, height)), end="")
    return captured.get().split("\n")


def test_a_screen_of_80_by_24_has_it_all() -> None:
    """The counts, what is missing, as many rows as fit, the findings of the selected one, and the keys."""
    lines = screen(VIEW)

    assert len(lines) == 24
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].rstrip() == "coroner top  03:00:00  41 containers, 1 with findings, 73 zombies  by concern"
    assert lines[1].rstrip() == "agent at 127.0.0.1:10911  blind: kmsg, docker  node: pid-table"
    assert lines[2].split() == ["CONTAINER", "CPU", "MEM", "MEM%", "PIDS", "ZOMB", "THROT%", "WAIT%"]
    assert lines[3].split() == ["!!", "shop/web-5d8f7c9b6-x2x4q/web", "0.25", "53.4M", "88", "90/100", "73", "50", "2"]
    assert [line.split()[0] for line in lines[4:22]] == [f"idle-{number:02}" for number in range(18)]
    assert lines[22].rstrip() == "shop/web-5d8f7c9b6-x2x4q/web  critical: init-deaf  warning: zombies-pile-up  OO…"
    assert lines[23].rstrip() == "q quit  arrows  sort: c concern u cpu m mem p pids z zomb t throt w wait n name"


def test_findings_have_a_column_where_there_is_room() -> None:
    """And a row that is not there is an empty line, so that the keys stay where they are."""
    lines = screen(replace(VIEW, rows=[WEB]), 120)

    assert "init-deaf zombies-pile-up" in lines[3]
    assert not any(line.strip() for line in lines[4:22])
    assert lines[23].startswith("q quit")


def test_the_selected_row_is_always_on_the_screen() -> None:
    """The list moves."""
    lines = screen(replace(VIEW, selected=40))

    assert lines[21].split()[0] == "idle-39"
    assert lines[3].split()[0] == "idle-21"
    assert lines[22].strip() == "idle-39"


def test_what_is_missing_is_said() -> None:
    """A list without findings is no good news if nobody looks for them, and an old one is not the present."""
    lines = screen(replace(VIEW, rows=[], says_findings=False, problem="no answer: [Errno 111]", blind=(), node_findings=()))

    assert lines[0].rstrip() == "coroner top  03:00:00  0 containers, 0 zombies  by concern"
    assert lines[1].rstrip() == "no answer: [Errno 111]  agent at 127.0.0.1:10911  nobody looks for findings"
    assert lines[22].strip() == "no containers"


@pytest.mark.parametrize("width", [1, 2, 7, 20, 40, 79, 99, 100, 300])
@pytest.mark.parametrize("height", [1, 2, 4, 5, 6, 24, 100])
def test_any_size_of_a_terminal_will_do(width: int, height: int) -> None:
    """Also one that a person has just made too small."""
    lines = screen(replace(VIEW, selected=7), width, height)

    assert len(lines) == height
    assert all(len(line) <= width for line in lines)


@settings(deadline=None)
@given(st.text(max_size=15), st.text(max_size=15))
def test_no_name_is_markup_or_moves_the_cursor(name: str, rule: str) -> None:
    """A container can be called `[bold red]`, and its rules come from whoever answers."""
    from agent.top_rows import printable  # noqa: PLC0415 - as rows() spells names

    shown = printable(f"[bold]{name}[/] :smile:"), printable(rule)
    text = as_text(replace(VIEW, rows=[Row(shown[0], findings=(("info", shown[1]),))]), styled=False, width=None)

    assert shown[0].rstrip() in text
    assert re.sub(r"[\n]", "", text).isprintable()


def test_text_is_plain_and_whole_where_it_is_no_terminal() -> None:
    """For a script; a terminal gets colours and what fits."""
    text = as_text(VIEW, styled=False, width=None)

    assert len(text.splitlines()) == 44
    assert "\x1b" not in text
    assert text.splitlines()[3].endswith("init-deaf zombies-pile-up")
    assert "q quit" not in text
    assert "\x1b[" in as_text(VIEW, styled=True, width=80)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1.0K"), (56e6, "53.4M"), (500 << 20, "500M"), (3 << 30, "3.0G"), (5 << 50, "5120T")],
)
def test_sizes_are_short(size: float, text: str) -> None:
    """Powers of 1024."""
    assert bytes_of(size) == text
