"""Where each setting may come from, which source wins, and that everything wrong is said at once."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import BadConfig, Config, load, settings
from agent.flags import SWITCH
from agent.sources.exit_files import DEFAULT_EXITS
from agent.sources.kubernetes_access import choose
from agent.sources.oci import DEFAULT_BUNDLES
from collectors import NAMES

COLLECTORS = ("memory", "zombies", "oom")
DEFAULT = Config(
    listen=(("127.0.0.1", 10911),),
    systemd_socket=False,
    web_config="",
    telemetry_path="/metrics",
    history=True,
    exporter_metrics=True,
    collectors=COLLECTORS,
    procfs="/proc",
    cgroupfs="/sys/fs/cgroup",
    kmsg="/dev/kmsg",
    state="/var/lib/coroner",
    bundles=DEFAULT_BUNDLES,
    exits=DEFAULT_EXITS,
    tracefs="/sys/kernel/tracing",
    signals=False,
    layers=False,
    kubernetes=choose("auto", {}),
    pod_labels=(),
    docker_url="unix:///var/run/docker.sock",
    log_level="info",
    log_format="logfmt",
)

EVERYTHING = [
    ("web.listen-address", ":9100", replace(DEFAULT, listen=((None, 9100),))),
    ("web.listen-address", ":9100,unix:/run/coroner.sock", replace(DEFAULT, listen=((None, 9100), "/run/coroner.sock"))),
    ("web.systemd-socket", "true", replace(DEFAULT, systemd_socket=True)),
    ("web.config.file", "web.yml", replace(DEFAULT, web_config="web.yml")),
    ("web.telemetry-path", "/a/b.c", replace(DEFAULT, telemetry_path="/a/b.c")),
    ("web.history", "false", replace(DEFAULT, history=False)),
    ("web.disable-exporter-metrics", "true", replace(DEFAULT, exporter_metrics=False)),
    ("path.procfs", "/host/proc", replace(DEFAULT, procfs="/host/proc")),
    ("path.cgroupfs", "/host/cgroup/", replace(DEFAULT, cgroupfs="/host/cgroup")),
    ("path.kmsg", "/host/kmsg", replace(DEFAULT, kmsg="/host/kmsg")),
    ("path.state", "/state/", replace(DEFAULT, state="/state")),
    ("path.state", '""', replace(DEFAULT, state="")),
    ("path.bundles", "/a/b,/c/", replace(DEFAULT, bundles=("/a/b", "/c"))),
    ("path.bundles", '""', replace(DEFAULT, bundles=())),
    ("path.exits", "/a/b,/c/", replace(DEFAULT, exits=("/a/b", "/c"))),
    ("path.exits", '""', replace(DEFAULT, exits=())),
    ("path.tracefs", "/host/tracing/", replace(DEFAULT, tracefs="/host/tracing")),
    ("source.signals", "true", replace(DEFAULT, signals=True)),
    ("source.layers", "true", replace(DEFAULT, layers=True)),
    ("docker.url", "tcp://10.0.0.1:2375", replace(DEFAULT, docker_url="tcp://10.0.0.1:2375")),
    ("docker.url", '""', replace(DEFAULT, docker_url="")),
    ("kubernetes.source", "files", replace(DEFAULT, kubernetes=choose("files", {}))),
    ("kubernetes.pod-labels", "app,app.kubernetes.io/name", replace(DEFAULT, pod_labels=("app", "app.kubernetes.io/name"))),
    ("collector.zombies", "false", replace(DEFAULT, collectors=("memory", "oom"))),
    ("log.level", "debug", replace(DEFAULT, log_level="debug")),
    ("log.format", "json", replace(DEFAULT, log_format="json")),
]
BY_NAME = {name: config for name, _, config in EVERYTHING}

YamlFile = Callable[[str], str]


@pytest.fixture
def yaml_file(tmp_path: Path) -> YamlFile:
    """Write a configuration file and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "coroner.yaml"
        path.write_text(text)
        return str(path)

    return write


def problems(argv: list[str], environ: dict[str, str] | None = None) -> list[str]:
    """Load what must fail and return what was wrong."""
    with pytest.raises(BadConfig) as caught:
        load(argv, environ or {}, COLLECTORS)
    return caught.value.problems


def test_no_configuration_needed() -> None:
    """Nothing need be set; what other programs set is ignored."""
    assert load([], {"PATH": "/bin", "XCORONER_LOG_LEVEL": "x"}, COLLECTORS) == DEFAULT


def test_an_empty_variable_is_not_set_unless_empty_is_a_value() -> None:
    """Compose passes what nobody has set as empty text."""
    assert load([], {"CORONER_LOG_LEVEL": "", "CORONER_PATH_PROCFS": "", "CORONER_COLLECTOR_OOM": ""}, COLLECTORS) == DEFAULT
    assert load([], {"CORONER_DOCKER_URL": ""}, COLLECTORS) == replace(DEFAULT, docker_url="")
    assert problems(["--log.level="], {}) == ["flag --log.level: got '', expected debug, info, warn or error"]


@pytest.mark.parametrize(("name", "value", "expected"), EVERYTHING)
def test_each_setting_from_each_source(name: str, value: str, expected: Config, yaml_file: YamlFile) -> None:
    """A flag in both forms, a variable and a key in both forms say the same."""
    text = value.strip('"')
    group, _, key = name.partition(".")
    if value in ("true", "false"):
        forms = [[f"--{name}" if value == "true" else f"--no-{name}"]]
    else:
        forms = [[f"--{name}={text}"], [f"--{name}", text]]
    for argv in forms:
        assert load(argv, {}, COLLECTORS) == expected
    variable = "CORONER_" + name.replace(".", "_").replace("-", "_").upper()
    assert load([], {variable: text}, COLLECTORS) == expected
    for content in (f"{group}:\n  {key}: {value}\n", f"{name}: {value}\n"):
        assert load(["--config.file", yaml_file(content)], {}, COLLECTORS) == expected


def test_precedence(yaml_file: YamlFile) -> None:
    """A flag beats the environment, which beats the file, which beats the default."""
    path = yaml_file("log: {level: error, format: json}\npath.procfs: /file\ncollector.oom: false")
    environ = {"CORONER_CONFIG_FILE": path, "CORONER_LOG_LEVEL": "warn", "CORONER_PATH_PROCFS": "/environment"}

    assert load(["--log.level=debug", "--collector.oom"], environ, COLLECTORS) == replace(
        DEFAULT, log_level="debug", procfs="/environment", log_format="json"
    )


def test_file_by_flag_beats_file_by_variable(yaml_file: YamlFile) -> None:
    """One file is read: the flag's, and none when the flag is empty."""
    path = yaml_file("log.level: error")

    assert load(["--config.file", path], {"CORONER_CONFIG_FILE": "/missing"}, COLLECTORS) == replace(DEFAULT, log_level="error")
    assert load(["--config.file="], {"CORONER_CONFIG_FILE": "/missing"}, COLLECTORS) == DEFAULT


def test_repeated_flag() -> None:
    """The last of a repeated flag counts."""
    argv = ["--log.level=warn", "--no-collector.oom", "--log.level", "error", "--collector.oom"]

    assert load(argv, {}, COLLECTORS) == replace(DEFAULT, log_level="error")


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("0.0.0.0:9100", "0.0.0.0", 9100),
        ("localhost:0", "localhost", 0),
        (":65535", None, 65535),
        ("[::1]:10911", "::1", 10911),
        ("[::]:10911", "::", 10911),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_listen_address(address: str, host: str | None, port: int) -> None:
    """Host and port come apart; without a host every address is meant."""
    assert load(["--web.listen-address", address], {}, COLLECTORS) == replace(DEFAULT, listen=((host, port),))


@pytest.mark.parametrize("address", ["unix:/run/coroner.sock", "unix:///run/coroner.sock"])
def test_a_unix_socket_is_its_path(address: str) -> None:
    """As a URL too."""
    assert load(["--web.listen-address", address], {}, COLLECTORS) == replace(DEFAULT, listen=("/run/coroner.sock",))


def test_addresses_add_up_when_the_flag_is_repeated() -> None:
    """As with the exporters of Prometheus; one that is there twice is one, and what is wrong is said of each."""
    argv = ["--web.listen-address=:1", "--web.listen-address=127.0.0.1:2,:1", "--web.listen-address", "unix:/a"]

    assert load(argv, {"CORONER_WEB_LISTEN_ADDRESS": ":3"}, COLLECTORS).listen == ((None, 1), ("127.0.0.1", 2), "/a")
    with pytest.raises(BadConfig) as caught:
        load([*argv, "--web.listen-address=nowhere", "--web.listen-address=:x"], {}, COLLECTORS)
    assert [problem.split(",")[0] for problem in caught.value.problems] == [
        "flag --web.listen-address: got 'nowhere'",
        "flag --web.listen-address: got ':x'",
    ]


def test_a_web_configuration_is_read_by_who_listens_alone(tmp_path: Path) -> None:
    """Whoever lists cases may not be allowed to read the key; whoever listens hears of everything that is wrong at once."""
    argv = [f"--web.config.file={tmp_path}/web.yml", "--log.level=loud"]
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: a.crt, key_file: a.key}\nrate_limits: {}\n")

    with pytest.raises(BadConfig) as few:
        load(argv, {}, COLLECTORS)
    with pytest.raises(BadConfig) as all_of_them:
        load(argv, {}, COLLECTORS, serves=True)
    assert len(few.value.problems) == 1
    assert len(all_of_them.value.problems) == 2
    assert "unknown key 'rate_limits'; did you mean rate_limit?" in all_of_them.value.problems[1]


@pytest.mark.parametrize("url", ["", "unix:///run/docker.sock", "tcp://docker:2375", "http://[::1]:2375", "https://docker/"])
def test_docker_url(url: str) -> None:
    """The four schemes are allowed, and nothing for no Docker."""
    assert load(["--docker.url", url], {}, COLLECTORS) == replace(DEFAULT, docker_url=url)


WRONG = {
    "web.listen-address": [
        "",
        "10911",
        "localhost",
        ":65536",
        ":-1",
        ":x",
        "::1:9100",
        "[::1]",
        "[]:1",
        "[localhost]:1",
        "a b:1",
        ":\uff11",
        ":1,",
        "unix:",
        "unix:coroner.sock",
        "unix:/run/",
        "unix:/" + 107 * "a",
    ],
    "web.telemetry-path": [
        "",
        "/",
        "metrics",
        "/healthz",
        "/readyz",
        "/container",
        "/api/v1/x",
        "/a b",
        "/a?b",
        "//a",
        "/a/",
        "/{a}",
        "/a\n",
    ],
    "path.procfs": ["", "proc", "./proc", "/a\0b"],
    "path.cgroupfs": [""],
    "path.kmsg": ["kmsg"],
    "path.state": ["state"],
    "kubernetes.source": ["", "kubectl", "Auto"],
    "kubernetes.pod-labels": ["app,", "a b", "app,app", "app.name,app/name", "{app}"],
    "path.bundles": ["run", "/a,", "/a,b"],
    "path.exits": ["run", "/a,", "/a,b"],
    "path.tracefs": ["tracing"],
    "source.signals": ["maybe"],
    "source.layers": ["maybe"],
    "web.history": ["perhaps"],
    "docker.url": [
        *("/run/docker.sock", "unix://run/docker.sock", "unix:///", "ssh://host", "tcp://", "tcp://:1", "http://host:x", "http://host:0"),
        *("http://host:65536", "http://[::1", "http://a b", "tcp://ho\nst:1", "off"),
    ],
    "collector.zombies": ["", "maybe", "2"],
    "web.disable-exporter-metrics": ["disabled"],
    "web.systemd-socket": ["maybe"],
    "web.config.file": ["a\nb"],
    "log.level": ["", "INFO", "warning", "in"],
    "log.format": ["", "text"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values if value])
def test_wrong_value(name: str, value: str) -> None:
    """A wrong value is one problem that names the variable, shows the value and says what is allowed."""
    variable = "CORONER_" + name.replace(".", "_").replace("-", "_").upper()
    (problem,) = problems([], {variable: value})

    assert re.fullmatch(re.escape(f"environment {variable}: got {value!r}, expected ") + "[^\n]{10,}", problem)


def test_every_kind_of_value_has_a_wrong_one() -> None:
    """No setting but the file's path takes everything."""
    assert set(WRONG) == set(BY_NAME)


def test_a_source_of_kubernetes_brings_its_access_or_says_what_it_lacks() -> None:
    """What an API needs is asked for when it is chosen, not found missing at run time."""
    given = load(
        ["--kubernetes.source=kubelet", "--kubernetes.kubelet-url=https://node:10250", "--kubernetes.token-file=/t"], {}, COLLECTORS
    )
    assert given.kubernetes.access is not None
    assert (given.kubernetes.access.url, given.kubernetes.access.token_file) == ("https://node:10250", "/t")

    (problem,) = problems(["--kubernetes.source=kubelet"])
    assert "NODE_IP" in problem
    assert "kubernetes.kubelet-url" in problem


def test_without_kubernetes_no_bundle_is_read_either() -> None:
    """`none` means it."""
    given = load(["--kubernetes.source=none"], {}, COLLECTORS)

    assert given.bundles == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kubernetes.kubelet-url", "http://node:10250"),
        ("kubernetes.kubelet-url", "https://"),
        ("kubernetes.token-file", "token"),
        ("kubernetes.ca-file", "ca.crt"),
        ("kubernetes.kubelet-insecure-skip-verify", "perhaps"),
    ],
)
def test_wrong_access_to_kubernetes(name: str, value: str) -> None:
    """A token is never sent in the clear, nor to nobody."""
    (problem,) = problems([], {"CORONER_" + name.replace(".", "_").replace("-", "_").upper(): value})

    assert f"got {value!r}, expected " in problem


def test_everything_is_reported_at_once(yaml_file: YamlFile) -> None:
    """Wrong flags, variables and keys, even those that another one beats, are all in one report, each on one line."""
    path = yaml_file(
        """\
web:
  listen-address: 10911
  listn-address: :80
log: debug
log.format: xml
collector: {zombies: "false", oom: false}
collector.oom: true
docker.url:
config.file: other.yaml
path.kmsg: [/dev/kmsg]
path.procfs: !!str [/proc]
[1]: 2
"""
    )
    argv = [
        *("--config.file", path, "--log.level", "loud", "--log.level=warn", "--colector.oom", "--xyzzy", "value", "--xyzzy=1"),
        *("stop", "--collector.oom=false", "-v", "--no-log.format", "--docker.url"),
    ]
    environ = {"CORONER_LOG_FORMAT": "xml\n", "CORONER_LOGLEVEL": "info"}
    address = "HOST:PORT, [IPV6]:PORT, :PORT for every address of the machine, or unix:/PATH; several separated by commas"
    url = "unix:///PATH, tcp://HOST:PORT, http://HOST:PORT, https://HOST:PORT, or empty to disable Docker"

    assert problems(argv, environ) == [
        "unexpected argument 'stop'; settings are flags",
        "flag --log.level: got 'loud', expected debug, info, warn or error",
        "unknown flag '--colector.oom'; did you mean --collector.oom?",
        "unknown flag '--xyzzy'; see coroner --help",
        "unknown flag '--xyzzy'; see coroner --help",
        "flag --collector.oom: got 'false', expected no value: use --[no-]collector.oom",
        "unknown flag '-v'; see coroner --help",
        "unknown flag '--no-log.format'; did you mean --log.format?",
        f"flag --docker.url: got no value, expected {url}",
        "environment CORONER_LOG_FORMAT: got 'xml\\n', expected logfmt or json",
        f"file {path}:2 web.listen-address: got int '10911', expected text: {address}",
        f"file {path}:3: unknown setting 'web.listn-address'; did you mean web.listen-address?",
        f"file {path}:4 log: got str 'debug', expected settings below it",
        f"file {path}:5 log.format: got 'xml', expected logfmt or json",
        f"file {path}:6 collector.zombies: got str 'false', expected true or false",
        f"file {path}:7 collector.oom: got it twice, expected it once",
        f"file {path}:8 docker.url: got null '', expected text: {url}",
        f"file {path}:9: unknown setting 'config.file'; did you mean web.config.file?",
        f"file {path}:10 path.kmsg: got a list, expected text: an absolute path",
        f"file {path}:11 path.procfs: got a list, expected text: an absolute path",
        f"file {path}:12: unknown setting 'a list'; see coroner --help",
    ]


def test_value_is_not_taken_for_a_command() -> None:
    """A flag without its value does not swallow the next flag."""
    (problem,) = problems(["--log.level", "--log.format", "json"])

    assert problem == "flag --log.level: got no value, expected debug, info, warn or error"


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "---\n", "{}", "web:\n  # listen-address: :80\n"])
def test_empty_file(content: str, yaml_file: YamlFile) -> None:
    """A file may hold nothing."""
    assert load(["--config.file", yaml_file(content)], {}, COLLECTORS) == DEFAULT


@pytest.mark.parametrize("word", ["no", "off", "False", "FALSE"])
def test_yaml_spellings_of_false(word: str, yaml_file: YamlFile) -> None:
    """What YAML calls false is false, in the environment too."""
    expected = replace(DEFAULT, collectors=("memory", "zombies"))

    assert load(["--config.file", yaml_file(f"collector: {{oom: {word}}}")], {}, COLLECTORS) == expected
    assert load([], {"CORONER_COLLECTOR_OOM": word}, COLLECTORS) == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("- log.level", "file PATH: got a list, expected settings such as log.level: debug"),
        ("log.level", "file PATH: got str 'log.level', expected settings such as log.level: debug"),
        ("log: {level: [", "cannot parse file PATH as YAML: while parsing a flow node .*"),
        ("a: 1\n---\nb: 2", "cannot parse file PATH as YAML: expected a single document .*"),
        ("\x01", "cannot parse file PATH as YAML: unacceptable character #x0001: special characters are not allowed .*"),
        ("a: *b", "cannot parse file PATH as YAML: found undefined alias 'b' .*"),
        pytest.param("[" * 10_000, "cannot parse file PATH as YAML: it is nested too deeply", id="deep"),
    ],
)
def test_file_of_something_else(content: str, problem: str, yaml_file: YamlFile) -> None:
    """What is not a mapping, or not YAML, is one problem on one line."""
    path = yaml_file(content)
    (found,) = problems(["--config.file", path])

    assert re.fullmatch(problem, found.replace(path, "PATH"))


def test_file_that_refers_to_itself(yaml_file: YamlFile) -> None:
    """A mapping that holds itself is not followed for ever."""
    path = yaml_file("&top\nweb: *top\n")

    assert problems(["--config.file", path]) == [f"file {path}:2: unknown setting 'web.web'; see coroner --help"]


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that cannot be read is a problem, whoever named it, beside all others."""
    path = str(tmp_path / "missing")
    expected = ["unknown flag '--x'; see coroner --help", f"cannot read file {path}: No such file or directory"]

    assert problems(["--config.file", path, "--x"]) == expected
    assert problems(["--x"], {"CORONER_CONFIG_FILE": path}) == expected
    assert problems(["--config.file", str(tmp_path)]) == [f"cannot read file {tmp_path}: Is a directory"]


def test_kubernetes_service_links() -> None:
    """What Kubernetes sets for a Service called coroner, or coroner-metrics, is no typing error."""
    links = {
        "SERVICE_HOST": "10.0.0.11",
        "SERVICE_PORT": "10911",
        "SERVICE_PORT_HTTP": "10911",
        "PORT": "tcp://10.0.0.11:10911",
        "PORT_10911_TCP": "tcp://10.0.0.11:10911",
        "PORT_10911_TCP_PROTO": "tcp",
        "PORT_10911_TCP_PORT": "10911",
        "PORT_10911_TCP_ADDR": "10.0.0.11",
    }
    environ = {f"CORONER_{above}{name}": value for above in ("", "METRICS_") for name, value in links.items()}

    assert load([], environ, COLLECTORS) == DEFAULT


def test_no_service_link_is_a_setting() -> None:
    """Or a Service of that name would set it, to an address that it does not take."""
    variables = [setting.variable for setting in settings(NAMES)]

    assert len(variables) > len(NAMES)
    assert [name for name in variables if re.search("_SERVICE_(HOST|PORT(_.+)?)$|_PORT$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_.+)?$", name)] == []


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("CORONER_VERSION", "0.1", "see coroner --help"),
        ("CORONER_IMAGE", "registry/coroner:0.1", "see coroner --help"),
        ("CORONER_PORT", "9100", "see coroner --help"),
        ("CORONER_", "", "see coroner --help"),
        ("CORONER_LOGLEVEL", "secret", "did you mean CORONER_LOG_LEVEL?"),
        ("CORONER_WEB_LISTEN_ADDRES", ":80", "did you mean CORONER_WEB_LISTEN_ADDRESS?"),
    ],
)
def test_a_variable_of_somebody_else_is_a_warning(variable: str, value: str, hint: str) -> None:
    """An image, a chart, a Service call theirs so; what might be a typing error is guessed, and no value is repeated."""
    warning = f"unknown environment variable {variable!r}; {hint}"

    assert load([], {variable: value}, COLLECTORS) == replace(DEFAULT, warnings=(warning,))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("path.bundles: [/a/b, /c/]", replace(DEFAULT, bundles=("/a/b", "/c"))),
        ("path:\n  bundles:\n  - /a/b\n  - /c\n", replace(DEFAULT, bundles=("/a/b", "/c"))),
        ("path.bundles: []", replace(DEFAULT, bundles=())),
        ("kubernetes.pod-labels: [app, app.kubernetes.io/name]", replace(DEFAULT, pod_labels=("app", "app.kubernetes.io/name"))),
        ("kubernetes: {pod-labels: [app]}", replace(DEFAULT, pod_labels=("app",))),
        ("kubernetes.pod-labels: []", replace(DEFAULT, pod_labels=())),
    ],
)
def test_what_has_commas_between_may_be_a_list_in_yaml(content: str, expected: Config, yaml_file: YamlFile) -> None:
    """In both styles of YAML; an empty one is none."""
    assert load(["--config.file", yaml_file(content)], {}, COLLECTORS) == expected


def test_every_setting_that_takes_commas_takes_a_list(yaml_file: YamlFile) -> None:
    """And no other does."""
    allowed = {setting.name: setting.kind.allowed for setting in settings(COLLECTORS)}
    for name, value in ((name, value) for name, value, _ in EVERYTHING if value != '""'):
        path = yaml_file("\n- ".join([f"{name}:", *value.split(",")]))
        if "commas" in allowed[name]:
            load(["--config.file", path], {}, COLLECTORS)
        else:
            assert "got a list" in problems(["--config.file", path])[0]


def test_what_is_wrong_in_a_list_is_said_with_its_line(yaml_file: YamlFile) -> None:
    """All of it at once: numbers, nothing, lists in it, and commas, which would make two of one."""
    path = yaml_file("path:\n  bundles:\n  - /a\n  - run\n  - 7\n  -\n  - [/b]\n  - /c,/d\n  - ''\nkubernetes.pod-labels: [app, app]\n")
    paths = "absolute paths separated by commas, or empty to read no bundles"

    assert problems(["--config.file", path]) == [
        f"file {path}:4 path.bundles: got 'run', expected {paths}",
        *(
            f"file {path}:{line} path.bundles: got {got} in the list, expected text without a comma: {paths}"
            for line, got in ((5, "int '7'"), (6, "null ''"), (7, "a list"), (8, "str '/c,/d'"), (9, "str ''"))
        ),
        f"file {path}:10 kubernetes.pod-labels: got 'app,app', expected label keys separated by commas, or empty for none",
    ]


def test_a_list_that_holds_itself_is_no_value(yaml_file: YamlFile) -> None:
    """It is not followed for ever."""
    (problem,) = problems(["--config.file", yaml_file("path.bundles: &all [*all]")])

    assert "got a list in the list" in problem


def test_texts_are_sentences_for_a_stranger() -> None:
    """Each setting says what it is, and what it takes unless it is a switch; each variable is its name."""
    for setting in settings(NAMES):
        assert re.fullmatch("[A-Z].{20,}[.]", setting.help)
        assert setting.kind is SWITCH or re.fullmatch(r"\S.*[^.]", setting.kind.allowed)
        assert setting.variable == "CORONER_" + setting.name.replace(".", "_").replace("-", "_").upper()
    assert {name for name, _, _ in EVERYTHING} < {setting.name for setting in settings(COLLECTORS)}


words = st.sampled_from(["--log.level", "--docker.url", "--no-collector.oom", "--web.listen-address=", "word", "-", "--", "--=", "="])


@given(
    st.lists(words | st.text(), max_size=5),
    st.dictionaries(st.sampled_from(["CORONER_LOG_LEVEL", "CORONER_DOCKER_URL", "CORONER_"]) | st.text(), st.text()),
)
def test_any_input_is_answered(argv: list[str], environ: dict[str, str]) -> None:
    """Whatever is given, the answer is a configuration or problems, of one line each."""
    try:
        lines = list(load(argv, environ, COLLECTORS).warnings)
    except BadConfig as error:
        lines = error.problems or ["\0"]

    assert all(line.isprintable() for line in lines)
