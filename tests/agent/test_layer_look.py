"""What is found out about one container: whose root it is, whether it is believed, and why there is no size."""

import errno
import os
from pathlib import Path

import pytest

from agent import layer_look, layer_walk
from agent.layer_look import FOREIGN, HIDDEN, Look, Root, look, root_of
from agent.layer_walk import Pace
from collectors.kernel.files import Unsupported
from collectors.kernel.root_mount import root_mount
from collectors.layers import Layer
from tests.tree import A, Content, Link, cgroup, docker, proc, process, tree

PID = 700
UPPER = "/var/lib/docker/overlay2/7f3c/diff"


def mount(point: str, upper: str = UPPER, device: str = "0:52") -> str:
    """Spell a line of an overlay."""
    return f"741 612 {device} / {point} rw - overlay overlay rw,lowerdir=/l,upperdir={upper},workdir=/w\n"


def host(root: Path, **files: Content) -> Path:
    """Make a node on which a container runs that has written 100,000 bytes. Files, by names without dots and slashes, replace those."""
    content: dict[str, Content] = {
        "mountinfo": mount("/"),
        "node": "29 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mount("/var/lib/docker/overlay2/7f3c/merged"),
        "procs": f"{PID}\n",
        **files,
    }
    tree(
        root,
        {
            **proc(process(PID, pids=(PID, 1)), process(1, parent=0)),
            **cgroup(docker(A), {"cgroup.procs": content["procs"]}),
            f"proc/{PID}/mountinfo": content["mountinfo"],
            "proc/1/mountinfo": content["node"],
            "proc/1/root": Link("../../disk"),
            f"disk{UPPER}/srv/data": 100_000 * "x",
            "disk/etc/secret": 900_000 * "x",
        },
    )
    return root


def seen(root: Path) -> Look:
    """Look at the container."""
    return look(f"{root}/proc", f"{root}/cgroup{docker(A)}", Pace(lambda _seconds: False, lambda: 0.0))


def test_the_writable_layer_of_an_overlay_is_measured(tmp_path: Path) -> None:
    """Below the root of PID 1, whose path it is."""
    found = seen(host(tmp_path))

    layer = tmp_path / f"disk{UPPER}"
    assert found == Look(Layer("overlay", sum(512 * path.lstat().st_blocks for path in (layer, *layer.rglob("*")))), "measured")
    assert found.layer is not None
    assert 100_000 <= (found.layer.size or 0) < 200_000


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("741 612 0:40 /@/1 / rw - btrfs /dev/sda2 rw,subvol=/@/1\n", "btrfs"),
        ("741 612 253:7 / / rw - ext4 /dev/mapper/docker-1 rw\n", "ext4"),
        ("741 612 0:52 / / ro - overlay overlay ro,lowerdir=/a:/b\n", "overlay"),
    ],
)
def test_of_another_root_only_the_kind_is_known(tmp_path: Path, line: str, kind: str) -> None:
    """There is no walk."""
    assert seen(host(tmp_path, mountinfo=line)) == Look(Layer(kind))


@pytest.mark.parametrize(
    "line",
    [mount("/", upper="/etc"), mount("/", device="0:53"), mount("/", upper="/var/lib/docker/overlay2/7f3c/diff/../../../../../../etc")],
)
def test_an_overlay_that_the_node_does_not_have_is_not_walked(tmp_path: Path, line: str) -> None:
    """A container that may mount could ask how large any directory of the node is."""
    assert seen(host(tmp_path, mountinfo=line)) == Look(Layer("overlay"), problem=HIDDEN)


@pytest.mark.parametrize("upper", [UPPER, "/mnt/upper"])
@pytest.mark.parametrize(
    "line", ["29 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "29 1 0:20 / / rw - overlay overlay rw,lowerdir=/,upperdir={},workdir=/w\n"]
)
def test_the_nodes_root_is_no_containers(tmp_path: Path, line: str, upper: str) -> None:
    """It is starting: its runtime gives it its own after its init is there."""
    host(tmp_path, mountinfo=line.format(upper), node=line.format(upper) + mount("/var/lib/docker/overlay2/7f3c/merged"))

    assert seen(tmp_path) == Look()
    assert root_of(f"{tmp_path}/proc", f"{tmp_path}/cgroup{docker(A)}") == Root(is_early=True)


def test_a_directory_of_the_nodes_file_system_may_be_a_containers_root(tmp_path: Path) -> None:
    """As Docker's driver vfs makes them."""
    assert seen(host(tmp_path, mountinfo="741 612 8:1 /var/lib/docker/vfs/dir/7f3c / rw - ext4 /dev/sda1 rw\n")) == Look(Layer("ext4"))


@pytest.mark.parametrize("procs", ["", "701\n"])
def test_a_container_without_an_init_has_no_root(tmp_path: Path, procs: str) -> None:
    """It has ended, or has not begun."""
    assert seen(host(tmp_path, procs=procs)) == Look()


@pytest.mark.parametrize("content", ["", "garbage\n", mount("/proc")])
def test_a_table_without_a_root_tells_nothing(tmp_path: Path, content: str) -> None:
    """It is absent."""
    assert seen(host(tmp_path, mountinfo=content)) == Look()


def test_processes_in_a_namespace_out_of_sight_are_said(tmp_path: Path) -> None:
    """The kernel lists each as 0."""
    assert seen(host(tmp_path, procs="0\n")) == Look(problem=FOREIGN)


def test_an_init_that_ends_while_it_is_looked_at_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zombie has no mounts (EINVAL), and a PID may be another process' at once."""
    host(tmp_path)

    def zombie(path: str) -> None:
        raise Unsupported(path, "Invalid argument") from OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def reused(path: str) -> object:
        tree(tmp_path, proc(process(PID, pids=(PID, 1), start_time=101)))
        return root_mount(path)

    monkeypatch.setattr(layer_look, "root_mount", zombie)
    assert seen(tmp_path) == Look()
    monkeypatch.setattr(layer_look, "root_mount", reused)
    assert seen(tmp_path) == Look()


def test_a_table_that_must_not_be_read_is_said(tmp_path: Path) -> None:
    """Without a name of a container: what repeats is logged once."""
    host(tmp_path)
    (tmp_path / "proc/1/mountinfo").unlink()

    found = seen(tmp_path)

    assert found.layer is None
    assert "the roots of some containers are unknown" in found.problem


def test_a_layer_that_is_gone_has_no_size(tmp_path: Path) -> None:
    """It went with its container."""
    host(tmp_path)
    (tmp_path / "disk").rename(tmp_path / "elsewhere")

    assert seen(tmp_path) == Look(Layer("overlay"), "gone")


def test_a_layer_that_is_too_large_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kind is known all the same."""
    monkeypatch.setattr(layer_walk, "MOST_ENTRIES", 1)

    assert seen(host(tmp_path)) == Look(Layer("overlay"), "too_large")


def test_a_layer_that_must_not_be_read_has_no_size_and_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read anything, so it is refused by hand."""

    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(layer_look, "disk_usage", refuse)
    found = seen(host(tmp_path))

    assert (found.layer, found.result) == (Layer("overlay"), "failed")
    assert "Permission denied; it needs CAP_DAC_READ_SEARCH" in found.problem
