"""argv to configuration to an exit code: the only place that exits."""

import asyncio
import os
import sys

from agent import log
from agent.app import App
from agent.config import BadConfig, Config, load
from collectors import NAMES


def main() -> None:
    """Run the command line; exit 0 when stopped, 1 when it could not start, 2 on bad configuration."""
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        config = load(argv, os.environ, NAMES)
    except BadConfig as error:
        for problem in error.problems:
            print(f"coroner: {problem}", file=sys.stderr)  # noqa: T201 - a command line speaks on its streams
        return 2
    if not isinstance(config, Config):
        print(config.text)  # noqa: T201 - --help and --version
        return 0
    log.setup(config.log_level, config.log_format)
    app = App(config)
    try:
        if config.command == "metrics":
            sys.stdout.buffer.write(asyncio.run(app.page()))
        else:
            asyncio.run(app.run())
    except OSError as error:
        print(f"coroner: {error}; is another agent running? --web.listen-address changes it", file=sys.stderr)  # noqa: T201 - see above
        return 1
    return 0


if __name__ == "__main__":
    main()
