"""What a recording is after hours: what each kind of series does when it is played again."""

import pytest

from tests.nodes.pages import INTERVAL, played, recording

ONE, OTHER = "1" * 64, "2" * 64
HOURS = 8 * INTERVAL / 3600
"""Two rounds of four pages."""


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (["a_total 5", "a_total 7", "a_total 1", "a_total 4"], {"a_total{}": [5, 7, 1, 4, 4, 6, 1, 4]}),
        (['a_bucket{le="1"} 5', "", 'a_bucket{le="1"} 8', 'a_bucket{le="1"} 8'], {'a_bucket{le="1"}': [5, None, 8, 8, 8, None, 11, 11]}),
        (["", "a_total 0", "a_total 2", ""], {"a_total{}": [None, 0, 2, None, None, 0, 2, None]}),
        (["a 5", "a 7", "a 1", "a 4"], {"a{}": [5, 7, 1, 4, 5, 7, 1, 4]}),
        (["a_timestamp_seconds 90"] * 4, {"a_timestamp_seconds{}": [-10] * 8}),
        (
            ["", "a_timestamp_seconds 108", "a_timestamp_seconds 108", ""],
            {"a_timestamp_seconds{}": [None, 8, 8, None, None, 8 + 4 * INTERVAL, 8 + 4 * INTERVAL, None]},
        ),
        ([f'a{{id="{ONE}"}} 1'] * 4, {f'a{{id="{ONE}"}}': [1] * 8}),
        (
            [f'a{{id="{ONE}"}} 1', f'a{{id="{ONE}"}} 1', f'a{{id="{OTHER}"}} 1', f'a{{id="{OTHER}"}} 1'],
            {
                f'a{{id="{ONE}"}}': [1, 1, *[None] * 6],
                f'a{{id="{OTHER}"}}': [None, None, 1, 1, *[None] * 4],
                f'a{{id="{ONE[:-4]}0001"}}': [*[None] * 4, 1, 1, None, None],
                f'a{{id="{OTHER[:-4]}0001"}}': [*[None] * 6, 1, 1],
            },
        ),
        (
            ['a_total{pod="web-g0"} 3', 'a_total{pod="web-g0"} 4', 'a_total{pod="web-g1"} 0', 'a_total{pod="web-g1"} 2'],
            {
                'a_total{pod="web-g0"}': [3, 4, *[None] * 6],
                'a_total{pod="web-g1"}': [None, None, 0, 2, 2, 3, None, None],
                'a_total{pod="web-g2"}': [*[None] * 6, 0, 2],
            },
        ),
    ],
    ids=["counter", "not on a page", "born", "gauge", "old time", "new time", "id", "replaced", "generation"],
)
def test_a_series_goes_on(samples: list[str], expected: dict[str, list[float | None]]) -> None:
    """Without what it began with in each round."""
    pages = [f"{each}\n" if each else "" for each in samples]
    found = played(recording(pages, 100, ""), HOURS)
    assert {name: values for name, values in found.items() if not name.startswith("up{")} == expected


def test_what_comes_after_a_round_comes_once() -> None:
    """In the middle of three rounds of two pages."""
    pages = ["a_total 5\n", "a_total 7\n", "a_total 0\n"]
    found = played(recording(pages, 100, "", once=1), 6 * INTERVAL / 3600)
    assert found["a_total{}"] == [5, 7, 7, 9, 0, 0, 2]


def test_an_agent_that_does_not_answer_is_down() -> None:
    """The page without a sample."""
    assert recording(["a 1\n", ""], 100, 'job="coroner"').series == {'up{job="coroner"}': [1, 0], 'a{job="coroner"}': [1, None]}
