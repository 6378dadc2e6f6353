"""What deploy/*.lock pin."""

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DEPLOY = Path(__file__).parents[2] / "deploy"


def locked(name: str) -> dict[str, Requirement]:
    """Return what a lock file pins, by name. Every pin has a hash."""
    entries = re.split(r"\n(?=[a-z])", (DEPLOY / f"{name}.lock").read_text())
    assert all("--hash=sha256:" in entry for entry in entries)
    pins = [Requirement(entry.split(" \\\n")[0]) for entry in entries]
    assert all([specifier.operator for specifier in pin.specifier] == ["=="] for pin in pins)
    return {canonicalize_name(pin.name): pin for pin in pins}


def for_this_platform(name: str) -> dict[str, str]:
    """Return the versions that a lock file has for the Python and the machine that ask, by name."""
    pins = {name: pin for name, pin in locked(name).items() if pin.marker is None or pin.marker.evaluate()}
    return {name: next(iter(pin.specifier)).version for name, pin in pins.items()}
