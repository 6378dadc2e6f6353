"""The settings: one table, from which flags, environment variables, keys of the YAML file and the help text all follow.

A flag beats the environment, which beats the file, which beats the default. What is wrong anywhere, also in a value that
another one beats, is reported at once: nobody wants to correct a DaemonSet one problem at a time.
"""

import platform
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv6Address
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from agent import __version__
from agent.sources.kubernetes import SOURCES, Choice, choose
from agent.sources.oci import DEFAULT_BUNDLES
from collectors.lifecycle import label_name


@dataclass(frozen=True, slots=True)
class Config:
    """What the agent was told to do, checked and in the form it is used in."""

    command: Literal["daemon", "metrics"]
    listen_host: str | None
    """None: every address of the machine."""
    listen_port: int
    """0: any free port."""
    telemetry_path: str
    exporter_metrics: bool
    """Whether the page shows the agent's own process too."""
    collectors: tuple[str, ...]
    """Those that are enabled, in the order in which load was given them."""
    procfs: str
    cgroupfs: str
    kmsg: str
    bundles: tuple[str, ...]
    """Directories of OCI bundles; empty: none are read."""
    docker_url: str
    """Empty: Docker is not asked."""
    kubernetes: Choice
    """Which API of Kubernetes is asked, if any."""
    pod_labels: tuple[str, ...]
    """Labels of pods that coroner_container_info shows."""
    log_level: str
    log_format: str


@dataclass(frozen=True, slots=True)
class Text:
    """What was asked for instead of a run: the help or the version."""

    text: str


class BadConfig(Exception):
    """The configuration cannot be used. `problems` has a line for each thing wrong: where, what, and what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(argv: Sequence[str], environ: Mapping[str, str], collectors: Sequence[str]) -> Config | Text:
    """Read the settings from the arguments (without the program's name), the environment and the file that they name.

    `collectors` are the names of all collectors there are. Raises BadConfig.
    """
    settings = [*_SETTINGS, *(_collector(name) for name in collectors)]
    if "-h" in argv or "--help" in argv:
        return Text(_help(settings))
    if "--version" in argv:
        return Text(f"coroner {__version__} (Python {platform.python_version()})")

    loader = _Loader(settings)
    words, flags = loader.arguments(argv)
    given = loader.environment(environ) | flags
    file = given.get(_CONFIG_FILE)
    values = loader.defaults() | (loader.file(file) if file else {}) | given
    if words not in ([], ["metrics"]):
        loader.problems.append(f"command: got {' '.join(words)!r}, expected metrics, or nothing to run the daemon")
    kubernetes = choose(
        values["kubernetes.source"],
        environ,
        node_name=values["kubernetes.node-name"],
        kubelet_url=values["kubernetes.kubelet-url"],
        token_file=values["kubernetes.token-file"],
        ca_file=values["kubernetes.ca-file"],
        skip_verify=values["kubernetes.kubelet-insecure-skip-verify"],
    )
    loader.problems += kubernetes.problems
    if loader.problems:
        raise BadConfig(loader.problems)

    host, port = values["web.listen-address"]
    return Config(
        command="metrics" if words else "daemon",
        listen_host=host,
        listen_port=port,
        telemetry_path=values["web.telemetry-path"],
        exporter_metrics=not values["web.disable-exporter-metrics"],
        collectors=tuple(name for name in collectors if values[f"collector.{name}"]),
        procfs=values["path.procfs"],
        cgroupfs=values["path.cgroupfs"],
        kmsg=values["path.kmsg"],
        bundles=values["path.bundles"] if kubernetes.source != "none" else (),
        docker_url=values["docker.url"],
        kubernetes=kubernetes,
        pod_labels=values["kubernetes.pod-labels"],
        log_level=values["log.level"],
        log_format=values["log.format"],
    )


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of value: `parse` raises ValueError for what is not `allowed`, and `tag` is the type it has in YAML."""

    allowed: str
    parse: Callable[[str], Any]
    tag: str = "str"


@dataclass(frozen=True, slots=True)
class _Setting:
    """One setting, by its key in the file; flag and variable follow from it."""

    name: str
    default: str
    kind: _Kind
    help: str

    @property
    def flag(self) -> str:
        return f"--[no-]{self.name}" if self.kind is _SWITCH else f"--{self.name}"

    @property
    def variable(self) -> str:
        return _PREFIX + re.sub("[.-]", "_", self.name).upper()


def _address(text: str) -> tuple[str | None, int]:
    match = re.fullmatch(r"(?:\[([^]]+)]|([A-Za-z0-9._-]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ValueError
    host = str(IPv6Address(match[1])) if match[1] else match[2]
    return host or None, int(match[3])


def _telemetry_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text) or text in ("/healthz", "/readyz"):
        raise ValueError
    return text


def _directory(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError
    return text.rstrip("/") or "/"


def _directories(text: str) -> tuple[str, ...]:
    return tuple(_directory(path) for path in text.split(",")) if text else ()


def _docker_url(text: str) -> str:
    if not text:
        return text
    url = urlsplit(text)
    remote = url.scheme in ("tcp", "http", "https") and url.hostname and url.port != 0
    if " " in text or not text.isprintable() or not (remote or re.fullmatch("unix:///.+", text)):
        raise ValueError
    return text


def _https(text: str) -> str:
    url = urlsplit(text)
    if text and not (url.scheme == "https" and url.hostname and url.port != 0 and text.isprintable() and " " not in text):
        raise ValueError
    return text


def _file(text: str) -> str:
    return _directory(text) if text else text


def _pod_labels(text: str) -> tuple[str, ...]:
    keys = tuple(text.split(",")) if text else ()
    # Two keys that become the same label of Prometheus would make the page invalid.
    if len(set(map(label_name, keys))) != len(keys) or not all(re.fullmatch("([a-z0-9.-]+/)?[A-Za-z0-9._-]+", key) for key in keys):
        raise ValueError
    return keys


def _switch(text: str) -> bool:
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError


def _one_of(*choices: str) -> _Kind:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return _Kind(" or ".join((", ".join(choices[:-1]), choices[-1])), parse)


DOCKER_URL = "unix:///var/run/docker.sock"
_PREFIX = "CORONER_"
_CONFIG_FILE = "config.file"
_SWITCH = _Kind("true or false", _switch, "bool")
_PATH = _Kind("an absolute path", _directory)
_FILE = _Kind("an absolute path, or empty", _file)
_ANYTHING = _Kind("any text", str)
_SETTINGS = (
    _Setting(
        "web.listen-address",
        "127.0.0.1:10911",
        _Kind("HOST:PORT, [IPV6]:PORT, or :PORT for every address of the machine", _address),
        "Where to serve the page.",
    ),
    _Setting(
        "web.telemetry-path",
        "/metrics",
        _Kind("a path of letters, digits and . _ ~ -, but not / nor /healthz nor /readyz", _telemetry_path),
        "The path of the page.",
    ),
    _Setting("web.disable-exporter-metrics", "false", _SWITCH, "Leave the agent's own process out of the page (process_*, python_*)."),
    _Setting("path.procfs", "/proc", _PATH, "Where the host's procfs is mounted."),
    _Setting("path.cgroupfs", "/sys/fs/cgroup", _PATH, "Where the host's cgroup2 file system is mounted."),
    _Setting("path.kmsg", "/dev/kmsg", _PATH, "The kernel log."),
    _Setting(
        "path.bundles",
        ",".join(DEFAULT_BUNDLES),
        _Kind("absolute paths with commas between, or empty to do without", _directories),
        "Where containerd, CRI-O and Podman keep the bundles of their containers, whose annotations have the names.",
    ),
    _Setting(
        "docker.url",
        DOCKER_URL,
        _Kind("unix:///PATH, tcp://HOST:PORT, http://HOST:PORT, https://HOST:PORT, or empty to do without Docker", _docker_url),
        "Where Docker answers.",
    ),
    _Setting("kubernetes.source", "auto", _one_of(*SOURCES), "Who tells of pods: files are the bundles alone; none is not even these."),
    _Setting("kubernetes.node-name", "", _ANYTHING, "The node's name for the API server; from NODE_NAME if empty."),
    _Setting(
        "kubernetes.kubelet-url",
        "",
        _Kind("https://HOST:PORT, or empty for port 10250 of NODE_IP", _https),
        "Where the kubelet answers.",
    ),
    _Setting("kubernetes.token-file", "", _FILE, "The token to show; the service account's if empty."),
    _Setting("kubernetes.ca-file", "", _FILE, "The authority that the API's certificate is checked against; the cluster's if empty."),
    _Setting("kubernetes.kubelet-insecure-skip-verify", "false", _SWITCH, "Believe any certificate of the kubelet."),
    _Setting(
        "kubernetes.pod-labels",
        "",
        _Kind("keys of labels with commas between, or empty for none", _pod_labels),
        "Labels of pods to show on coroner_container_info, as label_KEY.",
    ),
    _Setting("log.level", "info", _one_of("debug", "info", "warn", "error"), "The least severe messages to log."),
    _Setting("log.format", "logfmt", _one_of("logfmt", "json"), "How messages are written to standard error."),
    _Setting(_CONFIG_FILE, "", _Kind("the path of a YAML file, or empty for none", str), "A file with any of these settings but this."),
)

# Kubernetes describes every Service of the namespace to every container, and one that is called coroner is not a typing error:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(
    _PREFIX + r"(.+_)?(SERVICE_HOST=.*|SERVICE_PORT(_.+)?=.*|PORT=(tcp|udp|sctp)://.*|PORT_[0-9]+_(TCP|UDP|SCTP)(_.+)?=.*)"
)


def _collector(name: str) -> _Setting:
    return _Setting(f"collector.{name}", "true", _SWITCH, f"Export the metrics of the collector {name}.")


class _Loader:
    """Reads one source after the other, each to a mapping of names to parsed values, and gathers what is wrong."""

    def __init__(self, settings: Sequence[_Setting]) -> None:
        self.problems: list[str] = []
        self._settings = {setting.name: setting for setting in settings}

    def defaults(self) -> dict[str, Any]:
        return {name: setting.kind.parse(setting.default) for name, setting in self._settings.items()}

    def arguments(self, argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """Return the words that are not flags, and the values of the flags; of a repeated flag the last counts."""
        flags: dict[str, tuple[_Setting, str | None]] = {}
        for name, setting in self._settings.items():
            flags[f"--{name}"] = setting, None
            if setting.kind is _SWITCH:
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
                self._unknown("flag", flag, flags)
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
        """Return the values of the variables. One that has the prefix but is no setting is a mistake."""
        variables = {setting.variable: setting for setting in self._settings.values()}
        values: dict[str, Any] = {}
        for variable, text in sorted(environ.items()):
            if variable in variables:
                self._parse(variables[variable], text, f"environment {variable}", values)
            elif variable.startswith(_PREFIX) and not _SERVICE_LINK.fullmatch(f"{variable}={text}"):
                self._unknown("environment", variable, variables)
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

        allowed = {name: setting for name, setting in self._settings.items() if name != _CONFIG_FILE}
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
                self._unknown(where, name, allowed)
            elif name in seen:
                self.problems.append(f"{where} {name}: got it twice, expected it once")
            elif not isinstance(value, yaml.ScalarNode) or value.tag != f"tag:yaml.org,2002:{setting.kind.tag}":
                kind = "" if setting.kind is _SWITCH else "text: "
                self.problems.append(f"{where} {name}: got {_shown(value)}, expected {kind}{setting.kind.allowed}")
            else:
                self._parse(setting, value.value, f"{where} {name}", values)
            seen.add(name)
        return values

    def _parse(self, setting: _Setting, text: str, where: str, values: dict[str, Any]) -> None:
        try:
            values[setting.name] = setting.kind.parse(text)
        except ValueError:
            self.problems.append(f"{where}: got {text!r}, expected {setting.kind.allowed}")

    def _unknown(self, where: str, given: str, known: Iterable[str]) -> None:
        close = get_close_matches(given, known, n=1, cutoff=0.8)  # at the default of 0.6 the common prefix would do
        hint = f"did you mean {close[0]}?" if close else "see --help"
        self.problems.append(f"{where}: got {given!r}, which is no setting; {hint}")


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


def _help(settings: Iterable[_Setting]) -> str:
    lines = [
        "usage: coroner [FLAG]... [metrics]",
        "",
        "Says why containers die, and which are about to. Without a command it runs as a daemon that Prometheus scrapes;",
        "metrics prints one page and exits.",
        "",
        "Every setting is a flag, an environment variable and, by the flag's name, a key of the YAML file (--config.file);",
        "a flag beats the environment, which beats the file.",
        "",
        "  -h, --help",
        "      Print this text and exit.",
        "  --version",
        "      Print the version and exit.",
    ]
    for setting in settings:
        lines += (
            f"  {setting.flag}" if setting.kind is _SWITCH else f"  {setting.flag}=VALUE",
            f"      {setting.help}",
            f"      Allowed: {setting.kind.allowed}.",
            f"      Default: {setting.default or 'empty'}. Environment: {setting.variable}.",
        )
    return "\n".join(lines)
