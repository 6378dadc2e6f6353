"""What the agent makes of births and deaths."""

import logging
from pathlib import Path

import pytest

from agent.app import App
from agent.config import Config, load
from agent.directory import Entry
from collectors import NAMES
from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup, CpuStat, MemoryEvents
from collectors.kernel.container_id import ContainerId
from collectors.kernel.last_words import LastWords
from tests.tree import A, B, docker, tree

POD = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555"
WORDS = LastWords(MemoryEvents(1, 2, 3, 4, 5, 1), CpuStat(2500000, 1500000, 1000000, 40, 4, 250000), 2, 9, 6000000)


@pytest.fixture
async def app(tmp_path: Path) -> App:
    """An agent of an empty node."""
    tree(tmp_path, {"cgroup/cgroup.controllers": "cpu io memory pids\n", "proc/": ""})
    config = load(
        [f"--path.procfs={tmp_path}/proc", f"--path.cgroupfs={tmp_path}/cgroup", "--docker.url=", "--path.bundles=", "--path.state="],
        {},
        NAMES,
    )
    assert isinstance(config, Config)
    return App(config)


def container(path: str) -> tuple[ContainerId, Cgroup]:
    """Return a container and its cgroup."""
    found = container_id.parse(path)
    assert found is not None
    return found, Cgroup(path, f"/cgroup{path}", 7, has_children=False)


def facts(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """Return what each line "container ended" tells beyond that."""
    usual = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
    return [
        {key: value for key, value in vars(record).items() if key not in usual}
        for record in caplog.records
        if record.message == "container ended"
    ]


async def test_the_end_of_a_container_is_one_line_with_what_it_needed(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """And what became of it; what is not known is left out."""
    app._directory.put("docker", {A: Entry(("", "", "web"))})
    with caplog.at_level("INFO", "agent.app"):
        app.ended(*container(docker(A)), WORDS)
        app.ended(*container(docker(B)), LastWords(threads_peak=9))
        app.ended(*container(docker(B)), None)
        app.ended(*container(f"{docker(A)}/docker/{B}"), WORDS)

    names = {"namespace": "", "pod": "", "container": "web"}
    used = {"memory_peak_bytes": 6000000, "oom_kill": 5, "cpu_seconds": 2.5, "throttled_periods": 4, "threads_peak": 9, "fork_failures": 2}
    assert facts(caplog) == [
        {"id": f"docker://{A}"} | names | used,
        {"id": f"docker://{B}", "threads_peak": 9},
        {"id": f"docker://{B}"},
    ]


async def test_the_end_of_a_sandbox_is_not_told(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """It is no container."""
    app._directory.put("oci", {A: Entry(("shop", "web-0", ""), is_sandbox=True)})
    with caplog.at_level("INFO", "agent.app"):
        app.ended(*container(f"{POD}/{A}"), WORDS)

    assert facts(caplog) == []


async def test_a_birth_is_heard_and_sources_are_asked_for_its_name(app: App) -> None:
    """One in a pod may be a sandbox, so only a source can make it known; one inside of another is that one's word."""
    asked: list[str] = []
    app._directory.when_heard(asked.append)

    app.born(*container(docker(A)))
    app.born(*container(f"{POD}/{B}"))
    app.born(*container(f"{docker(A)}/docker/{B}"))

    assert asked == [A, B]
    assert set(app._directory.entries) == {A}
