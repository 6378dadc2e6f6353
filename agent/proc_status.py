"""Whether /proc could be read, by the pass that has just read it: nobody follows it, a scan tells."""

from collections.abc import Mapping

from agent.status import Status
from collectors.base import Node
from collectors.init import Init
from collectors.services import Services
from collectors.sessions import Sessions
from collectors.zombies import Zombies

SCANNING = (Zombies.name, Sessions.name, Services.name, Init.name)
"""The collectors without which nobody scans /proc."""


class ProcStatus:
    """The source `proc`; `proc_root` is where procfs is mounted."""

    def __init__(self, proc_root: str) -> None:
        self.status = Status("proc")
        self._proc_root = proc_root

    def assess(self, node: Node, failures: Mapping[str, str]) -> None:
        """Judge it by a pass; `failures` says why collectors failed."""
        if not node.scans:
            self.status.down(next((failures[name] for name in SCANNING if name in failures), "not scanned"))
        elif reason := self.forbidden(node):
            self.status.down(reason)
        else:
            self.status.up()

    def forbidden(self, node: Node) -> str:
        """Say what a pass was not allowed to read; empty: it was, or has not tried."""
        if not node.scans or not node.scans[0].unreadable:
            return ""
        return (
            f"{self._proc_root}/PID/ns/pid: forbidden for {node.scans[0].unreadable} processes, which are counted as unknown; needs "
            "CAP_SYS_PTRACE, and AppArmor unconfined in a container (deploy/README.md)"
        )
