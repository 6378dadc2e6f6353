"""The colours of Grafana's dark theme."""

from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = {
    "green": "#73BF69",
    "yellow": "#FADE2A",
    "blue": "#5794F2",
    "orange": "#FF9830",
    "red": "#F2495C",
    "purple": "#B877D9",
}
PALETTE = (
    *COLOURS.values(),
    *("#37872D", "#E0B400", "#1F60C4", "#FA6400", "#C4162A", "#8F3BB8"),
    *("#C8F2C2", "#FFF899", "#C0D8FF", "#FFCB7D", "#FFA6B0", "#DEB6F2"),
)
"""`palette-classic`, as far as it is needed."""


def of_series(number: int) -> str:
    """Return the colour of the series with this number in a panel."""
    return PALETTE[number % len(PALETTE)]


def of_value(value: float, thresholds: Mapping[str, Any]) -> str:
    """Return the colour of the last step that the value has reached."""
    steps: Sequence[Mapping[str, Any]] = thresholds["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return COLOURS[reached[-1]]


def faint(colour: str, opacity: float) -> str:
    """Return it as CSS with this opacity, from 0 to 1."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
