"""Run the whole agent over a captured node (README.md), at fixed times, and bring its page into a form that is the same every time."""

import asyncio
import errno
import json
import math
import os
import platform
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from agent import __version__
from agent.app import App
from agent.config import Config, load
from agent.sources.cgroup import CgroupSource
from agent.sources.docker import DockerSource
from agent.sources.docker_listener import Containers, Event, Inspected
from agent.sources.exit_files import ExitFilesSource
from agent.sources.layers import LayersSource
from agent.sources.oci import OciSource
from collectors import NAMES
from collectors.inquest.leftovers import LEFTOVER_SECONDS
from collectors.kernel import container_init
from collectors.layers import Layer
from collectors.leftovers import Leftovers
from collectors.services import Services
from collectors.zombies import Zombies

HERE = Path(__file__).parent
NODES = sorted(path.parent.name for path in HERE.glob("*/proc"))

VARYING = (
    "coroner_casebook_saves_total",
    "coroner_container_paused_seconds_total",
    "coroner_scrape_collector_duration_seconds",
    "coroner_source_last_answer_timestamp_seconds",
)
"""Metrics whose values are another every time."""

ZOMBIES_FIRST_SEEN = 1_700_000_000
LONG_AFTER_BOOT = 1e9
"""Seconds, for what asks how old the processes of a node are that was captured on another machine."""
_SECONDS = 120.0

Families = dict[str, tuple[str, str, dict[tuple[tuple[str, str], ...], float]]]
"""Name -> type, help, and the values by labels."""


@dataclass(frozen=True)
class Pages:
    """The page of one node in both formats, as scraped, and what each collector that failed said."""

    text: str
    openmetrics: str
    failures: Mapping[str, str]


@cache
def pages(name: str) -> Pages:
    """Make the pages of one of NODES."""
    return make_pages(HERE / name)


def make_pages(node: Path) -> Pages:
    """Start an agent on the node of a directory, let it make its first pass, and scrape it ten seconds later."""
    refused = (node / "forbidden").read_text().split() if (node / "forbidden").exists() else []
    records = (node / "kmsg").read_bytes().splitlines(keepends=True) if (node / "kmsg").exists() else None
    with forbidden({str(node / path) for path in refused}), processes_of_any_age(), TemporaryDirectory() as state:
        return asyncio.run(_pages(node, records, state))


async def _pages(node: Path, records: list[bytes] | None, state: str) -> Pages:
    app, clock = build(node, state)
    async with _kernel_log(app, records), _followed(app):
        clock.now = time.monotonic()  # names were learnt by now, however slow the machine is
        await app.gather.collect(_SECONDS)
        clock.now += 10
        app.cases.close_due()
        text = await app.render(_SECONDS, openmetrics=False, compressed=False)
        openmetrics = await app.render(_SECONDS, openmetrics=True, compressed=False)
    app.gather._sampler.retire()
    app.casebook.close()
    return Pages(text.decode(), openmetrics.decode(), dict(app._failures))


class Clock:
    """Stands still until it is told to go on. It starts at the real time, which is when a source has learnt of names."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


def build(node: Path, state: str) -> tuple[App, Clock]:
    """Make an agent that looks at the node of a directory and has its casebook in another; Docker has answered what names.json says.

    It has told inspected.json, and events.json, which is in the future, or it would be history.
    """
    names, events, inspected = node / "names.json", node / "events.json", node / "inspected.json"
    bundles, exits, layers = node / "bundles", node / "exits", node / "layers.json"
    arguments = [
        f"--path.procfs={node}/proc",
        f"--path.cgroupfs={node}/cgroup",
        f"--path.kmsg={node}/kmsg",
        f"--path.state={state}",
        f"--path.bundles={bundles if bundles.exists() else ''}",
        f"--path.exits={exits if exits.exists() else ''}",
        "--web.disable-exporter-metrics",
        *(["--source.signals"] if (node / "forbidden").exists() else []),  # nobody follows it: as where tracefs is not to be had
        *(["--source.layers"] if layers.exists() else []),
    ]
    config = load([*arguments, *([] if names.exists() else ["--docker.url="])], {}, NAMES)
    assert isinstance(config, Config)
    app, clock = App(config), Clock()
    app.gather._census._clock = app.cases._clock = clock
    for collector in app.gather._collectors:
        if isinstance(collector, Zombies):
            collector._clock = lambda: ZOMBIES_FIRST_SEEN
        if isinstance(collector, Services):
            collector._clock = lambda: LONG_AFTER_BOOT
        if isinstance(collector, Leftovers):
            collector._clock = count(0, 2 * LEFTOVER_SECONDS).__next__  # in the second pass what is there has been there for a while
    for source in app.sources:
        if isinstance(source, LayersSource):
            for container, layer in json.loads(layers.read_text()).items():
                source._found[(node / "cgroup" / "docker" / container).stat().st_ino] = Layer(*layer)
            source.status.up()
    if names.exists():
        for source in app.sources:
            if isinstance(source, DockerSource):
                source._take(Containers(json.loads(names.read_text()), opened=0.0, is_gap=True))
                for content in json.loads(inspected.read_text()) if inspected.exists() else ():
                    source._take(Inspected(content, since=None))
                for event in json.loads(events.read_text()) if events.exists() else ():
                    source._take(Event(event))
    return app, clock


@asynccontextmanager
async def _kernel_log(app: App, records: list[bytes] | None) -> AsyncIterator[None]:
    """Let the agent read all records, as written after its start; None is a node without /dev/kmsg."""
    if records is None:
        yield
        return
    # One read() gives one record, which only sockets of this kind do too.
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader.setblocking(False)
    app.kernel_log._opener = lambda _path: reader.detach()
    follower = asyncio.create_task(app.kernel_log.follow())
    try:
        await app.kernel_log.status.looked(_SECONDS)
        for record in records:
            writer.send(record)
        async with asyncio.timeout(_SECONDS):
            while app.kernel_log._place.records < len(records):
                await asyncio.sleep(0.001)
        yield
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        writer.close()


@asynccontextmanager
async def _followed(app: App) -> AsyncIterator[None]:
    """Let the agent read all bundles and exit files, and watch the cgroup tree, if the node has any."""
    sources = [source for source in app.sources if isinstance(source, OciSource | CgroupSource | ExitFilesSource)]
    followers = [asyncio.create_task(source.follow()) for source in sources]
    clock = asyncio.get_running_loop().time
    try:
        for source in sources:
            await source.status.looked(_SECONDS)
            assert source.status.is_up or isinstance(source, CgroupSource)
            async with asyncio.timeout(_SECONDS):
                while isinstance(source, OciSource) and any(bundle.due <= clock() for bundle in source._pending.values()):
                    await asyncio.sleep(0.001)
        yield
    finally:
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)


@contextmanager
def forbidden(paths: set[str]) -> Iterator[None]:
    """Refuse these paths as the kernel refuses them to the unprivileged: root, and a checkout, can do no such thing."""

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def guard(path: object, *arguments: Any, **options: Any) -> Any:
            if path in paths:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return call(path, *arguments, **options)

        return guard

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "readlink", "scandir", "listdir") if paths else ():
            patch.setattr(os, name, guarded(getattr(os, name)))
        yield


@contextmanager
def processes_of_any_age() -> Iterator[None]:
    """Take every process for older than a runtime's helpers: a captured node may have been up for longer than this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container_init, "_SURE_SECONDS", -math.inf)
        patch.setattr(container_init.Init, "age_seconds", math.inf)
        yield


def families(page: str) -> Families:
    """Read a page in the text format, without what differs from run to run."""
    return {
        family.name: (family.type, family.documentation, {tuple(sorted(s.labels.items())): s.value for s in family.samples})
        for family in parse_text(_settled(page))
    }


def canonical(page: str) -> str:
    """Sort a page by name and labels: it comes in the order in which the file system lists the node, and that is any."""
    blocks = re.findall(r"(# HELP [^\n]*\n# TYPE [^\n]*\n)((?:[^#\n][^\n]*\n)*)", _settled(page))
    assert sum(len(head) + len(lines) for head, lines in blocks) == len(_settled(page)), "there is something else on the page"
    return "".join(head + "".join(sorted(lines.splitlines(keepends=True))) for head, lines in sorted(blocks))


def _settled(page: str) -> str:
    page = page.replace(f'{{version="{__version__}",python_version="{platform.python_version()}"}}', '{version="0",python_version="0"}')
    return re.sub(rf"(?m)^((?:{'|'.join(VARYING)})(?:\{{.*\}})?) .*$", r"\1 0", page)


def check(golden: Path, page: str, *, update: bool) -> None:
    """Compare a page with the golden one, or make it the golden one."""
    if update:
        golden.write_text(canonical(page), encoding="utf-8")
    expected = golden.read_text(encoding="utf-8") if golden.exists() else ""
    diff = list(unified_diff(expected.splitlines(), canonical(page).splitlines(), "golden", "page", lineterm="", n=0))
    if diff:
        pytest.fail("\n".join((f"{golden}: the page has changed; if that is meant, run pytest --update-golden", *diff)), pytrace=False)
    assert families(page) == families(expected)
