r"""The kernel log's lines about faults that end a process: one Record -> Fault. No I/O.

Printed when a fault has no handler, so that its signal ends the process, PID 1 of a namespace too:

    web[77]: segfault at 0 ip 00007f65 sp 00007ffd error 4 in libc.so.6[167ad8,7f65+156000] likely on CPU 1 (core 1, socket 0)
    traps: web[77] trap invalid opcode ip:7ffb sp:7ffd error:0 in web[0,7ffb+1000]
    web[77] control protection ip:7ffb sp:7ffd ssp:7ff7 error:1(near ret) in web[7ffb+1000]
    web[77]: unhandled exception: DABT (lower EL), ESR 0x0000000092000051, synchronous tag check fault in web[b847+1000]

The first three are x86's (arch/x86/mm/fault.c, kernel/traps.c, kernel/cet.c), the first also that of user-mode Linux, the last is arm64's
(arch/arm64/kernel/traps.c). What follows ` in ` is printed apart (pr_cont), and missing if another CPU printed in between. There are ten of
them in five seconds at most, and none without debug.exception-trace, which is on by default on x86 and off on arm64. A signal that somebody
sends, as kill -SEGV or abort(), has none.
"""

import re
from dataclasses import dataclass

from collectors.kernel.kmsg import Record

_EMERGENCY, _INFO = 0, 6
_HEX = rb"[0-9a-f]{1,16}"
_ADDRESS = rb" *(?:" + _HEX + rb"|\(null\))"
"""%p writes 0 as (null), in a field of a fixed width (up to 4.14)."""
_WHERE = rb"(?: in .*\[%s(?:,%s)?\+%s\])?(?: likely on CPU \d+ \(core \d+, socket \d+\))?" % (_HEX, _HEX, _HEX)
"""The file may be called like anything; 6.10 and later have the offset in it, too."""
_WHO = rb"(?P<comm>.{0,15})\[(?P<pid>\d{1,10})\]"
"""A name has at most 15 bytes, and what has to follow the number is longer: a name cannot hold it, so there is one way to read a line."""

_SEGFAULT = _WHO + rb": segfault at %s ip%s sp%s error %s" % (_HEX, _ADDRESS, _ADDRESS, _HEX) + _WHERE
_TRAP = rb"traps: " + _WHO + rb" (?:trap )?(?P<trap>[A-Za-z0-9][A-Za-z0-9 ]{0,39}) ip:%s sp:%s error:%s" % (_HEX, _HEX, _HEX) + _WHERE
_SHADOW_STACK = _WHO + rb" control protection ip:%s sp:%s ssp:%s error:%s\([a-z ]*\)(?: in enclave)?" % (_HEX, _HEX, _HEX, _HEX) + _WHERE
_ARM64 = _WHO + rb": unhandled exception: [\w ,()/:.-]*" + _WHERE

_PATTERNS = tuple(re.compile(each, re.DOTALL) for each in (_SEGFAULT, _TRAP, _SHADOW_STACK, _ARM64))
_PARTS = (b"]: segfault at ", b"] control protection ip:", b"]: unhandled exception: ")
_TRAPS = b"traps: "

_SIGSEGV = 11
_SIGNALS = {
    b"divide error": 8,
    b"int3": 5,
    b"overflow": _SIGSEGV,
    b"bounds": _SIGSEGV,
    b"invalid opcode": 4,
    b"coprocessor segment overrun": 8,
    b"invalid TSS": _SIGSEGV,
    b"segment not present": 7,
    b"stack segment": 7,
    b"alignment check": 7,
    b"general protection": _SIGSEGV,
    b"general protection fault": _SIGSEGV,
    b"iret exception": 4,
}
"""Which signal follows (arch/x86/kernel/traps.c); x86's numbers are those of nearly all."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that ended a process."""

    pid: int
    """In the first PID namespace; of the thread, which in a process of several may be another number than the process has."""
    comm: bytes
    """The name that the thread gave itself: up to 15 bytes of anything."""
    signal: int | None
    """That ended it; None if the line does not say."""
    text: bytes
    """The line."""


def concerns_fault(text: bytes) -> bool:
    """Whether a text may be a line about a fault, or a part of one."""
    return text.startswith(_TRAPS) or any(part in text for part in _PARTS)


def looks_like_fault(text: bytes) -> bool:
    """Whether a text would count as evidence of a fault. In a record of facility != 0 that is a forgery."""
    return _match(text) is not None


def fault_of(record: Record) -> Fault | None:
    """Return the fault that a record is about; None if it is about none, or was not written by the kernel."""
    # The level keeps out what the kernel says of a mount(2), which begins with any text that was asked for.
    if record.facility != 0 or record.continuation or record.level not in (_INFO, _EMERGENCY):
        return None
    match = _match(record.text)
    if match is None or not 0 < int(match["pid"]) < 1 << 31:
        return None
    trap = match.groupdict().get("trap")
    is_arm = match.re is _PATTERNS[-1]
    signal = _SIGNALS.get(trap) if trap is not None else None if is_arm else _SIGSEGV
    return Fault(int(match["pid"]), match["comm"], signal, record.text)


def _match(text: bytes) -> re.Match[bytes] | None:
    if not concerns_fault(text):
        return None
    return next((match for pattern in _PATTERNS if (match := pattern.fullmatch(text))), None)
