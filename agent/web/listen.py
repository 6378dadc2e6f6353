"""Sockets to listen on: what --web.listen-address means on this machine, and in plain words why it cannot be had."""

import asyncio
import errno
import socket
from contextlib import suppress
from ipaddress import IPv4Address, ip_address
from typing import Any

_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What the kernel says of an address that this machine does not have: none of its own, or of a family that is switched off."""

_TRIES = 10
"""How often a port that was free for one address is looked for that is free for all."""

BACKLOG = 128

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
"""The second is the host, the port and, of IPv6, flow and scope."""


class CannotListen(Exception):
    """The address cannot be listened on; the message says which, why, and what to do."""


async def listen(host: str | None, port: int, tries: int = _TRIES) -> list[socket.socket]:
    """Return listening sockets on the addresses of a host that this machine has. Raises CannotListen if there is none, or one is taken.

    No host, and `::`, are every address of the machine, IPv4 too: https://pkg.go.dev/net#Listen has made that the custom. Of a name's
    addresses those that this machine lacks are left out: localhost is ::1 too in /etc/hosts where IPv6 is switched off. Port 0 is any
    free one, the same for all.
    """
    is_every = host is None or host == "::"
    addresses = [(socket.AF_INET6, ("::", port))] if is_every else await _resolve(host or "", port)
    try:
        return _listen(addresses)
    except OSError as error:
        if is_every and error.errno in _NOT_OURS:
            return await listen("0.0.0.0", port)  # noqa: S104 - it was asked for, and there is no IPv6 here
        if error.errno == errno.EADDRINUSE and port == 0 and tries > 1:
            return await listen(host, port, tries - 1)
        raise CannotListen(_why(error, addresses, port)) from error


def shown(host: str, port: int) -> str:
    """Spell an address as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _resolve(host: str, port: int) -> list[Address]:
    with suppress(ValueError):
        # What is an address already is not looked for: that takes a thread, and the names of all scripts (encodings.idna), 0.4 MiB in all.
        return [(socket.AF_INET, (str(IPv4Address(host)), port))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: nothing that can be a name, such as two dots in a row
        reason = error.strerror if isinstance(error, socket.gaierror) else "it cannot be a host's name"
        raise CannotListen(
            f"cannot listen on {host}:{port}: the name {host} does not resolve: {reason}; set --web.listen-address to an address of this "
            f"machine, or to :{port} for all of them"
        ) from error
    return [(family, address) for family, _, _, _, address in dict.fromkeys(found)]  # /etc/hosts may have one twice


def _listen(addresses: list[Address]) -> list[socket.socket]:
    """Listen on those that this machine has. Raises OSError: of the first that is taken or forbidden, or else lacking if all are."""
    listening: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        for family, (host, port, *scope) in addresses:
            same_port = port or (listening[0].getsockname()[1] if listening else 0)
            try:
                listening.append(_socket(family, (host, same_port, *scope)))
            except OSError as error:
                error.filename = shown(host, same_port)
                if error.errno not in _NOT_OURS:
                    raise
                lacking = error
        if lacking is not None and not listening:
            raise lacking
    except OSError:
        for one in listening:
            one.close()
        raise
    return listening


def _socket(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not to wait for the connections of the agent before
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # whatever net.ipv6.bindv6only says
        one.bind(address)
        one.listen(BACKLOG)  # only this tells of another socket that was bound with SO_REUSEADDR
    except OSError:
        one.close()
        raise
    return one


def _why(error: OSError, addresses: list[Address], port: int) -> str:
    """Say why, by what the kernel said of an address: each has another remedy."""
    what = f"cannot listen on {error.filename}: {error.strerror}"
    if error.errno == errno.EADDRINUSE:
        return f"{what}; is another agent running? --web.listen-address changes it"
    if error.errno in _NOT_OURS:
        given = ", ".join(shown(*address[:2]) for _, address in addresses)
        return (
            f"cannot listen on {given}: {error.strerror}: not an address of this machine; set --web.listen-address to one that "
            f"`ip address` lists, or to :{port} for all of them"
        )
    if error.errno == errno.EACCES and port < 1024:
        return f"{what}: a port below 1024 needs CAP_NET_BIND_SERVICE; give the agent that, or another port in --web.listen-address"
    if error.errno == errno.EINVAL and any(ip_address(address[0]).is_link_local for _, address in addresses):
        return f"{what}: a link-local address needs its interface, as in --web.listen-address=[fe80::1%eth0]:{port}"
    return f"{what}; --web.listen-address changes the address"
