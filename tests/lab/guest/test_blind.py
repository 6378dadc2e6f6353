"""What the agent may not see, or what is not there, costs only itself and is said."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guest.node import CGROUPS, WAIT, Run, StartAgent, cgroup, let_go, wait_for

NO_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
NOBODY = [*NO_CAPABILITIES, "--reuid=65534", "--regid=65534", "--clear-groups"]
TWO_ZOMBIES = "import os, signal\nfor _ in range(2):\n    os.fork() or os._exit(0)\nsignal.pause()"


def test_without_any_capability_the_rest_is_served_and_the_remedy_is_named(
    agent: StartAgent, run: Run, run_python: Run, restricted_kernel_log: None
) -> None:
    """Cgroups, zombies per container and kills need no privilege; PID namespaces and the kernel log do."""
    coroner = agent(under=NO_CAPABILITIES)
    run_python(TWO_ZOMBIES, name="careless")
    run("sh", "-c", "sleep 3; tail /dev/zero; sleep 1000", name="parent", mem_limit="30m")

    wait_for(lambda: coroner.value("coroner_container_zombies", container="careless", parent="init") == 2, 30, "no zombies")
    wait_for(lambda: coroner.value("coroner_container_oom_kills_total", container="parent") == 1, 30, "no kill")
    up = {source: coroner.value("coroner_source_up", source=source) for source in ("cgroup", "proc", "kmsg", "docker")}
    assert up == {"cgroup": 1, "proc": 0, "kmsg": 0, "docker": 1}
    assert coroner.value("coroner_container_init_info", container="careless") is None, "whose PID 1 is whose is not known"
    assert "/dev/kmsg: Operation not permitted" in coroner.log
    assert "CAP_SYSLOG" in coroner.log
    assert "CAP_SYS_PTRACE" in coroner.log
    unknown = coroner.value("coroner_pid_namespace_zombies", pid_namespace="unknown")
    assert unknown == 2, "a namespace that may not be read is not one without zombies"
    assert "CAP_SYSLOG" in coroner.get("/"), "the status page says it too"


def test_what_an_owner_closes_costs_an_agent_without_the_capability_that_and_nothing_else(
    agent: StartAgent, run: Run, restricted_kernel_log: None
) -> None:
    """A file of one container, the directory of another, and one that only its user may look into, as systemd gives one to a user."""
    shy = run("sh", "-c", f"{WAIT}tail /dev/zero; sleep 1000", name="shy", mem_limit="30m")
    shut, _ = run("sleep", "1000", name="shut"), run("sleep", "1000", name="neighbour")
    theirs = CGROUPS / "closed"
    for directory in (theirs, cgroup(shut)):
        (directory / "inner").mkdir(parents=True)
    (cgroup(shy) / "memory.events").chmod(0)  # before it is open: what an agent has open is read on
    coroner = agent(under=NO_CAPABILITIES)
    names = ("shy", "shut", "neighbour")
    wait_for(lambda: all(coroner.value("coroner_container_threads", container=name) for name in names), 30, "not all measured")
    assert coroner.value("coroner_containers", state="running") == 3

    def kills() -> tuple[float | None, float | None]:
        page = coroner.scrape()
        by_scope = [value for (name, _), value in page.items() if name == "coroner_oom_kills_total"]
        of_shy = coroner.value("coroner_container_oom_kills_total", container="shy")
        return of_shy, sum(by_scope) if by_scope else None

    def deaths() -> list[str]:
        page = coroner.scrape()
        return [dict(labels)["container"] for (name, labels), value in page.items() if name == "coroner_container_deaths_total" and value]

    assert kills() == (None, 0)
    let_go(cgroup(shy))
    wait_for(lambda: kills() == (None, 1), 30, lambda: f"{kills()}: the node's is counted by the cgroup above, whose it is is not known")
    assert coroner.value("coroner_container_memory_events_oom_kill_total", container="shy") is None
    assert (coroner.value("coroner_container_memory_usage_bytes", container="shy") or 0) > 0
    assert f"{cgroup(shy)}/memory.events: its owner closed it" in coroner.log
    assert coroner.value("coroner_containers", state="running") == 3

    os.chown(theirs, 1000, 1000)
    theirs.chmod(0o700)
    cgroup(shut).chmod(0)
    for _ in range(3):
        page = coroner.scrape()
        shown = {name for name, _ in page}
        assert coroner.value("coroner_source_up", source="cgroup") == 1
        assert f"{theirs}: its owner closed it" in coroner.log
        assert "CAP_DAC_READ_SEARCH" in coroner.get("/"), "the status page says it too"
        assert "coroner_leftover_cgroups" not in shown, "what is hidden is not 0"
        assert coroner.value("coroner_containers", state="running") is None
        assert kills() == (None, 1), "the slice above tells, and is open"
        assert all(coroner.value("coroner_container_threads", container=name) for name in ("shy", "neighbour"))
        failed = [dict(labels)["collector"] for (name, labels), value in page.items() if name.endswith("_collector_success") and not value]
        assert not {"cpu", "memory", "headroom", "pids", "io", "pressure", "lifecycle", "leftovers", "oom"} & {*failed}
        assert deaths() == []

    shut.remove(force=True)
    wait_for(lambda: deaths() == ["shut"], 30, lambda: coroner.log)
    (cgroup(shy) / "memory.events").chmod(0o644)
    theirs.chmod(0o755)
    wait_for(lambda: kills() == (0, 1), 30, lambda: f"{kills()}: it is counted once, and what was before the first look is history")
    assert coroner.value("coroner_containers", state="running") == 2
    assert deaths() == ["shut"]
    (theirs / "inner").rmdir()
    theirs.rmdir()


def test_without_cgroup_v2_zombies_and_the_kernel_log_are_still_served(agent: StartAgent, run: Run, run_python: Run) -> None:
    """As on a host with cgroup v1; the message says what to do."""
    coroner = agent("--path.cgroupfs=/nonexistent")
    run_python(TWO_ZOMBIES, name="careless")
    run("tail", "/dev/zero", name="greedy", mem_limit="30m")

    wait_for(lambda: coroner.value("coroner_pid_namespace_zombies", container="careless") == 2, 30, "no zombies")
    wait_for(lambda: coroner.value("coroner_container_oom_kills_total", container="greedy") == 1, 30, "no kill")
    assert coroner.value("coroner_source_up", source="cgroup") == 0
    assert coroner.value("coroner_source_up", source="kmsg") == 1
    assert coroner.value("coroner_container_threads", container="careless") is None, "absent, not 0"
    assert "/nonexistent: no cgroup v2 here" in coroner.log
    assert "systemd.unified_cgroup_hierarchy=1" in coroner.log


def test_something_else_in_the_place_of_the_kernel_log_is_recognised(agent: StartAgent, tmp_path: Path) -> None:
    """kind and LXC bind /dev/null there, and a mistaken mount makes a file."""
    (tmp_path / "kmsg").write_text("6,1,1,-;hello\n")

    for path, reason in (("/dev/null", "this is not the kernel log"), (f"{tmp_path}/kmsg", "not a character device")):
        coroner = agent(f"--path.kmsg={path}")
        wait_for(lambda agent=coroner, reason=reason: reason in agent.log, 30, f"{path} was not recognised")  # type: ignore[misc] # defaults
        assert "read through syslog(2)" in coroner.get("/"), "which needs no device"
        assert coroner.value("coroner_source_up", source="kmsg") == 1


@pytest.fixture(params=[2, 4])
def hiding(request: pytest.FixtureRequest) -> Iterator[tuple[int, Path]]:
    """Mount a /proc with hidepid=, as systemd does for a unit with ProtectProc=."""
    place = Path(f"/run/proc-{request.param}")  # the directory of a test is root's alone
    place.mkdir()
    subprocess.run(["mount", "-t", "proc", "-o", f"hidepid={request.param}", "proc", place], check=True)
    yield request.param, place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_processes_that_proc_hides_are_not_none(agent: StartAgent, run_python: Run, hiding: tuple[int, Path]) -> None:
    """Counts of what is left are absent, and the remedy is named: CAP_SYS_PTRACE, with which all are seen.

    Root without it is in the group that hidepid=2 hides nothing from, and may look at its own processes but for those with more
    privileges.
    """
    option, place = hiding
    run_python(TWO_ZOMBIES, name="careless")
    blind = agent(f"--path.procfs={place}", "--path.state=", under=NOBODY if option == 2 else NO_CAPABILITIES)
    sighted = agent(f"--path.procfs={place}")

    wait_for(lambda: sighted.value("coroner_container_zombies", container="careless", parent="init") == 2, 30, "no zombies")
    assert sighted.value("coroner_source_up", source="proc") == 1
    assert sighted.value("coroner_pid_namespace_zombies", container="careless") == 2

    page = {name: value for (name, _), value in blind.scrape().items()}
    assert not {name for name in page if "zombie" in name or "pid_namespace" in name}, "what is hidden is not 0"
    assert blind.value("coroner_source_up", source="proc") == 0
    assert blind.value("coroner_scrape_collector_success", collector="zombies") == 0
    assert page["coroner_node_threads"] > 0, "the rest is there"
    for told in (blind.log, blind.get("/")):
        assert f"the processes of other users are hidden (mount option hidepid={'invisible' if option == 2 else 'ptraceable'})" in told
        assert "CAP_SYS_PTRACE" in told
