"""What protects the endpoint now: the web configuration and its certificates, read again when one of the files has changed.

A file that is half written, or wrong, changes nothing and is logged. Nor does one that no longer asks for what was asked for at the start:
an empty file is what a half-written one looks like.
"""

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass

from agent.web.asked import WebFile
from agent.web.tls import make_context

log = logging.getLogger(__name__)

Signature = tuple[tuple[int, ...], ...]
"""What changes when a file does."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The web configuration, and what was made of it."""

    file: WebFile
    context: ssl.SSLContext | None
    """None: plain HTTP."""


UNPROTECTED = Loaded(WebFile(tls=None, users={}, headers={}), None)


def load(path: str, problems: list[str]) -> Loaded:
    """Read a web configuration, and all that it names; an empty path asks for nothing. Adds what is wrong to `problems`."""
    if not path:
        return UNPROTECTED
    from agent.web.web_file import read  # noqa: PLC0415 - PyYAML holds 1 MiB, and few agents have a file

    before = len(problems)
    file = read(path, problems)
    return Loaded(file, make_context(file.tls, problems) if file.tls and len(problems) == before else None)


def check(path: str, problems: list[str]) -> None:
    """Add what is wrong with a web configuration, and with the certificates that it names."""
    load(path, problems)


class Protection:
    """Follows the files of a web configuration. They are looked at when somebody comes: four stat(2), and nothing in between."""

    def __init__(self, path: str, problems: list[str]) -> None:
        """Read it for the first time; what is wrong is added to `problems`, and it is then not to be used."""
        self.reason = ""
        """Why what is on disk is not used; empty: it is."""
        self._path = path
        self._files: tuple[str, ...] = (path,) if path else ()
        self.loaded, self._seen = self._read(problems)
        """The first: what holds now, without a look at the files."""
        self._reading = asyncio.Lock()

    async def current(self) -> Loaded:
        """Return what holds for a connection or a request that begins now."""
        if self._reading.locked() or _signature(self._files) == self._seen:
            return self.loaded
        async with self._reading:
            problems: list[str] = []
            fresh, self._seen = await asyncio.to_thread(self._read, problems)
            if not problems and ((self.loaded.file.tls and not fresh.file.tls) or (self.loaded.file.users and not fresh.file.users)):
                problems.append(f"{self._path} no longer asks for TLS, or for passwords; only a restart takes protection away")
            self.reason = "; ".join(problems)
            if problems:
                log.error("the web configuration has changed and cannot be used, the one before holds", extra={"reason": self.reason})
            else:
                self.loaded = fresh
                log.info("web configuration read again", extra={"path": self._path})
        return self.loaded

    def _read(self, problems: list[str]) -> tuple[Loaded, Signature]:
        """Read all files. The signature is from before: what is written meanwhile is read again."""
        seen = _signature(self._files)
        loaded = load(self._path, problems)
        tls = loaded.file.tls
        named = (self._path, tls.cert_file, tls.key_file, tls.client_ca_file) if tls else (self._path,)
        if (files := tuple(filter(None, named))) == self._files:
            return loaded, seen
        self._files = files
        problems.clear()
        return self._read(problems)


def _signature(files: tuple[str, ...]) -> Signature:
    return tuple(_stat(file) for file in files)


def _stat(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
