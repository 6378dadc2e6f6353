"""The image of deploy/Dockerfile in the lab: how it is built, handed from Docker to containerd, and run by what the manifest says."""

import copy
import json
import os
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from docker import DockerClient

import agent
from tests.lab.guest import bases
from tests.lab.guest.node import DOCKER_URL, SLOWNESS, samples
from tests.lab.guest.pod_spec import Spec, memory_bytes

ROOT = Path(__file__).parents[3]
MADE = ROOT / ".lab" / "image"
"""What `make lab-image` has made."""
SPEC: Spec = yaml.safe_load((ROOT / "deploy/kubernetes/base/daemonset.yaml").read_text())["spec"]["template"]["spec"]
IMAGE: str = SPEC["containers"][0]["image"]
CAPABILITIES = {"DAC_READ_SEARCH": 2, "SYS_PTRACE": 19, "SYSLOG": 34}
"""Those that the manifest may add, and their bits."""
DOCKER = ["/usr/bin/docker", f"--host={DOCKER_URL}"]
"""Debian's, which has BuildKit in it: twice as fast here as what the API builds with, for it packs no layer of the first stage."""


def build(docker: DockerClient) -> None:
    """Have dockerd build it, from bases that are made of this machine's files."""
    with (MADE / bases.FILE).open("rb") as file:
        docker.images.load(file.read())  # as one piece: the client would send a file 8 KiB at a time
    arguments = {
        "BUILD_BASE": bases.BUILD_BASE,
        "RUN_BASE": bases.RUN_BASE,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "/wheelhouse",
        "VERSION": agent.__version__,
        "REVISION": "0123",
    }
    done = subprocess.run(
        [
            *(*DOCKER, "build", "--progress=plain", "--network=none", "--file=deploy/Dockerfile", f"--tag={IMAGE}"),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            str(ROOT),
        ],
        cwd=ROOT,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def hand_over(image: str) -> None:
    """Give containerd an image that Docker has."""
    file = Path("/run/image.tar")
    subprocess.run([*DOCKER, "save", f"--output={file}", image], check=True)
    subprocess.run(["ctr", "-n", "k8s.io", "images", "import", file], check=True, stdout=subprocess.DEVNULL)
    file.unlink()


class Page:
    """The pages of an agent, which has a port of its own, and the spec that it runs by: the manifest's but for what `change` takes, and
    with these flags more.
    """

    def __init__(self, port: int, change: Callable[[Spec], object], *flags: str) -> None:
        self.port = port
        self.spec = copy.deepcopy(SPEC)
        change(self.spec)
        [container] = self.spec["containers"]
        container["args"] = [
            f"--web.listen-address=127.0.0.1:{port}" if arg == "--web.listen-address=:10911" else arg for arg in container["args"]
        ] + list(flags)

    def get(self, path: str = "/metrics") -> str:
        """Return a page, empty as long as it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=SLOWNESS * 30) as response:
                return str(response.read().decode())
        except OSError:
            return ""

    def api(self, kind: str) -> Any:
        """Return what /api/v1 lists of a kind."""
        return json.loads(self.get(f"/api/v1/{kind}"))[kind]

    def up(self, sources: tuple[str, ...]) -> dict[str, float | None]:
        """Return coroner_source_up of these."""
        page = samples(self.get())
        return {source: page.get(("coroner_source_up", frozenset({("source", source)}))) for source in sources}

    def metrics(self) -> set[str]:
        """Return the names of all that is on its page."""
        return {name for name, _ in samples(self.get())}

    def value(self, metric: str, **labels: str) -> float | None:
        """Return the value of the one series that has these labels, None if there is none."""
        found = [value for (name, have), value in samples(self.get()).items() if name == metric and labels.items() <= set(have)]
        assert len(found) <= 1, f"{len(found)} series of {metric} have {labels}"
        return found[0] if found else None


def docker_options(spec: Spec, state: str) -> dict[str, Any]:
    """Return what Docker calls that which a spec grants, with the mounts that a Docker host has."""
    [container] = spec["containers"]
    context = container["securityContext"]
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"] if volume["name"] in ("proc", "cgroup")}
    paths["state"] = state
    assert (context["privileged"], context["allowPrivilegeEscalation"]) == (False, False)
    return {
        "user": "{runAsUser}:{runAsGroup}".format(**context),
        "cap_drop": context["capabilities"]["drop"],
        "cap_add": context["capabilities"]["add"],
        "read_only": context["readOnlyRootFilesystem"],
        "security_opt": ["no-new-privileges"],
        "pid_mode": "host" if spec["hostPID"] else None,
        "mem_limit": memory_bytes(container),
        "volumes": {
            paths[mount["name"]]: {"bind": mount["mountPath"], "mode": "ro,rslave" if mount.get("readOnly") else "rw"}
            for mount in container["volumeMounts"]
            if mount["name"] in paths
        },
        "network_mode": "host",  # the lab's containers have no other way to be reached
        "command": [arg for arg in container["args"] if not arg.startswith(("--path.bundles=", "--path.exits="))],
    }


def confinement(pid: int) -> dict[str, int]:
    """Return what the kernel holds a process to."""
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"seccomp": int(lines["Seccomp"]), "no_new_privs": int(lines["NoNewPrivs"]), "capabilities": int(lines["CapEff"], 16)}


def confined(spec: Spec) -> dict[str, int]:
    """Return what it should: seccomp 2 is a filter, here the runtime's default."""
    added = spec["containers"][0]["securityContext"]["capabilities"].get("add", [])
    return {"seccomp": 2, "no_new_privs": 1, "capabilities": sum(1 << CAPABILITIES[name] for name in added)}
