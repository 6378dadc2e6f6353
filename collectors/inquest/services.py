"""How many services run in one container, told from its processes' parents, sessions, terminals and names. Pure.

What a process listens on cannot be seen without its descriptors, which are not opened. So this is careful: what it calls services are
programs with different names that a shell or a supervisor keeps running. Not counted are the workers of a program, whoever came in from
outside (docker exec, probes) and what that left behind, what has a terminal, what has just been started, and what only helps.
"""

from collections.abc import Iterable

from collectors.kernel.pid1 import SHELLS
from collectors.kernel.process_stat import Member

YOUNG_SECONDS = 10.0
"""A process of less than this may be a step of a script."""

SUPERVISORS = frozenset(
    (
        *(b"supervisord", b"s6-svscan", b"s6-supervise", b"runsvdir", b"runsv", b"runit", b"svscan", b"supervise", b"systemd", b"init"),
        *(b"my_init", b"monit", b"circusd", b"honcho", b"foreman", b"overmind", b"goreman", b"multirun", b"perpd", b"openrc-init"),
    )
)
LAUNCHERS = frozenset((b"tini", b"tini-static", b"docker-init", b"dumb-init", b"catatonit"))
"""These start one program, and reap whatever becomes an orphan."""
KEEPERS = frozenset((b"sleep", b"tail", b"pause", b"cat"))
"""Programs that start nothing: as PID 1 they keep a container open in which daemons run."""
HELPERS = frozenset(
    (
        *(b"tee", b"cat", b"tail", b"sleep", b"grep", b"sed", b"awk", b"mawk", b"gawk", b"jq", b"tr", b"cut", b"ts", b"logger", b"timeout"),
        *(b"multilog", b"svlogd", b"s6-log", b"rotatelogs", b"cronolog", b"logrotate", b"gpg-agent", b"ssh-agent", b"dbus-daemon"),
        *(b"dbus-launch", b"agetty", b"(sd-pam)", b"Xvfb", b"chrome_crashpad", b"crashpad_handle", b"epmd", b"inet_gethost"),
        *(b"erl_child_setup"[:15], b"containerd-shim", b"conmon", b"s6-linux-init-s", b"s6-ipcserverd", b"s6-fdholderd"),
    )
)
"""What is beside a service and is none itself; the kernel keeps 15 bytes of a name."""

STARTERS = SHELLS | SUPERVISORS | LAUNCHERS | KEEPERS
"""PID 1 of another name is the one service of its container."""


def services(members: Iterable[Member], init: int, young_from: float) -> tuple[bytes, ...]:
    """Return the names of the services, of those with numbers at their end one, sorted; the init's if there is none other.

    `members` are the processes of the container's PID namespace, `init` is its PID 1, and `young_from` is the start time from which a
    process does not count, in clock ticks since boot. () if the init is not among them.
    """
    by_pid = {member.pid: member for member in members}
    if init not in by_pid:
        return ()
    children: dict[int, list[Member]] = {}
    for member in by_pid.values():
        children.setdefault(member.parent, []).append(member)
    first = by_pid[init]
    if first.comm in LAUNCHERS and children.get(init):
        program = min(children[init], key=lambda child: child.start_time)
        if program.comm not in STARTERS:  # what else its init has are orphans of the one program that it started
            return (program.comm,)
    found: dict[bytes, bytes] = {}
    starters = [first] if first.comm in STARTERS else []
    for starter in starters:
        # Each once: in a scan that takes a while a number may have gone from one process to another, and parents form a circle.
        for child in children.pop(starter.pid, ()):
            if child.has_terminal or child.session not in (child.pid, starter.session):
                continue
            if child.comm in STARTERS - HELPERS:
                starters.append(child)
            elif child.comm not in HELPERS and not child.comm.startswith(b"systemd-") and child.start_time < young_from:
                stem = child.comm.rstrip(b"0123456789-_.:/#@") or child.comm
                found[stem] = min(child.comm, found.get(stem, child.comm))
    return tuple(sorted(found.values())) or (first.comm,)
