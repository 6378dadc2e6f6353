"""All that the agent is held to, measured in one run: `make bench`. Prints each figure beside its budget; takes some three minutes.

Ratios hold on any machine, whatever else it does; milliseconds and MiB are of this one.
"""

import tempfile
from pathlib import Path

from prometheus_client import generate_latest

from tests.bench import bench_containers, bench_page, bench_pass

PROCESSES = 2000
SCRAPES = 240
"""An hour's worth."""


def _print(what: str, measured: str, budget: str) -> None:
    print(f"{what:34} {measured:>20}   {budget}", flush=True)


def main() -> None:
    """Measure and print."""
    with bench_pass.sleepers(PROCESSES):
        scan = bench_pass.scan_ratio()
        _print(f"scan of {PROCESSES} processes", f"{scan.here / scan.in_c:.2f} x C", "at most 1 x C")
        _print("  scrape with them", f"{bench_pass.measure(SCRAPES).cpu:.1f} ms of CPU", "")
    page = list(bench_page.compare(openmetrics=False, generate=generate_latest).values())
    _print("page of 20,000 samples", f"{page[-1] / page[0]:.1f} x faster", "at least 10 x faster than prometheus_client")
    for containers, cpu, memory in ((110, "", "at most 45 MiB"), (1000, "at most 100 ms", "at most 65 MiB")):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
            bench_containers.make_node(Path(directory), containers)
            ratio = bench_containers.cgroup_ratio(Path(directory))
            _print(f"cgroup pass of {containers} containers", f"{ratio.here / ratio.in_c:.2f} x C", "at most 1 x C")
            cost = bench_pass.measure(SCRAPES, *bench_containers.flags(directory))
            _print("  scrape with them", f"{cost.cpu:.1f} ms of CPU", cpu)
            _print("  resident memory", f"{cost.memory:.1f} MiB", memory)


if __name__ == "__main__":
    main()
