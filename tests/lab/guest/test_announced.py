"""What is read only when it has changed: settings, whose writes inotify tells of, and events, of which the kernel notifies.

Each of these passes is among the first 29, so that nothing is read because it is its turn.
"""

import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.changes import InotifyChanges
from collectors.kernel import cgroupfs
from collectors.kernel.files import KernelFiles
from tests.lab.guest.node import CGROUPS, Run, StartAgent, wait_for

PASSES = 29


class Passes:
    """Reads a cgroup in one pass after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files = KernelFiles(100, InotifyChanges("/proc"))
        self._numbers = itertools.count(1)

    def __call__(self, reader: Callable[[KernelFiles, str], object]) -> object:
        """Read one file in a new pass."""
        assert next(self._numbers) < PASSES
        self.files.begin_pass({str(self.directory): self.directory.stat().st_ino})
        return reader(self.files, str(self.directory))


@pytest.fixture
def passes() -> Iterator[Passes]:
    """Over a cgroup with all controllers and no process."""
    directory = CGROUPS / "docker" / "announced"
    directory.parent.mkdir(exist_ok=True)
    (directory.parent / "cgroup.subtree_control").write_text("+memory +cpu +pids")
    directory.mkdir()
    passes = Passes(directory)
    yield passes
    passes.files.close()
    (directory / "cgroup.kill").write_text("1")
    wait_for(lambda: "populated 0" in (directory / "cgroup.events").read_text(), 30, "still populated")
    directory.rmdir()


@pytest.mark.parametrize(
    ("name", "reader", "content", "value"),
    [
        ("memory.max", cgroupfs.memory_max, "33554432", 33554432),
        ("memory.high", cgroupfs.memory_high, "16777216", 16777216),
        ("memory.low", cgroupfs.memory_low, "4096", 4096),
        ("cpu.max", cgroupfs.cpu_limit, "50000 100000", 0.5),
        ("pids.max", cgroupfs.pids_max, "7", 7),
    ],
)
def test_a_setting(passes: Passes, name: str, reader: Callable[[KernelFiles, str], object], content: str, value: float) -> None:
    """A write is told before it returns to the writer, and no descriptor is kept meanwhile."""
    before = passes(reader)
    assert before == passes(reader) != value
    assert len(passes.files) == 0

    subprocess.run(["sh", "-c", f"echo {content} > {passes.directory / name}"], check=True)

    assert passes(reader) == value


def _sleep_in(directory: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sh", "-c", f"echo $$ > {directory}/cgroup.procs; exec sleep 1000"])


def test_populated_and_frozen(passes: Passes) -> None:
    """cgroup.events, in the pass after the kernel has done it, or one of the next."""
    assert passes(cgroupfs.cgroup_events) == cgroupfs.CgroupEvents(populated=False, frozen=False)
    sleeper = _sleep_in(passes.directory)
    try:
        for name, content, expected in (
            ("cgroup.events", "populated 1", cgroupfs.CgroupEvents(populated=True, frozen=False)),
            ("cgroup.freeze", "1", cgroupfs.CgroupEvents(populated=True, frozen=True)),
            ("cgroup.freeze", "0", cgroupfs.CgroupEvents(populated=True, frozen=False)),
        ):
            if name == "cgroup.freeze":
                (passes.directory / name).write_text(content)
            settled = f"populated 1\nfrozen {int(bool(expected.frozen))}\n"
            wait_for(lambda text=settled: (passes.directory / "cgroup.events").read_text() == text, 30, "the kernel has not done it")  # type: ignore[misc] # the default binds
            wait_for(lambda want=expected: passes(cgroupfs.cgroup_events) == want, 30, "not announced")  # type: ignore[misc] # as above
    finally:
        sleeper.kill()
        sleeper.wait()
    wait_for(lambda: passes(cgroupfs.cgroup_events) == cgroupfs.CgroupEvents(populated=False, frozen=False), 30, "not announced")


def test_refused_forks(passes: Passes) -> None:
    """pids.events, whose file is watched from before its first event on."""
    assert passes(cgroupfs.pids_events_max) == 0
    (passes.directory / "pids.max").write_text("1")

    for before in (0, 1):
        subprocess.run(["sh", "-c", f"echo $$ > {passes.directory}/cgroup.procs; sleep 0; true"], check=False, stderr=subprocess.DEVNULL)
        assert (passes.directory / "pids.events").read_text().startswith(f"max {before + 1}\n")
        wait_for(lambda want=before + 1: passes(cgroupfs.pids_events_max) == want, 30, "not announced")  # type: ignore[misc] # as above


def test_the_page_follows_an_update(agent: StartAgent, run: Run) -> None:
    """docker update writes to the files of a container that runs."""
    coroner = agent("--docker.url=unix:///run/docker.sock")
    container = run("sleep", "1000", name="web", mem_limit="64m")
    wait_for(lambda: coroner.value("coroner_container_memory_limit_bytes", container="web") == 64 << 20, 60, "not on the page")

    container.update(mem_limit="96m", memswap_limit="96m")

    assert coroner.value("coroner_container_memory_limit_bytes", container="web") == 96 << 20
