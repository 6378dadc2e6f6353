"""The kernel log's paths in a node that is a container: its tree begins there, the log's paths at the host's root."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectors.kernel.log_paths import LogPaths
from collectors.kernel.oom_log import OomKill
from tests.tree import A, B, C, tree

HOST = "428406e4f18a1cb65e9691d40b63f3d92c95c1b0d15b5c427bed470b6832cd6e"
POD = "/kubelet/kubepods/pod1788d98a-0700-426a-8701-2312e4cc2163"
ID = "a07d3c191742700df28b349710c93b2014b255b22364decb09b53ca123fa8272"
SYSTEMD_POD = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1788d98a_0700_426a_8701_2312e4cc2163.slice"
NODES = [
    (f"/docker/{HOST}", f"{POD}/{ID}"),
    (f"/system.slice/docker-{HOST}.scope", f"{SYSTEMD_POD}/cri-containerd-{ID}.scope"),
    (f"/machine.slice/libpod-{HOST}.scope/container", f"{POD}/{ID}"),
    ("/lxc.payload.node", f"/docker/{ID}"),
    (f"/docker/{HOST}", f"/docker/{ID}"),
    (f"/kubepods/pod11111111-2222-3333-4444-555555555555/{HOST}", f"{POD}/{ID}"),
]
"""Where a node's tree begins in the hierarchy, and a container in that tree."""


def kill(task: str | None, limit: str | None = None, group: str | None = None) -> OomKill:
    """Make a victim of which the log names these cgroups."""
    unknown = dict.fromkeys(("total_vm_bytes", "anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes", "uid", "oom_score_adj"))
    task_memcg, oom_memcg, group_memcg = (path.encode() if path else None for path in (task, limit, group))
    return OomKill(1, 1, 7, b"app", "", oom_memcg, task_memcg, False, group is not None, group_memcg, **unknown)


def node(root: Path, *paths: str) -> LogPaths:
    """Make the tree of a node that is a container, with these cgroups."""
    tree(root, {"cgroup.events": "populated 1\nfrozen 0\n"} | {f"{path}/": "" for path in paths})
    return LogPaths(str(root))


@pytest.mark.parametrize(("above", "path"), NODES)
def test_a_kill_of_the_tree_has_the_paths_of_the_tree(tmp_path: Path, above: str, path: str) -> None:
    """Whatever drives cgroups: those of the victim, of the limit and of the group."""
    paths = node(tmp_path, path)
    limit = path.rpartition("/")[0]

    assert paths.place(kill(above + path, above + limit)) == kill(path, limit)
    assert paths.place(kill(None, above + limit, group=above + path)) == kill(None, limit, group=path)
    assert paths.place(kill(f"{above}{path}/inside", above)) == kill(f"{path}/inside", "/")


@pytest.mark.parametrize(("above", "path"), NODES)
def test_what_is_gone_is_placed_once_it_is_known_where_the_tree_begins(tmp_path: Path, above: str, path: str) -> None:
    """The cgroup of the first kill was there; or its pod was."""
    paths = node(tmp_path, path)
    gone = path.replace(ID, A)
    if "pod" not in path:
        assert paths.place(kill(above + gone, above + gone)) is None, "only memory.events has it"
        assert paths.place(kill(above + path, above + path)) == kill(path, path)

    assert paths.place(kill(above + gone, above + gone)) == kill(gone, gone)


@pytest.mark.parametrize(("above", "path"), NODES)
def test_of_a_container_that_was_in_the_tree_the_first_kill_is_placed_although_it_is_gone(tmp_path: Path, above: str, path: str) -> None:
    """As after a restart of the agent, which was down when the container was killed; one that never was in the tree is elsewhere."""
    gone = path.replace(ID, A)
    tree(tmp_path, {"cgroup.events": "populated 1\nfrozen 0\n", f"{path}/": ""})
    elsewhere = f"/docker/{B}/docker/{C}"

    paths = LogPaths(str(tmp_path), {A}.__contains__)

    assert paths.place(kill(elsewhere, elsewhere)) is None
    assert paths.place(kill(above + gone, above + gone)) == kill(gone, gone)


def test_a_container_that_was_in_the_tree_tells_nothing_when_all_around_it_is_gone(tmp_path: Path) -> None:
    """Its id alone could be anywhere in the path."""
    tree(tmp_path, {"cgroup.events": "populated 1\nfrozen 0\n"})

    assert LogPaths(str(tmp_path), {ID}.__contains__).place(kill(f"/docker/{HOST}{POD}/{ID}")) is None


def test_a_kill_elsewhere_on_the_host_is_left_out(tmp_path: Path) -> None:
    """Of another node on the same host, of the host itself, and one of which the log does not say where it was."""
    paths = node(tmp_path, f"{POD}/{ID}")
    other = POD.replace("1788d98a", "2788d98a")
    elsewhere = (f"/docker/{B}{other}/{A}", "/system.slice/cron.service", f"/docker/{B}", f"/docker/{HOST}x{other}/{A}", "/", None)
    for path in elsewhere:
        assert paths.place(kill(path, path)) is None
    assert paths.place(kill(f"/docker/{HOST}{POD}/{ID}")) == kill(f"{POD}/{ID}")
    for path in elsewhere:
        assert paths.place(kill(path, path)) is None


def test_a_limit_above_the_tree_is_said_to_be_there(tmp_path: Path) -> None:
    """As the kernel shows it from a cgroup namespace."""
    paths = node(tmp_path, f"{POD}/{ID}")

    assert paths.place(kill(f"/docker/{HOST}{POD}/{ID}", "/docker")) == kill(f"{POD}/{ID}", "/..")
    assert paths.place(kill(f"/docker/{HOST}{POD}/{ID}", f"/docker/{HOST}")) == kill(f"{POD}/{ID}", "/")


def test_a_whole_tree_has_the_paths_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its root has the inode 1, and no cgroup.events; whether a cgroup is still there does not matter, nor what it has inside."""
    tree(tmp_path, {f"/docker/{HOST}/": "", f"/docker/{A}/": ""})
    found = [f"/docker/{HOST}{POD}/{ID}", f"/docker/{B}", "/system.slice/cron.service", None, f"/docker/{A}/docker/{HOST}"]
    for path in found:
        assert LogPaths(str(tmp_path)).place(kill(path, path)) == kill(path, path)
    monkeypatch.setattr("collectors.kernel.log_paths._inode", lambda _: 1)
    for path in (*found, f"/docker/{B}/docker/{HOST}"):
        for paths in (LogPaths(str(tmp_path)), LogPaths(None)):
            assert paths.place(kill(path, path)) == kill(path, path)


def test_a_tree_that_is_not_marked_as_a_part_is_recognised_by_its_containers(tmp_path: Path) -> None:
    """Where cgroup.events of its root is hidden."""
    tree(tmp_path, {f"{POD}/{ID}/": ""})

    assert LogPaths(str(tmp_path)).place(kill(f"/docker/{HOST}{POD}/{ID}")) == kill(f"{POD}/{ID}")


def test_a_container_cannot_move_the_tree_by_what_it_makes_inside_of_itself(tmp_path: Path) -> None:
    """A cgroup in a container that has the path of another container: the one around it is there too."""
    paths = node(tmp_path, f"{POD}/{ID}", f"{POD}/{C}")
    forged = f"/docker/{HOST}{POD}/{C}{POD}/{ID}"

    assert paths.place(kill(forged, f"/docker/{HOST}{POD}/{C}")) == kill(f"{POD}/{C}{POD}/{ID}", f"{POD}/{C}")
    assert paths.place(kill(f"/docker/{HOST}{POD}/{ID}")) == kill(f"{POD}/{ID}")
    (tmp_path / POD[1:] / C).rmdir()
    assert paths.place(kill(forged)) == kill(f"{POD}/{C}{POD}/{ID}"), "also when its own cgroup is gone"


def test_a_path_that_looks_alike_elsewhere_misleads_until_the_next_kill_here(tmp_path: Path) -> None:
    """Whoever may make cgroups on the host may give them any names."""
    paths = node(tmp_path, f"{POD}/{ID}")

    paths.place(kill(f"/docker/{B}/forged{POD}/{ID}"))
    for _ in range(2):
        assert paths.place(kill(f"/docker/{HOST}{POD}/{ID}")) == kill(f"{POD}/{ID}")
        assert paths.place(kill(f"/docker/{HOST}/init.scope")) == kill("/init.scope")


def test_a_static_pod_of_another_node_with_the_same_name_moves_no_tree(tmp_path: Path) -> None:
    """Such as etcd of two kind clusters in two Docker-in-Docker jobs: the UID is a hash of the manifest and the node's name."""
    pod = f"/kubelet/kubepods/pod{32 * 'f'}"
    paths = node(tmp_path, f"{pod}/{ID}")
    other, here = f"/docker/{B}{pod}/{A}", f"/docker/{HOST}{pod}/{ID}"

    paths.place(kill(other))
    assert paths.place(kill(here)) == kill(f"{pod}/{ID}")
    assert paths.place(kill(other)) is None
    assert paths.place(kill(here)) == kill(f"{pod}/{ID}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=8).map(lambda name: name.translate(None, b"/\0") or b"x"), max_size=6))
def test_any_path_is_placed_or_left_out(tmp_path: Path, names: list[bytes]) -> None:
    """Cgroups may be called anything."""
    path = b"".join(b"/" + name for name in names) or b"/"
    paths = node(tmp_path, f"{POD}/{ID}")
    inside = b"/docker/" + HOST.encode() + f"{POD}/{ID}".encode() + path

    for found in (paths.place(replace(kill(None), task_memcg=path)), paths.place(replace(kill(None), oom_memcg=path))):
        assert found is None
    assert paths.place(replace(kill(None), task_memcg=inside)) == replace(kill(None), task_memcg=f"{POD}/{ID}".encode() + path)
