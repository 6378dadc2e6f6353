"""One pass: shared, bounded in time, and safe from any one collector."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from agent.census import Census
from agent.gather import DURATION, SUCCESS, Gather, Pass, Unseen
from agent.words import UNEXPECTED
from collectors.base import Collector, Node, Sample, Samples, gauge
from collectors.kernel import cgroupfs
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.files import Forbidden, KernelFiles, Malformed
from collectors.kernel.procfs import ProcessTable
from tests.tree import close, tree

VALUE = gauge("coroner_test_value", "A value.", ("collector",))


class FakeCensus:
    """A census of an empty node."""

    def __init__(self) -> None:
        self.taken = 0
        self.before: Callable[[], None] = lambda: None
        self.told: list[list[str]] = []
        """The paths of what was closed to each whole pass."""

    def refused(self, files: Sequence[Forbidden]) -> None:
        self.told.append([error.path for error in files])

    def take(self, files: KernelFiles, process_table: ProcessTable) -> Node:
        self.taken += 1
        self.before()
        return Node("/nowhere", files, process_table)


class Fake:
    """A collector that does what a test tells it to before it yields one sample."""

    metrics = (VALUE,)

    def __init__(self, name: str, before: Callable[[Node], None] = lambda node: None) -> None:
        self.name = name
        self.before = before
        self.runs = 0

    def collect(self, node: Node) -> Iterable[Sample]:
        self.runs += 1
        yield VALUE, (self.name,), 1
        self.before(node)


@pytest.fixture
def census() -> FakeCensus:
    """A census that counts how often it is taken."""
    return FakeCensus()


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """An event that stuck collectors wait for; it is set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def wait(event: threading.Event) -> None:
    """Block this thread as a stuck read does."""
    event.wait()


def gather(
    census: FakeCensus,
    *collectors: Fake,
    counted: Sequence[Callable[[Node], None]] = (),
    assess: Callable[[Node], None] = lambda node: None,
    clock: Callable[[], float] = time.monotonic,
) -> Gather:
    """Make a Gather over fakes."""
    return Gather(
        census=cast("Census", census),
        collectors=cast("list[Collector]", collectors),
        proc_root="/nowhere",
        assess=lambda node, failures: assess(node),
        counted=counted,
        clock=clock,
    )


def successes(result: Pass) -> dict[str, float]:
    """Which collectors succeeded."""
    return {labels[0]: value for metric, labels, value in result.samples if metric is SUCCESS}


def values(result: Pass) -> set[str]:
    """Whose samples are on the page."""
    return {labels[0] for metric, labels, _ in result.samples if metric is VALUE}


async def test_two_scrapes_at_once_share_a_pass(census: FakeCensus) -> None:
    """A second scrape that comes while a pass is under way gets the same one; a later scrape gets a new one."""
    collector = Fake("a")
    one = gather(census, collector)

    first, second = await asyncio.gather(one.collect(5), one.collect(5))

    assert first is second
    assert (census.taken, collector.runs) == (1, 1)
    assert await one.collect(5) is not first
    assert census.taken == 2


async def test_a_collector_sees_what_those_before_it_have_yielded(census: FakeCensus) -> None:
    """With their success and the reasons of those that failed: the last one can examine the whole pass. A mere look collects nothing."""
    seen: list[tuple[set[str], dict[str, float], dict[str, str]]] = []

    def fail(_node: Node) -> None:
        raise Forbidden("/proc/7/stat", "not allowed")

    def look(node: Node) -> None:
        so_far = Pass(Samples(node.samples), dict(node.failures))
        seen.append((values(so_far), successes(so_far), so_far.failures))

    one = gather(census, Fake("a"), Fake("b", fail), Fake("last", look))
    await one.collect(5)

    [(yielded, success, failures)] = seen
    assert yielded == {"a"}
    assert success == {"a": 1, "b": 0}
    assert "/proc/7/stat" in failures["b"]
    await one.look(5)
    assert (census.taken, len(seen)) == (2, 1)


async def test_a_raising_collector_costs_only_itself_and_shows_nothing_half(census: FakeCensus, caplog: pytest.LogCaptureFixture) -> None:
    """What it yielded before it raised is not on the page; what it raised is for the log, and plain words for the status page."""

    def fail(_node: Node) -> None:
        raise RuntimeError("boom")

    result = await gather(census, Fake("good"), Fake("bad", fail), Fake("after")).collect(5)

    assert successes(result) == {"good": 1, "bad": 0, "after": 1}
    assert values(result) == {"good", "after"}
    assert result.failures == {"bad": UNEXPECTED}
    assert [vars(record)["raised"] for record in caplog.records if record.levelname == "ERROR"] == ["RuntimeError: boom"]


async def test_another_exception_of_the_same_collector_is_logged_too(census: FakeCensus, caplog: pytest.LogCaptureFixture) -> None:
    """Although the words for it are the same; one that repeats is not."""
    raised = ["one", "one", "another"]

    def fail(_node: Node) -> None:
        raise RuntimeError(raised.pop(0))

    one = gather(census, Fake("bad", fail))
    for _ in range(3):
        await one.collect(5)

    told = [vars(record)["raised"] for record in caplog.records if record.levelname == "ERROR"]
    assert told == ["RuntimeError: one", "RuntimeError: another"]


async def test_a_forbidden_file_fails_its_collector_and_the_message_names_path_and_remedy(census: FakeCensus) -> None:
    """A missing privilege is not a crash; what to do about it reaches the status page."""

    def forbidden(_node: Node) -> None:
        raise Forbidden("/proc/1/stat", "Permission denied: run as root")

    result = await gather(census, Fake("a", forbidden)).collect(5)

    assert result.failures["a"] == "/proc/1/stat: Permission denied: run as root"


@pytest.mark.parametrize(("there", "closed"), [("ab", "a"), ("ab", "ab"), ("a", "a")])
async def test_what_one_container_closed_fails_no_collector_and_what_is_closed_everywhere_does(
    census: FakeCensus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, closed: str
) -> None:
    """That is a privilege which the agent lacks, and said as such; the rest is served all the same. Of a single one nobody can tell."""
    tree(tmp_path, {"a/cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 0\n", "b/cpu.stat": "usage_usec 1\nuser_usec 1\nsystem_usec 0\n"})
    paths, success = [f"{tmp_path}/{name}/cpu.stat" for name in closed], int(closed != "ab")
    close(monkeypatch, *paths)

    def look(node: Node) -> None:
        for name in there:
            node.read(cgroupfs.cpu_stat, Cgroup(f"/{name}", f"{tmp_path}/{name}", 1, has_children=False))

    seen: list[dict[str, list[str]]] = []
    last = Fake("last", lambda node: seen.append({name: [each.path for each in errors] for name, errors in node.refused.items()}))
    result = await gather(census, Fake("a", look), Fake("b"), last).collect(5)

    assert successes(result) == {"a": success, "b": 1, "last": 1}
    assert values(result) == {"a", "b", "last"}
    assert result.failures.get("a", "").startswith("" if success else f"{paths[-1]}: Permission denied: run the agent as root")
    assert seen == [{"a": paths}]
    assert census.told == [paths]


async def test_a_malformed_file_fails_the_collector_but_its_other_samples_are_served(census: FakeCensus) -> None:
    """One bad file of one container does not hide the others."""
    result = await gather(census, Fake("a", lambda node: node.malformed.append(Malformed("/x/cpu.stat", "cut short")))).collect(5)

    assert successes(result) == {"a": 0}
    assert values(result) == {"a"}
    assert result.failures == {"a": "/x/cpu.stat: cut short"}


async def test_a_stuck_collector_is_left_behind_and_not_started_again(census: FakeCensus, release: threading.Event) -> None:
    """The others are served in this pass and in the next, from a fresh thread with fresh files; it comes back when its read ends."""
    seen_files: list[KernelFiles] = []
    stuck = Fake("stuck", lambda _node: wait(release))
    after = Fake("after", lambda node: seen_files.append(node.files))
    before = Fake("before", lambda node: seen_files.append(node.files))
    one = gather(census, before, stuck, after)

    first = await one.collect(4)
    second = await one.collect(4)

    assert successes(first) == successes(second) == {"before": 1, "stuck": 0, "after": 1}
    assert values(second) == {"before", "after"}
    assert stuck.runs == 1
    assert seen_files[0] is not seen_files[1], "the stuck thread may still use the files of the first pass"
    durations = {labels[0]: value for metric, labels, value in second.samples if metric is DURATION}
    assert durations["stuck"] > durations["after"]

    release.set()
    async with asyncio.timeout(120):
        while (await one.collect(5)).failures:
            await asyncio.sleep(0)
    assert stuck.runs == 2


async def test_several_stuck_collectors_still_leave_time_for_the_rest(
    census: FakeCensus, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take half of what is left, so the last one always has some. Only the time that is waited in vain passes here."""
    now, stuck, patiences, real = [0.0], 4, list[float](), asyncio.wait

    async def wait_in_vain(futures: "tuple[asyncio.Future[object]]", *, timeout: float) -> object:
        patiences.append(timeout)
        if len(patiences) == 1 or len(patiences) > 1 + stuck:  # the census, and the last collector
            return await real(futures)
        now[0] += timeout
        return set(), set(futures)

    monkeypatch.setattr("agent.gather.asyncio.wait", wait_in_vain)
    collectors = *(Fake(f"stuck{n}", lambda _node: wait(release)) for n in range(stuck)), Fake("last")

    result = await gather(census, *collectors, clock=lambda: now[0]).collect(64)

    assert patiences == [32, 32, 16, 8, 4, 2]
    assert successes(result)["last"] == 1
    assert sum(successes(result).values()) == 1


async def test_a_stuck_census_is_said_and_the_agent_still_answers(census: FakeCensus, release: threading.Event) -> None:
    """Without a census no collector can run; the page says so instead of hanging."""
    census.before = lambda: wait(release)

    result = await gather(census, Fake("a")).collect(0.2)

    assert successes(result) == {"a": 0}
    assert "census" in result.failures


async def test_a_failing_census_is_said_and_does_not_raise(census: FakeCensus) -> None:
    """A bug in the census must not take the page away."""

    def fail() -> None:
        raise RuntimeError("boom")

    census.before = fail

    result = await gather(census, Fake("a")).collect(5)

    assert result.failures["census"] == UNEXPECTED


async def test_a_failure_is_logged_once_and_its_end_too(census: FakeCensus, caplog: pytest.LogCaptureFixture) -> None:
    """A collector that fails on every scrape does not fill the log."""
    collector = Fake("a", lambda node: node.malformed.append(Malformed("/x", "bad")))
    one = gather(census, collector)

    with caplog.at_level("INFO", "agent.gather"):
        for _ in range(3):
            await one.collect(5)
        collector.before = lambda node: None
        await one.collect(5)

    assert [record.message for record in caplog.records] == ["collector failed", "collector works again"]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.002)


async def test_without_scrapes_a_patrol_runs_some_collectors_and_nothing_of_it_is_on_the_page(census: FakeCensus) -> None:
    """A failure of it is not reported before a scrape meets it too."""

    def fail(_node: Node) -> None:
        raise RuntimeError("boom")

    counted: list[Node] = []
    watched, failing, other = Fake("oom"), Fake("bad", fail), Fake("memory")
    one = gather(census, failing, watched, other, counted=[counted.append])
    resync = asyncio.create_task(one.resync(0, lambda: {"oom", "bad"}))
    await until(lambda: watched.runs >= 2)
    resync.cancel()

    assert other.runs == 0
    assert failing.runs >= 1
    assert len(counted) >= 2
    failing.before = lambda node: None
    result = await one.collect(5)
    assert successes(result) == {"oom": 1, "bad": 1, "memory": 1}
    assert result.failures == {}


async def test_a_patrol_measures_what_is_wanted_at_that_moment_and_hands_it_on(census: FakeCensus) -> None:
    """The history wants a point a minute, whoever scrapes."""
    taken: list[set[str]] = []
    wanted = {"oom", "memory"}

    async def take(done: Pass) -> None:
        taken.append(values(done))
        wanted.discard("memory")

    one = gather(census, Fake("oom"), Fake("memory"), Fake("cpu"))
    resync = asyncio.create_task(one.resync(0, lambda: wanted, take=take))
    await until(lambda: len(taken) >= 2)
    resync.cancel()

    assert taken[:2] == [{"oom", "memory"}, {"oom"}]


async def test_a_question_is_answered_of_the_node_as_it_is(census: FakeCensus) -> None:
    """In the sampling thread; without a census nobody knows."""
    one = gather(census, Fake("oom"))

    assert await one.ask(lambda _node: threading.current_thread().name, 5) == "sampler"

    def fail() -> None:
        raise RuntimeError("boom")

    census.before = fail
    with pytest.raises(Unseen):
        await one.ask(lambda node: node, 5)


async def test_a_patrol_rests_while_there_are_scrapes(census: FakeCensus) -> None:
    """They do all that it does."""
    one = gather(census, Fake("oom"))
    await one.collect(5)
    resync = asyncio.create_task(one.resync(3600, lambda: {"oom"}))
    await asyncio.sleep(0)
    assert census.taken == 1
    await one.collect(5)
    resync.cancel()

    assert census.taken == 2


async def test_a_scrape_waits_for_a_patrol_and_makes_a_pass_of_its_own(census: FakeCensus) -> None:
    """Both in one sampling thread, neither between the census and the collectors of the other."""
    order: list[str] = []
    census.before = lambda: order.append("census")
    oom = Fake("oom", lambda _node: order.append("oom"))
    one = gather(census, oom, Fake("memory", lambda _node: order.append("memory")))
    resync = asyncio.create_task(one.resync(0, lambda: {"oom"}))
    await until(lambda: census.taken >= 1)
    results = [await one.collect(5) for _ in range(3)]
    resync.cancel()

    assert all(values(result) == {"oom", "memory"} for result in results)
    rounds = "".join(word[0] for word in order).split("c")
    assert set(rounds[1:-1]) <= {"o", "om"}
    assert sum(each == "om" for each in rounds) == 3


async def test_a_patrol_that_hangs_is_left_behind_like_a_pass(census: FakeCensus, release: threading.Event) -> None:
    """The scrape that waited for it says what hangs, and serves the rest."""
    stuck, other = Fake("oom", lambda _node: wait(release)), Fake("memory")
    one = gather(census, stuck, other)
    resync = asyncio.create_task(one.resync(0, lambda: {"oom"}, timeout=0.2))
    await until(lambda: stuck.runs == 1)

    result = await one.collect(5)

    resync.cancel()
    assert successes(result) == {"oom": 0, "memory": 1}
    assert stuck.runs == 1


async def test_the_sampling_thread_keeps_nothing_of_its_last_job(census: FakeCensus) -> None:
    """The samples of a large node are megabytes, and the next scrape may be far away."""

    class Job:
        def __call__(self) -> None: ...

    one, job = gather(census), Job()
    kept = weakref.ref(job)
    await one.run(job)
    del job

    await until(lambda: kept() is None)


async def test_a_patrol_keeps_nothing_of_its_node(census: FakeCensus, release: threading.Event) -> None:
    """While there are scrapes it rests, with what it has."""
    nodes: list[weakref.ref[Node]] = []
    census.before = lambda: wait(release) if census.taken == 2 else None
    one = gather(census, Fake("oom"), counted=[lambda node: nodes.append(weakref.ref(node))])
    resync = asyncio.create_task(one.resync(0, lambda: {"oom"}, timeout=3600))

    try:
        await until(lambda: census.taken == 2 and nodes[0]() is None)
    finally:
        release.set()
        resync.cancel()


async def test_who_is_shown_a_pass_and_fails_stops_no_other_and_no_page(census: FakeCensus, caplog: pytest.LogCaptureFixture) -> None:
    """Such as one source of several; it is said once."""
    seen: list[Node] = []

    def fail(_node: Node) -> None:
        raise KeyError("a fault")

    one = gather(census, Fake("oom"), counted=[fail, seen.append], assess=fail)
    for _ in range(3):
        assert (VALUE, ("oom",), 1) in (await one.collect(5)).samples
    await one.look(5)

    assert len(seen) == 4
    assert [record.message for record in caplog.records] == ["a pass was not taken note of"] * 2


async def test_nobody_hears_of_an_error_in_what_nobody_waits_for_any_more(
    census: FakeCensus, release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio would complain of it, some time later."""

    def fail() -> None:
        wait(release)
        raise OSError("a fault")

    census.before = fail
    one = gather(census)
    look = asyncio.create_task(one.look(3600))
    await until(lambda: census.taken == 1)
    look.cancel()
    await asyncio.gather(look, return_exceptions=True)
    release.set()
    await one.run(lambda: None)  # comes after it in the thread
    del look
    gc.collect()

    assert not caplog.records
