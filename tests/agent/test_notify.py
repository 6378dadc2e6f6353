"""What systemd is told, and when."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.notify import Notifier, keep_told


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and what NOTIFY_SOCKET says of it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@coroner-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1))
        listening.setblocking(False)
        yield listening, name


def told(listening: socket.socket) -> list[str]:
    """Return what has arrived."""
    states = []
    while True:
        try:
            states.append(listening.recv(4096).decode())
        except BlockingIOError:
            return states


async def turns() -> None:
    """Let all that can run run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_ready_is_told_after_the_first_pass_and_stopping_at_the_end(manager: tuple[socket.socket, str]) -> None:
    """Both kinds of addresses that systemd uses."""
    listening, name = manager
    ready = asyncio.Event()
    task = asyncio.create_task(keep_told(ready, lambda: 1.0, Notifier({"NOTIFY_SOCKET": name})))
    await turns()
    assert told(listening) == []

    ready.set()
    await turns()
    assert told(listening) == ["READY=1"]

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told(listening) == ["STOPPING=1"]


async def test_watchdog_is_fed_only_when_a_pass_has_ended(manager: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Four looks in each period; of two looks that see the same pass one feeds."""
    listening, name = manager
    passes, slept = iter([10.0, 10.0, 20.0, 20.0]), []
    held = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 4:
            await held.wait()

    ready = asyncio.Event()
    ready.set()
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "120000000", "WATCHDOG_PID": str(os.getpid())})
    with monkeypatch.context() as patch:
        patch.setattr("agent.notify.asyncio.sleep", sleep)
        task = asyncio.create_task(keep_told(ready, lambda: next(passes), notifier))
        while len(slept) < 4:
            await asyncio.wait((task,), timeout=0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert told(listening) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]
    assert slept == [30.0] * 4


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234", "/no/such/socket"])
async def test_nobody_who_listens_costs_nothing(address: str) -> None:
    """Without systemd, with an address of a kind that is not known, and with a manager that has gone."""
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.tell("READY=1")
    notifier.close()
    notifier.tell("READY=1")


def test_a_manager_that_does_not_read_is_not_waited_for(manager: tuple[socket.socket, str]) -> None:
    """Its queue is finite."""
    _, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(10_000):
        notifier.tell("WATCHDOG=1")
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "120000000"}, 120),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"WATCHDOG_USEC": "-1"}, 0),
    ],
)
def test_watchdog_is_another_matter(environ: dict[str, str], seconds: float) -> None:
    """A period that is not one, or is meant for another process, is none."""
    assert Notifier(environ).watchdog_seconds == seconds


@pytest.mark.parametrize(("watchdog", "seconds"), [("", 10), ("120000000", 10), ("15000000", 3.75), ("1000000", 0.25)])
def test_passes_are_as_frequent_as_the_watchdog_needs(watchdog: str, seconds: float) -> None:
    """Without a scrape there is one every ten seconds: too late for a period of that, and a good agent would be killed."""
    assert Notifier({"WATCHDOG_USEC": watchdog}).in_time(10) == seconds
