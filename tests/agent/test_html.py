"""Text becomes HTML only by being escaped, whatever it is and whoever forgets to think of it."""

import ast
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.web import html
from agent.web.html import MOST, Html, asset, escape, join

WEB = Path(html.__file__).parent


def test_what_is_put_in_is_escaped_and_html_is_not_escaped_again() -> None:
    """Also in an attribute, within either kind of quotes."""
    inner = Html("<b>%s</b>") % "<script>\"&'"

    assert inner == "<b>&lt;script&gt;&quot;&amp;&#x27;</b>"
    assert Html("<p>%s %s</p>") % (inner, 7) == f"<p>{inner} 7</p>"
    assert join([inner, "<i>"]) == f"{inner}&lt;i&gt;"


def test_what_is_put_together_as_text_is_text() -> None:
    """Who forgets to make HTML of it sees its tags on the page: that is a fault, but no hole."""
    assert Html("<p>%s</p>") % ("<b>" + Html("x")) == "<p>&lt;b&gt;x</p>"
    assert Html("<p>%s</p>") % f"<b>{Html('x')}" == "<p>&lt;b&gt;x</p>"


@given(st.text(st.characters(codec=None), max_size=50))
def test_any_text_is_shown_and_never_obeyed(text: str) -> None:
    """A parser finds one element with text; what cannot be printed, lone surrogates too, is spelled, so that every page can be encoded."""

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: list[str] = []
            self.text = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.append(tag)

        def handle_data(self, data: str) -> None:
            self.text += data

    reader = Reader()
    reader.feed((Html('<p title="%s">%s</p>') % (text, text)).encode().decode())
    reader.close()

    assert reader.tags == ["p"]
    assert reader.text.isprintable()
    assert not text.isprintable() or reader.text == text


def test_the_length_of_a_text_is_bounded() -> None:
    """A name may be of any length, and a page has a thousand."""
    assert len(escape("x" * 100_000)) <= MOST + 3


@pytest.mark.parametrize("path", sorted(WEB.glob("*.py")), ids=lambda path: path.name)
def test_html_is_made_of_literals(path: Path) -> None:
    """Nowhere but in html.py itself is text declared to be HTML that was not written by us."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Html"]
    loose = [node.lineno for node in made if not (len(node.args) == 1 and isinstance(node.args[0], ast.Constant))]

    assert not loose or path.name == "html.py", loose


@pytest.mark.parametrize("name", ["page.css", "page.js"])
def test_what_is_inside_of_a_page_does_not_end_its_element(name: str) -> None:
    """The browser takes everything up to the end tag, and the style fetches nothing."""
    assert "</" not in asset(name)
    assert "url(" not in asset(name)
    assert "@import" not in asset(name)
    assert "http" not in asset(name)
