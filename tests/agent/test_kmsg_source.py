"""Following the kernel log: nothing lost unsaid, nothing forged believed, never ended by an error."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.identities import Identities, Identity
from agent.sources.kmsg import KernelLog
from agent.sources.kmsg_device import open_device
from agent.status import Status
from agent.supervise import Blind
from collectors.inquest.facts import FaultLogged
from collectors.inquest.kill_state import Cursor, State, Victim
from collectors.inquest.kills import KillLedger
from collectors.inquest.tally import Reading
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerKey
from tests.agent.desk import Desk
from tests.kills import settle
from tests.tree import proc, tree

ID = ContainerKey("c" * 64)
KILL = (
    "Memory cgroup out of memory: Killed process {pid} (tail) total-vm:33540kB, anon-rss:29132kB, file-rss:4kB, shmem-rss:0kB, "
    "UID:0 pgtables:104kB oom_score_adj:0"
)
CONTEXT = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/docker/{id},task_memcg=/docker/{id},"
    "task=tail,pid={pid},uid=0"
)


def record(sequence: int, text: str, prefix: int = 6) -> bytes:
    """Spell one record as the kernel does."""
    return f"{prefix},{sequence},{sequence * 1000},-;{text}\n".encode()


def kill(sequence: int, pid: int = 77) -> list[bytes]:
    """Spell the two records of one kill in the container."""
    return [record(sequence, CONTEXT.format(id=ID, pid=pid)), record(sequence + 1, KILL.format(pid=pid), prefix=3)]


class Log:
    """A kernel log whose reads are scripted: bytes are returned, errors raised, and at the end there is nothing new."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.identities = Identities()
        self.reads: list[bytes | int] = []
        self.opened = 0
        self.tmp_path = tmp_path
        self._pipes: list[int] = []
        self.start(None)
        monkeypatch.setattr("agent.sources.kmsg_device.os.read", self._read)

    def start(self, kept: State | None) -> None:
        """Let the agent be one that goes on from what was kept."""
        self.desk = Desk(self.identities, kept=kept, cgroup_root=str(self.tmp_path), proc_root=f"{self.tmp_path}/proc")
        self.kernel_log = KernelLog(
            path="/dev/kmsg",
            cgroup_root=str(self.tmp_path),
            tell=self.desk.tell,
            cursor=self.ledger.cursor,
            was_here=self.ledger.knows,
            opener=self._open,
        )

    @property
    def ledger(self) -> KillLedger:
        """Of the present agent."""
        return self.desk.ledger

    @property
    def status(self) -> Status:
        """Of the present agent's."""
        return self.kernel_log.status

    def _open(self, _path: str) -> int:
        self.opened += 1
        reader, writer = os.pipe()  # the writer's end stays readable-never: the loop calls back only when a test writes to it
        self._pipes.append(writer)
        return reader

    def _read(self, _fd: int, _size: int) -> bytes:
        if not self.reads:
            raise BlockingIOError
        step = self.reads.pop(0)
        if isinstance(step, int):
            raise OSError(step, os.strerror(step))
        return step

    def poke(self, *reads: bytes | int) -> None:
        """Give the log something to read and make its descriptor readable."""
        self.reads += reads
        os.write(self._pipes[-1], b"x")

    def close(self) -> None:
        """Close the pipes."""
        for writer in self._pipes:
            os.close(writer)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[asyncio.Task[None]]:
        """Follow until the block is left."""
        task = asyncio.create_task(self.kernel_log.follow())
        await self.until(lambda: self.status.is_up or task.done())
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, with a deadline."""
        async with asyncio.timeout(120):
            while not condition():
                await asyncio.sleep(0)

    def value(self, name: str) -> float:
        """Return one of the log's own metrics."""
        return next(value for metric, _, value in self.kernel_log.samples() if metric.name == name)

    @property
    def lost(self) -> float:
        """Records known to be lost."""
        return self.value("coroner_kmsg_lost_records_total")

    @property
    def kills(self) -> int:
        """Kills in the ledger, over the whole node."""
        return sum(settle(self.ledger, {ID: ("", "", "web")}).by_scope.values())


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Log]:
    """A scripted kernel log."""
    log = Log(monkeypatch, tmp_path)
    yield log
    log.close()


async def test_a_kill_is_counted_with_its_container(log: Log) -> None:
    """Two records make one kill, by whose limit it was."""
    async with log.following():
        log.poke(*kill(10))
        await log.until(lambda: not log.reads)

    totals = settle(log.ledger, {ID: ("", "", "web")})
    assert totals.by_container == {("", "", "web"): 1}
    assert totals.by_scope == {"container": 1, "pod": 0, "ancestor": 0, "node": 0}
    assert ID in log.identities.known, "a container that is gone already still gets a name"


IN_KIND = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={id},mems_allowed=0,oom_memcg={host}{pod},task_memcg={host}{pod}/{id},"
    "task=tail,pid={pid},uid=0"
)
"""As kind's kernel log has it: the path of the node's container is before that of the pod."""


async def test_in_a_node_that_is_a_container_the_log_and_the_tree_tell_of_the_same_life(log: Log) -> None:
    """Two kills are two, however the two sources spell the path; one in another node on the same host is left out."""
    pod, host = "/kubelet/kubepods/pod1788d98a-0700-426a-8701-2312e4cc2163", "/docker/" + 64 * "4"
    cgroup = log.tmp_path / pod[1:] / ID
    cgroup.mkdir(parents=True)
    container = container_id.parse(f"{pod}/{ID}")
    assert container is not None
    async with log.following():
        with log.ledger.round() as this_round:
            this_round.read(container, cgroup.stat().st_ino, Reading(0))
            this_round.settle({})
        for number, where in enumerate((host, host, "/docker/" + 64 * "5")):
            line = IN_KIND.format(id=ID if where == host else 64 * "6", pod=pod, host=where, pid=11638 + number)
            log.poke(record(10 + 2 * number, line), record(11 + 2 * number, KILL.format(pid=11638 + number), prefix=3))
        await log.until(lambda: not log.reads)

    with log.ledger.round() as this_round:
        this_round.read(container, cgroup.stat().st_ino, Reading(2))
        totals = this_round.settle({container.key: ("shop", "web-0", "web")})
    assert (dict(totals.by_container), totals.by_scope["pod"]) == ({("shop", "web-0", "web"): 2}, 2)
    assert sum(totals.by_scope.values()) == 2


GROUP = f"Tasks in /docker/{ID} are going to be killed due to memory.oom.group set"


async def test_the_first_victim_of_a_group_whose_report_is_missing_is_in_the_groups_container(log: Log) -> None:
    """Its own line does not say whose it is, the next one does: it is counted once, and its record has its container."""
    saved: list[Victim] = []

    def save(state: State, victim: Victim | None = None) -> None:
        saved.extend([] if victim is None else [victim])

    log.ledger._book.save = save  # type: ignore[method-assign] # watched
    async with log.following():
        log.poke(record(10, KILL.format(pid=77), prefix=3), record(11, GROUP), record(12, KILL.format(pid=78), prefix=3))
        await log.until(lambda: not log.reads)

    totals = settle(log.ledger, {ID: ("", "", "web")})
    assert totals.by_container == {("", "", "web"): 2}
    assert sum(totals.by_scope.values()) == 2
    assert [(victim.pid, victim.identifier) for victim in saved] == [(77, ""), (77, ID), (78, ID)]


async def test_a_first_victim_is_named_by_the_agent_after_the_one_that_counted_it(log: Log) -> None:
    """The old one was killed between the two lines, microseconds apart."""
    log.reads += [record(10, KILL.format(pid=77), prefix=3), record(11, GROUP)]
    log.start(State(cursor=Cursor(10, 10_000), started=True, sums={"without_cgroup": {"ancestor": 1}}))
    async with log.following():
        totals = settle(log.ledger, {ID: ("", "", "web")})

    assert totals.by_container == {("", "", "web"): 1}
    assert sum(totals.by_scope.values()) == 1


async def test_in_a_node_that_is_a_container_a_first_victim_is_of_the_tree_once_it_is_named(log: Log) -> None:
    """Without a cgroup it could be anybody's on the host."""
    (log.tmp_path / "docker" / ID).mkdir(parents=True)
    (log.tmp_path / "cgroup.events").touch()
    async with log.following():
        log.poke(record(10, KILL.format(pid=77), prefix=3), record(11, GROUP.replace("/docker", "/docker/HOST/docker")))
        await log.until(lambda: not log.reads)

    totals = settle(log.ledger, {ID: ("", "", "web")})
    assert (totals.by_container, sum(totals.by_scope.values())) == ({("", "", "web"): 1}, 1)


async def test_in_a_node_that_is_a_container_a_kill_while_the_agent_was_down_counts_although_its_cgroup_is_gone(log: Log) -> None:
    """The agent before this one knew the container."""
    tree(log.tmp_path, {"cgroup.events": "populated 1\nfrozen 0\n", "docker/": ""})
    log.reads += [each.replace(b"memcg=/docker", b"memcg=/docker/HOST/docker") for each in kill(10)]
    restarted(log, cursor=9, names={ID: ("", "", "web")})
    async with log.following():
        totals = settle(log.ledger, {ID: ("", "", "web")})

    assert (totals.by_container, totals.by_scope["container"]) == ({("", "", "web"): 1}, 1)


def line(caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    """Return what the one line of the agent's log says of a kill."""
    [found] = [vars(each) for each in caplog.records if each.message == "OOM kill"]
    return {name: found[name] for name in ("namespace", "pod", "container", "is_init", "namespace_pid", "comm") if name in found}


@pytest.mark.parametrize(
    ("told", "shown", "labels"),
    [
        (None, None, {}),
        (("shop", "web-0", "web"), None, {"namespace": "shop", "pod": "web-0", "container": "web"}),
        (("", "", "renamed"), ("", "", "web"), {"namespace": "", "pod": "", "container": "web"}),
    ],
    ids=["nobody told yet", "a source told", "as on the page"],
)
async def test_the_line_of_a_kill_has_the_name_that_is_known_by_then(
    log: Log,
    caplog: pytest.LogCaptureFixture,
    told: tuple[str, ...] | None,
    shown: tuple[str, ...] | None,
    labels: dict[str, str],
) -> None:
    """The name may come later; the line does not wait for it."""
    if told is not None:
        log.identities.put("docker", {ID: Identity(told)})
    if shown is not None:
        settle(log.ledger, {ID: shown})
    async with log.following():
        log.poke(*kill(10))
        await log.until(lambda: not log.reads)

    assert line(caplog) == {**labels, "comm": "tail"}


@pytest.mark.parametrize(("known", "said"), [(True, {"is_init": True, "namespace_pid": 1}), (False, {"is_init": False}), (None, {})])
async def test_whether_a_victim_was_init_is_known_from_before(
    log: Log, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, known: bool | None, said: dict[str, object]
) -> None:
    """It is reaped when its line is read; its cgroup is there."""
    tree(log.tmp_path, {f"docker/{ID}/": ""})
    asked = []

    def is_init(key: str, inode: int | None, pid: int | None) -> bool | None:
        asked.append((key, inode, pid))
        return known

    monkeypatch.setattr(log.desk.inits, "is_init", is_init)
    async with log.following():
        log.poke(*kill(10))
        await log.until(lambda: not log.reads)

    assert asked == [(ID, (log.tmp_path / "docker" / ID).stat().st_ino, 77)]
    assert line(caplog) == {**said, "comm": "tail"}


async def test_of_a_victim_from_before_the_agents_start_it_is_not_known_whether_it_was_init(
    log: Log, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PID may have gone to another process since, also within the container."""
    restarted(log, cursor=9)
    monkeypatch.setattr(log.desk.inits, "is_init", lambda _key, _inode, _pid: True)
    log.reads += kill(10)
    async with log.following():
        pass

    assert line(caplog) == {"comm": "tail"}


async def test_in_a_node_that_is_a_container_nobody_is_the_victim_by_number_alone(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the PIDs of the host, /proc those of the node: a process there with the same number and name is another one."""
    pod, host = "/kubelet/kubepods/pod1788d98a-0700-426a-8701-2312e4cc2163", "/docker/" + 64 * "4"
    tree(log.tmp_path, {f"{pod}/{ID}/": "", **proc({"77/status": "Name:\ttail\nTgid:\t77\nUid:\t0\t0\t0\t0\nNStgid:\t77\t1\n"})})
    async with log.following():
        log.poke(record(10, IN_KIND.format(id=ID, pod=pod, host=host, pid=77)), record(11, KILL.format(pid=77), prefix=3))
        await log.until(lambda: not log.reads)

    [line] = [vars(each) for each in caplog.records if each.message == "OOM kill"]
    assert (line["pid"], "is_init" in line, "namespace_pid" in line) == (77, False, False)


async def test_what_was_logged_before_the_start_is_history(log: Log) -> None:
    """It is read for its sequence numbers, but counted nowhere."""
    log.reads += [*kill(10), record(12, "forged", prefix=12)]
    async with log.following():
        log.poke(record(13, "hello"))
        await log.until(lambda: not log.reads)

    assert log.kills == 0
    assert log.value("coroner_kmsg_records_total") == 1
    assert log.lost == 0


def restarted(log: Log, cursor: int, names: Mapping[ContainerKey, tuple[str, ...]] | None = None) -> None:
    """Let the agent be one whose casebook says that all kills up to `cursor` are counted, and what containers were called."""
    log.start(State(cursor=Cursor(cursor, 0), started=True, names=names or {}))


async def test_after_a_restart_it_goes_on_behind_the_cursor(log: Log) -> None:
    """What was counted is read for its context only, and what came after it counts, although it was in the ring at start."""
    restarted(log, cursor=13)
    log.reads += [*kill(10), *kill(12), *kill(14, pid=78), record(16, "forged", prefix=12)]
    async with log.following():
        assert log.kills == 1
        assert log.value("coroner_kmsg_records_total") == 3
        assert log.lost == 0
        assert log.ledger.cursor == Cursor(16, 16000)


async def test_a_kill_whose_report_was_read_by_the_last_agent_still_has_its_cgroup(log: Log) -> None:
    """The cursor stood between the two lines; the context is fed again."""
    restarted(log, cursor=10)
    log.reads += kill(10)
    async with log.following():
        assert settle(log.ledger, {ID: ("", "", "web")}).by_container == {("", "", "web"): 1}


@pytest.mark.parametrize(("cursor", "first", "lost"), [(9, 10, 0), (9, 50, 40), (60, 50, 0)])
async def test_what_the_ring_lost_while_the_agent_was_down_is_known_by_number(log: Log, cursor: int, first: int, lost: int) -> None:
    """What the last agent has read is not lost, wherever the ring begins now."""
    restarted(log, cursor)
    log.reads += [record(number, "hello") for number in range(first, first + 20)]
    async with log.following():
        assert log.lost == lost


async def test_in_a_new_boot_everything_counts_from_the_first_record(log: Log) -> None:
    """The agent is installed here: nothing in this ring is history."""
    restarted(log, cursor=-1)
    log.reads += kill(0)
    async with log.following():
        assert log.kills == 1


async def test_a_cursor_beyond_the_end_of_the_log_does_not_make_it_deaf(log: Log) -> None:
    """A machine was put back to an earlier state, and its log with it."""
    restarted(log, cursor=5000)
    log.reads += kill(10)
    async with log.following():
        log.poke(*kill(12, pid=78))
        await log.until(lambda: not log.reads)

    assert log.kills == 1


async def test_the_end_of_the_history_is_kept_at_once(log: Log) -> None:
    """Killed before the first kill, the next agent must not take for history what came after this start."""
    kept: list[State] = []

    class Book:
        def save(self, state: State, _: Victim | None = None) -> None:
            kept.append(state)

    log.ledger._book = Book()
    log.reads += kill(10)
    async with log.following():
        assert kept[-1].cursor == Cursor(11, 11000)
        assert not kept[-1].started


async def test_lost_records_are_counted_exactly_and_the_next_kill_still_counts(log: Log) -> None:
    """EPIPE means overtaken, not over: the gap in the numbers is the loss."""
    log.reads.append(record(10, "last before the start"))
    async with log.following() as task:
        log.poke(errno.EPIPE, record(500, "after the flood"), *kill(501))
        await log.until(lambda: not log.reads)
        assert not task.done()

    assert log.lost == 489
    assert log.kills == 1


async def test_a_storm_of_overruns_and_a_record_too_long_end_nothing(log: Log) -> None:
    """Under a flood EPIPE comes before every record; EINVAL means that the kernel skipped one."""
    log.reads.append(record(1, "x"))
    async with log.following() as task:
        log.poke(errno.EPIPE, record(5, "x"), errno.EPIPE, record(9, "x"), errno.EINVAL, record(11, "x"))
        await log.until(lambda: not log.reads)
        assert not task.done()

    assert log.lost == 3 + 3 + 1


@pytest.mark.parametrize("prefix", [8, 11, 12, 30, 2048])
async def test_a_record_that_a_process_wrote_is_never_evidence(log: Log, prefix: int) -> None:
    """The kernel gives user-space records a facility of at least 1, and that cannot be avoided by the writer."""
    async with log.following():
        log.poke(record(10, CONTEXT.format(id=ID, pid=7), prefix), record(11, KILL.format(pid=7), prefix), record(12, "hello", prefix))
        await log.until(lambda: not log.reads)

    assert log.kills == 0
    assert log.value("coroner_kmsg_forged_records_total") == 2


FAULT = "app[77]: segfault at 0 ip 00007f65 sp 00007ffd error 4 in app[400000+1000]"


def logged_faults(log: Log) -> list[tuple[int, int | None]]:
    """Return what was told of faults."""
    return [(fact.fault.pid, fact.fault.signal) for fact in log.desk.told if isinstance(fact, FaultLogged)]


async def test_a_fault_is_told_as_it_is_logged_and_what_was_logged_before_is_not(log: Log) -> None:
    """Once; of one that was logged while no agent was there the PID may be another's by now, and what a process wrote is a forgery."""
    restarted(log, cursor=0)
    log.reads.append(record(1, FAULT))
    async with log.following():
        assert logged_faults(log) == []
        log.poke(record(2, FAULT), record(3, "traps: x[78] trap invalid opcode ip:4005 sp:7ffd error:0"), record(4, FAULT, prefix=14))
        await log.until(lambda: not log.reads)

    assert logged_faults(log) == [(77, 11), (78, 4)]
    assert log.value("coroner_kmsg_forged_records_total") == 1


async def test_a_record_of_a_process_between_two_of_the_kernel_loses_nothing(log: Log) -> None:
    """A report and its kill belong together although somebody logged in between."""
    report, line = kill(10)
    async with log.following():
        log.poke(report, record(11, "hello", prefix=12), line.replace(b",11,", b",12,", 1))
        await log.until(lambda: not log.reads)

    assert settle(log.ledger, {ID: ("", "", "web")}).by_container == {("", "", "web"): 1}


async def test_garbage_is_counted_and_read_over(log: Log) -> None:
    """One unreadable record does not hide the kill behind it."""
    async with log.following():
        log.poke(b"\xff\x00 garbage", b";", *kill(10))
        await log.until(lambda: not log.reads)

    assert log.kills == 1
    assert log.value("coroner_kmsg_malformed_records_total") == 2


async def test_after_an_error_it_goes_on_behind_the_last_record_read(log: Log) -> None:
    """The device is opened anew at its oldest record; what was read is not counted twice, what was missed is."""
    log.reads.append(record(9, "x"))
    async with log.following() as task:
        log.poke(*kill(10, pid=1), errno.EIO)
        with pytest.raises(Blind, match=r"/dev/kmsg: Input/output error"):
            await task
    log.status.down("gone")
    log.reads += [record(9, "x"), *kill(10, pid=1), *kill(12, pid=2)]
    async with log.following():
        await log.until(lambda: not log.reads)

    assert log.opened == 2
    assert log.kills == 2
    assert log.lost == 0


async def test_a_device_that_ends_is_not_the_kernel_log(log: Log) -> None:
    """kind and LXC bind /dev/null over it."""
    log.reads.append(b"")
    async with log.following() as task:
        with pytest.raises(Blind, match="this is not the kernel log"):
            await task


async def test_a_flood_is_read_in_turns(log: Log) -> None:
    """Between two turns the event loop gets its share."""
    log.reads.append(record(1, "x"))
    turns = 0
    async with log.following():
        log.poke(*(record(n, "flood") for n in range(2, 5002)))
        async with asyncio.timeout(120):
            while log.reads:
                await asyncio.sleep(0)
                turns += 1

    assert turns >= 9
    assert log.value("coroner_kmsg_records_total") == 5000


async def test_the_inode_tells_which_life_of_a_container_was_hit(log: Log) -> None:
    """A container that is restarted under the same id gets a new cgroup: the kill belongs to the one that was there."""
    directory = log.tmp_path / "docker" / ID
    directory.mkdir(parents=True)
    async with log.following():
        log.poke(*kill(10))
        await log.until(lambda: not log.reads)

    assert log.ledger._counts.instances.inodes(ID) == [directory.stat().st_ino]


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EPERM, "CAP_SYSLOG"), (errno.EACCES, "CAP_SYSLOG"), (errno.ENOENT, "the device itself")]
)
def test_a_log_that_cannot_be_opened_says_path_and_remedy(monkeypatch: pytest.MonkeyPatch, number: int, remedy: str) -> None:
    """The message is what an operator acts on."""

    def refuse(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("agent.sources.kmsg_device.os.open", refuse)

    with pytest.raises(Blind, match=remedy) as caught:
        open_device("/dev/kmsg")
    assert str(caught.value).startswith("/dev/kmsg: ")


def test_a_regular_file_is_refused(tmp_path: Path) -> None:
    """Reading one would end at once, for ever."""
    path = tmp_path / "kmsg"
    path.write_text("6,1,1,-;x\n")

    with pytest.raises(Blind, match="not a character device"):
        open_device(str(path))


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/dev/full"])
def test_another_device_is_refused_by_its_number(path: str) -> None:
    """kind and LXC bind /dev/null or a console over it; of a console nothing would ever be read, so that silence looks like no kill."""
    with pytest.raises(Blind, match=rf"^{path}: device \d+:\d+, this is not the kernel log, which is 1:11"):
        open_device(path)
