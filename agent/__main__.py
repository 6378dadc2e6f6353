"""argv to a command to an exit code: the only place that exits."""

import logging
import os
import signal
import sys

from agent import log
from agent.cli import Call, read
from agent.config import BadConfig
from agent.output import CannotWrite, complain, finish, write
from agent.web.listen import CannotListen
from agent.words import UNEXPECTED, in_words
from collectors import NAMES


def main() -> None:
    """Exit with what the command returns: 0 when it did its work; 2 if arguments or settings are wrong, 130 on Ctrl-C."""
    code = run(sys.argv[1:])
    finish()
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        call = read(argv, os.environ, NAMES)
    except BadConfig as error:
        for problem in error.problems:
            complain(problem)
        return 2
    command = call.command if isinstance(call, Call) else None
    try:
        if isinstance(call, Call):
            return _start(call)
        write(f"{call}\n".encode())
    except KeyboardInterrupt:
        return 0 if command and command.is_daemon else 130
    except (CannotListen, CannotWrite) as error:
        if str(error):
            complain(str(error))
    except OSError as error:
        complain(in_words(error) or str(error))
    except Exception:
        # Python would end with 1, which may be a command's word for something that it found.
        logging.getLogger(__name__).exception("unexpected error")
        complain(UNEXPECTED)
    else:
        return 0
    return command.failure if command else 1


def _start(call: Call) -> int:
    log.setup(call.config.log_level, call.config.log_format)
    for warning in call.config.warnings:
        logging.getLogger("agent.config").warning("setting ignored", extra={"reason": warning})
    if call.command.is_daemon:
        # Until the loop has its own handlers: an end is an orderly one here too, and a hang-up is none.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return call.run()


if __name__ == "__main__":
    main()
