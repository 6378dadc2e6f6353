"""argv to configuration to an exit code: the only place that exits."""

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from typing import TextIO

from agent import log
from agent.app import App
from agent.config import BadConfig, Config, load
from agent.web.listen import CannotListen
from agent.words import in_words
from collectors import NAMES


def main() -> None:
    """Run the command line; exit 0 when stopped, 1 when it could not start or print, 2 on bad configuration, 130 on Ctrl-C."""
    code = run(sys.argv[1:])
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            _drop(sys.stderr)
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        config = load(argv, os.environ, NAMES)
    except BadConfig as error:
        for problem in error.problems:
            _complain(problem)
        return 2
    if not isinstance(config, Config):
        return _print(f"{config.text}\n".encode())
    log.setup(config.log_level, config.log_format)
    for warning in config.warnings:
        logging.getLogger("agent.config").warning("not used", extra={"reason": warning})
    try:
        return _start(config)
    except KeyboardInterrupt:
        return 130 if config.command == "metrics" else 0
    except CannotListen as error:
        _complain(str(error))
    except OSError as error:
        _complain(in_words(error) or str(error))
    return 1


def _start(config: Config) -> int:
    if config.command == "metrics":
        return _print(asyncio.run(App(config, keeps=False).page()))
    # Until the loop has its own handlers: an end is an orderly one here too, and a hang-up is none.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asyncio.run(App(config).run())
    return 0


def _print(body: bytes) -> int:
    """Write to standard output and return the exit code. A reader that has read enough, such as `head`, is no news."""
    if sys.stdout is None:  # Python's word for a descriptor that was closed when it started
        _complain("cannot write to standard output: it is closed")
        return 1
    try:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
    except OSError as error:
        _drop(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            _complain(f"cannot write to standard output: {error.strerror}")
        return 1
    return 0


def _complain(problem: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # nobody listens: the exit code says it too
            print(f"coroner: {problem}", file=sys.stderr)  # noqa: T201 - a command line speaks on its streams


def _drop(stream: TextIO) -> None:
    """Send what is left in a stream nowhere: Python tries it once more at its end, and would end with a traceback and 120.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
