"""OOM kills: the count of record, from memory.events of each pass and the kernel log in between."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from collectors.inquest.kill_state import NoBook, State, Victim
from collectors.inquest.kills import KillLedger
from collectors.kernel import container_id
from collectors.kernel.cgroupfs import Cgroup, MemoryEvents
from collectors.kernel.container_id import ContainerKey
from collectors.kernel.last_words import LastWords
from collectors.kernel.oom_log import OomKill
from collectors.oom import Oom, read_last
from tests.kills import KILL, told
from tests.tree import LABELS, A, B, C, cgroup, collect, docker, forbid, node, remove_cgroup, tree

Found = dict[tuple[str, tuple[str, ...]], float]


def kills(containers: dict[ContainerKey, int], **scopes: int) -> Found:
    """Spell what is found: kills by the id of the container, and by whose limit was hit."""
    none = {"container": 0, "pod": 0, "ancestor": 0, "node": 0}
    found: Found = {("coroner_container_oom_kills_total", LABELS[identifier]): count for identifier, count in containers.items()}
    return found | {("coroner_oom_kills_total", (scope,)): count for scope, count in (none | scopes).items()}


def events(root: Path, identifier: str, *, oom: int = 0, oom_kill: int = 0, group: int | None = 0) -> None:
    """Let the kernel count."""
    more = "" if group is None else f"oom_group_kill {group}\n"
    tree(root, cgroup(docker(identifier), {"memory.events": f"low 0\nhigh 0\nmax 0\noom {oom}\noom_kill {oom_kill}\n{more}"}))


def victim(path: str | None) -> OomKill:
    """Make a victim of which the kernel log says that its own cgroup's limit was hit; None: it does not say."""
    cgroup_path = path.encode() if path else None
    return replace(KILL, oom_memcg=cgroup_path, task_memcg=cgroup_path)


def logged(ledger: KillLedger, identifier: str) -> None:
    """Let the kernel log name a victim in a container that hit its own limit."""
    ledger.logged(told(victim(docker(identifier))))


def test_every_container_is_born_at_0(tmp_path: Path) -> None:
    """Also one without the memory controller, and one that ended lately: it has a name, but no cgroup any more."""
    events(tmp_path, A, oom_kill=5)
    tree(tmp_path, cgroup(docker(B), {}))
    seen = node(tmp_path)

    assert collect(Oom(KillLedger()), replace(seen, names={**seen.names, C: LABELS[C]})) == kills({A: 0, B: 0, C: 0})


@pytest.mark.parametrize(
    ("rise", "count", "scope"),
    [
        ({"oom": 1, "oom_kill": 3}, 3, "container"),
        ({"oom": 1, "oom_kill": 3, "group": None}, 3, "container"),
        ({"oom_kill": 3}, 3, "ancestor"),
        ({"oom": 1, "oom_kill": 4, "group": 1}, 3, "container"),
        ({"oom": 371}, 0, "container"),
    ],
    ids=["its own limit", "5.10", "another's limit", "a group, its first victim counted twice", "no victim"],
)
def test_what_memory_events_tells(tmp_path: Path, rise: dict[str, int | None], count: int, scope: str) -> None:
    """`oom` rises where the limit was hit, `oom_kill` where the victim was; neither is a count of incidents."""
    collector = Oom(KillLedger())
    events(tmp_path, A)
    collect(collector, node(tmp_path))
    events(tmp_path, A, **rise)  # type: ignore[arg-type]  # one of the values may be None, and may be

    assert collect(collector, node(tmp_path)) == kills({A: count}, **{scope: count})


def test_both_sources_count_once(tmp_path: Path) -> None:
    """Whichever comes first."""
    ledger = KillLedger()
    collector = Oom(ledger)
    events(tmp_path, A)
    events(tmp_path, B)
    collect(collector, node(tmp_path))

    events(tmp_path, A, oom=1, oom_kill=1)
    logged(ledger, B)
    assert collect(collector, node(tmp_path)) == kills({A: 1, B: 1}, container=2)

    logged(ledger, A)
    events(tmp_path, B, oom=1, oom_kill=1)
    assert collect(collector, node(tmp_path)) == kills({A: 1, B: 1}, container=2)


def test_counts_outlive_the_cgroup_and_the_node_never_forgets(tmp_path: Path) -> None:
    """The container's series stays as long as its name is remembered; the node's total stays for good."""
    collector = Oom(KillLedger())
    events(tmp_path, A)
    events(tmp_path, B)
    collect(collector, node(tmp_path))
    events(tmp_path, A, oom=1, oom_kill=2)
    collect(collector, node(tmp_path))

    remove_cgroup(tmp_path, docker(A))
    remembered = replace(node(tmp_path), names={A: LABELS[A], B: LABELS[B]})
    assert collect(collector, remembered) == kills({A: 2, B: 0}, container=2)
    assert collect(collector, node(tmp_path)) == kills({B: 0}, container=2)


def test_a_container_that_ends_after_the_walk_keeps_its_count(tmp_path: Path) -> None:
    """Its last kills are known from the log, if from anywhere."""
    ledger = KillLedger()
    collector = Oom(ledger)
    events(tmp_path, A)
    collect(collector, node(tmp_path))
    seen = node(tmp_path)
    remove_cgroup(tmp_path, docker(A))
    logged(ledger, A)

    assert collect(collector, seen) == kills({A: 1}, container=1)
    assert seen.malformed == []


def test_a_malformed_file_costs_no_count_and_is_remembered(tmp_path: Path) -> None:
    """The next reading has everything."""
    collector = Oom(KillLedger())
    events(tmp_path, A)
    collect(collector, node(tmp_path))
    tree(tmp_path, cgroup(docker(A), {"memory.events": "garbage\n"}))
    seen = node(tmp_path)

    assert collect(collector, seen) == kills({A: 0})
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup{docker(A)}/memory.events"]

    events(tmp_path, A, oom=1, oom_kill=1)
    assert collect(collector, node(tmp_path)) == kills({A: 1}, container=1)


def test_a_container_without_a_name_counts_for_the_node_and_later_for_itself(tmp_path: Path) -> None:
    """Count first, name later."""
    collector = Oom(KillLedger())
    collect(collector, node(tmp_path))
    events(tmp_path, A, oom=1, oom_kill=1)

    assert collect(collector, node(tmp_path, names={})) == kills({}, container=1)
    assert collect(collector, node(tmp_path)) == kills({A: 1}, container=1)


def test_a_pass_that_saw_no_tree_ends_nobody_and_makes_nobody_new(tmp_path: Path) -> None:
    """When the walk fails there are no cgroups at all; what is found after that was there before."""
    ledger = KillLedger()
    ledger.log_is_followed = True
    collector = Oom(ledger)
    events(tmp_path, A, oom_kill=7)
    seen = node(tmp_path)
    blind = replace(seen, cgroups=[], instances=[], containers=[], names={})

    assert collect(collector, blind) == kills({})
    assert collect(collector, node(tmp_path)) == kills({A: 0})

    events(tmp_path, A, oom_kill=8)
    assert collect(collector, node(tmp_path)) == kills({A: 1}, ancestor=1)
    assert collect(collector, blind) == kills({}, ancestor=1)
    assert collect(collector, node(tmp_path)) == kills({A: 1}, ancestor=1)


def test_a_missing_privilege_costs_no_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing can be read and nobody follows the log no kill is known of; what happened meanwhile is not lost."""
    collector = Oom(KillLedger())
    events(tmp_path, A)
    collect(collector, node(tmp_path))
    events(tmp_path, A, oom_kill=1)
    seen = node(tmp_path)

    with monkeypatch.context() as patch:
        forbid(patch)
        assert collect(collector, seen) == {}

    assert collect(collector, seen) == kills({A: 1}, ancestor=1)


@pytest.mark.parametrize(("oom_kill", "expected"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_before_5_17_a_group_kill_is_at_least_half_of_what_the_kernel_counts(tmp_path: Path, oom_kill: int, expected: int) -> None:
    """That kernel may count the first victim twice and does not say so. What the log names on top of that counts."""
    ledger = KillLedger()
    ledger.log_is_followed = True
    collector = Oom(ledger)
    events(tmp_path, A, group=None)
    tree(tmp_path, cgroup(docker(A), {"memory.oom.group": "1\n"}))
    collect(collector, node(tmp_path))
    events(tmp_path, A, oom=1, oom_kill=oom_kill, group=None)
    assert collect(collector, node(tmp_path)) == kills({A: expected}, container=expected)

    for _ in range(expected + 1):
        logged(ledger, A)
    assert collect(collector, node(tmp_path)) == kills({A: expected + 1}, container=expected + 1)


def test_a_group_kill_of_which_the_first_victim_was_ending_is_one(tmp_path: Path) -> None:
    """It is counted twice only while it still has its memory when its turn comes: oom_kill 1, oom_group_kill 1, and no kernel log."""
    collector = Oom(KillLedger())
    events(tmp_path, A)
    collect(collector, node(tmp_path))
    events(tmp_path, A, oom=1, oom_kill=1, group=1)

    assert collect(collector, node(tmp_path)) == kills({A: 1}, container=1)


def test_before_5_17_a_log_that_fails_makes_no_kills_of_what_was_there_before(tmp_path: Path) -> None:
    """What memory.events had counted while the log was trusted is settled; from there on its rises count."""
    ledger = KillLedger()
    ledger.log_is_followed = True
    collector = Oom(ledger)
    tree(tmp_path, cgroup(docker(A), {"memory.oom.group": "1\n"}))
    events(tmp_path, A, oom=9, oom_kill=9, group=None)
    assert collect(collector, node(tmp_path)) == kills({A: 0})

    events(tmp_path, A, oom=10, oom_kill=12, group=None)
    for _ in range(2):
        logged(ledger, A)
    assert collect(collector, node(tmp_path)) == kills({A: 2}, container=2)

    ledger.log_is_followed = False
    assert collect(collector, node(tmp_path)) == kills({A: 2}, container=2)
    events(tmp_path, A, oom=11, oom_kill=13, group=None)
    assert collect(collector, node(tmp_path)) == kills({A: 3}, container=3)


def test_before_5_17_what_was_counted_without_the_log_stays_counted_when_it_comes_and_goes(tmp_path: Path) -> None:
    """Neither once more nor less."""
    ledger = KillLedger()
    collector = Oom(ledger)
    tree(tmp_path, cgroup(docker(A), {"memory.oom.group": "1\n"}))
    found = []
    for followed, oom_kill in ((False, 0), (False, 2), (True, 2), (False, 2), (False, 3)):
        ledger.log_is_followed = followed
        events(tmp_path, A, oom=oom_kill, oom_kill=oom_kill, group=None)
        found.append(collect(collector, node(tmp_path))["coroner_container_oom_kills_total", LABELS[A]])

    assert found == [0, 1, 1, 1, 2]


def test_two_ids_of_one_name_of_which_one_is_forgotten(tmp_path: Path) -> None:
    """The count of the name does not fall."""
    collector = Oom(KillLedger())
    names = {A: LABELS[A], B: LABELS[A]}
    events(tmp_path, A)
    events(tmp_path, B)
    collect(collector, node(tmp_path, names=names))
    events(tmp_path, A, oom=1, oom_kill=2)
    assert collect(collector, node(tmp_path, names=names)) == kills({A: 2}, container=2)

    remove_cgroup(tmp_path, docker(A))

    assert collect(collector, node(tmp_path, names=names)) == kills({A: 2}, container=2)


@pytest.mark.parametrize(("group_set", "group"), [("1", 1), ("0", None), ("0", 0)], ids=["6.1, a group", "5.10, no group", "6.1, no group"])
def test_kills_that_are_surely_counted_once_need_no_log(tmp_path: Path, group_set: str, group: int | None) -> None:
    """It is followed, but its records were lost."""
    ledger = KillLedger()
    ledger.log_is_followed = True
    collector = Oom(ledger)
    tree(tmp_path, cgroup(docker(A), {"memory.oom.group": f"{group_set}\n"}))
    events(tmp_path, A, group=None if group is None else 0)
    collect(collector, node(tmp_path))
    events(tmp_path, A, oom=1, oom_kill=3 + (group or 0), group=group)

    assert collect(collector, node(tmp_path)) == kills({A: 3}, container=3)


def test_when_neither_source_can_see_a_kill_there_is_no_count(tmp_path: Path) -> None:
    """Blind is not zero."""
    events(tmp_path, A)
    blind = replace(node(tmp_path), cgroups=[], instances=[], containers=[])

    assert collect(Oom(KillLedger()), blind) == {}


@pytest.mark.parametrize(("followed", "enabled", "expected"), [(False, "1", None), (True, "1", 1), (True, "0", None)])
def test_without_memory_events_the_log_must_be_able_to_name_the_container(
    tmp_path: Path, followed: bool, enabled: str, expected: int | None
) -> None:
    """On a host with cgroup v1 beside v2 it does; with cgroup_disable=memory it says `/` of every victim, and only the node has a count."""
    ledger = KillLedger()
    ledger.log_is_followed = followed
    tree(tmp_path, cgroup(docker(A), {"cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\n"}))
    tree(tmp_path, {"proc/cgroups": f"#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t9\t1\nmemory\t0\t9\t{enabled}\n"})
    ledger.logged(told(victim("/" if enabled == "0" else docker(A))))
    found = collect(Oom(ledger), node(tmp_path))

    assert found.get(("coroner_container_oom_kills_total", LABELS[A])) == expected
    assert sum(count for (name, _), count in found.items() if name == "coroner_oom_kills_total") == followed


# The cgroups above

POD = "/kubepods.slice/kubepods-pod12345678_1234_1234_1234_123456789abc.slice"
IN_POD = f"{POD}/cri-containerd-{A}.scope"


def counts(*, oom: int = 0, oom_kill: int = 0, group: int = 0) -> str:
    """Spell memory.events."""
    return f"low 0\nhigh 0\nmax 0\noom {oom}\noom_kill {oom_kill}\noom_group_kill {group}\n"


def kubepods(root: Path, *, container: int = 0, oom: int = 0, pod_oom: int = 0, top_oom: int = 0, gone: int = 0) -> None:
    """Let the kernel count: kills of the container, `oom` at each limit, and kills in containers that are gone."""
    total = counts(oom=oom + pod_oom + top_oom, oom_kill=container + gone)
    tree(root, cgroup("/kubepods.slice", {"memory.events": total, "memory.events.local": counts(oom=top_oom)}))
    tree(root, cgroup(POD, {"memory.events": total, "memory.events.local": counts(oom=pod_oom)}))
    tree(root, cgroup(IN_POD, {"memory.events": counts(oom=oom, oom_kill=container)}))


@pytest.mark.parametrize(
    ("hit", "scope"),
    [({"oom": 1}, "container"), ({"pod_oom": 1}, "pod"), ({"top_oom": 1}, "ancestor"), ({}, "node")],
)
def test_without_a_log_the_limit_is_that_of_the_cgroup_whose_own_oom_rose(tmp_path: Path, hit: dict[str, int], scope: str) -> None:
    """If none did, the node itself was short of memory."""
    collector = Oom(KillLedger())
    kubepods(tmp_path)
    collect(collector, node(tmp_path))
    collect(collector, node(tmp_path))
    kubepods(tmp_path, container=2, **hit)

    assert collect(collector, node(tmp_path)) == kills({A: 2}, **{scope: 2})


def test_a_kill_at_the_pods_limit_after_one_at_its_own(tmp_path: Path) -> None:
    """What rose for an earlier kill says nothing of a later one."""
    collector = Oom(KillLedger())
    kubepods(tmp_path)
    collect(collector, node(tmp_path))
    kubepods(tmp_path, container=1, oom=1)
    collect(collector, node(tmp_path))
    kubepods(tmp_path, container=2, oom=1, pod_oom=1)

    assert collect(collector, node(tmp_path)) == kills({A: 2}, container=1, pod=1)


def test_a_container_that_came_and_went_unseen_is_in_the_rise_of_its_top_level_cgroup(tmp_path: Path) -> None:
    """The next pass counts it for the node, if nobody has told of it by then; when the log does after all, it is the same one."""
    ledger = KillLedger()
    collector = Oom(ledger)
    kubepods(tmp_path)
    collect(collector, node(tmp_path))
    kubepods(tmp_path, oom=1, gone=1)
    assert collect(collector, node(tmp_path)) == kills({A: 0})
    assert collect(collector, node(tmp_path)) == kills({A: 0}, ancestor=1)

    ledger.logged(told(victim(IN_POD.replace(A, C))))
    seen = node(tmp_path)
    assert collect(collector, replace(seen, names={**seen.names, C: LABELS[C]})) == kills({A: 0, C: 1}, ancestor=1)


def test_what_the_log_named_first_is_not_counted_again_by_the_top_level_cgroup(tmp_path: Path) -> None:
    """The cgroup was gone before it was read; the top-level cgroup has the kill too."""
    ledger = KillLedger()
    collector = Oom(ledger)
    kubepods(tmp_path)
    collect(collector, node(tmp_path))
    ledger.logged(told(victim(IN_POD.replace(A, C))))
    ledger.logged(told(victim(POD)))
    ledger.logged(told(victim(None)))
    kubepods(tmp_path, oom=1, gone=3)

    seen = node(tmp_path)
    seen = replace(seen, names={**seen.names, C: LABELS[C]})
    collect(collector, seen)
    found = collect(collector, seen)
    assert sum(count for (name, _), count in found.items() if name == "coroner_oom_kills_total") == 3
    assert found["coroner_container_oom_kills_total", LABELS[C]] == 1


def test_the_history_of_a_top_level_cgroup_is_history(tmp_path: Path) -> None:
    """It was there before the agent."""
    collector = Oom(KillLedger())
    kubepods(tmp_path, container=3, oom=3, gone=40)

    assert collect(collector, node(tmp_path)) == kills({A: 0})
    assert collect(collector, node(tmp_path)) == kills({A: 0})


@pytest.mark.parametrize("counts_groups", [True, False])
def test_a_group_above_the_container(tmp_path: Path, counts_groups: bool) -> None:
    """The pod is killed as a whole, and the kernel counts that there: the container's memory.events may have its first victim twice."""
    collector = Oom(KillLedger())
    kubepods(tmp_path)
    tree(tmp_path, cgroup(POD, {"memory.oom.group": "1\n"}))
    collect(collector, node(tmp_path))
    kubepods(tmp_path, container=4, pod_oom=1)
    for path, text in ((POD, counts(oom=1, oom_kill=4, group=1)), (IN_POD, counts(oom_kill=4))):
        tree(tmp_path, cgroup(path, {"memory.events": text if counts_groups else text.replace("oom_group_kill", "sock_throttled")}))

    expected = 3 if counts_groups else 2
    assert collect(collector, node(tmp_path))["coroner_container_oom_kills_total", LABELS[A]] == expected


@pytest.mark.parametrize(("group_set", "expected"), [("0", 3), ("1", 2)])
def test_before_5_17_top_level_cgroups_tell_of_what_came_and_went_unseen(tmp_path: Path, group_set: str, expected: int) -> None:
    """Some vendors' 4.19 print no line for the kill of a cgroup. Where a group was seen below, half of them are sure."""
    collector = Oom(KillLedger())
    old = {"memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n", "memory.oom.group": "0\n"}
    tree(tmp_path, cgroup("/kubepods.slice", old))
    tree(tmp_path, cgroup(IN_POD, {**old, "memory.oom.group": f"{group_set}\n"}))
    collect(collector, node(tmp_path))
    tree(tmp_path, cgroup("/kubepods.slice", {**old, "memory.events": "low 0\nhigh 0\nmax 0\noom 3\noom_kill 3\n"}))
    collect(collector, node(tmp_path))
    remove_cgroup(tmp_path, IN_POD)

    assert collect(collector, node(tmp_path, names={})) == kills({}, ancestor=expected)


LAST = LastWords(MemoryEvents(low=0, high=0, max=0, oom=1, oom_kill=3, oom_group_kill=1), group_kills=1)
"""What memory.events says at a container's end."""


class Kept(NoBook):
    """Has the state that was kept last."""

    def __init__(self) -> None:
        self.state = State()

    def save(self, state: State, victim: Victim | None = None) -> None:
        """Take it as the casebook would."""
        self.state = deepcopy(state)


def told_last(ledger: KillLedger, words: LastWords, path: str = docker(C)) -> None:
    """Let a container that no pass saw end with these last words."""
    container = container_id.parse(path)
    assert container is not None
    read_last(ledger, container, Cgroup(path, f"/cgroup{path}", 77, has_children=False), words)


def of_c(found: Found) -> float:
    """The count of container C."""
    return found["coroner_container_oom_kills_total", LABELS[C]]


@pytest.mark.parametrize("restarted", [False, True])
def test_before_5_17_a_group_that_told_before_it_was_gone_is_not_counted_again_above(tmp_path: Path, *, restarted: bool) -> None:
    """Two processes were killed, the first one counted twice; no other group is there to be seen."""
    old = {"memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n", "memory.oom.group": "0\n"}
    tree(tmp_path, cgroup("/docker", old))
    tree(tmp_path, cgroup(docker(A), old))
    book = Kept()
    ledger = KillLedger(book)
    collect(Oom(ledger), node(tmp_path))
    told_last(ledger, LastWords(MemoryEvents(low=0, high=0, max=0, oom=1, oom_kill=3, oom_group_kill=None), group_kills=None))
    logged(ledger, C)
    logged(ledger, C)
    tree(tmp_path, cgroup("/docker", {**old, "memory.events": "low 0\nhigh 0\nmax 0\noom 1\noom_kill 3\n"}))
    collector = Oom(ledger)
    found = []
    for _ in range(2):
        if restarted:
            collector = Oom(KillLedger(book, book.state))
        seen = node(tmp_path)
        found.append(collect(collector, replace(seen, names={**seen.names, C: LABELS[C]})))

    assert found[-1] == kills({A: 0, C: 2}, container=2)


@pytest.mark.parametrize("log_first", [None, True, False])
def test_last_words_of_a_container_that_no_pass_saw(tmp_path: Path, log_first: bool | None) -> None:
    """They are its kills, whether the log tells of them too, before or after."""
    ledger = KillLedger()
    collector = Oom(ledger)
    events(tmp_path, A)
    seen = node(tmp_path)
    seen = replace(seen, names={**seen.names, C: LABELS[C]})
    collect(collector, seen)
    for line in (log_first is True, None, log_first is False):
        if line is None:
            told_last(ledger, LAST)
            if log_first is False:
                collect(collector, seen)
        elif line:
            logged(ledger, C)
            logged(ledger, C)

    assert collect(collector, seen) == kills({A: 0, C: 2}, container=2)


def test_last_words_before_the_first_pass_are_history(tmp_path: Path) -> None:
    """The agent has just been started."""
    ledger = KillLedger()
    events(tmp_path, A)
    told_last(ledger, LAST)
    seen = node(tmp_path)

    assert of_c(collect(Oom(ledger), replace(seen, names={**seen.names, C: LABELS[C]}))) == 0


@pytest.mark.parametrize("followed", [True, False])
def test_last_words_count_whether_the_log_is_followed_or_not(tmp_path: Path, followed: bool) -> None:
    """Its reports are rate-limited. Of those that may be in it twice the least is taken: before 5.17, and where the pod is a group."""
    for words, expected in ((replace(LAST, group_kills=0), 3), (replace(LAST, group_kills=None), 2), (LAST, 2)):
        ledger = KillLedger()
        ledger.log_is_followed = followed
        collector = Oom(ledger)
        events(tmp_path, A)
        seen = node(tmp_path)
        seen = replace(seen, names={**seen.names, C: LABELS[C]})
        collect(collector, seen)
        told_last(ledger, words)

        assert of_c(collect(collector, seen)) == expected


def test_local_events_are_summed_up(tmp_path: Path) -> None:
    """With memory_localevents a cgroup counts only its own; what is nested in a container is its too, also when it is gone."""
    collector = Oom(KillLedger(), local_events=True)
    events(tmp_path, A)
    tree(tmp_path, cgroup(f"{docker(A)}/nested", {"memory.events": counts()}))
    collect(collector, node(tmp_path))
    events(tmp_path, A, oom=1, oom_kill=1)
    tree(tmp_path, cgroup(f"{docker(A)}/nested", {"memory.events": counts(oom=1, oom_kill=2)}))
    assert collect(collector, node(tmp_path)) == kills({A: 3}, container=3)

    remove_cgroup(tmp_path, f"{docker(A)}/nested")
    assert collect(collector, node(tmp_path)) == kills({A: 3}, container=3)
    events(tmp_path, A, oom=2, oom_kill=2)
    assert collect(collector, node(tmp_path)) == kills({A: 4}, container=4)


def test_of_what_was_nested_and_is_gone_a_sum_is_kept(tmp_path: Path) -> None:
    """A container may make and remove any number of cgroups; one that cannot be read for a moment is not gone."""
    collector = Oom(KillLedger(), local_events=True)
    events(tmp_path, A)
    collect(collector, node(tmp_path))
    for number in range(1, 6):
        path = f"{docker(A)}/nested{number}"
        tree(tmp_path, cgroup(path, {"memory.events": counts(oom=1, oom_kill=2)}))
        assert collect(collector, node(tmp_path)) == kills({A: 2 * number}, container=2 * number)
        tree(tmp_path, cgroup(path, {"memory.events": "torn"}))
        collect(collector, node(tmp_path))
        tree(tmp_path, cgroup(path, {"memory.events": counts(oom=1, oom_kill=2)}))
        assert collect(collector, node(tmp_path)) == kills({A: 2 * number}, container=2 * number)
        remove_cgroup(tmp_path, path)
        assert collect(collector, node(tmp_path)) == kills({A: 2 * number}, container=2 * number)

    assert [len(nested) for nested in collector._nested.values()] == [1]
