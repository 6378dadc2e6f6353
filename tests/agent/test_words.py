"""What exceptions are called where a person reads it."""

import errno
from collections.abc import Callable

import pytest

from agent.words import in_words
from collectors.kernel.files import Forbidden


def raised(make: Callable[[], object]) -> BaseException:
    """Return what a call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        make()
    return caught.value


def wrapped() -> None:
    """Raise as HTTP libraries do: an errno as an argument of an argument, and no cause."""
    raise RuntimeError(ValueError("Connection aborted.", ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Forbidden("/proc/1/stat", "Permission denied: run as root"), "/proc/1/stat: Permission denied: run as root"),
        (raised(lambda: open("/nowhere/file")), "/nowhere/file: No such file or directory"),  # noqa: SIM115 - it cannot be opened
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (raised(wrapped), "Connection refused"),
        (TimeoutError("timed out"), "no answer in time"),
        (ValueError("<b>"), ""),
        (OSError("only text"), ""),
    ],
)
def test_the_system_is_quoted_and_no_class_of_python(error: BaseException, words: str) -> None:
    """What has no words of the system has none: the log has it."""
    assert in_words(error) == words


def test_a_chain_that_ends_in_itself_is_not_followed_for_ever() -> None:
    """Anything can be an argument."""
    error = ValueError()
    error.args = (error,)

    assert in_words(error) == ""
