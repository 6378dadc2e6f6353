"""The systemd unit: that systemd understands all of it, how little it grants, and that the agent tells systemd what the unit waits for."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "coroner.service"
README = ROOT / "deploy" / "README.md"
MOST_EXPOSED = 30
"""Tenths, as --threshold has them: more than 3.0 of 10 is an error."""


def settings() -> dict[str, list[str]]:
    """Return the words of each setting; one that stands twice goes on."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name] += value.split()
    return found


def systemd_analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run systemd-analyze, or skip."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("the Debian package systemd is missing (tests/packages.sh installs it)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_systemd_understands_all_of_it(tmp_path: Path) -> None:
    """Every key and value: of what it does not know it only warns, so it must say nothing. The program is the one of this checkout."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/coroner", f"{sys.prefix}/bin/coroner"))
    done = systemd_analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    unit.write_text(unit.read_text() + "[Service]\nProtectSytem=strict\n")
    assert "ProtectSytem" in systemd_analyze("verify", "--man=no", str(unit)).stderr


def test_exposure_is_what_the_readme_says() -> None:
    """As systemd rates it, of 10; Debian 12 has systemd 252, and later ones rate a little otherwise."""
    done = systemd_analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(UNIT))
    rated = re.search(r"exposure level for coroner.service: (\S+) ", done.stdout)
    assert done.returncode == 0, done.stdout
    assert rated
    said = re.search(r"exposure (\d\.\d) of 10", README.read_text())
    assert said
    assert float(rated[1]) <= MOST_EXPOSED / 10
    assert not _is_252() or said[1] == rated[1]


def test_it_has_three_capabilities_and_no_way_to_more() -> None:
    """The same three as in Kubernetes. What must not be set is what would blind the agent."""
    has = settings()
    assert has["CapabilityBoundingSet"] == ["CAP_SYS_PTRACE", "CAP_SYSLOG", "CAP_DAC_READ_SEARCH"]
    assert (has["AmbientCapabilities"], has["NoNewPrivileges"], has["ProtectSystem"]) == ([], ["yes"], ["strict"])
    assert has["RestrictAddressFamilies"] == ["AF_UNIX", "AF_INET", "AF_INET6"]
    assert has["StateDirectory"] == ["coroner"]  # --path.state's default is /var/lib/coroner
    assert (has["ProtectKernelLogs"], has["ProtectProc"], has["ProcSubset"]) == (["no"], ["default"], ["all"])
    assert not has.keys() & {"PrivateDevices", "PrivateUsers", "PrivateNetwork", "User", "DynamicUser", "CPUQuota"}


def test_it_is_restarted_unless_its_settings_are_wrong() -> None:
    """Exit code 2: the same settings would be as wrong the next time."""
    has = settings()
    assert (has["Type"], has["WatchdogSec"], has["Restart"], has["RestartPreventExitStatus"]) == (
        ["notify"],
        ["2min"],
        ["on-failure"],
        ["2"],
    )
    done = subprocess.run([f"{sys.prefix}/bin/coroner", "--no-such-flag"], capture_output=True, timeout=120, check=False)
    assert done.returncode == 2


def test_agent_says_that_it_is_ready_works_and_stops(tmp_path: Path) -> None:
    """The real process, with the variables that systemd would set."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(240)
        flags = ["--web.listen-address=127.0.0.1:0", "--docker.url=", f"--path.state={tmp_path}", "--log.level=error"]
        variables = {"NOTIFY_SOCKET": f"{tmp_path}/notify", "WATCHDOG_USEC": "400000"}
        agent = subprocess.Popen([f"{sys.prefix}/bin/coroner", *flags], env=os.environ | variables)
        try:
            assert [manager.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
            agent.terminate()
            last = b"WATCHDOG=1"
            while last == b"WATCHDOG=1":
                last = manager.recv(100)
            assert last == b"STOPPING=1"
            assert agent.wait(240) == 0
        finally:
            agent.kill()
            agent.wait()


def _is_252() -> bool:
    return systemd_analyze("--version").stdout.startswith("systemd 252 ")
