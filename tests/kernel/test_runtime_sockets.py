"""The socket of a runtime in a container, told by the mounts of both."""

import pytest

from collectors.kernel.mount_table import Mount, parse_mounts
from collectors.kernel.runtime_sockets import is_reachable, places

NODE = parse_mounts(
    b"25 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
    b"26 25 0:22 / /run rw,nosuid - tmpfs tmpfs rw\n"
    b"27 26 0:40 / /run/user/1000 rw - tmpfs tmpfs rw\n"
)
SOCKETS = places(NODE)["docker"]


def mount(root: bytes, point: bytes = b"/x", device: bytes = b"0:22") -> Mount:
    """Make one."""
    return Mount(device, root, point, is_read_only=True)


def test_where_sockets_are() -> None:
    """On the deepest mount above them; a later one covers an earlier one at the same place."""
    assert places(NODE)["cri-o"] == ((b"0:22", b"/crio/crio.sock"),)
    assert places(NODE[:1])["cri-o"] == ((b"8:1", b"/run/crio/crio.sock"),)
    assert places((*NODE, mount(b"/a", b"/run", b"0:9")))["cri-o"] == ((b"0:9", b"/a/crio/crio.sock"),)
    assert places((*NODE, mount(b"/s", b"/run/crio/crio.sock", b"0:9")))["cri-o"] == ((b"0:9", b"/s"),)
    assert places(())["cri-o"] == ()


@pytest.mark.parametrize(
    ("mounts", "is_there"),
    [
        ([mount(b"/docker.sock", b"/tmp/innocent")], True),
        ([mount(b"/podman/podman.sock", device=b"0:77")], True),
        ([mount(b"/", b"/host/run")], True),
        ([mount(b"/containerd", b"/c")], True),
        ([mount(b"/", b"/host", b"8:1")], False),
        ([mount(b"/contain", b"/c")], False),
        ([mount(b"/", b"/run", b"0:99")], False),
        ([mount(b"/docker.sock//deleted")], False),
        ([mount(b"/mydocker.sock")], False),
        ([mount(b"/docker.sock", b"/a"), mount(b"/empty", b"/a")], False),
        ([], False),
    ],
    ids=["file", "podman", "/run", "its directory", "/ alone", "a name's beginning", "other", "gone", "no name", "covered", "none"],
)
def test_a_socket_is_there_by_itself_or_below_a_directory(mounts: list[Mount], is_there: bool) -> None:
    """It is not where only its name is, or where it would be in another file system."""
    assert is_reachable(mounts, SOCKETS) is is_there


def test_a_node_without_a_run_of_its_own_has_it_below_its_root() -> None:
    """So a container that has the node's root has it."""
    sockets = places(NODE[:1])["docker"]

    assert is_reachable([mount(b"/", b"/host", b"8:1")], sockets)
    assert not is_reachable([mount(b"/var/lib/docker/containers/1/hosts", b"/etc/hosts", b"8:1")], sockets)
