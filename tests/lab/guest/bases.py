"""What deploy/Dockerfile is built from in the lab, without a registry: this machine's Python, without a shell, and with busybox.

Each byte of it is read, hashed, copied and unpacked several times, and each file made, by a slow kernel: so modules are there as what they
were compiled to, and libraries without their symbols.
"""

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
LIBRARY = PYTHON / "lib" / VERSION
NOT_NEEDED = {
    *(
        "site-packages",
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "lib2to3",
        "turtledemo",
        "pydoc_data",
        "ensurepip",
        "_tkinter",
        "__pycache__",
    ),
    *("turtle", "curses", "_curses", "_curses_panel", "readline", "dbm", "_dbm", "_gdbm", "nis", "audioop", "ossaudiodev"),
}
PROGRAMS = {"__pip-runner__.py", "_in_process.py"}
"""Modules that pip starts by their path."""


def run_base() -> bytes:
    """Return the root of the image that is run: the interpreter at /usr, what it links to, and no program besides."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar, tempfile.TemporaryDirectory() as stripped:
        _add_binaries(tar, {f"usr/bin/{VERSION}": PYTHON / "bin" / VERSION}, Path(stripped, "bin"))
        _link(tar, "usr/bin/python3", VERSION)
        _add_modules(tar, LIBRARY, f"usr/lib/{VERSION}")
        modules = {f"usr/lib/{VERSION}/lib-dynload/{module.name}": module for module in _extension_modules()}
        _add_binaries(tar, modules, Path(stripped, "modules"))
        libraries = {library.lstrip("/"): Path(os.path.realpath(library)) for library in sorted({*_libraries()})}
        _add_binaries(tar, libraries, Path(stripped, "libraries"))
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
        [pip] = (LIBRARY / "ensurepip" / "_bundled").glob("pip-*.whl")
        with ZipFile(pip) as archive:
            archive.extractall(unpacked)
        compileall.compile_dir(unpacked, quiet=2, stripdir=unpacked, prependdir=f"/usr/lib/{VERSION}/site-packages", workers=0)
        _add_modules(tar, Path(unpacked), f"usr/lib/{VERSION}/site-packages")
        for wheel in sorted(wheels.glob("*.whl")):
            tar.add(wheel, f"wheelhouse/{wheel.name}")
    return buffer.getvalue()


def _add_modules(tar: tarfile.TarFile, directory: Path, name: str) -> None:
    """Add a directory of modules, each of which is imported from its .pyc alone."""
    for entry in sorted(directory.iterdir()):
        if entry.name.split(".")[0] in NOT_NEEDED or entry.name.startswith(("config-", "_test", "lib-dynload")) or entry.suffix == ".exe":
            continue
        compiled = directory / "__pycache__" / f"{entry.stem}.{sys.implementation.cache_tag}.pyc"
        if entry.is_dir():
            _add_modules(tar, entry, f"{name}/{entry.name}")
        elif entry.suffix == ".py" and entry.name not in PROGRAMS and compiled.exists():
            tar.add(compiled, f"{name}/{entry.stem}.pyc")
        else:
            tar.add(entry, f"{name}/{entry.name}")


def _add_binaries(tar: tarfile.TarFile, files: dict[str, Path], stripped: Path) -> None:
    """Add files by their names, without symbols where this machine has strip."""
    stripped.mkdir()
    copies = {name: Path(shutil.copy(file, stripped / os.path.basename(name))) for name, file in files.items()}
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-unneeded", *copies.values()], check=True)
    for name, copy in copies.items():
        tar.add(copy, name)


def _extension_modules() -> list[Path]:
    modules = sorted((LIBRARY / "lib-dynload").glob("*.so"))
    return [module for module in modules if module.name.split(".")[0] not in NOT_NEEDED and not module.name.startswith("_test")]


def _libraries() -> Iterator[str]:
    """Yield the paths of the shared libraries that the interpreter, its modules and the wheels are linked to."""
    done = subprocess.run(["ldd", PYTHON / "bin" / VERSION, *_extension_modules()], capture_output=True, text=True, check=False)
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
