"""A container's life: what sources told of its beginnings, and its pauses in counts that never fall."""

from dataclasses import replace
from pathlib import Path

from collectors.base import Node
from collectors.inquest.execs import Execs
from collectors.inquest.facts import Created, Started
from collectors.inquest.freezes import MOST, Freezes
from collectors.inquest.starts import Starts
from collectors.kernel.container_id import ContainerKey
from collectors.life import Life
from tests.tree import LABELS, A, B, C, cgroup, collect, docker, node, series, tree


def looked_at(root: Path, *keys: ContainerKey) -> Node:
    """A node with these containers."""
    return node(tree(root, {name: content for key in keys for name, content in cgroup(docker(key)).items()}))


def pauses(labels: tuple[str, ...], times: int, seconds: float) -> dict[tuple[str, tuple[str, ...]], float]:
    """Spell the two counters."""
    return series(labels, {"container_pauses_total": times, "container_paused_seconds_total": seconds})


def test_what_nobody_told_is_absent(tmp_path: Path) -> None:
    """Also the pauses, on a kernel that cannot freeze or as long as nobody has looked."""
    assert collect(Life(), looked_at(tmp_path, A, B)) == {}


def test_when_the_present_life_began_and_how_long_it_waited(tmp_path: Path) -> None:
    """Each where it was told, for this cgroup."""
    seen = looked_at(tmp_path, A, B, C)
    inodes = {container.id.key: container.cgroup.inode for container in seen.containers}
    starts = Starts()
    starts.tell(Created(container=A, source="docker", time=10))
    starts.tell(Started(container=A, source="exits", time=10.5, inode=inodes[A]))
    starts.tell(Started(container=B, source="docker", time=20))
    starts.tell(Started(container=C, source="exits", time=30, inode=inodes[C] + 1))
    assert collect(Life(starts), seen) == (
        series(LABELS[A], {"container_start_timestamp_seconds": 10.5, "container_created_to_start_seconds": 0.5})
        | series(LABELS[B], {"container_start_timestamp_seconds": 20})
    )


def test_one_that_was_never_started_is_called_as_its_runtime_calls_it(tmp_path: Path) -> None:
    """It has no cgroup."""
    name = ("", "", "waiting")
    assert collect(Life(unstarted=lambda: {name: 10.0}), looked_at(tmp_path, A)).items() >= (
        series(name, {"container_created_timestamp_seconds": 10}).items()
    )


def test_pauses_begin_at_0_and_their_time_rises_on_each_page(tmp_path: Path) -> None:
    """Of everything that runs or ran lately."""
    now = [100.0]
    freezes = Freezes()
    life = Life(freezes=freezes, clock=lambda: now[0])
    seen = looked_at(tmp_path, A, B)
    freezes.see(A, 100, is_frozen=False)
    assert collect(life, seen) == pauses(LABELS[A], 0, 0) | pauses(LABELS[B], 0, 0)
    freezes.see(A, 101, is_frozen=True)
    for now[0], seconds in ((102.0, 1.0), (104.0, 3.0)):
        assert collect(life, seen) == pauses(LABELS[A], 1, seconds) | pauses(LABELS[B], 0, 0)
    freezes.end(A, 105)
    now[0] = 200.0
    assert collect(life, replace(seen, containers=(), instances=())) == pauses(LABELS[A], 1, 4) | pauses(LABELS[B], 0, 0)


def test_the_pauses_of_what_cannot_be_read_are_not_known(tmp_path: Path) -> None:
    """Until it can be again; nor when it is gone. Only so many are remembered."""
    seen = looked_at(tmp_path, A, B)
    freezes = Freezes()
    life = Life(freezes=freezes, clock=lambda: 100.0)
    freezes.see(B, 100, is_frozen=False)

    freezes.hide(A)
    assert collect(life, seen) == pauses(LABELS[B], 0, 0)
    freezes.see(A, 100, is_frozen=False)
    assert collect(life, seen) == pauses(LABELS[A], 0, 0) | pauses(LABELS[B], 0, 0)
    freezes.hide(A)
    assert collect(life, seen) == pauses(LABELS[B], 0, 0)
    freezes.end(A, 101)
    assert collect(life, seen) == pauses(LABELS[B], 0, 0)
    for number in range(MOST):
        freezes.hide(ContainerKey(str(number)))
    assert not freezes.is_hidden(A)


def test_the_counts_of_a_name_do_not_fall_when_one_of_its_lives_is_forgotten(tmp_path: Path) -> None:
    """A container of a pod that restarts has another id each time."""
    freezes = Freezes()
    life = Life(freezes=freezes, clock=lambda: 100.0)
    seen = looked_at(tmp_path, A, B)
    both = replace(seen, names={A: LABELS[A], B: LABELS[A]})
    for key in (A, B):
        freezes.see(key, 10, is_frozen=True)
        freezes.end(key, 12)
    assert collect(life, both) == pauses(LABELS[A], 2, 4)
    assert collect(life, replace(seen, names={B: LABELS[A]})) == pauses(LABELS[A], 2, 4)
    assert collect(life, replace(seen, names={})) == {}


def started(labels: tuple[str, ...], **counts: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """Spell the counters of exec sessions."""
    return {("coroner_container_exec_sessions_started_total", (*labels, kind)): count for kind, count in counts.items()}


def test_exec_sessions_begin_at_0_where_a_runtime_tells_of_them(tmp_path: Path) -> None:
    """Health checks where the container has one; nothing of a container that it has not told of."""
    execs = Execs()
    life = Life(execs=execs)
    seen = looked_at(tmp_path, A, B, C)
    execs.know(A, "probe ")
    execs.know(B, None)
    assert collect(life, seen) == started(LABELS[A], exec=0, healthcheck=0) | started(LABELS[B], exec=0)

    for number, command in enumerate(["probe ", "probe ", "sh "]):
        execs.start(A, command, number)
    ended = replace(seen, containers=(), instances=())
    assert collect(life, ended) == started(LABELS[A], exec=1, healthcheck=2) | started(LABELS[B], exec=0)


def test_a_count_that_was_forgotten_begins_anew(tmp_path: Path) -> None:
    """Ten thousand others were paused since."""
    known, life = Freezes(), Life(clock=lambda: 100.0)
    seen = looked_at(tmp_path, A)
    for _ in range(2):
        known.see(A, 10, is_frozen=True)
        known.end(A, 12)
    life._freezes = known
    assert collect(life, seen) == pauses(LABELS[A], 2, 4)
    life._freezes = Freezes()
    life._freezes.see(A, 20, is_frozen=True)
    life._freezes.end(A, 21)
    assert collect(life, seen) == pauses(LABELS[A], 3, 5)
