"""What all tests share."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings

# Machines are shared: a slow example is no failing one.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a change of the page be accepted: its diff is then the review; and let the README's picture be taken anew."""
    parser.addoption("--update-golden", action="store_true", help="write the golden pages of tests/nodes anew instead of comparing them")
    parser.addoption("--update-screenshots", action="store_true", help="take the picture in dashboards/pictures anew")


@contextmanager
def without_privileges() -> Iterator[Path]:
    """Yield a directory of this process, which meanwhile is nobody that may pass over the modes of files."""
    user = os.geteuid()
    with TemporaryDirectory() as directory:
        if user == 0:
            os.chown(directory, _NOBODY, -1)
            os.seteuid(_NOBODY)
        try:
            yield Path(directory)
        finally:
            for path, names, _ in os.walk(directory):
                for name in names:
                    os.chmod(f"{path}/{name}", stat.S_IRWXU)
            os.seteuid(user)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Yield a directory of a process without privileges, which this one is for the test."""
    with without_privileges() as directory:
        yield directory


_NOBODY = 65534
