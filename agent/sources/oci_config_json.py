"""The annotations in the config.json of an OCI bundle, found in pieces of it: the rest is passed over, and never in memory as a whole.

The file holds the container's environment too: a namespace with 3,000 Services makes it larger than 1 MiB, and json.loads keeps the
interpreter lock from the first byte to the last. What is passed over is looked at only for where it ends, so that a text in it which
looks like annotations is not taken for them; what is kept is read as json.loads reads it.
"""

import codecs
import json
import re
from collections.abc import Callable, Collection, Generator, Mapping
from typing import TypeVar

MOST_BYTES = 16 << 20
"""A process starts with at most 2 MiB of arguments and environment unless its stack's limit is raised (execve(2)), and JSON may spell
them up to six times as long."""

_LONGEST_VALUE = 1024
"""Kubernetes' names have at most 253 characters, and images not many more."""

_LONGEST_SPELLING = 12 * _LONGEST_VALUE
r"""A character beyond the first 65,536 may be spelled as two of \uXXXX."""

_PIECE = 1 << 15
"""Bytes. Nearly every config.json fits in one, and looking through one takes some milliseconds at most, whatever is in it."""

_SPACE = re.compile(r"[ \t\n\r]*")
_IN_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_PLAIN = re.compile(r'[^\s",:\[\]{}]*')
_FLAT = re.compile(r'(?:"[^"\\]*(?:\\.[^"\\]*)*"|[^"\[\]{}]+)*', re.DOTALL)
"""Of an array or an object, what is neither: numbers, whole strings, and all between them."""
_CLOSING = {"{": "}", "[": "]"}

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that can be left alone for a while between two pieces of a file."""


class Unreadable(Exception):
    """A config.json that is not one, or not yet. The message holds nothing of its content."""


def read_annotations(read: Callable[[int], bytes], wanted: Collection[str]) -> Steps[Mapping[str, str]]:
    """Return the wanted annotations; "" for a value that is no text, or has more than 1,024 characters.

    `read` gives the document piece by piece, as os.read does of a file. Raises Unreadable if it is not one complete JSON object, as far
    as it was looked at.
    """
    text = _Text(read)
    found: dict[str, str] = {}
    more = yield from text.open_object()
    while more:
        key = yield from text.key()
        if key != "annotations":
            yield from text.skip()
        else:  # of several, json.loads takes the last
            found = yield from _texts(text, wanted)
        more = yield from text.goes_on()
    yield from text.end()
    return found


def _texts(text: "_Text", wanted: Collection[str]) -> Steps[dict[str, str]]:
    found: dict[str, str] = {}
    if (yield from text.next_mark()) != "{":
        yield from text.skip()
        return found
    more = yield from text.open_object()
    while more:
        key = yield from text.key()
        if key not in wanted:
            yield from text.skip()
        elif (yield from text.next_mark()) == '"':
            found[key] = yield from text.string()
        else:
            yield from text.skip()
            found[key] = ""
        more = yield from text.goes_on()
    return found


class _Text:
    """A JSON document, of which only the present piece is there."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._length = 0
        self._turn_ends = _PIECE
        self._text = ""
        self._at = 0
        self._is_whole = False

    def open_object(self) -> Steps[bool]:
        """Enter an object; true if it has a member."""
        yield from self._expect("{")
        if (yield from self.next_mark()) != "}":
            return True
        self._at += 1
        return False

    def key(self) -> Steps[str]:
        """Return the key of a member, and stand before its value; "" for one that is longer than any that is of interest."""
        key = yield from self.string()
        yield from self._expect(":")
        return key

    def goes_on(self) -> Steps[bool]:
        """Leave a member of an object; true if another one follows."""
        if (yield from self.next_mark()) == ",":
            self._at += 1
            return True
        yield from self._expect("}")
        return False

    def string(self) -> Steps[str]:
        """Return a string; "" for one that is longer than any that is of interest."""
        spelled = yield from self._spelled()
        if len(spelled) > _LONGEST_SPELLING:
            return ""
        try:
            value: str = json.loads(f'"{spelled}"')
        except ValueError:
            raise _incomplete() from None
        return value if len(value) <= _LONGEST_VALUE else ""

    def skip(self) -> Steps[None]:
        """Pass a value, whatever it is and however deep."""
        mark = yield from self.next_mark()
        if mark == '"':
            yield from self._spelled()
        elif mark in _CLOSING:
            yield from self._nested()
        else:
            yield from self._plain()

    def _nested(self) -> Steps[None]:
        """Pass an array or an object, with all that is in it."""
        awaited: list[str] = []
        while True:
            mark = self._text[self._at]
            if mark == '"':  # the one string that is not whole in this piece
                yield from self._spelled()
            else:
                self._at += 1
                if mark in _CLOSING:
                    awaited.append(_CLOSING[mark])
                elif mark != awaited.pop():
                    raise _incomplete()
            if not awaited:
                return
            while (end := _matched(_FLAT, self._text, self._at)) == len(self._text):
                self._at = end
                yield from self._need()
            self._at = end

    def end(self) -> Steps[None]:
        """Pass what is left, which must be space."""
        while not self._is_whole:
            self._at = _matched(_SPACE, self._text, self._at)
            if self._at < len(self._text):
                raise _incomplete()
            yield from self._more()

    def next_mark(self) -> Steps[str]:
        """Return the character that is next, space apart."""
        while True:
            self._at = _matched(_SPACE, self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            yield from self._need()

    def _expect(self, mark: str) -> Steps[None]:
        if (yield from self.next_mark()) != mark:
            raise _incomplete()
        self._at += 1

    def _spelled(self) -> Steps[str]:
        """Pass a string; return what is between its quotes, or as much of it as shows that it is too long."""
        yield from self._expect('"')
        spelled = ""
        while True:
            end = _matched(_IN_STRING, self._text, self._at)
            spelled += self._text[self._at : min(end, self._at + _LONGEST_SPELLING + 1 - len(spelled))]
            self._at = end
            if self._text[end : end + 1] == '"':
                self._at += 1
                return spelled
            yield from self._need()

    def _plain(self) -> Steps[None]:
        """Pass a number, true, false or null."""
        start = True
        while True:
            end = _matched(_PLAIN, self._text, self._at)
            if start and end == self._at:
                raise _incomplete()
            self._at, start = end, False
            if end < len(self._text):
                return
            yield from self._need()

    def _need(self) -> Steps[None]:
        """Read on, where the document cannot end."""
        yield from self._more()
        if self._is_whole:
            raise _incomplete()

    def _more(self) -> Steps[None]:
        """Read the next piece; let others have their turn before."""
        if self._length >= self._turn_ends:
            self._turn_ends = self._length + _PIECE
            yield
        piece = self._read(_PIECE)
        self._length += len(piece)
        if self._length > MOST_BYTES:
            raise too_large()
        self._is_whole = not piece
        try:
            self._text, self._at = self._text[self._at :] + self._decode(piece, self._is_whole), 0
        except UnicodeDecodeError:
            raise _incomplete() from None


def too_large() -> Unreadable:
    """Say why a document of more than MOST_BYTES is not read."""
    return Unreadable(f"config.json is larger than {MOST_BYTES >> 20} MiB")


def _incomplete() -> Unreadable:
    return Unreadable("config.json is not complete JSON")


def _matched(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return where a match of a pattern that matches everywhere ends."""
    match = pattern.match(text, start)
    return match.end() if match else start
