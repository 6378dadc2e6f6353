"""How a process ended, from its pidfd and from its zombie: of literals, and of real processes."""

import os
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel import pidfd
from collectors.kernel.pidfd import Info
from tests.tree import stat

ENDS = [("exit 0", 0), ("exit 3", 3 << 8), ("exit 137", 137 << 8), ("kill -9 $$", signal.SIGKILL), ("kill -15 $$", signal.SIGTERM)]
"""A shell's script, and its status as of wait(2)."""


@contextmanager
def watched(script: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Start a shell that runs a script when its input ends, with a pidfd of it."""
    process = subprocess.Popen(["/bin/sh", "-c", f"read -r line; {script}"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    fd = os.pidfd_open(process.pid)
    try:
        yield fd, process
    finally:
        process.stdin.close()
        process.wait()
        os.close(fd)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Let the script run, and wait until the process is a zombie, which stays."""
    assert process.stdin is not None
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def require_exit_status() -> None:
    """Skip, also in CI, where the kernel keeps no status."""
    with watched("exit 0") as (fd, process):
        end(process)
        process.wait()
        told = pidfd.info(fd)
    if told is None or told.exit_status is None:
        pytest.skip(f"PIDFD_INFO_EXIT needs Linux 6.15, this is {os.uname().release}")


def answer(*, mask: int, cgroup: int = 0, code: int = 0) -> bytes:
    """Spell a struct pidfd_info, as a kernel fills it in."""
    return struct.pack("=QQ11Ii", mask, cgroup, 7, 7, 1, *[0] * 8, code)


def test_only_what_the_mask_names_was_told() -> None:
    """Bit 0 (PID) is always there, 1 credentials, 2 cgroup, 3 exit."""
    assert pidfd.parse(answer(mask=15, cgroup=4242, code=768)) == Info(768, 4242, is_reaped=True)
    assert pidfd.parse(answer(mask=7, cgroup=4242, code=768)) == Info(None, 4242, is_reaped=False)
    assert pidfd.parse(answer(mask=9)) == Info(0, None, is_reaped=True)
    assert pidfd.parse(answer(mask=1)) == Info(None, None, is_reaped=False)


def test_an_answer_of_another_size_is_none() -> None:
    """A later kernel answers in the size that it is asked in."""
    with pytest.raises(struct.error):
        pidfd.parse(answer(mask=15) + bytes(8))


@pytest.mark.parametrize(("script", "status"), ENDS)
def test_the_status_is_there_after_the_process_was_waited_for(script: str, status: int) -> None:
    """As the one who waited got it, and without /proc."""
    require_exit_status()
    with watched(script) as (fd, process):
        assert pidfd.info(fd) == Info(None, pidfd.info(fd).cgroup_inode, is_reaped=False)  # type: ignore[union-attr] # it was asked before
        end(process)
        process.wait()
        told = pidfd.info(fd)

    assert told is not None
    assert (told.exit_status, told.is_reaped) == (status, True)


@pytest.mark.parametrize(("script", "status"), ENDS)
def test_a_zombie_says_the_same(script: str, status: int) -> None:
    """Before somebody waits for it; the living say nothing."""
    with watched(script) as (_, process):
        path = f"/proc/{process.pid}/stat"
        with open(path, "rb") as file:
            alive = file.read()
        assert pidfd.zombie_status(alive, is_permitted=True) is None
        assert pidfd.is_permitted(alive)
        end(process)
        with open(path, "rb") as file:
            assert pidfd.zombie_status(file.read(), is_permitted=True) == status


def test_what_is_no_pidfd_tells_nothing() -> None:
    """ENOTTY, as of a pidfd on an older kernel."""
    with open("/dev/null", "rb") as file:
        assert pidfd.info(file.fileno()) is None


def test_a_leader_whose_threads_live_on_has_not_ended() -> None:
    """It is in state Z all the same, and its status not that of the process."""
    assert pidfd.zombie_status(stat(7, state=b"Z", threads=2, exit_code=256), is_permitted=True) is None
    assert pidfd.zombie_status(stat(7, state=b"Z", threads=1, exit_code=256), is_permitted=True) == 256


def test_zero_is_believed_only_with_permission() -> None:
    """The kernel prints 0 for who may not ptrace it."""
    assert pidfd.zombie_status(stat(7, state=b"Z"), is_permitted=True) == 0
    assert pidfd.zombie_status(stat(7, state=b"Z"), is_permitted=False) is None
    assert pidfd.zombie_status(stat(7, state=b"Z", exit_code=9), is_permitted=False) == 9


@pytest.mark.parametrize(
    ("memory", "start_code", "may"),
    [(b"4096", b"1", False), (b"4096", b"94225411059712", True), (b"4096", b"0", True), (b"0", b"0", False)],
)
def test_permission_shows_in_the_address_of_the_code(memory: bytes, start_code: bytes, may: bool) -> None:
    """Which is 1 without it, 0 at the beginning of execve, and also of what has no memory any more."""
    fields = stat(7).split()
    fields[22], fields[25] = memory, start_code

    assert pidfd.is_permitted(b" ".join(fields) + b"\n") is may


def test_a_name_is_no_state() -> None:
    """It holds whatever the process likes."""
    assert pidfd.zombie_status(stat(7, comm=b"x) Z 1 (", state=b"S", exit_code=9), is_permitted=True) is None


@pytest.mark.parametrize("raw", [b"", b"7 (app", b"7 (app) Z", stat(7, state=b"Z")[:-1], stat(7, state=b"Z", exit_code=139)[:-2]])
def test_what_is_cut_short_is_no_status(raw: bytes) -> None:
    """139 cut to 13 would be another one."""
    with pytest.raises(ValueError, match=r"cut short|not found"):
        pidfd.zombie_status(raw, is_permitted=True)


@given(st.binary(max_size=200))
def test_anything_else_is_a_value_error(raw: bytes) -> None:
    """And nothing worse."""
    for text in (raw, b"7 (app) Z " + raw + b"\n"):
        try:
            pidfd.zombie_status(text, is_permitted=True)
            pidfd.is_permitted(text)
        except ValueError:
            continue
