"""What one container has as its root file system, and how large its writable layer is."""

import errno
import os
from dataclasses import dataclass
from typing import Literal

from agent.layer_walk import Pace, Stopped, TooLarge, disk_usage
from collectors.kernel.container_init import ForeignProcesses, running_init
from collectors.kernel.files import Gone, ReadError, parse_once
from collectors.kernel.process_stat import parse_stat
from collectors.kernel.root_mount import RootMount, has_overlay, root_mount
from collectors.layers import Layer

Result = Literal["measured", "too_large", "gone", "failed"]

FOREIGN = "containers are in other PID namespaces: run the agent in that of the node (hostPID: true, --pid=host)"
HIDDEN = "the layers of some containers are not measured: their roots are not mounted where PID 1 of the node sees them"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found. `result` is how a walk ended, None if there was none; `problem` why something is missing, of no container by name."""

    layer: Layer | None = None
    """None: there is no init, or its root cannot be told."""
    result: Result | None = None
    problem: str = ""


def look(proc_root: str, directory: str, pace: Pace) -> Look:
    """Look at the container with this cgroup directory. It may take minutes. Raises Stopped."""
    try:
        root = _root(proc_root, directory)
        if root is None or root.upper is None:
            return Look(Layer(root.kind) if root else None)
        # Whoever may mount could make any directory of the node look like its layer: only what PID 1 of the node sees mounted is believed.
        is_believed = has_overlay(f"{proc_root}/1/mountinfo", root)
    except ForeignProcesses:
        return Look(problem=FOREIGN)
    except Gone:
        return Look()
    except ReadError:
        return Look(problem=f"the roots of some containers are unknown: {proc_root}/PID/mountinfo cannot be read")
    return _measured(proc_root, root.kind, root.upper, pace) if is_believed else Look(Layer(root.kind), problem=HIDDEN)


def _root(proc_root: str, directory: str) -> RootMount | None:
    """Read the root of a container's init; None if it has none, or if it ended and its PID may be another process' by now."""
    init = running_init(proc_root, directory)
    if init is None:
        return None
    try:
        found = root_mount(f"{proc_root}/{init.pid}/mountinfo")
    except ReadError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EINVAL:  # a zombie has no mounts
            return None
        raise
    return found if parse_once(f"{proc_root}/{init.pid}/stat", parse_stat).start_time == init.start_time else None


def _measured(proc_root: str, kind: str, upper: bytes, pace: Pace) -> Look:
    try:
        pace.rest()
        size = disk_usage(os.fsencode(f"{proc_root}/1/root") + upper, pace)
    except TooLarge:
        return Look(Layer(kind), "too_large")
    except FileNotFoundError:
        return Look(Layer(kind), "gone")
    except OSError as error:
        why = os.strerror(error.errno or 0)
        return Look(Layer(kind), "failed", f"the layers of some containers cannot be read: {why}; it needs CAP_DAC_READ_SEARCH")
    return Look(Layer(kind, size), "measured")


__all__ = ("FOREIGN", "HIDDEN", "Look", "Result", "Stopped", "look")
