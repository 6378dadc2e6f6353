"""What runtimes write of how a container ended, literally, and what they never should have written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources.exit_formats import CriStatus, parse_conmon, parse_cri

CREATED, STARTED, FINISHED = 1_795_938_000_123_456_789, 1_795_938_001_000_000_000, 1_795_938_004_500_000_000

RUNNING = (
    b'{"Version":"v1","Pid":1234,"CreatedAt":1795938000123456789,"StartedAt":1795938001000000000,"FinishedAt":0,"ExitCode":0,'
    b'"Reason":"","Message":"","Resources":{"linux":{"cpu_shares":2}}}'
)
"""As containerd 1.6 has it."""


def status(**changes: object) -> bytes:
    """Spell the status of a container that has exited with 3."""
    return json.dumps(json.loads(RUNNING) | {"Pid": 0, "FinishedAt": FINISHED, "ExitCode": 3} | changes).encode()


def test_a_running_container_has_not_finished() -> None:
    """Its code is 0 then, which means nothing; a reason may be there already."""
    assert parse_cri(RUNNING) == CriStatus(CREATED / 1e9, STARTED / 1e9, None, 0, "")


def test_an_exited_container_has_a_code_and_a_time() -> None:
    """As the runtime's shim told it."""
    assert parse_cri(status()) == CriStatus(CREATED / 1e9, STARTED / 1e9, FINISHED / 1e9, 3, "")
    assert parse_cri(status(ExitCode=0, Reason="OOMKilled")).reason == "OOMKilled"


def test_a_container_that_never_started_has_no_time_of_that() -> None:
    """Go's time that was never set is long before 1970."""
    assert parse_cri(status(StartedAt=-6795364578871345152, ExitCode=128, Reason="StartError")).started is None


def test_a_code_that_containerd_has_made_up_is_none() -> None:
    """Its container ended while it was down."""
    assert parse_cri(status(ExitCode=255, Reason="Unknown")).code is None
    assert parse_cri(status(ExitCode=255)).code == 255


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        RUNNING[:-1],
        b"[]",
        b"3",
        b"\xff",
        b'{"Version":"v2"}',
        b"[" * 100_000,
        status(ExitCode="3"),
        status(ExitCode=True),
        status(ExitCode=-1),
        status(ExitCode=256),
        status(FinishedAt="yesterday"),
        status(FinishedAt=1.5),
        status(FinishedAt=1 << 63),
        status(Reason=None),
        status(Reason="x" * 65),
        status(Reason="a\nb"),
    ],
)
def test_what_containerd_would_not_write_is_malformed(raw: bytes) -> None:
    """All of it, also if only one field is wrong."""
    with pytest.raises(ValueError):  # noqa: PT011 - of the parser's own messages each is as good
        parse_cri(raw)


@pytest.mark.parametrize(("raw", "code"), [(b"0", 0), (b"3", 3), (b"137", 137), (b"255\n", 255), (b"-1", None)])
def test_conmon_writes_a_number(raw: bytes, code: int | None) -> None:
    """Without a newline; -1 is its word for not known."""
    assert parse_conmon(raw) == code


@pytest.mark.parametrize("raw", [b"", b"\n", b"1\n2", b"0x3", b" 3", b"3 ", b"256", b"-2", b"1" * 11, "٣".encode()])
def test_what_conmon_would_not_write_is_malformed(raw: bytes) -> None:
    """An empty file is one that is being written."""
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        parse_conmon(raw)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3)


@given(st.dictionaries(st.sampled_from(["CreatedAt", "StartedAt", "FinishedAt", "ExitCode", "Reason"]), JSON))
def test_any_json_is_a_status_or_a_value_error(changes: dict[str, object]) -> None:
    """And what is a status has values that can be true."""
    try:
        found = parse_cri(status(**changes))
    except ValueError:
        return
    assert found.code is None or 0 <= found.code <= 255
    assert all(time is None or 0 < time < 1e10 for time in (found.created, found.started, found.finished))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_a_value_error(raw: bytes) -> None:
    """And nothing worse."""
    for parse in (parse_cri, parse_conmon):
        try:
            parse(raw)
        except ValueError:
            continue
