"""What all tests share."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a change of the page be accepted: its diff is then the review."""
    parser.addoption("--update-golden", action="store_true", help="write the golden pages of tests/nodes anew instead of comparing them")
