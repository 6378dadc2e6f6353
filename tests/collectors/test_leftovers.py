"""Removed cgroups that still hold something, counted where they pile up; and what outlives its container, or its daemon."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from collectors.kernel.container_id import ContainerKey
from collectors.leftovers import Leftovers
from tests.tree import A, B, Content, cgroup, collect, docker, forbid, node, proc, process, remove_cgroup, tree


def dying(path: str, count: int) -> dict[str, str]:
    """Give a cgroup below which `count` removed ones are left."""
    return {f"cgroup{path}/cgroup.stat": f"nr_descendants 1\nnr_dying_descendants {count}\n"}


def found(counts: dict[str, int]) -> dict[tuple[str, tuple[str, ...]], float]:
    """Spell the series."""
    return {("coroner_cgroup_dying_descendants", (path,)): count for path, count in counts.items()}


def test_only_slices_near_the_root(tmp_path: Path) -> None:
    """Not what has no children, not what lies deeper, no pod and no container: there would be thousands of series."""
    pod = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12345678_1234_1234_1234_123456789abc.slice"
    for number, path in enumerate(
        (
            "",
            "/system.slice",
            "/system.slice/cron.service",
            "/kubepods.slice",
            "/kubepods.slice/kubepods-burstable.slice",
            pod,
            f"{pod}/cri-containerd-{A}.scope",
            "/docker",
            docker(A),
            f"{docker(A)}/nested",
            "/user.slice/user-1000.slice/user@1000.service",
            "/user.slice/user-1000.slice/user@1000.service/app.slice",
            "/kubepods/pod12345678-1234-1234-1234-123456789abc",
            f"/kubepods/pod12345678-1234-1234-1234-123456789abc/{A}",
        )
    ):
        tree(tmp_path, dying(path, 100 + number))

    assert collect(Leftovers(), node(tmp_path)) == found(
        {"/": 100, "/system.slice": 101, "/kubepods.slice": 103, "/kubepods.slice/kubepods-burstable.slice": 104, "/docker": 107}
    )


def test_a_root_without_children(tmp_path: Path) -> None:
    """It is the one that says whether anything is left at all."""
    tree(tmp_path, dying("", 3))

    assert collect(Leftovers(), node(tmp_path)) == found({"/": 3})


def test_none_is_a_value(tmp_path: Path) -> None:
    """A root without leftovers has 0; a missing or malformed file none."""
    tree(tmp_path, {**dying("", 0), **dying("/a.slice/b.service", 0), "cgroup/c.slice/cgroup.stat": "garbage\n", **dying("/c.slice/d", 0)})
    seen = node(tmp_path)

    assert collect(Leftovers(), seen) == found({"/": 0})
    assert [error.path for error in seen.malformed] == [f"{tmp_path}/cgroup/c.slice/cgroup.stat"]


def test_a_slice_that_ends_after_the_walk_costs_only_its_own_series(tmp_path: Path) -> None:
    """That is normal, and nothing to report."""
    tree(tmp_path, {**dying("", 3), **dying("/a.slice", 4), **dying("/a.slice/b.service", 5)})
    seen = node(tmp_path)
    remove_cgroup(tmp_path, "/a.slice")

    assert collect(Leftovers(), seen) == found({"/": 3})
    assert seen.malformed == []


def test_a_missing_privilege_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass says so."""
    tree(tmp_path, cgroup("/a.slice/b.slice"))
    seen = node(tmp_path)
    forbid(monkeypatch)

    assert collect(Leftovers(), seen) == {}
    assert {error.path for error in seen.closed} == {f"{tmp_path}/cgroup{path}/cgroup.stat" for path in ("", "/a.slice")}


POD = "/kubepods/burstable/pod12345678-1234-1234-1234-123456789abc"
EMPTY = {"cgroup.events": "populated 0\nfrozen 0\n", "cpu.stat": "usage_usec 1200\nuser_usec 1200\nsystem_usec 0\n"}
NEVER = {**EMPTY, "cpu.stat": "usage_usec 0\nuser_usec 0\nsystem_usec 0\n"}
ALIVE = {**EMPTY, "cgroup.events": "populated 1\nfrozen 0\n"}
OVERLAY = "{0} 29 0:{0} / /var/lib/docker/overlay2/{0}/merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n"
ROOT = "{0} 29 0:{0} / / rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n"


class Looks:
    """Looks at a tree again and again, a minute apart."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._collector = Leftovers(clock=self._times().__next__)

    @staticmethod
    def _times() -> Iterator[float]:
        now = 0.0
        while True:
            yield now
            now += 61

    def __call__(self, sandboxes: Mapping[ContainerKey, tuple[str, ...]] | None = None) -> dict[str, float]:
        """Return what is found by name, and behind it the label; not what is dying."""
        found = collect(self._collector, node(self._root, sandboxes=sandboxes))
        return {" ".join((name.removeprefix("coroner_"), *labels)): n for (name, labels), n in found.items() if "dying" not in name}


def shim(pid: int, *children: int, cgroup: str = "/system.slice/containerd.service") -> dict[str, Content]:
    """Give a shim and its children, which are in the Docker container A."""
    files = process(pid, comm=b"containerd-shim", cgroup=cgroup)
    for child in children:
        files |= process(child, parent=pid, pids=(child, 1), namespace=child, cgroup=docker(A))
    return files


DOCKER = {**process(1, comm=b"systemd", parent=0), **process(50, comm=b"dockerd"), **process(51, comm=b"containerd")}


def without_daemon(**counts: int) -> dict[str, float]:
    """Spell the series."""
    return {f"containers_without_daemon {daemon}": counts.get(daemon, 0) for daemon in ("containerd", "crio", "dockerd")}


def test_a_cgroup_that_has_outlived_its_processes(tmp_path: Path) -> None:
    """One that lives is none, nor one that is gone at the next look, nor what a container made in itself."""
    tree(tmp_path, {**cgroup(docker(A), EMPTY), **cgroup(docker(B), ALIVE), **cgroup(f"{docker(B)}/docker/{A}", EMPTY), **proc()})
    look = Looks(tmp_path)

    assert look() == {}, "what is just being removed is no leftover"
    assert look() == {"leftover_cgroups": 1}
    remove_cgroup(tmp_path, docker(A))
    assert look() == {"leftover_cgroups": 0}


def test_a_cgroup_that_never_had_a_process_is_there_on_purpose(tmp_path: Path) -> None:
    """gVisor makes one for each container of a pod that runs in the sandbox's cgroup, CRI-O for a sandbox without pause."""
    tree(tmp_path, {**cgroup(f"{POD}/{A}", NEVER), **cgroup(f"{POD}/{B}", ALIVE), **cgroup(f"{POD}/crio-{A}", {}), **proc()})
    look = Looks(tmp_path)

    assert [look(), look()] == [{}, {"leftover_cgroups": 0}]


def test_half_a_count_of_cgroups_is_none(tmp_path: Path) -> None:
    """A malformed file may be that of a leftover."""
    tree(tmp_path, {**cgroup(docker(A), EMPTY), **cgroup(docker(B), {"cgroup.events": "populated"}), **proc()})
    look = Looks(tmp_path)

    assert [look(), look()] == [{}, {}]


def test_a_shim_without_a_container(tmp_path: Path) -> None:
    """Beside one that has a container, one in a container and one of Kata's."""
    foreign = {**shim(80, cgroup=docker(A)), **shim(81, cgroup=f"/kata_overhead/{B}")}
    tree(tmp_path, {**cgroup(docker(A), ALIVE), **proc(DOCKER, shim(60, 61), shim(70), foreign)})
    look = Looks(tmp_path)

    assert look() == {}
    assert look() == {"leftover_cgroups": 0, "leftover_shims": 1, **without_daemon()}


def test_another_process_with_the_pid_of_a_shim_is_no_old_one(tmp_path: Path) -> None:
    """A PID is used again, with another start."""
    tree(tmp_path, proc(DOCKER, process(70, comm=b"containerd-shim")))
    look = Looks(tmp_path)
    look()
    tree(tmp_path, proc(process(70, comm=b"containerd-shim", start_time=200)))

    assert look()["leftover_shims"] == 0
    assert look()["leftover_shims"] == 1


@pytest.mark.parametrize("daemon", ["dockerd", "containerd"])
def test_a_container_that_outlives_its_daemon(tmp_path: Path, daemon: str) -> None:
    """Its shim keeps it alive. A daemon that is back within a minute was restarted."""
    tree(tmp_path, {**cgroup(docker(A), ALIVE), **proc(DOCKER, shim(60, 61, 62))})
    look = Looks(tmp_path)
    look()
    assert look() == {"leftover_cgroups": 0, "leftover_shims": 0, **without_daemon()}

    pid = {"dockerd": 50, "containerd": 51}[daemon]
    tree(tmp_path, proc(process(pid, comm=b"other")))
    assert look() == {"leftover_cgroups": 0, "leftover_shims": 0, **without_daemon()}
    assert look() == {"leftover_cgroups": 0, "leftover_shims": 0, **without_daemon(**{daemon: 1})}
    tree(tmp_path, proc(process(pid, comm=daemon.encode())))
    assert look() == {"leftover_cgroups": 0, "leftover_shims": 0, **without_daemon()}


def test_a_container_whose_cgroup_is_hidden_outlives_its_daemon_too(unprivileged: Path) -> None:
    """Processes tell whose it is."""
    tree(
        unprivileged, {**cgroup(docker(A), ALIVE), **cgroup("/a.slice/b", {}), **proc(DOCKER, shim(60, 61)), **proc(process(50, comm=b"x"))}
    )
    (unprivileged / "cgroup/docker").chmod(0)
    look = Looks(unprivileged)

    assert [look(), look()] == [{}, {"leftover_shims": 0, **without_daemon(dockerd=1)}]


def test_a_pod_needs_no_dockerd_and_its_sandbox_is_no_container(tmp_path: Path) -> None:
    """Of containerd's pods only containerd is the daemon."""
    in_pod = {
        **process(61, parent=60, cgroup=f"{POD}/{A}"),
        **process(62, parent=60, cgroup=f"{POD}/{B}"),
        **process(60, comm=b"containerd-shim"),
    }
    tree(tmp_path, {**cgroup(f"{POD}/{A}", ALIVE), **cgroup(f"{POD}/{B}", ALIVE), **proc(process(1, parent=0), in_pod)})
    look = Looks(tmp_path)
    look()

    assert look(sandboxes={A: ("shop", "web", "")}) == {"leftover_cgroups": 0, "leftover_shims": 0, **without_daemon(containerd=1)}


def test_an_overlay_that_outlives_its_container(tmp_path: Path) -> None:
    """It is mounted on the node, and no container has it any more."""
    mounts = {"1/mountinfo": OVERLAY.format(71) + OVERLAY.format(72) + OVERLAY.format(79)}
    inside = {"61/mountinfo": ROOT.format(71) + OVERLAY.format(72), "62/mountinfo": ROOT.format(72)}  # 61 sees all of the node's
    tree(tmp_path, {**cgroup(docker(A), ALIVE), **proc(DOCKER, shim(60, 61, 62), mounts, inside)})
    look = Looks(tmp_path)

    assert "leftover_overlay_mounts" not in look()
    assert look()["leftover_overlay_mounts"] == 0
    (tmp_path / "proc/62/mountinfo").unlink()
    assert look()["leftover_overlay_mounts"] == 0
    assert look()["leftover_overlay_mounts"] == 1
    (tmp_path / "proc/1/mountinfo").unlink()
    assert "leftover_overlay_mounts" not in look(), "what cannot be read is not none"


def test_mounts_are_read_once_a_minute(tmp_path: Path) -> None:
    """Until then the last count stands."""
    mounts = {"1/mountinfo": OVERLAY.format(71), "61/mountinfo": ROOT.format(71)}
    tree(tmp_path, {**cgroup(docker(A), ALIVE), **proc(DOCKER, shim(60, 61), mounts)})
    collector = Leftovers(clock=iter((0.0, 60.0, 119.0, 120.0)).__next__)
    found = ("coroner_leftover_overlay_mounts", ())

    assert found not in collect(collector, node(tmp_path))
    assert collect(collector, node(tmp_path))[found] == 0
    (tmp_path / "proc/1/mountinfo").unlink()
    assert collect(collector, node(tmp_path))[found] == 0
    assert found not in collect(collector, node(tmp_path))


def test_without_the_processes_of_the_node_nothing_is_said_of_them(tmp_path: Path) -> None:
    """An agent in a PID namespace of its own sees no runtime; one that may not scan /proc says so elsewhere."""
    tree(tmp_path, {**cgroup(docker(A), ALIVE), **proc(process(1, parent=0))})
    look = Looks(tmp_path)
    assert [look(), look()] == [{}, {"leftover_cgroups": 0}]

    tree(tmp_path, proc({"7/stat": b"garbage"}))
    assert look() == {"leftover_cgroups": 0}
