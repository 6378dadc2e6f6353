"""What runtimes write of how a container ended: containerd's CRI a JSON file that it keeps up to date, conmon (CRI-O, Podman) a number.

https://github.com/containerd/containerd/blob/main/internal/cri/store/container/status.go
https://github.com/containers/conmon/blob/main/src/ctr_exit.c
"""

import json
import re
from dataclasses import dataclass
from typing import Any

_CONMON = re.compile(rb"-?[0-9]{1,10}\n?")
_LONGEST_REASON = 64
_UNKNOWN = "Unknown"
"""containerd's reason for a container whose end it did not see: the code is 255, and means nothing."""


@dataclass(frozen=True, slots=True)
class CriStatus:
    """What containerd says of a container of a pod; times in seconds of the wall clock, None of what has not happened.

    `code` is 128 + signal for a signal, as conmon's is; None if it does not know.
    """

    created: float | None
    started: float | None
    finished: float | None
    code: int | None
    reason: str


def parse_cri(raw: bytes) -> CriStatus:
    """Parse containerd's `status`. Raises ValueError for anything that it would not write; what it writes of others is not looked at."""
    try:
        found = json.loads(raw)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict) or found.get("Version") != "v1":
        raise ValueError("no status of version v1")
    reason, code = found.get("Reason", ""), found.get("ExitCode", 0)
    if not isinstance(reason, str) or len(reason) > _LONGEST_REASON or not (reason.isprintable() or not reason):
        raise ValueError("Reason is no word")
    return CriStatus(
        created=_time(found, "CreatedAt"),
        started=_time(found, "StartedAt"),
        finished=_time(found, "FinishedAt"),
        code=None if reason == _UNKNOWN else _code(code),
        reason=reason,
    )


def parse_conmon(raw: bytes) -> int | None:
    """Parse conmon's exit file: a code; None for -1, with which it says that it does not know. Raises ValueError."""
    if not _CONMON.fullmatch(raw):
        raise ValueError("no decimal number" if raw else "empty")
    return None if int(raw) == -1 else _code(int(raw))


def _code(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 255:
        raise ValueError("no exit code")
    return value


def _time(found: dict[str, Any], key: str) -> float | None:
    """Return nanoseconds since 1970 as seconds; Go's time that was never set is 0 here, or long before 1970."""
    value = found.get(key, 0)
    if type(value) is not int or abs(value) >= 1 << 63:
        raise ValueError(f"{key} is no time")
    return value / 1e9 if value > 0 else None
