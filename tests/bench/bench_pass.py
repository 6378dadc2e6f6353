"""What the agent costs: `python -m tests.bench.bench_pass [PROCESSES [SCRAPES]]`.

Starts that many sleeping processes and the agent, scrapes as often as Prometheus does in an hour (240 times, without waiting between),
and prints the CPU time of a scrape, the page's size, the memory held at the end and, where a C compiler is there, the cost of the
process scan as a ratio to a C program that opens, reads and closes every /proc/PID/stat. The agent keeps a casebook and asks no Docker.
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
from pathlib import Path

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
        clock_gettime(CLOCK_MONOTONIC, &start);
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
        clock_gettime(CLOCK_MONOTONIC, &end);
        double seconds = end.tv_sec - start.tv_sec + (end.tv_nsec - start.tv_nsec) / 1e9;
        if (seconds < best) best = seconds;
    }
    printf("%f\n", best);
}
"""
ROUNDS = 15


def sleepers(count: int) -> int:
    """Start a process with so many sleeping children; return its PID, which leads their process group."""
    leader = os.fork()
    if leader == 0:
        os.setpgid(0, 0)
        for _ in range(count):
            if os.fork() == 0:
                break
        signal.pause()
    return leader


def scan_ratio() -> str:
    """Scan all processes here and in C, in one run; return the ratio of the best rounds."""
    with tempfile.TemporaryDirectory() as directory:
        source, program = Path(directory, "scan.c"), Path(directory, "scan")
        source.write_text(C_SCAN)
        try:
            subprocess.run(["cc", "-O2", "-o", program, source], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"not compared: {error}"
        table = ProcessTable("/proc", descriptor_budget())
        table.scan()
        rounds = []
        for _ in range(ROUNDS):
            start = time.monotonic()
            table.scan()
            rounds.append(time.monotonic() - start)
        in_c = float(subprocess.run([program, str(ROUNDS)], check=True, capture_output=True, text=True).stdout)
    return f"{min(rounds) * 1000:.1f} ms, {min(rounds) / in_c:.2f}x the C program's {in_c * 1000:.1f} ms"


def measure(scrapes: int, *flags: str) -> None:
    """Start the agent with these flags, scrape it, and print what that costs."""
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
        page = gzip.decompress(body)
        print(f"scrape           {cpu / scrapes * 1000:.1f} ms of CPU")
        print(f"page             {len(page) / 1024:.1f} KiB, {len(body) / 1024:.1f} KiB compressed, {page.count(b'coroner_')} lines")
        print(f"resident memory  {resident_mib(agent.pid):.1f} MiB after {scrapes} scrapes")
    finally:
        agent.terminate()
        agent.wait()
        state.cleanup()


def main() -> None:
    """Measure and print."""
    processes, scrapes = (int(number) for number in [*sys.argv[1:3], *("2000", "240")[len(sys.argv[1:3]) :]])
    leader = sleepers(processes)
    try:
        print(f"processes        {processes}")
        measure(scrapes)
        print(f"process scan     {scan_ratio()}")
    finally:
        os.killpg(leader, signal.SIGKILL)
        os.waitpid(leader, 0)


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
