"""Flags: what values they take, how a command line is split into words and flags, and how flags become parsed values.

Everything that is wrong is gathered, so that one run names it all.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]
"""Parsed values of flags, by name."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: `parse` raises ValueError for what is not `allowed`, and `tag` is the type it has in YAML.

    `is_list`: several values, separated by commas, which may be a list in YAML. `adds_up`: their flag may be repeated, for more of them.
    """

    allowed: str
    parse: Callable[[str], Any]
    tag: str = "str"
    is_list: bool = False
    adds_up: bool = False


def _switch(text: str) -> bool:
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError


SWITCH = Kind("true or false", _switch, "bool")


def one_of(*choices: str) -> Kind:
    """Make the kind of a value that is one of these words, of which there are at least two."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return Kind(" or ".join((", ".join(choices[:-1]), choices[-1])), parse)


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag, by its name without dashes. A switch (kind SWITCH) takes no value, and has a --no- form."""

    name: str
    default: str
    kind: Kind
    help: str

    @property
    def flag(self) -> str:
        """The flag, as the help spells it."""
        return f"--[no-]{self.name}" if self.kind is SWITCH else f"--{self.name}"

    @property
    def forms(self) -> dict[str, str | None]:
        """How it is written, and the value that this stands for; None: the value follows."""
        return {f"--{self.name}": "true", f"--no-{self.name}": "false"} if self.kind is SWITCH else {f"--{self.name}": None}


def forms(flags: Iterable[Flag]) -> set[str]:
    """Return all ways in which these flags are written."""
    return {form for flag in flags for form in flag.forms}


def form(given: str) -> str:
    """Return a flag that `split` made without its value."""
    return given.partition("=")[0]


def split(argv: Sequence[str], flags: Iterable[Flag], commands: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """Split arguments into words and flags, and join each flag with its value: `--log.level debug` becomes `--log.level=debug`.

    A flag that is not among `flags` most likely has its value behind it too, unless that is one of the `commands`.
    """
    known = {form: value for flag in flags for form, value in flag.forms.items()}
    words: list[str] = []
    given: list[str] = []
    rest = deque(argv)
    while rest:
        word = rest.popleft()
        if not word.startswith("-"):
            words.append(word)
        elif "=" in word or not rest or rest[0].startswith("-"):
            given.append(word)
        elif known[word] is None if word in known else rest[0] not in commands:
            given.append(f"{word}={rest.popleft()}")
        else:
            given.append(word)
    return words, given


def parse(given: Iterable[str], flags: Iterable[Flag], problems: list[str]) -> dict[str, Any]:
    """Return the values, by name, of flags that `split` made; of a repeated flag the last counts, if it is not one that
    adds up. Adds what is wrong to `problems`.
    """
    known = {form: (flag, value) for flag in flags for form, value in flag.forms.items()}
    values: dict[str, Any] = {}
    for each in given:
        written, equals, text = each.partition("=")
        if written not in known:
            problems.append(f"unknown flag {written!r}; {hint(written, known)}")
            continue
        flag, value = known[written]
        if value is not None:
            if equals:
                problems.append(f"flag {written}: got {text!r}, expected no value: use {flag.flag}")
            text = value
        elif not equals:
            problems.append(f"flag {written}: got no value, expected {flag.kind.allowed}")
            continue
        before = values.get(flag.name, ()) if flag.kind.adds_up else None
        parse_value(flag, text, f"flag {written}", values, problems)
        if before:
            values[flag.name] = tuple(dict.fromkeys((*before, *values[flag.name])))
    return values


def parse_value(flag: Flag, text: str, where: str, values: dict[str, Any], problems: list[str]) -> None:
    """Add the value of a flag to `values`, or to `problems` what is wrong with it."""
    try:
        values[flag.name] = flag.kind.parse(text)
    except ValueError:
        problems.append(f"{where}: got {text!r}, expected {flag.kind.allowed}")


def hint(given: str, known: Iterable[str]) -> str:
    """Say which of the known names was probably meant."""
    from difflib import get_close_matches  # noqa: PLC0415 - for an error alone

    close = get_close_matches(given, known, n=1, cutoff=0.8)  # at the default of 0.6 the common prefix would do
    return f"did you mean {close[0]}?" if close else "see coroner --help"
