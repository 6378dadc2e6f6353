"""The settings: one table, from which flags, environment variables, keys of the YAML file and the help text all follow.

A flag beats the environment, which beats the file, which beats the default. What is wrong anywhere, also in a value that
another one beats, is reported at once: nobody wants to correct a DaemonSet one problem at a time.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from agent.flags import SWITCH, Kind, one_of
from agent.settings import CONFIG_FILE, Loader, Setting
from agent.sources.docker_url import DEFAULT_URL
from agent.sources.exit_files import DEFAULT_EXITS
from agent.sources.kubernetes_access import SOURCES, ChosenApi, choose
from agent.sources.oci import DEFAULT_BUNDLES
from collectors.lifecycle import label_name


@dataclass(frozen=True, slots=True)
class Config:
    """The settings, checked and in the form they are used in."""

    listen: tuple[tuple[str | None, int] | str, ...]
    """Hosts and ports, or paths of unix sockets. No host: every address of the machine, IPv4 and IPv6. Port 0: any free one."""
    systemd_socket: bool
    """Whether systemd has opened what is listened on instead."""
    web_config: str
    """File with TLS and users of the endpoint. Empty: none."""
    telemetry_path: str
    history: bool
    """Whether the last hour of each container is kept in memory, for the charts of its page."""
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
    exits: tuple[str, ...]
    """Directories in which runtimes say how containers ended; empty: none are read."""
    tracefs: str
    signals: bool
    """Whether signals to containers are traced."""
    layers: bool
    """Whether the writable layers of containers are measured."""
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


class BadConfig(Exception):
    """The command line or a setting cannot be used. `problems` has a line for each thing wrong: where, what, and what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def settings(collectors: Sequence[str]) -> list[Setting]:
    """Return all settings there are, given the names of all collectors there are."""
    return [*_SETTINGS, *(Setting(f"collector.{name}", "true", SWITCH, f"Enable the {name} collector.") for name in collectors)]


def load(argv: Sequence[str], environ: Mapping[str, str], collectors: Sequence[str], *, serves: bool = False) -> Config:
    """Read the settings from flags, the environment and the file that they name; `collectors` as above. Raises BadConfig.

    `serves`: the web configuration is read too, by who listens; others may not be allowed to read the keys that it names.
    """
    loader = Loader(settings(collectors))
    flags = loader.flags(argv)
    given = loader.environment(environ) | flags
    file = given.get(CONFIG_FILE)
    values = loader.defaults() | (loader.file(file) if file else {}) | given
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
    if serves and values["web.config.file"]:
        from agent.web.protection import check  # noqa: PLC0415 - ssl, and few endpoints have one

        check(values["web.config.file"], loader.problems)
    if loader.problems:
        raise BadConfig(loader.problems)

    return Config(
        listen=values["web.listen-address"],
        systemd_socket=values["web.systemd-socket"],
        web_config=values["web.config.file"],
        telemetry_path=values["web.telemetry-path"],
        history=values["web.history"],
        exporter_metrics=not values["web.disable-exporter-metrics"],
        collectors=tuple(name for name in collectors if values[f"collector.{name}"]),
        procfs=values["path.procfs"],
        cgroupfs=values["path.cgroupfs"],
        kmsg=values["path.kmsg"],
        state=values["path.state"],
        bundles=values["path.bundles"] if kubernetes.source != "none" else (),
        exits=values["path.exits"],
        tracefs=values["path.tracefs"],
        signals=values["source.signals"],
        layers=values["source.layers"],
        docker_url=values["docker.url"],
        kubernetes=kubernetes,
        pod_labels=values["kubernetes.pod-labels"],
        log_level=values["log.level"],
        log_format=values["log.format"],
        warnings=tuple(loader.warnings),
    )


def _addresses(text: str) -> tuple[tuple[str | None, int] | str, ...]:
    return tuple(dict.fromkeys(_address(each) for each in text.split(",")))


def _address(text: str) -> tuple[str | None, int] | str:
    if text.startswith("unix:/"):
        if not text.isprintable() or text.endswith("/") or len(text) > _LONGEST_UNIX:
            raise ValueError
        return "/" + text.removeprefix("unix:").lstrip("/")  # unix:///PATH too
    match = re.fullmatch(r"(?:\[([^]]+)]|([A-Za-z0-9._-]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ValueError
    host = str(IPv6Address(match[1])) if match[1] else match[2]
    return host or None, int(match[3])


def _web_config(text: str) -> str:
    if text and not text.isprintable():
        raise ValueError
    return text


_PAGES = ("/healthz", "/readyz", "/container")


def _telemetry_path(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text) or text in _PAGES or text.startswith("/api/"):
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


_LONGEST_UNIX = 107
"""unix(7): sun_path has 108 bytes, the last of them 0."""

_PATH = Kind("an absolute path", _directory)
_FILE = Kind("an absolute path, or empty", _file)
_ANYTHING = Kind("any text", str)
_SETTINGS = (
    Setting(
        "web.listen-address",
        "127.0.0.1:10911",
        Kind(
            "HOST:PORT, [IPV6]:PORT, :PORT for every address of the machine, or unix:/PATH; several separated by commas",
            _addresses,
            is_list=True,
            adds_up=True,
        ),
        "Addresses on which to expose metrics and the pages. The flag may be repeated.",
    ),
    Setting("web.systemd-socket", "false", SWITCH, "Listen on the sockets of a systemd .socket unit instead of --web.listen-address."),
    Setting(
        "web.config.file",
        "",
        Kind("the path of a YAML file, or empty for none", _web_config),
        "TLS, client certificates, users and headers of the endpoint, in the format of Prometheus' exporter-toolkit. A changed file, or a "
        "new certificate, holds at once.",
    ),
    Setting(
        "web.telemetry-path",
        "/metrics",
        Kind("a path of letters, digits and . _ ~ -, but not /healthz, /readyz, /container or below /api", _telemetry_path),
        "Path under which to expose metrics.",
    ),
    Setting("web.history", "true", SWITCH, "Keep the last hour of each container in memory, 1.4 KiB each, for the charts on its page."),
    Setting("web.disable-exporter-metrics", "false", SWITCH, "Exclude metrics about the agent's own process (process_*, python_*)."),
    Setting("path.procfs", "/proc", _PATH, "Mount point of the host's procfs."),
    Setting("path.cgroupfs", "/sys/fs/cgroup", _PATH, "Mount point of the host's cgroup v2 hierarchy."),
    Setting("path.kmsg", "/dev/kmsg", _PATH, "Device of the kernel log. If it cannot be read, the agent reads the log through syslog(2)."),
    Setting(
        "path.state",
        "/var/lib/coroner",
        Kind("an absolute path, or empty to keep everything in memory", _file),
        "Directory of the casebook, in which the agent keeps its counters and the victims of the OOM killer across restarts.",
    ),
    Setting(
        "path.bundles",
        ",".join(DEFAULT_BUNDLES),
        Kind("absolute paths separated by commas, or empty to read no bundles", _directories, is_list=True),
        "Directories in which containerd, CRI-O and Podman keep OCI bundles. Annotations in a bundle name the pod and the container.",
    ),
    Setting(
        "path.exits",
        ",".join(DEFAULT_EXITS),
        Kind("absolute paths separated by commas, or empty to read no exit files", _directories, is_list=True),
        "Directories in which containerd keeps the statuses of pods' containers, CRI-O and Podman their exit files.",
    ),
    Setting("path.tracefs", "/sys/kernel/tracing", _PATH, "Mount point of the host's tracefs, for --source.signals."),
    Setting(
        "source.signals",
        "false",
        SWITCH,
        "Record who sends signals to containers, in a trace instance of the agent's own: the one thing that it writes to the kernel.",
    ),
    Setting(
        "source.layers",
        "false",
        SWITCH,
        "Tell which file systems the roots of containers are, and measure their writable layers: a slow walk of each, every 10 minutes at "
        "most.",
    ),
    Setting(
        "docker.url",
        DEFAULT_URL,
        Kind("unix:///PATH, tcp://HOST:PORT, http://HOST:PORT, https://HOST:PORT, or empty to disable Docker", _docker_url),
        "URL of the Docker Engine API, or of Podman's.",
    ),
    Setting(
        "kubernetes.source",
        "auto",
        one_of(*SOURCES),
        "Where pod names come from. kubelet, apiserver: that API and OCI bundles; files: OCI bundles only; none: neither; auto: in a pod "
        "with a service account token kubelet if NODE_IP is set, or apiserver if NODE_NAME is set; else files.",
    ),
    Setting("kubernetes.node-name", "", _ANYTHING, "Node whose pods to list from the API server. If empty, NODE_NAME of the environment."),
    Setting(
        "kubernetes.kubelet-url",
        "",
        Kind("https://HOST:PORT, or empty", _https),
        "URL of the kubelet's API. If empty, port 10250 of NODE_IP of the environment.",
    ),
    Setting(
        "kubernetes.token-file", "", _FILE, "File with the bearer token for the API. If empty, the token of the pod's service account."
    ),
    Setting("kubernetes.ca-file", "", _FILE, "CA certificate to validate the API with. If empty, that of the pod's service account."),
    Setting(
        "kubernetes.kubelet-insecure-skip-verify",
        "false",
        SWITCH,
        "Disable validation of the kubelet's TLS certificate: whoever answers gets the token.",
    ),
    Setting(
        "kubernetes.pod-labels",
        "",
        Kind("label keys separated by commas, or empty for none", _pod_labels, is_list=True),
        "Pod labels to add to coroner_container_info, as label_KEY.",
    ),
    Setting("log.level", "info", one_of("debug", "info", "warn", "error"), "Only log messages with this severity or above."),
    Setting("log.format", "logfmt", one_of("logfmt", "json"), "Output format of log messages."),
    Setting(CONFIG_FILE, "", Kind("the path of a YAML file, or empty for none", str), "YAML file with any of the settings but this one."),
)
