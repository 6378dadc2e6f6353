"""The kernel log's follower on a real kernel: floods, forgeries, names that lie, and syslog(2) in place of the device."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from collectors.kernel.kmsg import parse_record
from collectors.kernel.oom_log import looks_like_oom
from tests.lab.guest.node import CGROUPS, NO_KERNEL_LOG, Agent, Run, StartAgent, cgroup, kernel_log, memory_events, wait_for

FLOOD = """
import os
log = os.open("/dev/kmsg", os.O_WRONLY)
for number in range(100_000):
    os.write(log, b"<14>flood %d of a user\\n" % number)
"""
EAT = "b = bytearray()\nwhile True: b += bytes(1 << 20)"
LIARS = (b"a) b,pid=1,u", b",task=x,pid=1", b"oom-kill:constr", b"Out of memory: ")


def kills(agent: Agent, container: str) -> float | None:
    """The count of record for one container."""
    return agent.value("coroner_container_oom_kills_total", container=container)


def node_kills(agent: Agent) -> float:
    """The node's count, over all scopes."""
    return sum(value for (name, _), value in agent.scrape().items() if name == "coroner_oom_kills_total")


def newest() -> int:
    """The number of the kernel log's last record."""
    return int(kernel_log()[-1].split(",")[1])


def accounted(agent: Agent) -> float:
    """Records that the agent has read, and those that it knows it lost."""
    page = {name: value for (name, labels), value in agent.scrape().items() if name.startswith("coroner_kmsg_")}
    return page["coroner_kmsg_records_total"] + page["coroner_kmsg_lost_records_total"]


def wait_for_answers(agent: Agent, count: int) -> None:
    """Wait until the kernel log was looked at so many times more."""

    def time() -> float:
        return agent.value("coroner_source_last_answer_timestamp_seconds", source="kmsg") or 0

    for _ in range(count):
        before = time()
        wait_for(lambda than=before: time() > than, 30, "the kernel log is not looked at")  # type: ignore[misc] # the default binds


@pytest.fixture
def unlimited_writers() -> Iterator[None]:
    """Let processes write to the kernel log as fast as they can; the default is ten lines per five seconds."""
    setting = Path("/proc/sys/kernel/printk_devkmsg")
    before = setting.read_text()
    setting.write_text("on\n")  # the kernel insists on the newline
    yield
    setting.write_text(before)


def test_after_a_flood_of_100_000_lines_the_kill_counts_and_the_loss_is_exact(agent: StartAgent, run: Run, unlimited_writers: None) -> None:
    """The log alone counts here, for there are no cgroups; the agent answers all the while."""
    coroner = agent("--path.cgroupfs=/nonexistent")
    first = newest()
    wait_for(lambda: accounted(coroner) >= 0 and newest() == first, 30, "the kernel log is not quiet")
    known = accounted(coroner)

    flood = subprocess.Popen([sys.executable, "-c", FLOOD])
    scrapes = 0
    while flood.poll() is None:
        coroner.scrape()
        scrapes += 1
    run("tail", "/dev/zero", name="greedy", mem_limit="30m")

    assert flood.returncode == 0
    assert scrapes > 1
    wait_for(lambda: kills(coroner, "greedy") == 1, 30, "the kill is not on the page")
    wait_for(lambda: accounted(coroner) - known == newest() - first, 30, f"not all accounted for: {accounted(coroner)}, {newest() - first}")
    assert newest() - first >= 100_000


def test_a_real_report_written_again_under_every_prefix_is_no_kill(agent: StartAgent, run: Run, unlimited_writers: None) -> None:
    """The text is the kernel's own, to the byte; what a process wrote has another facility, whatever it asked for."""
    first = newest()
    container = run("sh", "-c", "tail /dev/zero; sleep 1000", name="victim", mem_limit="30m")
    wait_for(lambda: memory_events(container)["oom_kill"] == 1, 30, "no kill")
    records = [parse_record(raw.encode()) for raw in kernel_log()]
    report = [record.text for record in records if record.sequence > first and record.facility == 0]
    evidence = sum(map(looks_like_oom, report))
    assert evidence == 2, report
    coroner = agent()

    log = os.open("/dev/kmsg", os.O_WRONLY)
    for prefix in range(192):
        for text in report:
            os.write(log, b"<%d>%s\n" % (prefix, text[:900]))  # without a newline it would wait for the next one
        if prefix % 2:  # the ring of this kernel holds some 250 records
            expected = evidence * (prefix + 1)
            wait_for(lambda n=expected: coroner.value("coroner_kmsg_forged_records_total") == n, 30, f"not {expected} forgeries")  # type: ignore[misc] # the default binds
    os.close(log)

    assert coroner.value("coroner_kmsg_lost_records_total") == 0
    assert kills(coroner, "victim") == 0
    assert node_kills(coroner) == 0


def test_processes_named_like_the_fields_of_the_log_mislead_nobody(agent: StartAgent, run: Run, run_python: Run) -> None:
    """Four children, each with a name that a careless parser takes for a pid, a task or a line of its own."""
    coroner = agent()
    run("sleep", "1000", name="innocent")
    children = f"for name in {LIARS!r}:\n if not os.fork():\n  open('/proc/self/comm', 'wb').write(name)\n  exec({EAT!r})\n os.wait()\n"
    liar = run_python(f"import os, signal\n{children}signal.pause()", name="liar", mem_limit="60m")

    wait_for(lambda: memory_events(liar)["oom_kill"] == len(LIARS), 60, "not all were killed")
    wait_for(lambda: kills(coroner, "liar") == len(LIARS), 30, "not all are on the page")
    assert kills(coroner, "innocent") == 0
    assert node_kills(coroner) == len(LIARS)
    victims = coroner.victims(len(LIARS))
    assert {(victim["comm"].encode(), victim["container"], victim["pid"] > 1) for victim in victims} == {
        (name, "liar", True) for name in LIARS
    }


@contextlib.contextmanager
def nested(top: Path, *names: str) -> Iterator[Path]:
    """Make cgroups one below the other, with memory limited to 20 MiB in the last; remove them at the end."""
    made = [top]
    try:
        for name in names:
            (made[-1] / "cgroup.subtree_control").write_text("+memory")
            made.append(made[-1] / name)
            made[-1].mkdir()
        (made[-1] / "memory.max").write_text(str(20 << 20))
        yield made[-1]
    finally:
        for directory in reversed(made[1:]):
            wait_for(lambda d=directory: "populated 0" in (d / "cgroup.events").read_text(), 30, "still populated")  # type: ignore[misc] # the default binds
            directory.rmdir()


def eat_in(directory: Path) -> None:
    """Be killed in a cgroup."""
    code = f"import os\nopen({str(directory / 'cgroup.procs')!r}, 'w').write('0')\n{EAT}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9


def test_cgroups_named_like_the_fields_of_the_log_blame_no_container(agent: StartAgent, run: Run) -> None:
    """A path that goes on like the log's next fields, on the node and in a container: the container that it names is left alone."""
    coroner = agent()
    innocent = run("sleep", "1000", name="innocent")
    owner = run("sleep", "1000", name="owner")
    wait_for(lambda: (kills(coroner, "innocent"), kills(coroner, "owner")) == (0, 0), 30, "the counters were not born at 0")
    own = cgroup(owner)
    (own / "init").mkdir()
    for pid in (own / "cgroup.procs").read_text().split():
        (own / "init" / "cgroup.procs").write_text(pid)

    with nested(CGROUPS, "we,ird,task_memcg=", "docker", f"{innocent.id},task=x,pid=7") as directory:
        eat_in(directory)
        wait_for(lambda: node_kills(coroner) == 1, 30, "not on the page")
    with nested(own, "x,task_memcg=", "docker", f"{innocent.id},task=x,pid=7") as directory:
        eat_in(directory)
        wait_for(lambda: kills(coroner, "owner") == 1, 30, "not on the page")
    assert kills(coroner, "innocent") == 0
    assert node_kills(coroner) == 2
    # To the agent a container in the container, on that one's word: neither is what it is called after, and its kill counts once.
    with nested(own, "y,task_memcg=", "docker", str(innocent.id)) as directory:
        eat_in(directory)
        wait_for(lambda: node_kills(coroner) == 3, 30, "not on the page")
    wait_for(lambda: kills(coroner, str(innocent.id)[:12]) == 1, 30, "the container in the container is not on the page")
    assert (kills(coroner, "innocent"), kills(coroner, "owner")) == (0, 1)
    assert node_kills(coroner) == 3


def test_without_the_device_syslog_counts_a_kill_exactly_once(
    agent: StartAgent, run: Run, docker: DockerClient, restricted_kernel_log: None
) -> None:
    """A container that is gone at once, so that the log alone knows; CAP_SYSLOG is enough for it."""
    coroner = agent("--path.kmsg=/nonexistent/kmsg")
    container = run("tail", "/dev/zero", name="short", mem_limit="30m", auto_remove=True)
    wait_for(lambda: container.id not in {c.id for c in docker.containers.list(all=True, sparse=True)}, 30, "the container was not removed")

    wait_for(lambda: kills(coroner, "short") == 1, 30, "the kill is not on the page")
    wait_for_answers(coroner, 3)
    assert kills(coroner, "short") == 1
    assert node_kills(coroner) == 1
    assert coroner.value("coroner_oom_kills_total", scope="container") == 1, "the log says whose limit it was"
    assert coroner.value("coroner_source_up", source="kmsg") == 1
    assert coroner.value("coroner_kmsg_lost_records_total") is None, "unknown, not zero"
    assert "read through syslog(2)" in coroner.get("/")
    assert "/nonexistent/kmsg: No such file or directory" in coroner.get("/")


@pytest.mark.parametrize("device", ["/dev/kmsg", "/nonexistent/kmsg"])
def test_a_message_of_the_kernel_that_quotes_a_kill_is_none(agent: StartAgent, run: Run, device: str) -> None:
    """The kernel puts the name of what cannot be mounted into its log as it is, at the beginning, newlines and all."""
    coroner = agent(f"--path.kmsg={device}")
    container = run("sleep", "1000", name="innocent")
    wait_for(lambda: kills(coroner, "innocent") == 0, 30, "the counter was not born at 0")
    path = f"/docker/{container.id}"
    report = f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg={path},task_memcg={path},task=x,pid=7,uid=0"
    line = "Memory cgroup out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB"
    first = newest()
    libc = ctypes.CDLL(None)
    sources = [line, f"x\n{report}\n{line}", f"{line}\n", f"{report}\n{line}\n{line}", f"x\n{line}\n"]
    for source in sources:
        assert libc.mount(source.encode(), b"/mnt", b"ext4", 0, None) == -1
    assert newest() == first + len(sources)
    assert all(raw.startswith("3,") and "Killed process 7" in raw for raw in kernel_log()[-len(sources) :]), "this kernel does not quote"

    run("sh", "-c", "tail /dev/zero; sleep 1000", name="real", mem_limit="30m")
    wait_for(lambda: kills(coroner, "real") == 1, 30, "the kill is not on the page")
    assert kills(coroner, "innocent") == 0
    assert node_kills(coroner) == 1


def test_through_syslog_a_newline_in_the_log_forges_no_kill(agent: StartAgent, run: Run, unlimited_writers: None) -> None:
    """A line that a process wrote with a newline in it is two lines there, both with the facility of processes."""
    coroner = agent("--path.kmsg=/nonexistent/kmsg")
    container = run("sleep", "1000", name="innocent")
    wait_for(lambda: kills(coroner, "innocent") == 0, 30, "the counter was not born at 0")
    text = b"Memory cgroup out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB"
    path = f"/docker/{container.id}".encode()
    report = b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=%s,task_memcg=%s,task=x,pid=7,uid=0" % (path, path)
    log = os.open("/dev/kmsg", os.O_WRONLY)
    for prefix in (0, 3, 6, 30):
        os.write(log, b"<%d>%s\n" % (prefix, report))
        os.write(log, b"<%d>hello\n<3>[    1.000000] %s\n%s\n" % (prefix, text, text))
    os.close(log)

    wait_for(lambda: coroner.value("coroner_kmsg_forged_records_total") == 8, 30, "the forgeries were not seen")
    assert node_kills(coroner) == 0


def test_kills_are_counted_once_when_the_device_comes_while_the_agent_runs(agent: StartAgent, run: Run, tmp_path: Path) -> None:
    """First syslog(2), then the device; this kernel's timestamps are so coarse that many records share one."""
    coroner = agent(f"--path.kmsg={tmp_path}/kmsg", "--path.cgroupfs=/nonexistent")
    run("sh", "-c", "tail /dev/zero; tail /dev/zero; sleep 1000", name="first", mem_limit="20m")
    wait_for(lambda: kills(coroner, "first") == 2, 30, "not on the page")
    assert coroner.value("coroner_kmsg_lost_records_total") is None

    os.mknod(tmp_path / "kmsg", 0o600 | 0o020000, os.makedev(1, 11))
    wait_for(lambda: coroner.value("coroner_kmsg_lost_records_total") == 0, 60, "the device is not taken")
    run("sh", "-c", "tail /dev/zero; sleep 1000", name="second", mem_limit="20m")
    wait_for(lambda: kills(coroner, "second") == 1, 30, "not on the page")

    assert kills(coroner, "first") == 2
    assert node_kills(coroner) == 3
    assert coroner.value("coroner_source_restarts_total", source="kmsg") == 0
    assert "read through syslog(2)" not in coroner.get("/")


def test_without_either_way_the_source_is_blind_and_living_containers_still_count(
    agent: StartAgent, run: Run, restricted_kernel_log: None
) -> None:
    """Blind is said, with both reasons; memory.events needs no privilege."""
    coroner = agent("--path.kmsg=/nonexistent/kmsg", under=NO_KERNEL_LOG)
    container = run("sh", "-c", "sleep 2; tail /dev/zero; sleep 1000", name="parent", mem_limit="30m")

    wait_for(lambda: memory_events(container)["oom_kill"] == 1, 30, "no kill")
    wait_for(lambda: kills(coroner, "parent") == 1, 30, "the kill is not on the page")
    assert coroner.value("coroner_source_up", source="kmsg") == 0
    assert "/nonexistent/kmsg: No such file or directory" in coroner.log
    assert "syslog(2): Operation not permitted; it needs CAP_SYSLOG" in coroner.log


def test_without_either_way_last_words_count_a_container_of_200_ms(agent: StartAgent, run: Run, restricted_kernel_log: None) -> None:
    """It was born, killed and removed between two scrapes; memory.events was read in the moment before the cgroup was gone."""
    coroner = agent("--path.kmsg=/nonexistent/kmsg", under=NO_KERNEL_LOG)
    names = [f"short-{number}" for number in range(5)]
    for name in names:
        run("tail", "/dev/zero", name=name, mem_limit="16m", auto_remove=True)

    wait_for(lambda: coroner.oom_kills() == dict.fromkeys(names, 1), 30, "not one each")
    assert node_kills(coroner) == coroner.value("coroner_oom_kills_total", scope="container") == 5


def test_what_no_container_tells_of_is_in_the_rise_of_the_slice(
    agent: StartAgent, run: Run, docker: DockerClient, restricted_kernel_log: None
) -> None:
    """Without the log and without last words the kill has no name, but the node's total has it."""
    instances = Path("/proc/sys/fs/inotify/max_user_instances")
    before = instances.read_text()
    instances.write_text("0")
    try:
        coroner = agent("--path.kmsg=/nonexistent/kmsg", under=NO_KERNEL_LOG)
        assert coroner.value("coroner_cgroup_inotify_up") == 0
        coroner.process.send_signal(signal.SIGSTOP)  # no pass sees it
        run("tail", "/dev/zero", name="short", mem_limit="16m", auto_remove=True)
        wait_for(lambda: not docker.containers.list(all=True, sparse=True, filters={"name": "short"}), 30, "not removed")
        coroner.process.send_signal(signal.SIGCONT)

        wait_for(lambda: node_kills(coroner) == 1, 60, "not on the page")
        assert coroner.value("coroner_oom_kills_total", scope="ancestor") == 1
    finally:
        instances.write_text(before)
