"""OOM kills: each counted once, whoever dies, and however soon the container is gone."""

from docker import DockerClient

from tests.lab.guest.node import Agent, Run, StartAgent, memory_events, wait_for


def kills(agent: Agent, container: str) -> float | None:
    """The count of record for one container."""
    return agent.value("coroner_container_oom_kills_total", container=container)


def node_kills(agent: Agent) -> dict[str, float | None]:
    """The node's count, by scope."""
    return {scope: agent.value("coroner_oom_kills_total", scope=scope) for scope in ("container", "pod", "ancestor", "node")}


def test_an_init_killed_at_its_own_limit_is_one_kill_of_scope_container(agent: StartAgent, run: Run) -> None:
    """The container is gone with it; its counter stays."""
    coroner = agent()
    container = run("tail", "/dev/zero", name="greedy", mem_limit="30m")

    assert container.wait()["StatusCode"] == 137
    wait_for(lambda: kills(coroner, "greedy") == 1, 30, "the kill is not on the page")
    assert node_kills(coroner) == {"container": 1, "pod": 0, "ancestor": 0, "node": 0}


def test_a_child_killed_while_the_container_lives_on_is_counted(agent: StartAgent, run: Run) -> None:
    """`docker ps` shows a healthy container; the kernel killed its worker."""
    coroner = agent()
    container = run("sh", "-c", "sleep 2; tail /dev/zero; sleep 1000", name="parent", mem_limit="30m")

    wait_for(lambda: kills(coroner, "parent") == 0, 30, "the counter was not born at 0")
    wait_for(lambda: kills(coroner, "parent") == 1, 30, "the kill is not on the page")
    assert memory_events(container)["oom_kill"] == 1
    assert coroner.value("coroner_container_memory_events_oom_kill_total", container="parent") == 1
    container.reload()
    assert container.status == "running"


def test_a_container_that_lives_200_ms_and_is_removed_is_counted_exactly_once(agent: StartAgent, run: Run, docker: DockerClient) -> None:
    """It was born, killed and removed between two scrapes: the kernel log knows the kill, Docker's events the name."""
    coroner = agent()
    before = node_kills(coroner)["container"]
    container = run("tail", "/dev/zero", name="short", mem_limit="30m", auto_remove=True)
    wait_for(lambda: container.id not in {c.id for c in docker.containers.list(all=True, sparse=True)}, 30, "the container was not removed")

    assert before == 0
    wait_for(lambda: kills(coroner, "short") == 1, 30, "the kill is not on the page")
    assert [kills(coroner, "short") for _ in range(3)] == [1, 1, 1]
    assert node_kills(coroner)["container"] == 1


def test_a_kill_before_the_agents_start_is_history(agent: StartAgent, run: Run) -> None:
    """Without a memory of its own the agent counts from its start: the kernel's raw count still shows the old one."""
    container = run("sh", "-c", "tail /dev/zero; sleep 1000", name="older", mem_limit="30m")
    wait_for(lambda: memory_events(container)["oom_kill"] == 1, 30, "no kill")

    coroner = agent()

    wait_for(lambda: kills(coroner, "older") == 0, 30, "the counter is not there, or counts history")
    assert coroner.value("coroner_container_memory_events_oom_kill_total", container="older") == 1


def test_a_forged_line_is_no_kill(agent: StartAgent, run: Run) -> None:
    """Whoever can write to /dev/kmsg gets another facility from the kernel."""
    coroner = agent()
    container = run("sleep", "1000", name="innocent")
    wait_for(lambda: kills(coroner, "innocent") == 0, 30, "the counter was not born at 0")
    path = f"/docker/{container.id}"
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

    wait_for(lambda: coroner.value("coroner_kmsg_forged_records_total") == 8, 30, "the forgeries were not seen")
    assert kills(coroner, "innocent") == 0
    assert set(node_kills(coroner).values()) == {0}


def test_a_burst_of_kills_in_one_container_is_exact(agent: StartAgent, run: Run) -> None:
    """The kernel names the cgroup of only ten kills per five seconds; memory.events counts all."""
    coroner = agent()
    container = run("sh", "-c", "for n in $(seq 20); do tail /dev/zero; done; sleep 1000", name="burst", mem_limit="16m")
    wait_for(lambda: memory_events(container)["oom_kill"] == 20, 60, "not twenty kills")

    wait_for(lambda: kills(coroner, "burst") == 20, 30, f"not twenty on the page but {kills(coroner, 'burst')}")
    assert sum(value or 0 for value in node_kills(coroner).values()) == 20
