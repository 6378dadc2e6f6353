"""`coroner top` as a program: on a terminal, without one, without rich, with an agent and without; and what keys are."""

import asyncio
import builtins
import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import read
from agent.config import load
from agent.top_command import FLAGS, top
from agent.top_keys import keys_of
from agent.top_live import Live
from agent.top_source import source
from collectors import NAMES

PAGE = b"""# HELP coroner_build_info Help.
coroner_build_info{version="0"} 1
coroner_source_up{source="kmsg"} 0
coroner_container_threads{namespace="",pod="",container="web"} 3
coroner_container_threads{namespace="",pod="",container="db"} 9
coroner_container_threads_limit{namespace="",pod="",container="db"} 10
"""
SECONDS = 60


@pytest.fixture
def pages() -> list[bytes]:
    """What the agent answers, and from then on nothing but 500; the last one again and again."""
    return [PAGE]


@pytest.fixture
def address(pages: list[bytes]) -> Iterator[str]:
    """Someone answers like an agent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if pages else 500)
            self.send_header("Content-Length", str(len(pages[0]) if pages else 0))
            self.end_headers()
            self.wfile.write(pages[0] if pages else b"")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def nobody() -> str:
    """An address at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def command(address: str, *flags: str) -> list[str]:
    """Spell the command line."""
    return [sys.executable, "-m", "agent", "top", f"--web.listen-address={address}", "--path.state=", "--docker.url=", *flags]


class Terminal:
    """The program on a terminal of 80 columns and 24 lines, as far as it was read."""

    def __init__(self, argv: list[str]) -> None:
        self._fd, other = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(other)
        self.other = other
        self.process = subprocess.Popen(argv, stdin=other, stdout=other, stderr=other, start_new_session=True)
        self.shown = b""

    def resize(self, lines: int, columns: int) -> None:
        """Make it another size; who runs on it is told."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        """Press keys, and forget what was shown before."""
        self.shown = b""
        os.write(self._fd, keys)

    def wait_for(self, text: bytes) -> None:
        """Read until it shows this."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._fd], [], [], 0.1)[0]:
                self.shown += os.read(self._fd, 65536)

    def end(self) -> int:
        """Read until the program has ended, and return its exit code."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._fd], [], [], 0.1)[0]:
                self.shown += os.read(self._fd, 65536)
        while select.select([self._fd], [], [], 0)[0]:
            self.shown += os.read(self._fd, 65536)
        return self.process.returncode

    def close(self) -> None:
        """Leave nothing."""
        self.process.kill()
        self.process.wait()
        os.close(self._fd)
        os.close(self.other)


@pytest.fixture
def terminal(address: str) -> Iterator[Terminal]:
    """The live view, which shows what the agent said."""
    found = Terminal(command(address, "--interval=0.2"))
    try:
        found.wait_for(b"blind: kmsg")
        yield found
    finally:
        found.close()


def test_q_ends_it_and_the_terminal_is_as_it_was(terminal: Terminal) -> None:
    """The other screen is left, the cursor is back, and what is typed is echoed again."""
    assert b"\x1b[?1049h" in terminal.shown
    assert b"\x1b[?25l" in terminal.shown
    terminal.type(b"q")

    assert terminal.end() == 0
    assert b"\x1b[?1049l" in terminal.shown
    assert b"\x1b[?25h" in terminal.shown
    assert termios.tcgetattr(terminal.other) == terminal.before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_leaves_the_terminal_as_it_was_too(terminal: Terminal, number: signal.Signals, code: int) -> None:
    """Ctrl-C has its exit code, as everywhere."""
    terminal.process.send_signal(number)

    assert terminal.end() == code
    assert b"\x1b[?1049l" in terminal.shown
    assert termios.tcgetattr(terminal.other) == terminal.before


def test_keys_sort_and_move_on_a_terminal_of_any_size(terminal: Terminal) -> None:
    """Db is first by concern, as it is nearest to its limit, and web is last by name. One too small for anything is drawn too."""
    for size in ((1, 1), (2, 300), (60, 10), (24, 80)):
        terminal.resize(*size)
        terminal.process.send_signal(signal.SIGWINCH)
    terminal.type(b"n")
    terminal.wait_for(b"by name")
    terminal.type(b"\x1b[B")
    terminal.wait_for(b"\x1b[1mweb")
    terminal.type(b"\x1b[A")
    terminal.wait_for(b"\x1b[1mdb")


def test_an_agent_that_goes_away_is_said_and_its_last_page_stays(terminal: Terminal, pages: list[bytes]) -> None:
    """It may come back."""
    pages.clear()
    terminal.wait_for(b"no answer:")
    terminal.type(b"n")
    terminal.wait_for(b"2 containers")


def test_once_prints_what_an_agent_says(address: str) -> None:
    """Plain text, for there is no terminal."""
    done = subprocess.run(command(address, "--once", "--interval=0.1"), capture_output=True, text=True, check=True, timeout=SECONDS)

    lines = done.stdout.splitlines()
    assert lines[1] == f"agent at {address}  blind: kmsg  nobody looks for findings"
    assert [line.split()[0] for line in lines[3:]] == ["db", "web"]
    assert done.stderr == ""


def test_once_makes_passes_where_nobody_answers(tmp_path: Path) -> None:
    """Of the machine itself; here of one without containers."""
    (tmp_path / "cgroup.controllers").write_text("")
    flags = ("--once", "--interval=0.1", f"--path.cgroupfs={tmp_path}", "--path.kmsg=/dev/null", "--path.bundles=", "--path.exits=")
    done = subprocess.run(command(nobody(), *flags), capture_output=True, text=True, check=True, timeout=SECONDS)

    assert "0 containers" in done.stdout
    assert "own passes: no agent answers here" in done.stdout


def test_without_a_terminal_it_says_how_else(address: str) -> None:
    """Exit code 2."""
    done = subprocess.run(command(address), capture_output=True, text=True, check=False, timeout=SECONDS)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "coroner: top needs a terminal to show a live view: use --once for one screen as text\n"


def test_without_rich_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is an extra, which nothing else needs."""
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError(name=name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)

    assert top(load([], {}, NAMES), {flag.name: flag.kind.parse(flag.default) for flag in FLAGS}) == 2
    assert capsys.readouterr().err == ("coroner: top needs the library rich, which is not installed: pip install 'coroner-agent[top]'\n")


def test_no_other_command_needs_rich() -> None:
    """Nor does the agent."""
    code = "import sys, agent.cli; assert not {'rich', 'termios', 'tty'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SECONDS)
    assert not isinstance(read(["top", "--once", "--sort=zombies"], {}, NAMES), str)


@pytest.mark.parametrize("body", [b"<html>", b""])
async def test_somebody_else_on_the_port_is_no_agent(pages: list[bytes], address: str, body: bytes) -> None:
    """It makes its own passes then."""
    pages[:] = [body]
    config = load([f"--web.listen-address={address}", "--path.state=", "--docker.url=", "--path.kmsg=/dev/null"], {}, NAMES)

    async with source(config) as (name, _):
        assert name.startswith("own passes")


async def test_who_listens_on_all_addresses_is_asked_on_the_loopback(address: str) -> None:
    """As an agent in a container does."""
    port = address.rpartition(":")[2]
    for listens in (f":{port}", f"0.0.0.0:{port}"):
        async with source(load([f"--web.listen-address={listens}"], {}, NAMES)) as (name, fetch):
            assert name == f"agent at {address}"
            assert await fetch() == PAGE


async def test_what_is_selected_stays_when_the_order_changes() -> None:
    """It is a container, not a line."""
    answers = [PAGE, PAGE.replace(b'container="web"} 3', b'container="web"} 30')]

    async def fetch() -> bytes:
        return answers.pop(0)

    live = Live(("test", fetch), "p")
    await live.look()
    assert [row.name for row in live.view().rows] == ["db", "web"]
    live.press("j")
    live.press("j")
    assert live.view().selected == 1
    live.press("n")
    await live.look()
    live.press("p")
    assert live.view().rows[live.view().selected].name == "web"
    for key in ("home", "end", "page up", "page down", "k", "?", "x"):
        live.press(key)
    assert not live.quit.is_set()
    live.press("q")
    assert live.quit.is_set()
    assert asyncio.Event is type(live.changed)


@pytest.mark.parametrize(
    ("raw", "keys", "rest"),
    [
        (b"qz", ["q", "z"], b""),
        (b"\x1b[A\x1bOB\x1b[6~n", ["up", "down", "page down", "n"], b""),
        (b"a\x1b[", ["a"], b"\x1b["),
        (b"\x1b", [], b"\x1b"),
        (b"\x1b[1;5C\x1b[Z", [], b""),
        (b"\x1bq", ["q"], b""),
        (b"\x1b[" + 40 * b"1", [], b""),
    ],
    ids=["letters", "arrows", "half", "escape", "others", "alt", "endless"],
)
def test_what_a_terminal_sends_is_keys(raw: bytes, keys: list[str], rest: bytes) -> None:
    """A sequence that comes in two pieces is one; what is not known is nothing."""
    assert keys_of(raw) == (keys, rest)


@given(st.lists(st.binary(max_size=8)))
def test_whatever_comes_in_whatever_pieces_is_the_same_keys(pieces: list[bytes]) -> None:
    """And nothing is raised."""
    rest, found = b"", []
    for piece in pieces:
        keys, rest = keys_of(rest + piece)
        found += keys
    assert (found, rest) == keys_of(b"".join(pieces)) or len(b"".join(pieces)) >= 32
