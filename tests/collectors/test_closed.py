"""A container that is given its cgroup may close files and directories of it: that costs what is in them, and no other container."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from collectors import all_collectors
from collectors.base import Node
from collectors.deaths import DeathCounts
from collectors.inquest.kill_state import NoBook, State, Victim
from collectors.inquest.kills import KillLedger
from collectors.kernel import last_words
from collectors.kernel.files import KernelFiles
from collectors.kernel.hierarchy import Hierarchy
from collectors.leftovers import Leftovers
from collectors.life import Life
from collectors.lifecycle import Lifecycle
from collectors.oom import Oom, read_last
from tests.tree import FULL, LABELS, A, B, C, cgroup, close, collect, docker, node, proc, process, remove_cgroup, tree

Found = dict[tuple[str, tuple[str, ...]], float]
KILLS, BY_SCOPE = ("coroner_container_oom_kills_total", LABELS[A]), ("coroner_oom_kills_total", ("ancestor",))


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A node with two containers alike."""
    host = {"loadavg": "0.00 0.01 0.05 2/321 4567\n", "sys/kernel/threads-max": "9999\n", "sys/kernel/pid_max": "32768\n"}
    partitions = {"partitions": "major minor  #blocks  name\n\n   8        0   1024 sda\n"}
    processes = process(1, parent=0), process(10, cgroup=docker(A)), process(11, cgroup=docker(B))
    return tree(tmp_path, {**cgroup("/docker"), **cgroup(docker(A)), **cgroup(docker(B)), **proc(host, partitions, *processes)})


def whole(seen: Node) -> tuple[Found, set[str]]:
    """Collect all, as a pass does; return the closed files, too."""
    found: Found = {}
    closed: set[str] = set()
    for collector in all_collectors(KillLedger(), DeathCounts(), Life()):
        seen.closed.clear()
        found |= collect(collector, seen)
        closed |= {error.path for error in seen.closed}
    return found, closed


def of(labels: tuple[str, ...], found: Found) -> Found:
    """Return the samples of one container."""
    return {key: value for key, value in found.items() if key[1][:3] == labels}


@pytest.mark.parametrize("name", FULL)
def test_a_closed_file_costs_its_own_containers_values(pair: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whatever the file: no other container loses anything, no value is another, and what was closed is remembered."""
    truth, _ = whole(node(pair))
    close(monkeypatch, f"{pair}/cgroup{docker(A)}/{name}")
    found, closed = whole(node(pair))

    assert of(LABELS[B], found) == of(LABELS[B], truth)
    assert found.items() <= truth.items()
    if name != "cgroup.stat":  # only those of slices are read
        assert closed == {f"{pair}/cgroup{docker(A)}/{name}"}
        assert of(LABELS[A], found).keys() < of(LABELS[A], truth).keys()


def test_containers_are_not_counted_while_the_state_of_one_is_closed(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs or is paused; what its runtime tells of others is known as before."""
    close(monkeypatch, f"{pair}/cgroup{docker(A)}/cgroup.events")
    found = collect(Lifecycle(), node(pair, resting={"exited": 2}))

    assert {key: value for key, value in found.items() if key[0] == "coroner_containers"} == {
        ("coroner_containers", ("created",)): 0,
        ("coroner_containers", ("exited",)): 2,
    }
    assert ("coroner_container_frozen", LABELS[A]) not in found
    assert found["coroner_container_frozen", LABELS[B]] == 0


def test_leftovers_are_not_counted_while_one_is_closed(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed one may be one."""
    look = iter(range(0, 1000, 100))
    collector = Leftovers(lambda: next(look))
    collect(collector, node(pair))
    assert collect(collector, node(pair))["coroner_leftover_cgroups", ()] == 0

    close(monkeypatch, f"{pair}/cgroup{docker(A)}/cgroup.events")
    found = collect(collector, node(pair))
    assert ("coroner_leftover_cgroups", ()) not in found
    assert ("coroner_cgroup_dying_descendants", ("/docker",)) in found


@pytest.fixture
def closable(unprivileged: Path) -> Path:
    """A node with a container beside `/user.slice`, which has another one in it and can be closed."""
    files = {**cgroup("/docker"), **cgroup(docker(A)), **cgroup("/user.slice"), **cgroup(f"/user.slice/libpod-{B}.scope"), **proc()}
    return tree(unprivileged, files)


def closing(root: Path) -> Callable[[bool], None]:
    """Return what closes /user.slice and opens it."""
    return lambda is_closed: (root / "cgroup/user.slice").chmod(0 if is_closed else 0o755)


@pytest.mark.parametrize("was_seen", [True, False])
def test_what_counts_over_all_is_absent_while_some_is_hidden(closable: Path, was_seen: bool) -> None:
    """Whether anything of it was ever seen or not: a count of the rest would be too small."""
    hierarchy, shut = Hierarchy(f"{closable}/cgroup"), closing(closable)
    look = iter(range(0, 1000, 100))
    lifecycle, leftovers = Lifecycle(), Leftovers(lambda: next(look))
    collect(leftovers, node(closable))
    if was_seen:
        assert collect(lifecycle, node(closable, hierarchy=hierarchy))["coroner_containers", ("running",)] == 2
        assert collect(leftovers, node(closable, hierarchy=hierarchy))["coroner_leftover_cgroups", ()] == 0

    shut(True)
    seen = node(closable, hierarchy=hierarchy)
    assert seen.hidden == {"/user.slice"}
    assert {each.id.key for each in seen.instances} == ({A, B} if was_seen else {A})
    found = collect(lifecycle, seen) | collect(leftovers, seen)
    assert found["coroner_container_frozen", LABELS[A]] == 0
    assert not {("coroner_containers", ("running",)), ("coroner_containers", ("paused",)), ("coroner_leftover_cgroups", ())} & found.keys()

    shut(False)
    seen = node(closable, hierarchy=hierarchy)
    assert collect(lifecycle, seen)["coroner_containers", ("running",)] == 2
    assert collect(leftovers, seen)["coroner_leftover_cgroups", ()] == 0


# OOM kills


def events(root: Path, path: str, kills: int) -> None:
    """Let the kernel have counted so many kills in a cgroup, at its own limit."""
    tree(root, {f"cgroup{path}/memory.events": f"low 0\nhigh 0\nmax 0\noom {kills}\noom_kill {kills}\noom_group_kill 0\n"})


def counting(root: Path, kills: int = 0) -> None:
    """Let container A and what is above it have so many."""
    for path in ("/docker", docker(A)):
        events(root, path, kills)


def sums(found: Found) -> tuple[float | None, float | None]:
    """Return the kills of container A and those of the node."""
    scopes = [value for (name, _), value in found.items() if name == BY_SCOPE[0]]
    return found.get(KILLS), sum(scopes) if scopes else None


def test_kills_while_memory_events_is_closed_are_counted_once(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the node by what the cgroup above has counted, also when nobody waits for the log any more; for the container when it is open."""
    ledger = KillLedger()
    collector = Oom(ledger)
    counting(pair)
    assert sums(collect(collector, node(pair))) == (0, 0)

    counting(pair, 1)
    with monkeypatch.context() as patch:
        close(patch, f"{pair}/cgroup{docker(A)}/memory.events")
        found = [sums(collect(collector, node(pair))) for _ in range(8)]
        assert found[0][0] is None, "of the container it is not known"
        assert found[-1] == (None, 1)
        ledger.log_is_followed = True
        assert sums(collect(collector, node(pair))) == (0, 1), "the log would have told of one"
        ledger.log_is_followed = False

    assert [sums(collect(collector, node(pair))) for _ in range(5)] == [(1, 1)] * 5
    counting(pair, 2)
    assert [sums(collect(collector, node(pair))) for _ in range(5)][-1] == (2, 2)


def test_kills_of_a_container_that_ended_closed_are_not_known(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its counter does not come back at 0; another container's is there."""
    collector = Oom(KillLedger())
    counting(pair)
    collect(collector, node(pair))
    close(monkeypatch, f"{pair}/cgroup{docker(A)}/memory.events")
    collect(collector, node(pair))
    remove_cgroup(pair, docker(A))

    seen = node(pair)
    found = collect(collector, replace(seen, names={**seen.names, A: LABELS[A]}))
    assert sums(found) == (None, 0)
    assert found[KILLS[0], LABELS[B]] == 0
    assert sums(collect(collector, seen)) == (None, 0)


def test_what_a_file_says_that_was_closed_from_the_beginning_is_history(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell when that was."""
    collector = Oom(KillLedger())
    counting(pair, 3)
    with monkeypatch.context() as patch:
        close(patch, f"{pair}/cgroup{docker(A)}/memory.events", f"{pair}/cgroup/docker/memory.events")
        assert sums(collect(collector, node(pair))) == (None, None), "nor is the sum over all known"
        assert (BY_SCOPE[0], ("node",)) not in collect(collector, node(pair))

    assert [sums(collect(collector, node(pair))) for _ in range(5)] == [(0, 0)] * 5
    counting(pair, 4)
    assert [sums(collect(collector, node(pair))) for _ in range(5)][-1] == (1, 1)


def test_last_words_that_are_read_first_are_history_too(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was opened and ended between two rounds."""
    ledger = KillLedger()
    collector = Oom(ledger)
    counting(pair, 3)
    with monkeypatch.context() as patch:
        close(patch, f"{pair}/cgroup{docker(A)}/memory.events")
        collect(collector, node(pair))
    (ended,) = [instance for instance in node(pair).instances if instance.id.key == A]
    read_last(ledger, ended.id, ended.cgroup, last_words.read(ended.cgroup))
    assert sums(collect(collector, node(pair))) == (0, 0)


def test_kills_in_what_was_seen_and_then_hidden_are_counted_once(closable: Path) -> None:
    """They have ended no instance, and begun none."""
    hierarchy, shut, collector = Hierarchy(f"{closable}/cgroup"), closing(closable), Oom(KillLedger())
    inside, labels = f"/user.slice/libpod-{B}.scope", LABELS[B]

    def look() -> tuple[float | None, float | None]:
        found = collect(collector, node(closable, hierarchy=hierarchy, files=KernelFiles(0)))
        scopes = [value for (name, _), value in found.items() if name == BY_SCOPE[0]]
        return found.get((KILLS[0], labels)), sum(scopes) if scopes else None

    for path in ("/user.slice", inside, "/docker", docker(A)):
        events(closable, path, 0)
    assert look() == (0, 0)
    for path in ("/user.slice", inside):
        events(closable, path, 2)
    shut(True)
    assert [look() for _ in range(6)] == [(None, None)] * 6
    shut(False)
    assert [look() for _ in range(6)] == [(2, 2)] * 6


def test_kills_in_what_was_hidden_from_the_beginning_are_history(closable: Path) -> None:
    """Nobody can tell how old it is, nor its kills; those that the log told of count."""
    hierarchy, shut, collector = Hierarchy(f"{closable}/cgroup"), closing(closable), Oom(KillLedger())
    inside = f"/user.slice/libpod-{B}.scope"
    for path in ("/user.slice", inside):
        events(closable, path, 2)
    shut(True)
    assert (KILLS[0], LABELS[B]) not in collect(collector, node(closable, hierarchy=hierarchy))
    shut(False)
    for _ in range(5):
        assert sums(collect(collector, node(closable, hierarchy=hierarchy))) == (0, 0)
    for path in ("/user.slice", inside):
        events(closable, path, 3)
    *_, found = [collect(collector, node(closable, hierarchy=hierarchy)) for _ in range(5)]
    assert (found[KILLS[0], LABELS[B]], sums(found)) == (1, (0, 1))


@pytest.mark.parametrize("what", ["user.slice", f"docker/{A}/memory.events"])
def test_kills_in_what_was_hidden_are_history_to_the_next_agent_too(closable: Path, what: str) -> None:
    """It may be given the privilege that the first one lacked; and what was not closed counts from where it was."""
    kept: list[State] = []

    class Kept(NoBook):
        def save(self, state: State, victim: Victim | None = None) -> None:
            kept[:] = [deepcopy(state)]

    inside = f"/user.slice/libpod-{B}.scope"
    tree(closable, cgroup(docker(C)))
    for path in ("/user.slice", inside, docker(A)):
        events(closable, path, 2)
    for path in ("/docker", docker(C)):
        events(closable, path, 3)
    (closable / "cgroup" / what).chmod(0)
    collect(Oom(KillLedger(Kept())), node(closable, hierarchy=Hierarchy(f"{closable}/cgroup")))
    (closable / "cgroup" / what).chmod(0o755)
    for path in ("/docker", docker(C)):
        events(closable, path, 4)
    collector = Oom(KillLedger(Kept(), kept[0]))
    *_, found = [collect(collector, node(closable, hierarchy=Hierarchy(f"{closable}/cgroup"))) for _ in range(5)]
    assert [found[KILLS[0], LABELS[each]] for each in (A, B, C)] == [0, 0, 1]
    assert sums(found)[1] == 1
    assert kept[0].started


def test_local_events_are_not_known_while_what_is_nested_is_closed(closable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing above counts it."""
    tree(closable, {**cgroup(f"{docker(A)}/nested"), **cgroup(docker(C))})
    for path in (docker(A), f"{docker(A)}/nested", docker(C), f"/user.slice/libpod-{B}.scope"):
        events(closable, path, 0)
    collector = Oom(KillLedger(), local_events=True)
    assert sums(collect(collector, node(closable))) == (0, 0)

    close(monkeypatch, f"{closable}/cgroup{docker(A)}/nested/memory.events")
    found = collect(collector, node(closable))
    assert sums(found) == (None, None)
    assert found[KILLS[0], LABELS[C]] == 0
