"""Which cgroup a process is in: /proc/PID/cgroup (cgroups(7))."""

import posixpath

from collectors.kernel.formats import lines


def parse_cgroup(raw: bytes) -> str | None:
    """Return the cgroup v2 path from /proc/PID/cgroup; None on a host without one.

    A zombie keeps the path; a removed cgroup's has ` (deleted)` appended, which is taken off here. Raises ValueError.
    """
    if raw and not raw.endswith(b"\n"):
        raise ValueError("cut short")
    for line in lines(raw):
        if line.startswith(b"0::"):
            return line[3:].removesuffix(b" (deleted)").decode(errors="backslashreplace")
    return None


def rebase(path: str, own: str) -> str:
    """Turn a path of /proc/PID/cgroup, which is relative to the reader's cgroup namespace, into one from the hierarchy's root.

    `own` is where that namespace's root is, "/" outside of any. A process elsewhere is shown as `/../../other/pod`.
    """
    return path if own == "/" else posixpath.normpath(f"{own}/{path}")
