"""What a process sleeps in, as wchan has it, and the stack where wchan is not to be believed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from collectors.kernel.files import ReadError
from collectors.kernel.sleeps import Sleeps
from tests.tree import forbid, tree

UML_STACK = "[<0>] schedule+0xc8/0x115\n[<0>] {}+0x13b/0x1a4\n[<0>] handle_syscall+0x79/0xa7\n"


def awaits(root: Path, wchan: str, *, kthreadd: str = "kthreadd", stack: str = "") -> bool | None:
    """Look at one process."""
    return Sleeps().awaits_signal(str(tree(root, {"812/wchan": wchan, "812/stack": stack, "2/wchan": kthreadd})), 812)


@pytest.mark.parametrize("wchan", ["do_sigtimedwait", "do_sigtimedwait.isra.0"])
def test_whoever_sleeps_in_sigtimedwait_waits_for_a_signal(tmp_path: Path, wchan: str) -> None:
    """As compilers name it."""
    assert awaits(tmp_path, wchan) is True


@pytest.mark.parametrize("wchan", ["hrtimer_nanosleep", "sigsuspend.isra.0", "poll_schedule_timeout.constprop.0"])
def test_whoever_sleeps_elsewhere_does_not(tmp_path: Path, wchan: str) -> None:
    """Its stack is not looked at."""
    assert awaits(tmp_path, wchan, stack=UML_STACK.format("do_sigtimedwait")) is False


@pytest.mark.parametrize("wchan", ["0", ""])
def test_of_whoever_runs_or_may_not_be_looked_at_nothing_is_known(tmp_path: Path, wchan: str) -> None:
    """The kernel writes 0 for both."""
    assert awaits(tmp_path, wchan) is None


def test_where_wchan_is_not_to_be_believed_the_stack_tells(tmp_path: Path) -> None:
    """User-mode Linux: kthreadd would be somewhere else, too. Whoever may not read the stack knows nothing."""
    assert awaits(tmp_path, "um_set_signals", kthreadd="block_signals", stack=UML_STACK.format("do_sigtimedwait")) is True
    assert awaits(tmp_path, "um_set_signals", kthreadd="block_signals", stack=UML_STACK.format("do_nanosleep")) is False
    assert awaits(tmp_path, "um_set_signals", kthreadd="block_signals") is None
    assert awaits(tmp_path, "hrtimer_nanosleep", kthreadd="0") is None, "kthreadd may not be looked at"


def test_whether_wchan_is_to_be_believed_is_found_out_once(tmp_path: Path) -> None:
    """As soon as kthreadd is seen asleep."""
    sleeps = Sleeps()
    files = {"812/wchan": "hrtimer_nanosleep", "812/stack": ""}
    tree(tmp_path, {**files, "2/wchan": "0"})
    assert sleeps.awaits_signal(str(tmp_path), 812) is None
    tree(tmp_path, {"2/wchan": "kthreadd"})
    assert sleeps.awaits_signal(str(tmp_path), 812) is False
    (tmp_path / "2" / "wchan").unlink()
    assert sleeps.awaits_signal(str(tmp_path), 812) is False


def test_a_process_that_has_ended_or_is_forbidden_says_nothing_and_a_failing_read_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: it is for the caller to find out."""
    sleeps = Sleeps()
    assert sleeps.awaits_signal(str(tmp_path), 4711) is None
    (tmp_path / "4711" / "wchan").mkdir(parents=True)
    with pytest.raises(ReadError):
        sleeps.awaits_signal(str(tmp_path), 4711)
    forbid(monkeypatch)
    assert sleeps.awaits_signal(str(tmp_path), 4711) is None


@pytest.mark.parametrize(("sleep", "expected"), [("signal.sigwait({10})", True), ("sys.stdin.read()", False)])
def test_this_kernel_says_who_waits_for_a_signal(sleep: str, expected: bool) -> None:
    """A real process: the test's own timeout ends it if the kernel never does."""
    code = f"import signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {{10}}); print(flush=True); {sleep}"
    sleeps = Sleeps()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while sleeps.awaits_signal("/proc", process.pid) is not expected:
            os.sched_yield()
        process.kill()
