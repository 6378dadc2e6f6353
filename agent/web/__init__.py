"""The HTTP side: routes and the pages for people. aiohttp is imported here, without what it brings and the agent does not use."""

import mimetypes
import os

# Its lists of signals are fast enough in Python: their C++ holds 1 MiB, most of it libstdc++.
os.environ.setdefault("FROZENLIST_NO_EXTENSIONS", "1")

# For files, which the agent does not serve, it would load the machine's list of their types, 400 KiB (/etc/mime.types of Debian).
mimetypes.knownfiles.clear()

# When it is imported its client loads all public certificate authorities, 2 MiB, for connections that bring no SSLContext of their own.
# Ours do; another one would trust nobody. The variable is OpenSSL's (SSL_CTX_set_default_verify_paths(3)).
_FILE = "SSL_CERT_FILE"
_before = os.environ.get(_FILE)
os.environ[_FILE] = os.devnull

import aiohttp.connector  # noqa: E402, F401 - for its effect, with this environment

if _before is None:
    del os.environ[_FILE]
else:
    os.environ[_FILE] = _before
