"""What Prometheus sees of a count that began between two of its scrapes."""

import pytest

from agent import zero_first
from agent.zero_first import MOST_SCRAPERS, ZeroFirst
from collectors.base import Sample
from collectors.cpu import USAGE
from collectors.memory import Memory
from collectors.oom import KILLS
from collectors.pids import FORK_FAILURES

WEB, DB = ("", "", "web"), ("", "", "db")
OTHER = Memory.metrics[0]


def shown(page: ZeroFirst, scraper: str, **kills: int) -> dict[str, float]:
    """Show a page with these counts."""
    samples: list[Sample] = [(KILLS, ("", "", name), value) for name, value in kills.items()]
    return {labels[2]: value for metric, labels, value in page.shown([*samples, (OTHER, WEB, 7)], scraper) if metric is KILLS}


def test_a_count_that_began_since_the_last_scrape_is_0_once() -> None:
    """It was 0 at that scrape, and is what it is at the next one."""
    page = ZeroFirst()
    assert shown(page, "prometheus", web=0) == {"web": 0}
    assert shown(page, "prometheus", web=3, db=1) == {"web": 3, "db": 0}
    assert shown(page, "prometheus", web=3, db=1) == {"web": 3, "db": 1}


def test_on_the_first_page_every_count_is_what_it_is() -> None:
    """The agent was started again: Prometheus knows these series."""
    assert shown(ZeroFirst(), "prometheus", web=3) == {"web": 3}


def test_each_scraper_gets_its_own_0() -> None:
    """A pair of them scrapes at different times; one that comes later has nothing to compare with."""
    page = ZeroFirst()
    for scraper in ("a", "b"):
        shown(page, scraper)
    assert shown(page, "a", web=1) == {"web": 0}
    assert shown(page, "a", web=1) == {"web": 1}
    assert shown(page, "b", web=2) == {"web": 0}
    assert shown(page, "b", web=2) == {"web": 2}
    assert shown(page, "c", web=2) == {"web": 2}


def test_a_reader_gets_the_count_as_it_is() -> None:
    """Whoever asks with curl wants to know now; that does not cost the scraper its 0."""
    page = ZeroFirst()
    shown(page, "prometheus")
    shown(page, "")
    assert shown(page, "", web=1) == {"web": 1}
    assert shown(page, "prometheus", web=1) == {"web": 0}
    assert shown(page, "prometheus", web=1) == {"web": 1}


def test_a_count_that_goes_on_alone_under_other_labels_never_falls() -> None:
    """Under those before it was added to that of another container."""
    page = ZeroFirst()
    shown(page, "prometheus", web=3)
    page.moved(WEB, DB)
    assert shown(page, "prometheus", web=2, db=1) == {"web": 2, "db": 1}
    assert shown(page, "prometheus", web=2, db=1) == {"web": 2, "db": 1}


def test_a_count_that_was_away_for_a_page_does_not_begin_at_0_again() -> None:
    """A collector that failed must not make the counter fall."""
    page = ZeroFirst()
    shown(page, "prometheus", web=0)
    shown(page, "prometheus", web=5)
    shown(page, "prometheus")
    assert shown(page, "prometheus", web=5) == {"web": 5}


def test_the_other_samples_are_untouched() -> None:
    """Only what the agent counts itself begins at 0."""
    page = ZeroFirst()
    page.shown([], "prometheus")
    assert [*page.shown([(OTHER, WEB, 7), (KILLS, DB, 7)], "prometheus")] == [(OTHER, WEB, 7), (KILLS, DB, 0)]


def test_what_is_remembered_is_bounded_and_never_makes_a_count_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that are gone are forgotten first, and the scraper that stayed away longest."""
    monkeypatch.setattr(zero_first, "MOST_CONTAINERS", 3)
    page = ZeroFirst()
    shown(page, "prometheus", web=0)
    for number in range(20):
        shown(page, "prometheus", web=number, **{f"job-{number}": 1})
        found = shown(page, "prometheus", web=number, **{f"job-{number}": 1})
        assert found == {"web": number, f"job-{number}": 1}
    assert len(page._first) <= 4

    for number in range(2 * MOST_SCRAPERS):
        shown(page, f"scraper-{number}", web=20)
    assert len(page._had) == MOST_SCRAPERS


def test_a_count_that_goes_on_under_another_name_does_not_begin_at_0_again() -> None:
    """The daemon came back late: what was counted under the id was seen, and rises no second time."""
    page = ZeroFirst()
    shown(page, "prometheus", aaaaaaaaaaaa=0)
    assert shown(page, "prometheus", aaaaaaaaaaaa=1) == {"aaaaaaaaaaaa": 1}
    page.moved(("", "", "aaaaaaaaaaaa"), WEB)
    assert shown(page, "prometheus", web=1) == {"web": 1}


def test_what_a_count_rose_by_when_it_moved_is_seen() -> None:
    """The kill came after the last page with the id, and the name before the next."""
    page = ZeroFirst()
    shown(page, "prometheus", aaaaaaaaaaaa=1)
    page.moved(("", "", "aaaaaaaaaaaa"), WEB)
    assert shown(page, "prometheus", web=3) == {"web": 1}
    assert shown(page, "prometheus", web=3) == {"web": 3}


def test_a_count_that_was_not_shown_before_it_moved_begins_at_0() -> None:
    """Nobody has seen it under its first name."""
    page = ZeroFirst()
    shown(page, "prometheus")
    page.moved(("", "", "aaaaaaaaaaaa"), WEB)
    assert shown(page, "prometheus", web=1) == {"web": 0}


def test_every_event_counter_of_a_new_container_is_0_once() -> None:
    """Forks that were refused, and events at the limits of memory: each of them; time and bytes are as they are."""
    page = ZeroFirst()
    page.shown([(FORK_FAILURES, DB, 7)], "prometheus")
    new: list[Sample] = [(metric, WEB, 5.0) for metric in (KILLS, FORK_FAILURES, *Memory.metrics, USAGE)]
    counted = {KILLS, FORK_FAILURES, *(metric for metric in Memory.metrics if metric.kind == "counter")}

    assert [*page.shown(new, "prometheus")] == [(metric, WEB, 0 if metric in counted else 5) for metric, _, _ in new]
    assert [*page.shown(new, "prometheus")] == new


def test_a_container_that_is_older_than_the_agent_is_not_new_when_it_gets_its_name() -> None:
    """Docker answers after the first scrape: of what the kernel counted in weeks nothing is a rise, but of what the agent has all is."""
    page = ZeroFirst()
    page.shown([], "prometheus")
    samples: list[Sample] = [(KILLS, WEB, 1), (FORK_FAILURES, WEB, 5000), (KILLS, DB, 1), (FORK_FAILURES, DB, 2)]

    assert [*page.shown(samples, "prometheus", {WEB})] == [
        (KILLS, WEB, 0),
        (KILLS, DB, 0),
        (FORK_FAILURES, WEB, 5000),
        (FORK_FAILURES, DB, 0),
    ]


def test_a_counter_that_could_not_be_read_before_is_not_that_of_a_new_container() -> None:
    """The container was on the page: what its kernel counted since its birth is no rise."""
    page = ZeroFirst()
    page.shown([(KILLS, WEB, 0)], "prometheus")

    assert [*page.shown([(KILLS, WEB, 0), (FORK_FAILURES, WEB, 900)], "prometheus")] == [(KILLS, WEB, 0), (FORK_FAILURES, WEB, 900)]
