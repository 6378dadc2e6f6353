"""What deploy/Dockerfile is built from in the lab, without a registry: this machine's Python, without a shell, and with busybox."""

import compileall
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

from tests.lab.guest.images import docker_archive

RUN_BASE, BUILD_BASE = "run-base:1", "build-base:1"
FILE = "bases.tar"

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = Path(sys.base_prefix)
NOT_NEEDED = {"site-packages", "test", "tests", "idlelib", "tkinter", "lib2to3", "turtledemo", "pydoc_data", "ensurepip", "_tkinter"}
"""Each byte is read, hashed, copied and unpacked several times, by a slow kernel."""


def run_base() -> bytes:
    """Return the root of the image that is run: the interpreter at /usr, what it links to, and no program besides."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(PYTHON / "bin" / VERSION, f"usr/bin/{VERSION}")
        _link(tar, "usr/bin/python3", VERSION)
        tar.add(PYTHON / "lib" / VERSION, f"usr/lib/{VERSION}", filter=_needed)
        for library in sorted({*_libraries()}):
            tar.add(os.path.realpath(library), library.lstrip("/"))
        directory = tarfile.TarInfo("tmp")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(directory)
    return buffer.getvalue()


def build_base(wheels: Path) -> bytes:
    """Return what the first stage needs above that: pip, a shell, a few commands, and the wheels of the locks at /wheelhouse."""
    busybox = shutil.which("busybox")
    assert busybox
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar, tempfile.TemporaryDirectory() as unpacked:
        tar.add(os.path.realpath(busybox), "bin/busybox")
        for name in ("sh", "mkdir", "sed", "chmod"):
            _link(tar, f"bin/{name}", "busybox")
        [pip] = (PYTHON / "lib" / VERSION / "ensurepip" / "_bundled").glob("pip-*.whl")
        with ZipFile(pip) as archive:
            archive.extractall(unpacked)
        # Compiled once here, instead of at each of its starts there.
        compileall.compile_dir(unpacked, quiet=2, stripdir=unpacked, prependdir=f"/usr/lib/{VERSION}/site-packages", workers=0)
        tar.add(unpacked, f"usr/lib/{VERSION}/site-packages")
        for wheel in sorted(wheels.glob("*.whl")):
            tar.add(wheel, f"wheelhouse/{wheel.name}")
    return buffer.getvalue()


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(entry.name)
    needless = name.split(".")[0] in NOT_NEEDED or name.startswith(("config-", "_test")) or ".opt-" in name
    return None if needless else entry


def _libraries() -> Iterator[str]:
    """Yield the paths of the shared libraries that the interpreter, its modules and the wheels are linked to."""
    modules = [module for module in (PYTHON / "lib" / VERSION / "lib-dynload").glob("*.so") if module.name.split(".")[0] not in NOT_NEEDED]
    done = subprocess.run(["ldd", PYTHON / "bin" / VERSION, *modules], capture_output=True, text=True, check=False)
    yield from re.findall(r"(/\S+\.so\S*) \(0x", done.stdout)
    for name in ("libgcc_s.so.1", "libstdc++.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"):
        yield from (str(path) for path in [Path("/lib/x86_64-linux-gnu", name)] if path.exists())


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    tar.addfile(link)


if __name__ == "__main__":  # the lab only reads this machine's files, and slowly: they are made before it is switched on
    directory = Path(sys.argv[1])
    layers = {"run": run_base(), "build": build_base(directory)}
    images = {RUN_BASE: (["run"], ["python3"]), BUILD_BASE: (["run", "build"], ["sh"])}
    (directory / FILE).write_bytes(docker_archive(layers, images))
