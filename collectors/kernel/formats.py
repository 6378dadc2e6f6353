"""The four formats that nearly all cgroup v2 files share (Documentation/admin-guide/cgroup-v2.rst, "Format").

Every kernel file ends in a newline. A last line without one was cut short, and a cut number is a wrong number: it is never returned.
A counter that fell below 0 is printed as what it is, or as 2^64 less that: neither is an amount.
All functions raise ValueError; `KernelFiles.parsed` turns that into Malformed with the path.
"""

_LARGEST = (1 << 63) - 1


def lines(raw: bytes) -> list[bytes]:
    """Split into complete lines; what follows the last newline is dropped."""
    return raw.split(b"\n")[:-1]


def single(raw: bytes) -> int | None:
    """Parse one amount; None for `max`, which means no limit.

    >>> single(b"1048576\\n"), single(b"max\\n")
    (1048576, None)
    """
    if raw == b"max\n":
        return None
    if not raw.endswith(b"\n"):
        raise ValueError("cut short")
    return amount(raw)


def amount(raw: bytes) -> int:
    """Parse what is an amount or a count, and can be one."""
    number = int(raw)
    if not 0 <= number <= _LARGEST:
        raise ValueError("no amount is negative or so large")
    return number


def flat(raw: bytes, known: bytes) -> dict[bytes, int]:
    """Parse `key value` lines. Unknown keys are kept (newer kernels add some); without the `known` one it is the wrong file.

    >>> flat(b"oom 1\\noom_kill 2\\n", known=b"oom")
    {b'oom': 1, b'oom_kill': 2}
    """
    if not raw.endswith(b"\n"):
        raise ValueError("cut short")
    values: dict[bytes, int] = {}
    for line in lines(raw):
        key, value = line.split(b" ")
        values[key] = int(value)
    if known not in values:
        raise ValueError(f"no line for {known.decode()}")
    if max(values.values()) > _LARGEST or min(values.values()) < 0:
        raise ValueError("no count is negative or so large")
    return values


def nested(raw: bytes) -> dict[bytes, dict[bytes, bytes]]:
    """Parse `name key=value key=value` lines into {name: {key: value}}; values are left as bytes.

    Some kernels cut io.stat at the size of a page: a line without its end is dropped, and the others stand.

    >>> nested(b"8:0 rbytes=1 wbytes=2\\n")
    {b'8:0': {b'rbytes': b'1', b'wbytes': b'2'}}
    """
    table: dict[bytes, dict[bytes, bytes]] = {}
    for line in lines(raw):
        name, *pairs = line.split()
        table[name] = dict([pair.split(b"=", 1) for pair in pairs])  # raises ValueError where there is no =
    return table
