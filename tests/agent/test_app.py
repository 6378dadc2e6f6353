"""The whole agent put together, over a fake node."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path

import pytest

from agent.app import App
from agent.config import Config, load
from agent.status import Status
from collectors import NAMES
from collectors.base import Node, Sample
from collectors.oom import Oom
from tests.tree import A, cgroup, docker, proc, process, tree


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An agent on a node with one container."""
    tree(tmp_path, cgroup(docker(A)))
    tree(tmp_path, {"cgroup/cgroup.controllers": "cpu io memory pids\n", "proc/loadavg": "0.00 0.01 0.05 2/345 999\n"})
    tree(tmp_path, proc(process(1), process(7, cgroup=docker(A))))
    flags = (
        f"--path.procfs={tmp_path}/proc",
        f"--path.cgroupfs={tmp_path}/cgroup",
        "--path.state=",
        "--path.bundles=",
        "--path.exits=",
        "--docker.url=",
    )
    config = load(flags, {}, NAMES)
    assert isinstance(config, Config)
    return App(config)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """An event that a stuck collector waits for; it is set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_the_process_scan_speaks_for_itself_whatever_hangs_after_it(
    app: App, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collectors behind a stuck one go on with fresh files and another Node, and /proc was read all the same."""

    def hang(_self: Oom, _node: Node) -> Iterable[Sample]:
        release.wait()
        return ()

    monkeypatch.setattr(Oom, "collect", hang)

    done = await app.gather.collect(2)

    assert "not finished" in done.failures["oom"]
    assert app.proc_status.is_up, app.proc_status.reason


class Silent:
    """A source that never says anything; whoever waits for it waits until all four are waited for."""

    longest_rest = 1.0

    def __init__(self, together: asyncio.Barrier) -> None:
        self.status = Status("kmsg")
        self.status.looked = self._looked  # type: ignore[method-assign] # it is what the test is about
        self._together = together

    async def _looked(self, seconds: float) -> None:
        await self._together.wait()

    async def follow(self) -> None:
        await asyncio.Event().wait()

    async def rest(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def samples(self) -> Iterable[Sample]:
        return ()


async def test_one_page_waits_for_all_sources_at_once(app: App) -> None:
    """Four silent ones cost the patience for one."""
    together = asyncio.Barrier(4)
    app.sources = [Silent(together) for _ in range(4)]

    async with asyncio.timeout(120):
        page = await app.page()

    assert b"coroner_build_info" in page


async def test_the_history_grows_where_nobody_scrapes(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look that is made every ten seconds measures what it needs; the clocks are fast here."""
    monkeypatch.setattr("agent.app.WALK_SECONDS", 0.01)
    app.config = replace(app.config, listen=(("127.0.0.1", 0),))
    app.gather._census._clock = count(0, 20).__next__
    app.recorder._clock = count(0, 100).__next__
    history, labels = app.recorder.history, ("", "", A[:12])
    assert history is not None
    running = asyncio.create_task(app.run())
    async with asyncio.timeout(120):
        while (series := history.series(labels)) is None or len(series.times) < 4:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert series.levels["memory_bytes"][-1] == 5_000_000
    assert series.levels["threads"][-1] == 7
    assert series.levels["zombies"][-1] == 0
    assert series.levels["cpu_cores"][-1] == 0


@pytest.mark.parametrize(
    "library",
    [
        "docker",
        "requests",
        "yaml",
        "psutil",
        "agent.sources.kubernetes",
        "agent.sources.docker",
        "agent.sources.signals",
        "frozenlist._frozenlist",
    ],
)
def test_what_few_nodes_need_is_imported_where_it_is_needed(library: str) -> None:
    """Each holds a quarter of a MiB or more; the docker SDK, with the HTTP library that it brings, 4."""
    assert "agent.app" in imported()
    assert library not in imported()


@cache
def imported() -> frozenset[str]:
    """Return the modules of a process that has imported the agent."""
    code = "import sys, agent.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return frozenset(done.stdout.split())


async def test_the_docker_sdk_comes_without_what_guesses_encodings_and_whoever_wants_that_can_have_it() -> None:
    """It holds more than a third of all that the SDK brings. Nothing warns of it."""
    code = (
        "import sys; from agent.sources.docker_sdk import APIClient;"
        "print(APIClient.__module__, 'requests' in sys.modules, 'charset_normalizer' in sys.modules);"
        "import charset_normalizer"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "error", "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()

    assert process.returncode == 0
    assert output.decode().split() == ["docker.api.client", "True", "False"]


@pytest.mark.parametrize("given", [None, "/elsewhere.pem"])
async def test_no_public_authority_is_in_memory_and_the_environment_is_as_it_was(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp would load some 140 for its client, of which nothing here makes use."""
    if given is None:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    else:
        monkeypatch.setenv("SSL_CERT_FILE", given)
    code = (
        "import gc, os, ssl, agent.__main__; contexts = [one for one in gc.get_objects() if isinstance(one, ssl.SSLContext)]; "
        "print(len(contexts) > 0, sum(one.cert_store_stats()['x509'] for one in contexts), os.environ.get('SSL_CERT_FILE'))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()

    assert output.decode().split() == ["True", "0", str(given)]
