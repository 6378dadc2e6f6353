"""What the agent costs: `python -m tests.bench.bench_pass [PROCESSES [SCRAPES]]`.

Starts that many sleeping processes and the agent, scrapes as often as Prometheus does in an hour (240 times, without waiting between),
and prints the CPU time of a scrape, the page's size, the memory held at the end and the cost of the process scan as a ratio to a C program
that opens, reads and closes every /proc/PID/stat. The agent keeps a casebook and asks no Docker.
"""

import gzip
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agent.naming import NAME_WITHIN_SECONDS
from collectors.kernel.files import descriptor_budget
from collectors.kernel.procfs import ProcessTable

C_SCAN = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char path[64], buffer[4096];
    int rounds = atoi(argv[1]);
    struct timespec start, end;
    double best = 1e9;
    for (int round = 0; round < rounds; round++) {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while ((entry = readdir(proc))) {
            if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
            snprintf(path, sizeof path, "/proc/%.20s/stat", entry->d_name);
            int fd = open(path, O_RDONLY);
            if (fd < 0) continue;
            if (read(fd, buffer, sizeof buffer) < 0) return 1;
            close(fd);
        }
        closedir(proc);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        double seconds = end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9;
        if (seconds < best) best = seconds;
    }
    printf("%f\n", best);
}
"""
ROUNDS = 15


@contextmanager
def sleepers(count: int) -> Iterator[None]:
    """Have so many sleeping processes."""
    leader = os.fork()
    if leader == 0:
        os.setpgid(0, 0)
        for _ in range(count):
            if os.fork() == 0:
                break
        signal.pause()
        os._exit(1)
    try:
        yield
    finally:
        os.killpg(leader, signal.SIGKILL)
        os.waitpid(leader, 0)


class Ratio(NamedTuple):
    """What something costs here and in C, in ms: the best of several rounds in one run."""

    here: float
    in_c: float

    def __str__(self) -> str:
        return f"{self.here:.1f} ms, {self.here / self.in_c:.2f}x the C program's {self.in_c:.1f} ms"


class Cost(NamedTuple):
    """What a scrape costs: CPU in ms, the memory in MiB that the agent holds after so many, and the page."""

    cpu: float
    memory: float
    scrapes: int
    page: bytes
    compressed: int

    def __str__(self) -> str:
        lines = self.page.count(b"coroner_")
        return (
            f"scrape           {self.cpu:.1f} ms of CPU\n"
            f"page             {len(self.page) / 1024:.1f} KiB, {self.compressed / 1024:.1f} KiB compressed, {lines} lines\n"
            f"resident memory  {self.memory:.1f} MiB after {self.scrapes} scrapes"
        )


def compare(source: str, arguments: list[str], work: Callable[[], object]) -> Ratio:
    """Do the work here and by a C program, which is given these arguments and prints seconds. Raises OSError without a compiler."""
    with tempfile.TemporaryDirectory() as directory:
        text, program = Path(directory, "bench.c"), Path(directory, "bench")
        text.write_text(source)
        subprocess.run(["cc", "-O2", "-o", program, text], check=True)
        work()
        rounds = []
        for _ in range(ROUNDS):
            start = time.thread_time()
            work()
            rounds.append(time.thread_time() - start)
        in_c = float(subprocess.run([program, str(ROUNDS), *arguments], check=True, capture_output=True, text=True).stdout)
    return Ratio(min(rounds) * 1000, in_c * 1000)


def scan_ratio() -> Ratio:
    """Scan all processes here and in C."""
    return compare(C_SCAN, [], ProcessTable("/proc", descriptor_budget(1)).scan)


def measure(scrapes: int, *flags: str) -> Cost:
    """Start the agent with these flags, scrape it, and return what that costs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    state = tempfile.TemporaryDirectory()
    usual = [f"--web.listen-address={address}", "--docker.url=", f"--path.state={state.name}", "--log.level=error"]
    agent = subprocess.Popen([f"{sys.prefix}/bin/coroner", *usual, *flags])
    try:
        request = urllib.request.Request(
            f"http://{address}/metrics", headers={"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"}
        )
        body = b""
        deadline = time.monotonic() + 60
        while not body:
            try:
                body = urllib.request.urlopen(request, timeout=30).read()
            except OSError:
                assert time.monotonic() < deadline, "the agent does not answer"
                time.sleep(0.1)
        time.sleep(NAME_WITHIN_SECONDS)  # what nobody names has a name by then
        before = cpu_seconds(agent.pid)
        for _ in range(scrapes):
            with urllib.request.urlopen(request, timeout=30) as response:
                body = response.read()
        cpu = cpu_seconds(agent.pid) - before
        return Cost(cpu / scrapes * 1000, resident_mib(agent.pid), scrapes, gzip.decompress(body), len(body))
    finally:
        agent.terminate()
        agent.wait()
        state.cleanup()


def main() -> None:
    """Measure and print."""
    processes, scrapes = (int(number) for number in [*sys.argv[1:3], *("2000", "240")[len(sys.argv[1:3]) :]])
    with sleepers(processes):
        print(f"processes        {processes}")
        print(measure(scrapes))
        print(f"process scan     {scan_ratio()}")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
