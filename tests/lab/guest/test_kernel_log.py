"""The kernel log's follower on a real kernel: floods, forgeries, names that lie, and syslog(2) in place of the device."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from collectors.kernel.kmsg import parse_record
from collectors.kernel.oom_log import looks_like_oom
from tests.lab.guest.node import (
    CGROUPS,
    NO_KERNEL_LOG,
    Agent,
    Daemon,
    Run,
    StartAgent,
    agents,
    cgroup,
    in_parallel,
    kernel_log,
    memory_events,
    wait_for,
)

FLOOD = """
import os
log = os.open("/dev/kmsg", os.O_WRONLY)
for number in range(30_000):
    os.write(log, b"<14>flood %d of a user\\n" % number)
"""
EAT = "b = bytearray()\nwhile True: b += bytes(1 << 20)"
LIARS = (b"a) b,pid=1,u", b",task=x,pid=1", b"oom-kill:constr", b"Out of memory: ")


def kills(agent: Agent, container: str) -> float | None:
    """The count of record for one container."""
    return agent.value("coroner_container_oom_kills_total", container=container)


def node_kills(agent: Agent) -> float:
    """The node's count, over all scopes."""
    return sum(agent.family("coroner_oom_kills_total").values())


class Log:
    """The kernel log, read from where it was read to before: after a flood it is long."""

    def __init__(self) -> None:
        self._device = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        self._newest = 0

    def newest(self) -> int:
        """The number of the last record."""
        while True:
            try:
                self._newest = int(os.read(self._device, 8192).split(b",")[1])
            except BrokenPipeError:  # the oldest records were overwritten: the next read goes on behind the gap
                continue
            except BlockingIOError:
                return self._newest

    def close(self) -> None:
        """Read no more."""
        os.close(self._device)


@pytest.fixture(scope="module")
def log() -> Iterator[Log]:
    """The kernel log."""
    with contextlib.closing(Log()) as opened:
        yield opened


class Shared:
    """An agent that tests share, and what its counts have risen by since the test began."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._kills, self._forgeries = node_kills(agent), self._forged()

    def _forged(self) -> float:
        return agent_value(self.agent, "coroner_kmsg_forged_records_total")

    def node_kills(self) -> float:
        """The node's count, over all scopes."""
        return node_kills(self.agent) - self._kills

    def forgeries(self) -> float:
        """How many forged records it has seen."""
        return self._forged() - self._forgeries


def agent_value(agent: Agent, name: str) -> float:
    """Return the value of a series that is always there."""
    value = agent.value(name)
    assert value is not None
    return value


@pytest.fixture
def shared(shared_agent: Agent) -> Shared:
    """The agent that tests share; its counts begin anew."""
    return Shared(shared_agent)


@pytest.fixture(scope="module")
def agent_of_syslog(dockerd: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Start one agent for all tests that need one without the device."""
    with agents(tmp_path_factory.mktemp("syslog")) as start:
        yield start("--path.kmsg=/nonexistent/kmsg")


@pytest.fixture
def through_syslog(agent_of_syslog: Agent) -> Shared:
    """The agent without the device that tests share; its counts begin anew."""
    return Shared(agent_of_syslog)


def accounted(agent: Agent) -> float:
    """Records that the agent has read, and those that it knows it lost."""
    page = {name: value for (name, _), value in agent.beginning("coroner_kmsg_").items()}
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


def test_after_a_flood_of_30_000_lines_the_kill_counts_and_the_loss_is_exact(
    agent: StartAgent, run: Run, log: Log, unlimited_writers: None
) -> None:
    """The log alone counts here, for there are no cgroups; the agent answers all the while."""
    coroner = agent("--path.cgroupfs=/nonexistent")
    first = log.newest()
    wait_for(lambda: accounted(coroner) >= 0 and log.newest() == first, 30, "the kernel log is not quiet")
    known = accounted(coroner)

    flood = subprocess.Popen([sys.executable, "-c", FLOOD])
    scrapes = 0
    while flood.poll() is None:
        coroner.scrape()
        scrapes += 1
    run("tail", "/dev/zero", name="greedy", mem_limit="8m")

    assert flood.returncode == 0
    assert scrapes > 1
    wait_for(lambda: kills(coroner, "greedy") == 1, 30, "the kill is not on the page")
    wait_for(
        lambda: accounted(coroner) - known == log.newest() - first,
        30,
        f"not all accounted for: {accounted(coroner)}, {log.newest() - first}",
    )
    assert log.newest() - first >= 30_000


def test_a_real_report_written_again_under_every_prefix_is_no_kill(shared: Shared, run: Run, log: Log, unlimited_writers: None) -> None:
    """The text is the kernel's own, to the byte; what a process wrote has another facility, whatever it asked for."""
    first = log.newest()
    container = run("sh", "-c", "tail /dev/zero; sleep 1000", name="victim", mem_limit="8m")
    wait_for(lambda: memory_events(container)["oom_kill"] == 1, 30, "no kill")
    records = [parse_record(raw.encode()) for raw in kernel_log()]
    report = [record.text for record in records if record.sequence > first and record.facility == 0]
    evidence = sum(map(looks_like_oom, report))
    assert evidence == 2, report
    wait_for(lambda: kills(shared.agent, "victim") == 1, 30, "the kill is not on the page")
    lost = shared.agent.value("coroner_kmsg_lost_records_total")

    device = os.open("/dev/kmsg", os.O_WRONLY)
    for prefix in range(192):
        for text in report:
            os.write(device, b"<%d>%s\n" % (prefix, text[:900]))  # without a newline it would wait for the next one
        if prefix % 16 == 15:  # some 500 records, and the ring (boot.py) holds 2,500
            expected = evidence * (prefix + 1)
            wait_for(lambda n=expected: shared.forgeries() == n, 30, f"not {expected} forgeries")  # type: ignore[misc] # the default binds
    os.close(device)

    assert shared.agent.value("coroner_kmsg_lost_records_total") == lost
    assert kills(shared.agent, "victim") == 1
    assert shared.node_kills() == 1


def test_processes_named_like_the_fields_of_the_log_mislead_nobody(shared: Shared, run: Run, run_python: Run) -> None:
    """Four children, each with a name that a careless parser takes for a pid, a task or a line of its own."""
    coroner = shared.agent
    run("sleep", "1000", name="bystander")
    children = f"for name in {LIARS!r}:\n if not os.fork():\n  open('/proc/self/comm', 'wb').write(name)\n  exec({EAT!r})\n os.wait()\n"
    liar = run_python(f"import os, signal\n{children}signal.pause()", name="liar", mem_limit="60m")

    wait_for(lambda: memory_events(liar)["oom_kill"] == len(LIARS), 60, "not all were killed")
    wait_for(lambda: kills(coroner, "liar") == len(LIARS), 30, "not all are on the page")
    assert kills(coroner, "bystander") == 0
    assert shared.node_kills() == len(LIARS)

    def victims() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [victim for victim in coroner.victims() if victim["container"] != "victim"]
        return found if len(found) >= len(LIARS) else []

    named = wait_for(victims, 60, "not all victims are on the API")
    assert {(victim["comm"].encode(), victim["container"], victim["pid"] > 1) for victim in named} == {
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


def test_cgroups_named_like_the_fields_of_the_log_blame_no_container(shared: Shared, run: Run) -> None:
    """A path that goes on like the log's next fields, on the node and in a container: the container that it names is left alone."""
    coroner = shared.agent
    innocent, owner = in_parallel(*(lambda name=name: run("sleep", "1000", name=name) for name in ("unblamed", "owner")))
    wait_for(lambda: (kills(coroner, "unblamed"), kills(coroner, "owner")) == (0, 0), 30, "the counters were not born at 0")
    own = cgroup(owner)
    (own / "init").mkdir()
    for pid in (own / "cgroup.procs").read_text().split():
        (own / "init" / "cgroup.procs").write_text(pid)

    with nested(CGROUPS, "we,ird,task_memcg=", "docker", f"{innocent.id},task=x,pid=7") as directory:
        eat_in(directory)
        wait_for(lambda: shared.node_kills() == 1, 30, "not on the page")
    with nested(own, "x,task_memcg=", "docker", f"{innocent.id},task=x,pid=7") as directory:
        eat_in(directory)
        wait_for(lambda: kills(coroner, "owner") == 1, 30, "not on the page")
    assert kills(coroner, "unblamed") == 0
    assert shared.node_kills() == 2
    # To the agent a container in the container, on that one's word: neither is what it is called after, and its kill counts once.
    with nested(own, "y,task_memcg=", "docker", str(innocent.id)) as directory:
        eat_in(directory)
        wait_for(lambda: shared.node_kills() == 3, 30, "not on the page")
    wait_for(lambda: kills(coroner, str(innocent.id)[:12]) == 1, 30, "the container in the container is not on the page")
    assert (kills(coroner, "unblamed"), kills(coroner, "owner")) == (0, 1)
    assert shared.node_kills() == 3


def test_without_the_device_syslog_counts_a_kill_exactly_once(
    through_syslog: Shared, run: Run, docker: DockerClient, restricted_kernel_log: None
) -> None:
    """A container that is gone at once, so that the log alone knows; CAP_SYSLOG is enough for it."""
    coroner = through_syslog.agent
    before = coroner.value("coroner_oom_kills_total", scope="container") or 0
    container = run("tail", "/dev/zero", name="short", mem_limit="8m", auto_remove=True)
    wait_for(lambda: container.id not in {c.id for c in docker.containers.list(all=True, sparse=True)}, 30, "the container was not removed")

    wait_for(lambda: kills(coroner, "short") == 1, 30, "the kill is not on the page")
    wait_for_answers(coroner, 3)
    assert kills(coroner, "short") == 1
    assert through_syslog.node_kills() == 1
    assert coroner.value("coroner_oom_kills_total", scope="container") == before + 1, "the log says whose limit it was"
    assert coroner.value("coroner_source_up", source="kmsg") == 1
    assert coroner.value("coroner_kmsg_lost_records_total") is None, "unknown, not zero"
    assert "read through syslog(2)" in coroner.get("/")
    assert "/nonexistent/kmsg: No such file or directory" in coroner.get("/")


@pytest.mark.parametrize("way", ["shared", "through_syslog"])
def test_a_message_of_the_kernel_that_quotes_a_kill_is_none(request: pytest.FixtureRequest, run: Run, log: Log, way: str) -> None:
    """The kernel puts the name of what cannot be mounted into its log as it is, at the beginning, newlines and all."""
    shared: Shared = request.getfixturevalue(way)
    coroner, innocent, guilty = shared.agent, f"quoted-{way}", f"real-{way}"
    container = run("sleep", "1000", name=innocent)
    wait_for(lambda: kills(coroner, innocent) == 0, 30, "the counter was not born at 0")
    path = f"/docker/{container.id}"
    report = f"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg={path},task_memcg={path},task=x,pid=7,uid=0"
    line = "Memory cgroup out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB"
    first = log.newest()
    libc = ctypes.CDLL(None)
    sources = [line, f"x\n{report}\n{line}", f"{line}\n", f"{report}\n{line}\n{line}", f"x\n{line}\n"]
    for source in sources:
        assert libc.mount(source.encode(), b"/mnt", b"ext4", 0, None) == -1
    assert log.newest() == first + len(sources)
    assert all(raw.startswith("3,") and "Killed process 7" in raw for raw in kernel_log()[-len(sources) :]), "this kernel does not quote"

    run("sh", "-c", "tail /dev/zero; sleep 1000", name=guilty, mem_limit="8m")
    wait_for(lambda: kills(coroner, guilty) == 1, 30, "the kill is not on the page")
    assert kills(coroner, innocent) == 0
    assert shared.node_kills() == 1


def test_through_syslog_a_newline_in_the_log_forges_no_kill(through_syslog: Shared, run: Run, unlimited_writers: None) -> None:
    """A line that a process wrote with a newline in it is two lines there, both with the facility of processes."""
    container = run("sleep", "1000", name="newline")
    wait_for(lambda: kills(through_syslog.agent, "newline") == 0, 30, "the counter was not born at 0")
    text = b"Memory cgroup out of memory: Killed process 7 (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB"
    path = f"/docker/{container.id}".encode()
    report = b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=%s,task_memcg=%s,task=x,pid=7,uid=0" % (path, path)
    device = os.open("/dev/kmsg", os.O_WRONLY)
    for prefix in (0, 3, 6, 30):
        os.write(device, b"<%d>%s\n" % (prefix, report))
        os.write(device, b"<%d>hello\n<3>[    1.000000] %s\n%s\n" % (prefix, text, text))
    os.close(device)

    wait_for(lambda: through_syslog.forgeries() == 8, 30, "the forgeries were not seen")
    assert through_syslog.node_kills() == 0


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
    container = run("sh", "-c", "tail /dev/zero; sleep 1000", name="parent", mem_limit="8m")

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
        run("tail", "/dev/zero", name=name, mem_limit="8m", auto_remove=True)

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
        run("tail", "/dev/zero", name="short", mem_limit="8m", auto_remove=True)
        wait_for(lambda: not docker.containers.list(all=True, sparse=True, filters={"name": "short"}), 30, "not removed")
        coroner.process.send_signal(signal.SIGCONT)

        wait_for(lambda: node_kills(coroner) == 1, 60, "not on the page")
        assert coroner.value("coroner_oom_kills_total", scope="ancestor") == 1
    finally:
        instances.write_text(before)
