"""The four formats of cgroup v2 files: literals in, numbers out, and never a cut number."""

import pytest

from collectors.kernel.formats import flat, lines, nested, single


@pytest.mark.parametrize(
    ("raw", "value"),
    [(b"0\n", 0), (b"1048576\n", 1048576), (b"9223372036854771712\n", 9223372036854771712), (b"max\n", None)],
)
def test_single(raw: bytes, value: int | None) -> None:
    """One number, or None for no limit."""
    assert single(raw) == value


@pytest.mark.parametrize("raw", [b"", b"\n", b"max", b"104", b"low 0\n", b"one\n", b"max 100000\n", b"1\n2\n", b"\xff\n"])
def test_single_refuses_what_is_cut_or_something_else(raw: bytes) -> None:
    """Without the newline it may be the beginning of a longer number."""
    with pytest.raises(ValueError, match=r"."):
        single(raw)


@pytest.mark.parametrize("number", [-1, 1 << 63, (1 << 64) - 4096, 10**30])
def test_a_counter_that_fell_below_0_is_refused(number: int) -> None:
    """The kernel prints pids.current as -1 then, memory.current and memory.events as 2^64 less that: no amount, and no count."""
    for parse in (lambda: single(b"%d\n" % number), lambda: flat(b"low 0\noom_kill %d\nmax 0\n" % number, known=b"low")):
        with pytest.raises(ValueError, match=r"negative or so large"):
            parse()


@pytest.mark.parametrize(
    ("raw", "complete"),
    [(b"", []), (b"a 1", []), (b"a 1\n", [b"a 1"]), (b"a 1\nb 2", [b"a 1"]), (b"a 1\nb 2\n", [b"a 1", b"b 2"])],
)
def test_lines_drops_what_follows_the_last_newline(raw: bytes, complete: list[bytes]) -> None:
    """A last line without a newline was cut short."""
    assert lines(raw) == complete


def test_flat() -> None:
    """All keys are kept, also those that only a newer kernel has."""
    assert flat(b"low 1\nhigh 22\nsock_throttled 3\n", known=b"low") == {b"low": 1, b"high": 22, b"sock_throttled": 3}


@pytest.mark.parametrize("raw", [b"", b"\n", b"low\n", b"low one\n", b"low 1 2\n", b"high 1\n", b"low 1", b"8:0 rbytes=1\n", b"\xff\n"])
def test_flat_refuses_another_file(raw: bytes) -> None:
    """Without the known key it is not the file that was asked for."""
    with pytest.raises(ValueError, match=r"."):
        flat(raw, known=b"low")


def test_nested() -> None:
    """Values stay bytes; a name without pairs is a name without values."""
    assert nested(b"8:0 rbytes=1 cost.usage=2\n8:16 \n") == {b"8:0": {b"rbytes": b"1", b"cost.usage": b"2"}, b"8:16": {}}
    assert nested(b"") == {}


@pytest.mark.parametrize("raw", [b"\n", b"low 0\n", b"8:0 rbytes\n"])
def test_nested_refuses_what_is_not_a_pair(raw: bytes) -> None:
    """A flat file is not a nested one."""
    with pytest.raises(ValueError, match=r"."):
        nested(raw)
