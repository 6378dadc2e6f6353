"""All mounts of a process: literals as kernels print them, and whatever a container may put there."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel.files import Gone
from collectors.kernel.mount_table import Mount, mounts, parse_mounts

ROOT = b"741 612 0:52 / / ro,relatime master:241 - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c\n"
SOCKET = b"761 741 0:22 /docker.sock /run/docker.sock rw,nosuid - tmpfs tmpfs rw,size=1k\n"


def test_each_line_is_a_mount() -> None:
    """With optional fields or without; read-only is the mount or the whole file system; spaces are escaped."""
    odd = b"762 741 8:1 /a\\040b /c\\134d rw shared:1 master:2 - ext4 /dev/sda1 ro,errors=continue\n"

    assert parse_mounts(ROOT + SOCKET + odd) == (
        Mount(b"0:52", b"/", b"/", is_read_only=True),
        Mount(b"0:22", b"/docker.sock", b"/run/docker.sock", is_read_only=False),
        Mount(b"8:1", b"/a b", b"/c\\d", is_read_only=True),
    )


@pytest.mark.parametrize("raw", [b"", b"\n", ROOT[:-1], ROOT.replace(b" - ", b" "), b"1 2 0:3 / / - tmpfs tmpfs rw\n", b" - \n"])
def test_what_is_no_whole_line_is_none(raw: bytes) -> None:
    """It is left out."""
    assert parse_mounts(raw) == ()
    assert parse_mounts(raw + b"\n" + SOCKET) in (parse_mounts(SOCKET), parse_mounts(ROOT + SOCKET))


@given(st.binary())
def test_garbage_raises_nothing(raw: bytes) -> None:
    """Whatever it is."""
    parse_mounts(raw)


def test_a_part_is_said_to_be_one(tmp_path: Path) -> None:
    """A container that may mount makes as many as it likes."""
    path = tmp_path / "mountinfo"
    path.write_bytes(ROOT + SOCKET)

    assert mounts(str(path), 1000) == (parse_mounts(ROOT + SOCKET), True)
    assert mounts(str(path), len(ROOT) + 5) == (parse_mounts(ROOT), False)
    with pytest.raises(Gone):
        mounts(str(tmp_path / "4711" / "mountinfo"), 1000)
