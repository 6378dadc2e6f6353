"""What deploy/Dockerfile is built from in the lab, without a registry: this machine's Python, without a shell, and with busybox."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = Path(sys.base_prefix)
NOT_NEEDED = {"site-packages", "test", "tests", "idlelib", "tkinter", "lib2to3", "turtledemo", "pydoc_data", "ensurepip"}


def run_base(file: Path) -> None:
    """Write the root of the image that is run: the interpreter at /usr, what it links to, and no program besides."""
    with tarfile.open(file, "w") as tar:
        tar.add(PYTHON / "bin" / VERSION, f"usr/bin/{VERSION}")
        _link(tar, "usr/bin/python3", VERSION)
        tar.add(PYTHON / "lib" / VERSION, f"usr/lib/{VERSION}", filter=_needed)
        for library in sorted({*_libraries()}):
            tar.add(os.path.realpath(library), library.lstrip("/"))
        directory = tarfile.TarInfo("tmp")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(directory)


def build_base(file: Path, wheels: Path) -> None:
    """Add to the root of run_base what the first stage needs: pip, a shell, a few commands, and the wheels of the locks at /wheelhouse."""
    busybox = shutil.which("busybox")
    assert busybox
    with tarfile.open(file, "a") as tar:
        tar.add(os.path.realpath(busybox), "bin/busybox")
        for name in ("sh", "mkdir", "sed", "chmod"):
            _link(tar, f"bin/{name}", "busybox")
        [pip] = (PYTHON / "lib" / VERSION / "ensurepip" / "_bundled").glob("pip-*.whl")
        with zipfile.ZipFile(pip) as archive:
            for entry in archive.infolist():
                file_in_tar = tarfile.TarInfo(f"usr/lib/{VERSION}/site-packages/{entry.filename}")
                file_in_tar.size = entry.file_size
                tar.addfile(file_in_tar, io.BytesIO(archive.read(entry)))
        for wheel in sorted(wheels.glob("*.whl")):
            tar.add(wheel, f"wheelhouse/{wheel.name}")


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(entry.name)
    needless = name in NOT_NEEDED or name.startswith("config-") or ".opt-" in name
    return None if needless else entry


def _libraries() -> Iterator[str]:
    """Yield the paths of the shared libraries that the interpreter, its modules and the wheels are linked to."""
    modules = (PYTHON / "lib" / VERSION / "lib-dynload").glob("*.so")
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
    run_base(directory / "run-base.tar")
    shutil.copy(directory / "run-base.tar", directory / "build-base.tar")
    build_base(directory / "build-base.tar", directory)
