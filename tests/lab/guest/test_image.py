"""The image of deploy/Dockerfile, built by dockerd without a network, and run with the security context of the manifests."""

import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from docker import DockerClient
from docker.errors import BuildError
from docker.models.containers import Container

import agent
from tests.lab.guest.node import Run, samples, series, wait_for

ROOT = Path(__file__).parents[3]
MADE = ROOT / ".lab" / "image"
PORT = 10912
MANIFEST = ROOT / "deploy" / "kubernetes" / "base" / "daemonset.yaml"


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


def options() -> dict[str, Any]:
    """Return what Docker calls that which the manifest grants, with the mounts that a Docker host has."""
    pod = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    context = container["securityContext"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if volume["name"] in ("proc", "cgroup", "state")}
    assert (context["privileged"], context["allowPrivilegeEscalation"]) == (False, False)
    return {
        "user": "{runAsUser}:{runAsGroup}".format(**context),
        "cap_drop": context["capabilities"]["drop"],
        "cap_add": context["capabilities"]["add"],
        "read_only": context["readOnlyRootFilesystem"],
        "security_opt": ["no-new-privileges"],
        "pid_mode": "host" if pod["hostPID"] else None,
        "mem_limit": container["resources"]["limits"]["memory"].replace("Mi", "m"),
        "volumes": {
            paths[mount["name"]]: {"bind": mount["mountPath"], "mode": "ro,rslave" if mount.get("readOnly") else "rw"}
            for mount in container["volumeMounts"]
            if mount["name"] in paths
        },
        "environment": {"NODE_NAME": "lab", "NODE_IP": "127.0.0.1"},
        "network_mode": "host",  # the lab's containers have no other way to be reached
        "command": [arg for arg in container["args"] if not arg.startswith(("--web.", "--path.bundles=", "--path.exits="))]
        + [f"--web.listen-address=127.0.0.1:{PORT}"],
    }


def page(path: str = "/metrics") -> str:
    """Return a page of the agent in the container, empty as long as it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=60) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def test_image_runs_with_what_the_manifest_grants_and_sees_all_that_it_should(docker: DockerClient, image: str, run: Run) -> None:
    """The kernel log by syslog(2), foreign namespaces, exit statuses; a victim is named; what it writes is the casebook."""
    for mounted in ("/proc", "/sys/fs/cgroup"):  # as systemd mounts them: without that nothing can be a slave of theirs
        subprocess.run(["mount", "-n", "--make-shared", mounted], check=True)
    container: Container = docker.containers.run(image, detach=True, name="coroner", **options())
    try:
        wait_for(lambda: page("/readyz"), 60, lambda: container.logs().decode())
        run("sh", "-c", "tail /dev/zero; sleep 1000", name="hungry", mem_limit="30m")
        wait_for(lambda: page("/api/v1/victims").count('"tail"'), 30, lambda: page("/api/v1/victims") + container.logs().decode())
        found = samples(page())
        up = {source: found.get(series("coroner_source_up", source=source)) for source in ("cgroup", "proc", "kmsg", "exits")}
        assert up == dict.fromkeys(up, 1), container.logs().decode()
        assert found[series("coroner_casebook_up")] == 1
        assert found[series("coroner_oom_kills_total", scope="container")] == 1
        assert Path("/var/lib/coroner/casebook.sqlite").exists()
        assert "sh" in str(container.exec_run(["sh", "-c", "true"]).output)
        container.stop(timeout=240)
        assert container.wait()["StatusCode"] == 0
    finally:
        container.remove(force=True)


def test_image_says_what_it_is(docker: DockerClient, image: str) -> None:
    """In its labels, and in a list of what is in it that is no part of its libraries."""
    labels = docker.images.get(image).labels
    assert labels["org.opencontainers.image.version"] == agent.__version__
    assert labels["org.opencontainers.image.revision"] == "0123"
