"""What lists and events of Docker leave open, and when its silence about stops means something."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sources.docker_lives import MOST_DEAD, Lives, Look, age_of
from collectors.inquest.facts import Watched
from collectors.kernel.container_id import ContainerKey
from tests.tree import A, B

NOW = 1_767_225_600.0


def row(key: str, state: str, status: str | None = None) -> dict[str, Any]:
    """Spell one row of GET /containers/json."""
    return {"Id": key, "State": state, "Status": status}


def event(action: object, key: str = A, **attributes: object) -> dict[str, Any]:
    """Spell a line of GET /events."""
    return {"Action": action, "Actor": {"ID": key, "Attributes": attributes}}


def watched(key: ContainerKey, time: float) -> Watched:
    """Spell that stops are told."""
    return Watched(container=key, source="docker", time=time, kind="stops")


def connected(*, tells_stops: bool = True) -> Lives:
    """Make one of a daemon that has just been connected to."""
    lives = Lives()
    lives.connected(tells_stops=tells_stops)
    return lives


def test_the_first_list_asks_for_all_that_have_run() -> None:
    """What ended before the agent came may be news; one that was only created has no life."""
    lives = connected()
    follows = lives.listed([row(A, "running"), row(B, "exited"), row("c" * 64, "created")], NOW, is_gap=True)

    assert set(follows.looks) == {Look(A, 0.0), Look(B, 0.0)}
    assert (follows.watched, follows.passed_over) == ([watched(A, NOW)], 0)


def test_who_was_asked_for_is_not_asked_for_again() -> None:
    """Windows follow each other every minute."""
    lives = connected()
    rows = [row(A, "running"), row(B, "exited")]
    lives.listed(rows, NOW, is_gap=True)

    assert lives.listed(rows, NOW + 60, is_gap=False).looks == []
    assert lives.listed(rows, NOW + 120, is_gap=False).watched == []


def test_who_ended_in_a_gap_is_asked_for() -> None:
    """Whether it was alive before, or had ended and was started meanwhile, which its age tells; one that ended long ago is not."""
    lives = connected()
    lives.listed([row(A, "running"), row(B, "exited"), row("c" * 64, "exited")], NOW, is_gap=True)
    lives.connected(tells_stops=True)
    rows = [
        row(A, "exited", "Exited (0) 2 minutes ago"),
        row(B, "exited", "Exited (0) 30 seconds ago"),
        row("c" * 64, "exited", "Exited (0) 2 hours ago"),
    ]

    assert lives.listed(rows, NOW + 60, is_gap=True).looks == [Look(B, NOW), Look(A, NOW)]


def test_who_was_started_again_in_a_gap_is_asked_for() -> None:
    """Nobody tells of the death between, but that it is up for less long than nothing was heard."""
    lives = connected()
    lives.listed([row(A, "running", "Up 3 hours"), row(B, "running", "Up 3 hours")], NOW, is_gap=True)
    lives.connected(tells_stops=True)
    follows = lives.listed([row(A, "running", "Up 5 seconds (healthy)"), row(B, "running", "Up 3 hours")], NOW + 60, is_gap=True)

    assert follows.looks == [Look(A, NOW)]


def test_of_many_that_ended_the_latest_are_asked_for() -> None:
    """By their age; the rest are counted."""
    rows = [row(f"{number:064x}", "exited", f"Exited (0) {number} days ago") for number in range(2, MOST_DEAD + 52)]
    follows = connected().listed(reversed(rows), NOW, is_gap=True)

    assert [look.container for look in follows.looks] == [each["Id"] for each in rows[:MOST_DEAD]]
    assert follows.passed_over == 50


def test_a_life_is_watched_from_its_first_event_on() -> None:
    """It is told for each life, with one and the same time: a later one would say that there was a gap."""
    lives = connected()
    lives.listed([row(B, "exited")], NOW, is_gap=True)
    told = [fact for each in ("create", "start", "die", "start") for fact in lives.happened(event(each, exitCode="0"), NOW + 5)[0]]

    assert told == [watched(A, NOW + 5)] * 3
    assert list(lives.happened(event("start", B), NOW + 7)[0]) == [watched(B, NOW)], "it was listed"


def test_a_new_connection_is_a_gap() -> None:
    """What lives is watched from then on; what the daemon still remembers of before changes nothing of that."""
    lives = connected()
    lives.listed([row(A, "running")], NOW, is_gap=True)
    lives.connected(tells_stops=True)

    assert lives.listed([row(A, "running"), row(B, "paused")], NOW + 9, is_gap=True).watched == [watched(A, NOW + 9), watched(B, NOW + 9)]
    assert list(lives.happened(event("start"), NOW + 3)[0]) == [watched(A, NOW + 9)]


def test_a_window_that_ended_early_is_a_gap() -> None:
    """The daemon may have been restarted."""
    lives = connected()
    lives.listed([row(A, "running")], NOW, is_gap=True)

    assert lives.listed([row(A, "running")], NOW + 9, is_gap=True).watched == [watched(A, NOW + 9)]


def test_what_a_list_says_and_no_event_ever_does_is_a_gap() -> None:
    """An event that came with the list is none: only the next list knows that it did not."""
    lives = connected()
    lives.listed([row(A, "running"), row(B, "running")], NOW, is_gap=True)
    rows = [row(A, "running"), row(B, "exited")]

    assert lives.listed(rows, NOW + 60, is_gap=False).watched == []
    assert lives.listed(rows, NOW + 120, is_gap=False).watched == [watched(A, NOW + 120)]
    assert lives.listed(rows, NOW + 180, is_gap=False).watched == []


def test_an_event_that_comes_after_the_list_that_knew_is_no_gap() -> None:
    """The list is asked for when the events are subscribed to already."""
    lives = connected()
    lives.listed([row(A, "running"), row(B, "running")], NOW, is_gap=True)
    rows = [row(A, "running"), row(B, "exited")]
    lives.listed(rows, NOW + 60, is_gap=False)
    lives.happened(event("die", B, exitCode="0"), NOW + 60)

    assert lives.listed(rows, NOW + 120, is_gap=False).watched == []


def test_one_that_waits_to_be_started_again_is_no_contradiction() -> None:
    """Its end was told, and a list calls it alive."""
    lives = connected()
    lives.listed([row(A, "running")], NOW, is_gap=True)
    lives.happened(event("die", exitCode="1"), NOW + 1)
    for minutes in (1, 2):
        assert lives.listed([row(A, "restarting")], NOW + 60 * minutes, is_gap=False).watched == []
    assert lives.has_ended(A)


def test_what_does_not_tell_stops_is_not_watched() -> None:
    """Podman."""
    lives = connected(tells_stops=False)

    assert lives.listed([row(A, "running")], NOW, is_gap=True).watched == []
    assert lives.happened(event("start", B), NOW)[0] == ()


def test_who_is_never_restarted_is_not_asked_for_at_its_end() -> None:
    """Its event has the code, and all else is known; without a code it is asked for."""
    lives = connected()
    assert lives.happened(event("start"), NOW)[1] == Look(A)
    assert lives.happened(event("die", exitCode="3"), NOW)[1] == Look(A)
    lives.inspected({"Id": A, "HostConfig": {"RestartPolicy": {"Name": "no"}}})

    assert lives.happened(event("start"), NOW)[1] is None
    assert lives.happened(event("die", exitCode="3"), NOW)[1] is None
    assert lives.happened(event("die"), NOW)[1] == Look(A, 0.0)
    lives.happened(event("destroy"), NOW)
    assert lives.happened(event("die", exitCode="3"), NOW)[1] == Look(A)


@pytest.mark.parametrize("name", ["exitCode", "signal"])
@pytest.mark.parametrize("is_listed", [True, False])
def test_a_label_is_no_word_of_dockers(name: str, *, is_listed: bool) -> None:
    """It overwrites that, so there is none: the code is asked for, and not every stop is told as it was."""
    lives = connected()
    rows = [{**row(A, "running"), "Labels": {name: "0"}}, {**row(B, "running"), "Labels": {"com.example": "x"}}]
    told = list(lives.listed(rows, NOW, is_gap=True).watched) if is_listed else []
    for key, labels in ((A, {name: "0"}), (B, {})) if not is_listed else ():
        started = event("start", key, **labels, image="img:1")
        told += lives.happened(lives.believed(started), NOW)[0]
    assert told == [watched(B, NOW)]

    died = lives.believed(event("die", exitCode="0", signal="9", image="img:1"))
    assert died == event("die", image="img:1")
    assert lives.happened(died, NOW)[1] == Look(A, 0.0)
    other = event("die", B, exitCode="0", signal="9")
    assert lives.believed(other) == other


def test_a_label_is_no_word_of_dockers_of_one_that_was_removed_either() -> None:
    """A list comes before the events of the moment before it. It is forgotten with the list after that."""
    lives = connected()
    lives.happened(lives.believed(event("start", exitCode="0")), NOW)
    died = event("die", exitCode="0")
    for is_forgotten in (False, True):
        lives.listed([], NOW + 60, is_gap=False)
        assert (lives.believed(died) == died) is is_forgotten


def test_whether_it_has_ended_is_what_was_heard_last() -> None:
    """An inspection may be answered late."""
    lives = connected()
    for action, is_so in (("start", False), ("die", True), ("start", False), ("died", True), ("destroy", False)):
        lives.happened(event(action, exitCode="0"), NOW)
        assert lives.has_ended(A) is is_so


def test_what_was_removed_is_forgotten() -> None:
    """A thousand deaths a minute leave nothing behind, whether their events come or not."""
    lives = connected()
    for number in range(100):
        for action in ("create", "start", "die"):
            lives.happened(event(action, f"{number:064x}", exitCode="0"), NOW)
        lives.inspected({"Id": f"{number:064x}", "HostConfig": {"RestartPolicy": {"Name": "no"}}})
        if number % 2:
            lives.happened(event("destroy", f"{number:064x}"), NOW)
    lives.listed([row(A, "running")], NOW + 60, is_gap=False)

    assert (lives._ended, lives._looked, set(lives._watched), lives._never_restarted) == (set(), {A}, {A}, set())
    lives.inspected({"Id": B, "HostConfig": {"RestartPolicy": {"Name": "no"}}})
    assert not lives._never_restarted, "an answer that came late"


def test_a_clock_that_was_set_back_hides_no_death() -> None:
    """What was told lies in the future then."""
    lives = connected()
    lives.happened(event("start", B), NOW + 3600)
    lives.connected(tells_stops=True)
    follows = lives.listed([row(A, "exited", "Exited (0) 5 seconds ago")], NOW, is_gap=True)

    assert follows.looks == [Look(A, NOW)]


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        ("Up Less than a second", 0.0),
        ("Up 1 second", 1.0),
        ("Exited (137) 59 seconds ago", 59.0),
        ("Up About a minute (healthy)", 60.0),
        ("Restarting (1) 3 minutes ago", 180.0),
        ("Exited (0) About an hour ago", 1800.0),
        ("Up 3 hours (Paused)", 2.5 * 3600),
        ("Exited (0) 2 weeks ago", 14 * 86400 - 1800.0),
        *((each, None) for each in ("", "Created", "Dead", "Up", "Exited (1) later", "3 hours", None, 7, ["Up 1 second"])),
    ],
)
def test_an_age_is_at_least_what_a_list_says_in_words(status: object, seconds: float | None) -> None:
    """Docker rounds down, and hours to the nearest."""
    assert age_of(status) == seconds


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([A, B, "exited", "running", "start", "die", "Up 3 hours"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["ID", "Attributes", "exitCode"]), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(
    rows=st.lists(st.fixed_dictionaries({"Id": JSON, "State": JSON, "Status": JSON, "Labels": JSON})),
    events=st.lists(st.tuples(JSON, JSON, st.floats(0, 10**10))),
)
def test_nothing_raises_whatever_is_listed_or_happens(rows: list[dict[str, Any]], events: list[tuple[object, object, float]]) -> None:
    """It is data, of a daemon that may be another one than its address says."""
    lives = connected()
    for opened in (NOW, NOW + 60):
        follows = lives.listed(rows, opened, is_gap=False)
        assert {look.container for look in follows.looks} <= {A, B}
        for action, actor, time in events:
            for line in ({"Action": action, "Actor": actor}, event(action, A, exitCode=actor)):
                lives.happened(lives.believed(line), time)
