"""Where the node's cgroup v2 hierarchy is, and what it lacks."""

import logging

from agent.config import Config
from agent.status import Status
from collectors.kernel import cgroupfs
from collectors.kernel.files import ReadError

log = logging.getLogger(__name__)


def find_cgroup_root(config: Config, status: Status, notes: list[str]) -> str | None:
    """Find where cgroup v2 is mounted; None and why not in the status. `notes` are for the status page."""
    try:
        root = cgroupfs.find_root(config.cgroupfs, f"{config.procfs}/self/mountinfo")
    except ReadError as error:
        status.down(
            f"{error}: so nobody can tell where cgroup v2 is mounted, and it is not at {config.cgroupfs} itself; set "
            "--path.procfs to where procfs is mounted, or --path.cgroupfs to where the host's hierarchy is"
        )
        return None
    if root is None:
        status.down(
            f"{config.cgroupfs}: no cgroup v2 here or below (cgroup v1 is not supported); boot with "
            "systemd.unified_cgroup_hierarchy=1, or set --path.cgroupfs to where the host's hierarchy is mounted"
        )
        return None
    try:
        missing = [name for name in ("memory", "cpu", "pids", "io") if name not in cgroupfs.controllers(root)]
    except ReadError as error:
        status.down(str(error))
        return root
    if missing:
        notes.append(f"cgroup v2 at {root} has no controller {', '.join(missing)}: what they measure is absent")
        log.warning("cgroup v2 lacks controllers", extra={"path": root, "missing": ",".join(missing)})
    return root
