"""A /proc that hides the processes of others is known by its mount option, and by the PID 1 that it does not show."""

import os
from pathlib import Path

import pytest

from collectors.kernel.files import Forbidden
from collectors.kernel.hidepid import require_sight
from collectors.kernel.procfs import ProcessTable
from tests.tree import process, tree

NO_CAPABILITY = "Name:\tcoroner\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\n"
ALL_BUT_PTRACE = NO_CAPABILITY.replace("CapEff:\t0000000000000000", "CapEff:\t000001fffff7ffff")
PTRACE = NO_CAPABILITY.replace("CapEff:\t0000000000000000", "CapEff:\t0000000000080000")


def host(root: Path, options: str, *, status: str = NO_CAPABILITY, shows_init: bool = True, below: str = "") -> str:
    """Make a /proc that is mounted with these options, as an agent with this status sees it."""
    device = os.stat(root).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = (
        "22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw,hidepid=2\n"
        "23 28 0:4095 / /proc rw,nosuid shared:14 - proc proc rw,hidepid=invisible\n"
        f"24 28 {number} / /host/proc ro,relatime - proc proc rw{options}\n"
        f"{below}25 28 {number} /sys /proc/sys ro,relatime - proc proc rw{options}\n"
    )
    tree(root, {"self/status": status, "self/mountinfo": table})
    tree(root, process(4711))
    if shows_init:
        tree(root, process(1, parent=0))
    return str(root)


@pytest.mark.parametrize("option", ["hidepid=2", "hidepid=invisible", "hidepid=4", "hidepid=ptraceable"])
@pytest.mark.parametrize("status", [NO_CAPABILITY, ALL_BUT_PTRACE, "", "garbage"])
def test_the_option_hides_the_processes_of_others_from_an_agent_without_the_privilege(tmp_path: Path, option: str, status: str) -> None:
    """Also where PID 1 is shown, which may be of the agent's own user; the remedy is named."""
    root = host(tmp_path, f",gid=4294967294,{option}", status=status)

    for look in (require_sight, lambda root: ProcessTable(root, 10).scan()):
        with pytest.raises(Forbidden) as raised:
            look(root)
        message = str(raised.value)
        assert message.startswith(f"{root}: the processes of other users are hidden (mount option hidepid=")
        assert "CAP_SYS_PTRACE" in message
        assert "hidepid=0 (in a systemd unit: ProtectProc=default)" in message
        assert ("in the group 4294967294" in message) == (option in ("hidepid=2", "hidepid=invisible")), "4 heeds no group"


@pytest.mark.parametrize("options", ["", ",hidepid=0", ",hidepid=off", ",hidepid=1", ",hidepid=noaccess", ",gid=5,subset=pid"])
def test_another_option_hides_nothing(tmp_path: Path, options: str) -> None:
    """With hidepid=1 all are listed; that they may not be read is found when they are. Other mounts of procfs do not matter."""
    require_sight(host(tmp_path, options))


@pytest.mark.parametrize("option", ["hidepid=2", "hidepid=4"])
def test_whoever_may_ptrace_sees_all(tmp_path: Path, option: str) -> None:
    """So the mount table is not even read."""
    root = host(tmp_path, f",{option}", status=PTRACE)

    assert set(ProcessTable(root, 0).scan().namespaces.values()) != set()


def test_the_group_of_the_option_gid_sees_all_with_invisible_alone(tmp_path: Path) -> None:
    """It is group 0 where none is given."""
    group = os.getegid()
    require_sight(host(tmp_path, f",hidepid=invisible,gid={group}"))

    with pytest.raises(Forbidden):
        require_sight(host(tmp_path, f",hidepid=invisible,gid={group + 1_000_000}"))
    with pytest.raises(Forbidden):
        require_sight(host(tmp_path, f",hidepid=ptraceable,gid={group}"))


@pytest.mark.parametrize("status", [NO_CAPABILITY, PTRACE])
@pytest.mark.parametrize("options", ["", ",hidepid=2", ",hidepid=4"])
def test_without_pid_1_others_are_hidden_whatever_else_is_known(tmp_path: Path, status: str, options: str) -> None:
    """Every PID namespace has one: AppArmor may forbid what a capability allows, and the mount table may be another's."""
    root = host(tmp_path, options, status=status, shows_init=False)

    with pytest.raises(Forbidden, match=f"^{root}: the processes of other users are hidden"):
        ProcessTable(root, 10).scan()


def test_without_a_mount_table_pid_1_decides(tmp_path: Path) -> None:
    """A /proc that has no `self` for the agent is that of another PID namespace."""
    tree(tmp_path, process(4711))
    with pytest.raises(Forbidden, match=r"PID 1 is not there: mount option hidepid, or this is no procfs"):
        require_sight(str(tmp_path))

    tree(tmp_path, process(1, parent=0))
    require_sight(str(tmp_path))
