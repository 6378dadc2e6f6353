"""Two container images without a registry: busybox, and the pause of a pod's sandbox, both from this machine's busybox."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

BUSYBOX = "docker.io/library/busybox:latest"
PAUSE = "localhost/pause:1"

# Like the real pause one process of that name, which reaps what it adopts and does nothing else: busybox's init, told to start nothing. In
# the PID namespace of the node it adopts nothing, and init would refuse.
PAUSE_COMMAND = ["/bin/sh", "-c", "[ $$ = 1 ] && exec -a init /pause; exec -a sleep /pause 1000000"]


def archive() -> bytes:
    """Return both images in the format of `docker save`, which every runtime can load."""
    program = shutil.which("busybox")
    assert program
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    links = {f"bin/{name}": "busybox" for name in applets if name != "busybox"}
    busybox = _tar(program=os.path.realpath(program), links=links, files={})
    pause = _tar(program=None, links={"pause": "bin/busybox"}, files={"etc/inittab": b"::shutdown:/bin/true\n"})
    layers = {"busybox": busybox, "pause": pause}
    return docker_archive(layers, {BUSYBOX: (["busybox"], ["sh"]), PAUSE: (["busybox", "pause"], PAUSE_COMMAND)})


def docker_archive(layers: Mapping[str, bytes], images: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> bytes:
    """Return images, by their tags: the names of their layers, the lowest first, and their command. The format is that of `docker save`."""
    files: dict[str, bytes] = {f"{name}.tar": layer for name, layer in layers.items()}
    digests = {name: f"sha256:{hashlib.sha256(layer).hexdigest()}" for name, layer in layers.items()}
    manifest = []
    for tag, (names, command) in images.items():
        config: Mapping[str, Any] = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": command, "Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digests[name] for name in names]},
        }
        content = json.dumps(config).encode()
        file = f"{hashlib.sha256(content).hexdigest()}.json"
        files[file] = content
        manifest.append({"Config": file, "RepoTags": [tag], "Layers": [f"{name}.tar" for name in names]})
    return _tar(program=None, links={}, files={**files, "manifest.json": json.dumps(manifest).encode()})


def _tar(*, program: str | None, links: Mapping[str, str], files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        if program:
            tar.add(program, "bin/busybox")
        for name, target in sorted(links.items()):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name, content in files.items():
            file = tarfile.TarInfo(name)
            file.size = len(content)
            tar.addfile(file, io.BytesIO(content))
    return buffer.getvalue()
