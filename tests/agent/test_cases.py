"""Facts of containers' lives become one verdict each, whatever order they come in and however often agents restart."""

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from agent import cases as cases_module
from agent.casebook import Casebook
from agent.cases import NAME_SECONDS, Cases
from agent.identities import Identities, Identity
from agent.open_case import LONGEST_SECONDS, MOST_OF_A_KIND, SETTLED_SECONDS
from collectors.base import Instance, Node
from collectors.inquest.facts import (
    Born,
    Created,
    Emptied,
    Exited,
    Fact,
    OomVictim,
    Paused,
    Removed,
    Resumed,
    Signalled,
    Started,
    StopRequested,
    StopReturned,
    Watched,
)
from collectors.kernel.cgroupfs import Cgroup
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.files import KernelFiles
from collectors.kernel.procfs import ProcessTable
from tests.tree import docker

ID = "a1" * 32
KEY = ContainerKey(ID)
WEB = ("", "", "web")
BOOT = "b00710ad-0000-4000-8000-000000000001"


class Agent:
    """The cases of an agent that may be killed and started again, with clocks of its own. Only the casebook's file stays."""

    def __init__(self, directory: Path, *, boot: str = BOOT) -> None:
        self.now = 1000.0
        self.state, self.proc = directory / "state", directory / "proc"
        self.state.mkdir(exist_ok=True)
        (self.proc / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
        self.casebook: Casebook
        self.start(boot=boot, history=1000.0)

    def start(self, *, boot: str = BOOT, history: float | None = None) -> None:
        """Start it, by default as the one that was there a moment ago."""
        (self.proc / "sys/kernel/random/boot_id").write_text(boot)
        self.casebook = Casebook(str(self.state), str(self.proc))
        self.casebook.open()
        self.identities = Identities(clock=lambda: self.now)
        self.call(KEY, WEB)
        self.cases = Cases(
            casebook=self.casebook,
            identities=self.identities,
            history=self.now if history is None else history,
            clock=lambda: self.now,
            wall=lambda: self.now,
        )

    def restart(self, *, boot: str = BOOT) -> None:
        """Kill it, half a second after the last fact, and start it: nothing is written at its end."""
        self.wait(0.5)
        self.casebook.close()
        self.start(boot=boot)

    def call(self, key: ContainerKey, name: tuple[str, ...], *, is_sandbox: bool = False) -> None:
        """Have a container named."""
        self.identities.put("docker", {key: Identity(name=name, is_sandbox=is_sandbox)})

    def tell(self, *facts: Fact) -> None:
        """Tell facts, each at its own time if that is later than now."""
        for fact in facts:
            self.now = max(self.now, fact.time)
            self.cases.tell(fact)

    def wait(self, seconds: float) -> None:
        """Let time go by, half a second at a time."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 0.5)
            self.cases.close_due()

    @property
    def deaths(self) -> dict[str, int]:
        """What was counted for the container, by cause."""
        return {cause: count for (labels, cause), count in self.casebook.deaths().items() if labels == WEB}


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """Make an agent that began to count at 1000."""
    return Agent(tmp_path)


def born(at: float, inode: int = 7, key: ContainerKey = KEY) -> Born:
    """The cgroup was made."""
    return Born(
        container=key,
        source="cgroup",
        time=at,
        inode=inode,
        id=ContainerId.of_key(key),
        cgroup=Cgroup(f"/docker/{key}", "/x", inode, has_children=False),
    )


def emptied(at: float, inode: int = 7, key: ContainerKey = KEY) -> Emptied:
    """The last process ended, and the cgroup is gone."""
    return Emptied(
        container=key,
        source="cgroup",
        time=at,
        inode=inode,
        id=ContainerId.of_key(key),
        cgroup=Cgroup(f"/docker/{key}", "/x", inode, has_children=False),
    )


def told(what: type[Fact], at: float, **more: object) -> Fact:
    """What Docker tells: no inode."""
    return what(container=KEY, source="docker", time=at, **more)  # type: ignore[arg-type] # the test says which fields


def stop(at: float, code: int = 0) -> Iterable[Fact]:
    """A stop that the init obeys within a second, as Docker tells it."""
    yield told(Signalled, at, signal=15)
    yield told(Exited, at + 1, how="runtime", code=code)
    yield told(StopReturned, at + 1.1)


def life(at: float, inode: int = 7) -> Iterable[Fact]:
    """A container is made and runs, watched by Docker."""
    yield told(Created, at)
    yield born(at + 0.1, inode)
    yield told(Started, at + 0.2)
    yield told(Watched, at + 0.2, kind="stops")


def test_an_exit_is_counted_once_it_is_settled_and_not_before(agent: Agent) -> None:
    """Docker may still say that it was a stop."""
    agent.tell(*life(1001), told(Exited, 1005, how="runtime", code=3), emptied(1005.1))
    agent.wait(SETTLED_SECONDS - 1)
    assert agent.deaths == {}
    agent.wait(2)
    assert agent.deaths == {"error": 1}
    agent.wait(60)
    assert agent.deaths == {"error": 1}


def test_what_docker_says_after_the_end_still_decides(agent: Agent) -> None:
    """`stop` comes after `die`."""
    agent.tell(*life(1001), *stop(1010, code=5), emptied(1011.05))
    agent.wait(5)
    assert agent.deaths == {"stopped": 1}


def test_every_fact_twice_and_the_last_ones_late_is_one_death(agent: Agent) -> None:
    """A resync tells all again, also when the case is closed long since."""
    facts = [*life(1001), *stop(1010), emptied(1011.05)]
    agent.tell(*facts, *facts)
    agent.wait(5)
    agent.tell(*facts, told(Removed, 1012))
    agent.wait(30)
    assert agent.deaths == {"stopped": 1}
    assert dict(agent.casebook.open_cases()) == {}


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_facts_does_not_matter(agent: Agent, seed: int) -> None:
    """All that has an inode or a time finds its life."""
    facts = [*life(1001), *stop(1010), emptied(1011.05)]
    random.Random(seed).shuffle(facts)
    for fact in facts:
        agent.cases.tell(fact)
    agent.now = 1012
    agent.wait(20)
    assert agent.deaths == {"stopped": 1}


def test_a_container_that_is_started_again_under_its_id_has_two_deaths(agent: Agent) -> None:
    """Docker keeps the id: the inode of the cgroup tells the lives apart, and for Docker's own events the time."""
    agent.tell(*life(1001), told(Exited, 1005, how="runtime", code=1), emptied(1005.1))
    agent.tell(born(1005.3, inode=8), told(Started, 1005.4), told(Watched, 1005.4, kind="stops"))
    agent.tell(told(Exited, 1009, how="runtime", code=0), emptied(1009.1, inode=8))
    agent.wait(5)
    assert agent.deaths == {"error": 1, "completed": 1}


def test_a_start_that_its_runtime_dates_after_the_end_begins_no_other_life(agent: Agent) -> None:
    """Of a container that lives for milliseconds, on a busy node: Podman logs its start, and CRI notes it, when all is done."""
    agent.tell(born(1001), told(Exited, 1001.1, how="runtime", code=3), emptied(1001.2))
    agent.tell(told(Started, 1001.6), told(Exited, 1001.7, how="runtime", code=3))
    agent.wait(20)

    assert agent.deaths == {"error": 1}


def test_an_end_that_its_runtime_tells_and_dates_much_later_is_the_one_that_is_settled(agent: Agent) -> None:
    """The kernel and conmon's file have told of it; Podman notices when somebody asks it. A start in between makes it another."""
    agent.tell(born(1001), told(Exited, 1001.1, how="zombie", status=3 << 8), emptied(1001.2))
    agent.wait(10)
    assert agent.deaths == {"error": 1}
    agent.tell(told(Exited, 1020, how="runtime", code=3))
    agent.wait(20)
    assert agent.deaths == {"error": 1}

    agent.tell(told(Started, 1041), told(Exited, 1042, how="runtime", code=3))
    agent.wait(20)
    assert agent.deaths == {"error": 2}


@pytest.mark.parametrize("seconds", [1, 8, 20, 100])
def test_a_busy_daemon_that_tells_late_of_a_life_it_has_watched_makes_no_second_one(agent: Agent, seconds: float) -> None:
    """It dates each event when it gets to it, also after all was settled by the kernel's word. What follows is another life again."""
    agent.tell(told(Created, 1001), told(Watched, 1001, kind="stops"), born(1001.1))
    agent.tell(replace(told(Exited, 1001.3, how="zombie", status=4 << 8), source="exits"), emptied(1001.4))
    agent.wait(seconds)
    agent.tell(told(Started, 1001.4 + seconds), told(Watched, 1001, kind="stops"), told(Exited, 1001.9 + seconds, how="runtime", code=4))
    agent.wait(50)
    assert agent.deaths == {"error": 1}

    at = agent.now
    agent.tell(told(Started, at), told(Watched, 1001, kind="stops"), told(Exited, at + 1, how="runtime", code=4))
    agent.wait(50)
    assert agent.deaths == {"error": 2}


def test_what_a_daemon_says_after_a_gap_is_of_another_life(agent: Agent) -> None:
    """Its connection was lost: what it had not told of by then, it never will."""
    agent.tell(told(Created, 1001), told(Watched, 1001, kind="stops"), born(1001.1))
    agent.tell(replace(told(Exited, 1001.3, how="zombie", status=4 << 8), source="exits"), emptied(1001.4))
    agent.wait(50)
    agent.tell(told(Watched, 1060, kind="stops"), told(Started, 1061), told(Exited, 1062, how="runtime", code=4))
    agent.wait(20)
    assert agent.deaths == {"error": 2}


def test_a_stop_is_waited_for_while_its_daemon_has_not_told_of_the_end(agent: Agent) -> None:
    """The kernel tells at once how it ended, and a busy daemon some seconds later who asked for it."""
    agent.tell(told(Created, 1001), told(Watched, 1001, kind="stops"), *life(1001))
    agent.tell(replace(told(Exited, 1010, how="reaped", status=0), source="exits"), emptied(1010.1))
    agent.wait(20)
    assert agent.deaths == {}
    agent.tell(told(Signalled, 1009.5, signal=15), told(Exited, 1010, how="runtime", code=0), told(StopReturned, 1010.2))
    agent.wait(10)
    assert agent.deaths == {"stopped": 1}


def test_an_end_in_whole_seconds_is_that_of_a_life_which_began_later(agent: Agent) -> None:
    """The kubelet cuts its times, and most of what crashes in a loop lives for less than a second. Its ids live once."""
    agent.tell(born(1001.3), told(Exited, 1001.6, how="zombie", status=1 << 8), emptied(1001.7))
    agent.tell(told(Exited, 1001, how="kubelet", code=1))
    agent.wait(20)

    assert agent.deaths == {"error": 1}


@pytest.mark.parametrize("seed", range(20))
def test_a_short_life_that_four_sources_date_each_its_own_way_is_one_death(agent: Agent, seed: int) -> None:
    """A container of a pod that crashes at once, in whatever order the rest is told when its cgroup was seen."""
    files = {"container": KEY, "source": "exit_files"}
    kernel = {"container": KEY, "source": "exits", "inode": 7}
    facts: list[Fact] = [
        Created(**files, time=1001.2),  # type: ignore[arg-type] # a mapping of several types
        Started(**kernel, time=1001.35),  # type: ignore[arg-type] # as above
        Exited(**kernel, time=1001.5, how="zombie", status=1 << 8),  # type: ignore[arg-type] # as above
        emptied(1001.52),
        Started(**files, time=1001.9),  # type: ignore[arg-type] # as above
        Exited(**files, time=1001.9, how="runtime", code=1),  # type: ignore[arg-type] # as above
        Exited(container=KEY, source="kubernetes", time=1001, how="kubelet", code=1, reason="Error"),
    ]
    random.Random(seed).shuffle(facts)
    agent.cases.tell(born(1001.3))
    for fact in facts:
        agent.cases.tell(fact)
    agent.now = 1002
    agent.wait(20)

    assert agent.deaths == {"error": 1}


def test_a_start_soon_after_that_of_the_life_before_begins_another(agent: Agent) -> None:
    """So do a start long after the end, and any birth of a cgroup, whoever else has told of the life before."""
    for at in (1001.0, 1001.2):
        agent.tell(told(Started, at), told(Exited, at + 0.1, how="runtime", code=1))
    agent.wait(20)
    assert agent.deaths == {"error": 2}

    agent.tell(told(Exited, 1101, how="runtime", code=1), told(Started, 1109), told(Exited, 1109.1, how="runtime", code=1))
    agent.tell(born(1109.2), emptied(1109.5), told(Exited, 1109.4, how="runtime", code=1))
    agent.wait(20)
    assert agent.deaths == {"error": 5}


def test_a_thousand_lives_of_one_container_are_a_thousand_deaths_and_leave_nothing(agent: Agent) -> None:
    """A restart loop."""
    for number in range(1000):
        at = 1001 + number
        agent.tell(born(at, inode=10 + number), told(Started, at + 0.1), told(Exited, at + 0.5, how="runtime", code=1))
        agent.tell(emptied(at + 0.6, inode=10 + number))
        agent.cases.close_due()
    agent.wait(20)
    assert agent.deaths == {"error": 1000}
    assert dict(agent.casebook.open_cases()) == {}


def test_without_cgroups_docker_alone_tells_lives_apart(agent: Agent) -> None:
    """Docker Desktop, or a tree that cannot be read."""
    for at in (1001, 1010):
        agent.tell(told(Started, at), told(Watched, at, kind="stops"), told(Exited, at + 3, how="runtime", code=2))
    agent.wait(5)
    assert agent.deaths == {"error": 2}


def test_a_stop_seen_by_one_agent_and_the_death_seen_by_the_next_are_one_verdict(agent: Agent) -> None:
    """Killed between the two, nothing is lost and nothing counted twice."""
    agent.tell(*life(1001), told(Signalled, 1010, signal=15))
    agent.restart()
    agent.tell(told(Watched, 1011, kind="stops"), told(Exited, 1012, how="runtime", code=0), told(StopReturned, 1012.1), emptied(1012.1))
    agent.wait(5)
    agent.restart()
    agent.tell(told(Started, 1001.2), told(Exited, 1012, how="inspect", code=0))
    agent.wait(30)
    assert agent.deaths == {"stopped": 1}


def test_a_death_while_nobody_was_there_is_counted_once_whoever_tells_of_it_again(agent: Agent) -> None:
    """The runtime still lists it, at each start of an agent."""
    agent.tell(*life(1001))
    agent.casebook.close()
    agent.now = 1100
    for _ in range(3):
        agent.start(history=1001.5)
        agent.cases.see(node())
        agent.tell(told(Started, 1001.2), told(Exited, 1050, how="inspect", code=4))
        agent.wait(30)
        agent.casebook.close()
    agent.start()
    assert agent.deaths == {"error": 1}


def test_a_container_that_came_and_went_while_nobody_was_there_is_counted_once(agent: Agent) -> None:
    """No agent has ever seen it."""
    agent.casebook.close()
    agent.now = 1100
    for _ in range(3):
        agent.start(history=1001.5)
        agent.tell(told(Started, 1040), told(Exited, 1050, how="inspect", code=4))
        agent.wait(30)
        agent.casebook.close()
    agent.start()
    assert agent.deaths == {"error": 1}


def test_what_ended_before_anybody_counted_is_history(agent: Agent) -> None:
    """A node with a hundred exited containers has no deaths because an agent was installed."""
    agent.tell(told(Created, 899), told(Started, 900), told(Exited, 950, how="inspect", code=4))
    agent.wait(30)
    assert agent.deaths == {}
    assert not list(agent.cases._open)


def test_the_end_of_an_earlier_life_is_not_that_of_the_present_one(agent: Agent) -> None:
    """Docker tells how the life before ended while the container runs."""
    agent.tell(born(1001), told(Started, 1001.1), told(Exited, 900, how="inspect", code=4))
    agent.wait(30)
    assert agent.deaths == {}
    agent.tell(told(Exited, 1050, how="runtime", code=0), emptied(1050.1))
    agent.wait(5)
    assert agent.deaths == {"completed": 1}


def test_the_end_of_an_earlier_life_that_nobody_saw_is_a_death_of_its_own(agent: Agent) -> None:
    """The container was started again while no agent was there; Docker tells of both, of the present one first."""
    agent.tell(*life(1001))
    agent.casebook.close()
    agent.now = 1100
    for _ in range(2):
        agent.start(history=1001.5)
        agent.cases.see(node(9))
        agent.tell(told(Watched, 1100, kind="stops"), told(Started, 1060), told(Exited, 1050, how="inspect", code=4))
        agent.wait(30)
        agent.casebook.close()
    agent.start()
    agent.cases.see(node(9))
    assert agent.deaths == {"error": 1}
    agent.tell(told(Exited, 1200, how="runtime", code=0), emptied(1200.1, inode=9))
    agent.wait(5)
    assert agent.deaths == {"error": 1, "completed": 1}


def test_a_case_of_the_agent_before_whose_cgroup_is_gone_is_unknown_when_nobody_tells(agent: Agent) -> None:
    """It ran, and it is not there: that is a death."""
    agent.tell(*life(1001))
    agent.restart()
    agent.cases.see(node())
    agent.wait(LONGEST_SECONDS + 1)
    assert agent.deaths == {"unknown": 1}


def test_a_case_of_the_agent_before_that_may_be_where_nobody_can_see_it_is_no_death(agent: Agent) -> None:
    """Until all can be seen again. What is hidden in a container is no case, so that hides none."""
    agent.tell(*life(1001))
    agent.restart()
    agent.cases.see(replace(node(), hidden={"/user.slice"}))
    agent.wait(LONGEST_SECONDS + 1)
    assert agent.deaths == {}
    agent.cases.see(replace(node(), hidden={docker("b" * 64)}))
    agent.wait(LONGEST_SECONDS + 1)
    assert agent.deaths == {"unknown": 1}


def test_a_case_of_the_agent_before_that_still_runs_stays_open(agent: Agent) -> None:
    """Its cgroup is there."""
    agent.tell(*life(1001))
    agent.restart()
    agent.cases.see(node(7))
    agent.wait(60)
    assert agent.deaths == {}
    agent.tell(told(Exited, 1100, how="runtime", code=0), emptied(1100.1))
    agent.wait(5)
    assert agent.deaths == {"completed": 1}


def test_after_a_boot_what_ran_before_has_ended(agent: Agent) -> None:
    """The same inode after a boot is another container's."""
    agent.tell(*life(1001))
    agent.restart(boot=BOOT.replace("1", "2"))
    agent.tell(born(1002, inode=7))
    agent.wait(LONGEST_SECONDS + 1)
    assert sum(agent.deaths.values()) == 1


def test_an_open_case_that_cannot_be_read_is_dropped_and_the_others_are_not(agent: Agent) -> None:
    """A newer agent may have written it."""
    agent.tell(*life(1001))
    agent.wait(0.5)
    [kept] = agent.casebook.open_cases()
    agent.casebook.keep_case(kept._replace(instance=99), "{")
    agent.restart()
    assert [key.instance for key in agent.casebook.open_cases()] == [7]


def test_a_sandbox_and_what_was_only_created_have_no_death(agent: Agent) -> None:
    """pause is always killed."""
    agent.call(KEY, ("shop", "web-1", ""), is_sandbox=True)
    agent.tell(born(1001), told(Exited, 1005, how="runtime", code=137), emptied(1005.1))
    never = ContainerKey("b2" * 32)
    agent.tell(Created(container=never, source="docker", time=1001), Removed(container=never, source="docker", time=1002))
    agent.wait(30)
    assert agent.casebook.deaths() == {}
    assert not list(agent.cases._open)


def test_a_death_waits_for_the_name_and_has_the_id_for_one_if_there_is_none(agent: Agent) -> None:
    """Count first, name later; but under a label that stays."""
    unnamed, late = ContainerKey("c3" * 32), ContainerKey("d4" * 32)
    for key, inode in ((unnamed, 20), (late, 21)):
        agent.tell(born(1001, inode, key), emptied(1002, inode, key))
        agent.tell(Exited(container=key, source="exits", time=1002, inode=inode, how="reaped", status=0))
    agent.wait(SETTLED_SECONDS + 1)
    assert agent.casebook.deaths() == {}
    agent.call(late, ("", "", "late"))
    agent.wait(NAME_SECONDS)
    assert agent.casebook.deaths() == {(("", "", "late"), "completed"): 1, (("", "", "c3c3c3c3c3c3"), "completed"): 1}


def test_a_death_that_nobody_names_is_on_the_page_but_not_that_of_the_sandbox_of_a_listed_pod(agent: Agent) -> None:
    """Also if no pass has seen it alive: it is known by its id from then on. A pod that Kubernetes lists has names for all others."""
    unnamed, of_listed, of_unlisted = (ContainerKey(letters * 32) for letters in ("c3", "d4", "e5"))
    agent.identities.list_pods({"listed": ("shop", "web-0")}, is_watched=True)
    for inode, (key, pod) in enumerate({unnamed: "", of_listed: "listed", of_unlisted: "unlisted"}.items(), start=20):
        agent.tell(replace(born(1001, inode, key), id=replace(ContainerId.of_key(key), pod_uid=pod)), emptied(1002, inode, key))
        agent.tell(Exited(container=key, source="exits", time=1002, inode=inode, how="reaped", status=0))
    agent.wait(SETTLED_SECONDS + NAME_SECONDS + 1)

    assert unnamed in agent.identities.known
    assert of_unlisted in agent.identities.known
    assert of_listed not in agent.identities.known


@pytest.mark.parametrize("is_watched", [True, False])
def test_the_sandbox_of_a_pod_that_was_deleted_at_once_is_not_on_the_page(agent: Agent, *, is_watched: bool) -> None:
    """It ends with its pod, which is not listed any more when nobody has named it; nor need its birth have been seen."""
    born_here, found_here = (ContainerKey(letters * 32) for letters in ("c3", "d4"))
    agent.identities.list_pods({"listed": ("shop", "web-0")}, is_watched=is_watched)
    for inode, key in enumerate((born_here, found_here), start=20):
        identifier = replace(ContainerId.of_key(key), pod_uid="listed")
        if key == born_here:
            agent.tell(replace(born(1001, inode, key), id=identifier))
        agent.tell(replace(emptied(1002, inode, key), id=identifier))
        agent.tell(Exited(container=key, source="exits", time=1002, inode=inode, how="reaped", status=0))
    agent.identities.list_pods({}, is_watched=is_watched)
    agent.wait(SETTLED_SECONDS + NAME_SECONDS + 1)

    assert not {born_here, found_here} & agent.identities.known.keys()


def test_an_oom_kill_of_init_is_the_cause_also_when_the_cgroup_was_gone_by_then(agent: Agent) -> None:
    """The kernel log tells without an inode."""
    agent.cases.follow_log(is_followed=True)
    agent.tell(*life(1001))
    agent.tell(OomVictim(container=KEY, source="kmsg", time=1005, pid=42, comm="java", scope="container", is_init=True))
    agent.tell(told(Exited, 1005.1, how="runtime", code=137), emptied(1005.2))
    agent.wait(5)
    assert agent.deaths == {"oom_kill": 1}


def test_of_facts_that_come_again_and_again_some_are_kept(agent: Agent) -> None:
    """A container is paused ten thousand times."""
    agent.tell(*life(1001))
    for number in range(10_000):
        agent.tell(told(Paused, 1002 + number / 100), told(Resumed, 1002.005 + number / 100))
    [case] = agent.cases._open[KEY]
    assert len(case.all(Paused)) == MOST_OF_A_KIND
    assert case.all(Paused)[0].time == 1002


def test_beyond_the_most_what_ended_first_is_settled_and_that_is_counted(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing grows without bound, and no container that runs is said to be dead."""
    monkeypatch.setattr(cases_module, "MOST_OPEN", 10)
    for number in range(12):
        key = ContainerKey(f"{number:064x}")
        agent.tell(born(1001, 100 + number, key))
        if number < 5:
            agent.tell(emptied(1001.5, 100 + number, key))
    values = {metric.name: value for metric, labels, value in agent.cases.samples() if not labels}
    assert values == {"coroner_open_cases": 10, "coroner_cases_settled_early_total": 2}
    assert sum(agent.casebook.deaths().values()) == 2


def test_a_fault_of_the_reasoning_costs_no_death(agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is unknown, and the log says what happened."""

    def fail(_facts: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(cases_module, "judge", fail)
    agent.tell(*life(1001), told(Exited, 1005, how="runtime", code=3), emptied(1005.1))
    agent.wait(5)
    assert agent.deaths == {"unknown": 1}
    assert "a case could not be judged" in caplog.text


def test_the_last_stop_of_a_container_is_known_after_a_restart(agent: Agent) -> None:
    """In seconds, by its labels."""
    agent.tell(*life(1001), *stop(1010), emptied(1011.05))
    agent.wait(5)
    assert {labels: last.seconds for labels, last in agent.cases.stops.last.items()} == {WEB: pytest.approx(1.0, abs=0.1)}
    agent.restart()
    assert {labels: last.seconds for labels, last in agent.cases.stops.last.items()} == {WEB: pytest.approx(1.0, abs=0.1)}


def test_a_clock_that_was_set_back_costs_no_death_and_makes_no_second_one(agent: Agent) -> None:
    """The end is dated before the beginning, and before there was a casebook; the cgroup goes all the same."""
    agent.tell(*life(1001))
    agent.cases._wall = lambda: agent.now - 600
    agent.now = 1010
    agent.cases.tell(told(Exited, agent.now - 600, how="runtime", code=3))
    agent.cases.tell(emptied(agent.now - 600))
    agent.wait(60)
    assert agent.deaths == {"error": 1}


def test_a_clock_that_was_set_back_without_cgroups_costs_no_death(agent: Agent) -> None:
    """Docker alone tells."""
    agent.tell(told(Started, 1001), told(Watched, 1001, kind="stops"))
    agent.cases._wall = lambda: agent.now - 600
    agent.cases.tell(told(Exited, agent.now - 600, how="runtime", code=3))
    agent.wait(60)
    assert agent.deaths == {"error": 1}


def test_a_container_inside_of_another_is_not_judged(agent: Agent) -> None:
    """What it is called and how it ends is the word of the one around it."""
    inner = ContainerKey(f"{ID}/{'e5' * 32}")
    agent.tell(
        Started(container=inner, source="exits", time=1001), Exited(container=inner, source="exits", time=1002, how="reaped", status=9)
    )
    agent.wait(30)
    assert agent.casebook.deaths() == {}


def test_statuses_are_counted_by_how_they_were_learnt(agent: Agent) -> None:
    """So that an operator sees what the node's kernel and runtimes tell."""
    agent.cases.follow_log(is_followed=True)
    agent.tell(*life(1001), told(Exited, 1005, how="runtime", code=137), emptied(1005.1))
    agent.tell(Exited(container=KEY, source="exits", time=1005, inode=7, how="reaped", status=9))
    agent.wait(5)
    counts = {labels: value for metric, labels, value in agent.cases.samples() if metric is cases_module.STATUSES and value}
    assert counts == {("reaped",): 1}
    assert agent.deaths == {"killed": 1}


def test_a_stop_request_of_kubernetes_is_one(agent: Agent) -> None:
    """The deletion of its pod, in whole seconds."""
    agent.tell(born(1001.5), StopRequested(container=KEY, source="kubernetes", time=1010, grace_seconds=30, by="deletion of its pod"))
    agent.tell(Exited(container=KEY, source="kubernetes", time=1012, how="kubelet", code=143), emptied(1012.2))
    agent.wait(5)
    assert agent.deaths == {"stopped": 1}


def node(*inodes: int) -> Node:
    """What a pass sees: these lives of the container."""
    instances = [Instance(ContainerId.of_key(KEY), Cgroup(f"/docker/{ID}", "/x", inode, has_children=False)) for inode in inodes]
    return Node(
        "/nowhere", KernelFiles(0), ProcessTable("/nowhere", 0), cgroups=[Cgroup("/", "/x", 1, has_children=True)], instances=instances
    )
