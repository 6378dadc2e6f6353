"""The docker SDK, without what requests, on which it is built, guesses encodings with: charset_normalizer holds 2.6 of 6.3 MiB.

requests does without it since 2.32 and takes UTF-8 (its HISTORY.md), which JSON is. It warns, because who installs it has it as a rule.
"""

import sys
import warnings
from typing import Any, cast

warnings.filterwarnings("ignore", "Unable to find acceptable character detection dependency")
_GUESSER = "charset_normalizer"
_is_loaded = _GUESSER in sys.modules
if not _is_loaded:
    cast(dict[str, Any], sys.modules)[_GUESSER] = None  # the import system's word for what is not to be found

try:
    import requests  # noqa: F401 - for its effect, without that
except ImportError:  # an older one, which needs it
    pass
finally:
    if not _is_loaded:
        del sys.modules[_GUESSER]

from docker import APIClient  # noqa: E402 - after requests

__all__ = ["APIClient"]
