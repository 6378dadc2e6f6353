"""The commands: one table, from which the command line, its help and its errors follow.

The settings (config.py) are flags of every command. Any flag may stand before or after the command.
"""

import asyncio
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from agent import __version__, check_command
from agent.app import App
from agent.cases_command import FLAGS, cases
from agent.check_command import check
from agent.check_config import check_config
from agent.command import Command
from agent.config import BadConfig, Config, load, settings
from agent.flags import SWITCH, Flag, Values, form, forms, hint, one_of, parse, split
from agent.kept import only_read
from agent.output import write
from agent.top_command import FLAGS as TOP_FLAGS
from agent.top_command import top
from agent.usage import overview, usage


def _daemon(config: Config, _flags: Values) -> int:
    asyncio.run(App(config).run())
    return 0


def _metrics(config: Config, flags: Values) -> int:
    # The trace of signals is the daemon's, which would lose what is read here, and no walk through a layer ends in time.
    config = replace(config, signals=False, layers=False)
    write(asyncio.run(App(config, only_read(config)).page(openmetrics=flags["format"] == "openmetrics")))
    return 0


COMMANDS = (
    Command("", "Without a command it runs the agent, which serves metrics to Prometheus.", _daemon, is_daemon=True, needs_endpoint=True),
    Command(
        "metrics",
        "Print one page of metrics and exit.",
        _metrics,
        flags=(Flag("format", "prometheus", one_of("prometheus", "openmetrics"), "Exposition format of the page."),),
        details="OOM kills and deaths come from the casebook of the agent in --path.state. Without a casebook the page leaves them out, and"
        " always what --source.layers measures.",
    ),
    Command(
        "cases",
        "Show why containers ended, the newest first.",
        cases,
        flags=FLAGS,
        details=(
            "The verdicts come from the casebook of the agent in --path.state, which is only read; it keeps them for 30 days. Times are "
            "UTC. EXIT is the exit code of the init, or the signal that ended it; STOP is how long it took to end after it was asked to; "
            "- is not known. Exit code 1 means that there is no casebook to read, or no case of the number."
        ),
    ),
    Command(
        "check",
        "Examine the containers on this node: what is wrong with them now, and what to change.",
        check,
        words=check_command.NAMES,
        flags=check_command.FLAGS,
        details=(
            "NAME is a container, a pod, or the first 4 or more digits of an id; without one all are examined, and the node. The agent at "
            "--web.listen-address is asked, if one runs here; otherwise the command looks for itself: one look has no history, so what "
            "needs that is left out. Exit code 0: no findings. 1: findings, also if something else could not be looked at. 2: no findings, "
            "but something could not be looked at, or no container is called NAME; standard error says what. Rules that do not apply on "
            "this node do not matter to the exit code."
        ),
        failure=2,
    ),
    Command(
        "top",
        "Show the containers of this machine live, the one to worry about most first.",
        top,
        flags=TOP_FLAGS,
        details=(
            "It asks the agent that listens on --web.listen-address, and makes passes of its own if none does. CPU is in cores; MEM is "
            "the working set, MEM% its share of the nearest limit; PIDS counts threads and zombies; THROT% is the share of periods in "
            "which the CPU quota stopped it, WAIT% the share of time in which a task waited for memory; - is not known. Exit code 2 means "
            "that there is no terminal, or that the library rich is missing."
        ),
    ),
    Command(
        "check-config",
        "Check the configuration without starting the agent.",
        check_config,
        details="From flags, the environment, --config.file, and --web.config.file with its certificates; whether the addresses are free "
        "is not tried. Exit code 0 means that an agent would start with it; 2 that it would not, and every problem has a line on standard "
        "error.",
        needs_endpoint=True,
    ),
    Command("help", "Print this help, or the help of a command: coroner help COMMAND.", None),
)

_ALONE = (Flag("help", "false", SWITCH, "Print help and exit."), Flag("version", "false", SWITCH, "Print the version and exit."))


@dataclass(frozen=True, slots=True)
class Call:
    """A command with everything that it was given: ready to run, and nothing is wrong with it."""

    command: Command
    config: Config
    run: Callable[[], int]


def read(argv: Sequence[str], environ: Mapping[str, str], collectors: Sequence[str], commands: Sequence[Command] = COMMANDS) -> Call | str:
    """Return what to run, or the text to print instead: the help or the version, which need no correct settings.

    From the arguments without the program's name, and the settings; `collectors` are the names of all collectors there are.
    Raises BadConfig, with everything that is wrong.
    """
    named = {command.name: command for command in commands}
    daemon = named.pop("")
    everywhere = settings(collectors)
    words, given = split(
        ["--help" if word == "-h" else word for word in argv],
        [*everywhere, *_ALONE, *(flag for command in commands for flag in command.flags)],
        named,
    )
    is_help = words[:1] == ["help"]
    words = words[is_help:]
    wants_help = is_help or "--help" in map(form, given)
    if "--version" in map(form, given) and not wants_help:
        return f"coroner {__version__} (Python {platform.python_version()})"

    command = named.get(words[0]) if words else daemon
    problems = [] if command else [f"unknown command {words[0]!r}; {hint(words[0], named)}"]
    if wants_help:
        if command is None:
            raise BadConfig(problems)
        return usage(command) if command.name else overview(commands, everywhere)
    if command is None or not command.words:
        problems += [f"unexpected argument {word!r}; a command takes flags only" for word in words[1:]]

    values = _own_values(command, given, commands, everywhere, problems)
    try:
        serves = command is not None and command.needs_endpoint
        config = load([each for each in given if form(each) in forms(everywhere)], environ, collectors, serves=serves)
    except BadConfig as error:
        raise BadConfig([*problems, *error.problems]) from error
    if problems or command is None or command.run is None:
        raise BadConfig(problems)
    if command.words:
        values = {**values, command.words: tuple(words[1:])}
    return Call(command, config, partial(command.run, config, values))


def _own_values(
    command: Command | None, given: Iterable[str], commands: Iterable[Command], everywhere: Iterable[Flag], problems: list[str]
) -> Values:
    """Return the values of a command's own flags; add to the problems those that are another's, or nobody's, or have a wrong value."""
    flags = command.flags if command else ()
    own: list[str] = []
    for each in given:
        owners = [other.title for other in commands if form(each) in forms(other.flags)]
        if form(each) in forms(flags) or not (owners or form(each) in forms(everywhere)):
            own.append(each)
        elif owners and command:  # of a command that there is not nobody knows what it takes
            problems.append(f"flag {form(each)} belongs to {' and '.join(owners)}, not to {command.title}")
    return {flag.name: flag.kind.parse(flag.default) for flag in flags} | parse(own, [*everywhere, *flags], problems)
