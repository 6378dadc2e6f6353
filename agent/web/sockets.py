"""All that is listened on: addresses, unix sockets, and sockets that systemd has opened."""

import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress

from agent.web.listen import BACKLOG, CannotListen, listen, shown

_FIRST_DESCRIPTOR = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""

_SEND_BUFFER_BYTES = 64 * 1024
"""The kernel doubles it (socket(7)). Accepted connections inherit it. A compressed page of 110 containers has 30 KiB."""

Address = tuple[str | None, int] | str
"""A host, None for all, and a port; or the path of a unix socket."""


class _FromSystemd(socket.socket):
    """A socket that systemd has opened, and will give to the next agent."""


async def listen_on(addresses: Iterable[Address], *, systemd: bool = False) -> list[socket.socket]:
    """Return listening sockets that do not block. Raises CannotListen if one of them cannot be had, and then keeps none."""
    sockets: list[socket.socket] = []
    try:
        if systemd:
            sockets += _from_systemd()
        else:
            for address in addresses:
                sockets += [_unix(address)] if isinstance(address, str) else await listen(*address)
    except CannotListen:
        for one in sockets:
            close(one)
        raise
    for one in sockets:
        one.setblocking(False)
        # Of what a client does not read, so much waits in the kernel, whose memory is the pod's too; its own choice is megabytes.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return sockets


def close(one: socket.socket) -> None:
    """Close a listening socket, and remove its file if it has one of ours."""
    path = one.getsockname() if one.family == socket.AF_UNIX and not isinstance(one, _FromSystemd) else ""
    one.close()
    if path:
        with suppress(OSError):
            os.unlink(path)


def shown_of(one: socket.socket) -> str:
    """Spell where a socket listens as --web.listen-address does."""
    name = one.getsockname()
    return f"unix:{name}" if one.family == socket.AF_UNIX else shown(name[0], name[1])


def _unix(path: str) -> socket.socket:
    """Listen on a path. A socket there on which nobody listens any more is replaced, anything else is not."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            os.unlink(path)
        one.bind(path)
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        remedy = "; is another agent running?" if os.path.exists(path) else "; its directory must be there, and the agent may write to it"
        raise CannotListen(f"cannot listen on unix:{path}: {error.strerror or error}{remedy} --web.listen-address changes it") from error
    return one


def _is_left_over(path: str) -> bool:
    """Tell whether a path is a unix socket of an agent that was killed."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            client.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _from_systemd() -> list[socket.socket]:
    """Return the sockets that systemd has opened: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise CannotListen(
            "--web.systemd-socket: systemd has opened no socket for this process (LISTEN_PID); start it by a unit that belongs to a .socket"
        )
    sockets: list[socket.socket] = []
    try:
        for number in range(int(os.environ.get("LISTEN_FDS", ""))):
            sockets.append(_FromSystemd(fileno=_FIRST_DESCRIPTOR + number))
            sockets[-1].set_inheritable(False)
        if sockets and all(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for one in sockets):
            return sockets
        why = "they do not listen, or there are none: the .socket unit needs ListenStream= and Accept=no"
    except (OSError, ValueError) as error:
        why = str(error)
    for one in sockets:
        one.close()
    raise CannotListen(f"--web.systemd-socket: cannot use the sockets that systemd has passed on (LISTEN_FDS): {why}")
