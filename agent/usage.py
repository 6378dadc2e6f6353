"""What `coroner --help` and `coroner COMMAND --help` print."""

from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

from agent.command import Command
from agent.flags import SWITCH, Flag
from agent.settings import Setting

_WIDTH = 100


def overview(commands: Sequence[Command], settings: Iterable[Setting]) -> str:
    """Return the help of the whole: all commands and settings."""
    width = max(len(command.name) for command in commands)
    lines = [
        "usage: coroner [FLAG]...",
        "       coroner COMMAND [FLAG]...",
        "",
        "Coroner says why containers die, and which are about to.",
        *(command.help for command in commands if not command.name),
        "",
        "Commands:",
        *(f"  {command.name:{width}}  {command.help}" for command in commands if command.name),
        "",
        "coroner COMMAND --help lists the flags of one command. The flags below belong to all commands.",
        "",
        "Flags:",
        "  -h, --help",
        "      Print help and exit.",
        "  --version",
        "      Print the version and exit.",
        "",
        "Settings:",
        *_wrapped(
            "Each is a flag, an environment variable and, under the name of the flag, a key of the YAML file that --config.file names. "
            "A flag overrides the environment, which overrides the file. Values separated by commas may be a list in YAML. A changed "
            "setting needs a restart. Environment variables that start with CORONER_ and are no setting are logged and ignored.",
            "  ",
        ),
        "",
    ]
    return "\n".join((*lines, *_described(settings)))


def usage(command: Command) -> str:
    """Return the help of one command."""
    words = f" [{command.words}...]" if command.words else ""
    usual = f"usage: coroner {command.name}{words} [FLAG]..."
    lines = [usual if command.run else f"usage: coroner {command.name} [COMMAND]", "", command.help]
    if command.details:
        lines += _wrapped(command.details, "")
    if command.flags:
        lines += ["", "Flags:", *_described(command.flags)]
    if command.run:
        lines += ["", "Settings, such as --path.state, are flags of this command too: see coroner --help."]
    return "\n".join(lines)


def _described(flags: Iterable[Flag]) -> Iterator[str]:
    for flag in flags:
        yield f"  {flag.flag}" if flag.kind is SWITCH else f"  {flag.flag}=VALUE"
        yield from _wrapped(flag.help, "      ")
        if flag.kind is not SWITCH:
            yield from _wrapped(f"Allowed: {flag.kind.allowed}.", "      ")
        variable = f" Environment: {flag.variable}." if isinstance(flag, Setting) else ""
        yield f"      Default: {flag.default or 'empty'}.{variable}"


def _wrapped(text: str, indent: str) -> list[str]:
    return wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
