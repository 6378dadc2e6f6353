"""Numbers as Grafana spells them in the units that the dashboards use (grafana-data, valueFormats), and round numbers for an axis."""

import math
import re
from collections.abc import Mapping, Sequence

_COUNTS = ("", " K", " Mil", " Bil", " Tri")
_SCALED: Mapping[str, tuple[int, Sequence[str]]] = {
    "short": (1000, _COUNTS),
    "ops": (1000, [f"{count} ops/s" for count in _COUNTS]),
    "cps": (1000, [f"{count} c/s" for count in _COUNTS]),
    "Bps": (1000, [f" {prefix}B/s" for prefix in ("", "k", "M", "G", "T")]),
    "bytes": (1024, [f" {prefix}B" for prefix in ("", "Ki", "Mi", "Gi", "Ti")]),
}
"""Between how much the steps are, and what is written behind the number at each."""
_TIMES = (
    (1e-6, " ns", 1e-9),
    (1e-3, " µs", 1e-6),
    (1, " ms", 1e-3),
    (60, " s", 1),
    (3600, " min", 60),
    (86400, " hour", 3600),
    (604800, " day", 86400),
    (math.inf, " week", 604800),
)
"""Below so many seconds: this unit, and its seconds."""
_ROUND_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)


def spell(value: float, unit: str, decimals: int | None = None) -> str:
    """Return the number in this unit. Without `decimals` there are as many as make three digits, and none of a whole number."""
    if unit == "percentunit":
        return f"{fixed(value * 100, decimals)}%"
    if unit == "s":
        return _time(value, decimals)
    if unit not in _SCALED:
        raise ValueError(f"spell() in tests/pictures/units.py does not know the unit {unit!r}: add it")
    return _scaled(value, decimals, *_SCALED[unit])


def fixed(value: float, decimals: int | None) -> str:
    """Return the number with so many decimals, or with those that Grafana chooses."""
    value = float(f"{value:.10g}")
    if decimals is None:
        decimals = 0 if value == int(value) else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def plain(text: str) -> str:
    """Return a spelled number without the zeros at its end, as on an axis."""
    return re.sub(r"(\d)\.(\d*?)0+(?!\d)", lambda match: match[1] + (f".{match[2]}" if match[2] else ""), text)


def ticks(highest: float, unit: str, most: int = 5) -> list[float]:
    """Return round numbers from 0 to about `highest`, at most so many steps apart: powers of two for bytes, minutes and hours for time."""
    least = highest / most
    if unit == "bytes":
        step = 2.0 ** math.ceil(math.log2(least))
    elif unit == "s" and 1 < least <= _ROUND_TIMES[-1]:
        step = next(time for time in _ROUND_TIMES if time >= least)
    else:
        power = 10.0 ** math.floor(math.log10(least))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)
    return [round(step * number, 12) for number in range(math.floor(highest / step + 0.001) + 1)]


def _scaled(value: float, decimals: int | None, base: int, suffixes: Sequence[str]) -> str:
    step = 0
    while abs(value) >= base and step < len(suffixes) - 1:
        value /= base
        step += 1
    return fixed(value, decimals) + suffixes[step]


def _time(value: float, decimals: int | None) -> str:
    if value == 0:
        return "0 s"
    name, seconds = next((name, seconds) for below, name, seconds in _TIMES if abs(value) < below)
    plural = "s" if name in (" min", " hour", " day", " week") and abs(value / seconds) > 1 else ""
    return fixed(value / seconds, decimals) + name + plural
