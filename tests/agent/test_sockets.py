"""Unix sockets and sockets of systemd; addresses are in test_listen.py."""

import os
import socket
from pathlib import Path

import pytest

from agent.web import sockets as module
from agent.web.listen import CannotListen
from agent.web.sockets import close, listen_on, shown_of


async def test_addresses_and_unix_sockets_together(tmp_path: Path) -> None:
    """Each is named as it would be given, and a unix socket's file goes with it."""
    path = tmp_path / "coroner.sock"
    sockets = await listen_on([("127.0.0.1", 0), str(path)])

    assert [shown_of(one).rpartition(":")[0] for one in sockets] == ["127.0.0.1", "unix"]
    assert shown_of(sockets[1]) == f"unix:{path}"
    assert not any(one.getblocking() for one in sockets)
    for one in sockets:
        close(one)
    assert not path.exists()


async def test_the_socket_of_an_agent_that_was_killed_is_replaced(tmp_path: Path) -> None:
    """Its file stays when nobody can remove it."""
    path = str(tmp_path / "coroner.sock")
    (killed,) = await listen_on([path])
    killed.close()
    (one,) = await listen_on([path])
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    close(one)


async def test_a_socket_that_is_in_use_and_any_other_file_are_left_alone(tmp_path: Path) -> None:
    """And nothing stays open of what was had before."""
    path, file = tmp_path / "coroner.sock", tmp_path / "file"
    (one,) = await listen_on([str(path)])
    file.write_text("precious")

    for taken in (path, file):
        with pytest.raises(CannotListen, match="Address already in use; is another agent running"):
            await listen_on([str(tmp_path / "first.sock"), str(taken)])
    assert not (tmp_path / "first.sock").exists()
    assert file.read_text() == "precious"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    close(one)


async def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With the remedy."""
    with pytest.raises(CannotListen, match="No such file or directory; its directory must be there"):
        await listen_on([str(tmp_path / "nowhere" / "coroner.sock")])


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "no socket for this process"),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, "no socket for this process"),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "x"}, "invalid literal"),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "0"}, "needs ListenStream="),
    ],
)
async def test_without_sockets_of_systemd_it_is_said(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], said: str) -> None:
    """The variables are for one process only (sd_listen_fds(3)); tests/e2e has them for real."""
    for name in ("LISTEN_PID", "LISTEN_FDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("me", str(os.getpid())))
    with pytest.raises(CannotListen, match=said):
        await listen_on([("127.0.0.1", 0)], systemd=True)


async def test_a_descriptor_that_does_not_listen_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as that of a unit with Accept=yes, or a file."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr(module, "_FIRST_DESCRIPTOR", os.dup(ours.fileno()))
        with pytest.raises(CannotListen, match="Accept=no"):
            await listen_on([], systemd=True)
    with (tmp_path / "file").open("wb") as file:
        monkeypatch.setattr(module, "_FIRST_DESCRIPTOR", file.fileno())
        with pytest.raises(CannotListen, match="Socket operation on non-socket"):
            await listen_on([], systemd=True)
