"""The ledger of OOM kills: each once, whatever memory.events and the kernel log say of it, and in any order."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collectors.inquest import kills
from collectors.inquest.kill_counts import Totals
from collectors.inquest.kill_state import WHOLE_LOG, Cursor, Labels, State, Victim
from collectors.inquest.kills import KillLedger, Round
from collectors.inquest.scope import SCOPES
from collectors.inquest.tally import Reading
from collectors.kernel import container_id
from collectors.kernel.container_id import ContainerId, ContainerKey
from collectors.kernel.oom_log import OomKill
from tests.kills import KILL, told
from tests.tree import LABELS, A, B, C, docker

POD = "/kubepods.slice/kubepods-pod12345678_1234_1234_1234_123456789abc.slice"
NOT_UTF8 = b"\xff"
"""A container names the cgroups below its own as it likes."""
IN_POD = f"{POD}/cri-containerd-{A}.scope"


def kill(task: str | None, limit: str | None = None, *, is_global: bool = False, group: str | None = None) -> OomKill:
    """Make a victim as the kernel log tells of it: its cgroup, and the one whose limit was hit."""
    return replace(
        KILL,
        constraint="CONSTRAINT_NONE" if is_global else "CONSTRAINT_MEMCG",
        oom_memcg=os.fsencode(limit) if limit else None,
        task_memcg=os.fsencode(task) if task else None,
        is_global=is_global,
        group=group is not None,
        group_memcg=group.encode() if group else None,
    )


def own(identifier: ContainerKey) -> OomKill:
    """Make a victim in a container that hit its own limit."""
    return kill(docker(identifier), docker(identifier))


def container(identifier: ContainerKey) -> ContainerId:
    """Return a Docker container's id."""
    found = container_id.parse(docker(identifier))
    assert found is not None
    return found


@dataclass(frozen=True)
class Events:
    """What memory.events of one cgroup says: its inode, and the keys oom_kill, oom_group_kill and oom."""

    identifier: ContainerKey
    inode: int
    oom_kill: int
    group: int = 0
    oom: int = 0


def settle(ledger: KillLedger, *readings: Events, names: Mapping[ContainerKey, Labels] = LABELS) -> Totals:
    """Make one round of readings and sum up."""
    with ledger.round() as this_round:
        for one in readings:
            this_round.read(container(one.identifier), one.inode, Reading(one.oom_kill, one.group, one.oom))
        return this_round.settle(names)


def started(*readings: Events) -> KillLedger:
    """Make a ledger after the agent's first pass."""
    ledger = KillLedger()
    settle(ledger, *readings)
    return ledger


def inodes(ledger: KillLedger, identifier: ContainerKey) -> list[int]:
    """Return the instances of a container that it still knows."""
    return ledger._counts.instances.inodes(identifier)


def nonzero(totals: Totals) -> tuple[dict[Labels, int], dict[str, int]]:
    """Leave out what is 0."""
    containers, scopes = ({key: value for key, value in part.items() if value} for part in (totals.by_container, totals.by_scope))
    return containers, scopes  # type: ignore[return-value] # the two have keys of different types


def first_of_group(identifier: ContainerKey) -> tuple[OomKill, OomKill]:
    """Make the first victim of a group whose report is missing: as its own line tells of it, and with the group line after that."""
    unnamed = kill(None)
    return unnamed, replace(unnamed, group_memcg=docker(identifier).encode())


# One incident

ROW = re.compile(
    r"^    (?:(?P<what>memory.events|last words) +E (?P<E>\d) +G (?P<G>\d) +oom (?P<oom>\d)|kernel log +(?P<pid>\d+)) +"
    r"kills (?P<kills>\d) ",
    re.MULTILINE,
)


def test_the_incident_in_the_description_of_the_ledger_comes_out_as_it_says() -> None:
    """Row by row; the container is gone when its last words were read."""
    ledger = started()
    inode: int | None = 1
    rows = list(ROW.finditer(kills.__doc__ or ""))
    for row in rows:
        reading = Reading(int(row["E"] or 0), int(row["G"] or 0), int(row["oom"] or 0))
        if row["what"] == "memory.events":
            with ledger.round() as this_round:
                this_round.read(container(A), 1, reading)
                this_round.settle(LABELS)
        elif row["what"] == "last words":
            ledger.read_last(container(A), 1, reading)
            inode = None
        else:
            ledger.logged(told(own(A), inode))

        expected = int(row["kills"])
        assert nonzero(settle(ledger)) == (({LABELS[A]: expected}, {"container": expected}) if expected else ({}, {})), row[0]
    assert [row["pid"] for row in rows if row["pid"]] == ["88", "86", "87", "89"]
    assert len(rows) == 9

    ledger.close(A, LABELS[A])
    assert nonzero(settle(ledger, names={B: LABELS[A]})) == ({LABELS[A]: 4}, {"container": 4})


# Each once


def test_everything_is_born_at_0() -> None:
    """All names and all scopes are there from the start."""
    totals = settle(KillLedger())

    assert totals.by_container == dict.fromkeys(LABELS.values(), 0)
    assert totals.by_scope == {"container": 0, "pod": 0, "ancestor": 0, "node": 0}


def test_memory_events_alone() -> None:
    """Without a kernel log, `oom` tells whether the container's own limit was hit."""
    ledger = started(Events(A, 1, 0), Events(B, 2, 0))

    assert nonzero(settle(ledger, Events(A, 1, 3, oom=1), Events(B, 2, 2))) == (
        {LABELS[A]: 3, LABELS[B]: 2},
        {"container": 3, "ancestor": 2},
    )


def test_the_kernel_log_alone() -> None:
    """The cgroup was removed before it could be read."""
    ledger = started()
    ledger.logged(told(own(A), None))
    ledger.logged(told(own(A), None))

    assert nonzero(settle(ledger)) == ({LABELS[A]: 2}, {"container": 2})


@pytest.mark.parametrize("log_first", [False, True])
def test_both_sources_count_once(log_first: bool) -> None:
    """Whichever comes first, and also if a pass lies between."""
    ledger = started(Events(A, 1, 0))
    if log_first:
        ledger.logged(told(own(A), 1))
        settle(ledger, Events(A, 1, 0))
    once = settle(ledger, Events(A, 1, 1, oom=1))
    if not log_first:
        ledger.logged(told(own(A), 1))

    assert nonzero(once) == nonzero(settle(ledger, Events(A, 1, 1, oom=1))) == ({LABELS[A]: 1}, {"container": 1})


def test_the_first_victim_of_a_group_is_counted_once() -> None:
    """The kernel counts it twice; wherever a reading falls in between, the count is right and never falls."""
    ledger = started(Events(A, 1, 0))
    seen = []
    for oom_kill, group in ((1, 0), (1, 1), (2, 1), (3, 1), (4, 1)):
        seen.append(settle(ledger, Events(A, 1, oom_kill, group, oom=1)).by_container[LABELS[A]])
    for _ in range(3):
        ledger.logged(told(own(A), 1))
    seen.append(settle(ledger, Events(A, 1, 4, 1, oom=1)).by_container[LABELS[A]])

    assert seen == [1, 1, 1, 2, 3, 3]


def test_members_of_a_group_are_counted_by_the_cgroup_of_the_group() -> None:
    """The log names the cgroup of the first victim only; the others share the group's, which may also be the pod's."""
    ledger = started()
    ledger.logged(told(kill(None, docker(A), group=docker(A)), 1))
    ledger.logged(told(kill(None, POD, group=POD), None))

    assert nonzero(settle(ledger)) == ({LABELS[A]: 1}, {"container": 1, "ancestor": 1})


# Since when


def test_what_lies_before_the_first_pass_is_history() -> None:
    """Only what comes on top is counted."""
    ledger = KillLedger()
    assert nonzero(settle(ledger, Events(A, 1, 7, 2, oom=3))) == ({}, {})
    assert nonzero(settle(ledger, Events(A, 1, 8, 2, oom=3))) == ({LABELS[A]: 1}, {"ancestor": 1})


def test_what_was_logged_since_the_start_is_not_history() -> None:
    """The log is followed before the first pass; memory.events has those kills too, and counts on from there."""
    ledger = KillLedger()
    ledger.logged(told(own(A), 1))
    ledger.logged(told(own(A), 1))

    assert nonzero(settle(ledger, Events(A, 1, 7, oom=7))) == ({LABELS[A]: 2}, {"container": 2})
    assert nonzero(settle(ledger, Events(A, 1, 8, oom=8))) == ({LABELS[A]: 3}, {"container": 3})


def test_a_kill_during_the_first_pass() -> None:
    """Whether the reading has it already cannot be told, so it is taken to be history; its line in the log counts it."""
    ledger = KillLedger()
    with ledger.round() as this_round:
        ledger.logged(told(own(A), 1))
        this_round.read(container(A), 1, Reading(7, 0, 7))

        assert nonzero(this_round.settle(LABELS)) == ({LABELS[A]: 1}, {"container": 1})
    assert nonzero(settle(ledger, Events(A, 1, 7))) == ({LABELS[A]: 1}, {"container": 1})


def test_a_container_that_is_found_later_was_born_later() -> None:
    """It was not there at the first pass, so it began at 0."""
    assert nonzero(settle(started(), Events(A, 1, 2, oom=1))) == ({LABELS[A]: 2}, {"container": 2})


def test_a_round_that_saw_nothing_makes_nobody_new() -> None:
    """The walk of the tree failed; what is found afterwards was there before."""
    ledger = KillLedger()
    with ledger.round() as this_round:
        this_round.settle({}, sighted=False)

    assert nonzero(settle(ledger, Events(A, 1, 7))) == ({}, {})


# Lives of a container


def test_a_restart_under_the_same_id_counts_on() -> None:
    """The new cgroup has a new inode and begins at 0."""
    ledger = started(Events(A, 1, 0))
    settle(ledger, Events(A, 1, 2))
    ledger.logged(told(own(A), 8))

    assert settle(ledger, Events(A, 8, 1)).by_container[LABELS[A]] == 3
    assert settle(ledger, Events(A, 8, 4)).by_container[LABELS[A]] == 6


def test_a_kill_in_a_removed_cgroup_belongs_to_its_last_life() -> None:
    """The log may be read when the inode can no longer be looked up; memory.events had the kill already."""
    ledger = started(Events(A, 1, 0))
    settle(ledger, Events(A, 1, 1), Events(A, 8, 1))
    ledger.logged(told(own(A), None))

    assert settle(ledger).by_container[LABELS[A]] == 2


def test_a_name_may_come_later() -> None:
    """The node counts at once, the container from when it has a name."""
    ledger = started()
    ledger.logged(told(own(A), 1))

    assert nonzero(settle(ledger, Events(A, 1, 1), names={})) == ({}, {"container": 1})
    assert nonzero(settle(ledger, Events(A, 1, 1))) == ({LABELS[A]: 1}, {"container": 1})


def test_it_says_in_whom_somebody_was_killed() -> None:
    """By the kernel log at once, by memory.events when the round is over; whether they have a name or not."""
    ledger = started()
    settle(ledger, Events(C, 3, 0))
    ledger.logged(told(own(A), 1))
    assert ledger.killed() == {A}
    settle(ledger, Events(B, 2, 1), names={})

    assert ledger.killed() == {A, B}


def test_two_ids_with_the_same_labels_are_one_series() -> None:
    """A pod's container that was made anew has another id; the count goes on, also when the old id is forgotten."""
    names = {A: LABELS[A], B: LABELS[A]}
    ledger = started()
    ledger.logged(told(own(A), 1))
    assert nonzero(settle(ledger, Events(B, 2, 2, oom=1), names=names)) == ({LABELS[A]: 3}, {"container": 3})

    ledger.close(A, LABELS[A])

    assert nonzero(settle(ledger, names={B: LABELS[A]})) == ({LABELS[A]: 3}, {"container": 3})


def test_a_closed_container_stays_in_the_sums() -> None:
    """The node never forgets, and an identity goes on where it was: its counter is the sum over all that had the name."""
    ledger = started(Events(A, 1, 0))
    ledger.logged(told(own(A), 1))
    settle(ledger, Events(A, 1, 2))
    ledger.close(A, LABELS[A])

    assert nonzero(settle(ledger, names={})) == ({}, {"container": 1, "ancestor": 1})
    assert nonzero(settle(ledger, names={B: LABELS[A]})) == ({LABELS[A]: 2}, {"container": 1, "ancestor": 1})


def test_the_sum_of_a_name_that_a_container_has_is_not_forgotten_for_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many others were killed since."""
    monkeypatch.setattr("collectors.inquest.sums._MOST_IDENTITIES", 2)
    job = ("batch", "job", "job")
    ledger = KillLedger(state=State(started=True, identities={LABELS[A]: 3, job: 1}))
    ledger.logged(told(own(B), 1))
    ledger.close(B, LABELS[B])

    assert nonzero(settle(ledger, names={A: LABELS[A]}))[0] == {LABELS[A]: 3}

    assert nonzero(settle(ledger, names={A: LABELS[A], B: LABELS[B], C: job}))[0] == {LABELS[A]: 3, LABELS[B]: 1}


def test_a_last_reading_before_the_closing_counts() -> None:
    """Nothing needs to be settled in between."""
    ledger = started(Events(A, 1, 0))
    with ledger.round() as this_round:
        this_round.read(container(A), 1, Reading(2, 0, 1))
    ledger.close(A, LABELS[A])

    assert nonzero(settle(ledger, names={})) == ({}, {"container": 2})


# Whose limit


@pytest.mark.parametrize(
    ("victim", "scope"),
    [
        (kill(IN_POD, IN_POD), "container"),
        (kill(f"{IN_POD}/nested", f"{IN_POD}/nested"), "container"),
        (kill(f"{IN_POD}/nested", IN_POD), "container"),
        (kill(f"{IN_POD}/{os.fsdecode(NOT_UTF8)}", f"{IN_POD}/{os.fsdecode(NOT_UTF8)}"), "container"),
        (kill(IN_POD, POD), "pod"),
        (kill(IN_POD, "/kubepods.slice"), "ancestor"),
        (kill(IN_POD, POD[:-1]), "ancestor"),
        (kill(docker(A), "/docker"), "ancestor"),
        (kill(docker(A), None), "ancestor"),
        (kill(docker(A), is_global=True), "node"),
    ],
)
def test_scope_of_a_victim_in_a_container(victim: OomKill, scope: str) -> None:
    """Its own limit, that of its pod, of any cgroup above, or of the node."""
    ledger = started()
    ledger.logged(told(victim, None))

    assert nonzero(settle(ledger)) == ({LABELS[A]: 1}, {scope: 1})


@pytest.mark.parametrize(
    ("victim", "scope"),
    [
        (kill("/system.slice/cron.service", "/system.slice"), "ancestor"),
        (kill("/", is_global=True), "node"),
        (kill(None, is_global=True), "node"),
        (kill(None), "ancestor"),
    ],
)
def test_a_victim_of_no_container_counts_for_the_node(victim: OomKill, scope: str) -> None:
    """Also one whose cgroup the log does not name."""
    ledger = started(Events(A, 1, 0))
    ledger.logged(told(victim, None))

    assert nonzero(settle(ledger, Events(A, 1, 0))) == ({}, {scope: 1})


def test_what_was_counted_keeps_its_scope() -> None:
    """memory.events came first and the log names another scope: moving the kill would let one counter fall and count it again."""
    ledger = started(Events(A, 1, 0))
    assert nonzero(settle(ledger, Events(A, 1, 1))) == ({LABELS[A]: 1}, {"ancestor": 1})
    ledger.logged(told(kill(docker(A), is_global=True), 1))
    assert nonzero(settle(ledger, Events(A, 1, 1))) == ({LABELS[A]: 1}, {"ancestor": 1})

    ledger.logged(told(kill(docker(A), is_global=True), 1))
    assert nonzero(settle(ledger, Events(A, 1, 2))) == ({LABELS[A]: 2}, {"ancestor": 1, "node": 1})


def test_a_container_cannot_pass_its_kills_off_as_those_of_another() -> None:
    """It may name a cgroup of its own like another container; the node counts the kill all the same."""
    ledger = started()
    forged = f"{docker(A)}/docker-{B}.scope"
    ledger.logged(told(kill(forged, docker(A)), None))

    assert nonzero(settle(ledger)) == ({}, {"ancestor": 1})


# Victims whose cgroup the log does not name


def test_a_victim_without_a_cgroup_that_memory_events_has_is_not_counted_twice() -> None:
    """The kernel counts before it logs, so a reading made after the line was read has the kill."""
    ledger = started(Events(A, 1, 0), Events(B, 2, 0))
    ledger.logged(told(kill(None), None))

    assert nonzero(settle(ledger, Events(A, 1, 1, oom=1), Events(B, 2, 0))) == ({LABELS[A]: 1}, {"container": 1})


def test_a_victim_without_a_cgroup_stays_explained_after_its_container_is_closed() -> None:
    """It must not come back 15 minutes later as another kill."""
    ledger = started(Events(A, 1, 0))
    ledger.logged(told(kill(None), None))
    settle(ledger, Events(A, 1, 1))
    ledger.close(A, LABELS[A])

    assert nonzero(settle(ledger, names={})) == ({}, {"ancestor": 1})


def test_a_victim_without_a_cgroup_that_nobody_has_stays() -> None:
    """It was counted, so it stays counted: later kills of containers are others."""
    ledger = started(Events(A, 1, 0))
    ledger.logged(told(kill(None, is_global=True), None))
    settle(ledger, Events(A, 1, 0))

    assert nonzero(settle(ledger, Events(A, 1, 1, oom=1))) == ({LABELS[A]: 1}, {"node": 1, "container": 1})


@pytest.mark.parametrize("round_between", ["no", "begun", "ended"])
def test_a_victim_without_a_cgroup_that_the_log_names_after_all_is_its_containers_alone(round_between: str) -> None:
    """The line of its group comes microseconds later. If a round has counted it as nobody's meanwhile, that stays: no count ever falls."""
    ledger = started(Events(A, 1, 0))
    before, after = first_of_group(A)
    ledger.logged(told(before, None))
    if round_between == "ended":
        assert settle(ledger, Events(A, 1, 0)).by_scope["ancestor"] == 1
    with ledger.round() if round_between == "begun" else nullcontext() as this_round:
        ledger.logged(told(after, 1, again=True))
        totals = settle(ledger, Events(A, 1, 0)) if this_round is None else this_round.settle(LABELS)

    expected = ({}, {"ancestor": 1}) if round_between == "ended" else ({LABELS[A]: 1}, {"ancestor": 1})
    assert nonzero(totals) == expected
    assert nonzero(settle(ledger, Events(A, 1, 0))) == expected


def test_a_victim_that_is_named_after_all_and_the_reading_that_has_it_are_one_kill() -> None:
    """memory.events tells of it too, before or after."""
    before, after = first_of_group(A)
    for read_first in (False, True):
        ledger = started(Events(A, 1, 0))
        ledger.logged(told(before, None))
        if read_first:
            settle(ledger, Events(A, 1, 1, oom=1))
        ledger.logged(told(after, 1, again=True))

        assert nonzero(settle(ledger, Events(A, 1, 1, oom=1)))[0] == {LABELS[A]: 1}
        assert sum(settle(ledger, Events(A, 1, 1, oom=1)).by_scope.values()) == 1


def test_a_victim_that_is_named_but_of_no_container_or_was_never_counted_changes_nothing() -> None:
    """A group outside of containers; a kill that was history."""
    ledger = started(Events(A, 1, 0))
    ledger.logged(told(first_of_group(A)[1], 1, again=True))
    assert nonzero(settle(ledger)) == ({}, {})

    ledger.logged(told(kill(None), None))
    ledger.logged(told(replace(kill(None), group_memcg=b"/system.slice/x.service"), None, again=True))
    assert nonzero(settle(ledger)) == ({}, {"ancestor": 1})


def test_a_kernel_that_has_lost_count_does_not_stop_the_agent() -> None:
    """What one pass counts is bounded; a true backlog, however large, is counted in the next ones."""
    ledger = started(Events(A, 1, 0))

    assert 0 < settle(ledger, Events(A, 1, (1 << 63) - 1)).by_container[LABELS[A]] <= 1_000_000
    ledger = started(Events(A, 1, 0))
    for _ in range(3):
        settle(ledger, Events(A, 1, 250_000))
    assert settle(ledger).by_container[LABELS[A]] == 250_000


def test_victims_without_a_cgroup_of_two_scopes() -> None:
    """One that was nobody's, and then one that memory.events has: two, whatever their scopes are."""
    ledger = started(Events(A, 1, 0))
    ledger.logged(told(kill(None), None))
    settle(ledger, Events(A, 1, 0))
    ledger.logged(told(kill(None, is_global=True), None))

    assert sum(settle(ledger, Events(A, 1, 1)).by_scope.values()) == 2


def test_each_victim_without_a_cgroup_keeps_its_scope() -> None:
    """One after the other, nobody's."""
    ledger = started(Events(A, 1, 0))
    ledger.logged(told(kill(None), None))
    settle(ledger, Events(A, 1, 0))
    ledger.logged(told(kill(None, is_global=True), None))

    assert nonzero(settle(ledger, Events(A, 1, 0))) == ({}, {"ancestor": 1, "node": 1})


def test_a_closed_container_explains_no_more_than_it_had() -> None:
    """Its kill was named, so the one without a cgroup is another, whether it has kills at all or none."""
    ledger = started(Events(A, 1, 0), Events(B, 2, 0))
    ledger.logged(told(own(A), 1))
    settle(ledger, Events(A, 1, 1), Events(B, 2, 0))
    ledger.close(A, LABELS[A])
    ledger.close(B, LABELS[B])
    ledger.logged(told(kill(None), None))

    assert nonzero(settle(ledger, names={})) == ({}, {"container": 1, "ancestor": 1})


def test_a_kill_between_the_reading_and_the_sum() -> None:
    """Its line was read, but the reading does not have it: it must not pass for the one without a cgroup that the reading does have."""
    ledger = started(Events(A, 1, 0))
    ledger.logged(told(kill(None), None))
    with ledger.round() as this_round:
        this_round.read(container(A), 1, Reading(1, 0, 1))
        ledger.logged(told(own(A), 1))
        this_round.settle(LABELS)

    assert nonzero(settle(ledger, Events(A, 1, 2, oom=2))) == ({LABELS[A]: 2}, {"container": 2})


# What the greater of the two cannot do


def test_two_kills_of_which_each_source_saw_another_one_count_once() -> None:
    """The limit of the formula: the line of the first was lost, and the cgroup was removed before the second was read."""
    ledger = started(Events(A, 1, 0))
    settle(ledger, Events(A, 1, 1))
    ledger.logged(told(own(A), None))

    assert settle(ledger).by_container[LABELS[A]] == 1


def test_a_victim_without_a_cgroup_may_be_taken_for_a_kill_whose_line_was_lost() -> None:
    """The limit of the bookkeeping: one kill in a container that was never logged, and one of the host without a name."""
    ledger = started(Events(A, 1, 0))
    settle(ledger, Events(A, 1, 1))
    ledger.logged(told(kill(None), None))

    assert sum(settle(ledger, Events(A, 1, 1)).by_scope.values()) == 1


# Any order


@dataclass
class Life:
    """One cgroup of a container, as the kernel keeps it."""

    identifier: ContainerKey
    inode: int
    oom_kill: int
    group: int = 0
    alive: bool = True
    read: int = 0


class Book:
    """What the agent has saved. While it is dying nothing is: it was killed before the commit."""

    def __init__(self) -> None:
        self.is_dying = False
        self._kept = State()

    def save(self, state: State, _: Victim | None = None) -> None:
        """Keep it as it is now; what is assumed of an unknown instance is not kept."""
        if not self.is_dying:
            self._kept = deepcopy(replace(state, instances={key: one for key, one in state.instances.items() if not one.is_blank}))

    def state(self) -> State:
        """What the next agent gets."""
        return deepcopy(self._kept)


TOP = "/" + docker(A).split("/")[1]
NAMES: Mapping[ContainerKey, Labels] = {A: LABELS[A], B: LABELS[B], C: LABELS[B]}
"""Two ids share their labels."""


@dataclass
class World:
    """The kernel with the true number of kills, a log that is read late, and an agent whose rounds are cut in pieces, and who is killed."""

    book: Book = field(default_factory=Book)
    lives: list[Life] = field(default_factory=list)
    log: list[tuple[Life | None, OomKill]] = field(default_factory=list)
    at: int = 0
    late: int = 0
    is_down: bool = False
    with_tops: bool = False
    is_old: bool = False
    truth: dict[Labels, int] = field(default_factory=lambda: dict.fromkeys(NAMES.values(), 0))
    elsewhere: int = 0
    rounds: int = 0
    totals: list[Totals] = field(default_factory=list)
    names: dict[ContainerKey, Labels] = field(default_factory=lambda: dict(NAMES))

    def __post_init__(self) -> None:
        self.ledger = KillLedger(self.book)
        self.ledger.log_read(Cursor(0, 0))
        self._round = self._pieces()
        for history, identifier in enumerate(NAMES):
            self.begin(identifier, oom_kill=history)

    def begin(self, identifier: ContainerKey, oom_kill: int = 0) -> None:
        """Make the cgroup of a container."""
        self.lives.append(Life(identifier, inode=1 + len(self.lives), oom_kill=oom_kill))

    def kill(self, life: Life, *, victims: int = 1, line: str = "named", ending: bool = False) -> None:
        """Kill some processes of a container; the lines of the log name it, or do not, or are lost.

        Several are a group, of which the first one counts twice, but for one that is `ending`: it is a group by itself.
        """
        if not life.alive:
            return
        life.oom_kill += victims + (victims > 1)
        life.group += victims > 1 or ending
        self.truth[NAMES[life.identifier]] += victims
        told = kill(docker(life.identifier), docker(life.identifier)) if line == "named" else kill(None)
        if line != "lost":
            for _ in range(victims):
                self.print(life, told)

    def kill_elsewhere(self, *, named: bool) -> None:
        """Kill a process of the host."""
        self.elsewhere += 1
        self.print(None, kill("/system.slice") if named else kill(None, is_global=True))

    def print(self, life: Life | None, line: OomKill) -> None:
        """Let the kernel write one line; the first one has the number 1."""
        self.log.append((life, replace(line, sequence=len(self.log) + 1)))

    def deliver(self) -> None:
        """Let the agent read one line of the log."""
        if self.at < len(self.log) and not self.is_down:
            life, line = self.log[self.at]
            self.at += 1
            self.ledger.logged(
                told(line, life.inode if life and life.alive else None, late=self.at <= self.late, cursor=Cursor(self.at, 0))
            )

    def deliver_all(self) -> None:
        """Let the agent read the log to its end."""
        self.start()
        while self.at < len(self.log):
            self.deliver()

    def step(self) -> None:
        """Let the agent go on with its round."""
        self.start()
        next(self._round)

    def read_top(self, this_round: Round) -> None:
        """Let the agent read memory.events of the top-level cgroup that all containers are in; it has what is gone, too."""
        this_round.read_top(TOP, 99, self.reading(*self.lives))

    def reading(self, *lives: Life) -> Reading:
        """Return what memory.events says of these lives together; an old kernel does not count group kills."""
        return Reading(sum(life.oom_kill for life in lives), None if self.is_old else sum(life.group for life in lives))

    def crash(self, *, before_commit: bool) -> None:
        """Let the agent be killed, after what it did last or in the middle of what it does next."""
        if before_commit and not self.is_down:
            self.book.is_dying = True
            if self.at < len(self.log):
                self.deliver()
            else:
                next(self._round, None)
        self.is_down = True

    def start(self) -> None:
        """Start the agent again, if it is down: it goes on where the book says."""
        if self.is_down:
            state = self.book.state()
            self.book.is_dying = self.is_down = False
            self.ledger = KillLedger(self.book, state)
            self.names.update(self.ledger.names)  # one whose closing was not kept has its name again
            self.at, self.late = (state.cursor and state.cursor.sequence) or 0, len(self.log)
            self._round = self._pieces()

    def whole_round(self) -> None:
        """End this round, and make one more; with top-level cgroups two, for they are believed only then."""
        self.start()
        for target in range(self.rounds + 1, self.rounds + (4 if self.with_tops else 3)):
            while self.rounds < target:
                self.step()

    def _pieces(self) -> Iterator[None]:
        while True:
            found = [life for life in self.lives if life.alive]
            with self.ledger.round() as this_round:
                yield
                if known := self.with_tops and this_round.knows_top(TOP):
                    self.read_top(this_round)
                    yield
                for life in found:
                    if life.alive:
                        this_round.read(container(life.identifier), life.inode, self.reading(life))
                        life.read = life.oom_kill
                        yield
                if self.with_tops and not known:
                    self.read_top(this_round)
                    yield
                totals = this_round.settle(self.names, living={life.identifier for life in found})
            if self.book.is_dying:
                return
            self.totals.append(totals)
            self.rounds += 1
            yield

    def end(self, life: Life, *, again: bool, heard: bool) -> None:
        """Remove a cgroup, and make another one if the container is started again: by then the log was read, for that takes long.

        The agent may have heard its last words.
        """
        if self.rounds and life.alive:
            life.alive = False
            if heard and not self.is_down:
                self.ledger.read_last(container(life.identifier), life.inode, self.reading(life))
                life.read = life.oom_kill
            if again and not self.is_down:
                self.deliver_all()
                self.begin(life.identifier)

    def act(self, action: str, number: int) -> None:
        """Do one of the steps."""
        life = self.lives[number % len(self.lives)]
        match action:
            case "kill":
                self.kill(life)
            case "group":
                self.kill(life, victims=1 + number)
            case "ending":
                self.kill(life, ending=True, line=("named", "lost", "unnamed")[number % 3] if self.rounds else "named")
            case "unseen":
                self.kill(life, line="lost" if self.rounds else "named")  # before the first pass only the log can know it
            case "unnamed":
                self.kill(life, line="unnamed")
            case "host" | "unnamed host":
                self.kill_elsewhere(named=action == "host")
            case "deliver":
                self.deliver()
            case "step":
                self.step()
            case "end" | "again":
                self.end(life, again=action == "again", heard=number >= len(self.lives))
            case "forget":
                self.forget(life.identifier)
            case "crash":
                self.crash(before_commit=number % 2 == 0)

    def forget(self, identifier: ContainerKey) -> None:
        """Close a container that ended long ago."""
        if not self.is_down and identifier in self.names and not any(life.alive for life in self.lives if life.identifier == identifier):
            self.deliver_all()
            self.ledger.close(identifier, self.names.pop(identifier))

    @property
    def total(self) -> int:
        """What the agent says at last."""
        return sum(self.totals[-1].by_scope.values())

    @property
    def true_total(self) -> int:
        """What it should say."""
        return self.elsewhere + sum(self.truth.values())


ACTIONS = (
    *("kill", "kill", "group", "unseen", "unnamed", "host", "unnamed host"),
    *("deliver", "step", "step", "end", "again", "forget", "crash"),
)
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 7)), max_size=50)


def play(
    steps: list[tuple[str, int]],
    *,
    without: frozenset[str] = frozenset(),
    careful: bool = False,
    with_tops: bool = False,
    is_old: bool = False,
) -> World:
    """Let all this happen, and then come to rest. With `careful`, each cgroup is read before anything happens and before it is removed."""
    world = World(with_tops=with_tops, is_old=is_old)
    if careful or with_tops:
        world.whole_round()
    for action, number in steps:
        if action not in without:
            if careful and action in {"end", "again"}:
                world.whole_round()
            world.act(action, number)
    world.deliver_all()
    world.whole_round()
    return world


def assert_nothing_falls(world: World) -> None:
    """Neither a container's count nor a scope's, from one sum to the next."""
    for before, after in zip(world.totals, world.totals[1:], strict=False):
        assert all(after.by_scope[scope] >= before.by_scope[scope] for scope in SCOPES)
        assert all(after.by_container.get(labels, value) >= value for labels, value in before.by_container.items())


def assert_containers_are_right(world: World) -> None:
    """For each name that is still known, also if one of its two ids is forgotten."""
    assert world.totals[-1].by_container == {labels: world.truth[labels] for labels in world.names.values()}


@settings(deadline=None)
@given(STEPS)
def test_with_a_whole_log_the_total_is_right(steps: list[tuple[str, int]]) -> None:
    """Whatever was read of memory.events, and although the log does not name all cgroups."""
    world = play(steps, without=frozenset({"unseen"}))

    assert world.total == world.true_total
    assert_nothing_falls(world)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from((*ACTIONS, "ending")), st.integers(0, 7)), max_size=50), st.booleans())
def test_before_5_17_the_total_is_never_too_high(steps: list[tuple[str, int]], with_tops: bool) -> None:
    """That kernel does not count group kills, and all kills may have been of groups: what is read is half sure."""
    world = play(steps, with_tops=with_tops, is_old=True)

    assert world.total <= world.true_total
    assert all(value <= world.truth[labels] for labels, value in world.totals[-1].by_container.items())
    assert_nothing_falls(world)


@settings(deadline=None)
@given(STEPS)
def test_before_5_17_a_whole_log_that_names_all_makes_it_exact(steps: list[tuple[str, int]]) -> None:
    """K is what there was."""
    world = play(steps, without=frozenset({"unseen", "unnamed", "unnamed host"}), is_old=True)

    assert world.total == world.true_total
    assert_nothing_falls(world)


@settings(deadline=None)
@given(STEPS)
def test_with_a_whole_log_that_names_all_cgroups_the_containers_are_right(steps: list[tuple[str, int]]) -> None:
    """Whatever was read of memory.events."""
    world = play(steps, without=frozenset({"unseen", "unnamed", "unnamed host"}))

    assert world.total == world.true_total
    assert_containers_are_right(world)
    assert_nothing_falls(world)


@settings(deadline=None)
@given(STEPS)
def test_with_whole_readings_the_containers_are_right(steps: list[tuple[str, int]]) -> None:
    """Whatever was lost of the log."""
    world = play(steps, without=frozenset({"unnamed host"}), careful=True)

    assert_containers_are_right(world)
    assert_nothing_falls(world)
    if not any(action == "unnamed" for action, _ in steps):
        assert world.total == world.true_total


@settings(deadline=None)
@given(STEPS)
@example([("unnamed", 0), ("deliver", 0), ("step", 0), ("step", 0), ("end", 0), ("kill", 1), ("end", 1)])
def test_with_whole_readings_of_the_top_level_cgroup_the_total_is_right(steps: list[tuple[str, int]]) -> None:
    """Whatever was lost of the log, whatever was read of containers before they were gone, and whenever the agent was killed."""
    world = play(steps, without=frozenset({"host", "unnamed host"}), with_tops=True)

    assert world.total == world.true_total
    assert all(value <= world.truth[labels] for labels, value in world.totals[-1].by_container.items())
    assert_nothing_falls(world)


@given(STEPS)
def test_with_a_whole_log_the_top_level_cgroup_adds_nothing(steps: list[tuple[str, int]]) -> None:
    """What the log names is known; each container has its own."""
    world = play(steps, without=frozenset({"unseen", "unnamed", "unnamed host", "host"}), with_tops=True)

    assert world.total == world.true_total
    assert_containers_are_right(world)
    assert_nothing_falls(world)


@given(st.lists(st.tuples(st.sampled_from((*ACTIONS, "ending")), st.integers(0, 7)), max_size=50))
@example([("step", 0)] * 5 + [("kill", 0), ("step", 0), ("step", 0), ("unnamed", 0), ("step", 0), ("kill", 0), ("deliver", 0)])
def test_whatever_was_seen_the_total_is_never_too_high(steps: list[tuple[str, int]]) -> None:
    """And never below what each source knows by itself."""
    world = play(steps)

    assert world.total <= world.true_total
    assert all(value <= world.truth[labels] for labels, value in world.totals[-1].by_container.items())
    assert_nothing_falls(world)


# After a restart


def test_another_boot_begins_new_lives_and_the_counts_go_on() -> None:
    """Its inodes and its log say nothing of the last one; and all that it has killed is counted, for the agent is installed here."""
    book = Book()
    ledger = KillLedger(book)
    settle(ledger, Events(A, 1, 3))
    ledger.logged(told(own(A), 1))
    settle(ledger, Events(A, 1, 4, oom=1))

    again = KillLedger(book, book.state(), same_boot=False)

    assert again.cursor == WHOLE_LOG
    assert nonzero(settle(again, Events(A, 1, 2, oom=2))) == ({LABELS[A]: 3}, {"container": 3})
    assert nonzero(settle(KillLedger(book, book.state()), Events(A, 1, 2, oom=2))) == ({LABELS[A]: 3}, {"container": 3})


# A container in a container

NESTED = f"{docker(A)}/docker/{B}"
INSIDE = ContainerKey.of(A, B)


def nested() -> ContainerId:
    """Return the id of B inside A."""
    found = container_id.parse(NESTED)
    assert found is not None
    assert found.key == INSIDE
    return found


def round_of(ledger: KillLedger, outer: int, inner: int | None) -> Totals:
    """Read both: memory.events of the outer one has the kills of the inner one too. None: the inner one is gone."""
    with ledger.round() as this_round:
        this_round.read(container(A), 1, Reading(outer, 0, outer))
        if inner is not None:
            this_round.read(nested(), 2, Reading(inner, 0, inner))
        return this_round.settle({A: LABELS[A], INSIDE: LABELS[B]})


@pytest.mark.parametrize("log", ["none", "before", "between", "after"])
def test_a_kill_in_a_nested_container_is_that_ones_alone(log: str) -> None:
    """Whichever source tells first, and also if a pass lies between."""
    ledger = KillLedger()
    round_of(ledger, 0, 0)
    if log == "before":
        ledger.logged(told(kill(NESTED, NESTED), 2))
    if log == "between":
        with ledger.round():
            ledger.logged(told(kill(NESTED, NESTED), 2))
    round_of(ledger, 1, 1)
    if log == "after":
        ledger.logged(told(kill(NESTED, NESTED), 2))

    assert nonzero(round_of(ledger, 1, 1)) == ({LABELS[B]: 1}, {"container": 1})
    assert nonzero(round_of(ledger, 1, None)) == ({LABELS[B]: 1}, {"container": 1})
    assert nonzero(round_of(ledger, 2, None)) == ({LABELS[A]: 1, LABELS[B]: 1}, {"container": 2})


def test_a_kill_that_the_outer_container_told_of_first_stays_its_own() -> None:
    """The nested cgroup was read before the kill, or was gone; the log tells later: one kill all the same."""
    ledger = KillLedger()
    round_of(ledger, 0, 0)
    assert nonzero(round_of(ledger, 1, 0)) == ({LABELS[A]: 1}, {"container": 1})
    ledger.logged(told(kill(NESTED, NESTED), None))

    assert nonzero(round_of(ledger, 1, 1)) == ({LABELS[A]: 1}, {"container": 1})
    ledger.logged(told(own(A), 1))
    assert nonzero(round_of(ledger, 2, 1)) == ({LABELS[A]: 2}, {"container": 2})


@given(st.lists(st.sampled_from(["outer", "inner", "deliver", "lose", "read outer", "read inner", "round", "restart"])))
@example(["inner", "restart", "deliver"])
@example(["inner", "outer", "restart", "deliver", "deliver"])
def test_nested_kills_are_counted_once_in_any_order(steps: list[str]) -> None:
    """Of each kill the log tells or memory.events, or both, in whatever order: the total is right when all was read."""
    book = Book()
    ledger = KillLedger(book)
    ledger.log_read(Cursor(0, 0))
    round_of(ledger, 0, 0)
    truth, log = Counter[str](), []
    this_round = ledger.round().__enter__()

    def read(which: str) -> None:
        if which == "outer":
            this_round.read(container(A), 1, Reading(truth.total(), 0, truth.total()))
        else:
            this_round.read(nested(), 2, Reading(truth["inner"], 0, truth["inner"]))

    totals = Totals({}, {})
    for step in [*steps, "round", "read outer", "read inner", "round", "read outer", "read inner", "round"]:
        match step.split():
            case ["outer" | "inner" as which]:
                truth[which] += 1
                path = docker(A) if which == "outer" else NESTED
                log.append((kill(path, path), 1 if which == "outer" else 2))
            case ["deliver"] if log:
                ledger.logged(told(*log.pop(0)))
            case ["lose"] if log:
                del log[0]
            case ["read", which]:
                read(which)
            case ["restart"]:
                ledger = KillLedger(book, book.state())
                this_round = ledger.round().__enter__()
            case ["round"]:
                totals = this_round.settle({A: LABELS[A], INSIDE: LABELS[B]})
                this_round = ledger.round().__enter__()

    assert totals.by_scope["container"] == truth.total()
    assert sum(totals.by_container.values()) == truth.total()


def test_names_outlive_the_agent() -> None:
    """A container that was exported under its id is not renamed by a restart."""
    book = Book()
    settle(KillLedger(book), names={A: LABELS[A], B: ("", "", B[:12])})

    assert KillLedger(book, book.state()).names == {A: LABELS[A], B: ("", "", B[:12])}


def test_a_line_read_late_is_that_of_the_life_before() -> None:
    """memory.events had it, the agent was killed before its line was read, and the container has begun another life since."""
    book = Book()
    settle(KillLedger(book), Events(A, 1, 0))
    settle(KillLedger(book, book.state()), Events(A, 1, 1, oom=1))
    ledger = KillLedger(book, book.state())
    ledger.logged(told(own(A), 2, late=True))

    assert nonzero(settle(ledger, Events(A, 2, 0))) == ({LABELS[A]: 1}, {"container": 1})


def test_a_container_that_dies_and_comes_back_for_ever_does_not_fill_the_ledger() -> None:
    """Of all its lives the last two are kept, and the sum of the others."""
    ledger = started()
    for inode in range(1, 50):
        settle(ledger, Events(A, inode, 1, oom=1))

    assert nonzero(settle(ledger)) == ({LABELS[A]: 49}, {"container": 49})
    assert len(inodes(ledger, A)) == 2


def test_instances_without_a_name_are_forgotten_when_they_are_gone() -> None:
    """Sandboxes never get one."""
    ledger = started()
    with ledger.round() as this_round:
        this_round.read(container(A), 1, Reading(0))
        this_round.settle({}, living={A})
    assert inodes(ledger, A) == [1]

    with ledger.round() as this_round:
        this_round.settle({}, living=set())
    assert inodes(ledger, A) == []
