"""Groups that the OOM killer takes as a whole (memory.oom.group): how many kills of a cgroup the kernel may have counted twice.

The kernel takes the highest cgroup with memory.oom.group set, of those between the victim and the limit, and counts oom_group_kill there
and above (mm/memcontrol.c mem_cgroup_get_oom_group). Its first victim may be counted twice in oom_kill.
"""

import os
from contextlib import suppress

from collectors.kernel.cgroupfs import Cgroup, MemoryEvents, memory_events, memory_oom_group
from collectors.kernel.container_id import ancestors
from collectors.kernel.files import Forbidden, Gone, KernelFiles, Malformed, ReadError, Unsupported

_MOST_INSIDE = 1000
"""Cgroups that are looked at in a container: it may make any number of them."""


def group_kills(files: KernelFiles, cgroup: Cgroup, events: MemoryEvents, *, local_events: bool = False) -> int | None:
    """Most kills that oom_kill of this cgroup may have counted twice; 0 where no group is set. To be called after `events` were read.

    None is any number: a group is set, or nobody can tell any more, and the kernel does not count them (before 5.17). `local_events`:
    oom_group_kill is not counted above (memory_localevents). Raises plain ReadError.
    """
    highest, root = None, cgroup.directory.removesuffix(cgroup.path)
    for directory in (cgroup.directory, *(root + path for path in ancestors(cgroup.path)), root):
        try:
            if memory_oom_group(files, directory):
                highest = directory
        except (Gone, Malformed) as error:
            if directory == cgroup.directory and isinstance(error, Gone) and events.oom_group_kill is None:
                return None
        except Forbidden:  # its own group is counted in it; one above may be set
            if directory != cgroup.directory or events.oom_group_kill is None:
                return None
        except Unsupported:  # the root, or before 4.19
            pass
    if events.oom_group_kill is None:
        return None if highest is not None or _is_group_inside(files, cgroup.directory) else 0
    if highest is None or highest == cgroup.directory:
        return events.oom_group_kill
    with suppress(ReadError):
        above = memory_events(files, highest).oom_group_kill or 0
        return above + events.oom_group_kill if local_events else max(above, events.oom_group_kill)
    return None


def _is_group_inside(files: KernelFiles, directory: str) -> bool:
    """Whether a cgroup below is a group, or may be: systemd in a container sets that for its services (OOMPolicy=kill)."""
    pending, seen = [directory], 0
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        seen += 1
                        if seen > _MOST_INSIDE or _may_be_group(files, entry.path):
                            return True
        except PermissionError:
            return True
        except OSError:
            continue
    return False


def _may_be_group(files: KernelFiles, directory: str) -> bool:
    try:
        return memory_oom_group(files, directory)
    except ReadError as error:
        return isinstance(error, Forbidden)
