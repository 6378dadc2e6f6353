"""/proc/PID/status: each field as the kernel prints it, absent where it does not, and never that of a name that looks like a line."""

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collectors.kernel.process_status import Status, namespace_pids

STATUS = (
    b"Name:\ta\\nNSpid:\\t1\nUmask:\t0022\nState:\tZ (zombie)\nTgid:\t4711\nNgid:\t0\nPid:\t4711\nPPid:\t4700\nTracerPid:\t0\n"
    b"Uid:\t1000\t0\t0\t0\nNStgid:\t4711\t123\t17\nNSpid:\t4711\t123\t17\nNSpgid:\t4711\t12\t1\nNSsid:\t4700\t1\t1\nThreads:\t1\n"
    b"SigBlk:\t0000000000010000\nSigIgn:\t0000000000000006\nSigCgt:\t0000000000014000\n"
    b"CapEff:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"
)
FIELDS = (
    "process",
    "uid",
    "namespace_pids",
    "namespace_processes",
    "rss_kib",
    "swap_kib",
    "page_tables_kib",
    "state",
    "threads",
    "signals",
)
RESTRICTIONS = ("effective_capabilities", "no_new_privileges", "seccomp")


def test_each_field_is_that_of_its_line() -> None:
    """In KiB what is in kB; what a zombie does not have is None."""
    status = Status(STATUS + b"VmHWM:\t    1800 kB\nVmRSS:\t    1760 kB\nVmPTE:\t      48 kB\nVmSwap:\t       0 kB\n")

    assert [getattr(status, name) for name in FIELDS] == [
        *(4711, 1000, (4711, 123, 17), (4711, 123, 17), 1760, 0, 48, b"Z", 1, (0x10000, 0x6, 0x14000)),
    ]
    assert [getattr(status, name) for name in RESTRICTIONS] == [0xA80425FB, 1, 2]
    assert Status(STATUS).rss_kib is None
    old = Status(STATUS[: STATUS.index(b"CapEff")])
    assert [getattr(old, name) for name in RESTRICTIONS] == [None, None, None]
    thread = Status(STATUS.replace(b"NSpid:\t4711\t123\t17", b"NSpid:\t4712\t124\t18"))
    assert (thread.namespace_pids, thread.namespace_processes) == ((4712, 124, 18), (4711, 123, 17))


@pytest.mark.parametrize(
    ("raw", "pids"),
    [
        (STATUS, (4711, 123, 17)),
        (b"Name:\tsystemd\nNStgid:\t1\nNSpid:\t1\nNSpgid:\t1\n", (1,)),
        (b"Name:\tinit\nNSpid:\t812\t1\n", (812, 1)),
        (b"Name:\told\nPid:\t812\nThreads:\t1\n", ()),
    ],
    ids=["nested twice", "host", "init of a container", "before 4.1"],
)
def test_namespace_pids(raw: bytes, pids: tuple[int, ...]) -> None:
    """One number per namespace; the name of a process has its newlines escaped in this file."""
    assert namespace_pids(raw) == pids


@example(rb"\n")
@example(b"\\\n")
@example(rb"a\nb")
@given(st.binary(max_size=15).filter(lambda name: b"\0" not in name))
def test_a_name_is_what_the_process_chose_and_nothing_else(name: bytes) -> None:
    """The kernel escapes newline and backslash; a name that looks like a line of the file changes no number."""
    status = Status(STATUS.replace(rb"a\nNSpid:\t1", name.replace(b"\\", rb"\\").replace(b"\n", rb"\n"), 1))

    assert status.name == name
    assert status.namespace_pids == (4711, 123, 17)


def test_a_cut_status_never_gives_a_wrong_number() -> None:
    """Cut after any byte, each field is the true one, absent, or an error."""
    for end in range(len(STATUS)):
        for name in (*FIELDS, *RESTRICTIONS):
            with suppress(ValueError):
                assert getattr(Status(STATUS[:end]), name) in (None, (), getattr(Status(STATUS), name))


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"NSpid", b"NStgid", b"Tgid", b"Uid", b"VmRSS", b"VmSwap", b"VmPTE"]))
def test_garbage_for_a_status_is_a_value_error(raw: bytes, key: bytes) -> None:
    """Nothing else is raised."""
    for content in (raw, b"Name:\ta\n" + key + b":" + raw + b"\n"):
        for name in ("name", *FIELDS):
            with suppress(ValueError):
                getattr(Status(content), name)
