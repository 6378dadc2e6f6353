"""Spend a day on two nodes in the lab, and keep what their Prometheus has seen."""

import shutil
import sys
import time
from pathlib import Path

from tests.lab.boot import Machine, missing_packages

NODES = ("docker_host", "kubernetes_node")
"""The first says when the day is over."""


def record(blocks: Path, seconds: float) -> None:
    """Boot both nodes, let so many seconds pass on each, and write the blocks of both to this directory."""
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
            if machines[0].has_ended() or (machines[0].shared / "blocks").exists():
                for machine in machines[1:]:
                    (machine.shared / "over").touch()
            time.sleep(1)
        for machine in machines:
            if not (machine.shared / "blocks").exists():
                sys.exit(machine.console())
        shutil.rmtree(blocks, ignore_errors=True)
        for machine in machines:
            shutil.copytree(machine.shared / "blocks", blocks, dirs_exist_ok=True)
    finally:
        for machine in machines:
            machine.stop()


if __name__ == "__main__":
    record(Path(sys.argv[1]), float(sys.argv[2]))
