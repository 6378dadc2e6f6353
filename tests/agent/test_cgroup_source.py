"""Births and deaths from the cgroup tree, on a real file system with real inotify: a directory with files behaves like a cgroup here."""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.identities import KEEP_DEAD_SECONDS
from agent.inotify import IN_Q_OVERFLOW, Event, Inotify
from agent.sources import Told, cgroup, cgroup_instances
from agent.sources.cgroup import INOTIFY_UP, CgroupSource
from agent.sources.cgroup_instances import HEARD
from agent.sources.cgroup_watches import OVERFLOWS, WATCHES
from collectors.base import Instance, Node
from collectors.inquest.facts import Born, Emptied
from collectors.inquest.freezes import NEVER, Frozen
from collectors.kernel import container_id
from collectors.kernel.cgroupfs import CpuStat, MemoryEvents
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.files import KernelFiles
from collectors.kernel.hierarchy import Hierarchy
from collectors.kernel.last_words import LastWords
from collectors.kernel.procfs import ProcessTable
from tests.tree import FULL, A, B, C, Content, docker, tree

WALL = 1_800_000_000.0
POD = "/kubepods/burstable/pod11111111-2222-3333-4444-555555555555"
WORDS = LastWords(
    memory_events=MemoryEvents(1, 2, 3, 4, 5, 1),
    cpu_stat=CpuStat(2500000, 1500000, 1000000, 40, 4, 250000),
    fork_failures=2,
    threads_peak=9,
    memory_peak=6000000,
    group_kills=1,
)
"""What FULL says."""
EMPTY: Mapping[str, Content] = {
    **FULL,
    "cgroup.events": "populated 0\nfrozen 0\n",
    "cpu.stat": "usage_usec 0\nuser_usec 0\nsystem_usec 0\n",
    "pids.peak": "0\n",
}
"""A cgroup that was just made."""


class Host:
    """A tree, and a source that follows it. `born` and `ended` are the ids and last words of the `facts` that it told."""

    def __init__(self, root: Path, notifier: Callable[[], Inotify] = Inotify, most: int = 1000) -> None:
        self.root = root / "cgroup"
        self.root.mkdir()
        self.now = 0.0
        self.facts: list[Born | Emptied] = []
        self.born: list[str] = []
        self.ended: list[tuple[str, LastWords | None]] = []
        self.source = CgroupSource(
            root=str(self.root),
            tell=self._tell,
            notifier=notifier,
            most=most,
            clock=lambda: self.now,
            wall=lambda: WALL + self.now,
        )
        self.status = self.source.status
        self._hierarchy = Hierarchy(str(self.root))

    def _tell(self, fact: Told) -> None:
        assert isinstance(fact, Born | Emptied)
        assert fact.source == "cgroup"
        assert (fact.container, fact.id.container_path, fact.inode or 0) == (fact.id.key, fact.cgroup.path, fact.cgroup.inode)
        assert fact.cgroup.directory == f"{self.root}{fact.cgroup.path}"
        self.facts.append(fact)
        if isinstance(fact, Born):
            self.born.append(fact.container)
        else:
            self.ended.append((fact.container, fact.words))

    def start(self, path: str, files: Mapping[str, Content] = FULL) -> None:
        """Make a cgroup elsewhere and move it here, so that it is there with its files at once, as the kernel's are."""
        made = self.root.parent / "made"
        tree(made, {"./": "", **files})
        (self.root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        # Only the making of a directory is a birth, so it is made and then filled as fast as can be.
        target = self.root / path.lstrip("/")
        target.mkdir()
        for file in made.iterdir():
            file.rename(target / file.name)
        made.rmdir()

    def populate(self, path: str, populated: int) -> None:
        """Let the first process come or the last one go."""
        with (self.root / path.lstrip("/") / "cgroup.events").open("r+b") as file:
            os.pwrite(file.fileno(), b"populated %d\n" % populated, 0)

    def freeze(self, path: str, frozen: int) -> None:
        """Freeze it or let it go on, in one write."""
        with (self.root / path.lstrip("/") / "cgroup.events").open("r+b") as file:
            os.pwrite(file.fileno(), b"populated 1\nfrozen %d\n" % frozen, 0)

    def remove(self, path: str) -> None:
        """Let a runtime remove a cgroup."""
        shutil.rmtree(self.root / path.lstrip("/"))

    def heard(self) -> tuple[float, float]:
        """How many last words were read and how many came too late."""
        values = {labels: value for metric, labels, value in self.source.samples() if metric is HEARD}
        return values["read",], values["late",]

    def value(self, metric: object) -> float:
        """The value of a metric without labels."""
        (value,) = [value for found, _, value in self.source.samples() if found is metric]
        return value

    def held(self) -> int:
        """How many watches the kernel keeps."""
        assert self.source._watches._inotify is not None
        return Path(f"/proc/self/fdinfo/{self.source._watches._inotify.fd}").read_text().count("inotify wd:")

    def census(self) -> Node:
        """Walk the tree as a pass does."""
        cgroups = self._hierarchy.walk()
        instances = [
            Instance(identifier, cgroup)
            for cgroup in cgroups
            if (identifier := container_id.parse(cgroup.path)) is not None and identifier.container_path == cgroup.path
        ]
        return Node(
            "/nowhere",
            KernelFiles(0),
            ProcessTable("/nowhere", 0),
            cgroups=cgroups,
            instances=instances,
            hidden=self._hierarchy.hidden,
            uncovered=self._hierarchy.uncovered,
        )

    async def walk(self) -> None:
        """Let the source compare itself with the tree, and finish."""
        self.source.compare(self.census())
        await self.until(lambda: self.source._census is None and not self.source._visits)

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[None]:
        """Follow until the block is left; it is entered once the source has looked at all there is."""
        task = asyncio.create_task(self.source.follow())
        await self.until(lambda: self.source._is_settled or task.done())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            for result in await asyncio.gather(task, return_exceptions=True):
                assert isinstance(result, asyncio.CancelledError), result

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, with a deadline."""
        async with asyncio.timeout(120):
            while not condition():
                await asyncio.sleep(0.002)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A tree with nothing in it."""
    return Host(tmp_path)


def deaths(host: Host) -> dict[str, LastWords]:
    """What a census would find."""
    return {key: death.words for key, death in host.source.last_words().items()}


async def test_the_last_words_are_read_when_the_last_process_ends(host: Host) -> None:
    """At once, though the cgroup stays; when it is removed they are kept."""
    host.start(docker(A))
    async with host.follow():
        assert (host.born, host.ended) == ([], []), "it was there before"
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host) == {A: WORDS})
        assert host.ended == [], "the runtime may only be starting it"

        host.remove(docker(A))
        await host.until(lambda: host.ended)
        assert host.ended == [(A, WORDS)]
        assert (host.heard(), deaths(host)) == ((1, 0), {A: WORDS})


async def test_freezes_are_seen_until_the_last_process_ends(host: Host) -> None:
    """One that was frozen before is not counted, and what is not populated is not frozen, whatever its file says."""
    host.start(docker(A), {**FULL, "cgroup.events": "populated 1\nfrozen 1\n"})
    host.start(docker(B), FULL)
    host.start(docker(C), {**FULL, "cgroup.events": "garbage"})
    freezes = host.source.freezes
    async with host.follow():
        assert (freezes.is_told, freezes.of(A), freezes.of(B), freezes.of(C)) == (True, Frozen(0, 0, 0), NEVER, NEVER)
        for host.now, frozen in ((1, 0), (2, 1), (5, 0), (6, 1)):
            host.freeze(docker(A), frozen)
            await host.until(lambda: (freezes.of(A).since is not None) == bool(frozen))  # noqa: B023 - called at once
        assert freezes.of(A) == Frozen(2, 4, 6)
        host.now = 7
        host.populate(docker(A), 0)
        await host.until(lambda: freezes.of(A) == Frozen(2, 5, None))
        host.freeze(docker(B), 1)
        await host.until(lambda: freezes.of(B) == Frozen(1, 0, 7))
        host.now = 9
        host.remove(docker(B))
        await host.until(lambda: freezes.of(B) == Frozen(1, 2, None))


async def test_a_kernel_that_cannot_freeze_says_nothing_of_it(host: Host) -> None:
    """Before 5.2."""
    host.start(docker(A), {**FULL, "cgroup.events": "populated 1\n"})
    async with host.follow():
        assert not host.source.freezes.is_told


async def test_an_end_is_told_when_the_cgroup_stays_too(host: Host) -> None:
    """A second later, once."""
    host.start(docker(A))
    async with host.follow():
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))
        await host.walk()
        assert host.ended == []
        host.now += 1
        await host.walk()
        assert host.ended == [(A, WORDS)]
        await host.walk()
        host.remove(docker(A))
        await host.until(lambda: not host.source._instances.present)

        assert (len(host.ended), host.heard()) == (1, (1, 0))


async def test_the_time_of_an_end_is_that_of_its_last_process(host: Host) -> None:
    """It is told later, when it is sure to be the end: here its cgroup got processes once more."""
    (host.root / "docker").mkdir()
    async with host.follow():
        host.now = 1
        host.start(docker(A))
        await host.until(lambda: host.born)
        for host.now, populated in ((2, 0), (3, 1), (4, 0)):
            host.populate(docker(A), populated)
            await host.until(lambda: bool(deaths(host)) != bool(populated))  # noqa: B023 - called at once
        host.now = 9
        host.remove(docker(A))
        await host.until(lambda: host.ended)
        host.now = 10
        host.start(docker(B))
        host.remove(docker(B))
        await host.until(lambda: len(host.ended) == 2)

    assert [(fact.container, type(fact), fact.time - WALL) for fact in host.facts] == [
        (A, Born, 1),
        (A, Emptied, 4),
        (B, Born, 10),
        (B, Emptied, 10),
    ]


async def test_a_birth_is_told_once_and_so_is_its_end(host: Host) -> None:
    """First it has no process; that is not its end."""
    (host.root / "docker").mkdir()
    async with host.follow():
        host.start(docker(A), EMPTY)
        await host.until(lambda: host.born)
        host.populate(docker(A), 1)
        await host.until(lambda: host.source._instances.present[docker(A)].has_lived)
        assert host.ended == []
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))
        host.remove(docker(A))
        await host.until(lambda: host.ended)

        assert host.born == [A]
        (ended,) = host.ended
        assert ended[1] is not None
        assert ended[1].memory_events == WORDS.memory_events


async def test_a_life_that_was_over_when_it_was_first_looked_at_is_heard(host: Host) -> None:
    """Notifications of one file come at most every 10 ms: the only one may be that of its end."""
    (host.root / "docker").mkdir()
    async with host.follow():
        host.start(docker(A), {**FULL, "cgroup.events": "populated 0\nfrozen 0\n"})
        await host.until(lambda: deaths(host))
        host.remove(docker(A))
        await host.until(lambda: host.ended)

        assert (host.born, host.ended) == ([A], [(A, WORDS)])


async def test_a_container_that_is_gone_at_once_was_born_and_is_late(host: Host) -> None:
    """Nobody could look into it, but it is known to have been there."""
    (host.root / "docker").mkdir()
    async with host.follow():
        host.start(docker(A))
        host.remove(docker(A))
        await host.until(lambda: host.ended)

        assert (host.born, host.ended, host.heard()) == ([A], [(A, None)], (0, 1))
        assert deaths(host) == {}


async def test_a_cgroup_that_never_had_a_process_does_not_end(host: Host) -> None:
    """Its container failed to start."""
    (host.root / "docker").mkdir()
    async with host.follow():
        host.start(docker(A), EMPTY)
        await host.until(lambda: docker(A) in host.source._instances.present)
        host.remove(docker(A))
        await host.until(lambda: docker(A) not in host.source._instances.present)

        assert (host.ended, host.heard()) == ([], (0, 0))


async def test_a_cgroup_that_gets_processes_again_takes_its_last_words_back(host: Host) -> None:
    """systemd uses the cgroup of a service again."""
    host.start(docker(A))
    async with host.follow():
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))
        host.populate(docker(A), 1)
        await host.until(lambda: not deaths(host))
        (host.root / docker(A)[1:] / "pids.peak").write_text("10\n")
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))

        assert deaths(host)[A].threads_peak == 10
        host.remove(docker(A))
        await host.until(lambda: host.ended)
        assert len(host.ended) == 1


async def test_a_cgroup_made_anew_at_the_same_path_is_another_life(host: Host) -> None:
    """As Docker does when it restarts a container; what is read of the second is not taken for the first."""
    host.start(docker(A))
    async with host.follow():
        first = host.source._instances.present[docker(A)].cgroup.inode
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))
        kept = (host.root / docker(A)[1:]).rename(host.root.parent / "kept")  # so that its inode is not given again
        host.start(docker(A), EMPTY)
        await host.until(lambda: host.born)

        assert host.source._instances.present[docker(A)].cgroup.inode != first
        assert host.held() == len(host.source._watches.watched) == 3, "a removed cgroup's watch lives on up to kernel 6.12"
        assert kept.exists()
        assert deaths(host) == {A: WORDS}
        assert len(host.ended) == 1


async def test_what_is_read_of_a_second_life_is_not_taken_for_the_first(host: Host) -> None:
    """The news of the end came when another cgroup was at its path already."""
    host.start(docker(A))
    async with host.follow():
        host.populate(docker(A), 0)
        (host.root / docker(A)[1:]).rename(host.root.parent / "kept")
        host.start(docker(A), {**FULL, "cgroup.events": "populated 0\nfrozen 0\n", "pids.peak": "10\n"})
        await host.until(lambda: deaths(host))

        assert (host.ended, host.born) == ([(A, None)], [A])
        assert deaths(host)[A].threads_peak == 10


async def test_a_container_that_only_seemed_to_end_while_it_was_started_is_not_told_of(host: Host) -> None:
    """runc's first process has ended, and its next is there."""
    host.start(docker(A))
    async with host.follow():
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))
        host.populate(docker(A), 1)
        await host.until(lambda: not deaths(host))
        host.now += 10
        await host.walk()

        assert (host.ended, host.heard()) == ([], (0, 0))


async def test_what_a_census_says_of_the_same_life_is_held_once(host: Host) -> None:
    """Paths and ids are 1 KiB for each container; of another life of the same path nothing is taken over."""
    host.start(docker(A))
    async with host.follow():
        node = host.census()
        present = host.source._instances.present
        assert present[docker(A)].cgroup is not node.instances[0].cgroup
        host.source.compare(node)
        await host.until(lambda: host.source._census is None and not host.source._visits)
        assert present[docker(A)].cgroup is node.instances[0].cgroup
        assert present[docker(A)].id is node.instances[0].id

        other = replace(node.instances[0].cgroup, inode=node.instances[0].cgroup.inode + 1)
        host.source.compare(replace(node, cgroups=[other], instances=[replace(node.instances[0], cgroup=other)]))
        await host.until(lambda: host.source._census is None and not host.source._visits)
        assert present[docker(A)].cgroup is node.instances[0].cgroup


async def test_directories_are_followed_as_they_are_made_whatever_is_in_them_already(host: Host) -> None:
    """The kubelet makes a pod's, and the runtime the container's in it, before anybody was told of the first."""
    async with host.follow():
        host.start(f"{POD}/{A}")
        await host.until(lambda: host.born == [A])
        host.start(f"{POD}/{B}")
        await host.until(lambda: host.born == [A, B])

        assert set(host.source._watches.watched) == {"/", "/kubepods", "/kubepods/burstable", POD, f"{POD}/{A}", f"{POD}/{B}"}
        host.remove("/kubepods")
        await host.until(lambda: set(host.source._watches.watched) == {"/"})


async def test_what_is_inside_of_a_container_is_left_alone(host: Host) -> None:
    """It may make as many cgroups as it likes; one like a container is found by a walk, under its host's id."""
    host.start(docker(A))
    host.start(f"{docker(A)}/init")
    async with host.follow():
        assert set(host.source._watches.watched) == {"/", "/docker", docker(A)}
        host.start(f"{docker(A)}/docker/{B}")
        await host.walk()

        assert host.born == [ContainerKey.of(A, B)]
        assert f"{docker(A)}/docker" not in host.source._watches.watched


async def test_files_that_this_kernel_lacks_are_absent_in_the_last_words(host: Host) -> None:
    """memory.peak came with 5.19, pids.peak with 6.1; a controller may be off."""
    host.start(docker(A), {name: FULL[name] for name in ("cgroup.events", "cpu.stat")})
    async with host.follow():
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))

        assert deaths(host) == {A: LastWords(cpu_stat=WORDS.cpu_stat)}


async def test_a_malformed_file_costs_its_own_value_and_no_more(host: Host) -> None:
    """And what cannot be understood is not the end of a container."""
    host.start(docker(A), {**FULL, "pids.peak": "garbage"})
    host.start(docker(B), {**FULL, "cgroup.events": "garbage\n\0\0\0"})
    async with host.follow():
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))

        assert {key: words.threads_peak for key, words in deaths(host).items()} == {A: None}


async def test_what_had_ended_before_the_agent_is_history(host: Host) -> None:
    """It is not announced, but when its cgroup goes its counters stay."""
    host.start(docker(A), {**FULL, "cgroup.events": "populated 0\nfrozen 0\n"})
    async with host.follow():
        host.remove(docker(A))
        await host.until(lambda: not host.source._instances.present)

        assert (host.born, host.ended, host.heard()) == ([], [], (0, 0))
        assert deaths(host) == {A: WORDS}


async def test_ends_are_forgotten_after_a_quarter_of_an_hour_from_when_the_cgroup_is_gone(host: Host) -> None:
    """While it is there it is looked at, and its counters are on the page."""
    host.start(docker(A))
    host.start(docker(B))
    async with host.follow():
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))
        host.now += KEEP_DEAD_SECONDS + 1
        await host.walk()
        assert set(deaths(host)) == {A}
        host.remove(docker(A))
        await host.until(lambda: docker(A) not in host.source._instances.present)
        host.now += KEEP_DEAD_SECONDS
        await host.walk()
        assert set(deaths(host)) == {A}
        host.now += 1
        await host.walk()
        await host.until(lambda: not deaths(host))


async def test_ends_are_bounded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first."""
    monkeypatch.setattr(cgroup_instances, "KEEP_DEAD_MOST", 2)
    for identifier in (A, B, C):
        host.start(docker(identifier))
    async with host.follow():
        for identifier in (A, B, C):
            host.populate(docker(identifier), 0)
            await host.until(lambda each=identifier: each in deaths(host))  # type: ignore[misc] # mypy: no type for a default

        assert set(deaths(host)) == {B, C}


class Deaf(Inotify):
    """An inotify that never tells anything."""

    def read(self) -> list[Event]:
        super().read()
        return []


async def test_a_walk_finds_births_and_deaths_that_nobody_told_of(tmp_path: Path) -> None:
    """Notifications are hints."""
    host = Host(tmp_path, Deaf)
    host.start(docker(A))
    async with host.follow():
        host.start(f"{POD}/{B}")
        host.remove(docker(A))
        await host.walk()

        assert (host.born, host.ended) == ([B], [(A, None)])
        assert set(host.source._watches.watched) == {"/", "/docker", "/kubepods", "/kubepods/burstable", POD, f"{POD}/{B}"}
        host.remove("/kubepods")
        await host.walk()
        assert host.ended[1:] == [(B, None)]
        assert set(host.source._watches.watched) == {"/", "/docker"}


async def test_a_walk_that_failed_ends_nobody(host: Host) -> None:
    """A census without a single cgroup is one that could not be taken: what is not in one is looked for."""
    host.start(docker(A))
    async with host.follow():
        node = host.census()
        host.source.compare(Node("/nowhere", node.files, node.process_table))
        await host.until(lambda: host.source._census is None and not host.source._visits)

        assert set(host.source._instances.present) == {docker(A)}


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_container_that_is_closed_has_not_ended_and_costs_no_other_its_watch(unprivileged: Path, *, is_known: bool) -> None:
    """Who closes himself is not heard of, unless he was watched before; that is said, and his end is seen all the same."""
    host = Host(unprivileged)
    host.start(docker(A))
    host.start(docker(B))
    own = host.root / docker(A)[1:]
    own.chmod(0o755 if is_known else 0)
    async with host.follow():
        own.chmod(0)
        for _ in range(2):
            await host.walk()
        assert set(host.source._instances.present) == {docker(A), docker(B)}
        assert host.value(INOTIFY_UP) == int(is_known)
        assert host.source.freezes.is_hidden(A) != is_known, "of one that is watched nothing has changed"
        assert not host.source.freezes.is_hidden(B)
        assert (f"{own}/cgroup.events is closed, and to watch it takes CAP_DAC_READ_SEARCH" in host.status.reason) != is_known
        host.populate(docker(B), 0)
        await host.until(lambda: deaths(host))
        assert (deaths(host), host.born) == ({B: WORDS}, [])

        own.chmod(0o755)
        await host.walk()
        await host.until(lambda: host.status.is_up)
        assert not host.source.freezes.is_hidden(A)
        host.remove(docker(A))
        await host.until(lambda: docker(A) not in host.source._instances.present)
        assert A in [key for key, _ in host.ended]


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_is_in_a_closed_directory_has_neither_ended_nor_begun(unprivileged: Path, *, is_known: bool) -> None:
    """What was seen in it before is there until it is opened; what is seen then may have been there for long."""
    host = Host(unprivileged)
    inside, directory = f"/closed/{C}", host.root / "closed"
    host.start(docker(B))
    host.start(inside)
    directory.chmod(0o755 if is_known else 0)
    async with host.follow():
        directory.chmod(0)
        for _ in range(2):
            await host.walk()
        assert set(host.source._instances.present) == {docker(B), *([inside] if is_known else [])}
        host.start(docker(A))
        await host.until(lambda: host.born)

        directory.chmod(0o755)
        await host.walk()
        await host.until(lambda: inside in host.source._watches.watched)
        assert (host.ended, host.born) == ([], [A])
        host.remove(inside)
        await host.until(lambda: host.ended)
        assert [key for key, _ in host.ended] == [C]


async def test_what_is_closed_twice_is_said_as_long_as_it_lasts(unprivileged: Path) -> None:
    """Itself, and what it is in."""
    host = Host(unprivileged)
    host.start(docker(A))
    host.start(f"/open/{B}")
    (host.root / docker(A)[1:]).chmod(0)
    async with host.follow():
        (host.root / "docker").chmod(0)
        for _ in range(2):
            await host.walk()
            assert "/cgroup.events is closed, and to watch it takes CAP_DAC_READ_SEARCH" in host.status.reason
        (host.root / "docker").chmod(0o755)
        (host.root / docker(A)[1:]).chmod(0o755)
        await host.walk()
        await host.until(lambda: host.status.is_up)


async def test_an_end_that_could_not_be_read_is_told_once_it_can_be(unprivileged: Path) -> None:
    """Nothing tells that a file was opened again, and what is in it may not change any more: it is looked at again with each census."""
    host = Host(unprivileged)
    host.start(docker(A))
    host.start(docker(B))
    file = host.root / docker(A)[1:] / "cgroup.events"
    async with host.follow():
        host.freeze(docker(A), 1)
        await host.until(lambda: host.source.freezes.of(A).since is not None)
        with file.open("r+b") as kept:
            file.chmod(0)
            os.pwrite(kept.fileno(), b"populated 1\nfrozen 0\n", 0)
            await host.until(lambda: host.source.freezes.is_hidden(A))
            await host.walk()
            file.chmod(0o644)
            await host.walk()
            await host.until(lambda: not host.source.freezes.is_hidden(A))
            assert host.source.freezes.of(A) == Frozen(1, 0.0, None)

            file.chmod(0)
            os.pwrite(kept.fileno(), b"populated 0\n", 0)
            await host.until(lambda: host.source.freezes.is_hidden(A))
        file.chmod(0o644)
        await host.walk()
        await host.until(lambda: deaths(host))
        assert deaths(host) == {A: WORDS}
        host.remove(docker(A))
        await host.until(lambda: docker(A) not in host.source._instances.present)
        assert not host.source._unread


async def test_the_end_of_what_was_hidden_is_told_also_without_inotify(unprivileged: Path) -> None:
    """It was there before it came in sight; its end was not."""
    host = Host(unprivileged, notifier=_refused)
    inside, directory = f"/closed/{C}", host.root / "closed"
    host.start(docker(B))
    host.start(inside)
    directory.chmod(0)
    async with host.follow():
        await host.walk()
        directory.chmod(0o755)
        await host.walk()
        await host.until(lambda: inside in host.source._instances.present)
        host.populate(inside, 0)
        await host.walk()
        await host.until(lambda: deaths(host))
        host.remove(inside)
        await host.walk()
        await host.until(lambda: host.ended)
        assert (host.ended, host.born) == ([(C, WORDS)], [])


async def test_what_was_opened_since_the_census_is_not_born(unprivileged: Path) -> None:
    """The census saw that it was closed, and whoever looks at once sees what is in it."""
    host = Host(unprivileged)
    inside, directory = f"/closed/{C}", host.root / "closed"
    host.start(docker(B))
    host.start(inside)
    directory.chmod(0)
    async with host.follow():
        await host.walk()
        census = host.census()
        directory.chmod(0o755)
        host.source.compare(census)
        await host.until(lambda: inside in host.source._instances.present)
        assert host.born == []
        host.start(f"/closed/{A}")
        await host.until(lambda: host.born)
        assert host.born == [A]


def _refused() -> Inotify:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_without_inotify_walks_are_all_there_is(tmp_path: Path) -> None:
    """That is said with the remedy, and tried again at every walk."""
    limits = [OSError(errno.EMFILE, os.strerror(errno.EMFILE)), OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))]

    def refuse() -> Inotify:
        if limits:
            raise limits.pop(0)
        return Inotify()

    host = Host(tmp_path, refuse)
    host.start(docker(A))
    async with host.follow():
        assert host.value(INOTIFY_UP) == 0
        assert "fs.inotify.max_user_instances" in host.status.reason
        host.start(docker(B))
        await host.walk()
        assert (host.born, host.value(INOTIFY_UP)) == ([B], 0)
        host.populate(docker(A), 0)
        await host.until(lambda: not host.source._visits)

        await host.walk()  # the third time it works
        assert deaths(host) == {A: WORDS}
        await host.until(lambda: host.value(INOTIFY_UP) == 1)
        host.populate(docker(B), 0)
        await host.until(lambda: len(deaths(host)) == 2)


class Few(Inotify):
    """An inotify with a limit."""

    limit = 3

    def __init__(self) -> None:
        super().__init__()
        self.watches: set[int] = set()

    def add(self, path: str, mask: int) -> int:
        watch = super().add(path, mask)
        if watch not in self.watches and len(self.watches) >= self.limit:
            self.remove(watch)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        self.watches.add(watch)
        return watch


async def test_what_is_beyond_the_limit_is_found_by_walks_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limit raised, the next walk puts all in order."""
    host = Host(tmp_path, Few)
    for identifier in (A, B):
        host.start(docker(identifier))
    async with host.follow():
        assert host.value(INOTIFY_UP) == 0
        assert "fs.inotify.max_user_watches" in host.status.reason
        assert host.value(WATCHES) == 3
        (unwatched,) = host.source._watches.unwatched
        for identifier in (A, B):
            host.populate(docker(identifier), 0)
        await host.until(lambda: deaths(host))
        assert deaths(host) == {B if unwatched == docker(A) else A: WORDS}
        await host.walk()
        await host.until(lambda: len(deaths(host)) == 2)

        monkeypatch.setattr(Few, "limit", 10)
        await host.walk()
        await host.until(lambda: host.status.is_up)
        assert host.value(WATCHES) == 4


async def test_what_could_not_be_watched_and_is_gone_is_no_trouble_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a directory nor a container."""
    monkeypatch.setattr(Few, "limit", 2)
    host = Host(tmp_path, Few)
    host.start(docker(A))
    async with host.follow():
        assert len(host.source._watches.watched) == 2
        (host.root / "system.slice").mkdir()
        await host.until(lambda: len(host.source._watches.unwatched) == 2)
        host.remove("/docker")
        host.remove("/system.slice")
        await host.walk()

        await host.until(lambda: host.status.is_up)


async def test_more_cgroups_than_anybody_has_are_not_watched(tmp_path: Path) -> None:
    """Whoever may make one may make a million."""
    host = Host(tmp_path, most=5)
    for number in range(20):
        (host.root / f"user{number}").mkdir()
    async with host.follow():
        assert host.value(WATCHES) == 5
        assert "more than 5 cgroups" in host.status.reason
        assert not host.status.is_up


async def test_what_is_inside_of_a_container_leaves_watches_to_others(tmp_path: Path) -> None:
    """One that makes many cgroups like those of containers costs nobody else his last words."""
    host = Host(tmp_path, most=10)
    host.start(docker(A))
    for number in range(20):
        host.start(f"{docker(A)}/docker/{number:064}")
    async with host.follow():
        await host.walk()
        assert len(host.source._instances.present) == 21
        host.start(docker(B))
        await host.until(lambda: docker(B) in host.source._watches.watched)

        assert host.status.is_up
        assert host.value(WATCHES) == 6
        host.remove(docker(A))
        await host.walk()
        assert set(host.source._instances.present) == {docker(B)}


async def test_after_an_overflow_all_is_looked_at_anew(tmp_path: Path) -> None:
    """What was lost is a birth and a death."""
    lost = [False]

    class Overflowing(Inotify):
        def read(self) -> list[Event]:
            events = super().read()
            return [Event(-1, IN_Q_OVERFLOW, 0, b"")] if events and lost[0] else events

    host = Host(tmp_path, Overflowing)
    host.start(docker(A))
    host.start(docker(B))
    async with host.follow():
        lost[0] = True
        host.populate(docker(A), 0)
        host.start(docker(C))
        await host.until(lambda: host.born and deaths(host))

        assert (host.born, deaths(host)) == ([C], {A: WORDS})
        assert host.value(OVERFLOWS) >= 1


async def test_a_root_that_is_not_there_is_said(tmp_path: Path) -> None:
    """It may come."""
    host = Host(tmp_path)
    host.root.rmdir()
    async with host.follow():
        assert not host.status.is_up
        assert str(host.root) in host.status.reason


async def test_a_follower_that_starts_again_knows_whom_it_knew(host: Host) -> None:
    """A second birth of all would be wrong, and so would be two inotify instances."""
    host.start(docker(A))
    async with host.follow():
        pass
    host.start(docker(B))
    before = len(os.listdir("/proc/self/fd"))
    async with host.follow():
        await host.until(lambda: host.status.is_up and not host.source._visits)
        await host.until(lambda: host.born)
        assert host.born == [B]
        host.populate(docker(A), 0)
        await host.until(lambda: deaths(host))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_the_event_loop_is_not_kept_for_long(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever there is to do, others have their turns in between."""
    monkeypatch.setattr(cgroup, "_TURN_SECONDS", 0)
    for number in range(50):
        (host.root / f"{number}.slice").mkdir()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while not host.source._is_settled:
            turns += 1
            await asyncio.sleep(0)

    asking = asyncio.create_task(other())
    async with host.follow():
        await asking
    assert turns >= 50


names = st.one_of(
    st.binary(min_size=1, max_size=80),
    st.sampled_from([f"docker-{A}.scope".encode(), A.encode(), f"cri-containerd-{B}.scope".encode(), f"{A} (deleted)".encode(), b"pod\n"]),
).map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"-"))


def fill(directory: Path, names: list[bytes]) -> None:
    """Make one cgroup in the other."""
    for name in names:
        directory /= os.fsdecode(name)
        tree(directory, FULL)


@settings(max_examples=30)
@given(st.lists(st.lists(names.filter(lambda name: name not in (b".", b"..")), min_size=1, max_size=3), max_size=8))
def test_names_are_data(paths: list[list[bytes]]) -> None:
    """Whatever directories are called, births and deaths are those that a walk sees, and everything is watched."""

    async def check(root: Path) -> None:
        host = Host(root)
        async with host.follow():
            for path in paths:
                fill(host.root, path)
            await host.walk()
            await host.until(lambda: not host.source._visits and not host.source._changed)
            found = host.census()
            keys = sorted(instance.id.key for instance in found.instances)
            assert sorted(instance.id.key for instance in host.source._instances.present.values()) == keys
            containers = tuple(f"{instance.cgroup.path}/" for instance in found.instances)
            outside = {cgroup.path for cgroup in found.cgroups if not f"{cgroup.path}/".startswith(containers)}
            assert host.source._directories == outside
            for top in host.root.iterdir():
                shutil.rmtree(os.fsencode(top))
            await host.walk()
            await host.until(lambda: set(host.source._watches.watched) == {"/"})
            assert not host.source._instances.present

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(check(Path(directory)))
