"""Basic authentication: who may ask. bcrypt is slow by intent, so it runs in a thread, one at a time, and what was right is remembered."""

import asyncio
import base64
import hashlib
import hmac
import os
from collections.abc import Mapping

MOST_REMEMBERED = 100

_MOST_PASSWORD_BYTES = 72
"""bcrypt looks at no more, and newer libraries refuse more; Go compares what it looks at."""


def credentials(header: str) -> tuple[str, bytes] | None:
    """Return user and password of an Authorization header (RFC 7617); None if it has none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except ValueError:
        return None


class Users:
    """Checks passwords."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._right: dict[bytes, None] = {}
        self._one_at_a_time = asyncio.Lock()

    async def may_ask(self, header: str, hashes: Mapping[str, bytes]) -> bool:
        """Tell whether the header has the password of one of the users. Whoever is unknown takes as long as one who is not."""
        given = credentials(header)
        if given is None:
            return False
        user, password = given
        known = hashes.get(user)
        # What is remembered is neither password nor hash: a digest with a key that ends with the process. The lengths keep the parts apart.
        parts = (user.encode(), known or b"", password)
        digest = hmac.new(self._key, b"".join(len(part).to_bytes(8, "big") + part for part in parts), hashlib.sha256).digest()
        if known is not None and digest in self._right:
            return True
        async with self._one_at_a_time:
            is_right = await asyncio.to_thread(_check, password, known or next(iter(hashes.values()))) and known is not None
        if is_right:
            if len(self._right) >= MOST_REMEMBERED:
                del self._right[next(iter(self._right))]
            self._right[digest] = None
        return is_right


def _check(password: bytes, known: bytes) -> bool:
    import bcrypt  # noqa: PLC0415 - few endpoints have users

    try:
        return bcrypt.checkpw(password[:_MOST_PASSWORD_BYTES], known)
    except ValueError:  # a password that bcrypt does not take, such as one with a NUL in older libraries
        return False
