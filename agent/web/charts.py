"""Charts of a container's last hour, as SVG: a line, its limit, and in words what it shows."""

import math
from collections.abc import Callable, Iterator, Sequence

from agent.history import POINTS, SECONDS, Series
from agent.web.html import NOTHING, Html, escape, join
from agent.web.parts import cores, count, size

_WIDTH, _HEIGHT = 320, 110
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 316, 18, 92
_GAP_SECONDS = 2.5 * SECONDS
"""Points further apart than this are not joined: nothing is known of the time between."""
_HOUR = (POINTS - 1) * SECONDS

Spell = Callable[[float | None], Html]

_CHARTS: tuple[tuple[str, str, Spell, str], ...] = (
    ("Memory", "memory_bytes", size, "memory_limit_bytes"),
    ("CPU, cores", "cpu_cores", cores, "cpu_limit_cores"),
    ("Threads", "threads", count, "threads_limit"),
    ("Zombies", "zombies", count, ""),
)
"""Title, level of the history, how its values are spelled, and the level that is its limit."""


def charts(series: Series, limits: Callable[[str], float | None], *, is_living: bool) -> Html:
    """Draw all charts of a container; `limits` gives the limit of a level, if it has one."""
    return Html('<div class="charts">%s</div>') % join(
        chart(title, series.times, series.levels[level], spell, limits(limit), is_living=is_living)
        for title, level, spell, limit in _CHARTS
    )


def chart(
    title: str, times: Sequence[float], values: Sequence[float], spell: Spell, limit: float | None = None, *, is_living: bool = True
) -> Html:
    """Draw one. The limit is drawn only if the line comes within sight of it."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return Html("<figure><figcaption>%s</figcaption><p><i>Nothing is known yet: there is a point a minute.</i></p></figure>") % title
    top = max(known)
    seen_limit = limit if limit is not None and limit <= 4 * top else None
    top = max(top, seen_limit or 0) * 1.05 or 1
    end = times[-1]

    def place(time: float, value: float) -> tuple[str, str]:
        x = _RIGHT - (end - time) / _HOUR * (_RIGHT - _LEFT)
        return f"{max(x, _LEFT):.1f}", f"{_BOTTOM - value / top * (_BOTTOM - _TOP):.1f}"

    when = Html("now") if is_living and math.isfinite(values[-1]) else Html("last")  # what has ended, or cannot be read, has no now
    said = Html("%s %s, highest %s, lowest %s") % (when, spell(known[-1]), spell(max(known)), spell(min(known)))
    line = (
        Html('<path class="limit" d="M%s %sH%s"/><text x="%s" y="%s">limit %s</text>')
        % (*(_LEFT, place(end, seen_limit)[1], _RIGHT, _LEFT, f"{float(place(end, seen_limit)[1]) - 3:.1f}", spell(seen_limit)),)
        if seen_limit is not None
        else NOTHING
    )
    return Html(
        '<figure><figcaption>%s <small>%s</small></figcaption><svg class="chart" viewBox="0 0 %s %s" role="img" aria-label="%s: %s">'
        '<path class="grid" d="M%s %sH%s"/>%s%s<text x="%s" y="106">1 h ago</text><text x="%s" y="106" text-anchor="end">now</text>'
        "</svg></figure>"
    ) % (*(title, said, _WIDTH, _HEIGHT, title, said), *(_LEFT, _BOTTOM, _RIGHT), line, join(_lines(times, values, place)), _LEFT, _RIGHT)


def _lines(times: Sequence[float], values: Sequence[float], place: Callable[[float, float], tuple[str, str]]) -> Iterator[Html]:
    """Yield a line for each stretch that is known without a gap, and a dot for a point that stands alone."""
    stretch: list[tuple[str, str]] = []
    last = -math.inf
    for time, value in zip(times, values, strict=True):
        if stretch and (not math.isfinite(value) or time - last > _GAP_SECONDS):
            yield _line(stretch)
            stretch = []
        if math.isfinite(value):
            stretch.append(place(time, value))
            last = time
    if stretch:
        yield _line(stretch)


def _line(points: Sequence[tuple[str, str]]) -> Html:
    if len(points) == 1:
        return Html('<circle cx="%s" cy="%s" r="2.5"/>') % points[0]
    return Html('<path class="line" d="M%s"/>') % escape("L".join(" ".join(point) for point in points))
