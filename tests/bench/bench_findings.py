"""What findings cost: `python -m tests.bench.bench_findings [CONTAINERS...]`.

Makes the tree of bench_containers, once with nothing wrong and once with something wrong with each container, and prints the CPU time of
a pass, the part of it that the rules take, and how long one `coroner check --no-daemon` takes from its start to its end.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent.app import App
from agent.config import load
from agent.naming import NAME_WITHIN_SECONDS
from collectors import NAMES
from collectors.findings import examine
from tests.bench.bench_containers import make_node
from tests.tree import Content

ROUNDS = 20
CALM: dict[str, Content] = {
    "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
    "pids.events": "max 0\n",
}


async def measure(flags: list[str]) -> None:
    """Print the cost of a pass and of the rules."""
    app = App(load(flags, {}, NAMES))
    await app.gather.look(60)
    app.census.ahead = NAME_WITHIN_SECONDS
    await app.gather.collect(60)
    passes, rules = [], []
    samples, found = 0, 0
    for _ in range(ROUNDS):
        started = time.process_time()
        collected = (await app.gather.collect(60)).samples
        ended = time.process_time()
        found = len(examine(collected, now=time.time()).findings)
        samples = len(collected)
        passes.append(ended - started)
        rules.append(time.process_time() - ended)
    print(f"pass             {min(passes) * 1000:.1f} ms of CPU, {samples} samples")
    print(f"rules            {min(rules) * 1000:.2f} ms of CPU, {min(rules) / min(passes):.1%} of it, {found} findings")


def main() -> None:
    """Measure and print."""
    for containers in map(int, sys.argv[1:] or ("110", "200", "1000")):
        for what, files in (("calm", CALM), ("something wrong with each", {})):
            with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
                make_node(Path(directory), containers, files)
                flags = [f"--path.cgroupfs={directory}/cgroup", *("--path.bundles=", "--path.exits=", "--path.state=", "--docker.url=")]
                print(f"containers       {containers}, {what}")
                asyncio.run(measure(flags))
                started = time.monotonic()
                command = [f"{sys.prefix}/bin/coroner", "check", "--no-daemon", *flags]
                subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                print(f"coroner check    {time.monotonic() - started:.2f} s")


if __name__ == "__main__":
    main()
