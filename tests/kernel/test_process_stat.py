"""/proc/PID/stat: literals as kernels print them, and names that look like the rest of it."""

from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collectors.kernel.process_stat import Past, Stat, parse_past, parse_stat
from tests.tree import stat

REAL_STATS = [
    (
        "5.10 init",
        b"1 (systemd) S 0 1 1 0 -1 4194560 40537 6924298 0 943 245 804 24044 5860 20 0 1 0 28 172371968 3202 18446744073709551615 1 1 0 0 "
        b"0 0 671173123 4096 1260 0 0 0 17 0 0 0 5 0 0 0 0 0 0 0 0 0 0\n",
        Stat(b"systemd", b"S", 0, 1, 28),
    ),
    (
        "7.2 zombie",
        b"4711 (sh) Z 4700 4711 4700 0 -1 4228108 131 0 0 0 0 0 0 0 20 0 1 0 1234567 0 0 18446744073709551615 0 0 0 0 0 0 0 4096 0 0 0 0 "
        b"17 1 0 0 0 0 0 0 0 0 0 0 0 0 256\n",
        Stat(b"sh", b"Z", 4700, 1, 1234567),
    ),
    (
        "kernel thread",
        b"35 (kworker/u4:0-events_unbound) I 2 0 0 0 -1 69238880 0 0 0 0 0 7 0 0 20 0 1 0 41 0 0 18446744073709551615 0 0 0 0 0 0 0 "
        b"2147483647 0 1 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
        Stat(b"kworker/u4:0-events_unbound", b"I", 2, 1, 41),
    ),
]

COMM = st.lists(st.integers(1, 255), max_size=15).map(bytes)


@pytest.mark.parametrize(("raw", "found"), [(raw, found) for _, raw, found in REAL_STATS], ids=[case[0] for case in REAL_STATS])
def test_stat(raw: bytes, found: Stat) -> None:
    """Real ones, of three kinds of process."""
    assert parse_stat(raw) == found


@settings(deadline=None)
@given(comm=COMM, parent=st.integers(0, 2**22), threads=st.integers(0, 2**22), start_time=st.integers(0, 2**63))
@example(comm=b"a) Z 1 (", parent=12, threads=34, start_time=56)
@example(comm=b"x) Z 1 1 1 1 1", parent=12, threads=34, start_time=56)
@example(comm=b"a\n1 (b) Z 2", parent=12, threads=34, start_time=56)
@example(comm=b")\xff) (", parent=12, threads=34, start_time=56)
@example(comm=b"", parent=12, threads=34, start_time=56)
def test_no_name_can_lie_about_its_process(comm: bytes, parent: int, threads: int, start_time: int) -> None:
    """Any bytes but NUL may be in a name, and it is printed raw."""
    raw = stat(77, comm=comm, state=b"S", parent=parent, threads=threads, start_time=start_time)

    assert parse_stat(raw) == Stat(comm, b"S", parent, threads, start_time)


@pytest.mark.parametrize("raw", [case[1] for case in REAL_STATS] + [stat(77, comm=b"a) Z 1 (", parent=12, threads=34, start_time=5678)])
def test_cut_stat_never_gives_a_wrong_number(raw: bytes) -> None:
    """Cut after any byte, it is the true one or an error."""
    for end in range(len(raw)):
        try:
            found = parse_stat(raw[:end])
        except ValueError:
            continue
        assert found == parse_stat(raw)


@settings(deadline=None)
@given(st.binary(max_size=80) | st.lists(st.sampled_from([b"1", b" ", b"(", b")", b"Z", b"x"]), max_size=80).map(b"".join))
def test_garbage_for_a_stat_is_a_value_error(raw: bytes) -> None:
    """Nothing else is raised."""
    with suppress(ValueError):
        parse_stat(raw)


@example(b") Z 1 (")
@given(st.binary(max_size=15).filter(lambda name: b"\0" not in name))
def test_the_past_of_a_process_is_in_its_stat(comm: bytes) -> None:
    """Its session, whether it has ever waited, and how it ended; a name changes none of them, and a cut file has none."""
    raw = stat(812, comm=comm, state=b"Z", session=800, child_faults=3, exit_code=256)

    assert parse_past(raw) == Past(session=800, has_waited=True, start_time=100, status=256)
    assert not parse_past(stat(812, comm=comm)).has_waited
    for end in range(len(raw)):
        with pytest.raises(ValueError, match=r"cut short|not found|invalid|list index"):
            parse_past(raw[:end])
