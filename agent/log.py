"""Log lines as Prometheus' own programs write them: logfmt or JSON on standard error, one line each whatever is in it.

A name or an error text may come from a container, so nothing unprintable is written as it is: neither can it start a line of
its own nor speak to the terminal that shows it (CWE-117).
"""

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def setup(level: str, fmt: str) -> None:
    """Send the messages of all loggers from `level` (debug, info, warn or error) on to standard error, as logfmt or json.

    What a call passes as `extra` follows the message as key=value; time, level, source, msg, err and traceback are taken.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if fmt == "json" else Logfmt())
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)


class Logfmt(logging.Formatter):
    """time=2026-11-21T10:00:00.000Z level=INFO source=agent.gather msg="pass done" key=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one printable line."""
        return " ".join([f"{key}={_word(str(value))}" for key, value in _fields(record)])


class Json(logging.Formatter):
    """The same fields as an object; numbers and truth values stay what they are."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of ASCII."""
        return json.dumps(dict(_fields(record)), default=str)


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    yield "time", datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    yield "level", _NAMES.get(record.levelno, record.levelname)
    yield "source", record.name
    yield "msg", record.getMessage()
    for key, value in vars(record).items():
        if key not in _OWN_ATTRIBUTES:
            yield key, value
    if record.exc_info and record.exc_info[0]:
        yield "err", f"{record.exc_info[0].__name__}: {record.exc_info[1]}"
        yield "traceback", logging.Formatter().formatException(record.exc_info)


def _word(text: str) -> str:
    """Return text as it is if it is one plain word, else quoted, with \\n and the like for what cannot be printed."""
    if text and text.isprintable() and not any(special in text for special in ' "=\\'):
        return text
    quoted = text.replace("\\", r"\\").replace('"', r"\"")
    if not quoted.isprintable():
        # isprintable: neither controls, line separators and what reorders text nor surrogates; of blanks only the space.
        quoted = "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in quoted])
    return f'"{quoted}"'
