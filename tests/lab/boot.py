"""Boot the lab: a kernel (user-mode Linux) over the machine's own files, read-only, with one command to run inside.

``python tests/lab/boot.py`` opens a shell in it.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
MEMORY_MIB = 2048
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# UML 6.1 cannot restore the registers of a processor with AMX without help (xstate.c), and the help must be compiled.
NEEDS_XSTATE = " amx_tile" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")

PACKAGE_OF = {
    "linux.uml": "user-mode-linux",
    "dockerd": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "podman": "podman",
    "tini": "tini",
    "dumb-init": "dumb-init",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "insmod": "kmod",
    "pivot_root": "util-linux",
    "strace": "strace",
} | ({"cc": "gcc"} if NEEDS_XSTATE else {})

# UML is several processes, and SIGKILL leaves its helpers behind. When the test run dies, however it does, the pipe on
# stdin ends, and the guard removes the directory and kills the process group, which UML leads.
GUARD = 'exec 3<&0; (read -r _ <&3; rm -rf "$0"; kill -KILL 0) & exec "$@" </dev/null 3<&-'


def missing_packages() -> list[str]:
    """Name the Debian packages whose program the lab needs and this machine lacks."""
    return [package for program, package in PACKAGE_OF.items() if shutil.which(program, path=SYSTEM_PATH) is None]


class Machine:
    """One boot: starts at once, runs the command from the repository's directory, then powers off.

    ``shared`` is the one directory that the guest can write: it sees it as $CORONER_LAB.
    """

    def __init__(self, command: Sequence[str], *, files: dict[str, str] | None = None, terminal: bool = False) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="coroner-lab-"))
        self.shared = self._directory / "shared"
        self.shared.mkdir()
        script = f"cd {shlex.quote(str(REPOSITORY))} && exec {shlex.join(command)}\n"
        for name, text in {"command": script, **(files or {})}.items():
            (self.shared / name).write_text(text, encoding="utf-8")
        self._console = self._directory / "console"
        with self._console.open("wb") as console:
            self._process = self._start(None if terminal else console)

    def _start(self, console: IO[bytes] | None) -> subprocess.Popen[bytes]:
        environment = {"PATH": SYSTEM_PATH, "TERM": os.environ.get("TERM", "linux"), "TMPDIR": _memory_directory()}
        if NEEDS_XSTATE:
            library = self._directory / "xstate.so"
            subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, HERE / "xstate.c"], check=True)
            environment["LD_PRELOAD"] = str(library)
        kernel = ["linux.uml", f"mem={MEMORY_MIB}M", "quiet", f"uml_dir={self._directory}/", "con=null", "con0=fd:0,fd:1"]
        kernel += ["log_buf_len=256K"]  # some 2,500 records; the default holds 250, and each agent reads all that there is when it starts
        root = ["root=/dev/root", "rootfstype=hostfs", "hostfs=/", "ro"]
        init = [f"init={HERE}/init.sh", f"CORONER_LAB={self.shared}"]
        if console is None:
            return subprocess.Popen([*kernel, *root, *init], env=environment, start_new_session=True)
        return subprocess.Popen(
            ["sh", "-c", GUARD, str(self._directory), *kernel, *root, *init],
            stdin=subprocess.PIPE,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    def has_ended(self) -> bool:
        """Say whether the lab is off."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Return when the lab is off."""
        self._process.wait()

    def console(self) -> str:
        """Return what the guest's console shows: the kernel's messages and the command's output."""
        return self._console.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """Cut the power and remove every file of this boot."""
        if self._process.stdin and not self._process.stdin.closed:  # so the guard still holds the group's number
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.stdin.close()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


def _memory_directory() -> str:
    """Choose where UML keeps the guest's memory: a file that it maps executable and unlinks at once."""
    status = os.statvfs("/dev/shm")
    roomy = status.f_bavail * status.f_frsize > MEMORY_MIB << 20 and not status.f_flag & os.ST_NOEXEC
    return "/dev/shm" if roomy else tempfile.gettempdir()


if __name__ == "__main__":
    if missing := missing_packages():
        sys.exit(f"the lab needs these Debian packages: {' '.join(missing)}")
    settings = termios.tcgetattr(sys.stdin)
    machine = Machine(["setsid", "--ctty", "bash"], terminal=True)
    try:
        machine.wait()
    finally:
        machine.stop()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)
