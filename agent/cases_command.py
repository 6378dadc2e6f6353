"""`coroner cases`: the verdicts in the casebook of the agent that runs beside, as a table, as JSON, or one of them in words."""

import json
import re
import shutil
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from agent.casebook import CannotPeek, peek_verdicts
from agent.casebook.verdicts import KEEP_VERDICTS
from agent.cases_table import table
from agent.cases_words import words
from agent.config import Config
from agent.flags import Flag, Kind, Values, one_of
from agent.output import complain, write
from collectors.inquest.verdict import CAUSES

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def cases(config: Config, flags: Values) -> int:
    """Print what is asked for; 1 if there is no such case, or no casebook. Raises CannotWrite."""
    number, most = flags["explain"], flags["limit"]
    try:
        if number is not None:
            rows = peek_verdicts(config.state, 1, number=number)
        else:
            wanted = {column: flags[column] for column in ("namespace", "container", "cause")}
            rows = peek_verdicts(config.state, most + 1, _earliest(flags["since"], time.time()), **wanted)
    except CannotPeek as error:
        complain(
            f"cannot read the casebook: {error}; --path.state is the directory in which an agent keeps it, and its files must be readable"
        )
        return 1
    if number is not None and not rows:
        complain(f"there is no case {number} in the casebook: coroner cases lists those that there are")
        return 1
    write(_spelled(rows[:most], flags).encode())
    if len(rows) > most:
        complain(f"only the newest {most} are shown: see --limit and --since")
    return 0


def _spelled(rows: list[dict[str, Any]], flags: Values) -> str:
    if flags["format"] == "json":
        return json.dumps({"verdicts": rows}) + "\n"
    if not rows:
        return "no deaths\n"
    return table(rows, _columns()) if flags["explain"] is None else words(rows[0], _columns())


def _columns() -> int | None:
    """Return how wide the terminal is; None if there is none, and nothing needs to fit."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def _earliest(since: timedelta | datetime | None, now: float) -> float | None:
    if isinstance(since, datetime):
        return since.timestamp()
    return None if since is None else now - since.total_seconds()


def _since(text: str) -> timedelta | datetime:
    if match := re.fullmatch("([1-9][0-9]{0,8})([smhd])", text):
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    # fromisoformat takes more than RFC 3339 allows, such as a time without a zone: nobody could say whose it is
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})", text):
        raise ValueError
    return datetime.fromisoformat(text.upper())


def _number(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise ValueError
    return int(text)


def _limit(text: str) -> int:
    if (number := _number(text)) > KEEP_VERDICTS:
        raise ValueError
    return number


def _or_none(kind: Kind, meaning: str) -> Kind:
    """Allow empty text too, which is None."""
    return replace(kind, allowed=f"{kind.allowed}, or empty for {meaning}", parse=lambda text: kind.parse(text) if text else None)


_NAME = _or_none(Kind("a name", str), "all")

FLAGS = (
    Flag("format", "table", one_of("table", "json"), "Output format. JSON is that of /api/v1/verdicts, with everything that is known."),
    Flag(
        "since",
        "",
        _or_none(Kind("a duration such as 30s, 15m, 24h or 7d, a time such as 2026-01-31T12:00:00Z", _since), "all"),
        "Only those that ended within so long, or since that time (RFC 3339).",
    ),
    Flag("namespace", "", _NAME, "Only those of this namespace."),
    Flag("container", "", _NAME, "Only those of containers of this name."),
    Flag("cause", "", _or_none(replace(one_of(*CAUSES), allowed=", ".join(CAUSES)), "all"), "Only those with this cause."),
    Flag("limit", "50", Kind(f"a number from 1 to {KEEP_VERDICTS}", _limit), "How many to show at most, the newest."),
    Flag(
        "explain",
        "",
        _or_none(Kind("the number of a case", _number), "the list"),
        "Show one case in words: what happened when, the evidence, what was missing, and what to change. The other filters do not matter.",
    ),
)
