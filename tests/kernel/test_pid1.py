"""PID 1 of a namespace: its role by its name, and what becomes of a signal that is sent to it."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel.pid1 import Pid1, parse_pid1, signal_name


def status(
    name: str = "app", *, state: str = "S (sleeping)", threads: int = 1, blocked: int = 0, ignored: int = 0, caught: int = 0
) -> bytes:
    """Spell the lines that matter; masks are as 6.18 prints them."""
    return (
        f"Name:\t{name}\nUmask:\t0022\nState:\t{state}\nTgid:\t812\nNSpid:\t812\t1\nThreads:\t{threads}\nSigQ:\t2/96365\n"
        f"SigPnd:\t{0:016x}\nShdPnd:\t{0:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
    ).encode()


def handles(awaits: bool | None = False, number: int = signal.SIGTERM, raw: bytes | None = None) -> bool | None:
    """Whether a PID 1 with this status handles a signal; `awaits`: whether it sleeps until a signal comes."""
    return parse_pid1(status() if raw is None else raw).handles(number, {812: awaits}.__getitem__)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (status("bash", blocked=0x10000, ignored=0x6, caught=0x10000), False),
        (status("bash", blocked=0x10000, caught=0x14000), True),
        (status("bash", ignored=0x384004, caught=0x4B813EFB), False),
        (status("dash", ignored=0x1285004, caught=0x10002), False),
        (status("dumb-init", caught=0x7FFBFEFF), True),
        (status("catatonit", blocked=0x4000), True),
        (status("node", caught=0x100004602), None),
        (status("node", caught=0x100000602), False),
        (status("app", state="Z (zombie)", threads=3, caught=0x4000), True),
    ],
    ids=["shell", "trap", "interactive bash", "interactive dash", "dumb-init", "signalfd", "node", "node after SIGTERM", "dead leader"],
)
def test_masks_as_programs_have_them(raw: bytes, expected: bool | None) -> None:
    """Caught, blocked to be fetched, ignored, or left at the default; Node.js catches it either way. Masks are real ones."""
    assert handles(raw=raw) is expected


def test_what_waits_for_the_signal_shows_it_by_its_sleep_alone() -> None:
    """tini 0.19, and sigwait(3): no mask has it meanwhile."""
    raw = status("tini", ignored=0x300000)

    assert [handles(awaits, raw=raw) for awaits in (True, False)] == [True, False]


def test_where_that_cannot_be_told_only_a_known_init_and_a_shell_are_judged() -> None:
    """Whether an app waits for its signal is not known then; while it runs it does not."""
    assert handles(None) is None
    assert [handles(None, raw=status("tini", state=state)) for state in ("S (sleeping)", "R (running)")] == [True, True]
    assert handles(None, raw=status("sh")) is False
    assert handles(None, raw=status(state="R (running)")) is False
    assert handles(None, raw=status(ignored=0x4000)) is False


def test_the_signal_is_the_one_that_stops_it() -> None:
    """Catching another one is of no use; nothing handles SIGKILL, and nobody waits for it in vain."""
    raw = status(caught=1 << signal.SIGQUIT - 1)

    assert handles(number=signal.SIGQUIT, raw=raw) is True
    assert handles(number=signal.SIGTERM, raw=raw) is False
    assert handles(number=37, raw=status(blocked=1 << 36)) is True, "SIGRTMIN+3 of systemd"
    assert handles(number=signal.SIGKILL, raw=raw) is None


def test_a_kernel_without_the_lines_says_nothing() -> None:
    """Absent is not 0."""
    bare = b"Name:\tapp\nState:\tS (sleeping)\nNSpid:\t812\t1\n"

    assert handles(raw=bare) is None
    assert parse_pid1(bare).ignores_sigchld is None
    assert parse_pid1(bare).ignores_sigterm is None


def test_what_it_ignores() -> None:
    """SIGCHLD: the kernel reaps; SIGTERM: an interactive shell."""
    assert parse_pid1(status(ignored=0x10000)).ignores_sigchld is True
    assert parse_pid1(status(caught=0x10000)).ignores_sigchld is False
    assert parse_pid1(status(ignored=0x384004)).ignores_sigterm is True
    assert parse_pid1(status()).ignores_sigterm is False


def test_a_zombie_is_one_thread_that_has_ended() -> None:
    """Threads of a dead leader live on."""
    assert [parse_pid1(status(state="Z (zombie)", threads=threads)).is_zombie for threads in (1, 2)] == [True, False]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *[(name, "init") for name in ("tini", "dumb-init", "docker-init", "catatonit", "s6-svscan", "systemd", "runit", "supervisord")],
        *[(name, "shell") for name in ("sh", "bash", "dash", "ash", "busybox", "entry.sh", "docker-entrypoi")],
        *[(name, "app") for name in ("java", "sleep", "tini2", "shell", "TINI", "sh ", "", r"sh\n")],
    ],
)
def test_the_role_is_by_name(name: str, role: str) -> None:
    """Exactly; the kernel keeps 15 bytes of it."""
    assert parse_pid1(status(name)).role == role


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (3, "SIGQUIT"), (34, "SIGRTMIN"), (37, "SIGRTMIN+3"), (64, "SIGRTMAX")])
def test_signals_have_their_names(number: int, name: str) -> None:
    """As Docker spells them."""
    assert signal_name(number) == name


@given(st.binary(max_size=15).filter(lambda name: b"\0" not in name))
def test_a_name_cannot_forge_a_mask(name: bytes) -> None:
    """Whatever it calls itself."""
    raw = status("NAME", caught=0x4000).replace(b"NAME", name.replace(b"\\", rb"\\").replace(b"\n", rb"\n"), 1)
    found = parse_pid1(raw)

    assert (found.comm, found.pids, found.signals) == (name, (812, 1), (0, 0, 0x4000))


@given(st.binary(max_size=200))
def test_garbage_is_a_value_error_and_nothing_else(garbage: bytes) -> None:
    """Each line as such, and a whole file."""
    for raw in (garbage, status().replace(f"{0:016x}".encode(), garbage), status().replace(b"S (sleeping)", garbage)):
        try:
            found = parse_pid1(raw)
        except ValueError:
            continue
        assert isinstance(found, Pid1)
