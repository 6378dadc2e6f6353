"""Web configurations and certificates for the tests of the endpoint."""

import textwrap
from pathlib import Path

import bcrypt
import trustme

SECRET_HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
"""Of the password `secret`, as cheap as can be."""


def web_file(directory: Path, text: str) -> str:
    """Write a web configuration; return its path."""
    path = directory / "web.yml"
    path.write_text(textwrap.dedent(text))
    return str(path)


def certify(directory: Path, name: str, authority: trustme.CA, *identities: str) -> trustme.LeafCert:
    """Write NAME.crt and NAME.key of a new certificate, signed by an authority."""
    leaf = authority.issue_cert(*(identities or ("localhost", "127.0.0.1")))
    leaf.private_key_pem.write_to_path(str(directory / f"{name}.key"))
    (directory / f"{name}.crt").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    return leaf
