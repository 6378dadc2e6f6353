"""Standard output and standard error of a command: either may be closed, full, or a pipe that nobody reads any more."""

import os
import sys
from contextlib import suppress
from typing import TextIO


class CannotWrite(Exception):
    """Standard output takes no more. The message says why; it is empty if the reader has read enough, such as `head`: that is no news."""


def write(body: bytes) -> None:
    """Write to standard output. Raises CannotWrite."""
    if sys.stdout is None:  # Python's word for a descriptor that was closed when it started
        raise CannotWrite("cannot write to standard output: it is closed")
    try:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
    except OSError as error:
        _drop(sys.stdout)
        raise CannotWrite("" if isinstance(error, BrokenPipeError) else f"cannot write to standard output: {error.strerror}") from error


def complain(problem: str) -> None:
    """Write one line to standard error, under the program's name. Never raises: the exit code says it too."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"coroner: {problem}", file=sys.stderr)  # noqa: T201 - a command line speaks on its streams


def finish() -> None:
    """Write out what standard error still holds, before the process ends."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            _drop(sys.stderr)


def _drop(stream: TextIO) -> None:
    """Send what is left in a stream nowhere: Python tries it once more at its end, and would end with a traceback and 120.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
