"""What --web.config.file says, in the format of Prometheus' exporter-toolkit: TLS, users and headers of the endpoint.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What Python's ssl cannot do is refused and not
ignored: a file that asks for more protection than it gets is worse than one that is rejected.
"""

import os
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from agent.flags import hint
from agent.settings_file import composed, is_null, shown
from agent.web.asked import Tls, WebFile


class _Wrong(Exception):
    """A value that cannot be used; the message says what it is and what is allowed."""


Parser = Callable[[yaml.Node], Any]

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}

_CLIENT_AUTH = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_NOT_VERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")

_HEADERS = {
    "Content-Security-Policy": "",
    "X-Frame-Options": "deny|sameorigin",
    "X-Content-Type-Options": "nosniff",
    "X-XSS-Protection": "",
    "Strict-Transport-Security": "",
}
"""Those that may be set, and the values that are allowed; empty: any."""

_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")


def _ciphers() -> dict[str, str]:
    """Map Go's names of the suites of TLS 1.2 (https://pkg.go.dev/crypto/tls#CipherSuites) to OpenSSL's."""
    suites = {
        "AES_128_CBC_SHA": "AES128-SHA",
        "AES_256_CBC_SHA": "AES256-SHA",
        "AES_128_GCM_SHA256": "AES128-GCM-SHA256",
        "AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        "CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    }
    return {f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{ours}" for key in ("ECDSA", "RSA") for go, ours in suites.items()}


_CIPHERS = _ciphers() | dict.fromkeys(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"), "")
"""Those of TLS 1.3 cannot be chosen from, in Go neither."""


def read(path: str, problems: list[str]) -> WebFile:
    """Return what a file says. Adds what is wrong to `problems`; what is returned is then not to be used."""
    root = composed(path, problems)
    sections = {
        "tls_server_config": _as_it_is,
        "http_server_config": _as_it_is,
        "basic_auth_users": _as_it_is,
        "rate_limit": _refused("it is not offered; how much a client can cost is bounded anyway"),
    }
    found = _mapping(root, "", sections, path, problems) if root is not None else {}
    http = _mapping(found.get("http_server_config"), "http_server_config", {"http2": _switch, "headers": _as_it_is}, path, problems)
    header_parsers = {name: _header(allowed) for name, allowed in _HEADERS.items()}
    headers = _mapping(http.get("headers"), "http_server_config.headers", header_parsers, path, problems)
    users = _mapping(found.get("basic_auth_users"), "basic_auth_users", None, path, problems)
    return WebFile(
        tls=_tls(found.get("tls_server_config"), path, problems),
        users=users,
        headers={name: value for name, value in headers.items() if value},
    )


def _tls(node: yaml.Node | None, path: str, problems: list[str]) -> Tls | None:
    in_files = _refused("certificates and keys are read from files only: use cert_file, key_file and client_ca_file")
    parsers: dict[str, Parser] = {
        **dict.fromkeys(("cert", "key", "client_ca"), in_files),
        **dict.fromkeys(("cert_file", "key_file", "client_ca_file"), _text),
        "client_auth_type": _client_auth,
        "client_allowed_sans": _texts,
        **dict.fromkeys(("min_version", "max_version"), _version),
        "cipher_suites": _cipher_suites,
        "prefer_server_cipher_suites": _switch,
        "curve_preferences": _refused("Python's ssl cannot choose curves"),
    }
    before = len(problems)
    found = _mapping(node, "tls_server_config", parsers, path, problems)
    if not found:
        return None
    directory = os.path.dirname(path)
    cert, key, authority = (os.path.join(directory, name) if (name := found.get(each, "")) else "" for each in _FILES)
    low, high = found.get("min_version", ssl.TLSVersion.TLSv1_2), found.get("max_version", ssl.TLSVersion.TLSv1_3)
    auth = found.get("client_auth_type", ssl.CERT_NONE)
    sans = found.get("client_allowed_sans")
    if len(problems) == before:
        where = f"file {path} tls_server_config"
        problems += [f"{where}: {name} is missing" for name, file in (("cert_file", cert), ("key_file", key)) if not file]
        if low > high:
            problems.append(f"{where}: min_version is above max_version")
        if authority and auth == ssl.CERT_NONE:
            problems.append(f"{where}: client_ca_file has no effect without client_auth_type: RequireAndVerifyClientCert")
        if auth != ssl.CERT_NONE and not authority:
            problems.append(f"{where}: client_auth_type needs client_ca_file, the authority that clients are verified with")
        if sans is not None and auth != ssl.CERT_REQUIRED:
            problems.append(f"{where}: client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert")
    return Tls(
        cert_file=cert,
        key_file=key,
        client_ca_file=authority,
        client_auth=auth,
        allowed_sans=None if sans is None else frozenset(sans),
        min_version=low,
        max_version=high,
        ciphers=found.get("cipher_suites", ""),
        prefers_own_ciphers=found.get("prefer_server_cipher_suites", True),
    )


_FILES = ("cert_file", "key_file", "client_ca_file")


def _mapping(node: yaml.Node | None, name: str, parsers: Mapping[str, Parser] | None, path: str, problems: list[str]) -> dict[str, Any]:
    """Return the parsed values of a mapping's keys, without those that have none; no parsers: it is one of users to hashes."""
    if node is None or is_null(node):
        return {}
    if not isinstance(node, yaml.MappingNode):
        # Not what it is: a user's hash may stand in the wrong place.
        problems.append(f"file {path}:{node.start_mark.line + 1}{name and f' {name}'}: expected keys with values")
        return {}
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for key, value in node.value:
        where = f"file {path}:{key.start_mark.line + 1}{name and f' {name}'}"
        text = key.value if isinstance(key, yaml.ScalarNode) else shown(key)
        parser = _hash if parsers is None else parsers.get(text)
        if parser is None:
            problems.append(f"{where}: unknown key {text!r}; {hint(text, parsers or ()).replace('coroner --help', 'deploy/README.md')}")
        elif text in seen:
            problems.append(f"{where}: {text!r} is there twice")
        elif parsers is None and (not text or ":" in text or not text.isprintable()):
            problems.append(f"{where}: got {text!r}, expected the name of a user, without a colon")
        elif parsers is None or not is_null(value):
            try:
                values[text] = parser(value)
            except _Wrong as wrong:
                problems.append(f"{where}: {text if text.isprintable() else repr(text)}: {wrong}")
        seen.add(text)
    return values


def _as_it_is(node: yaml.Node) -> yaml.Node:
    return node


def _refused(why: str) -> Parser:
    def parse(_node: yaml.Node) -> None:
        raise _Wrong(f"not supported: {why}")

    return parse


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str" or not node.value.isprintable():
        raise _Wrong(f"got {shown(node)}, expected text")
    return str(node.value)


def _switch(node: yaml.Node) -> bool:
    if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:bool":
        raise _Wrong(f"got {shown(node)}, expected true or false")
    return node.value.lower() in ("true", "yes", "on")


def _texts(node: yaml.Node) -> list[str]:
    if not isinstance(node, yaml.SequenceNode):
        raise _Wrong(f"got {shown(node)}, expected a list")
    return [_text(item) for item in node.value]


def _client_auth(node: yaml.Node) -> ssl.VerifyMode:
    text = _text(node)
    if text in _NOT_VERIFIED:
        raise _Wrong(
            f"{text} is not supported: Python's ssl takes no certificate that it does not verify, and one that nobody verifies protects "
            "nothing; use RequireAndVerifyClientCert"
        )
    if text not in _CLIENT_AUTH:
        raise _Wrong(f"got {text!r}, expected NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert")
    return _CLIENT_AUTH[text]


def _version(node: yaml.Node) -> ssl.TLSVersion:
    text = _text(node)
    if text in ("TLS10", "TLS11"):
        raise _Wrong(f"{text} is not supported: OpenSSL no longer allows it; use TLS12 or TLS13")
    if text not in _VERSIONS:
        raise _Wrong(f"got {text!r}, expected TLS12 or TLS13")
    return _VERSIONS[text]


def _cipher_suites(node: yaml.Node) -> str:
    names = _texts(node)
    if unknown := [name for name in names if name not in _CIPHERS]:
        raise _Wrong(f"got {', '.join(map(repr, unknown))}, expected some of {', '.join(_CIPHERS)}")
    return ":".join(filter(None, (_CIPHERS[name] for name in names)))


def _header(allowed: str) -> Parser:
    def parse(node: yaml.Node) -> str:
        text = _text(node)
        # A line break would begin another header.
        if text and (not text.isascii() or not text.isprintable() or (allowed and text.lower() not in allowed.split("|"))):
            raise _Wrong(f"got {text!r}, expected {allowed.replace('|', ' or ') or 'one line of ASCII'}")
        return text

    return parse


def _hash(node: yaml.Node) -> bytes:
    if not isinstance(node, yaml.ScalarNode) or not _HASH.fullmatch(node.value):
        raise _Wrong("expected a bcrypt hash, such as `htpasswd -nBC 10 USER` makes of a password")  # and not what it got: a secret
    return str(node.value).encode()
