"""What containers cost: `python -m tests.bench.bench_containers [CONTAINERS [SCRAPES]]`.

Makes a tree of fake cgroups in memory, a pod for each container, lets the agent look at it, and prints what bench_pass prints; and the cost
of the walk and of all reads of a pass, as a ratio to a C program that opens, reads and closes the same files.
Fake files are read faster than the kernel's, and nothing in them changes: compare, and do not quote.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from agent.changes import InotifyChanges
from collectors.kernel import cgroupfs
from collectors.kernel.files import KernelFiles, Unsupported, descriptor_budget
from collectors.kernel.hierarchy import Hierarchy
from tests.bench.bench_pass import Ratio, compare, measure
from tests.tree import FULL, Content, cgroup, tree

C_READ = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static char **names;
static int visit(const char *path, const struct stat *status, int kind, struct FTW *place) {
    char file[4096], buffer[4096];
    if (kind != FTW_D) return FTW_CONTINUE;
    for (char **name = names; *name; name++) {
        snprintf(file, sizeof file, "%s/%s", path, *name);
        int fd = open(file, O_RDONLY);
        if (fd < 0) continue;
        if (read(fd, buffer, sizeof buffer) < 0) exit(1);
        close(fd);
    }
    return FTW_CONTINUE;
}
int main(int argc, char **argv) {
    struct timespec start, end;
    double best = 1e9;
    names = argv + 3;
    for (int round = 0; round < atoi(argv[1]); round++) {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
        nftw(argv[2], visit, 64, FTW_PHYS);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        double seconds = end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9;
        if (seconds < best) best = seconds;
    }
    printf("%f\n", best);
}
"""

READERS: tuple[Callable[[KernelFiles, str], object], ...] = (
    *(cgroupfs.memory_current, cgroupfs.memory_inactive_file, cgroupfs.memory_peak, cgroupfs.memory_max, cgroupfs.memory_high),
    *(cgroupfs.memory_low, cgroupfs.memory_events, cgroupfs.cpu_stat, cgroupfs.cpu_limit, cgroupfs.io_stat, cgroupfs.pids_current),
    *(cgroupfs.pids_max, cgroupfs.pids_peak, cgroupfs.pids_events_max, cgroupfs.cgroup_events, cgroupfs.dying_descendants),
    *(partial(cgroupfs.pressure, resource=resource) for resource in ("cpu", "memory", "io")),
)
"""One for each file."""


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


def flags(root: str) -> list[str]:
    """Have the agent look at such a tree, and at nothing else."""
    return [f"--path.cgroupfs={root}/cgroup", "--path.bundles=", "--path.exits="]


def cgroup_ratio(root: Path) -> Ratio:
    """Read all files of all cgroups here, as passes do, and in C."""
    hierarchy, files = Hierarchy(f"{root}/cgroup"), KernelFiles(descriptor_budget(1), InotifyChanges("/proc"))

    def read_all() -> None:
        found = hierarchy.walk()
        files.begin_pass({each.directory: each.inode for each in found})
        for each in found:
            for reader in READERS:
                with suppress(Unsupported):
                    reader(files, each.directory)

    try:
        return compare(C_READ, [f"{root}/cgroup", *sorted(FULL)], read_all)
    finally:
        files.close()


def main() -> None:
    """Measure and print."""
    containers, scrapes = (int(number) for number in [*sys.argv[1:3], *("110", "240")[len(sys.argv[1:3]) :]])
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        make_node(Path(directory), containers)
        print(f"containers       {containers}")
        print(measure(scrapes, *flags(directory)))
        print(f"cgroup pass      {cgroup_ratio(Path(directory))}")


if __name__ == "__main__":
    main()
