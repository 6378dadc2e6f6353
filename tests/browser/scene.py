"""A whole agent over the captured Docker node, with its pages served: what a browser, and the tests of the pages, look at.

One container is called like a script, its image like a tag; another has findings, whose words are hostile too.
"""

import json
import platform
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.app import App
from agent.sources.exits import ExitsSource
from agent.web.endpoint import serve
from agent.web.routes import Routes
from agent.web.view import Pages
from collectors.base import Sample
from collectors.findings import Examination, Finding, Severity
from tests.nodes import golden

HOSTILE = "<script>document.title='owned'</script>"
"""The name of a container."""
IMAGE = "<img src=http://elsewhere.invalid/ onerror=document.title='owned'>"
"""The image of another one."""
LONG = "x" * 255
"""The name of a third one."""
NOW = 2_000_000_100.0
"""A little after the events of the node."""


def found(container: str, rule: str, severity: Severity, evidence: str) -> Finding:
    """Make a finding as the examination makes it."""
    why = "When the table is full nobody in it can start a process, not even to stop it."
    return Finding(
        ("", "", container), rule, severity, evidence, why, 'ENTRYPOINT ["tini", "--"]', "https://example.org/runbooks/zombies.md"
    )


FOUND = (
    found("crowded", "pid-limit-near", "critical", "8 of 8 tasks are taken, and 1 fork was refused."),
    found("careless", "zombies-pile-up", "warning", "4 zombies, the oldest seen <b>1,110 days</b> ago, wait for PID 1 (sh)."),
)
"""What is found on the hostile node."""


async def examined() -> Examination:
    """What is found there, and what is not."""
    return Examination(FOUND, (("init-deaf", "the source <i>proc</i> is blind"),))


def make_node(root: Path, *, hostile: bool) -> Path:
    """Copy the captured node, and give two containers their names and images."""
    node = root / "node"
    shutil.copytree(golden.HERE / "docker-6.1", node, symlinks=True)
    if hostile:
        for name in ("names.json", "events.json"):
            text = (node / name).read_text(encoding="utf-8")
            text = text.replace('"/greedy"', json.dumps(f"/{LONG}"))
            text = text.replace('"/throttled"', json.dumps(f"/{HOSTILE}")).replace('"throttled"', json.dumps(HOSTILE))
            (node / name).write_text(text.replace('"busybox"', json.dumps(IMAGE)), encoding="utf-8")
    return node


@asynccontextmanager
async def agent(root: Path, *, hostile: bool = True) -> AsyncIterator[App]:
    """Run an agent over the node, an hour of which is in its history."""
    node = make_node(root, hostile=hostile)
    records = (node / "kmsg").read_bytes().splitlines(keepends=True)
    app, clock = golden.build(node, str(root / "state"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(platform, "node", lambda: "node-1")
        patch.setattr(time, "time", lambda: NOW)
        for source in app.sources:
            if isinstance(source, ExitsSource) and not hostile:
                source.status.up()  # the processes of a captured node do not run here, so nobody follows them
        if hostile:
            patch.setattr(app, "examined", examined)
        async with golden._kernel_log(app, records), golden._followed(app):
            done = await app.gather.collect(golden._SECONDS)
            clock.now += 10
            app.cases.close_due()
            assert app.recorder.history is not None
            for minute in range(60):
                grown = [_grown(sample, minute) for sample in done.samples]
                app.recorder.history.feed(grown, done.living, clock.now + 60 * minute - 3600, NOW + 60 * minute - 3600)
            yield app
    app.gather._sampler.retire()
    app.casebook.close()


@asynccontextmanager
async def served(app: App, pages: Pages) -> AsyncIterator[str]:
    """Serve the pages of an agent; gives the URL."""
    routes = Routes(
        render=app.render,
        is_ready=lambda: True,
        pages=pages,
        telemetry_path="/metrics",
        victims=lambda: app.casebook.victims(1000),
        verdicts=lambda: app.casebook.verdicts(1000),
    )
    endpoint = await serve(routes.application(), [("127.0.0.1", 0)])
    yield f"http://{endpoint.addresses[0]}/"
    await endpoint.close()


def _grown(sample: Sample, minute: int) -> Sample:
    """Let a counter rise, and a level come to where it is now."""
    metric, labels, value = sample
    if metric.kind == "counter":
        return metric, labels, value * (1 + minute / 60)
    if metric.name.endswith("_usage_bytes"):
        return metric, labels, value * (0.5 + minute / 120)
    return metric, labels, min(value, minute // 10)
