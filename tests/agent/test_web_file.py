"""The web configuration: what of the exporter-toolkit's format is understood, and what is said of the rest."""

import ssl
from pathlib import Path

import pytest
import trustme
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.web.asked import WebFile
from agent.web.tls import is_allowed, make_context
from agent.web.web_file import _CIPHERS, read
from tests.agent.web_files import SECRET_HASH, certify, web_file

CERTIFICATE = "tls_server_config: {cert_file: a.crt, key_file: a.key"


def wrong(directory: Path, text: str) -> list[str]:
    """Return what is said of a web configuration, without its path."""
    problems: list[str] = []
    path = web_file(directory, text)
    read(path, problems)
    assert all(line.isprintable() for line in problems)
    return [line.replace(f"file {path}", "FILE") for line in problems]


def right(directory: Path, text: str) -> WebFile:
    """Return what a web configuration says that has nothing wrong."""
    problems: list[str] = []
    found = read(web_file(directory, text), problems)
    assert problems == []
    return found


def test_everything_that_is_supported(tmp_path: Path) -> None:
    """Paths are those beside the file, as the exporter-toolkit has it; names of ciphers are Go's."""
    found = right(
        tmp_path,
        f"""
        tls_server_config:
          cert_file: server.crt
          key_file: /etc/keys/server.key
          client_auth_type: RequireAndVerifyClientCert
          client_ca_file: ca.crt
          client_allowed_sans: [prometheus, 10.0.0.1]
          min_version: TLS12
          max_version: TLS12
          cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]
          prefer_server_cipher_suites: false
        http_server_config:
          http2: false
          headers:
            X-Frame-Options: deny
            X-Content-Type-Options: nosniff
            Strict-Transport-Security: max-age=31536000; includeSubDomains
            Content-Security-Policy: ""
        basic_auth_users:
          alice: {SECRET_HASH}
        """,
    )

    assert found.tls is not None
    assert (found.tls.cert_file, found.tls.key_file) == (f"{tmp_path}/server.crt", "/etc/keys/server.key")
    assert (found.tls.client_auth, found.tls.client_ca_file) == (ssl.CERT_REQUIRED, f"{tmp_path}/ca.crt")
    assert found.tls.allowed_sans == frozenset({"prometheus", "10.0.0.1"})
    assert (found.tls.min_version, found.tls.max_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    assert (found.tls.ciphers, found.tls.prefers_own_ciphers) == ("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305", False)
    assert found.users == {"alice": SECRET_HASH.encode()}
    assert list(found.headers) == ["X-Frame-Options", "X-Content-Type-Options", "Strict-Transport-Security"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "tls_server_config:\nbasic_auth_users:\n", "http_server_config: {headers: }"])
def test_nothing_asks_for_nothing(tmp_path: Path, text: str) -> None:
    """As with the exporter-toolkit."""
    assert right(tmp_path, text) == WebFile(tls=None, users={}, headers={})


def test_everything_wrong_is_said_at_once_and_no_secret_with_it(tmp_path: Path) -> None:
    """Each with its line."""
    assert wrong(
        tmp_path,
        """\
        tls_server: {}
        tls_server_config:
          cert_file: 1
          key: |
            secret
          client_auth_type: RequireAnyClientCert
          min_version: TLS10
          max_version: SSL3
          curve_preferences: [CurveP256]
          cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]
          client_allowed_sans: prometheus
        http_server_config:
          http2: maybe
          headers: {X-Frame-Options: allow, Server: x, "X-XSS-Protection": "1\\r\\nSet-Cookie: a"}
        basic_auth_users:
          alice: secret
          "a:b": secret
          alice: secret
        rate_limit: {interval: 1s}
        """,
    ) == [
        "FILE:1: unknown key 'tls_server'; see deploy/README.md",
        "FILE:19: rate_limit: not supported: it is not offered; how much a client can cost is bounded anyway",
        "FILE:13 http_server_config: http2: got str 'maybe', expected true or false",
        "FILE:14 http_server_config.headers: X-Frame-Options: got 'allow', expected deny or sameorigin",
        "FILE:14 http_server_config.headers: unknown key 'Server'; see deploy/README.md",
        "FILE:14 http_server_config.headers: X-XSS-Protection: got str '1\\r\\nSet-Cookie: a', expected text",
        "FILE:16 basic_auth_users: alice: expected a bcrypt hash, such as `htpasswd -nBC 10 USER` makes of a password",
        "FILE:17 basic_auth_users: got 'a:b', expected the name of a user, without a colon",
        "FILE:18 basic_auth_users: 'alice' is there twice",
        "FILE:3 tls_server_config: cert_file: got int '1', expected text",
        "FILE:4 tls_server_config: key: not supported: certificates and keys are read from files only: use cert_file, key_file and "
        "client_ca_file",
        "FILE:6 tls_server_config: client_auth_type: RequireAnyClientCert is not supported: Python's ssl takes no certificate that it does "
        "not verify, and one that nobody verifies protects nothing; use RequireAndVerifyClientCert",
        "FILE:7 tls_server_config: min_version: TLS10 is not supported: OpenSSL no longer allows it; use TLS12 or TLS13",
        "FILE:8 tls_server_config: max_version: got 'SSL3', expected TLS12 or TLS13",
        "FILE:9 tls_server_config: curve_preferences: not supported: Python's ssl cannot choose curves",
        f"FILE:10 tls_server_config: cipher_suites: got 'TLS_RSA_WITH_RC4_128_SHA', expected some of {', '.join(_CIPHERS)}",
        "FILE:11 tls_server_config: client_allowed_sans: got str 'prometheus', expected a list",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tls_server_config: {key_file: a.key}", "cert_file is missing"),
        ("tls_server_config: {min_version: TLS13}", "key_file is missing"),
        (CERTIFICATE + ", min_version: TLS13, max_version: TLS12}", "min_version is above max_version"),
        (CERTIFICATE + ", client_ca_file: ca.crt}", "client_ca_file has no effect without client_auth_type"),
        (CERTIFICATE + ", client_auth_type: VerifyClientCertIfGiven}", "client_auth_type needs client_ca_file"),
        (CERTIFICATE + ", client_allowed_sans: [a]}", "client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert"),
        ("- a", "expected keys with values"),
        ("basic_auth_users: $2y$10$abc", "expected keys with values"),
        ("basic_auth_users: {a: }", "expected a bcrypt hash"),
        ("a: [", "cannot parse FILE as YAML"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """A protection that has no effect is not one."""
    assert said in " ".join(wrong(tmp_path, text))


def test_a_file_that_is_not_there_is_said() -> None:
    """By its path."""
    problems: list[str] = []
    read("/nowhere/web.yml", problems)
    assert problems == ["cannot read file /nowhere/web.yml: No such file or directory"]


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
keys = st.sampled_from(["tls_server_config", "http_server_config", "basic_auth_users", "headers", "cert_file", "client_allowed_sans"])


@settings(max_examples=50)
@given(st.dictionaries(keys, trees | st.dictionaries(keys, trees)))
def test_any_file_is_answered(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    """With a configuration, or with problems of one line each."""
    wrong(tmp_path_factory.getbasetemp(), yaml.safe_dump(content))


def context_problems(directory: Path, more: str = "") -> list[str]:
    """Return what is said of certificates a.crt, a.key and, with `more`, others."""
    found = right(directory, CERTIFICATE + more + "}")
    problems: list[str] = []
    assert found.tls
    assert (make_context(found.tls, problems) is None) == bool(problems)
    return [line.replace(str(directory), "DIR") for line in problems]


def test_certificates_that_cannot_be_used_are_said(tmp_path: Path) -> None:
    """Which file, and why; a key with a password asks nobody at the terminal."""
    authority = trustme.CA()
    assert context_problems(tmp_path) == [
        "cannot read DIR/a.crt: No such file or directory",
        "cannot read DIR/a.key: No such file or directory",
    ]
    certify(tmp_path, "a", authority)
    assert context_problems(tmp_path) == []
    certify(tmp_path, "b", authority)
    (tmp_path / "a.key").write_bytes((tmp_path / "b.key").read_bytes())
    assert context_problems(tmp_path) == [
        "cannot use the certificate DIR/a.crt with the key DIR/a.key: the key is not that of the certificate"
    ]
    (tmp_path / "a.key").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n")
    assert len(context_problems(tmp_path)) == 1
    (tmp_path / "a.key").write_text("")
    (tmp_path / "ca.crt").write_text("no certificate\n")
    said = context_problems(tmp_path, ", client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert")
    assert len(said) == 2
    assert said[1].startswith("cannot use the certificates in DIR/ca.crt: ")


@pytest.mark.parametrize(
    ("names", "allowed", "may"),
    [
        ([], None, True),
        ([("DNS", "prometheus")], frozenset({"prometheus"}), True),
        ([("DNS", "prometheus.evil")], frozenset({"prometheus"}), False),
        ([("IP Address", "FD00:0:0:0:0:0:0:1")], frozenset({"fd00::1"}), True),
        ([("URI", "spiffe://a/b"), ("email", "a@b")], frozenset({"spiffe://a/b"}), True),
        ([("IP Address", "<invalid>")], frozenset({"10.0.0.1"}), False),
        ([], frozenset(), False),
    ],
)
def test_who_may_stay_by_the_names_of_a_certificate(names: list[tuple[str, str]], allowed: frozenset[str] | None, may: bool) -> None:
    """One exact match of any kind of name is enough, as in the exporter-toolkit."""
    assert is_allowed({"subjectAltName": tuple(names)}, allowed) is may
    assert is_allowed(None, frozenset({"a"})) is False
