"""Overlays in a mountinfo, among all other mounts and whatever is cut short."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel.files import Forbidden, Gone, ReadError
from collectors.kernel.mounts import Overlay, overlays, parse_overlays, root_devices
from tests.tree import forbid

DOCKER = (
    b"812 29 0:57 / /var/lib/docker/overlay2/1f/merged rw,relatime shared:311 - overlay overlay "
    b"rw,lowerdir=/var/lib/docker/overlay2/l/A:/var/lib/docker/overlay2/l/B,upperdir=/u,workdir=/w\n"
)
ROOT = b"900 850 0:57 / / rw,relatime master:311 - overlay overlay rw,lowerdir=/l\n"
OTHERS = (
    b"29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    b"31 29 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
    b"900 29 0:58 / /home/u/merged rw - fuse.fuse-overlayfs fuse-overlayfs rw\n"
)


def test_only_overlays(tmp_path: Path) -> None:
    """With their device, number and place; a FUSE file system of that name is none."""
    (tmp_path / "mountinfo").write_bytes(OTHERS + DOCKER + OTHERS)

    assert overlays(f"{tmp_path}/mountinfo") == {Overlay(b"0:57", b"812", b"/var/lib/docker/overlay2/1f/merged")}


def test_the_root_of_a_process_and_no_other_overlay(tmp_path: Path) -> None:
    """A pod that mounts a directory of the node has the roots of other containers in its mounts, and is not what they are kept for."""
    (tmp_path / "mountinfo").write_bytes(ROOT.replace(b"0:57", b"0:99") + DOCKER + OTHERS)

    assert root_devices(f"{tmp_path}/mountinfo") == {b"0:99"}
    (tmp_path / "mountinfo").write_bytes(OTHERS + DOCKER)
    assert root_devices(f"{tmp_path}/mountinfo") == frozenset()


def test_optional_fields_may_be_absent_or_many() -> None:
    """The separator says where they end (proc.rst 3.5)."""
    line = b"%s 29 0:5%s / /m rw,relatime%s - overlay x rw\n"

    assert {each.id for each in parse_overlays(line % (b"1", b"1", b"") + line % (b"2", b"2", b" shared:1 master:2 unbindable"))} == {
        b"1",
        b"2",
    }


def test_the_word_elsewhere_makes_no_overlay() -> None:
    """The kernel escapes the spaces of a path, and the first separator counts."""
    path = b"5 1 0:50 / /tmp/a\\040-\\040overlay\\040x rw - tmpfs tmpfs rw\n"
    source = b"6 1 0:51 / /tmp/b rw - fuse a - overlay b rw\n"

    assert parse_overlays(path + source) == frozenset()


def test_a_line_cut_short_is_none() -> None:
    """Half a device is another device."""
    assert parse_overlays(DOCKER[:-1]) == frozenset()
    assert parse_overlays(b"812 29 - overlay x rw\n") == frozenset()


def test_too_many_mounts_are_not_counted_in_part(tmp_path: Path) -> None:
    """Of the node a part is refused; of a container its root is at the head."""
    path = f"{tmp_path}/mountinfo"
    Path(path).write_bytes(ROOT + 50 * OTHERS)

    with pytest.raises(ReadError, match="more than 1000 bytes of mounts"):
        overlays(path, most=1000)
    assert root_devices(path, most=1000) == {b"0:57"}
    assert overlays(path, most=len(ROOT + 50 * OTHERS))


def test_a_process_that_ended_and_one_that_is_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of every other file."""
    with pytest.raises(Gone):
        overlays(f"{tmp_path}/7/mountinfo")
    forbid(monkeypatch)
    with pytest.raises(Forbidden):
        root_devices(f"{tmp_path}/mountinfo")


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b" - overlay ", b"\n", b" ", DOCKER, b"0:57"]))))
def test_any_bytes_are_overlays_or_nothing(pieces: list[bytes]) -> None:
    """Whoever mounts names the source as he likes."""
    for overlay in parse_overlays(b"".join(pieces)):
        assert b" " not in overlay.device + overlay.id + overlay.point


def test_the_kernels_own_can_be_read() -> None:
    """Whatever this machine has mounted."""
    assert all(b":" in overlay.device for overlay in overlays("/proc/self/mountinfo"))
