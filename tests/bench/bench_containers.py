"""What containers cost: `python -m tests.bench.bench_containers [CONTAINERS [SCRAPES]]`.

Makes a tree of fake cgroups in memory, a pod for each container, lets the agent look at it, and prints what bench_pass prints. Fake files
are read faster than the kernel's: compare, and do not quote.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.bench.bench_pass import measure
from tests.tree import FULL, Content, cgroup, tree


def make_node(root: Path, containers: int, files: Mapping[str, Content] | None = None) -> None:
    """Make the cgroups of so many pods with one container each; `files` are those in which the containers are not as usual."""
    slice_files = {name: content for name, content in FULL.items() if name.startswith("memory.")}
    tree(root, {"cgroup/cgroup.controllers": "cpu io memory pids\n"})
    above = ["/kubepods.slice", "/kubepods.slice/kubepods-burstable.slice"]
    for number in range(containers):
        pod = f"{above[-1]}/kubepods-burstable-pod{number:08d}_1234_1234_1234_123456789abc.slice"
        above.insert(0, pod)
        tree(root, cgroup(f"{pod}/cri-containerd-{number:012x}{52 * '0'}.scope", {**FULL, **(files or {})}))
    for path in above:
        tree(root, cgroup(path, slice_files))


def main() -> None:
    """Measure and print."""
    containers, scrapes = (int(number) for number in [*sys.argv[1:3], *("110", "240")[len(sys.argv[1:3]) :]])
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        make_node(Path(directory), containers)
        print(f"containers       {containers}")
        measure(scrapes, f"--path.cgroupfs={directory}/cgroup", "--path.bundles=", "--path.exits=")


if __name__ == "__main__":
    main()
