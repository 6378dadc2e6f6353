"""Last words: what a container did is on the page with its final values, also when it came and went between two scrapes."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from docker import DockerClient

from tests.lab.guest.cri import Program, StartPod
from tests.lab.guest.node import Agent, Run, StartAgent, cgroup, in_parallel, memory_events, wait_for

MOST_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")
EVENTS = "coroner_container_memory_events"
QUICK = 8

# The shell reads and writes by itself: at the limit of its PIDs it could not start anything that does.
SAY = "say() { while read -r line; do echo $line; done < /sys/fs/cgroup/$1 > /truth/$1; }; "
FORKS = SAY + "sh -c 'for n in $(seq 30); do sleep 1000 & done'; say pids.events"
SPINS = SAY + "n=0; while [ $n -lt 5000 ]; do n=$((n+1)); done; say cpu.stat"
ALLOCATES = SAY + "tail /dev/zero; tail /dev/zero; say memory.events"

Live = Callable[..., Mapping[str, int]]


@pytest.fixture
def live(run: Run, docker: DockerClient, tmp_path: Path) -> Live:
    """Run a container to its end; it is removed at once, as by `docker run --rm`. Return what it said of itself before it ended."""

    def lived(script: str, name: str, **options: object) -> Mapping[str, int]:
        truth = tmp_path / name
        truth.mkdir()
        volumes = {str(truth): {"bind": "/truth", "mode": "rw"}}
        container = run("sh", "-c", script, name=name, auto_remove=True, volumes=volumes, **options)
        wait_for(lambda: container.id not in {c.id for c in docker.containers.list(all=True, sparse=True)}, 60, f"{name} was not removed")
        lines = [line for file in truth.iterdir() for line in file.read_text().splitlines()]
        return {key: int(value) for key, value in map(str.split, lines)}

    return lived


class Shared:
    """An agent that tests share, and how many containers it has heard since the test began. No scrape comes but those of the test."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._before = self._heard()

    def _heard(self) -> dict[str, float]:
        return {dict(labels)["result"]: value for labels, value in self.agent.family("coroner_last_words_total").items()}

    def heard(self) -> dict[str, float]:
        """How many containers had their last words read, and how many not."""
        return {result: value - self._before[result] for result, value in self._heard().items()}


@pytest.fixture
def shared(shared_agent: Agent) -> Shared:
    """The agent that tests share; what it has heard begins anew."""
    return Shared(shared_agent)


def test_final_counters_of_containers_that_no_scrape_saw_are_on_the_page(shared: Shared, live: Live) -> None:
    """With `docker run --rm`: one is refused forks, one throttled, and of one the OOM killer takes two children."""
    coroner = shared.agent

    forks, spins, allocates = in_parallel(
        lambda: live(FORKS, "forks", pids_limit=8),
        lambda: live(SPINS, "spins", cpu_period=20000, cpu_quota=2000),
        lambda: live(ALLOCATES, "allocates", mem_limit="8m"),
    )

    assert forks["max"] >= 1
    assert spins["nr_throttled"] >= 1
    assert allocates["oom_kill"] == 2
    for _ in range(2):  # they stay
        assert coroner.value("coroner_container_fork_failures_total", container="forks") == forks["max"]
        for key in ("max", "oom", "oom_kill"):
            assert coroner.value(f"{EVENTS}_{key}_total", container="allocates") == allocates[key]
        throttled = coroner.value("coroner_container_cpu_cfs_throttled_periods_total", container="spins")
        used = coroner.value("coroner_container_cpu_usage_seconds_total", container="spins")
        assert throttled is not None
        assert used is not None
        # It went on for a moment after it had read its own account: ending takes time too, more so with a tenth of a CPU on a busy machine.
        assert 0 <= throttled - spins["nr_throttled"] <= 50
        assert 0 <= used - spins["usage_usec"] / 1e6 < 1
    assert coroner.value("coroner_container_memory_usage_bytes", container="allocates") is None
    assert coroner.value("coroner_container_threads", container="forks") is None
    assert shared.heard() == {"read": 3, "late": 0}


def test_final_counters_of_a_pods_container_that_no_scrape_saw_are_on_the_page(shared: Shared, pod: StartPod) -> None:
    """With containerd; its sandbox is no container, alive or dead."""
    coroner = shared.agent

    web = pod("web", containers={"app": Program(["sh", "-c", "tail /dev/zero; exit 3"], memory=16 << 20, oom_group=False)})
    assert web["app"].wait() == 3
    wait_for(lambda: not web["app"].cgroup.exists(), 30, "its cgroup is still there")

    assert coroner.value(f"{EVENTS}_oom_kill_total", namespace="shop", pod="web", container="app") == 1
    assert coroner.value("coroner_container_memory_usage_bytes", container="app") is None
    web.stop()
    wait_for(lambda: sum(shared.heard().values()) == 2, 30, "the end of the sandbox was not noticed")
    known = [dict(labels) for _, labels in coroner.scrape()]
    assert {each["container"] for each in known if each.get("pod") == "web" and "container" in each} <= {"", "app"}
    assert web.sandbox_id[:12] not in {each.get("container") for each in known}


def test_a_restarted_container_counts_from_zero_as_its_cgroup_does(shared: Shared, run: Run) -> None:
    """The living one is shown, not its last words of before."""
    coroner = shared.agent
    script = "[ -e /once ] || { echo > /once; tail /dev/zero; }; sleep 1000"
    container = run("sh", "-c", script, name="again", mem_limit="16m")
    wait_for(lambda: coroner.value(f"{EVENTS}_oom_kill_total", container="again") == 1, 30, "the kill is not on the page")

    container.stop(timeout=0)
    wait_for(lambda: shared.heard()["read"] == 1, 30, "no last words")
    assert coroner.value(f"{EVENTS}_oom_kill_total", container="again") == 1
    container.start()

    wait_for(lambda: coroner.value(f"{EVENTS}_oom_kill_total", container="again") == 0, 30, "the old count is still there")
    assert coroner.value("coroner_container_memory_limit_bytes", container="again") == 16 << 20


def test_how_many_quick_containers_are_heard(shared: Shared, live: Live) -> None:
    """Each ends at once and is removed at once."""
    for batch in range(0, QUICK, 4):
        in_parallel(*(lambda n=n: live("true", f"quick{n}") for n in range(batch, batch + 4)))

    wait_for(lambda: sum(shared.heard().values()) == QUICK, 30, lambda: f"not {QUICK}: {shared.heard()}")
    assert shared.heard()["read"] >= QUICK // 2, "a runtime may be faster on a busy machine, but not mostly"


def test_how_many_quick_containers_of_a_pod_are_heard(shared: Shared, pod: StartPod) -> None:
    """With containerd."""
    quick = pod("quick")

    for number in range(QUICK // 2):
        quick.run(f"quick{number}", Program(["true"])).wait()

    wait_for(lambda: sum(shared.heard().values()) == QUICK // 2, 30, lambda: f"not {QUICK // 2}: {shared.heard()}")
    assert shared.heard()["read"] >= QUICK // 4, "as above"


@pytest.fixture
def few_watches() -> Iterator[Callable[[int], None]]:
    """Set how many inotify watches a user may have."""
    before = MOST_WATCHES.read_text()

    def allow(count: int) -> None:
        MOST_WATCHES.write_text(str(count))

    yield allow
    MOST_WATCHES.write_text(before)


def test_without_watches_the_walk_finds_births_and_deaths(agent: StartAgent, run: Run, few_watches: Callable[[int], None]) -> None:
    """The limit is reached: that is said, the page is right, and with the limit raised the agent is notified again."""
    few_watches(1)
    coroner = agent()
    assert coroner.value("coroner_cgroup_inotify_up") == 0
    assert "max_user_watches" in coroner.get("/")
    assert "max_user_watches" in coroner.log

    container = run("sh", "-c", "tail /dev/zero; sleep 1000", name="unwatched", mem_limit="8m")
    wait_for(lambda: coroner.value(f"{EVENTS}_oom_kill_total", container="unwatched") == 1, 30, "the kill is not on the page")
    container.remove(force=True)
    # Read by the last pass, before its end.
    assert coroner.value(f"{EVENTS}_oom_kill_total", container="unwatched") == 1
    assert coroner.value("coroner_container_memory_usage_bytes", container="unwatched") is None

    few_watches(8192)
    wait_for(lambda: coroner.value("coroner_cgroup_inotify_up") == 1, 30, "not notified again")


def test_the_walk_sees_what_lives_between_two_scrapes(agent: StartAgent, run: Run, few_watches: Callable[[int], None]) -> None:
    """Without notifications, kernel log and scrapes: a kill in a container that lived through one walk is counted."""
    few_watches(1)
    coroner = agent("--path.kmsg=/run/no-kmsg")
    killed = run("sh", "-c", "tail /dev/zero; sleep 1000", name="killed", mem_limit="8m")
    wait_for(lambda: memory_events(killed)["oom_kill"] == 1, 30, "no kill")
    later = run("sleep", "1000", name="later")

    wait_for(lambda: holds(coroner, f"{cgroup(later)}/memory.events"), 30, "no walk found it")  # so the same walk saw the kill
    killed.remove(force=True)
    wait_for(lambda: f"id=docker://{killed.id}" in coroner.log, 30, "no walk found its end")
    assert coroner.value("coroner_container_oom_kills_total", container="killed") == 1
    assert coroner.value(f"{EVENTS}_oom_kill_total", container="killed") == 1


def holds(agent: Agent, path: str) -> bool:
    """Whether the agent keeps a file open."""
    for link in Path(f"/proc/{agent.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(link) == path:
                return True
    return False
