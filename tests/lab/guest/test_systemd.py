"""The unit of deploy/, run by the machine's own systemd in namespaces of its own: with what it grants the agent sees all that it should."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guest.node import wait_for

UNIT = Path(__file__).parents[3] / "deploy" / "coroner.service"
CGROUP = Path("/sys/fs/cgroup/systemd")
THREE = (1 << 19) | (1 << 34) | (1 << 2)
"""CAP_SYS_PTRACE, CAP_SYSLOG and CAP_DAC_READ_SEARCH, as /proc/PID/status has them."""

INIT = """
mount -t proc proc /proc
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/system/coroner.service.d
cp "$1" /run/systemd/system/
ln -s /dev/null /run/systemd/system/systemd-tmpfiles-setup.service
cat > /run/systemd/system/coroner.service.d/lab.conf <<END
[Service]
ExecStart=
ExecStart=$2
ProtectHome=read-only
PrivateTmp=$3
WatchdogSec=15s
END
container=lab exec /lib/systemd/systemd --system --unit=coroner.service --show-status=no --log-target=null
"""
"""The interpreter of the tests may be below /root, and the checkout below /tmp, which the unit hides, and systemd empties when it boots;
and the unit's two minutes are a long watchdog for a test.
"""


@pytest.fixture(scope="module")
def systemd() -> Iterator[int]:
    """A systemd that starts the unit and what that needs: its process id here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("the Debian package systemd is missing (tests/packages.sh installs it)")
    CGROUP.mkdir()
    script = f'echo $$ > {CGROUP}/cgroup.procs; exec unshare --cgroup --mount --pid --fork --kill-child -- sh -ec "$0" sh "$@"'
    hides_tmp = "no" if UNIT.is_relative_to("/tmp") else "yes"
    started = subprocess.Popen(["sh", "-c", script, INIT, str(UNIT), f"{sys.prefix}/bin/coroner --docker.url=", hides_tmp])
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    yield int(wait_for(children.read_text, 30, "no systemd").split()[0])
    started.kill()
    started.wait()


def systemctl(systemd: int, *arguments: str) -> str:
    """Ask systemd in its own namespaces."""
    enter = ["nsenter", f"--target={systemd}", "--mount", "--pid", "--cgroup"]
    return subprocess.run([*enter, "systemctl", *arguments], capture_output=True, text=True, check=False).stdout


def agent(systemd: int) -> dict[str, str]:
    """Return what systemd says of the unit."""
    shown = systemctl(systemd, "show", "coroner", "--property=ActiveState,NRestarts,Result,MainPID,StatusErrno,ExecMainStatus")
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def test_unit_grants_what_the_agent_needs_and_systemd_restarts_an_agent_that_hangs(systemd: int) -> None:
    """It becomes ready, sees the kernel log and foreign namespaces, keeps its casebook, and has three capabilities; then it is stopped."""
    wait_for(lambda: agent(systemd).get("ActiveState") == "active", 60, lambda: str(agent(systemd)))
    first = agent(systemd)
    with urllib.request.urlopen("http://127.0.0.1:10911/metrics", timeout=60) as response:
        page = response.read().decode().splitlines()
    [pid] = (CGROUP / "system.slice" / "coroner.service" / "cgroup.procs").read_text().split()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)

    for source in ("cgroup", "proc", "kmsg", "exits"):
        assert f'coroner_source_up{{source="{source}"}} 1' in page, page
    assert "coroner_casebook_up 1" in page
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == THREE
    assert (status["NoNewPrivs"], status["Seccomp"], first["NRestarts"]) == ("1", "2", "0")

    os.kill(int(pid), signal.SIGSTOP)
    wait_for(lambda: agent(systemd).get("NRestarts") == "1", 60, lambda: str(agent(systemd)))
    wait_for(lambda: agent(systemd).get("ActiveState") == "active", 60, lambda: str(agent(systemd)))
    systemctl(systemd, "stop", "coroner")
    assert agent(systemd)["ActiveState"] == "inactive"
