"""What /proc says of the whole node: numbers of tasks, settings, names of block devices (Documentation/filesystems/proc.rst)."""

from collections.abc import Callable

from collectors.kernel.cgroupfs import Pressure, pressure_totals
from collectors.kernel.files import Gone, Malformed, ReadError, Unsupported, parse_once, read_once
from collectors.kernel.formats import lines


def threads(root: str) -> int:
    """Tasks on the node, zombies included (/proc/loadavg, behind the slash; global even in a PID namespace). Raises ReadError."""
    path = f"{root}/loadavg"
    return _number(path, read_once(path), lambda raw: raw.split()[3].split(b"/")[1])


def kernel_setting(root: str, name: str) -> int:
    """One number of /proc/sys/kernel. Raises ReadError."""
    path = f"{root}/sys/kernel/{name}"
    return _number(path, read_once(path), lambda raw: raw)


def inotify_watches(root: str) -> int:
    """Return how many inotify watches a user may have (/proc/sys/fs/inotify/max_user_watches). Raises ReadError."""
    path = f"{root}/sys/fs/inotify/max_user_watches"
    return _number(path, read_once(path), lambda raw: raw)


def memory_cgroups_are_off(root: str) -> bool:
    """Whether the kernel was booted with cgroup_disable=memory (/proc/cgroups, enabled 0); a line that is missing does not say so."""
    try:
        raw = read_once(f"{root}/cgroups")
    except ReadError:
        return False
    return any(line.startswith(b"memory\t") and line.endswith(b"\t0") for line in raw.splitlines())


def pressure(root: str, resource: str) -> Pressure:
    """Pressure stall totals of the whole node since it booted: `cpu`, `memory` or `io` (/proc/pressure/RESOURCE). Raises ReadError."""
    return parse_once(f"{root}/pressure/{resource}", pressure_totals)


def _number(path: str, raw: bytes, field: Callable[[bytes], bytes]) -> int:
    try:
        return int(field(lines(raw)[0]))
    except (ValueError, LookupError) as error:
        raise Malformed(path, f"not the documented format: {raw[:80]!r}") from error


def block_devices(root: str) -> dict[str, str]:
    """Names of block devices by `major:minor` (/proc/partitions); empty when the kernel has no such file. Raises ReadError."""
    try:
        raw = read_once(f"{root}/partitions")
    except (Gone, Unsupported):
        return {}
    rows = [line.decode(errors="backslashreplace").split() for line in lines(raw)]
    return {f"{row[0]}:{row[1]}": row[3] for row in rows if len(row) == 4 and row[0] != "major"}
