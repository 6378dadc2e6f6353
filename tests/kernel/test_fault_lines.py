"""Lines of the kernel log about faults: those of real kernels are understood, and no name and no process can forge one."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.kernel.fault_lines import Fault, concerns_fault, fault_of, looks_like_fault
from collectors.kernel.kmsg import parse_record

SEGFAULT = b": segfault at 0 ip 00007f6575585ad8 sp 00007ffd537e5118 error 4 in libc.so.6[167ad8,7f6575444000+156000]"
CPU = b" likely on CPU 1 (core 1, socket 0)"


def fault(text: bytes, prefix: int = 6, flag: bytes = b"-") -> Fault | None:
    """Read one line."""
    return fault_of(parse_record(b"%d,340,660522620,%b;%b\n" % (prefix, flag, text)))


@pytest.mark.parametrize(
    ("text", "pid", "comm", "signal"),
    [
        pytest.param(b"segv[9916]" + SEGFAULT + CPU, 9916, b"segv", 11, id="6.18, captured"),
        pytest.param(
            b"traps: ud[9918] trap invalid opcode ip:7ffb2d50c000 sp:7ffd800cc008 error:0 in dev/zero[0,7ffb2d50c000+1000]",
            9918,
            b"ud",
            4,
            id="6.18 invalid opcode, captured",
        ),
        pytest.param(
            b"traps: int3[9920] trap int3 ip:7efc5d6ef001 sp:7fff2a77e7a8 error:0 in dev/zero[1,7efc5d6ef000+1000]",
            9920,
            b"int3",
            5,
            id="6.18 int3, captured",
        ),
        pytest.param(
            b"traps: gp[9922] general protection fault ip:7ff6f6a6a000 sp:7ffc60db9fb8 error:0 in dev/zero[0,7ff6f6a6a000+1000]",
            9922,
            b"gp",
            11,
            id="6.18 general protection, captured; abort() of PID 1 ends so",
        ),
        pytest.param(
            b"traps: div[9924] trap divide error ip:7f3a7f55f002 sp:7ffcfbd4e358 error:0 in dev/zero[2,7f3a7f55f000+1000]",
            9924,
            b"div",
            8,
            id="6.18 divide error, captured",
        ),
        pytest.param(
            b"initns[704]: segfault at 0 ip 0000000040761ad8 sp 0000007fbff95348 error 4 in libc.so.6[40620000+156000]",
            704,
            b"initns",
            11,
            id="user-mode Linux 6.1, init of a PID namespace, captured",
        ),
        pytest.param(
            b"gp[701]: segfault at 40bab6c0 ip 00000000405f8000 sp 0000007fbff673c8 error 0 in zero (deleted)[405f8000+1000]",
            701,
            b"gp",
            11,
            id="a file that was removed, captured",
        ),
        pytest.param(
            b"x[12]: segfault at 0 ip           (null) sp 00007ffd537e5118 error 14 in x[400000+1000]", 12, b"x", 11, id="4.14, ip 0"
        ),
        pytest.param(b"traps: x[12] general protection ip:4005 sp:7ffd error:0 in x[400000+1000]", 12, b"x", 11, id="up to 5.4"),
        pytest.param(b"traps: x[12] trap a new one ip:4005 sp:7ffd error:0", 12, b"x", None, id="a trap that is not known"),
        pytest.param(
            b"x[12] control protection ip:4005 sp:7ffd ssp:7ff7 error:1(near ret) in x[400000+1000]", 12, b"x", 11, id="shadow stack, 6.6"
        ),
        pytest.param(
            b"pidfd_test[1082142]: unhandled exception: SP Alignment, ESR 0x000000009a000000, SP/PC alignment exception in "
            b"pidfd_test[400000+4000]",
            1082142,
            b"pidfd_test",
            None,
            id="arm64 6.6, published on linux-kselftest",
        ),
        pytest.param(
            b"syscall[300]: unhandled exception: ERET/ERETAA/ERETAB, ESR 0x68000000, Oops - bad compat syscall(2) in syscall[10000+50000]",
            300,
            b"syscall",
            None,
            id="arm64 5.18, from the kernel's history",
        ),
    ],
)
def test_a_line_of_a_real_kernel_is_understood(text: bytes, pid: int, comm: bytes, signal: int | None) -> None:
    """Who it was, and which signal follows where that is told."""
    assert fault(text) == Fault(pid, comm, signal, text)
    assert looks_like_fault(text)
    assert concerns_fault(text)


@pytest.mark.parametrize(
    "comm",
    [
        b"x]: segfault at",
        b"[1]: segfault a",
        b"traps: a[1] tra",
        b"a\nb[1] trap i",
        b"] control prote",
        b"[2] a ip:0 sp:0",
        b"a[3]:",
        b"",
        b"\xff[",
    ],
)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", SEGFAULT),
        (b"", SEGFAULT + CPU),
        (b"traps: ", b" trap invalid opcode ip:7f44 sp:7ffc error:0 in a[1]: segfault at 0 ip 0 sp 0 error 4 in x[0,7f44+1000]"),
        (b"", b" control protection ip:4005 sp:7ffd ssp:7ff7 error:1(near ret)"),
        (b"", b": unhandled exception: DABT (lower EL), ESR 0x92000051, level 3 translation fault in x[400000+1000]"),
    ],
)
def test_a_name_that_looks_like_a_line_misleads_nobody(before: bytes, after: bytes, comm: bytes) -> None:
    """It has 15 bytes, and the line is read from both ends."""
    read = fault(before + comm.replace(b"\n", rb"\x0a") + b"[9926]" + after)

    assert read is not None
    assert (read.pid, read.comm) == (9926, comm)


@given(st.binary(max_size=15), st.integers(1, (1 << 31) - 1), st.booleans(), st.binary(max_size=60))
@example(b"[1]: segfault at", 7, False, b"")
def test_whatever_a_thread_and_its_file_are_called(comm: bytes, pid: int, is_trap: bool, file: bytes) -> None:
    """The number is the kernel's."""
    comm = comm[:15]
    where = b" in " + file + b"[0,7f44+1000]"
    text = (
        b"traps: %b[%d] trap int3 ip:7f sp:7f error:0" % (comm, pid)
        if is_trap
        else b"%b[%d]: segfault at 0 ip 7f sp 7f error 4" % (comm, pid)
    )
    escaped = b"".join(b"\\x%02x" % each if each < 0x20 or each >= 0x7F or each == 0x5C else bytes((each,)) for each in text + where)
    read = fault(escaped)

    assert read is not None
    assert (read.pid, read.comm, read.signal) == (pid, comm, 5 if is_trap else 11)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        pytest.param(b"x[12]" + SEGFAULT, 12, id="written by a process"),
        pytest.param(b"x[12]" + SEGFAULT, 3, id="at the level of what mount(2) is told"),
        pytest.param(b"x[12]" + SEGFAULT + b": Can't open blockdev", 6, id="more behind it"),
        pytest.param(b"x[12]: unhandled exception: y: Can't open blockdev", 6, id="the same, as on arm64"),
        pytest.param(b"a name of 16 byt[12]" + SEGFAULT, 6, id="no name is so long"),
        pytest.param(b"x[12]: segfault at 0 ip", 6, id="cut"),
        pytest.param(b"x[0]" + SEGFAULT, 6, id="nobody's number"),
        pytest.param(b"x[4294967295]" + SEGFAULT, 6, id="no number of a process"),
        pytest.param(b"show_signal: 3 callbacks suppressed", 4, id="left out by the kernel"),
        pytest.param(b"traps: PANIC: double fault, error_code: 0x0", 0, id="the kernel's own"),
    ],
)
def test_what_is_no_line_of_the_kernel_about_a_fault_is_none(text: bytes, prefix: int) -> None:
    """Better none than one that somebody made up."""
    assert fault(text, prefix) is None


def test_a_continuation_is_no_line() -> None:
    """It begins with whatever was printed in pieces."""
    assert fault(b"x[12]" + SEGFAULT, flag=b"c") is None


def test_the_end_of_a_line_may_be_missing() -> None:
    """Another CPU printed in between, and the file is in a record of its own."""
    read = fault(b"x[12]: segfault at 10 ip 00007f65 sp 00007ffd error 6")

    assert read is not None
    assert (read.pid, read.signal) == (12, 11)
    assert fault(b" in libc.so.6[167ad8,7f6575444000+156000]", flag=b"c") is None


@given(st.binary(max_size=200))
def test_any_other_text_is_none(text: bytes) -> None:
    """And raises nothing."""
    assert looks_like_fault(text) is False
