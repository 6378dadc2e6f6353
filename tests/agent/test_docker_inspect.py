"""What `docker inspect` says, as facts: stop signals as they are spelt, lives that no event told of, and what makes no sense."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources import Told
from agent.sources import docker_inspect as module
from agent.sources.docker_inspect import facts_of_container, image_of, is_never_restarted, is_restarting
from collectors.inquest.facts import Configured, Created, Exited, Fact, Started
from tests.tree import A

WALL = 1_800_000_000.0
NEW_YEAR = 1_767_225_600.0
WHO: dict[str, Any] = {"container": A, "source": "docker"}
ZERO = "0001-01-01T00:00:00Z"
ENDED = {"Status": "exited", "StartedAt": "2026-01-01T00:00:01.5Z", "FinishedAt": "2026-01-01T00:00:09.123456789Z", "ExitCode": 137}
KEYS = (
    *("Id", "State", "Config", "HostConfig", "Created", "Status", "StartedAt", "FinishedAt", "ExitCode", "OOMKilled", "Error"),
    *("StopSignal", "StopTimeout", "RestartPolicy", "Name", "Image"),
)
JUNK: tuple[object, ...] = (7, None, [], {}, "9" * 999)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([A, ZERO, "exited", "running", ENDED["StartedAt"]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


def inspected(state: object, **more: object) -> dict[str, Any]:
    """Spell what GET /containers/ID/json answers."""
    return {"Id": A, "Created": "2026-01-01T00:00:00Z", "State": state, **more}


def told(container: object, since: float | None = 0.0) -> list[Told]:
    """Return what an inspection tells."""
    return list(facts_of_container(container, wall=WALL, since=since))


@pytest.mark.parametrize(
    ("spelt", "number"),
    [
        *(
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigquit", 3),
            ("15", 15),
            ("9", 9),
            (10, 10),
            ("SIGUSR1", 10),
            ("SIGKILL", 9),
            ("SIGSTKFLT", 16),
        ),
        *(("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("rtmax", 64), ("64", 64), ("", 15), (None, 15)),
        *(("0", None), ("65", None), (0, None), (-9, None), (True, None), (15.0, None), ("RTMIN+31", None), ("RTMIN-1", None)),
        *(
            ("RTMIN+", None),
            ("RTMAX+1", None),
            ("_DFL", None),
            ("WINCHESTER", None),
            ("\u0661\u0665", None),
            ("9" * 99, None),
            ([15], None),
        ),
    ],
)
def test_a_stop_signal_is_its_number_however_it_is_spelt(spelt: object, number: int | None) -> None:
    """Docker sends SIGTERM where nobody has set one; what nobody understands is not known."""
    (fact,) = (each for each in told({"Id": A, "Config": {"StopSignal": spelt}}) if isinstance(each, Configured))

    assert fact.stop_signal == number


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, 10.0), (30, 30.0), (0, 0.0), (-1, None), ("30", None), (True, None), (1.5, None), (10**400, None), ([], None)],
)
def test_a_grace_is_ten_seconds_where_nobody_has_set_one(value: object, seconds: float | None) -> None:
    """-1 is for ever, and what makes no sense is not known."""
    assert told({"Id": A, "Config": {"StopTimeout": value}}) == [Configured(**WHO, time=WALL, stop_signal=15, stop_seconds=seconds)]


def test_what_was_configured_belongs_to_the_life_that_was_inspected() -> None:
    """It has the time at which that began, or the container was made."""
    for state, time in ((ENDED, NEW_YEAR + 1.5), ({"StartedAt": ZERO}, NEW_YEAR), (None, NEW_YEAR)):
        (fact,) = told(inspected(state, Config={}), since=None)
        assert fact == Configured(**WHO, time=time, stop_signal=15, stop_seconds=10.0)


def test_a_life_that_no_event_told_of_has_its_own_times() -> None:
    """To the microsecond, with the code; what events did tell is not told again."""
    assert told(inspected(ENDED)) == [
        Created(**WHO, time=NEW_YEAR),
        Started(**WHO, time=NEW_YEAR + 1.5),
        Exited(**WHO, time=NEW_YEAR + 9.123456, how="inspect", code=137),
    ]
    assert told(inspected(ENDED), since=None) == []


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"OOMKilled": True}, "OOMKilled"),
        ({"OOMKilled": False}, ""),
        ({"OOMKilled": "true"}, ""),
        ({"Error": "no such device"}, "no such device"),
        ({"OOMKilled": True, "Error": "x"}, "OOMKilled"),
        ({"Error": "x" * 1000}, "x" * 200),
        ({"Error": 7}, ""),
    ],
)
def test_what_docker_thinks_of_it_is_its_reason(more: dict[str, object], reason: str) -> None:
    """It says OOMKilled of whatever was killed in the container: an opinion."""
    (fact,) = (each for each in told(inspected(ENDED | more)) if isinstance(each, Exited))

    assert fact.reason == reason


@pytest.mark.parametrize("code", [None, "3", -1, 256, True, 3.0])
def test_a_code_that_makes_no_sense_is_not_known(code: object) -> None:
    """The end is, all the same."""
    assert told(inspected(ENDED | {"ExitCode": code}))[-1] == Exited(**WHO, time=NEW_YEAR + 9.123456, how="inspect")


def test_no_life_ends_before_it_began() -> None:
    """Docker's own times say so of a short one."""
    short = ENDED | {"FinishedAt": "2026-01-01T00:00:01.4Z"}

    assert [each.time for each in told(inspected(short)) if isinstance(each, Fact)] == [NEW_YEAR, NEW_YEAR + 1.5, NEW_YEAR + 1.5]


def test_of_one_that_was_started_again_the_end_of_the_life_before_is_left() -> None:
    """Without its code, which Docker has set to 0; and not if that was before events began to be told."""
    again = {"Status": "running", "StartedAt": "2026-01-01T00:01:00Z", "FinishedAt": "2026-01-01T00:00:59Z", "ExitCode": 0}
    lives = [Exited(**WHO, time=NEW_YEAR + 59, how="inspect"), Started(**WHO, time=NEW_YEAR + 60)]

    assert told(inspected(again), since=NEW_YEAR + 30) == [Created(**WHO, time=NEW_YEAR), *lives]
    assert told(inspected(again), since=NEW_YEAR + 70) == [Created(**WHO, time=NEW_YEAR)]
    for never in (ZERO, "2026-01-01T00:02:00Z", "then"):
        assert told(inspected(again | {"FinishedAt": never})) == [Created(**WHO, time=NEW_YEAR), lives[1]]


def test_one_that_waits_to_be_started_again_has_ended() -> None:
    """Its code is still that of its end."""
    container = inspected(ENDED | {"Status": "restarting"})

    assert is_restarting(container)
    assert told(container)[-1] == Exited(**WHO, time=NEW_YEAR + 9.123456, how="inspect", code=137)


def test_one_that_could_not_be_started_has_not_ended() -> None:
    """Docker gives it a code, 127, and no times."""
    never = {"Status": "created", "StartedAt": ZERO, "FinishedAt": ZERO, "ExitCode": 127, "Error": "exec: not found"}

    assert told(inspected(never)) == [Created(**WHO, time=NEW_YEAR)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T00:00:00.25Z", NEW_YEAR + 0.25),
        ("2026-01-01T02:00:00.250000001+02:00", NEW_YEAR + 0.25),
        *((each, None) for each in JUNK),
        *((each, None) for each in (ZERO, "", "yesterday", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00")),
    ],
)
def test_a_time_is_seconds_since_1970(text: object, seconds: float | None) -> None:
    """The year 1 is Go's word for never."""
    assert module._time(text) == seconds


@pytest.mark.parametrize(
    ("host", "is_so"),
    [
        ({"RestartPolicy": {"Name": "no"}}, True),
        ({"RestartPolicy": {"Name": ""}}, True),
        ({"RestartPolicy": {"Name": "always"}}, False),
        ({"RestartPolicy": {}}, False),
        ({"RestartPolicy": []}, False),
        *((each, False) for each in JUNK),
    ],
)
def test_whether_docker_starts_it_again_is_not_guessed(host: object, is_so: bool) -> None:
    """Where it does not say, it may."""
    assert is_never_restarted({"Id": A, "HostConfig": host}) is is_so


def test_the_image_is_spelt_as_when_the_container_was_made() -> None:
    """A list may have the digest alone."""
    container = {"Id": A, "Config": {"Image": "nginx:latest"}}

    assert image_of(container) == "nginx:latest"


@pytest.mark.parametrize("answer", [None, 7, "x", [], {}, {"Id": None}, {"Id": 7}, {"Id": "../etc"}, {"Id": [A]}, {"Id": A}])
def test_an_answer_that_is_none_tells_nothing(answer: object) -> None:
    """It says of whom it is, or it is of nobody."""
    assert told(answer) == []
    assert not is_restarting(answer)
    assert not is_never_restarted(answer)


@given(content=JSON, more=st.dictionaries(st.sampled_from(KEYS), JSON), since=st.none() | st.floats(allow_nan=False))
def test_no_inspection_raises_whatever_is_in_it(content: object, more: dict[str, object], since: float | None) -> None:
    """It is data, of a daemon that may be another one than its address says."""
    for container in (content, {**more, "Id": A}):
        for each in told(container, since):
            assert each.source == "docker"
            assert not isinstance(each, Fact) or 0 < each.time < 10**12
        assert isinstance(is_restarting(container), bool)
        assert isinstance(image_of(container), str)
