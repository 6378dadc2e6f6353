"""What one container has as its root file system, and how large its writable layer is."""

import errno
import os
from dataclasses import dataclass
from typing import Literal

from agent.layer_walk import Changed, Pace, Stopped, TooLarge, disk_usage
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


@dataclass(frozen=True, slots=True)
class Root:
    """What a container has as its root. `kind` is "" if there is no init, or its root cannot be told."""

    kind: str = ""
    upper: bytes | None = None
    """Its writable layer, as a path from the root of PID 1 of the node; None: it has none, or it is not believed."""
    problem: str = ""
    is_early: bool = False
    """It is starting: its runtime has not given it a root of its own yet."""


def look(proc_root: str, directory: str, pace: Pace) -> Look:
    """Look at the container with this cgroup directory. It may take minutes. Raises Stopped."""
    root = root_of(proc_root, directory)
    if root.upper is None:
        return Look(Layer(root.kind) if root.kind else None, problem=root.problem)
    return _measured(proc_root, root.kind, root.upper, pace)


def root_of(proc_root: str, directory: str) -> Root:
    """Find the root of the container with this cgroup directory."""
    try:
        root = _root(proc_root, directory)
        # Were it believed, the node's own layer would be taken for the container's, on a node whose root is an overlay.
        if root is not None and root == root_mount(f"{proc_root}/1/mountinfo"):
            return Root(is_early=True)
        if root is None or root.upper is None:
            return Root(root.kind if root else "")
        # Whoever may mount could make any directory of the node look like its layer: only what PID 1 of the node sees mounted is believed.
        is_believed = has_overlay(f"{proc_root}/1/mountinfo", root)
    except ForeignProcesses:
        return Root(problem=FOREIGN)
    except Gone:
        return Root()
    except ReadError:
        return Root(problem=f"the roots of some containers are unknown: {proc_root}/PID/mountinfo cannot be read")
    return Root(root.kind, root.upper) if is_believed else Root(root.kind, problem=HIDDEN)


def measure_end(proc_root: str, upper: bytes, ended: float, pace: Pace) -> tuple[int | None, Result]:
    """Measure the layer of a container that ended, by the wall clock; `gone` if it is being removed. Raises Stopped."""
    try:
        return disk_usage(os.fsencode(f"{proc_root}/1/root") + upper, pace, unchanged_since=ended), "measured"
    except TooLarge:
        return None, "too_large"
    except (Changed, FileNotFoundError):
        return None, "gone"
    except OSError:
        return None, "failed"


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


__all__ = ("FOREIGN", "HIDDEN", "Look", "Result", "Root", "Stopped", "look", "measure_end", "root_of")
