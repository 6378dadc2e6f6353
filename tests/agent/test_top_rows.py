"""`coroner top`: what it reads of a page, and in which order it shows it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.page import Page as Renderer
from agent.top_page import Page, Seen, read_page
from agent.top_rows import SORT_KEYS, SORTS, Row, in_order, printable, rows
from collectors.base import CONTAINER, Metric, counter, gauge
from tests.test_catalogue import COLLECTORS

WEB = ("shop", "web-0", "web")


def page(*lines: str, time: float = 0.0) -> Page:
    """Read a page of these lines, each without the prefix of a container's metric and with `@` for the labels of web."""
    text = "".join(f"coroner_{line}\n" for line in lines).replace("@", 'namespace="shop",pod="web-0",container="web"')
    return read_page(text.encode(), time)


def test_a_container_is_put_together_from_its_series() -> None:
    """Zombies are added up over their parents; comments and other metrics are nothing; a source that is down is said."""
    seen = page(
        "container_threads{@} 90",
        'container_zombies{@,parent="init"} 7',
        'container_zombies{@,parent="other"} 3',
        'container_memory_headroom_bytes{@,scope="pod"} 8e+06',
        "container_memory_peak_bytes{@} 1",
        'source_up{source="kmsg"} 0',
        'source_up{source="docker"} 1',
        'container_findings{@,finding="init-deaf",severity="critical"} 1',
        'finding_looked{finding="init-deaf"} 1',
        'node_findings{finding="pid-table",severity="warning"} 1',
    )

    assert dict(seen.containers) == {
        WEB: Seen({"threads": 90, "zombies": 10, "headroom": 8e6}, [("critical", "init-deaf")]),
    }
    assert (seen.blind, seen.findings, seen.says_findings) == (("kmsg",), (("warning", "pid-table"),), True)
    assert not page("container_threads{@} 1").says_findings


@pytest.mark.parametrize("line", ["container_threads{@} x", "container_threads{@}", "container_threads", "container_threads{@ 1"])
def test_a_line_that_is_not_as_documented_is_left_out(line: str) -> None:
    """The others are read."""
    assert [*page(line, 'container_threads{container="db"} 1').containers] == [("", "", "db")]


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")) | st.sampled_from('"\\{},= '), max_size=20))
def test_a_name_comes_back_from_the_page_as_it_was(name: str) -> None:
    """Quotes, backslashes, braces. Control characters are not on a page of ours."""
    threads = gauge("coroner_container_threads", "Help.")
    raw = Renderer().render([(threads, ("", "", name), 1.0)], openmetrics=False)

    assert [*read_page(raw, 0).containers] == [("", "", name)]


def test_every_metric_it_shows_is_one() -> None:
    """A rename would leave a column empty."""
    from agent.top_page import COUNTERS, LEVELS  # noqa: PLC0415 - only here

    declared: dict[str, Metric] = {metric.name: metric for collector in COLLECTORS for metric in collector.metrics}
    assert {*LEVELS, *COUNTERS} <= declared.keys()
    assert all(declared[name].labels[:3] == CONTAINER for name in (*LEVELS, *COUNTERS))
    assert counter("coroner_x_total", "Help.").kind == declared["coroner_container_cpu_usage_seconds_total"].kind


def test_counters_become_what_they_grew_by() -> None:
    """In cores, and as shares of the time and of the periods; the share of the nearest limit is what is not free of it."""
    lines = [
        "container_threads{@} 50",
        "container_threads_limit{@} 100",
        'container_memory_nearest_limit_bytes{@,scope="container"} 100',
        'container_memory_headroom_bytes{@,scope="container"} 25',
    ]
    names = ("cpu_usage_seconds", "cpu_cfs_periods", "cpu_cfs_throttled_periods", "pressure_memory_waiting_seconds")

    def counters(*values: float) -> list[str]:
        return [f"container_{name}_total{{@}} {value}" for name, value in zip(names, values, strict=True)]

    before, now = page(*lines, *counters(1, 10, 5, 2), time=100), page(*lines, *counters(4, 30, 10, 3), time=102)
    [row] = rows(now, before)
    assert (row.name, row.cpu, row.throttled, row.pressure) == ("shop/web-0/web", 1.5, 0.25, 0.5)
    assert (row.memory_share, row.threads_share) == (0.75, 0.5)

    [first], [reset] = rows(now, None), rows(before, Page(98, now.containers))
    assert {first.cpu, first.throttled, first.pressure, reset.cpu, reset.throttled} == {None}


def test_what_has_ended_is_no_row() -> None:
    """Its counters stay on the page for a while."""
    assert rows(page("container_oom_kills_total{@} 1"), None) == []


@pytest.mark.parametrize(
    "line",
    ["threads{@} 1", "memory_working_set_bytes{@} 1", 'zombies{@,parent="init"} 0', "frozen{@} 0"],
    ids=lambda line: line.split("{")[0],
)
def test_what_runs_is_a_row_whatever_the_node_lacks(line: str) -> None:
    """A hybrid host may have no pids controller in its v2 tree, and an agent no sight of /proc."""
    assert [each.name for each in rows(page(f"container_{line}"), None)] == ["shop/web-0/web"]


def row(name: str, **values: object) -> Row:
    """Make one."""
    return Row(name, **values)  # type: ignore[arg-type] # as given


def test_concern_is_the_worst_finding_then_what_is_fullest() -> None:
    """Then the name."""
    order = [
        row("critical", findings=(("critical", "init-deaf"),)),
        row("two-warnings", findings=(("warning", "a"), ("warning", "b"))),
        row("warning", findings=(("warning", "a"),), memory_share=0.99),
        row("info", findings=(("info", "a"),)),
        row("unheard-of", findings=(("loud", "a"),)),
        row("zombies", zombies=3.0),
        row("memory", memory_share=0.9, zombies=0.0),
        row("threads", threads=8.0, threads_limit=10.0),
        row("throttled", throttled=0.5),
        row("pressed", pressure=0.2),
        row("a"),
        row("b", zombies=0.0),
    ]
    assert [each.name for each in in_order(reversed(order), "c")] == [each.name for each in order]


@pytest.mark.parametrize(("key", "first"), [("u", "b"), ("m", "c"), ("p", "b"), ("z", "c"), ("t", "b"), ("w", "c"), ("n", "a")])
def test_each_key_sorts_by_its_column(key: str, first: str) -> None:
    """The greatest first; what is not known is last, and what is equal goes by name."""
    given_rows = [
        row("c", memory_share=0.5, zombies=2.0, pressure=0.1, cpu=0.0, threads=1.0),
        row("b", memory=9.0, memory_share=0.1, cpu=0.5, threads=2.0, throttled=0.1),
        row("a"),
    ]
    assert in_order(given_rows, key)[0].name == first
    last = {"u": "a", "m": "a", "p": "a"}.get(key)
    assert last in (None, in_order(given_rows, key)[-1].name)


def test_each_sort_has_a_key_that_is_no_other() -> None:
    """q, j and k are taken."""
    assert {*SORTS} == {*SORT_KEYS.values()}
    assert not {*SORTS} & {"q", "j", "k"}


@given(st.text())
def test_nothing_that_a_terminal_would_obey_is_printed(name: str) -> None:
    """Not what has no width or turns the direction of writing either."""
    assert printable(name).isprintable()
    assert printable("a\x1b[2J\u202eb\n") == "a\\x1b[2J\\u202eb\\x0a"
    assert printable("web") == "web"
