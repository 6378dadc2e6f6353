"""How a process ended, from the kernel: what a pidfd tells after it was waited for, and the zombie's /proc/PID/stat before that.

The ioctl PIDFD_GET_INFO is Linux 6.13, and its exit status, which needs no privilege, 6.15 (include/uapi/linux/pidfd.h, fs/pidfs.c). The
kernel says in a mask what it told: that is looked at, never its version.
"""

import errno
import fcntl
import struct
from dataclasses import dataclass

_GET_INFO = 0xC040FF0B
"""_IOWR(0xFF, 11, 64 bytes): with the struct pidfd_info of 6.13, which every later kernel takes too."""
_INFO = struct.Struct("=QQ11Ii")
"""mask cgroupid pid tgid ppid ruid rgid euid egid suid sgid fsuid fsgid exit_code."""
_CGROUPID, _EXIT = 4, 8


@dataclass(frozen=True, slots=True)
class Info:
    """What a pidfd tells; None is not told. `exit_status` is as of wait(2)."""

    exit_status: int | None
    cgroup_inode: int | None
    is_reaped: bool
    """Somebody has waited for it: from now on /proc does not have it."""


def info(fd: int) -> Info | None:
    """Ask a pidfd; None where the kernel is older than 6.13."""
    request = bytearray(_INFO.pack(_EXIT | _CGROUPID, *[0] * 13))
    try:
        fcntl.ioctl(fd, _GET_INFO, request)
    except OSError as error:
        # ESRCH: it was waited for, and this kernel (6.13, 6.14) keeps nothing of it; or it is of a PID namespace that is not below ours.
        return Info(None, None, is_reaped=True) if error.errno == errno.ESRCH else None
    return parse(request)


def parse(answer: bytes | bytearray) -> Info:
    """Parse a struct pidfd_info. Raises struct.error for one of another size."""
    mask, cgroup, *_, code = _INFO.unpack(answer)
    return Info(code if mask & _EXIT else None, cgroup if mask & _CGROUPID else None, is_reaped=bool(mask & _EXIT))


def zombie_status(stat: bytes, *, is_permitted: bool) -> int | None:
    """Return the wait status from the /proc/PID/stat of a zombie (field 52, exit_code); None of a process that has not ended as a whole.

    The kernel prints 0 for who may not ptrace the process, so without that permission only another number is believed. Before 5.17 it is
    that of the first thread, which may have ended before the others with another one (fs/proc/array.c). Raises ValueError.
    """
    fields = _fields(stat, 52)
    if fields[0] not in (b"Z", b"X") or int(fields[17]) > 1:  # a dead leader whose other threads live on is in state Z too
        return None
    status = int(fields[49])
    return status if status or is_permitted else None


def is_permitted(stat: bytes) -> bool:
    """Whether the reader of a living process' /proc/PID/stat may ptrace it: else start_code (field 26) is 1. Raises ValueError.

    That tells what a capability does not, such as an AppArmor profile that denies ptrace all the same. One without memory (vsize, field 23)
    has no code either, and tells nothing.
    """
    fields = _fields(stat, 26)
    return int(fields[20]) > 0 and int(fields[23]) != 1


def _fields(stat: bytes, number: int) -> list[bytes]:
    """Return fields from the third (state) on, complete up to `number`; the second, a name, may hold spaces and parentheses."""
    fields = stat[stat.rindex(b")") + 2 :].split()
    if len(fields) < number - 2 or not stat.endswith(b"\n"):
        raise ValueError(f"cut short: {stat[:80]!r}")
    return fields
