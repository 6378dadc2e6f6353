"""The image of deploy/Dockerfile, built by dockerd without a network, and run with the security context of the manifests, and with less."""

import copy
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker import DockerClient
from docker.errors import BuildError
from docker.models.containers import Container

import agent
from tests.lab.guest.node import Run, in_parallel, samples, wait_for

ROOT = Path(__file__).parents[3]
MADE = ROOT / ".lab" / "image"
MANIFEST = ROOT / "deploy" / "kubernetes" / "base" / "daemonset.yaml"
SOURCES = ("cgroup", "proc", "kmsg", "exits")
ALL: dict[str, float | None] = dict.fromkeys(SOURCES, 1)
Options = dict[str, Any]


def without_capability(name: str) -> Callable[[Options], None]:
    """Return what takes one of the three away."""
    return lambda options: options["cap_add"].remove(name)


def without_mount(path: str) -> Callable[[Options], None]:
    """Return what takes a mount of the node away, by its path there."""
    return lambda options: options["volumes"].pop(path)


VARIANTS: dict[str, tuple[Callable[[Options], object], dict[str, float | None], str]] = {
    "all": (lambda _: None, ALL, ""),
    "no-ptrace": (without_capability("SYS_PTRACE"), ALL | {"proc": 0}, "CAP_SYS_PTRACE"),
    "no-syslog": (without_capability("SYSLOG"), ALL | {"kmsg": 0}, "CAP_SYSLOG"),
    "no-dac": (without_capability("DAC_READ_SEARCH"), ALL, ""),
    "no-pid": (lambda options: options.pop("pid_mode"), ALL | {"exits": 0}, ""),
    "no-proc": (without_mount("/proc"), ALL | {"proc": 0, "exits": 0}, "/host/proc"),
    "no-cgroup": (without_mount("/sys/fs/cgroup"), ALL | {"cgroup": 0, "exits": None}, "/host/sys/fs/cgroup"),
    "no-state": (without_mount("/var/lib/coroner"), ALL, "casebook"),
}
"""What is taken away, what then can be seen, and what the log names: the rows of the table in deploy/README.md."""
PORTS = {name: 11000 + number for number, name in enumerate(VARIANTS)}


@pytest.fixture(scope="module")
def image(docker: DockerClient) -> Iterator[str]:
    """The image, from bases that are made of this machine's files."""
    for name in ("run-base", "build-base"):
        docker.api.import_image(src=str(MADE / f"{name}.tar"), repository=name, tag="1")
    arguments = {"BUILD_BASE": "build-base:1", "RUN_BASE": "run-base:1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheelhouse"}
    try:
        docker.images.build(
            path=str(ROOT),
            dockerfile="deploy/Dockerfile",
            tag="coroner:lab",
            buildargs=arguments | {"VERSION": agent.__version__, "REVISION": "0123"},
            network_mode="none",
        )
    except BuildError as error:
        pytest.fail("".join(str(line.get("stream", line)) for line in error.build_log))
    yield "coroner:lab"
    docker.images.remove("coroner:lab", force=True)


@pytest.fixture(scope="module")
def started(docker: DockerClient, image: str) -> Iterator[dict[str, Container]]:
    """An agent for each variant, all of them ready."""
    Path("/proc/sys/kernel/dmesg_restrict").write_text("1")  # as Debian, Ubuntu and RHEL have it
    for mounted in ("/proc", "/sys/fs/cgroup"):  # as systemd mounts them: without that nothing can be a slave of theirs
        subprocess.run(["mount", "-n", "--make-shared", mounted], check=True)
    usual, containers = options(), {}
    for name, (change, _, _) in VARIANTS.items():
        own = copy.deepcopy(usual)
        change(own)
        if state := own["volumes"].pop("/var/lib/coroner", None):  # one agent uses a directory at a time
            own["volumes"][f"/var/lib/coroner/{name}"] = state
        own["command"].append(f"--web.listen-address=127.0.0.1:{PORTS[name]}")
        containers[name] = docker.containers.run(image, detach=True, name=f"coroner-{name}", **own)
    try:
        for name, container in containers.items():
            wait_for(lambda name=name: page(name, "/readyz"), 60, lambda c=container: c.logs().decode())  # type: ignore[misc] # defaults
        yield containers
    finally:
        in_parallel(*(lambda c=c: c.remove(force=True) for c in containers.values()))
        Path("/proc/sys/kernel/dmesg_restrict").write_text("0")


def options() -> Options:
    """Return what Docker calls that which the manifest grants, with the mounts that a Docker host has."""
    pod = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    context = container["securityContext"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if volume["name"] in ("proc", "cgroup", "state")}
    assert (context["privileged"], context["allowPrivilegeEscalation"], pod["hostPID"]) == (False, False, True)
    elsewhere = ("--web.", "--path.bundles=", "--path.exits=")
    return {
        "user": "{runAsUser}:{runAsGroup}".format(**context),
        "cap_drop": context["capabilities"]["drop"],
        "cap_add": context["capabilities"]["add"],
        "read_only": context["readOnlyRootFilesystem"],
        "security_opt": ["no-new-privileges"],
        "pid_mode": "host",
        "mem_limit": container["resources"]["limits"]["memory"].replace("Mi", "m"),
        "volumes": {
            paths[mount["name"]]: {"bind": mount["mountPath"], "mode": "ro,rslave" if mount.get("readOnly") else "rw"}
            for mount in container["volumeMounts"]
            if mount["name"] in paths
        },
        "network_mode": "host",  # the lab's containers have no other way to be reached
        "command": [arg for arg in container["args"] if not arg.startswith(elsewhere)],
    }


def page(name: str, path: str = "/metrics") -> str:
    """Return a page of an agent, empty as long as it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORTS[name]}{path}", timeout=60) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def value(name: str, metric: str, **labels: str) -> float | None:
    """Return the value of a series, None if there is none."""
    return samples(page(name)).get((metric, frozenset(labels.items())))


def test_image_says_what_it_is(docker: DockerClient, image: str) -> None:
    """In its labels."""
    labels = docker.images.get(image).labels
    assert labels["org.opencontainers.image.version"] == agent.__version__
    assert labels["org.opencontainers.image.revision"] == "0123"


def test_with_what_the_manifest_grants_a_kill_is_named_and_kept(started: dict[str, Container], run: Run) -> None:
    """By syslog(2), without the device; in a casebook, which is all that it writes. There is no shell in it."""
    container = started["all"]
    run("sh", "-c", "tail /dev/zero; sleep 1000", name="hungry", mem_limit="30m")
    wait_for(lambda: '"tail"' in page("all", "/api/v1/victims"), 30, lambda: page("all", "/api/v1/victims") + container.logs().decode())
    wait_for(lambda: value("all", "coroner_oom_kills_total", scope="container") == 1, 30, lambda: page("all"))
    assert value("all", "coroner_casebook_up") == 1
    assert Path("/var/lib/coroner/all/casebook.sqlite").exists()
    container.reload()
    status = Path(f"/proc/{container.attrs['State']['Pid']}/status").read_text()
    # The runtime's seccomp profile, no new privileges, and the three capabilities, which are bits 2, 19 and 34.
    assert {"Seccomp:\t2", "NoNewPrivs:\t1", f"CapEff:\t{1 << 2 | 1 << 19 | 1 << 34:016x}"} <= {*status.splitlines()}
    assert "sh" in str(container.exec_run(["sh", "-c", "true"]).output)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_taken_away_costs_what_the_table_says_and_no_more(started: dict[str, Container], name: str) -> None:
    """The agent runs, and says on the page and in its log what it is blind for."""
    _, expected, named = VARIANTS[name]
    up = {source: value(name, "coroner_source_up", source=source) for source in SOURCES}
    log = started[name].logs().decode()  # after the page: what a pass finds is said by then
    assert up == expected, log
    assert value(name, "coroner_casebook_up") == (0 if name in ("no-state", "no-proc") else 1)
    assert named in log


def test_it_stops_when_it_is_told_to(started: dict[str, Container]) -> None:
    """As PID 1 of its container or not: in the PID namespace of the node it is none, without that it is."""
    for name in ("all", "no-pid"):
        started[name].stop(timeout=240)
        assert started[name].wait()["StatusCode"] == 0
