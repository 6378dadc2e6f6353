"""Signals as images, Docker and Kubernetes spell them. Pure."""

import re
from signal import Signals

_LAST_SIGNAL = 64
_REAL_TIME = re.compile(r"(RTMIN|RTMAX)(?:([+-])([0-9]{1,2}))?")
_FIRST_REAL_TIME = 34
"""Of the C library, which keeps two for itself; Docker counts as it does."""


def signal_number(value: object) -> int | None:
    """Return the number of a signal: "SIGTERM", "term", "15", 15, "RTMIN+3"; None for what is none."""
    if type(value) is int:
        return value if 1 <= value <= _LAST_SIGNAL else None
    if not isinstance(value, str) or not value.isascii():
        return None
    name = value.strip().upper().removeprefix("SIG")
    if name.isdigit():
        return int(name) if len(name) <= 2 and 1 <= int(name) <= _LAST_SIGNAL else None
    if match := _REAL_TIME.fullmatch(name):
        base = _FIRST_REAL_TIME if match[1] == "RTMIN" else _LAST_SIGNAL
        number = base + int(f"{match[2] or '+'}{match[3] or 0}")
        return number if _FIRST_REAL_TIME <= number <= _LAST_SIGNAL else None
    signal = Signals.__members__.get(f"SIG{name}")
    return None if signal is None else int(signal)
