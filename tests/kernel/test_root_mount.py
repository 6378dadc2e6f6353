"""The root of a process, from its mountinfo: literals as kernels print them, and whatever a container may put there."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.kernel import root_mount as module
from collectors.kernel.files import Gone, ReadError
from collectors.kernel.root_mount import RootMount, has_overlay, parse_root, root_mount

LAYER = "/var/lib/docker/overlay2/7f3c"
OVERLAY = (
    "741 612 0:52 / / rw,relatime master:241 - overlay overlay "
    f"rw,lowerdir=/var/lib/docker/overlay2/l/AB:/var/lib/docker/overlay2/l/CD,upperdir={LAYER}/diff,workdir={LAYER}/work\n"
)
REST = (
    "742 741 0:55 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n"
    "743 741 0:56 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755\n"
    "750 741 8:1 /var/lib/docker/containers/7f3c/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw\n"
)
ROOT = RootMount(b"0:52", b"/", "overlay", f"{LAYER}/diff".encode())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (OVERLAY, ROOT),
        ("741 612 0:52 / / ro,relatime - overlay overlay ro,lowerdir=/a:/b\n", RootMount(b"0:52", b"/", "overlay", None)),
        ("741 612 0:52 / / rw - overlay none rw,lowerdir=/a,upperdir=b/diff,workdir=/w\n", RootMount(b"0:52", b"/", "overlay", None)),
        (
            "741 612 0:52 / / rw - overlay  rw,lowerdir=l/A,upperdir=/u,workdir=/w,uuid=on,userxattr\n",
            RootMount(b"0:52", b"/", "overlay", b"/u"),
        ),
        (
            "90 80 0:40 /@/containers/1 / rw,relatime shared:1 - btrfs /dev/sda2 rw,subvol=/@/1,upperdir=/x\n",
            RootMount(b"0:40", b"/@/containers/1", "btrfs", None),
        ),
        ("90 80 253:7 / / rw,relatime - ext4 /dev/mapper/docker-8:1-12-ab rw,stripe=16\n", RootMount(b"253:7", b"/", "ext4", None)),
        ("90 80 0:61 / / rw - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0\n", RootMount(b"0:61", b"/", "fuse.fuse-overlayfs", None)),
        (OVERLAY.replace(" / / ", " /part / ", 1), RootMount(b"0:52", b"/part", "overlay", None)),
        ("90 80 0:61 / / rw - zfs pool/a\\040b rw,xattr\n", RootMount(b"0:61", b"/", "zfs", None)),
    ],
)
def test_the_kind_and_the_writable_layer_of_a_root(line: str, expected: RootMount) -> None:
    """Of an overlay its upperdir, if that can be found by anybody else."""
    assert parse_root((line + REST).encode()) == expected


def test_paths_have_escapes_of_the_kernel_around_those_of_overlayfs() -> None:
    """As 6.18 prints the upperdir `/sp ace,c:o/=`: a comma is never between options unless it stands as itself."""
    line = rb"741 612 0:52 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/sp\040ace\134\054c\134:o/\075,workdir=/w" + b"\n"

    assert parse_root(line) == RootMount(b"0:52", b"/", "overlay", b"/sp ace,c:o/=")


def test_what_was_mounted_over_the_root_later_is_not_the_root() -> None:
    """A process keeps the root that it has."""
    later = "790 741 0:77 / / rw - tmpfs tmpfs rw\n"

    assert parse_root((OVERLAY + REST + later).encode()) == ROOT


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n\n",
        b"garbage\n",
        OVERLAY.encode().rstrip(b"\n"),  # cut short
        REST.encode(),
        b"741 612 0:52 / / rw overlay overlay rw\n",
        b"741 612 0:52 /\n - overlay overlay rw\n",
        b"741 612 0:52 / / rw - over\\040lay overlay rw\n",
        b"741 612 0:52 / / rw - " + 65 * b"x" + b" overlay rw\n",
        b"741 612 0:52 / / rw - \xff\xfe overlay rw\n",
        b"741 612 0:52 / / rw - overlay overlay\n",
    ],
)
def test_what_is_no_root_is_none(raw: bytes) -> None:
    """It is absent then, never guessed."""
    assert parse_root(raw) is None


@given(st.binary())
def test_any_bytes_are_read_without_an_error(raw: bytes) -> None:
    """A kind, if there is one, can be a label."""
    for content in (raw, raw + b"\n", b"1 2 0:1 / / rw - " + raw + b" a upperdir=" + raw + b"\n"):
        found = parse_root(content)
        assert found is None or re.fullmatch("[A-Za-z0-9._+-]{1,64}", found.kind)
        assert found is None or found.upper is None or found.upper.startswith(b"/")


@given(st.binary().map(lambda name: b"/" + name.replace(b"\0", b"")))
def test_every_path_comes_out_as_it_went_in(path: bytes) -> None:
    """Escaped by the mounter for overlayfs, and by the kernel for the reader (seq_show_option)."""
    given_to_overlayfs = re.sub(rb"([\\,:])", rb"\\\1", path)
    shown = re.sub(rb"[ \t\n\\,=]", lambda found: b"\\%03o" % found[0][0], given_to_overlayfs)

    found = parse_root(b"741 612 0:52 / / rw - overlay overlay rw,lowerdir=/l,upperdir=" + shown + b",workdir=/w\n")

    assert found == RootMount(b"0:52", b"/", "overlay", path)


def test_only_the_head_of_a_containers_table_is_read(tmp_path: Path) -> None:
    """However many mounts it makes; the root is among the first."""
    table = tmp_path / "mountinfo"
    many = "".join(f"{number} 741 0:55 / /mnt/{number} rw - tmpfs tmpfs rw\n" for number in range(1000, 11_000))
    table.write_text(OVERLAY + many)
    assert root_mount(str(table)) == ROOT

    table.write_text(many + OVERLAY)
    assert root_mount(str(table)) is None


def test_a_table_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """With its outcome."""
    with pytest.raises(Gone):
        root_mount(f"{tmp_path}/1/mountinfo")


def test_the_nodes_table_has_the_same_overlay_elsewhere(tmp_path: Path) -> None:
    """By its device and its writable layer, for the device alone is used again, and a path can be anybody's."""
    table = tmp_path / "mountinfo"
    line = OVERLAY.replace(" / / ", f" / {LAYER}/merged ", 1)
    table.write_text("29 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + line)
    assert has_overlay(str(table), ROOT)
    assert not has_overlay(str(table), RootMount(b"0:53", b"/", "overlay", ROOT.upper))
    assert not has_overlay(str(table), RootMount(b"0:52", b"/", "overlay", b"/etc"))
    assert not has_overlay(str(table), RootMount(b"0:52", b"/", "overlay", None))

    table.write_text(f"29 1 0:53 / /tmp/{'0:52'}\\040x rw - overlay 0:52 rw,upperdir={LAYER}/diff\n{line.rstrip()}")
    assert not has_overlay(str(table), ROOT)


def test_a_part_of_the_nodes_table_is_not_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may mount can make it as long as the kernel lets them."""
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    table = tmp_path / "mountinfo"
    table.write_text(OVERLAY)

    with pytest.raises(ReadError, match="more than 100 bytes"):
        has_overlay(str(table), ROOT)
