"""What a web configuration asks for. How its file is read is in web_file.py, which few agents need: PyYAML holds 1 MiB."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are encrypted. Paths are absolute or relative to where the agent was started."""

    cert_file: str
    key_file: str
    client_ca_file: str
    """Empty: no client needs a certificate."""
    client_auth: ssl.VerifyMode
    allowed_sans: frozenset[str] | None
    """One of these must be a subject alternative name of a client's certificate. None: any will do."""
    min_version: ssl.TLSVersion
    max_version: ssl.TLSVersion
    ciphers: str
    """Of TLS 1.2, in OpenSSL's words. Empty: OpenSSL's own choice."""
    prefers_own_ciphers: bool


@dataclass(frozen=True, slots=True)
class WebFile:
    """The whole file."""

    tls: Tls | None
    """None: plain HTTP."""
    users: Mapping[str, bytes]
    """The bcrypt hash of each user's password. Empty: no password is asked for."""
    headers: Mapping[str, str]
    """Added to every response."""
