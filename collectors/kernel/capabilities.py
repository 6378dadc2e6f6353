"""Names of capabilities, by their numbers (include/uapi/linux/capability.h, capabilities(7)), and the runtimes' default set."""

from functools import cache

_NAMES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE"),
    *("NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT"),
    *("SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE"),
    *("AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ"),
    *("PERFMON", "BPF", "CHECKPOINT_RESTORE"),
)
_DEFAULT = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT"),
    *("MKNOD", "AUDIT_WRITE", "SETFCAP"),
)
DEFAULT = sum(1 << _NAMES.index(name) for name in _DEFAULT)
"""What Docker and containerd give a container that asks for nothing; CRI-O and Podman give less of the same."""

FEWEST = 38
"""All capabilities of a kernel are so many or more: those of 3.16 to 5.7 are 38."""


def beyond_default(mask: int) -> int:
    """Return the capabilities of a mask that are not in the default set."""
    return mask & ~DEFAULT


@cache
def names(mask: int) -> tuple[str, ...]:
    """Return the names in a mask, without CAP_; a number for one that is newer than this list."""
    return tuple(_NAMES[bit] if bit < len(_NAMES) else str(bit) for bit in range(mask.bit_length()) if mask >> bit & 1)


def is_all(mask: int) -> bool:
    """Whether a mask has every capability of its kernel, as that of a privileged container: there is no gap in it."""
    return mask & (mask + 1) == 0 and mask.bit_length() >= FEWEST
