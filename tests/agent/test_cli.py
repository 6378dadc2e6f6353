"""The table of commands: what each may be given, what is wrong said at once, and help."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import __main__, __version__, cli, output
from agent.cli import COMMANDS, Call, read
from agent.command import Command
from agent.config import BadConfig, Config, load, settings
from agent.flags import SWITCH, Flag, Kind, Values, forms, one_of
from collectors import NAMES

COLLECTORS = ("memory", "oom")


def hours(text: str) -> int:
    """Parse `2h`."""
    if not re.fullmatch("[1-9][0-9]?h", text):
        raise ValueError
    return int(text[:-1])


SINCE = Flag("since", "24h", Kind("hours, such as 1h", hours), "How far to look back.")
FORMAT = Flag("format", "text", one_of("text", "json"), "Output format.")
ALL = Flag("all", "false", SWITCH, "Show what is well, too.")


def autopsy(config: Config, flags: Values) -> int:
    """Fail by how far it looks back."""
    assert config.procfs == "/proc"
    return 3 + int(flags["since"])


THROW_AWAY = Command("autopsy", "Examine the dead.", autopsy, flags=(SINCE, FORMAT, ALL), details="Exit code 3 or more.", failure=2)
WAKE = Command("wake", "Watch the dead.", autopsy, flags=(SINCE,))
TODAY = tuple(command for command in COMMANDS if command.name in ("", "metrics", "help"))
"""So that a new command changes none of what is expected here."""
TABLE = (*TODAY, THROW_AWAY, WAKE)


def call(*argv: str) -> Call:
    """Read what must be right."""
    found = read(argv, {}, COLLECTORS, TABLE)
    assert isinstance(found, Call)
    return found


def text(*argv: str, environ: dict[str, str] | None = None) -> str:
    """Read what asks for a text."""
    found = read(argv, environ or {}, COLLECTORS, TABLE)
    assert isinstance(found, str)
    return found


def problems(*argv: str, environ: dict[str, str] | None = None) -> list[str]:
    """Read what must fail and return what was wrong."""
    with pytest.raises(BadConfig) as caught:
        read(argv, environ or {}, COLLECTORS, TABLE)
    return caught.value.problems


def values(*argv: str) -> Values:
    """Return what the throw-away command is given as its own flags."""
    found: list[Values] = []

    def run(_config: Config, flags: Values) -> int:
        found.append(flags)
        return 0

    asked = read(argv, {}, COLLECTORS, (*TODAY, replace(THROW_AWAY, run=run)))
    assert isinstance(asked, Call)
    asked.run()
    return found[0]


def test_without_a_word_it_is_the_daemon() -> None:
    """It alone keeps the casebook, and nothing else is spelled so."""
    assert call().command == TODAY[0]
    assert [command.name for command in COMMANDS if command.is_daemon] == [""]
    assert problems("") == ["unknown command ''; see coroner --help"]
    assert problems("daemon") == ["unknown command 'daemon'; see coroner --help"]


@pytest.mark.parametrize(
    "argv", [["metrics"], ["metrics", "--log.level=warn"], ["--log.level", "warn", "metrics"], ["--no-collector.oom", "metrics"]]
)
def test_settings_stand_before_or_after_the_command(argv: list[str]) -> None:
    """As flags of any command."""
    asked = call(*argv)

    assert asked.command.name == "metrics"
    assert asked.config == load([each for each in argv if each != "metrics"], {}, COLLECTORS)


def test_a_command_is_run_with_settings_and_its_own_flags_and_says_its_exit_code() -> None:
    """Nothing in between changes it."""
    assert call("autopsy", "--since=4h").run() == 7


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["autopsy"], {"since": 24, "format": "text", "all": False}),
        (["autopsy", "--since=1h", "--format", "json", "--all"], {"since": 1, "format": "json", "all": True}),
        (["--since", "2h", "--all", "autopsy", "--no-all"], {"since": 2, "format": "text", "all": False}),
        (["--all", "autopsy", "--log.level=warn", "--since=3h", "--since=4h"], {"since": 4, "format": "text", "all": True}),
    ],
)
def test_own_flags_are_values_and_switches_like_settings(argv: list[str], expected: dict[str, object]) -> None:
    """Before and after the command, in both forms; the last of a repeated one counts; defaults where there is none."""
    assert values(*argv) == expected


def test_flags_of_one_name_have_the_choices_of_their_command() -> None:
    """`--format` is one thing for metrics and another for the throw-away command."""
    assert call("metrics", "--format=openmetrics").command.name == "metrics"
    assert problems("metrics", "--format=json") == ["flag --format: got 'json', expected prometheus or openmetrics"]
    assert problems("autopsy", "--format=openmetrics") == ["flag --format: got 'openmetrics', expected text or json"]


def test_everything_is_reported_at_once() -> None:
    """Words, own flags, settings and variables, each on one line."""
    argv = ["autopsy", "now", "--since", "--formt=json", "--all=yes", "--format=xml", "--since=0h", "--log.level=loud", "--typo", "x"]

    assert problems(*argv, environ={"CORONER_LOG_FORMAT": "xml"}) == [
        "unexpected argument 'now'; a command takes flags only",
        "flag --since: got no value, expected hours, such as 1h",
        "unknown flag '--formt'; did you mean --format?",
        "flag --all: got 'yes', expected no value: use --[no-]all",
        "flag --format: got 'xml', expected text or json",
        "flag --since: got '0h', expected hours, such as 1h",
        "unknown flag '--typo'; see coroner --help",
        "flag --log.level: got 'loud', expected debug, info, warn or error",
        "environment CORONER_LOG_FORMAT: got 'xml', expected logfmt or json",
    ]


def test_a_flag_of_another_command_is_said_to_be_its() -> None:
    """Whether it has the value that it needs there or not; beside a setting's mistake."""
    assert problems("metrics", "--all", "--since", "--log.level=x") == [
        "flag --all belongs to coroner autopsy, not to coroner metrics",
        "flag --since belongs to coroner autopsy and coroner wake, not to coroner metrics",
        "flag --log.level: got 'x', expected debug, info, warn or error",
    ]
    assert problems("--no-all") == ["flag --no-all belongs to coroner autopsy, not to coroner without a command"]


@pytest.mark.parametrize(
    ("word", "hint"), [("metric", "did you mean metrics?"), ("autospy", "did you mean autopsy?"), ("x", "see coroner --help")]
)
def test_an_unknown_command_is_one_problem_of_all(word: str, hint: str) -> None:
    """Its flags are not blamed: whose they are only the command would tell. A flag that nobody has, and a setting, are."""
    assert problems(word, "--since=1h", "--format=xml", "--typo", "--log.level=x", "y") == [
        f"unknown command {word!r}; {hint}",
        "unexpected argument 'y'; a command takes flags only",
        "unknown flag '--typo'; see coroner --help",
        "flag --log.level: got 'x', expected debug, info, warn or error",
    ]


def test_an_unknown_flag_does_not_swallow_the_command() -> None:
    """Or one mistake would look like two."""
    assert problems("--typo", "autopsy", "--since=1h") == ["unknown flag '--typo'; see coroner --help"]
    assert problems("--typo", "value", "autopsy", "--since=1h") == ["unknown flag '--typo'; see coroner --help"]


def test_own_flags_are_no_settings() -> None:
    """Neither a variable nor a key of the file: those hold for whatever command comes."""
    found = read(["autopsy"], {"CORONER_SINCE": "1h"}, COLLECTORS, TABLE)

    assert isinstance(found, Call)
    assert found.config.warnings == ("unknown environment variable 'CORONER_SINCE'; see coroner --help",)


@pytest.mark.parametrize(
    "argv", [["-h"], ["--help"], ["help"], ["--typo", "x", "--help", "--version"], ["help", "--log.level=x"], ["--since", "-h"]]
)
def test_help_shows_commands_and_settings(argv: list[str]) -> None:
    """Whatever is wrong beside it; also when asked for beside the version."""
    shown = text(*argv, environ={"CORONER_LOG_LEVEL": "loud", "CORONER_TYPO": "1"})

    for command in TABLE[1:]:
        assert f"\n  {command.name:7}  {command.help}\n" in shown
    for setting in settings(COLLECTORS):
        value = "" if setting.kind is SWITCH else "=VALUE"
        [block] = re.findall(rf"\n  {re.escape(setting.flag + value)}((?:\n      .*)+)", shown)
        words = " ".join(block.split())
        assert words.startswith(setting.help)
        assert (f" Allowed: {setting.kind.allowed}. " in words) == bool(value)
        assert words.endswith(f" Default: {setting.default or 'empty'}. Environment: {setting.variable}.")
    assert "--since" not in shown


@pytest.mark.parametrize(
    "argv",
    [["autopsy", "--help"], ["-h", "autopsy"], ["help", "autopsy"], ["help", "--typo=1", "autopsy", "x"], ["autopsy", "--since", "-h"]],
)
def test_help_of_a_command_shows_its_own_flags(argv: list[str]) -> None:
    """And where to find the settings, but not their long list."""
    shown = text(*argv, environ={"CORONER_LOG_LEVEL": "loud"})

    assert shown == (
        "usage: coroner autopsy [FLAG]...\n"
        "\n"
        "Examine the dead.\n"
        "Exit code 3 or more.\n"
        "\n"
        "Flags:\n"
        "  --since=VALUE\n"
        "      How far to look back.\n"
        "      Allowed: hours, such as 1h.\n"
        "      Default: 24h.\n"
        "  --format=VALUE\n"
        "      Output format.\n"
        "      Allowed: text or json.\n"
        "      Default: text.\n"
        "  --[no-]all\n"
        "      Show what is well, too.\n"
        "      Default: false.\n"
        "\n"
        "Settings, such as --path.state, are flags of this command too: see coroner --help."
    )


def test_a_command_that_takes_words_gets_them_and_its_help_says_so() -> None:
    """As `coroner check web`: wherever its flags stand, and as none if there are none."""
    found: list[Values] = []

    def run(_config: Config, flags: Values) -> int:
        found.append(flags)
        return 0

    commands = (*TODAY, replace(THROW_AWAY, run=run, words="NAME"))
    for argv in (["autopsy"], ["autopsy", "web", "--all", "db", "--since", "2h"], ["--all", "autopsy", "help"]):
        asked = read(argv, {}, COLLECTORS, commands)
        assert isinstance(asked, Call)
        asked.run()

    assert [flags["NAME"] for flags in found] == [(), ("web", "db"), ("help",)]
    shown = read(["autopsy", "--help"], {}, COLLECTORS, commands)
    assert isinstance(shown, str)
    assert shown.startswith("usage: coroner autopsy [NAME...] [FLAG]...\n")


def test_help_has_help() -> None:
    """With the word that it takes, and no flags."""
    assert text("help", "help").startswith("usage: coroner help [COMMAND]\n\n")
    assert "Flags" not in text("help", "help")


@pytest.mark.parametrize("argv", [["help", "metric"], ["metric", "--help"], ["-h", "--log.level=x", "metric"]])
def test_help_of_an_unknown_command_says_so(argv: list[str]) -> None:
    """A guess helps more than the whole list, and only the command is to blame."""
    assert problems(*argv) == ["unknown command 'metric'; did you mean metrics?"]


@pytest.mark.parametrize("argv", [["--version"], ["--version", "--typo"], ["metrics", "--version"], ["x", "--version"]])
def test_version(argv: list[str]) -> None:
    """The version is that of the package, and needs nothing right."""
    assert text(*argv, environ={"CORONER_LOG_LEVEL": "loud"}).startswith(f"coroner {__version__} (Python 3.")


def faults(commands: tuple[Command, ...]) -> list[str]:
    """Say what is wrong in a table of commands."""
    found = []
    shared = forms(settings(NAMES)) | {"--help", "--no-help", "--version", "--no-version"}
    names = [command.name for command in commands]
    for command in commands:
        if names.count(command.name) > 1 or not re.fullmatch("([a-z]+(-[a-z]+)*)?", command.name):
            found.append(f"{command.name} is not a name, or not one command's")
        if not re.fullmatch("[A-Z].*[.]", command.help):
            found.append(f"{command.name} has no help that is one line and one sentence")
        for flag in command.flags:
            if forms([flag]) & shared:
                found.append(f"{command.name}'s flag {flag.name} is a setting's name too")
            if flag.name != flag.name.lower() or not re.fullmatch(r"[A-Z].*[.]", flag.help):
                found.append(f"{command.name}'s flag {flag.name} has no name in small letters, or no help")
            flag.kind.parse(flag.default)
    for one, other in combinations([flag for command in commands for flag in command.flags], 2):
        if set(one.forms.items()) ^ set(other.forms.items()) and forms([one]) & forms([other]):
            found.append(f"--{one.name} takes a value with one command and none with another")
    return found


def test_the_table_is_in_order() -> None:
    """A flag is split from its value before it is known whose it is."""
    assert faults(COMMANDS) == []
    assert faults(TABLE) == []


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (replace(THROW_AWAY, name="metrics"), "is not a name"),
        (replace(THROW_AWAY, name="--x"), "is not a name"),
        (replace(THROW_AWAY, help="Two\nlines."), "no help"),
        (replace(THROW_AWAY, flags=(replace(FORMAT, name="log.level"),)), "is a setting's name"),
        (replace(THROW_AWAY, flags=(replace(FORMAT, name="help"),)), "is a setting's name"),
        (replace(THROW_AWAY, flags=(replace(FORMAT, help=""),)), "or no help"),
        (replace(THROW_AWAY, flags=(replace(ALL, name="format"),)), "takes a value with one"),
        (replace(THROW_AWAY, flags=(replace(ALL, name="ormat"), replace(FORMAT, name="no-ormat"))), "takes a value with one"),
    ],
)
def test_each_rule_of_the_table_can_be_broken(command: Command, fault: str) -> None:
    """Every rule finds what it is there for."""
    assert any(fault in found for found in faults((*TODAY, command)))


def refuse(error: BaseException) -> Callable[[Config, Values], int]:
    """Make a command that ends so."""

    def run(_config: Config, _flags: Values) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (
            output.CannotWrite("cannot write to standard output: it is closed"),
            2,
            "coroner: cannot write to standard output: it is closed\n",
        ),
        (output.CannotWrite(), 2, ""),
        (PermissionError(13, "Permission denied", "/proc"), 2, "coroner: /proc: Permission denied\n"),
        (RuntimeError("secret"), 2, "coroner: the agent met what it was not made for: its log has the error, please report it\n"),
    ],
)
def test_what_a_command_could_not_do_has_its_own_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 may mean that it found something; so nothing else ends with it, and each error is said in its own words."""
    command = replace(THROW_AWAY, run=refuse(error))
    monkeypatch.setattr(__main__, "read", lambda argv, environ, collectors: read(argv, environ, collectors, (*TODAY, command)))
    monkeypatch.setattr("agent.log.setup", lambda level, fmt: None)

    assert __main__.run(["autopsy"]) == code
    assert capsys.readouterr() == ("", said)


words = st.sampled_from(
    ["--log.level", "--since", "--no-all", "--all", "--help", "-h", "--version", "metrics", "autopsy", "help", "-", "--", "--=", ""]
)


@given(st.lists(words | st.text(), max_size=6), st.dictionaries(st.sampled_from(["CORONER_LOG_LEVEL", "CORONER_"]) | st.text(), st.text()))
def test_any_input_is_answered(argv: list[str], environ: dict[str, str]) -> None:
    """Whatever is given, the answer is a call, a text or problems of one line each."""
    try:
        found = read(argv, environ, COLLECTORS, TABLE)
    except BadConfig as error:
        lines = error.problems or ["\0"]
    else:
        lines = list(found.config.warnings) if isinstance(found, Call) else found.splitlines()

    assert all(line.isprintable() for line in lines)


def test_one_page_leaves_the_trace_of_signals_to_the_daemon_and_walks_through_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both would read the same ring, and the daemon lose what the command has read."""
    made: list[Config] = []

    class Pages:
        def __init__(self, config: Config, _kept: object) -> None:
            made.append(config)

        async def page(self, *, openmetrics: bool) -> bytes:
            return b"" if openmetrics else b"page\n"

    monkeypatch.setattr(cli, "App", Pages)
    monkeypatch.setattr(cli, "write", lambda _page: None)
    found = read(["metrics", "--source.signals", "--source.layers", "--path.state="], {}, NAMES)
    assert isinstance(found, Call)
    assert found.config.signals
    assert found.run() == 0
    assert [(config.signals, config.layers) for config in made] == [(False, False)]
