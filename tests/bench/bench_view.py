"""What a look at the pages costs: `python -m tests.bench.bench_view [CONTAINERS [VIEWS]]`.

Makes a tree of fake cgroups in memory, a pod for each container, lets the agent look at it, and looks at its first page so many times; at
the same time it asks /healthz again and again, which says how long the event loop is not free. Prints the medians and the longest.
"""

import gzip
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from agent.web.view import SHARED_SECONDS
from tests.bench.bench_containers import make_node
from tests.bench.bench_pass import cpu_seconds, resident_mib


def fetch(url: str) -> bytes:
    """Fetch what is there, as a browser does."""
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept-Encoding": "gzip"}), timeout=60) as response:
        body: bytes = response.read()
        return gzip.decompress(body) if response.headers["Content-Encoding"] == "gzip" else body


def main() -> None:
    """Measure and print."""
    containers, views = (int(number) for number in [*sys.argv[1:3], *("1000", "10")[len(sys.argv[1:3]) :]])
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        make_node(Path(directory), containers)
        paths = [f"--path.cgroupfs={directory}/cgroup", "--path.bundles=", "--path.exits=", "--path.state=", "--docker.url="]
        agent = subprocess.Popen(
            [f"{sys.prefix}/bin/coroner", f"--web.listen-address={url.removeprefix('http://')}", "--log.level=error", *paths]
        )
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    fetch(f"{url}/readyz")
                    break
                except OSError:
                    assert time.monotonic() < deadline, "the agent does not answer"
                    time.sleep(0.1)
            time.sleep(11)  # what nobody names has a name by then
            fetch(f"{url}/metrics")
            before = resident_mib(agent.pid)
            waits: list[float] = []
            done = threading.Event()

            def probe() -> None:
                while not done.is_set():
                    start = time.monotonic()
                    fetch(f"{url}/healthz")
                    waits.append(time.monotonic() - start)
                    time.sleep(0.002)

            threading.Thread(target=probe).start()
            cpu, body = cpu_seconds(agent.pid), b""
            for _ in range(views):
                body = fetch(f"{url}/")
                time.sleep(SHARED_SECONDS + 0.2)
            done.set()
            print(f"containers       {containers}")
            print(f"view             {(cpu_seconds(agent.pid) - cpu) / views * 1000:.0f} ms of CPU, {len(body) / 1024:.0f} KiB")
            print(f"event loop       {statistics.median(waits) * 1000:.1f} ms until /healthz answers, {max(waits) * 1000:.1f} at most")
            print(f"resident memory  {before:.1f} MiB before the first view, {resident_mib(agent.pid):.1f} after the last")
        finally:
            agent.terminate()
            agent.wait()


if __name__ == "__main__":
    main()
