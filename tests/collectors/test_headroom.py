"""Headroom: bytes below the nearest limit, and whom the OOM killer would take there."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.page import Page
from collectors import headroom
from collectors.headroom import Headroom
from collectors.kernel.container_id import ContainerKey
from tests.tree import FULL, LABELS, A, B, C, Content, cgroup, close, collect, docker, node, proc, process, remove_cgroup, series, tree

MIB = 1 << 20
POD = "/kubepods/burstable/pod6f3a1c52-9d0e-4b7f-8a21-5c4de0917b33"

Found = dict[tuple[str, tuple[str, ...]], float]
NOBODY: Found = {("coroner_oom_candidates_unknown", ()): 0}


def memory(current: int, limit: int | None = None, *, inactive: int = 0, **others: str) -> dict[str, Content]:
    """Give the files of one cgroup; sizes in MiB."""
    files = {"memory_current": current * MIB, "memory_max": "max" if limit is None else limit * MIB, **others}
    stat = f"anon 0\nfile 0\ninactive_anon 0\nactive_anon 0\ninactive_file {inactive * MIB}\nactive_file 0\n"
    return {
        **{name.replace("_", ".", 2 if "oom" in name or "swap" in name else 1): f"{value}\n" for name, value in files.items()},
        "memory.stat": stat,
    }


def space(labels: tuple[str, ...], scope: str, free: int, limit: int) -> Found:
    """Spell the series of one container, from MiB."""
    return series((*labels, scope), {"container_memory_headroom_bytes": free * MIB, "container_memory_nearest_limit_bytes": limit * MIB})


def candidate(labels: tuple[str, ...], scope: str, comm: str, role: str, takes: str, *, rss: int, badness: int | None = None) -> Found:
    """Spell the series of a candidate, from MiB."""
    sizes = {
        "container_oom_candidate_rss_bytes": rss * MIB,
        "container_oom_candidate_badness_bytes": (rss if badness is None else badness) * MIB,
    }
    return series((*labels, scope, comm, role, takes), {"container_oom_candidate_info": 1}) | series(labels, sizes)


def holder(
    pid: int, path: str, comm: str = "app", *, rss: int, adjustment: int = 0, inside: int | None = None, shown: str | None = None
) -> dict[str, Content]:
    """Give a process of a cgroup that holds so many MiB; `inside` is its PID in the container's namespace."""
    nspid = f"{pid}\t{pid - 90 if inside is None else inside}"
    return {
        **process(pid, cgroup=path if shown is None else shown),
        f"{pid}/status": f"Name:\t{comm}\nTgid:\t{pid}\nNSpid:\t{nspid}\nVmRSS:\t{rss * 1024} kB\nVmPTE:\t0 kB\nVmSwap:\t0 kB\n",
        f"{pid}/oom_score_adj": f"{adjustment}\n",
    }


def host(*processes: Mapping[str, Content], swap: int = 0) -> dict[str, Content]:
    """Give /proc with these processes and PID 1, and so many MiB of swap."""
    memory = {"meminfo": f"MemTotal:  1 kB\nSwapTotal:  {swap * 1024} kB\n", "sys/vm/swappiness": "60\n"}
    return proc(memory, process(1, parent=0), *processes)


def procs(*pids: int) -> dict[str, Content]:
    """Give the list of a cgroup's processes."""
    return {"cgroup.procs": "".join(f"{pid}\n" for pid in pids)}


def near(*pids: int, **others: str) -> dict[str, Content]:
    """Give a cgroup that has 6 of 100 MiB left, and these processes."""
    return {**memory(99, 100, inactive=5, **others), **procs(*pids)}


NEAR_A = space(LABELS[A], "container", 6, 100)


def test_headroom_is_what_is_left_below_its_own_limit(tmp_path: Path) -> None:
    """Inactive page cache is free; without any limit there is none; nobody is near, so no process is looked at."""
    tree(tmp_path, {**cgroup("/docker"), **cgroup(docker(A), memory(60, 100, inactive=20)), **cgroup(docker(B), memory(60))})
    (tmp_path / "cgroup/docker/memory.max").unlink()

    assert collect(Headroom(), node(tmp_path)) == space(LABELS[A], "container", 60, 100) | NOBODY


@pytest.mark.parametrize(
    ("own", "pod", "slice_", "expected"),
    [
        (memory(10, 100), memory(60, 100), memory(70, 1000), ("pod", 40, 100)),
        (memory(80, 100), memory(60, 100), memory(70, 1000), ("container", 20, 100)),
        (memory(10), memory(60), memory(700, 1000), ("ancestor", 300, 1000)),
        (memory(10, 100), memory(70), memory(900, 1100), ("container", 90, 100)),
        (memory(50, 100, inactive=40), memory(95, 100, inactive=60), memory(700, 800, inactive=0), ("pod", 65, 100)),
    ],
)
def test_the_nearest_limit_is_the_one_with_the_least_left(
    tmp_path: Path, own: dict[str, Content], pod: dict[str, Content], slice_: dict[str, Content], expected: tuple[str, int, int]
) -> None:
    """Not the smallest: of each cgroup on the way up, its own usage counts against its own limit."""
    tree(tmp_path, {**cgroup("/kubepods", slice_), **cgroup("/kubepods/burstable", {}), **cgroup(POD, pod), **cgroup(f"{POD}/{A}", own)})

    assert collect(Headroom(), node(tmp_path)) == space(LABELS[A], *expected) | NOBODY


def test_over_the_limit_nothing_is_left(tmp_path: Path) -> None:
    """A limit may be set below the usage; and the files are not read at the same time."""
    tree(tmp_path, {**host(), **cgroup(docker(A), {**memory(120, 100), **procs()}), **cgroup(docker(B), memory(5, 100, inactive=9))})

    expected = space(LABELS[A], "container", 0, 100) | space(LABELS[B], "container", 100, 100)
    assert collect(Headroom(), node(tmp_path)) == expected | NOBODY


@pytest.mark.parametrize(
    ("path", "broken"),
    [
        (f"{POD}/{A}", "memory.max"),
        (f"{POD}/{A}", "memory.current"),
        (f"{POD}/{A}", "memory.stat"),
        (POD, "memory.max"),
        (POD, "memory.stat"),
    ],
)
def test_a_limit_that_cannot_be_read_may_be_the_nearest(tmp_path: Path, path: str, broken: str) -> None:
    """Then there is no headroom to tell of; the other container keeps its own."""
    tree(tmp_path, {**cgroup(POD, memory(50, 100)), **cgroup(f"{POD}/{A}", memory(10, 100)), **cgroup(docker(B), memory(10, 100))})
    tree(tmp_path, {f"cgroup{path}/{broken}": "garbage\n"})
    seen = node(tmp_path)

    assert collect(Headroom(), seen) == space(LABELS[B], "container", 90, 100) | NOBODY
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup{path}/{broken}"]


def test_a_container_that_ends_after_the_walk_has_no_headroom_below_its_pods_limit(tmp_path: Path) -> None:
    """That its own limit is not there any more does not mean that it had none."""
    tree(tmp_path, {**cgroup(POD, memory(50, 100)), **cgroup(f"{POD}/{A}", memory(10, 100)), **cgroup(docker(B), memory(10, 100))})
    seen = node(tmp_path)
    remove_cgroup(tmp_path, f"{POD}/{A}")

    assert collect(Headroom(), seen) == space(LABELS[B], "container", 90, 100) | NOBODY
    assert seen.malformed == []


def test_the_worst_process_is_the_candidate(tmp_path: Path) -> None:
    """The one with most memory, shifted by its oom_score_adj in thousandths of the limit; here it is a worker."""
    path = docker(A)
    workers = (
        holder(101, path, "worker", rss=40),
        holder(102, path, "spared", rss=45, adjustment=-1000),
        holder(103, path, "shy", rss=60, adjustment=-300),
    )
    tree(tmp_path, {**host(holder(100, path, "init", rss=30, inside=1), *workers), **cgroup(path, near(100, 101, 102, 103))})

    expected = candidate(LABELS[A], "container", "worker", "other", "process", rss=40)
    assert collect(Headroom(), node(tmp_path)) == NEAR_A | expected | NOBODY


def test_a_candidate_that_is_init_takes_the_container(tmp_path: Path) -> None:
    """The kernel ends a PID namespace with its PID 1."""
    path = docker(A)
    tree(tmp_path, {**host(holder(100, path, "init", rss=50, inside=1), holder(101, path, rss=40)), **cgroup(path, near(100, 101))})

    expected = candidate(LABELS[A], "container", "init", "init", "container", rss=50)
    assert collect(Headroom(), node(tmp_path)) == NEAR_A | expected | NOBODY


@pytest.mark.parametrize(
    ("group", "takes"),
    [({}, "process"), ({"own": 0}, "process"), ({"own": 1}, "container"), ({"nested": 1}, "group"), ({"own": 1, "nested": 1}, "container")],
)
def test_what_ends_with_it_depends_on_the_oom_group(tmp_path: Path, group: dict[str, int], takes: str) -> None:
    """The highest cgroup with memory.oom.group goes as a whole; kernels before 4.19 have no such file."""
    path, nested = docker(A), f"{docker(A)}/workers"
    files = {
        **host(holder(100, path, "init", rss=30, inside=1), holder(101, nested, rss=40)),
        **cgroup(path, near(100)),
        **cgroup(nested, {**memory(40), **procs(101)}),
    }
    files |= {f"cgroup{nested if which == 'nested' else path}/memory.oom.group": f"{value}\n" for which, value in group.items()}
    tree(tmp_path, files)

    expected = candidate(LABELS[A], "container", "app", "other", takes, rss=40)
    assert collect(Headroom(), node(tmp_path)) == NEAR_A | expected | NOBODY


def test_without_a_pid_namespace_of_its_own_what_ends_with_it_is_unknown(tmp_path: Path) -> None:
    """A container ends with its first process, which is then no PID 1; another container's init in the pod is not its own."""
    path, other = f"{POD}/{A}", f"{POD}/{B}"
    shared = holder(101, path, "app", rss=40), holder(102, path, "worker", rss=30), holder(200, other, rss=1, inside=1)
    files = {**cgroup(POD, near()), **cgroup(path, {**memory(80), **procs(101, 102)}), **cgroup(other, {**memory(1), **procs(200)})}
    tree(tmp_path, {**host(*shared), **files})

    found = collect(Headroom(), node(tmp_path))
    assert [labels[3:] for name, labels in found if name.endswith("candidate_info")] == [("pod", "app", "other", "unknown")]


@pytest.mark.parametrize(
    ("allowed", "swap", "comm"),
    [("0", 300, "large"), ("max", 0, "large"), (str(50 * MIB), 300, "large"), (str(150 * MIB), 200, "small"), ("max", 200, "small")],
)
def test_the_swap_that_may_be_used_gives_the_adjustment_more_weight(tmp_path: Path, allowed: str, swap: int, comm: str) -> None:
    """As in the kernel, thousandths of the limit and the swap together: the lesser of memory.swap.max and what the node has."""
    path = docker(A)
    processes = holder(100, path, "large", rss=50), holder(101, path, "small", rss=30, adjustment=100)
    tree(tmp_path, {**host(*processes, swap=swap), **cgroup(path, near(100, 101, memory_swap_max=allowed))})

    found = collect(Headroom(), node(tmp_path))
    assert {labels[4] for name, labels in found if name == "coroner_container_oom_candidate_info"} == {comm}


def test_a_group_above_the_limit_that_is_hit_is_not_taken(tmp_path: Path) -> None:
    """The kernel looks for memory.oom.group no higher than the limit: a pod's says nothing of its container's own."""
    path = f"{POD}/{A}"
    files = {**cgroup(POD, memory(99, memory_oom_group="1")), **cgroup(path, near(99, 100, memory_oom_group="0"))}
    tree(tmp_path, {**host(holder(99, path, rss=1, inside=1), holder(100, path, rss=50)), **files})

    expected = candidate(LABELS[A], "container", "app", "other", "process", rss=50)
    assert collect(Headroom(), node(tmp_path)) == NEAR_A | expected | NOBODY


def in_pod(big: int, small: int, own: dict[str, Content] | None = None) -> dict[str, Content]:
    """Give a pod that is near its limit, with two containers and a sandbox."""
    a, b, c = (f"{POD}/{identifier}" for identifier in (A, B, C))
    return {
        **host(holder(100, a, "big", rss=big), holder(200, b, "small", rss=small), holder(300, c, "pause", rss=1, adjustment=-998)),
        **cgroup(POD, near()),
        **cgroup(a, {**(own or memory(50)), **procs(100)}),
        **cgroup(b, {**memory(40), **procs(200)}),
        **cgroup(c, {**memory(1), **procs(300)}),
    }


def test_at_a_pods_limit_only_the_container_of_the_candidate_has_one(tmp_path: Path) -> None:
    """The other one has as little headroom, but would not be hit."""
    tree(tmp_path, in_pod(50, 40))

    expected = space(LABELS[A], "pod", 6, 100) | space(LABELS[B], "pod", 6, 100) | space(LABELS[C], "pod", 6, 100)
    expected |= candidate(LABELS[A], "pod", "big", "other", "unknown", rss=50)
    assert collect(Headroom(), node(tmp_path)) == expected | NOBODY


def test_of_two_limits_that_are_near_the_inner_one_is_told(tmp_path: Path) -> None:
    """One candidate for each container at most."""
    tree(tmp_path, in_pod(50, 40, own=memory(59, 60)))

    found = collect(Headroom(), node(tmp_path))
    assert [labels[3:] for name, labels in found if name.endswith("candidate_info")] == [("container", "big", "other", "unknown")]


def test_a_candidate_outside_of_every_container_has_no_series(tmp_path: Path) -> None:
    """The sandbox, or a service in the same slice."""
    tree(tmp_path, in_pod(50, 40))
    names = {identifier: LABELS[identifier] for identifier in (B, C)}

    found = collect(Headroom(), node(tmp_path, names=names))
    assert found == space(LABELS[B], "pod", 6, 100) | space(LABELS[C], "pod", 6, 100) | NOBODY


def test_no_process_is_looked_at_while_no_limit_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the lists of them."""
    path = docker(A)
    tree(tmp_path, {**host(holder(100, path, rss=80)), **cgroup(path, {**memory(89, 100), **procs(100)})})
    opened: list[str] = []
    really = os.open

    def remember(name: str, flags: int) -> int:
        opened.append(name.removeprefix(str(tmp_path)))
        return really(name, flags)

    monkeypatch.setattr(os, "open", remember)

    assert collect(Headroom(), node(tmp_path)) == space(LABELS[A], "container", 11, 100) | NOBODY
    assert opened
    assert [name for name in opened if name.startswith("/proc") or name.endswith("cgroup.procs")] == []

    tree(tmp_path, cgroup(path, memory(90, 100)))
    collect(Headroom(), node(tmp_path))
    assert [name for name in opened if name.startswith("/proc")]


UNKNOWN: Found = {("coroner_oom_candidates_unknown", ()): 1}


@pytest.mark.parametrize(
    ("what", "files", "is_malformed"),
    [
        ("it is outside of the agent's PID namespace", {f"cgroup{docker(A)}/cgroup.procs": "0\n0\n"}, False),
        ("one of them is", {f"cgroup{docker(A)}/cgroup.procs": "100\n0\n"}, False),
        ("the number is that of another process here", {"proc/100/cgroup": "0::/init.scope\n"}, False),
        ("a cgroup whose name only begins alike", {"proc/100/cgroup": f"0::{docker(A)}-b\n"}, False),
        ("there is no cgroup v2 there", {"proc/100/cgroup": "1:memory:/a\n"}, False),
        ("it has ended, as all others", {f"cgroup{docker(A)}/cgroup.procs": "7\n"}, False),
        ("its status is cut short", {"proc/100/status": "Name:\tapp\nVmRSS:\t1"}, True),
        ("its adjustment is no number", {"proc/100/oom_score_adj": "\n"}, True),
        ("the list is cut short", {f"cgroup{docker(A)}/cgroup.procs": "10"}, True),
        ("the node's memory is unreadable", {"proc/meminfo": "\n"}, True),
    ],
)
def test_a_candidate_that_cannot_be_told_is_counted(tmp_path: Path, what: str, files: dict[str, Content], is_malformed: bool) -> None:
    """Blind is not nobody; the headroom stands."""
    path = docker(A)
    tree(tmp_path, {**host(holder(100, path, rss=50)), **cgroup(path, near(100)), **files})
    seen = node(tmp_path)

    assert collect(Headroom(), seen) == NEAR_A | UNKNOWN, what
    assert bool(seen.malformed) is is_malformed


def test_a_path_from_within_a_cgroup_namespace_is_understood(tmp_path: Path) -> None:
    """The agent of a container sees the others' cgroups as siblings of its own."""
    path = docker(A)
    tree(tmp_path, {**host(holder(100, path, rss=50, shown=f"/../{A}/nested")), **cgroup(path, near(100)), **cgroup(docker(B), {})})
    seen = node(tmp_path)
    seen.process_table.cgroup_namespace = docker(B)

    assert collect(Headroom(), seen) == NEAR_A | candidate(LABELS[A], "container", "app", "other", "unknown", rss=50) | NOBODY


def test_more_processes_than_the_bound_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is counted, and costs the smaller ones nothing; cgroups count too."""
    monkeypatch.setattr(headroom, "MOST", 5)
    crowd = [holder(pid, docker(A), rss=1) for pid in range(100, 105)]
    tree(
        tmp_path,
        {**host(*crowd, holder(200, docker(B), rss=50)), **cgroup(docker(A), near(*range(100, 105))), **cgroup(docker(B), near(200))},
    )

    expected = space(LABELS[A], "container", 6, 100) | space(LABELS[B], "container", 6, 100)
    expected |= candidate(LABELS[B], "container", "app", "other", "unknown", rss=50)
    assert collect(Headroom(), node(tmp_path)) == expected | UNKNOWN

    tree(tmp_path, {name: content for number in range(5) for name, content in cgroup(f"{docker(B)}/{number}", procs()).items()})
    assert collect(Headroom(), node(tmp_path))["coroner_oom_candidates_unknown", ()] == 2


def test_a_container_of_spared_processes_has_no_candidate(tmp_path: Path) -> None:
    """The kernel finds nobody to kill there, and says so in its log."""
    path = docker(A)
    tree(tmp_path, {**host(holder(100, path, rss=50, adjustment=-1000)), **cgroup(path, near(100))})

    assert collect(Headroom(), node(tmp_path)) == NEAR_A | NOBODY


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.binary(min_size=1, max_size=15).filter(lambda name: b"\0" not in name))
def test_whatever_a_process_calls_itself_is_one_label_value(tmp_path: Path, name: bytes) -> None:
    """It adds no line to the page, changes no other value, and is the same every time."""
    path = docker(A)
    files = holder(100, path, "NAME", rss=50)
    escaped = name.replace(b"\\", rb"\\").replace(b"\n", rb"\n")
    files["100/status"] = str(files["100/status"]).encode().replace(b"NAME", escaped)
    tree(tmp_path, {**host(files), **cgroup(path, near(100))})

    samples = list(Headroom().collect(node(tmp_path)))
    page = Page().render(samples, openmetrics=False)
    lines = [line for line in page.decode().split("\n") if line and not line.startswith("#")]
    assert len(lines) == len(samples) == 6
    assert f'coroner_container_oom_candidate_rss_bytes{{namespace="shop",pod="web-0",container="web"}} {50 * MIB}' in lines


def test_without_a_tree_nobody_looked(tmp_path: Path) -> None:
    """A count of 0 would say that all candidates are known."""
    seen = node(tmp_path)

    assert collect(Headroom(), seen) == NOBODY
    assert dict(collect(Headroom(), type(seen)(seen.proc_root, seen.files, seen.process_table))) == {}


def test_everything_of_a_common_container(tmp_path: Path) -> None:
    """The files that all collectors' tests use: half of it is free."""
    tree(tmp_path, cgroup(docker(A), FULL))

    assert collect(Headroom(), node(tmp_path)) == NOBODY | series(
        (*LABELS[A], "container"),
        {"container_memory_headroom_bytes": 6_500_000, "container_memory_nearest_limit_bytes": 10_000_000},
    )


@pytest.mark.parametrize(
    ("path", "name", "lost"),
    [
        (f"{POD}/{B}", "memory.max", {B}),
        (f"{POD}/{B}", "memory.current", set()),
        (POD, "memory.max", {A, B, C}),
        (f"{POD}/{B}", "cgroup.procs", set()),
    ],
)
def test_what_is_closed_costs_whoever_is_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str, lost: set[ContainerKey]
) -> None:
    """A limit that nobody can read may be the nearest; a process that nobody can list may be the worst; how many such there are is not
    known."""
    tree(tmp_path, in_pod(50, 40))
    truth = collect(Headroom(), node(tmp_path))
    close(monkeypatch, f"{tmp_path}/cgroup{path}/{name}")
    seen = node(tmp_path)
    found = collect(Headroom(), seen)

    assert found.items() <= truth.items() or name == "cgroup.procs"
    assert {labels[:3] for series, labels in found if series.endswith("headroom_bytes")} == {LABELS[each] for each in {A, B, C} - lost}
    if name == "cgroup.procs":
        assert found["coroner_oom_candidates_unknown", ()] == 1
        assert not any("oom_candidate_info" in series for series, _ in found)
    elif lost:
        assert ("coroner_oom_candidates_unknown", ()) not in found
    assert bool(seen.closed) is (name != "memory.current"), "of one without a limit the usage is not asked for"


@pytest.mark.parametrize("name", ["memory.oom.group", "memory.swap.max"])
def test_what_would_be_taken_is_not_told_by_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Of a container that closed its group it is unknown what ends with the candidate; and the candidate, if the swap limit is closed."""
    path = f"{POD}/{A}"
    files = {**cgroup(path, near(99, 100, memory_oom_group="0", memory_swap_max="0"))}
    tree(tmp_path, {**host(holder(99, path, rss=1, inside=1), holder(100, path, rss=50)), **files})
    assert collect(Headroom(), node(tmp_path)).items() >= candidate(LABELS[A], "container", "app", "other", "process", rss=50).items()

    close(monkeypatch, f"{tmp_path}/cgroup{path}/{name}")
    expected = candidate(LABELS[A], "container", "app", "other", "unknown", rss=50) | NOBODY
    if name == "memory.swap.max":
        expected = {("coroner_oom_candidates_unknown", ()): 1}
    assert collect(Headroom(), node(tmp_path)) == NEAR_A | expected


@pytest.mark.parametrize("mode", [0o000, 0o111])
def test_what_is_hidden_below_a_limit_may_be_the_worst(unprivileged: Path, mode: int) -> None:
    """Whether the limit itself can be read or not; a neighbour's is known."""
    inner, other = f"{docker(A)}/inner", docker(B)
    processes = holder(99, docker(A), rss=1), holder(100, inner, rss=50), holder(200, other, rss=50)
    files = {**cgroup(docker(A), near(99)), **cgroup(inner, {**memory(1), **procs(100)}), **cgroup(other, near(200))}
    tree(unprivileged, {**host(*processes), **files})
    (unprivileged / f"cgroup{docker(A)}").chmod(mode)
    seen = node(unprivileged)
    found = collect(Headroom(), seen)

    assert seen.hidden == {docker(A)}
    assert ("coroner_oom_candidates_unknown", ()) not in found
    assert {labels[:3] for series, labels in found if series.endswith("candidate_info")} == {LABELS[B]}
    assert {labels[:3] for series, labels in found if series.endswith("headroom_bytes")} == {LABELS[B], *([LABELS[A]] if mode else [])}


def test_where_proc_hides_processes_no_candidate_can_be_told(tmp_path: Path) -> None:
    """Of those in the cgroup some are hidden, and the worst may be among them; there is no candidate rather than a wrong one."""
    tree(tmp_path, {**cgroup(docker(A), near(100, 101)), **host(holder(100, docker(A), rss=10))})
    assert collect(Headroom(), node(tmp_path)).items() >= candidate(LABELS[A], "container", "app", "other", "unknown", rss=10).items()

    shutil.rmtree(tmp_path / "proc" / "1")

    assert collect(Headroom(), node(tmp_path)) == NEAR_A | {("coroner_oom_candidates_unknown", ()): 1}
