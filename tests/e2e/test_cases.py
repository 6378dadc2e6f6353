"""`coroner cases` as a process beside the agent that keeps the casebook."""

import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.casebook import Casebook
from collectors.inquest.verdict import Verdict
from collectors.kernel.container_id import ContainerKey

CORONER = f"{sys.prefix}/bin/coroner"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CORONER_", "PYTHON", "COLUMNS"))}
NAME = "\x1b[2Jweb"
EVIDENCE = "its init was ended by SIGKILL, says the kernel (reaped), and that is more than a terminal has columns"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Casebook]:
    """A casebook that is open, with one case in it."""
    book = Casebook(str(tmp_path), "/proc")
    book.open()
    verdict = Verdict(
        container=ContainerKey("4f" * 32), instance=1, cause="killed", ended=time.time(), exit_code=137, signal=9, evidence=(EVIDENCE,)
    )
    assert book.close_case(verdict, ("", "", NAME))
    yield book
    book.close()


def command(directory: Path, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run coroner cases until it ends."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    argv = [CORONER, "cases", f"--path.state={directory}", *arguments]
    return subprocess.run(argv, env=ENVIRONMENT, text=True, check=False, timeout=120, **options)


def files(directory: Path) -> dict[str, bytes]:
    """Return the files that SQLite keeps; not its index of the log in shared memory, in which readers take their place."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}


def test_the_cases_of_a_running_agent_are_read_and_left_alone(book: Casebook, tmp_path: Path) -> None:
    """As a table that nothing is cut from, as JSON, and in words."""
    before = files(tmp_path)
    listed, as_json, explained = (command(tmp_path, *argv) for argv in ([], ["--format", "json", "--since=1h"], ["--explain=1"]))

    for done in (listed, as_json, explained):
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
    assert listed.stdout.splitlines()[1].endswith(f"  {EVIDENCE}")
    assert json.loads(as_json.stdout) == {"verdicts": book.verdicts(10)}
    assert explained.stdout.startswith("Case 1: \\x1b[2Jweb, killed\n")
    assert files(tmp_path) == before


def test_on_a_terminal_a_line_fits(book: Casebook, tmp_path: Path) -> None:
    """As wide as the terminal says that it is."""
    main, terminal = os.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 110, 0, 0))
        done = command(tmp_path, stdout=terminal)
        said = os.read(main, 65536).decode().splitlines()
    finally:
        os.close(terminal)
        os.close(main)

    assert (done.returncode, done.stderr) == (0, "")
    assert [len(line) for line in said][1] == 110
    assert said[1].endswith("...")


def test_what_it_could_not_do_ends_with_1_and_what_was_wrong_with_2(tmp_path: Path) -> None:
    """Nothing on standard output either way, and no casebook is made."""
    without, wrong = command(tmp_path), command(tmp_path, "--since=yesterday", "--cause=bored")

    assert (without.returncode, without.stdout, without.stderr.count("\n")) == (1, "", 1)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 2)
    assert list(tmp_path.iterdir()) == []
