"""The Compose file for one Docker host: that Compose takes it, what each service may do, and that its parts find each other."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import compose_spec
import pytest
import yaml

import agent
from agent.config import Config, load
from collectors import NAMES
from tests.deploy.kustomize import BASE, ROOT, render

FILE = ROOT / "deploy" / "compose.yaml"
PARTS = ROOT / "deploy" / "compose"
VARIABLES = {"GRAFANA_PASSWORD": "secret"}
CONTAINER = "0123456789abcdef" * 4
NOT_FOR_THE_AGENT = [
    *("/v1.44/containers/json/../../secrets", "/v1.44/images/json", "/v1.44/secrets", "/v1.44/info", "/v1.44/volumes"),
    *(f"/v1.44/containers/{CONTAINER}/{what}" for what in ("logs", "archive", "export", "top", "attach/ws", "json/x")),
]


def compose() -> dict[str, Any]:
    """Return the file as Compose reads it: variables have their defaults or VARIABLES, and merge keys are merged."""

    def value(found: re.Match[str]) -> str:
        return found["default"] if found["default"] is not None else VARIABLES[found["name"]]

    text = re.sub(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*)|:\?[^}]*)\}", value, FILE.read_text())
    loaded = yaml.safe_load(text)
    return {key: loaded[key] for key in loaded if not key.startswith("x-")}


SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def mounts(service: str) -> dict[str, dict[str, Any]]:
    """Return the mounts of a service by their place in it."""
    return {mount["target"]: mount for mount in SERVICES[service].get("volumes", [])}


def source(service: str, target: str) -> Path:
    """Return the file of this checkout that is mounted there."""
    mount = mounts(service)[target]
    assert mount["read_only"] is True
    return (FILE.parent / str(mount["source"])).resolve()


def tool(name: str, package: str) -> str:
    """Return the program, or skip."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"the Debian package {package} is missing (tests/packages.sh installs it)")
    return program


def run(*command: str | Path, **environ: str) -> str:
    """Run a program that must succeed."""
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_it_is_what_the_specification_says() -> None:
    """In a strict reader of the Compose specification, which knows every key."""
    wanted = compose()
    for service in wanted["services"].values():  # Docker takes a tag beside the digest, which decides; this reader takes one of the two
        service["image"] = re.sub(r":[^:@]+(?=@)", "", service["image"])
    assert {*compose_spec.PyCompose.from_json(json.dumps(wanted)).service_names()} == {*SERVICES}
    wanted["services"]["coroner"]["readonly"] = True
    with pytest.raises(ValueError, match="readonly"):
        compose_spec.PyCompose.from_json(json.dumps(wanted))


def test_compose_itself_takes_it(tmp_path: Path) -> None:
    """Debian's is the old one (1.29), which knows all of it but the name of the project."""
    program = tool("docker-compose", "docker-compose")
    (tmp_path / "compose.yaml").write_text(re.sub(r"^name: .*\n", "", FILE.read_text(), flags=re.MULTILINE))
    command = [program, "--project-directory", str(FILE.parent), "--file", str(tmp_path / "compose.yaml"), "config"]
    rendered = yaml.safe_load(run(*command, **VARIABLES))
    assert rendered["services"].keys() == SERVICES.keys()
    # A password that nobody chose is none.
    missing = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=120, check=False)
    assert (missing.returncode != 0, "set GRAFANA_PASSWORD" in missing.stderr) == (True, True)


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_hardened(name: str) -> None:
    """No new privileges, no capability but the agent's, no writes but to volumes, a pinned image or our own, ports on the loopback."""
    service = SERVICES[name]
    assert "no-new-privileges:true" in service["security_opt"]
    assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
    assert not service.keys() & {"privileged", "devices", "ipc", "network_mode", "userns_mode"}
    assert [key for key in ("cap_add", "pid", "user") if key in service] == {
        "coroner": ["cap_add", "pid", "user"],
        "docker-proxy": ["user"],
    }.get(name, [])
    pinned = "" if name == "coroner" else "@sha256:[0-9a-f]{64}"
    assert re.search(rf":v?\d+\.\d+\.\d+{pinned}$", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    written = [mount for mount in mounts(name).values() if not mount.get("read_only")]
    assert {mount["type"] for mount in written} <= {"volume"}


def test_agent_is_granted_what_it_is_in_kubernetes() -> None:
    """The same user, capabilities and mounts, as far as Docker has the same; and it understands its arguments."""
    (container,) = render(BASE)["DaemonSet/coroner"]["spec"]["template"]["spec"]["containers"]
    context, service = container["securityContext"], SERVICES["coroner"]
    assert service["cap_add"] == context["capabilities"]["add"]
    assert service["user"] == "{runAsUser}:{runAsGroup}".format(**context)
    assert service["image"] == f"coroner:{agent.__version__}"
    config = load(service["command"], {}, NAMES)
    assert isinstance(config, Config)
    assert {target: mount["source"] for target, mount in mounts("coroner").items()} == {
        config.procfs: "/proc",
        config.cgroupfs: "/sys/fs/cgroup",
        config.state: "state",
    }
    assert config.docker_url == "tcp://docker-proxy:2375"


def test_docker_is_behind_a_proxy_that_only_the_agent_reaches() -> None:
    """The socket is mounted there and nowhere else, in a network that leads nowhere."""
    with_socket = [name for name in SERVICES if any("docker.sock" in mount["source"] for mount in mounts(name).values())]
    assert with_socket == ["docker-proxy"]
    assert [name for name in SERVICES if "docker" in SERVICES[name]["networks"]] == ["coroner", "docker-proxy"]
    assert SERVICES["docker-proxy"]["networks"] == ["docker"]
    assert compose()["networks"]["docker"] == {"internal": True}
    assert "ports" not in SERVICES["docker-proxy"]


def test_proxy_lets_the_agent_ask_what_it_asks_and_nothing_else() -> None:
    """GET alone. What it asks is what the fake daemon of its own tests answers; the proxy anchors the expression."""
    allowed = [argument for argument in SERVICES["docker-proxy"]["command"] if argument.startswith("-allow")]
    (expression,) = [argument.removeprefix("-allowGET=") for argument in allowed if argument != "-allowfrom=coroner"]
    asked = re.findall(r'add_get\("([^"]+)"', (ROOT / "tests" / "agent" / "test_docker_source.py").read_text())
    assert len(asked) == 5
    for path in asked:
        assert re.fullmatch(expression, path.replace("{version}", "v1.44").replace("{identifier}", CONTAINER)), path
    assert not [path for path in NOT_FOR_THE_AGENT if re.fullmatch(expression, path)]


def test_prometheus_scrapes_the_agent_and_loads_the_alerts(tmp_path: Path) -> None:
    """As promtool sees it, with the files where the service has them."""
    target = PurePosixPath(SERVICES["prometheus"]["command"][0].removeprefix("--config.file="))
    shutil.copy(source("prometheus", str(target)), tmp_path / target.name)
    shutil.copy(source("prometheus", str(target.parent / "alerts.yaml")), tmp_path / "alerts.yaml")
    assert "1 rule files found" in run(tool("promtool", "prometheus"), "check", "config", tmp_path / target.name)
    config = yaml.safe_load((tmp_path / target.name).read_text())
    (job,) = config["scrape_configs"]
    assert (job["job_name"], job["honor_labels"]) == ("coroner", True)
    assert job["static_configs"] == [{"targets": ["coroner:10911"]}]
    (alertmanager,) = config["alerting"]["alertmanagers"]
    assert alertmanager["static_configs"] == [{"targets": ["alertmanager:9093"]}]


def test_alertmanager_takes_its_configuration() -> None:
    """As amtool sees it."""
    path = source("alertmanager", "/etc/alertmanager/alertmanager.yml")
    assert "SUCCESS" in run(tool("amtool", "prometheus-alertmanager"), "check-config", path)


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    """Where the provider looks the dashboard is, and it is the page that is shown first; it asks for a data source of that type."""
    (datasource,) = yaml.safe_load(source("grafana", "/etc/grafana/provisioning/datasources/coroner.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load(source("grafana", "/etc/grafana/provisioning/dashboards/coroner.yaml").read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    board = json.loads(source("grafana", home).read_text())
    assert str(PurePosixPath(home).parent) == provider["options"]["path"]
    assert (datasource["url"], datasource["isDefault"]) == ("http://prometheus:9090", True)
    assert next(each for each in board["templating"]["list"] if each["type"] == "datasource")["query"] == datasource["type"]


def test_every_file_of_it_is_mounted() -> None:
    """Nothing lies there that no service reads."""
    used = {(FILE.parent / mount["source"]).resolve() for name in SERVICES for mount in mounts(name).values() if mount["type"] == "bind"}
    assert {path for path in PARTS.rglob("*") if path.is_file()} <= used
