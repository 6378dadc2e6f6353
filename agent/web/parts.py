"""What all pages are made of: the frame around a page, amounts in words, bars, tables. Text in, Html out."""

import math
import platform
from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

from agent.cases_rows import span, utc
from agent.overview import spelled
from agent.web.html import NOTHING, Html, asset, escape, join
from collectors.inquest.kill_state import Labels
from collectors.inquest.stops import is_possible

UNKNOWN = Html("<i>unknown</i>")

_NEAR = 90
"""Per cent of a limit from which on a bar has the colour of trouble."""


def page(title: object, heading: object, body: Iterable[object], *, time: float) -> Html:
    """Put a whole page together; `time` is that of the pass. Links are relative: they work behind a proxy that adds a path, too."""
    return Html(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        "<link rel=\"icon\" href=\"data:image/svg+xml,%%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%%3E"
        "%%3Crect width='8' height='8' rx='2' fill='%%230b57a4'/%%3E%%3C/svg%%3E\">"
        '<title>%s</title><style>%s</style></head><body><a class="skip" href="#main">To the content</a>'
        '<header><h1>%s</h1><div class="tools"><button type="button" id="live" aria-pressed="false" hidden>Refresh by itself</button>'
        "<small>As of %s, %s</small></div></header>"
        '<main id="main">%s</main><script>%s</script></body></html>\n'
    ) % (title, asset("page.css"), heading, utc(time), platform.node(), join(body), asset("page.js"))


def address(labels: Labels) -> str:
    """Return the relative link to a container's page; what its labels are called when they are empty is left out."""
    names = zip(("namespace", "pod", "container"), labels, strict=True)
    return f"container?{urlencode({name: addressable(value) for name, value in names if value})}"


def addressable(label: str) -> str:
    """Return what a label is called in an address: surrogates, which JSON may hold and no URL can, become question marks."""
    return label.encode(errors="replace").decode()


def link(labels: Labels) -> Html:
    """Link to a container's page by its name."""
    return Html('<a href="%s">%s</a>') % (address(labels), spelled(labels) or "(no name)")


def size(amount: float | None) -> Html:
    """Spell an amount of bytes, such as 1.5 MiB."""
    if amount is None or not math.isfinite(amount):
        return UNKNOWN
    value, unit = amount, "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return Html("%s\N{NO-BREAK SPACE}%s") % (f"{value:.0f}" if unit == "B" or value >= 10 else f"{value:.1f}", unit)


def count(amount: float | None) -> Html:
    """Spell a whole number, such as 1,234."""
    return UNKNOWN if amount is None or not math.isfinite(amount) else escape(f"{amount:,.0f}")


def percent(share: float | None) -> Html:
    """Spell a share from 0 to 1 in per cent."""
    return UNKNOWN if share is None or not math.isfinite(share) else Html("%s\N{NO-BREAK SPACE}%%") % f"{share * 100:.0f}"


def cores(amount: float | None) -> Html:
    """Spell an amount of processors, with two decimals."""
    return UNKNOWN if amount is None or not math.isfinite(amount) else escape(f"{amount:.2f}")


def moment(time: object) -> Html:
    """Spell a time of the wall clock."""
    if not isinstance(time, int | float) or not is_possible(time):
        return UNKNOWN
    return Html('<time datetime="%s">%s</time>') % (utc(time), utc(time))


def ago(time: float | None, now: float) -> Html:
    """Spell how long before `now` a time was."""
    if time is None or not is_possible(time):
        return UNKNOWN
    return escape(f"{span(max(now - time, 0))} ago")


def bar(part: float | None, whole: float | None, inner: float | None = None, mark: float | None = None) -> Html:
    """Draw a part of a whole, an inner part of that, and a mark; nothing where either is not known. The text beside it says the same."""
    if part is None or not whole or not math.isfinite(part / whole):
        return NOTHING
    wide, narrow = (min(100, max(0, round(100 * each / whole))) for each in (part, part if inner is None else inner))
    near = Html(" n") if narrow >= _NEAR or (mark and part >= mark) else NOTHING
    outer = Html('<path class=k d="M0 0h%s"/>') % wide if wide > narrow else NOTHING
    line = Html('<path class=h d="M%s 0h1"/>') % min(99, round(100 * mark / whole)) if mark and mark < whole else NOTHING
    return Html('<svg class="m%s" viewBox="0 0 100 1" preserveAspectRatio=none aria-hidden=true>%s<path d="M0 0h%s"/>%s</svg>') % (
        near,
        outer,
        narrow,
        line,
    )


def table(caption: object, headings: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "plain") -> Html:
    """Make a table. The first cell of a row is its heading."""
    head = join(Html('<th scope="col">%s</th>') % heading for heading in headings)
    # Without the end tags that HTML does not need: there may be a thousand rows.
    body = join(Html("<tr><th scope=row>%s%s\n") % (first, join(Html("<td>%s") % cell for cell in rest)) for first, *rest in rows)
    return Html('<table class="%s"><caption>%s</caption><thead><tr>%s</tr></thead><tbody>\n%s</tbody></table>') % (
        kind,
        caption,
        head,
        body,
    )


def section(identifier: str, title: object, *body: object) -> Html:
    """Make a section with its heading."""
    return Html('<section aria-labelledby="%s"><h2 id="%s">%s</h2>%s</section>') % (identifier, identifier, title, join(body))


def badge(word: object, kind: str) -> Html:
    """Show a word in the colour of its kind (good, warning, critical, info); the word says it without the colour."""
    return Html('<b class="%s">%s</b>') % (kind, word)
