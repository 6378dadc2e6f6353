"""How settings are read: from flags, the environment and a YAML file, each to parsed values, with everything that is wrong gathered.

Which settings there are is config.py's to say.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.flags import Flag, hint, parse, parse_value, split

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
        from agent.settings_file import read  # noqa: PLC0415 - PyYAML holds 1 MiB, and few agents have a file

        allowed = {name: setting for name, setting in self._settings.items() if name != CONFIG_FILE}
        return read(path, allowed, self.problems)

    def _parse(self, setting: Setting, text: str, where: str, values: dict[str, Any]) -> None:
        parse_value(setting, text, where, values, self.problems)
