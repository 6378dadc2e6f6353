"""A storm of deaths: `python -m tests.bench.bench_deaths [A_MINUTE [MINUTES [CONTAINERS]]]`, as root, on a machine with cgroup v2.

Real processes in cgroups of their own, each PID 1 of its own PID namespace, exit with code 3 within a moment, and the cgroup goes; a
crash loop, so that ids come again. Prints how many of the deaths the agent has counted, how their statuses were learnt, what the agent
needed for it, and its memory at the beginning and after each minute.
"""

import ctypes
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

from collectors.kernel.cgroupfs import find_root
from tests.bench.bench_pass import cpu_seconds, resident_mib

CLONE_NEWPID = 0x20000000
LIFE_SECONDS = 0.2
"""What runc needs to start a container is not less."""
SETTLE_SECONDS = 30
_libc = ctypes.CDLL(None, use_errno=True)


def live_and_die(directory: Path) -> None:
    """Be the runtime of a container: its init is PID 1 of a new PID namespace, in a new cgroup, and exits with 3."""
    directory.mkdir()
    if _libc.unshare(CLONE_NEWPID):
        os._exit(1)
    if (init := os.fork()) == 0:
        (directory / "cgroup.procs").write_text("0")
        time.sleep(LIFE_SECONDS)
        os._exit(3)
    _, status = os.waitpid(init, 0)
    directory.rmdir()
    os._exit(0 if os.waitstatus_to_exitcode(status) == 3 else 1)


def reap(runtimes: set[int], *, all_of_them: bool = False) -> None:
    """Wait for the runtimes that have ended, or for all."""
    for pid in list(runtimes):
        ended, status = os.waitpid(pid, 0 if all_of_them else os.WNOHANG)
        if ended:
            runtimes.discard(pid)
            assert status == 0, "no PID namespace of its own: run this as root"


def page(address: str) -> str:
    """Return the metrics."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as response:
        body: bytes = response.read()
    return body.decode()


def counted(text: str, metric: str, label: str) -> dict[str, int]:
    """Sum a metric up by one of its labels."""
    sums: Counter[str] = Counter()
    for value, number in re.findall(rf'(?m)^{metric}\{{.*\b{label}="([^"]*)".*\}} (\S+)$', text):
        sums[value] += int(float(number))
    return {value: number for value, number in sums.items() if number}


def main() -> None:
    """Measure and print."""
    rate, minutes, containers = (int(number) for number in [*sys.argv[1:4], *("1000", "2", "50")[len(sys.argv[1:4]) :]])
    root = find_root("/sys/fs/cgroup", "/proc/self/mountinfo")
    assert root is not None, "there is no cgroup v2"
    parent = Path(root, "docker")
    parent.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as state:
        flags = [f"--web.listen-address={address}", "--docker.url=", f"--path.state={state}", "--log.level=error"]
        agent = subprocess.Popen([f"{sys.prefix}/bin/coroner", *flags, "--path.bundles=", "--path.exits="])
        try:
            while True:
                try:
                    urllib.request.urlopen(f"http://{address}/readyz", timeout=60)
                    break
                except OSError:
                    assert agent.poll() is None, "the agent has ended"
                    time.sleep(0.1)
            cpu, memory = cpu_seconds(agent.pid), [resident_mib(agent.pid)]
            start, runtimes = time.monotonic(), set[int]()
            for number in range(rate * minutes):
                time.sleep(max(0.0, start + number * 60 / rate - time.monotonic()))
                reap(runtimes)
                if (runtime := os.fork()) == 0:
                    live_and_die(parent / f"{number % containers:064x}")
                runtimes.add(runtime)
                if number % (rate // 4) == 0:
                    page(address)
                if number % rate == rate - 1:
                    memory.append(resident_mib(agent.pid))
            reap(runtimes, all_of_them=True)
            seconds = time.monotonic() - start
            time.sleep(SETTLE_SECONDS)
            text = page(address)
            print(f"deaths           {rate * minutes} in {seconds:.0f} s, of {containers} containers")
            print(f"counted          {counted(text, 'coroner_container_deaths_total', 'cause')}")
            print(f"learnt           {counted(text, 'coroner_exit_statuses_total', 'how')}")
            print(f"CPU              {(cpu_seconds(agent.pid) - cpu) / rate / minutes * 1000:.1f} ms a death")
            print(f"resident memory  {', '.join(f'{each:.1f}' for each in [*memory, resident_mib(agent.pid)])} MiB")
        finally:
            agent.terminate()
            agent.wait()
            parent.rmdir()


if __name__ == "__main__":
    main()
