"""Make docker-6.1 anew: stage a Docker host in the lab, with something of everything the agent tells, and capture it.

    python -m tests.nodes.docker_node

The capture is another one every time (ids, PIDs, sizes), so its golden page is to be made anew too, and read.
"""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container

from tests.lab.boot import Machine, missing_packages
from tests.lab.guest.node import CGROUPS, DOCKER_URL, Run, cgroup, memory_events, wait_for
from tests.nodes.capture import capture_cgroups, capture_proc, names_from_docker, oom_records

DESTINATION = Path(__file__).parent / "docker-6.1"

CARELESS = """
import os, signal
for _ in range(3):
    os.fork() or os._exit(0)
if (child := os.fork()) == 0:
    if os.fork() == 0:
        while os.getppid() != 1:
            pass
    os._exit(0)
os.waitpid(child, 0)
print("ready")
signal.pause()
"""

CROWDED = """
import os, signal
try:
    while True:
        os.fork() or signal.pause()
except BlockingIOError:
    print("ready")
signal.pause()
"""

NEARLY_FULL = """
import ctypes, os, signal
ready, tell = os.pipe()
for name, mebibytes in ("job", 6), ("worker", 12):
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, name.encode())
        held = b"x" * (mebibytes << 20)
        os.write(tell, b".")
        signal.pause()
    os.read(ready, 1)
with open("/dev/shm/filler", "ab", buffering=0) as filler:
    while int(open("/sys/fs/cgroup/memory.current").read()) < 46 << 20:
        filler.write(bytes(1 << 18))
print("ready")
signal.pause()
"""


def is_ready(container: Container, living: int) -> bool:
    """Tell whether all that will die is dead; zombies are not in cgroup.procs."""
    processes = (cgroup(container) / "cgroup.procs").read_text().split()
    return container.logs() == b"ready\n" and len(processes) == living


def test_capture(run: Run, run_python: Run, docker: DockerClient) -> None:
    """Runs in the lab, with the fixtures of tests/lab/guest."""
    run("true", name="finished").wait()
    outside = "import os, signal\nfor _ in range(2):\n    os.fork() or os._exit(0)\nprint('ready', flush=True)\nsignal.pause()"
    with subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", outside], stdout=subprocess.PIPE, text=True
    ) as unshared:
        careless, tinied = run_python(CARELESS, name="careless"), run_python(CARELESS, name="tinied", init=True)
        crowded = run_python(CROWDED, name="crowded", pids_limit=8)
        throttled = run("sh", "-c", "while :; do :; done", name="throttled", cpu_period=100_000, cpu_quota=20_000)
        greedy = run("sh", "-c", "tail /dev/zero; sleep 1000", name="greedy", mem_limit="30m")
        nearly_full = run_python(NEARLY_FULL, name="nearly-full", mem_limit="48m")
        paused = run("sleep", "1000", name="paused", mem_reservation="16m")
        paused.pause()

        assert unshared.stdout is not None
        assert unshared.stdout.readline() == "ready\n"
        for container, living in (careless, 1), (tinied, 2), (crowded, 8), (nearly_full, 3):
            wait_for(partial(is_ready, container, living), 30, f"{container.name} is not ready")
        wait_for(lambda: memory_events(greedy)["oom_kill"] == 1, 30, "nothing was killed")
        wait_for(lambda: "nr_throttled 0\n" not in (cgroup(throttled) / "cpu.stat").read_text(), 30, "nothing was throttled")
        node = Path(os.environ["CORONER_LAB"]) / "node"
        capture_proc(Path("/proc"), node / "proc")
        capture_cgroups(CGROUPS, node / "cgroup")
        (node / "names.json").write_text(names_from_docker(DOCKER_URL))
        (node / "kmsg").write_bytes(oom_records(Path("/dev/kmsg")))
        unshared.kill()
        paused.unpause()


def main() -> None:
    """Boot the lab, run the above, and take the capture out."""
    if missing := missing_packages():
        sys.exit(f"the lab needs these Debian packages: {' '.join(missing)}")
    pytest = [sys.executable, "-m", "pytest", "--color=no", "-p", "no:cacheprovider", "-p", "tests.lab.guest.conftest"]
    machine = Machine([*pytest, "tests/nodes/docker_node.py"])
    try:
        machine.wait()
        captured = machine.shared / "node"
        if not captured.exists():
            sys.exit(machine.console())
        shutil.rmtree(DESTINATION, ignore_errors=True)
        shutil.copytree(captured, DESTINATION, symlinks=True)
    finally:
        machine.stop()


if __name__ == "__main__":
    main()
