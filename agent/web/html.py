"""Text that is HTML, and how other text becomes a part of it: escaped, whatever a container wrote into it. No library.

A template is an Html literal with %s in it; what is put in with % is escaped unless it is Html itself. Plain text that somebody forgot to
escape is therefore shown as it is and never obeyed, and nothing but Html is served (tests/agent/test_html.py holds both).
"""

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from html import escape as escape_markup
from pathlib import Path

from agent.cases_rows import visible

MOST = 2000
"""Characters of one text: a name that a container chose, or an error's words, may be of any length."""


class Html(str):
    """HTML. Made of a literal, or of others; never of text that is not known when the program is written."""

    __slots__ = ()

    def __mod__(self, values: object) -> "Html":
        """Put in one value, or a tuple of them, where the literal has %s."""
        parts = values if isinstance(values, tuple) else (values,)
        return Html(str.__mod__(self, tuple([escape(each) for each in parts])))


NOTHING = Html("")


def escape(value: object) -> Html:
    """Return it as text of HTML: what is markup is shown, and so is what cannot be printed or reorders the line."""
    if isinstance(value, Html):
        return value
    text = str(value)
    if len(text) > MOST:
        text = f"{text[:MOST]}..."
    return Html(escape_markup(text if text.isprintable() else visible(text)))


def join(parts: Iterable[object]) -> Html:
    """Put parts together, escaped as by escape()."""
    return Html("".join([escape(part) for part in parts]))


@cache
def asset(name: str) -> Html:
    """Return a file of agent/web/static, which is ours."""
    return Html(Path(__file__).parent.joinpath("static", name).read_text(encoding="utf-8"))


@cache
def policy() -> str:
    """Return the Content-Security-Policy of a page: its own style and script by their digests, its icon, and nothing else."""
    return (
        f"default-src 'none'; style-src {_digest('page.css')}; script-src {_digest('page.js')}; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(name: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()}'"
