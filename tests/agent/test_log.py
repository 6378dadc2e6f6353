"""Log lines are read back as logfmt and as JSON; nothing that is logged can end a line or reach a terminal."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.log import Json, Logfmt, setup

LOG = logging.getLogger("agent.gather")
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
any_text = st.text(st.characters(exclude_categories=())) | st.text(st.sampled_from('\n\r\x00\x1b\x7f\x85\u2028\u202e\ud800" =\\é\t'))


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[str]]]:
    """Return what returns the lines logged since it was last asked; the root logger is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def logged() -> list[str]:
        return capsys.readouterr().err.splitlines()

    yield logged
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str, exc_info: ExcInfo | None = None, **extra: object) -> logging.LogRecord:
    """Make what a logger hands to a formatter."""
    made = LOG.makeRecord(LOG.name, logging.WARNING, __file__, 1, message, (), exc_info, extra=extra)
    made.created = 1795255200.0625
    return made


def logfmt(line: str) -> dict[str, str]:
    """Read a line as logfmt with Go's quoting."""
    pattern = r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^" =\\]+)(?: |$)'
    assert re.fullmatch(f"({pattern})+", line), line
    return {key: unquote(value) for key, value in re.findall(pattern, line)}


def unquote(value: str) -> str:
    """Undo the quotes and backslashes of one value."""
    if not value.startswith('"'):
        return value
    escapes = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
    return re.sub(
        r"\\(?:x(..)|u(....)|U(.{8})|(.))",
        lambda match: escapes[match[4]] if match[4] else chr(int(match[1] or match[2] or match[3], 16)),
        value[1:-1],
    )


def test_logfmt_line() -> None:
    """The fields come in Prometheus' order; only what needs quotes has them."""
    line = Logfmt().format(record("pass done", collector="cpu", seconds=0.25, path="", name_="a=b", late=True))

    assert line == (
        'time=2026-11-21T10:00:00.062Z level=WARN source=agent.gather msg="pass done" '
        'collector=cpu seconds=0.25 path="" name_="a=b" late=True'
    )


def test_what_other_handlers_leave_is_not_a_field() -> None:
    """A record that another formatter has had before is still only what was logged."""
    fresh, used = record("pass done"), record("pass done")
    logging.Formatter("%(asctime)s %(message)s").format(used)

    assert Logfmt().format(used) == Logfmt().format(fresh)


def test_json_line() -> None:
    """The same fields as JSON; numbers stay numbers and what JSON does not know becomes text."""
    line = Json().format(record("pass done", collector="cpu", seconds=0.25, late=True, path=b"/proc"))

    assert line == (
        '{"time": "2026-11-21T10:00:00.062Z", "level": "WARN", "source": "agent.gather", "msg": "pass done", '
        '"collector": "cpu", "seconds": 0.25, "late": true, "path": "b\'/proc\'"}'
    )


@given(any_text, any_text)
def test_logfmt_cannot_be_forged(message: str, value: str) -> None:
    """Any text is one printable line without a terminal's language, and reads back as it was."""
    line = Logfmt().format(record(message.replace("%", ""), container=value))

    assert line.isprintable()
    assert logfmt(line) == {
        "time": "2026-11-21T10:00:00.062Z",
        "level": "WARN",
        "source": "agent.gather",
        "msg": message.replace("%", ""),
        "container": value,
    }


@given(any_text, any_text)
def test_json_cannot_be_forged(message: str, value: str) -> None:
    """Any text is one line of printable ASCII, and reads back as it was."""
    line = Json().format(record(message, container=value))
    fields = json.loads(line)

    assert line.isascii()
    assert line.isprintable()
    assert surrogates_joined(fields["msg"]) == surrogates_joined(message)
    assert surrogates_joined(fields["container"]) == surrogates_joined(value)


def surrogates_joined(text: str) -> str:
    """Return text with two neighbouring surrogates as the one character that JSON, in UTF-16 terms, takes them for."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def error_of(text: str) -> ExcInfo:
    """Raise and catch an error, as logging sees it."""
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError(text)
    return caught.type, caught.value, caught.tb


@pytest.mark.parametrize("formatter", [Logfmt(), Json()])
def test_exception(formatter: logging.Formatter) -> None:
    """An error is on the same line, with the traceback, and its text cannot break out."""
    line = formatter.format(record("collector failed", error_of('it\nlevel=ERROR msg="owned" \x1b[2J')))
    fields = logfmt(line) if isinstance(formatter, Logfmt) else json.loads(line)

    assert line.isprintable()
    assert fields["msg"] == "collector failed"
    assert fields["err"] == 'RuntimeError: it\nlevel=ERROR msg="owned" \x1b[2J'
    assert fields["traceback"].startswith("Traceback (most recent call last):\n")
    assert fields["traceback"].endswith(fields["err"])


def test_setup_logs_to_standard_error(lines: Callable[[], list[str]]) -> None:
    """Messages with their arguments go to standard error, once, also after a second setup, which may change the format."""
    setup("info", "logfmt")
    LOG.info("read %s of %d", "a b", 3)
    (line,) = lines()
    assert re.fullmatch(r'time=\S+Z level=INFO source=agent\.gather msg="read a b of 3"', line)
    logged = datetime.fromisoformat(logfmt(line)["time"])
    assert abs((datetime.now(UTC) - logged).total_seconds()) < 60

    setup("info", "json")
    LOG.error("gone", extra={"pid": 7})
    (line,) = lines()
    fields = json.loads(line)
    assert (fields["level"], fields["msg"], fields["pid"]) == ("ERROR", "gone", 7)


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warn", 2), ("error", 1)])
def test_levels(level: str, shown: int, lines: Callable[[], list[str]]) -> None:
    """What is less severe than the level is left out."""
    setup(level, "logfmt")
    LOG.debug("d")
    LOG.info("i")
    LOG.warning("w")
    LOG.error("e")

    assert [logfmt(line)["level"] for line in lines()] == ["DEBUG", "INFO", "WARN", "ERROR"][-shown:]


def test_critical_is_an_error(lines: Callable[[], list[str]]) -> None:
    """Prometheus knows four levels; asking for a traceback where there is none does no harm."""
    setup("info", "logfmt")
    LOG.critical("c", exc_info=sys.exc_info())

    assert [logfmt(line)["level"] for line in lines()] == ["ERROR"]
