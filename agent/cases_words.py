"""One case in words: who, when, why, what happened, and what to change. Pure."""

from collections.abc import Iterable, Iterator
from textwrap import wrap

from agent.cases_rows import UNKNOWN, Row, exit_of, span, utc, verdict_of, whose
from collectors.inquest.advice import advice
from collectors.inquest.exit_status import name_of
from collectors.inquest.verdict import Verdict

WHY = {
    "completed": "Its init exited by itself, with exit code 0.",
    "error": "Its init exited by itself, with an exit code other than 0.",
    "stopped": "It was asked to end, and did so within its grace period.",
    "forced_kill": "It was asked to end, did not within its grace period, and was killed with SIGKILL.",
    "oom_kill": "The OOM killer took its init, or all of its processes together.",
    "killed": "A signal from outside ended it, and not in the course of a stop.",
    "crashed": "A fault ended it.",
    "unknown": "Not enough is known to say why it ended.",
}
_LONGEST = 100
"""Columns of a line: longer ones are hard to read."""


def words(row: Row, width: int | None) -> str:
    """Return the case. `width` is that of the terminal; None: lines are as long as they are."""
    verdict = verdict_of(row)
    doubt = " It may have been otherwise: facts are missing." if verdict.missing and verdict.cause != "unknown" else ""
    blocks = (
        _wrapped(f"Case {row['number']}: {whose(row)}, {verdict.cause}", "", width),
        _wrapped(f"{WHY.get(verdict.cause, '')}{doubt}", "", width),
        [line for name, text in _facts(verdict) for line in _wrapped(text, f"{name + ':':10} ", width)],
        _timeline(verdict, width),
        _list("Evidence:", verdict.evidence, width),
        _list("Missing:", verdict.missing, width),
        _wrapped(f"Sources: {', '.join(verdict.sources) or UNKNOWN}", "", width),
        ["What to change:", *_wrapped(advice(verdict), "  ", width)],
    )
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _facts(verdict: Verdict) -> Iterator[tuple[str, str]]:
    yield "Id", str(verdict.container) or UNKNOWN
    yield "Created", utc(verdict.created)
    yield "Started", utc(verdict.started)
    lived = "" if verdict.started is None or verdict.ended is None else f", after {span(verdict.ended - verdict.started)}"
    yield "Ended", f"{utc(verdict.ended)}{lived}"
    yield "Removed", utc(verdict.removed)
    code = "" if verdict.signal is None or verdict.exit_code is None else f" (exit code {verdict.exit_code})"
    yield "Exit", f"{exit_of(verdict)}{code}"
    if stop := ", ".join(_stop(verdict)):
        yield "Stop", stop


def _stop(verdict: Verdict) -> Iterator[str]:
    if verdict.stop_requested is not None:
        by = "" if verdict.stop_signal is None else f" with {name_of(verdict.stop_signal)}"
        yield f"asked to end at {utc(verdict.stop_requested)}{by}"
    if verdict.stop_seconds is not None:
        yield f"took {span(verdict.stop_seconds)}"
    if verdict.grace_seconds is not None:
        yield f"SIGKILL {span(verdict.grace_seconds)} after the stop signal"


def _timeline(verdict: Verdict, width: int | None) -> list[str]:
    """Return what happened, by the time before and after its end; if that is not known after its start, or after what is known first."""
    if not verdict.timeline:
        return []
    if verdict.ended is not None:
        what, zero = "its end", verdict.ended
    elif verdict.started is not None:
        what, zero = "its start", verdict.started
    else:
        what, zero = "what is known first", verdict.timeline[0][0]
    times = [_relative(time - zero) for time, _ in verdict.timeline]
    longest = max(map(len, times))
    lines = [_wrapped(text, f"  {time:>{longest}}  ", width) for time, (_, text) in zip(times, verdict.timeline, strict=True)]
    return [f"Timeline, from {what} ({utc(zero)}):", *(each for line in lines for each in line)]


def _relative(seconds: float) -> str:
    spelled = span(abs(seconds))
    return spelled if spelled == "0.0 s" else f"{'-' if seconds < 0 else '+'}{spelled}"


def _list(title: str, texts: Iterable[str], width: int | None) -> list[str]:
    lines = [line for text in texts for line in _wrapped(text, "  - ", width)]
    return [title, *lines] if lines else []


def _wrapped(text: str, indent: str, width: int | None) -> list[str]:
    if width is None:
        return [f"{indent}{text}"] if text else []
    return wrap(
        text,
        max(min(width, _LONGEST), 2 * len(indent) + 1),
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_on_hyphens=False,
    )
