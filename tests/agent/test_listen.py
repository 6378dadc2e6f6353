"""What --web.listen-address means on this machine, and what is said when it cannot be had."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agent.web import listen as module
from agent.web.listen import CannotListen, listen, shown

Listen = Callable[[str | None, int], Awaitable[list[socket.socket]]]
NOT_OURS = "2001:db8::1"
"""For documentation: nobody has it (RFC 3849)."""


@pytest.fixture
async def bound() -> AsyncIterator[Listen]:
    """Listen, and close all at the test's end."""
    sockets: list[socket.socket] = []

    async def start(host: str | None, port: int) -> list[socket.socket]:
        found = await listen(host, port)
        sockets.extend(found)
        return found

    yield start
    for one in sockets:
        one.close()


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let names resolve to these addresses, in this order."""

    def to(*hosts: str) -> None:
        def getaddrinfo(_host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
                if ":" in host
                else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
                for host in hosts
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return to


@pytest.fixture
def no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that was booted with ipv6.disable=1."""

    class Socket(socket.socket):
        def __init__(self, family: int = -1, *arguments: Any, **options: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *arguments, **options)

    monkeypatch.setattr(socket, "socket", Socket)


def hosts(sockets: list[socket.socket]) -> list[str]:
    """Return where they listen."""
    return [one.getsockname()[0] for one in sockets]


def ports(sockets: list[socket.socket]) -> set[int]:
    """Return the ports they listen on."""
    return {one.getsockname()[1] for one in sockets}


def answers(host: str, port: int) -> bool:
    """Tell whether somebody listens there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
        client.settimeout(10)
        return client.connect_ex((host, port)) == 0


@pytest.mark.parametrize("host", [None, "::"])
async def test_every_address_is_those_of_both_families(bound: Listen, host: str | None) -> None:
    """As every program written in Go has it, the exporters of Prometheus too; on one port, also if that is any."""
    (port,) = ports(await bound(host, 0))

    assert answers("127.0.0.1", port)
    assert answers("::1", port)


async def test_0_0_0_0_is_ipv4_only(bound: Listen) -> None:
    """Who asks for one family gets one."""
    (port,) = ports(await bound("0.0.0.0", 0))

    assert answers("127.0.0.1", port)
    assert not answers("::1", port)


@pytest.mark.usefixtures("no_ipv6")
@pytest.mark.parametrize("host", [None, "::"])
async def test_without_ipv6_every_address_is_those_of_ipv4(bound: Listen, host: str | None) -> None:
    """Not a reason to end."""
    assert hosts(await bound(host, 0)) == ["0.0.0.0"]


@pytest.mark.usefixtures("no_ipv6")
async def test_without_ipv6_a_name_means_its_other_address(bound: Listen, resolve: Callable[..., None]) -> None:
    """The socket itself cannot be made."""
    resolve("::1", "127.0.0.1")

    assert hosts(await bound("localhost", 0)) == ["127.0.0.1"]


@pytest.mark.parametrize("order", [(NOT_OURS, "127.0.0.1"), ("127.0.0.1", NOT_OURS)])
async def test_of_a_names_addresses_those_of_this_machine_are_listened_on(
    bound: Listen, resolve: Callable[..., None], order: tuple[str, str]
) -> None:
    """localhost is ::1 too where lo has no such address; in whatever order they come."""
    resolve(*order)

    assert hosts(await bound("localhost", 0)) == ["127.0.0.1"]


async def test_all_addresses_of_a_name_have_the_same_port(bound: Listen, resolve: Callable[..., None]) -> None:
    """Also if any will do, and if the machine's hosts file has one of them twice."""
    resolve("127.0.0.1", "::1", "127.0.0.1", "127.0.0.2")
    sockets = await bound("localhost", 0)

    assert hosts(sockets) == ["127.0.0.1", "::1", "127.0.0.2"]
    assert len(ports(sockets)) == 1


async def test_a_port_that_is_taken_on_the_second_address_is_tried_anew(
    bound: Listen, resolve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is any port that was asked for; nothing is left open of the first try."""
    resolve("127.0.0.1", "127.0.0.2")
    made: list[tuple[object, ...]] = []
    make = module._socket

    def taken_once(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
        made.append(address)
        if len(made) == 2:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return make(family, address)

    monkeypatch.setattr(module, "_socket", taken_once)
    sockets = await bound("localhost", 0)

    assert [host for host, _ in made] == ["127.0.0.1", "127.0.0.2"] * 2
    assert len(ports(sockets)) == 1
    assert made[1][1] in ports(sockets) or not answers("127.0.0.1", int(str(made[1][1]))), "the first try is still listened on"


async def why(host: str | None, port: int) -> str:
    """Return why an address cannot be listened on."""
    with pytest.raises(CannotListen) as caught:
        await listen(host, port)
    assert "--web.listen-address" in str(caught.value)
    return str(caught.value)


async def test_a_taken_port_asks_for_another_agent(bound: Listen, resolve: Callable[..., None]) -> None:
    """And only that does; half a name's addresses would be half an agent."""
    (port,) = ports(await bound("127.0.0.1", 0))

    assert f"127.0.0.1:{port}: Address already in use; is another agent running?" in await why("127.0.0.1", port)
    assert f"[::]:{port}: Address already in use; is another agent running?" in await why(None, port)
    resolve("::1", "127.0.0.1")
    assert "is another agent running?" in await why("localhost", port)
    assert not answers("::1", port), "the first of them is still listened on"


@pytest.mark.parametrize("host", ["192.0.2.1", NOT_OURS])
async def test_an_address_of_another_machine_is_called_so(host: str) -> None:
    """No other agent is to blame."""
    said = await why(host, 10911)

    assert shown(host, 10911) in said
    assert "not an address of this machine" in said
    assert "another agent" not in said


async def test_all_addresses_of_a_name_that_are_none_of_this_machine_are_said(resolve: Callable[..., None]) -> None:
    """Whoever changed the name service finds them."""
    resolve("192.0.2.1", NOT_OURS)

    assert "192.0.2.1:10911, [2001:db8::1]:10911: " in await why("node", 10911)


@pytest.mark.parametrize(("port", "remedy"), [(80, "CAP_NET_BIND_SERVICE"), (10911, "Permission denied; --web.listen-address")])
async def test_a_forbidden_port_has_its_remedy(monkeypatch: pytest.MonkeyPatch, port: int, remedy: str) -> None:
    """Below 1024 a capability is missing; elsewhere it is something else, and nothing is claimed."""

    def forbidden(*_: object) -> socket.socket:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module, "_socket", forbidden)

    assert remedy in await why("127.0.0.1", port)
    assert "another agent" not in await why(None, port)


@pytest.mark.parametrize("host", ["nowhere.invalid", "..", ".", "a" * 70, "fe80::1%nowhere0"])
async def test_a_name_that_does_not_resolve_is_said(host: str) -> None:
    """Also what no name server was ever asked for."""
    said = await why(host, 10911)

    assert f"the name {host} does not resolve" in said
    assert "another agent" not in said


async def test_a_link_local_address_wants_its_interface() -> None:
    """The kernel says only that the argument is invalid."""
    assert "[fe80::1%eth0]:10911" in await why("fe80::1", 10911)


def test_an_address_is_spelled_as_in_a_url() -> None:
    """Without brackets the port of an IPv6 address is a part of it."""
    assert [shown("::", 1), shown("127.0.0.1", 1)] == ["[::]:1", "127.0.0.1:1"]


async def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """For that Python starts a thread and loads the names of all scripts; a name is."""

    async def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_FAIL, "asked")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    [one] = await listen("127.0.0.1", 0)
    with one:
        assert one.getsockname()[0] == "127.0.0.1"
    with pytest.raises(CannotListen, match="does not resolve: asked"):
        await listen("localhost", 0)
