"""What an exception means, in the words of the kernel or the system. The exception itself is for the log, not for a status page."""

from collections.abc import Iterator

from collectors.kernel.files import ReadError

UNEXPECTED = "the agent met what it was not made for: its log has the error, please report it"


def in_words(error: BaseException) -> str:
    """Return what the system said, from the first exception in the chain that knows; nothing if none does."""
    for each in _chain(error, set()):
        if isinstance(each, ReadError):
            return str(each)
        if isinstance(each, OSError) and each.errno and each.strerror:
            return f"{each.filename}: {each.strerror}" if each.filename else each.strerror
        if isinstance(each, TimeoutError):
            return "no answer in time"
    return ""


def _chain(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    """Yield an exception and those it was made of: HTTP libraries wrap each other's, as a cause, a context or an argument."""
    if id(error) in seen:
        return
    seen.add(id(error))
    yield error
    for inner in (error.__cause__, error.__context__, getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            yield from _chain(inner, seen)
