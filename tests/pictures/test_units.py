"""Numbers are spelled as Grafana does."""

import pytest

from tests.pictures.units import plain, spell, ticks


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "short", "0"),
        (7, "short", "7"),
        (7.03, "short", "7.03"),
        (12.345, "short", "12.3"),
        (1234, "short", "1.23 K"),
        (32768, "short", "32.8 K"),
        (4194304, "short", "4.19 Mil"),
        (-1500, "short", "-1.50 K"),
        (0.0123, "short", "0.0123"),
        (0.5, "percentunit", "50%"),
        (0.9375, "percentunit", "93.8%"),
        (0, "bytes", "0 B"),
        (67108864, "bytes", "64 MiB"),
        (1610612736, "bytes", "1.50 GiB"),
        (1500, "Bps", "1.50 kB/s"),
        (12, "ops", "12 ops/s"),
        (0.25, "cps", "0.250 c/s"),
        (0, "s", "0 s"),
        (0.0213, "s", "21.3 ms"),
        (0.00005, "s", "50 µs"),
        (3e-9, "s", "3 ns"),
        (10, "s", "10 s"),
        (60, "s", "1 min"),
        (90, "s", "1.50 mins"),
        (5400, "s", "1.50 hours"),
        (86400, "s", "1 day"),
        (1209600, "s", "2 weeks"),
    ],
)
def test_a_number_has_three_digits_and_its_unit(value: float, unit: str, text: str) -> None:
    """Whole numbers have no more than they need."""
    assert spell(value, unit) == text


def test_decimals_may_be_given() -> None:
    """A panel of events has none."""
    assert (spell(7.03, "short", 0), spell(28767, "short", 0)) == ("7", "29 K")


def test_a_unit_that_nobody_can_spell_is_an_error() -> None:
    """And not a number without a unit."""
    with pytest.raises(ValueError, match="furlong"):
        spell(1, "furlong")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("0.500%", "0.5%"), ("1.50 mins", "1.5 mins"), ("1.00 K", "1 K"), ("50%", "50%"), ("100 c/s", "100 c/s"), ("0.0125", "0.0125")],
)
def test_an_axis_has_no_zeros_that_say_nothing(text: str, shown: str) -> None:
    """Those behind the decimal point."""
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("highest", "unit", "expected"),
    [
        (1.05, "percentunit", [0, 0.5, 1]),
        (24, "short", [0, 5, 10, 15, 20]),
        (96 << 20, "bytes", [0, 32 << 20, 64 << 20, 96 << 20]),
        (400, "s", [0, 120, 240, 360]),
        (0.03, "s", [0, 0.01, 0.02, 0.03]),
    ],
)
def test_ticks_are_round(highest: float, unit: str, expected: list[float]) -> None:
    """In the unit that they have: powers of two of bytes, and minutes."""
    assert ticks(highest, unit) == expected
