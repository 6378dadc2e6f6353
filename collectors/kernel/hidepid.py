"""Whether /proc keeps the processes of other users out of the agent's sight: mount option hidepid=, or systemd's ProtectProc=.

With hidepid=2 (invisible) a process is listed only for whoever may ptrace it, and for the group of the option gid=; with hidepid=4
(ptraceable) the group makes no difference (Documentation/filesystems/proc.rst 4.1, fs/proc/base.c has_pid_permissions). What is hidden
is neither listed nor there: a count of the rest is a wrong count.
"""

import os
import re

from collectors.kernel.files import Forbidden, Gone, Unsupported, read_once

_HIDING = {b"2": "invisible", b"invisible": "invisible", b"4": "ptraceable", b"ptraceable": "ptraceable"}
"""As a number up to kernel 5.7."""

_CAP_SYS_PTRACE = 19


def require_sight(root: str) -> None:
    """Raise Forbidden, with the remedy, unless all processes of the /proc at root are there to be seen; ReadError if nobody can tell."""
    # Every PID namespace has its PID 1: if that is hidden, so are others. If it is not, it may be the agent's own user's.
    is_shown = os.path.lexists(f"{root}/1")
    if is_shown and may_ptrace(root):
        return
    option, group = _option(root)
    if is_shown and (not option or (option == "invisible" and group in (os.getegid(), *os.getgroups()))):
        return
    cause = f"mount option hidepid={option}" if option else "PID 1 is not there: mount option hidepid, or this is no procfs"
    in_group = f" or in the group {group} (mount option gid)" if option == "invisible" else ""
    raise Forbidden(
        root,
        f"the processes of other users are hidden ({cause}): run the agent with CAP_SYS_PTRACE (in a container also AppArmor unconfined)"
        f"{in_group}, or mount it with hidepid=0 (in a systemd unit: ProtectProc=default)",
    )


def may_ptrace(root: str) -> bool:
    """Whether the agent has CAP_SYS_PTRACE (/proc/self/status CapEff)."""
    try:
        found = re.search(rb"\nCapEff:\s*([0-9a-f]+)\n", read_once(f"{root}/self/status"))
    except (Gone, Unsupported):
        return False
    return found is not None and bool(int(found[1], 16) >> _CAP_SYS_PTRACE & 1)


def _option(root: str) -> tuple[str, int]:
    """Return how this /proc hides processes ("" if it does not, or is not in the table of mounts), and the group that sees them."""
    try:
        device, table = os.stat(root).st_dev, read_once(f"{root}/self/mountinfo")
    except (OSError, Gone, Unsupported):  # such as the /proc of a PID namespace that the agent is not in
        return "", 0
    # One procfs may be mounted at many paths, and many over each other at one; the options are those of the file system.
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    for line in table.splitlines():
        mount, separator, kind = line.partition(b" - proc ")
        if separator and mount.split(b" ")[2:3] == [wanted]:
            options = dict(option.partition(b"=")[::2] for option in kind.rpartition(b" ")[2].split(b","))
            return _HIDING.get(options.get(b"hidepid", b""), ""), int(options.get(b"gid", b"0"))
    return "", 0
