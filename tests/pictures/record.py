"""Spend a day on two nodes in the lab, and keep what their Prometheus has seen."""

import sys
import tarfile
import time
from pathlib import Path

from tests.lab.boot import Machine, missing_packages

NODES = ("docker_host", "kubernetes_node")
"""The first says when the day is over."""


def record(recording: Path, seconds: float) -> None:
    """Boot both nodes, let so many seconds pass on each, and write the blocks of both to this archive."""
    if missing := missing_packages():
        sys.exit(f"the lab needs these Debian packages: {' '.join(missing)}")
    pytest = [sys.executable, "-m", "pytest", "--color=no", "--timeout=0", "-p", "no:cacheprovider", "-p", "tests.lab.guest.conftest"]
    longer = [0, *(600 for _ in NODES[1:])]
    machines = [
        Machine([*pytest, f"tests/pictures/{node}.py"], files={"seconds": str(seconds + more)})
        for node, more in zip(NODES, longer, strict=True)
    ]
    try:
        while not all(machine.has_ended() for machine in machines):
            if _has_blocks(machines[0]):
                for machine in machines[1:]:
                    (machine.shared / "over").touch()
            for machine in machines:
                if machine.has_ended() and not _has_blocks(machine):  # a day that was not finished, or a kernel that panicked
                    sys.exit(machine.console())
            time.sleep(1)
        if not all(map(_has_blocks, machines)):
            sys.exit("\n".join(machine.console() for machine in machines))
        with tarfile.open(recording, "w:xz") as tar:
            for machine in machines:
                tar.add(machine.shared / "blocks", ".")
    finally:
        for machine in machines:
            machine.stop()


def _has_blocks(machine: Machine) -> bool:
    return (machine.shared / "blocks").exists()
