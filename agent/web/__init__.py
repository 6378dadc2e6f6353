"""The HTTP side: routes and the status page."""

import os

# aiohttp's lists of signals are fast enough in Python: their C++ costs 1 MiB of resident memory, the most of it for libstdc++.
os.environ.setdefault("FROZENLIST_NO_EXTENSIONS", "1")
