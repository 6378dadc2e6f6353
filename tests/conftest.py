"""What all tests share."""

import pytest
from hypothesis import settings

# Machines are shared: a slow example is no failing one.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a change of the page be accepted: its diff is then the review; and let the README's picture be taken anew."""
    parser.addoption("--update-golden", action="store_true", help="write the golden pages of tests/nodes anew instead of comparing them")
    parser.addoption("--update-screenshots", action="store_true", help="take the picture in dashboards/pictures anew")
