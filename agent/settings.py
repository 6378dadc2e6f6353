"""How settings are read: from flags, the environment and a YAML file, each to parsed values, with everything that is wrong gathered.

Which settings there are is config.py's to say.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from agent.flags import SWITCH, Flag, hint, parse, parse_value, split

PREFIX = "CORONER_"
CONFIG_FILE = "config.file"

# Kubernetes describes every Service of the namespace to every container, and one that is called coroner is not a typing error:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    PREFIX + r"(.+_)?(SERVICE_HOST=.*|SERVICE_PORT(_.+)?=.*|PORT=(tcp|udp|sctp)://.*|PORT_[0-9]+_(TCP|UDP|SCTP)(_.+)?=.*)"
)


@dataclass(frozen=True, slots=True)
class Setting(Flag):
    """A flag that is an environment variable and, by its name, a key of the YAML file too."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + re.sub("[.-]", "_", self.name).upper()

    @property
    def may_be_empty(self) -> bool:
        """Whether empty text is a value."""
        try:
            self.kind.parse("")
        except ValueError:
            return False
        return True


class Loader:
    """Reads one source after the other, each to a mapping of names to parsed values, and gathers what is wrong."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._settings = {setting.name: setting for setting in settings}

    def defaults(self) -> dict[str, Any]:
        """Return the values that hold where nothing is set."""
        return {name: setting.kind.parse(setting.default) for name, setting in self._settings.items()}

    def flags(self, argv: Sequence[str]) -> dict[str, Any]:
        """Return the values of the flags."""
        words, given = split(argv, self._settings.values())
        self.problems += [f"unexpected argument {word!r}; settings are flags" for word in words]
        return parse(given, self._settings.values(), self.problems)

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
                self.warnings.append(f"unknown environment variable {variable!r}; {hint(variable, variables)}")
        return values

    def file(self, path: str) -> dict[str, Any]:
        """Return the values of a YAML file, whose keys are nested, dotted or both."""
        try:
            with open(path, "rb") as stream:
                # Nodes and not values: they know their line, their type before conversion, and which key comes twice.
                root = yaml.compose(stream, Loader=yaml.SafeLoader)
        except OSError as error:
            self.problems.append(f"cannot read file {path}: {error.strerror}")
            return {}
        except yaml.YAMLError as error:
            self.problems.append(f"cannot parse file {path} as YAML: {' '.join(str(error).split())}")
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
                self.problems.append(f"{where}: unknown setting {name!r}; {hint(name, allowed)}")
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
        parse_value(setting, text, where, values, self.problems)

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
