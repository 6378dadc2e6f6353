"""OOM kills: each counted once, whoever dies, and however soon the container is gone."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from docker import DockerClient

from tests.lab.guest.node import (
    CGROUPS,
    NO_KERNEL_LOG,
    WAIT,
    Agent,
    Run,
    StartAgent,
    cgroup,
    in_parallel,
    let_go,
    memory_events,
    wait_for,
)


def kills(agent: Agent, container: str) -> float | None:
    """The count of record for one container."""
    return agent.value("coroner_container_oom_kills_total", container=container)


def node_kills(agent: Agent) -> dict[str, float | None]:
    """The node's count, by scope."""
    by_scope = {dict(labels)["scope"]: value for labels, value in agent.family("coroner_oom_kills_total").items()}
    return {scope: by_scope.get(scope) for scope in ("container", "pod", "ancestor", "node")}


NONE = {"container": 0, "pod": 0, "ancestor": 0, "node": 0}


class Shared:
    """An agent that tests share, and what its counts of the node have risen by since the test began."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._before = node_kills(agent)

    def rise(self) -> dict[str, float]:
        """Return by how much each scope has risen."""
        return {scope: (value or 0) - (self._before[scope] or 0) for scope, value in node_kills(self.agent).items()}

    def kills(self, names: Iterable[str]) -> dict[str, float]:
        """Return the counts of record of those of these containers that have one."""
        counts = self.agent.oom_kills()
        return {name: counts[name] for name in names if name in counts}

    def victims(self, container: str) -> list[dict[str, Any]]:
        """Wait for the one victim of a container, and return all that it has on the API, newest first."""

        def found() -> list[dict[str, Any]]:
            return [victim for victim in self.agent.victims() if victim["container"] == container]

        return wait_for(found, 60, "no victim")


@pytest.fixture
def shared(shared_agent: Agent) -> Shared:
    """The agent that tests share; its counts of the node begin anew."""
    return Shared(shared_agent)


def test_an_init_killed_at_its_own_limit_is_one_kill_of_scope_container(shared: Shared, run: Run) -> None:
    """The container is gone with it; its counter stays."""
    coroner = shared.agent
    container = run("tail", "/dev/zero", name="greedy", mem_limit="8m")

    assert container.wait()["StatusCode"] == 137
    wait_for(lambda: kills(coroner, "greedy") == 1, 30, "the kill is not on the page")
    assert shared.rise() == NONE | {"container": 1}


def test_a_child_killed_while_the_container_lives_on_is_counted(shared: Shared, run: Run) -> None:
    """`docker ps` shows a healthy container; the kernel killed its worker."""
    coroner = shared.agent
    container = run("sh", "-c", WAIT + "tail /dev/zero; sleep 1000", name="parent", mem_limit="8m")

    wait_for(lambda: kills(coroner, "parent") == 0, 30, "the counter was not born at 0")
    let_go(cgroup(container))
    wait_for(lambda: kills(coroner, "parent") == 1, 30, "the kill is not on the page")
    assert memory_events(container)["oom_kill"] == 1
    assert coroner.value("coroner_container_memory_events_oom_kill_total", container="parent") == 1
    container.reload()
    assert container.status == "running"


def test_a_container_that_lives_200_ms_and_is_removed_is_counted_exactly_once(shared: Shared, run: Run, docker: DockerClient) -> None:
    """It was born, killed and removed between two scrapes: the kernel log knows the kill, Docker's events the name."""
    coroner = shared.agent
    container = run("tail", "/dev/zero", name="short", mem_limit="8m", auto_remove=True)
    wait_for(lambda: container.id not in {c.id for c in docker.containers.list(all=True, sparse=True)}, 30, "the container was not removed")

    wait_for(lambda: kills(coroner, "short") == 1, 30, "the kill is not on the page")
    assert [kills(coroner, "short") for _ in range(3)] == [1, 1, 1]
    assert shared.rise() == NONE | {"container": 1}
    what_it_was = {"container_id": f"docker://{container.id}", "image": "busybox", "cgroup": f"/docker/{container.id}"}
    assert coroner.value("coroner_container_info", container="short", **what_it_was) == 1, "a join finds the image of a victim"


def test_a_kill_before_the_agents_start_is_history(agent: StartAgent, run: Run) -> None:
    """Without a memory of its own the agent counts from its start: the kernel's raw count still shows the old one."""
    container = run("sh", "-c", "tail /dev/zero; sleep 1000", name="older", mem_limit="8m")
    wait_for(lambda: memory_events(container)["oom_kill"] == 1, 30, "no kill")

    coroner = agent()

    wait_for(lambda: kills(coroner, "older") == 0, 30, "the counter is not there, or counts history")
    assert coroner.value("coroner_container_memory_events_oom_kill_total", container="older") == 1


def test_a_forged_line_is_no_kill(shared: Shared, run: Run) -> None:
    """Whoever can write to /dev/kmsg gets another facility from the kernel."""
    coroner = shared.agent
    container = run("sleep", "1000", name="innocent")
    wait_for(lambda: kills(coroner, "innocent") == 0, 30, "the counter was not born at 0")
    path = f"/docker/{container.id}"
    before = coroner.value("coroner_kmsg_forged_records_total")
    assert before is not None
    with open("/dev/kmsg", "w") as log:
        for prefix in ("", "<0>", "<3>", "<30>"):
            log.write(
                f"{prefix}Memory cgroup out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB\n"
            )
            log.flush()
            log.write(
                f"{prefix}oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg={path},task_memcg={path},task=x,pid=7,uid=0\n"
            )
            log.flush()

    wait_for(lambda: coroner.value("coroner_kmsg_forged_records_total") == before + 8, 30, "the forgeries were not seen")
    assert kills(coroner, "innocent") == 0
    assert shared.rise() == NONE


def test_twenty_kills_at_once_over_five_containers_are_exact(shared: Shared, run: Run) -> None:
    """Each container has its four, and the node its twenty; of the second ten the kernel does not say whose they are."""
    # Not by read(2): user-mode Linux 6.1 may panic when the OOM killer takes a process in the middle of a large one.
    start = WAIT + """for n in 1 2 3 4; do awk 'BEGIN { s = "x"; while (1) s = s s }' & done; wait; sleep 1000"""
    names = [f"burst-{number}" for number in range(5)]
    containers = in_parallel(*(lambda name=name: run("sh", "-c", start, name=name, mem_limit="8m") for name in names))
    wait_for(lambda: shared.kills(names) == dict.fromkeys(names, 0), 30, "not born at 0")
    for container in containers:
        let_go(cgroup(container))
    wait_for(lambda: [memory_events(container)["oom_kill"] for container in containers] == [4] * 5, 60, "not twenty kills")

    wait_for(lambda: shared.kills(names) == dict.fromkeys(names, 4), 30, "not four each on the page")
    assert shared.rise() == NONE | {"container": 20}


def test_fourteen_containers_killed_at_once_have_one_kill_each(shared: Shared, run: Run) -> None:
    """The kernel log names the cgroup of ten victims per five seconds, memory.events goes with the container: its last words tell, and
    where the runtime was faster, the PID that the log gives is that of the container's init. Whose limit was hit nothing tells then.
    """
    names = [f"storm-{number}" for number in range(14)]
    start = WAIT + "exec tail /dev/zero"
    containers = in_parallel(*(lambda name=name: run("sh", "-c", start, name=name, mem_limit="8m") for name in names))
    wait_for(lambda: shared.kills(names) == dict.fromkeys(names, 0), 30, "not born at 0")
    for container in containers:
        let_go(cgroup(container))
    for container in containers:
        assert container.wait()["StatusCode"] == 137

    wait_for(lambda: shared.kills(names) == dict.fromkeys(names, 1), 60, lambda: f"not one each on the page: {shared.kills(names)}")
    by_scope = shared.rise()
    assert by_scope["container"] + by_scope["ancestor"] == sum(by_scope.values()) == 14


def test_a_burst_of_kills_in_one_container_and_then_one_every_300_ms_are_exact(shared: Shared, run: Run) -> None:
    """The kernel names the cgroup of only ten kills per five seconds; memory.events counts all. The counter never falls."""
    coroner, seen = shared.agent, [0.0]
    burst, slowly = "for n in $(seq 20); do tail /dev/zero; done; ", "for n in $(seq 15); do tail /dev/zero; sleep 0.3; done; "
    container = run("sh", "-c", burst + WAIT + slowly + "sleep 1000", name="burst", mem_limit="8m")

    def at(count: int) -> bool:
        seen.append(kills(coroner, "burst") or seen[-1])
        return memory_events(container)["oom_kill"] == count

    wait_for(lambda: at(20), 60, "not twenty kills")
    wait_for(lambda: kills(coroner, "burst") == 20, 30, lambda: f"not twenty on the page but {kills(coroner, 'burst')}")
    assert sum(shared.rise().values()) == 20
    before = shared.rise()
    let_go(cgroup(container))
    wait_for(lambda: at(35), 90, "not fifteen more")
    wait_for(lambda: kills(coroner, "burst") == 35, 30, lambda: f"not fifteen more on the page but {kills(coroner, 'burst')}")
    assert seen == sorted(seen)
    assert shared.rise() == before | {"container": before["container"] + 15}


def test_with_oom_group_each_process_counts_once(shared: Shared, run: Run) -> None:
    """The kernel counts and logs the first victim twice, and says how often it did so; those that die with PID 1 are no kills."""

    def parents() -> dict[str, int]:
        lines = (CGROUPS / "docker/memory.events").read_text().splitlines()
        return {name: int(value) for name, value in map(str.split, lines)}

    coroner = shared.agent
    container = run("sh", "-c", "sleep 1000 & sleep 1000 & " + WAIT + "tail /dev/zero; true", name="group", mem_limit="8m")
    wait_for(lambda: kills(coroner, "group") == 0, 30, "not born at 0")
    before = parents()
    (cgroup(container) / "memory.oom.group").write_text("1")
    let_go(cgroup(container))
    container.wait()
    rise = {key: value - before[key] for key, value in parents().items()}
    truth = rise["oom_kill"] - rise["oom_group_kill"]

    assert rise["oom_group_kill"] == 1
    assert truth >= 2
    wait_for(lambda: kills(coroner, "group") == truth, 30, f"not {truth} on the page")
    assert [kills(coroner, "group") for _ in range(3)] == [truth] * 3
    assert shared.rise() == NONE | {"container": truth}


def test_a_kill_at_the_pods_limit_has_the_scope_pod(agent: StartAgent, run: Run, restricted_kernel_log: None) -> None:
    """The container has no limit of its own; with the log and without it."""
    pod = "kubepods/burstable/pod12345678-1234-1234-1234-123456789abc"
    directory = CGROUPS / pod
    directory.mkdir(parents=True)
    for parent in (CGROUPS / "kubepods", CGROUPS / "kubepods/burstable", directory):
        (parent / "cgroup.subtree_control").write_text("+memory +pids +cpu +io")
    (directory / "memory.max").write_text(str(16 << 20))
    told, blind = agent(), agent("--path.kmsg=/nonexistent", under=NO_KERNEL_LOG)
    container = run("sh", "-c", WAIT + "tail /dev/zero; sleep 1000", name="in-pod", cgroup_parent=f"/{pod}")
    for coroner in (told, blind):
        wait_for(lambda c=coroner: kills(c, "in-pod") is not None, 30, "not born")  # type: ignore[misc] # the default binds
    let_go(directory / str(container.id))
    events = directory / str(container.id) / "memory.events"
    wait_for(lambda: "oom_kill 1" in events.read_text(), 30, "no kill")

    for coroner in (told, blind):
        wait_for(lambda c=coroner: kills(c, "in-pod") == 1, 30, "not on the page")  # type: ignore[misc] # the default binds
        assert node_kills(coroner) == {"container": 0, "pod": 1, "ancestor": 0, "node": 0}


def test_a_zombie_that_keeps_its_removed_cgroup_dying_is_one_kill(shared: Shared, run: Run, docker: DockerClient) -> None:
    """The container is removed, and the kernel keeps its cgroup for a victim that nobody waits for."""
    coroner = shared.agent
    container = run("sleep", "1000", name="haunted", mem_limit="30m")
    wait_for(lambda: kills(coroner, "haunted") == 0, 30, "not born at 0")
    directory = cgroup(container)
    eat = f"open({str(directory / 'cgroup.procs')!r}, 'w').write('0')\nb = bytearray()\nwhile True: b += bytes(1 << 20)"
    with subprocess.Popen([sys.executable, "-c", eat]) as victim:  # not waited for before the end of this block
        wait_for(lambda: memory_events(container)["oom_kill"] == 1, 60, "no kill")
        container.remove(force=True)
        wait_for(lambda: not directory.exists(), 30, "the cgroup is still there")

        assert Path(f"/proc/{victim.pid}/cgroup").read_text().endswith(" (deleted)\n"), "no zombie keeps it"
        wait_for(lambda: kills(coroner, "haunted") == 1, 30, "not on the page")
        assert [kills(coroner, "haunted") for _ in range(3)] == [1, 1, 1]
        assert shared.rise() == NONE | {"container": 1}
    assert victim.returncode == -9


LEADER_ENDS = """
import ctypes, threading
def eat():
    b = bytearray()
    while True:
        b += bytes(1 << 20)
threading.Thread(target=eat).start()
ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
"""


def test_a_victim_whose_leader_has_ended_is_one_kill(shared: Shared, run_python: Run) -> None:
    """Go and Java programs may end their first thread: the kernel then names one of the others, by its own number."""
    coroner = shared.agent
    run_python(f"import os, signal\nif not os.fork():\n exec({LEADER_ENDS!r})\nos.wait()\nsignal.pause()", name="threads", mem_limit="60m")

    wait_for(lambda: kills(coroner, "threads") == 1, 60, "not on the page")
    [victim] = shared.victims("threads")
    assert victim["scope"] == "container"
    assert [kills(coroner, "threads") for _ in range(3)] == [1, 1, 1]
    assert shared.rise() == NONE | {"container": 1}


@pytest.fixture
def local_events() -> Iterator[None]:
    """Mount the hierarchy so that a cgroup counts its own events only."""
    subprocess.run(["mount", "-o", "remount,memory_localevents", CGROUPS], check=True)
    yield
    subprocess.run(["mount", "-o", "remount", CGROUPS], check=True)


def test_with_local_events_what_is_nested_is_summed_up(
    agent: StartAgent, run: Run, local_events: None, restricted_kernel_log: None
) -> None:
    """memory_localevents: the container's own memory.events says nothing of the cgroup in it, whose process is killed."""
    told, blind = agent(), agent("--path.kmsg=/nonexistent", under=NO_KERNEL_LOG)
    container = run("sh", "-c", WAIT + "tail /dev/zero; sleep 1000", name="outer", mem_limit="30m")
    for coroner in (told, blind):
        wait_for(lambda c=coroner: kills(c, "outer") == 0, 30, "not born at 0")  # type: ignore[misc] # the default binds
    own = cgroup(container)
    inner = own / "inner"
    inner.mkdir()
    while pids := (own / "cgroup.procs").read_text().split():
        for pid in pids:
            with suppress(ProcessLookupError):  # a sleep of WAIT that has ended
                (inner / "cgroup.procs").write_text(pid)
    (own / "cgroup.subtree_control").write_text("+memory")
    for coroner in (told, blind):
        coroner.scrape()  # what is in the container was there before
    (inner / "memory.max").write_text(str(16 << 20))
    let_go(inner)
    wait_for(lambda: "oom_kill 1" in (inner / "memory.events").read_text(), 30, "no kill")

    assert memory_events(container)["oom_kill"] == 0
    for coroner in (told, blind):
        wait_for(lambda c=coroner: kills(c, "outer") == 1, 30, "not on the page")  # type: ignore[misc] # the default binds
        assert node_kills(coroner) == {"container": 1, "pod": 0, "ancestor": 0, "node": 0}


@pytest.fixture
def little_memory(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Leave 200 MiB of the machine's memory to whoever wants it: a file has the rest, which is quicker than to have a process touch it."""
    disk = tmp_path / "ballast"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100%", "none", disk], check=True)

    def fill() -> None:
        with (disk / "file").open("wb", buffering=0) as file:
            while psutil.virtual_memory().available > 200 << 20:
                file.write(bytes(1 << 20))

    yield fill
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_node_without_memory_has_kills_of_scope_node(shared: Shared, run: Run, little_memory: Callable[[], None]) -> None:
    """A container without a limit takes all that the machine has left; the kernel takes whom it likes least."""
    coroner = shared.agent
    container = run("sh", "-c", WAIT + "tail /dev/zero; sleep 1000", name="glutton", oom_score_adj=1000)
    wait_for(lambda: kills(coroner, "glutton") == 0, 30, "not born at 0")
    little_memory()
    let_go(cgroup(container))
    wait_for(lambda: memory_events(container)["oom_kill"] == 1, 120, "the machine has memory for all")

    wait_for(lambda: kills(coroner, "glutton") == 1, 30, "not on the page")
    assert shared.rise() == NONE | {"node": 1}


def test_a_kill_that_sysrq_asks_for_has_the_scope_node(shared: Shared, run: Run) -> None:
    """An administrator presses SysRq-f: the kernel's own OOM killer takes whom it likes least."""
    coroner = shared.agent
    run("sleep", "1000", name="least", oom_score_adj=1000)
    wait_for(lambda: kills(coroner, "least") == 0, 30, "not born at 0")
    Path("/proc/sysrq-trigger").write_text("f")

    wait_for(lambda: kills(coroner, "least") == 1, 30, "not on the page")
    assert shared.rise() == NONE | {"node": 1}


def test_a_victim_is_on_the_api_and_in_the_log(shared: Shared, run: Run) -> None:
    """Who it was, how big, and whose limit of how much it hit."""
    coroner = shared.agent
    container = run("sh", "-c", "tail /dev/zero; sleep 1000", name="web", mem_limit="16m")
    wait_for(lambda: kills(coroner, "web") == 1, 30, "not on the page")

    [victim] = shared.victims("web")

    assert {key: victim[key] for key in ("container", "comm", "scope", "uid", "limit_bytes", "cgroup", "limit_of")} == {
        "container": "web",
        "comm": "tail",
        "scope": "container",
        "uid": 0,
        "limit_bytes": 16 << 20,
        "cgroup": f"/docker/{container.id}",
        "limit_of": f"/docker/{container.id}",
    }
    assert victim["usage_bytes"] > 15 << 20
    assert victim["anon_rss_bytes"] > 1 << 20
    assert victim["is_init"] is False
    [line] = [line for line in coroner.log.splitlines() if 'msg="OOM kill"' in line and 'namespace="" pod="" container=web' in line]
    assert "is_init=False comm=tail" in line
    coroner.kill()
    coroner.start()
    assert shared.victims("web") == [victim]


def test_of_a_victim_that_is_gone_at_once_it_is_known_whether_it_was_init(shared: Shared, run: Run) -> None:
    """No scrape has seen these containers, and most of the victims are reaped before their line is read."""
    coroner = shared.agent
    commands = {True: ["tail", "/dev/zero"], False: ["sh", "-c", "tail /dev/zero; sleep 1000"]}
    inits = [True, False] * 2
    containers = in_parallel(*(lambda is_init=is_init: run(*commands[is_init], mem_limit="8m") for is_init in inits))
    expected = {f"/docker/{container.id}": is_init for container, is_init in zip(containers, inits, strict=True)}

    def victims() -> dict[str, bool | None]:
        return {victim["cgroup"]: victim["is_init"] for victim in coroner.victims() if victim["cgroup"] in expected}

    wait_for(lambda: victims().keys() == expected.keys(), 60, "not all victims were told of")
    assert victims() == expected


def test_a_victim_whose_user_the_kernel_prints_as_negative(shared: Shared, run_python: Run) -> None:
    """A user id from 2^31 on, as of containers in user namespaces: `uid=-2` in the report, which alone names container and limit."""
    code = "import os; os.setuid(4294967294); x = bytearray(100 << 20)"
    run_python(code, name="mapped", mem_limit="30m").wait()

    wait_for(lambda: kills(shared.agent, "mapped") == 1, 30, "not counted")
    [victim] = shared.victims("mapped")
    facts = ("uid", "container", "scope", "limit_bytes", "usage_bytes")
    assert [victim[fact] for fact in facts] == [4294967294, "mapped", "container", 30 << 20, 30 << 20]
