"""How settings are read: from flags, the environment and a YAML file, each to parsed values, with everything that is wrong gathered.

Which settings there are is config.py's to say.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml

PREFIX = "CORONER_"
CONFIG_FILE = "config.file"

# Kubernetes describes every Service of the namespace to every container, and one that is called coroner is not a typing error:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    PREFIX + r"(.+_)?(SERVICE_HOST=.*|SERVICE_PORT(_.+)?=.*|PORT=(tcp|udp|sctp)://.*|PORT_[0-9]+_(TCP|UDP|SCTP)(_.+)?=.*)"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: `parse` raises ValueError for what is not `allowed`, and `tag` is the type it has in YAML.

    `is_list`: several values with commas between, which may be a list in YAML.
    """

    allowed: str
    parse: Callable[[str], Any]
    tag: str = "str"
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, by its key in the file; flag and variable follow from it."""

    name: str
    default: str
    kind: Kind
    help: str

    @property
    def flag(self) -> str:
        """The flag, as the help spells it."""
        return f"--[no-]{self.name}" if self.kind is SWITCH else f"--{self.name}"

    @property
    def may_be_empty(self) -> bool:
        """Whether empty text is a value."""
        try:
            self.kind.parse("")
        except ValueError:
            return False
        return True

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + re.sub("[.-]", "_", self.name).upper()


def _switch(text: str) -> bool:
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError


SWITCH = Kind("true or false", _switch, "bool")


class Loader:
    """Reads one source after the other, each to a mapping of names to parsed values, and gathers what is wrong."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._settings = {setting.name: setting for setting in settings}

    def defaults(self) -> dict[str, Any]:
        """Return the values that hold where nothing is set."""
        return {name: setting.kind.parse(setting.default) for name, setting in self._settings.items()}

    def arguments(self, argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """Return the words that are not flags, and the values of the flags; of a repeated flag the last counts."""
        flags: dict[str, tuple[Setting, str | None]] = {}
        for name, setting in self._settings.items():
            flags[f"--{name}"] = setting, None
            if setting.kind is SWITCH:
                flags[f"--{name}"] = setting, "true"
                flags[f"--no-{name}"] = setting, "false"

        words: list[str] = []
        values: dict[str, Any] = {}
        rest = deque(argv)
        while rest:
            word = rest.popleft()
            if not word.startswith("-"):
                words.append(word)
                continue
            flag, equals, text = word.partition("=")
            followed = bool(rest) and not rest[0].startswith("-")
            if flag not in flags:
                self.problems.append(_unknown("flag", flag, flags))
                if followed and not equals:
                    rest.popleft()  # most likely its value, and not one problem more
                continue
            setting, implied = flags[flag]
            if implied is not None:
                if equals:
                    self.problems.append(f"flag {flag}: got {text!r}, expected no value: it is {setting.flag}")
                text = implied
            elif not equals and not followed:
                self.problems.append(f"flag {flag}: got no value, expected {setting.kind.allowed}")
                continue
            elif not equals:
                text = rest.popleft()
            self._parse(setting, text, f"flag {flag}", values)
        return words, values

    def environment(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the values of the variables. One that has the prefix but is no setting may be somebody else's: it is warned of.

        An image's version, a Service's port: who shares the environment does not ask. Its value is not repeated, it may be a secret.
        """
        variables = {setting.variable: setting for setting in self._settings.values()}
        values: dict[str, Any] = {}
        for variable, text in sorted(environ.items()):
            if variable in variables:
                if text or variables[variable].may_be_empty:  # Compose passes what is not set as empty
                    self._parse(variables[variable], text, f"environment {variable}", values)
            elif variable.startswith(PREFIX) and not _SERVICE_LINK.fullmatch(f"{variable}={text}"):
                self.warnings.append(_unknown("environment", variable, variables))
        return values

    def file(self, path: str) -> dict[str, Any]:
        """Return the values of a YAML file, whose keys are nested, dotted or both."""
        try:
            with open(path, "rb") as stream:
                # Nodes and not values: they know their line, their type before conversion, and which key comes twice.
                root = yaml.compose(stream, Loader=yaml.SafeLoader)
        except OSError as error:
            self.problems.append(f"file {path}: cannot be read: {error.strerror}")
            return {}
        except yaml.YAMLError as error:
            self.problems.append(f"file {path}: is not YAML: {' '.join(str(error).split())}")
            return {}
        if root is None or _is_null(root):
            return {}
        if not isinstance(root, yaml.MappingNode):
            self.problems.append(f"file {path}: got {_shown(root)}, expected settings such as log.level: debug")
            return {}

        allowed = {name: setting for name, setting in self._settings.items() if name != CONFIG_FILE}
        groups = {name[:dot] for name in allowed for dot, character in enumerate(name) if character == "."}
        values: dict[str, Any] = {}
        seen: set[str] = set()
        for name, key, value in _leaves(root, groups):
            where = f"file {path}:{key.start_mark.line + 1}"
            setting = allowed.get(name)
            if name in groups and _is_null(value):
                pass  # all that was in it is commented out
            elif name in groups:
                self.problems.append(f"{where} {name}: got {_shown(value)}, expected settings below it")
            elif setting is None:
                self.problems.append(_unknown(where, name, allowed))
            elif name in seen:
                self.problems.append(f"{where} {name}: got it twice, expected it once")
            elif setting.kind.is_list and isinstance(value, yaml.SequenceNode):
                self._parse_list(setting, value, path, f"{where} {name}", values)
            elif not isinstance(value, yaml.ScalarNode) or value.tag != f"tag:yaml.org,2002:{setting.kind.tag}":
                kind = "" if setting.kind is SWITCH else "text: "
                self.problems.append(f"{where} {name}: got {_shown(value)}, expected {kind}{setting.kind.allowed}")
            else:
                self._parse(setting, value.value, f"{where} {name}", values)
            seen.add(name)
        return values

    def _parse(self, setting: Setting, text: str, where: str, values: dict[str, Any]) -> None:
        try:
            values[setting.name] = setting.kind.parse(text)
        except ValueError:
            self.problems.append(f"{where}: got {text!r}, expected {setting.kind.allowed}")

    def _parse_list(self, setting: Setting, node: yaml.SequenceNode, path: str, where: str, values: dict[str, Any]) -> None:
        before = len(self.problems)
        for item in node.value:
            place = f"file {path}:{item.start_mark.line + 1} {setting.name}"
            if not isinstance(item, yaml.ScalarNode) or item.tag != "tag:yaml.org,2002:str" or not item.value or "," in item.value:
                self.problems.append(f"{place}: got {_shown(item)} in the list, expected text without a comma: {setting.kind.allowed}")
            else:
                self._parse(setting, item.value, place, {})
        if len(self.problems) == before:
            self._parse(setting, ",".join(item.value for item in node.value), where, values)


def _unknown(where: str, given: str, known: Iterable[str]) -> str:
    close = get_close_matches(given, known, n=1, cutoff=0.8)  # at the default of 0.6 the common prefix would do
    hint = f"did you mean {close[0]}?" if close else "see --help"
    return f"{where}: got {given!r}, which is no setting; {hint}"


def _leaves(mapping: yaml.MappingNode, groups: Collection[str], above: str = "") -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Yield the dotted name, the key and the value of each setting; mappings other than the groups are values."""
    for key, value in mapping.value:
        name = above + (key.value if isinstance(key, yaml.ScalarNode) else _shown(key))
        if name in groups and isinstance(value, yaml.MappingNode):
            yield from _leaves(value, groups, f"{name}.")
        else:
            yield name, key, value


def _is_null(node: yaml.Node) -> bool:
    return node.tag == "tag:yaml.org,2002:null"


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"{node.tag.rpartition(':')[2]} {node.value!r}"
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
