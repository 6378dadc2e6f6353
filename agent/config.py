"""The settings: one table, from which flags, environment variables, keys of the YAML file and the help text all follow.

A flag beats the environment, which beats the file, which beats the default. What is wrong anywhere, also in a value that
another one beats, is reported at once: nobody wants to correct a DaemonSet one problem at a time.
"""

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal
from urllib.parse import urlsplit

from agent import __version__
from agent.settings import CONFIG_FILE, SWITCH, Kind, Loader, Setting
from agent.sources.docker import DEFAULT_URL
from agent.sources.kubernetes_access import SOURCES, ChosenApi, choose
from agent.sources.oci import DEFAULT_BUNDLES
from collectors.lifecycle import label_name


@dataclass(frozen=True, slots=True)
class Config:
    """What the agent was told to do, checked and in the form it is used in."""

    command: Literal["daemon", "metrics"]
    listen_host: str | None
    """None: every address of the machine, IPv4 and IPv6."""
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
    state: str
    """Directory of the casebook. Empty: memory only."""
    bundles: tuple[str, ...]
    """Directories of OCI bundles; empty: none are read."""
    docker_url: str
    """Empty: Docker is not asked."""
    kubernetes: ChosenApi
    """Which API of Kubernetes is asked, if any."""
    pod_labels: tuple[str, ...]
    """Labels of pods that coroner_container_info shows."""
    log_level: str
    log_format: str
    warnings: tuple[str, ...] = ()
    """What was given and is not used, a line each."""


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
    if "-h" in argv or "--help" in argv or argv[:1] == ["help"]:
        return Text(_help(settings))
    if "--version" in argv:
        return Text(f"coroner {__version__} (Python {platform.python_version()})")

    loader = Loader(settings)
    words, flags = loader.arguments(argv)
    given = loader.environment(environ) | flags
    file = given.get(CONFIG_FILE)
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
        state=values["path.state"],
        bundles=values["path.bundles"] if kubernetes.source != "none" else (),
        docker_url=values["docker.url"],
        kubernetes=kubernetes,
        pod_labels=values["kubernetes.pod-labels"],
        log_level=values["log.level"],
        log_format=values["log.format"],
        warnings=tuple(loader.warnings),
    )


def _address(text: str) -> tuple[str | None, int]:
    match = re.fullmatch(r"(?:\[([^]]+)]|([A-Za-z0-9._-]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ValueError
    host = str(IPv6Address(match[1])) if match[1] else match[2]
    return host or None, int(match[3])


def _telemetry_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text) or text in ("/healthz", "/readyz", "/api/v1/victims"):
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


def _one_of(*choices: str) -> Kind:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError
        return text

    return Kind(" or ".join((", ".join(choices[:-1]), choices[-1])), parse)


_PATH = Kind("an absolute path", _directory)
_FILE = Kind("an absolute path, or empty", _file)
_ANYTHING = Kind("any text", str)
_SETTINGS = (
    Setting(
        "web.listen-address",
        "127.0.0.1:10911",
        Kind("HOST:PORT, [IPV6]:PORT, or :PORT for every address of the machine", _address),
        "Where to serve the page.",
    ),
    Setting(
        "web.telemetry-path",
        "/metrics",
        Kind("a path of letters, digits and . _ ~ -, but not /healthz, /readyz, /api/v1/victims", _telemetry_path),
        "The path of the page.",
    ),
    Setting("web.disable-exporter-metrics", "false", SWITCH, "Leave the agent's own process out of the page (process_*, python_*)."),
    Setting("path.procfs", "/proc", _PATH, "Where the host's procfs is mounted."),
    Setting("path.cgroupfs", "/sys/fs/cgroup", _PATH, "Where the host's cgroup2 file system is mounted."),
    Setting("path.kmsg", "/dev/kmsg", _PATH, "The kernel log."),
    Setting(
        "path.state",
        "/var/lib/coroner",
        Kind("an absolute path, or empty to keep all in memory", _file),
        "Directory of the casebook: what must outlive the agent.",
    ),
    Setting(
        "path.bundles",
        ",".join(DEFAULT_BUNDLES),
        Kind("absolute paths with commas between, or empty to do without", _directories, is_list=True),
        "Where containerd, CRI-O and Podman keep the bundles of their containers, whose annotations have the names.",
    ),
    Setting(
        "docker.url",
        DEFAULT_URL,
        Kind("unix:///PATH, tcp://HOST:PORT, http://HOST:PORT, https://HOST:PORT, or empty to do without Docker", _docker_url),
        "Where Docker answers.",
    ),
    Setting("kubernetes.source", "auto", _one_of(*SOURCES), "Who tells of pods: files are the bundles alone; none is not even these."),
    Setting("kubernetes.node-name", "", _ANYTHING, "The node's name for the API server; from NODE_NAME if empty."),
    Setting(
        "kubernetes.kubelet-url",
        "",
        Kind("https://HOST:PORT, or empty for port 10250 of NODE_IP", _https),
        "Where the kubelet answers.",
    ),
    Setting("kubernetes.token-file", "", _FILE, "The token to show; the service account's if empty."),
    Setting("kubernetes.ca-file", "", _FILE, "The authority that the API's certificate is checked against; the cluster's if empty."),
    Setting("kubernetes.kubelet-insecure-skip-verify", "false", SWITCH, "Believe any certificate of the kubelet."),
    Setting(
        "kubernetes.pod-labels",
        "",
        Kind("keys of labels with commas between, or empty for none", _pod_labels, is_list=True),
        "Labels of pods to show on coroner_container_info, as label_KEY.",
    ),
    Setting("log.level", "info", _one_of("debug", "info", "warn", "error"), "The least severe messages to log."),
    Setting("log.format", "logfmt", _one_of("logfmt", "json"), "How messages are written to standard error."),
    Setting(CONFIG_FILE, "", Kind("the path of a YAML file, or empty for none", str), "A file with any of these settings but this."),
)


def _collector(name: str) -> Setting:
    return Setting(f"collector.{name}", "true", SWITCH, f"Export the metrics of the collector {name}.")


def _help(settings: Iterable[Setting]) -> str:
    lines = [
        "usage: coroner [FLAG]... [metrics]",
        "",
        "Says why containers die, and which are about to. Without a command it runs as a daemon that Prometheus scrapes;",
        "metrics prints one page and exits.",
        "",
        "Every setting is a flag, an environment variable and, by the flag's name, a key of the YAML file (--config.file);",
        "a flag beats the environment, which beats the file. What has commas between may be a list there. Changes need a restart.",
        "A CORONER_ variable that is no setting is warned of and not used: it may be somebody else's.",
        "",
        "  -h, --help",
        "      Print this text and exit.",
        "  --version",
        "      Print the version and exit.",
    ]
    for setting in settings:
        lines += (
            f"  {setting.flag}" if setting.kind is SWITCH else f"  {setting.flag}=VALUE",
            f"      {setting.help}",
            f"      Allowed: {setting.kind.allowed}.",
            f"      Default: {setting.default or 'empty'}. Environment: {setting.variable}.",
        )
    return "\n".join(lines)
