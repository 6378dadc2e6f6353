"""`coroner cases`: rows of the casebook in, text out, whatever a container is called; and the values of its flags."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unicodedata import category

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.casebook import Casebook
from agent.cases_command import FLAGS, cases
from agent.cases_rows import Row, span, utc
from agent.cases_table import table
from agent.cases_words import words
from agent.cli import read
from agent.config import BadConfig, load
from agent.flags import Values
from collectors.inquest.verdict import CAUSES, Verdict
from collectors.kernel.container_id import ContainerKey
from tests.tree import tree

ENDED = 1_767_225_600.0  # 2026-01-01T00:00:00Z
ID = "4f" * 32
FORCED: Row = {
    "number": 7,
    "boot_id": "11111111-2222-3333-4444-555555555555",
    "namespace": "shop",
    "pod": "web-0",
    "container": "web",
    "identifier": ID,
    "instance": 4711,
    "cause": "forced_kill",
    "created": ENDED - 7300.5,
    "started": ENDED - 7300,
    "stop_requested": ENDED - 10.5,
    "ended": ENDED,
    "removed": ENDED + 0.25,
    "exit_code": 137,
    "signal": 9,
    "stop_signal": 15,
    "stop_seconds": 10.5,
    "grace_seconds": 10.0,
    "rule": "stop-then-kill",
    "how": "reaped",
    "evidence": ["its init was ended by SIGKILL, says the kernel (reaped)", "SIGKILL was sent 10.0 s after SIGTERM"],
    "missing": [],
    "sources": ["cgroup", "docker"],
    "timeline": [
        [ENDED - 7300, "started"],
        [ENDED - 10.5, "SIGTERM was sent by docker"],
        [ENDED, "ended by SIGKILL"],
        [ENDED + 0.25, "removed"],
    ],
}
ERROR: Row = {
    **FORCED,
    "number": 12,
    "namespace": "",
    "pod": "",
    "container": "job",
    "cause": "error",
    "exit_code": 3,
    "signal": None,
    "stop_seconds": None,
    "evidence": [],
    "missing": ["stop request"],
}
BARE: Row = {
    **dict.fromkeys(FORCED),
    **dict.fromkeys(("boot_id", "namespace", "pod", "container", "rule", "how"), ""),
    **{column: [] for column in ("evidence", "sources", "timeline")},
    "number": 1,
    "identifier": f"{'e' * 64}/{ID}",
    "instance": 0,
    "cause": "unknown",
    "missing": ["exit status", "stop request"],
}
EVIL = "\x1b[2J\r\n\x9b31m\u202e\u200b\x00"

VERDICT = Verdict(container=ContainerKey(ID), instance=1, cause="completed", exit_code=0, rule="success", how="reaped")


def test_a_table_has_a_line_for_each_death() -> None:
    """As wide as what is in it. What is not known is a dash; a container without a name is called by its own id."""
    assert table([BARE, ERROR, FORCED], None) == (
        "NUMBER  ENDED                 CONTAINER       CAUSE        EXIT      STOP  WHY\n"
        "     1  -                     4f4f4f4f4f4f    unknown      -            -  missing: exit status, stop request\n"
        "    12  2026-01-01T00:00:00Z  job             error        3            -  missing: stop request\n"
        "     7  2026-01-01T00:00:00Z  shop/web-0/web  forced_kill  SIGKILL  10.5s"
        "  its init was ended by SIGKILL, says the kernel (reaped)\n"
    )


def test_why_is_the_first_evidence_but_of_an_unknown_cause_what_was_missing() -> None:
    """What is known of an end that nobody can explain does not explain it."""
    unknown = {**FORCED, "cause": "unknown", "missing": ["grace period"]}

    assert table([unknown], None).endswith("  missing: grace period\n")
    assert table([{**unknown, "missing": []}], None).endswith("  its init was ended by SIGKILL, says the kernel (reaped)\n")
    assert table([{**FORCED, "evidence": []}], None).endswith("  -\n")


def test_a_table_fits_a_terminal() -> None:
    """Why it ended is cut where that leaves enough of it to read."""
    assert table([FORCED], 110).splitlines()[1] == (
        "     7  2026-01-01T00:00:00Z  shop/web-0/web  forced_kill  SIGKILL  10.5s  its init was ended by SIGKILL, s..."
    )


def test_in_a_narrow_terminal_why_has_a_line_of_its_own() -> None:
    """Of a name its end is kept: the beginning is the same for many."""
    assert table([{**FORCED, "pod": "web-7d9f8c6b5-x2xq9"}], 80) == (
        "NUMBER  ENDED                 CONTAINER              CAUSE        EXIT      STOP\n"
        "     7  2026-01-01T00:00:00Z  ...d9f8c6b5-x2xq9/web  forced_kill  SIGKILL  10.5s\n"
        "  its init was ended by SIGKILL, says the kernel (reaped)\n"
    )


def test_wide_letters_take_two_columns_and_accents_none() -> None:
    """The columns behind a name stand where they are expected."""
    one, other = table([{**ERROR, "container": "数e\u0301"}, {**ERROR, "container": "abc"}], None).splitlines()[1:]

    assert one.startswith("    12  2026-01-01T00:00:00Z  数e\u0301        error")
    assert other.startswith("    12  2026-01-01T00:00:00Z  abc        error")


def test_one_case_in_words() -> None:
    """Who, when, why, what happened, what says so, what was missing, who told, and what to change."""
    assert words(FORCED, None) == (
        "Case 7: shop/web-0/web, forced_kill\n"
        "\n"
        "It was asked to end, did not within its grace period, and was killed with SIGKILL.\n"
        "\n"
        f"Id:        {ID}\n"
        "Created:   2025-12-31T21:58:19Z\n"
        "Started:   2025-12-31T21:58:20Z\n"
        "Ended:     2026-01-01T00:00:00Z, after 2 h 1 min\n"
        "Removed:   2026-01-01T00:00:00Z\n"
        "Exit:      SIGKILL (exit code 137)\n"
        "Stop:      asked to end at 2025-12-31T23:59:49Z with SIGTERM, took 10.5 s, SIGKILL 10.0 s after the stop signal\n"
        "\n"
        "Timeline, from its end (2026-01-01T00:00:00Z):\n"
        "  -2 h 1 min  started\n"
        "     -10.5 s  SIGTERM was sent by docker\n"
        "       0.0 s  ended by SIGKILL\n"
        "      +0.2 s  removed\n"
        "\n"
        "Evidence:\n"
        "  - its init was ended by SIGKILL, says the kernel (reaped)\n"
        "  - SIGKILL was sent 10.0 s after SIGTERM\n"
        "\n"
        "Sources: cgroup, docker\n"
        "\n"
        "What to change:\n"
        "  It did not end after SIGTERM within its grace of 10.0 s: handle SIGTERM in its init (exec instead of a shell wrapper, or "
        "docker run --init), or give it more time (stop_grace_period, terminationGracePeriodSeconds).\n"
    )


def test_a_case_of_which_little_is_known_says_so() -> None:
    """Nothing is made up, and how to know more the next time is said."""
    said = words(BARE, None)

    assert said.startswith("Case 1: 4f4f4f4f4f4f, unknown\n\nNot enough is known to say why it ended.\n")
    assert "Ended:     -\nRemoved:   -\nExit:      -\n\nMissing:\n  - exit status\n  - stop request\n\nSources: -\n" in said
    assert "To be sure the next time: " in said
    assert "It may have been otherwise" not in said
    assert "It may have been otherwise: facts are missing.\n" in words(ERROR, None)


def test_a_timeline_without_an_end_counts_from_the_start_or_from_what_is_known_first() -> None:
    """So that a line is never without its place."""
    lines = [[ENDED - 1, "created"], [ENDED, "started"], [ENDED + 90, "paused"]]
    open_end = {**BARE, "started": ENDED, "timeline": lines}

    assert f"from its start ({utc(ENDED)}):\n   -1.0 s  created\n    0.0 s  started\n  +90.0 s  paused\n" in words(open_end, None)
    assert "from what is known first (2025-12-31T23:59:59Z):\n    0.0 s  created\n" in words({**open_end, "started": None}, None)


def test_words_are_wrapped_for_a_terminal() -> None:
    """At its width, but no line is longer than is good to read."""
    assert max(map(len, words(FORCED, 60).splitlines())) <= 60
    assert max(map(len, words(FORCED, 300).splitlines())) <= 100


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_is_a_sentence(cause: str) -> None:
    """The second block of a case."""
    assert words({**FORCED, "cause": cause}, None).split("\n\n")[1].endswith(".")


@pytest.mark.parametrize("width", [None, 80, 150])
def test_what_a_container_writes_never_reaches_a_terminal_raw(width: int | None) -> None:
    """Escapes, line ends, marks of direction, of zero width, and the C1 controls that some terminals obey."""
    evil = {
        **FORCED,
        **dict.fromkeys(("namespace", "pod", "container", "identifier", "rule", "how"), EVIL),
        **{column: [EVIL] for column in ("evidence", "missing", "sources")},
        "timeline": [[ENDED, EVIL]],
    }

    for said in (table([evil], width), words(evil, width)):
        assert said.replace("\n", "").isprintable()
        assert "\\u200b" in said


def test_what_is_in_a_list_and_should_not_be_is_left_out() -> None:
    """Somebody may have edited the file."""
    edited = {**FORCED, "evidence": [1, None, "so"], "missing": [[]], "timeline": [1, [], ["x", "y"], [float("nan"), "x"], [ENDED, "end"]]}

    assert "Evidence:\n  - so\n\n" in words(edited, None)
    assert "Z):\n  0.0 s  end\n\n" in words(edited, None)


def nothing_or(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What may not be known."""
    return st.none() | values


seconds = st.floats(0, 1e15) | st.integers(0, 10**15)
texts = st.text() | st.sampled_from([EVIL, "数据", "web"])
anything = st.recursive(st.none() | st.integers() | st.floats() | texts, st.lists, max_leaves=5)
lists = st.lists(texts | anything, max_size=3)
rows = st.fixed_dictionaries(
    {
        "number": st.integers(1, 2**63 - 1),
        "instance": st.integers(0, 2**63 - 1),
        "cause": st.sampled_from(CAUSES) | texts,
        **dict.fromkeys(("boot_id", "namespace", "pod", "container", "identifier", "rule", "how"), texts),
        **{
            column: nothing_or(seconds)
            for column in ("created", "started", "stop_requested", "ended", "removed", "stop_seconds", "grace_seconds")
        },
        "exit_code": nothing_or(st.integers(-(2**63), 2**63 - 1)),
        **{column: nothing_or(st.integers(0, 2**63 - 1)) for column in ("signal", "stop_signal")},
        **dict.fromkeys(("evidence", "missing", "sources"), lists),
        "timeline": lists | st.lists(st.tuples(seconds, texts).map(list), max_size=3),
    }
)


@settings(max_examples=50)
@example([{**FORCED, "evidence": ["a\u0300" * 100]}], 56)
@given(st.lists(rows, max_size=3), nothing_or(st.integers(0, 200)))
def test_any_row_is_a_line_of_printable_text(found: list[dict[str, Any]], width: int | None) -> None:
    """No row keeps another from being shown, and nothing breaks a line; none is longer than the terminal."""
    said = table(found, width).splitlines()

    assert len(said) in ((1 + len(found),) if width is None else (1 + len(found), 1 + 2 * len(found)))
    assert all(line.isprintable() for line in said)
    columns = [sum(category(each) not in ("Mn", "Me") for each in line) for line in said]  # such a mark takes none
    assert width is None or max(columns) <= width


@given(rows, nothing_or(st.integers(0, 200)))
def test_any_row_can_be_explained(row: dict[str, Any], width: int | None) -> None:
    """In printable text, with its advice."""
    said = words(row, width)

    assert said.replace("\n", "").isprintable()
    assert "What to change:\n  " in said or (width is not None and width < 20)


@given(seconds)
def test_any_duration_and_any_time_can_be_spelled(value: float) -> None:
    """On one line."""
    assert span(value).isprintable()
    assert utc(value).isprintable()


@pytest.mark.parametrize(
    ("value", "spelled"), [(0.04, "0.0 s"), (99.9, "99.9 s"), (100, "1 min 40 s"), (3600, "1 h 0 min"), (90_061, "1 d 1 h")]
)
def test_durations_have_two_units(value: float, spelled: str) -> None:
    """Nobody wants the seconds of a container that lived for a month."""
    assert span(value) == spelled


def values(*argv: str) -> Values:
    """Return the values of the command's flags, which must be right."""
    given = dict(each.removeprefix("--").split("=", 1) for each in argv)
    return {flag.name: flag.kind.parse(given.get(flag.name, flag.default)) for flag in FLAGS}


def problems(*argv: str) -> list[str]:
    """Read a command line that must fail and return what was wrong."""
    with pytest.raises(BadConfig) as caught:
        read(["cases", *argv], {}, ())
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
        ("999999999d", timedelta(days=999_999_999)),
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00.5z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31 12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("", None),
    ],
)
def test_since_is_a_duration_or_a_time(text: str, value: object) -> None:
    """As help says, and as the table spells times."""
    assert values(f"--since={text}")["since"] == value


@pytest.mark.parametrize(
    "text",
    ["1", "0s", "1w", "-1h", "1h30m", "1.5h", "٣d", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T12:00:00Z", "1h\n"],
)
def test_since_is_nothing_else(text: str) -> None:
    """A time without a zone is nobody's."""
    assert len(problems(f"--since={text}")) == 1


def test_everything_that_is_wrong_is_said_at_once() -> None:
    """With what is allowed."""
    assert problems("--cause=bored", "--limit=0", "--explain=x", "--format=xml") == [
        "flag --cause: got 'bored', expected completed, error, stopped, forced_kill, oom_kill, killed, crashed, unknown, or empty for all",
        "flag --limit: got '0', expected a number from 1 to 10000",
        "flag --explain: got 'x', expected the number of a case, or empty for the list",
        "flag --format: got 'xml', expected table or json",
    ]


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on the casebook of this test; return its exit code, and what it wrote."""

    def run(*argv: str) -> tuple[int, str, str]:
        code = cases(load([f"--path.state={tmp_path / 'state'}"], {}, ()), values(*argv))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Casebook]:
    """The casebook of an agent that runs."""
    tree(tmp_path / "proc", {"sys/kernel/random/boot_id": b"11111111-2222-3333-4444-555555555555\n"})
    book = Casebook(str(tmp_path / "state"), str(tmp_path / "proc"))
    book.open()
    yield book
    book.close()


def fill(book: Casebook) -> None:
    """Close three cases, the last of which ended first."""
    now = time.time()
    for instance, (labels, cause, ago) in enumerate(
        [(("shop", "web-0", "web"), "error", 60), (("", "", "db"), "oom_kill", 30), (("shop", "web-1", "web"), "completed", 7200)]
    ):
        assert book.close_case(replace(VERDICT, instance=instance, cause=cause, ended=now - ago), labels)


@pytest.mark.parametrize(
    ("argv", "numbers"),
    [
        ([], [2, 1, 3]),
        (["--since=1h"], [2, 1]),
        ([f"--since={datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"], []),
        (["--namespace=shop"], [1, 3]),
        (["--container=web", "--cause=completed"], [3]),
        (["--cause=stopped"], []),
        (["--explain=3", "--cause=stopped"], [3]),
    ],
)
def test_json_is_that_of_the_api_with_what_the_filters_let_through(run: Run, book: Casebook, argv: list[str], numbers: list[int]) -> None:
    """Beside a running agent, the newest first."""
    fill(book)

    code, out, err = run("--format=json", *argv)

    assert (code, err) == (0, "")
    assert out.isascii()
    found = json.loads(out)
    assert list(found) == ["verdicts"]
    assert found["verdicts"] == [each for number in numbers for each in book.verdicts(1, number=number)]


def test_the_newest_are_shown_and_that_there_are_more_is_said(run: Run, book: Casebook) -> None:
    """On standard error: a script that reads the table takes it for no death."""
    fill(book)

    code, out, err = run("--limit=2")

    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["NUMBER", "2", "1"]
    assert err == "coroner: only the newest 2 are shown: see --limit and --since\n"
    assert run("--limit=3")[2] == ""


def test_no_deaths_are_good_news(run: Run, book: Casebook) -> None:
    """Exit code 0; in JSON an empty list."""
    assert run() == (0, "no deaths\n", "")
    assert run("--format=json") == (0, '{"verdicts": []}\n', "")


def test_a_case_is_explained_by_its_number(run: Run, book: Casebook) -> None:
    """One that there is not is said to be so."""
    fill(book)

    code, out, _ = run("--explain=2")

    assert (code, out.splitlines()[0]) == (0, "Case 2: db, oom_kill")
    assert run("--explain=4") == (1, "", "coroner: there is no case 4 in the casebook: coroner cases lists those that there are\n")
    assert run("--explain=999999999999999999")[0] == 1


@pytest.mark.parametrize("argv", [[], ["--format=json"], ["--explain=1"]])
def test_without_a_casebook_nobody_says_that_there_were_no_deaths(run: Run, tmp_path: Path, argv: list[str]) -> None:
    """It ends with 1, names the file and the setting, and makes none."""
    code, out, err = run(*argv)

    assert (code, out) == (1, "")
    assert err.startswith(f"coroner: cannot read the casebook: {tmp_path}/state/casebook.sqlite: ")
    assert "--path.state" in err
    assert not (tmp_path / "state").exists()
