"""/proc/PID/cgroup: the v2 line, and never a part of one."""

import pytest

from collectors.kernel.process_cgroup import parse_cgroup

HYBRID = b"9:name=systemd:/init.scope\n4:memory:/0::/evil\n1:cpu,cpuacct:/\n0::/system.slice/docker-1.scope\n"


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"0::/\n", "/"),
        (b"0::/docker/1 (deleted)\n", "/docker/1"),
        (b"0::/kubepods.slice:cri-containerd:12\n", "/kubepods.slice:cri-containerd:12"),
        (b"0::/a::/b (x)/c\n", "/a::/b (x)/c"),
        (b"0::/..//../other\n", "/..//../other"),
        (b"0::/\xff\n", "/\\xff"),
        (HYBRID, "/system.slice/docker-1.scope"),
        (b"4:memory:/docker/1\n1:name=systemd:/docker/1\n", None),
        (b"", None),
    ],
    ids=["root", "deleted", "colons", "hostile", "another namespace", "not UTF-8", "hybrid", "v1 only", "nothing mounted"],
)
def test_cgroup(raw: bytes, path: str | None) -> None:
    """The v2 line, wherever it is."""
    assert parse_cgroup(raw) == path


@pytest.mark.parametrize("raw", [HYBRID, b"0::/docker/1 (deleted)\n"])
def test_cut_cgroup_never_gives_a_wrong_path(raw: bytes) -> None:
    """Cut after any byte, it is the true one, absent, or an error."""
    for end in range(len(raw)):
        try:
            path = parse_cgroup(raw[:end])
        except ValueError:
            continue
        assert path in (None, parse_cgroup(raw))
