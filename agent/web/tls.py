"""The TLS of the endpoint: an SSLContext from what the web configuration asks for, and which clients it lets in."""

import ssl
from ipaddress import ip_address
from typing import Any

from agent.web.asked import Tls


def make_context(tls: Tls, problems: list[str]) -> ssl.SSLContext | None:
    """Read certificates and keys; None if that cannot be done, and why in the problems. Blocks for some milliseconds."""
    before = len(problems)
    for file in filter(None, (tls.cert_file, tls.key_file, tls.client_ca_file)):
        try:
            with open(file, "rb"):  # ssl does not say which it was
                pass
        except OSError as error:
            problems.append(f"cannot read {file}: {error.strerror}")
    if len(problems) > before:
        return None

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = tls.min_version, tls.max_version
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not tls.prefers_own_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        if tls.ciphers:
            context.set_ciphers(tls.ciphers)
        # Without `password` OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        problems.append(f"cannot use the certificate {tls.cert_file} with the key {tls.key_file}: {_why(error)}")
    if tls.client_ca_file:
        try:
            context.load_verify_locations(tls.client_ca_file)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            problems.append(f"cannot use the certificates in {tls.client_ca_file}: {_why(error)}")
        context.verify_mode = tls.client_auth
    return context if len(problems) == before else None


def is_allowed(certificate: dict[str, Any] | None, allowed: frozenset[str] | None) -> bool:
    """Tell whether a client may stay whose certificate, as getpeercert() gives it, was verified."""
    if allowed is None:
        return True
    return any(_plain(kind, name) in allowed for kind, name in (certificate or {}).get("subjectAltName", ()))


def _plain(kind: str, name: str) -> str:
    """Return a name as Go spells it; OpenSSL writes IPv6 addresses in full."""
    try:
        return str(ip_address(name.strip())) if kind == "IP Address" else name
    except ValueError:
        return name


def _no_password() -> str:
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    known = {
        "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
        "NO_START_LINE": "it is no PEM",
        "NO_CERTIFICATE_OR_CRL_FOUND": "there is none in it",
        "EE_KEY_TOO_SMALL": "its key is too small",
    }
    return known.get(reason or "", reason or getattr(error, "strerror", None) or str(error))
