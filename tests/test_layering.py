"""Who may import whom: agent -> collectors -> collectors.inquest -> collectors.kernel -> standard library; a library has its one place."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("agent", "collectors")
    for path in sorted((ROOT / package).rglob("*.py"))
}

HOME = {
    "aiohttp": ("agent.web", "agent.sources.kubernetes_client"),
    "docker": ("agent.sources.docker", "agent.sources.docker_listener", "agent.sources.docker_looks", "agent.sources.docker_sdk"),
    "requests": ("agent.sources.docker_sdk",),
    "sqlite3": ("agent.casebook",),
    "rich": ("agent.top_screen", "agent.top_live", "agent.top_command"),
}
"""Libraries that may be imported in these modules, and what is below them, alone."""

NOWHERE = {"subprocess", "multiprocessing", "pty", "importlib"}
"""Coroner only reads, it never runs a program; and what is imported can be seen."""

NOT_IN_COLLECTORS = {"asyncio", "socket", "ssl", "http", "urllib", "selectors", "concurrent"}
"""Collectors are synchronous and know no network."""

SHARED = ("collectors.base", "collectors.inquest", "collectors.kernel")
"""What a collector may import of other modules here."""

EXITS = {"sys.exit", "os._exit", "os.abort", "exit", "quit", "SystemExit"}
PROGRAMS = {"os.system", "os.popen", "os.fork", "os.forkpty", "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell"}
PROGRAM_FAMILIES = ("os.exec", "os.spawn", "os.posix_spawn")


def imports(module: str, tree: ast.AST) -> Iterator[str]:
    """Yield the full name of everything that is imported, wherever it is done; of `from a import b` that is a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A package's own name is the name of its __init__, so for it one level is itself.
            parts = module.split(".") if module in PACKAGES else module.split(".")[:-1]
            above = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join((*above, *([node.module] if node.module else [])))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def calls(tree: ast.AST) -> Iterator[str]:
    """Yield every dotted name that is used, such as `sys.exit`, in full also where it was imported under another."""
    known = {"exit": "exit", "quit": "quit", "SystemExit": "SystemExit"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in known:
            yield known[node.id]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            yield f"{known[node.value.id]}.{node.attr}"


def is_below(name: str, *packages: str) -> bool:
    """Tell whether a module is one of these or in one of them."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def faults(module: str, source: str) -> list[str]:
    """Say what a module of this name and source breaks."""
    tree = ast.parse(source)
    found = []
    for name in imports(module, tree):
        top = name.partition(".")[0]
        if top in NOWHERE:
            found.append(f"{module} imports {name}: nothing may")
        if top in HOME and not is_below(module, *HOME[top]):
            found.append(f"{module} imports {name}: only {' and '.join(HOME[top])} may")
        if is_below(module, "collectors"):
            found += _faults_of_a_collector(module, name)
    for name in calls(tree):
        if name in EXITS and module != "agent.__main__":
            found.append(f"{module} uses {name}: only agent.__main__ exits")
        if name in PROGRAMS or name.startswith(PROGRAM_FAMILIES):
            found.append(f"{module} uses {name}: it never runs a program")
    return found


def _faults_of_a_collector(module: str, name: str) -> Iterator[str]:
    top = name.partition(".")[0]
    is_kernel = is_below(module, "collectors.kernel")
    allowed = {"collectors"} if is_kernel else {"collectors", "psutil"}
    if top not in sys.stdlib_module_names and top not in allowed:
        yield f"{module} imports {name}: it may import {', '.join(sorted(allowed))} and the standard library"
    if top in NOT_IN_COLLECTORS:
        yield f"{module} imports {name}: collectors are synchronous and know no network"
    if top != "collectors":
        return
    if is_kernel:
        if not is_below(name, "collectors.kernel"):
            yield f"{module} imports {name}: readers know nothing of what is measured"
    elif is_below(module, "collectors.inquest"):
        if not is_below(name, "collectors.inquest", "collectors.kernel"):
            yield f"{module} imports {name}: reasoning knows nothing of metrics"
    elif module == "collectors.base":
        if not is_below(name, "collectors.kernel"):
            yield f"{module} imports {name}: what all collectors share knows none of them"
    elif module != "collectors" and not is_below(name, *SHARED):
        yield f"{module} imports {name}: of other collectors only {' and '.join(SHARED)} may be imported"


PACKAGES = {module for module, path in SOURCES.items() if path.name == "__init__.py"}


@pytest.mark.parametrize("module", SOURCES)
def test_module_keeps_to_its_layer(module: str) -> None:
    """Every import and every way out, wherever in the module it is."""
    assert faults(module, SOURCES[module].read_text(encoding="utf-8")) == []


def test_all_modules_are_looked_at() -> None:
    """The rules hold for what there is, not for an empty list."""
    assert {"agent", "agent.__main__", "agent.web.routes", "collectors", "collectors.zombies", "collectors.kernel.files"} <= SOURCES.keys()
    assert {module for module in SOURCES if list(imports(module, ast.parse(SOURCES[module].read_text(encoding="utf-8"))))} > {"agent.app"}


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("collectors.kernel.files", "import psutil", "the standard library"),
        ("collectors.kernel.files", "import prometheus_client", "the standard library"),
        ("collectors.kernel.files", "from collectors.base import Metric", "readers know nothing"),
        ("collectors.kernel.files", "from collectors import cpu", "readers know nothing"),
        ("collectors.kernel.files", "from ..base import Metric", "readers know nothing"),
        ("collectors.kernel", "from ..base import Metric", "readers know nothing"),
        ("collectors.kernel.files", "def late():\n    import asyncio", "synchronous"),
        ("collectors.cpu", "import asyncio", "synchronous"),
        ("collectors.cpu", "from urllib.request import urlopen", "synchronous"),
        ("collectors.cpu", "import aiohttp.web", "the standard library"),
        ("collectors.cpu", "import docker", "the standard library"),
        ("collectors.cpu", "from prometheus_client import Gauge", "the standard library"),
        ("collectors.cpu", "from agent.identities import Identity", "the standard library"),
        ("collectors", "import agent", "the standard library"),
        ("collectors.cpu", "if TYPE_CHECKING:\n    from agent import census", "the standard library"),
        ("collectors.cpu", "from collectors.memory import USAGE", "of other collectors only"),
        ("collectors.cpu", "from collectors import memory", "of other collectors only"),
        ("collectors.cpu", "from . import memory", "of other collectors only"),
        ("collectors.base", "from collectors.cpu import Cpu", "knows none of them"),
        ("collectors.base", "from collectors.inquest.kills import KillLedger", "knows none of them"),
        ("collectors.inquest.kills", "from collectors.base import Metric", "knows nothing of metrics"),
        ("collectors.inquest.kills", "from collectors import oom", "knows nothing of metrics"),
        ("collectors.inquest.kills", "import asyncio", "synchronous"),
        ("agent.page", "from aiohttp import web", "only agent.web and agent.sources.kubernetes_client may"),
        ("agent.website", "import aiohttp", "only agent.web and agent.sources.kubernetes_client may"),
        ("agent.app", "from docker import APIClient", "only agent.sources.docker and"),
        ("agent.app", "import docker.errors", "only agent.sources.docker and"),
        ("agent.app", "import sqlite3", "only agent.casebook may"),
        ("agent.app", "import subprocess", "nothing may"),
        ("agent.__main__", "from subprocess import run", "nothing may"),
        ("agent.app", "import importlib\nimportlib.import_module('subprocess')", "nothing may"),
        ("agent.app", "import os\nos.system('true')", "never runs a program"),
        ("agent.app", "import os\nos.execvp('true', ['true'])", "never runs a program"),
        ("agent.app", "from asyncio import create_subprocess_exec as go\ngo('true')", "never runs a program"),
        ("agent.app", "import sys\nsys.exit(1)", "only agent.__main__ exits"),
        ("agent.app", "import os as system\nsystem._exit(1)", "only agent.__main__ exits"),
        ("agent.app", "from sys import exit as leave\nleave()", "only agent.__main__ exits"),
        ("agent.app", "raise SystemExit(1)", "only agent.__main__ exits"),
        ("agent.app", "exit()", "only agent.__main__ exits"),
    ],
)
def test_each_rule_can_be_broken(module: str, source: str, fault: str) -> None:
    """Every rule finds what it is there for, and says which it is."""
    assert any(fault in found for found in faults(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("agent.__main__", "import sys\nsys.exit(0)"),
        ("agent.web.routes", "from aiohttp import web"),
        ("agent.sources.kubernetes_client", "import aiohttp"),
        ("agent.sources.docker", "from docker import APIClient"),
        ("agent.casebook", "import sqlite3"),
        ("agent.app", "from collectors.kernel import cgroupfs\nfrom agent.sources.docker import DockerSource"),
        ("collectors", "from collectors.cpu import Cpu"),
        (
            "collectors.oom",
            "from collectors.inquest.kills import KillLedger\nfrom collectors.base import Node\nfrom collectors.kernel import cgroupfs",
        ),
        ("collectors.kernel.cgroupfs", "import os\nfrom collectors.kernel.files import read_once\nfrom .formats import flat"),
        ("collectors.host", "import psutil"),
        ("agent.app", "def exit_code() -> int:\n    return self.sys.exit"),
    ],
)
def test_what_is_allowed_is_no_fault(module: str, source: str) -> None:
    """The rules are no stricter than they mean to be."""
    assert faults(module, source) == []
