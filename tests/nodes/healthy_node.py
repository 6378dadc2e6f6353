"""Make healthy.prom.xz anew: stage a healthy, living node in the lab, with Docker's containers and pods, and record its pages.

    python -m tests.nodes.healthy_node

All that happens in a round has happened once before it, so its last page leads to its first: whoever plays it (pages.py) may repeat it for
hours. Names that end in -gN are those of a generation: the next time round it is N + 1. After the round the agent is restarted.
"""

import lzma
import os
import sys
import time
import urllib.error
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container

from tests.lab.boot import Machine, missing_packages
from tests.lab.guest.cri import Pod, Program, StartPod
from tests.lab.guest.kubelet import Kubelet, kubelet
from tests.lab.guest.node import PYTHON_TREES, SLOWNESS, Agent, Run, agents, in_parallel, python_command, wait_for
from tests.nodes.pages import HEALTHY, INTERVAL, ROUND, SCRAPE

SCRAPES = ROUND + 11
"""In the last ones the agent is restarted, and looks around for a minute."""
EXITS = "/run/containerd-data/io.containerd.grpc.v1.cri/containers"
SECOND = 10**9
MIB = 1 << 20

SERVES = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
"""Ends when it is asked to, and reaps."""

STOPS = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
MEMORY = (
    STOPS
    + """
import mmap
while True:
    for mebibytes in (4, 16, 28, 40, 20, 8):
        with mmap.mmap(-1, mebibytes << 20, flags=mmap.MAP_PRIVATE) as held:
            for _ in range(mebibytes):
                held.write(bytes(1 << 20))
            time.sleep(7)
"""
)
CPU = (
    STOPS
    + """
while True:
    until = time.process_time() + 0.015
    while time.process_time() < until:
        pass
    time.sleep(0.085)
"""
)
FILES = (
    STOPS
    + """
import pathlib
files = [path for path in pathlib.Path("/usr/lib/x86_64-linux-gnu").glob("*.so*") if path.stat().st_size < 4 << 20]
while True:
    for path in files:
        path.read_bytes()
        time.sleep(0.05)
"""
)
POOL = (
    STOPS
    + """
import os
while True:
    for _ in range(9):
        os.fork() or os._exit(0)
    time.sleep(14)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    time.sleep(45)
"""
)
ORPHANS = "trap 'exit 0' TERM; while :; do (sleep 0.3 & sleep 0.1 &); sleep 1 & wait $!; done"
KERNEL_MESSAGES = (
    "<30>systemd[1]: Started Daily apt download activities.",
    "<6>device veth3a5b0f1 entered promiscuous mode",
    "<4>out of ideas, killed time: not a message of the OOM killer",
)


def service(name: str) -> dict[str, str]:
    """Return the labels of a service of Compose, on which more is asked of PID 1."""
    return {"com.docker.compose.project": "shop", "com.docker.compose.service": name}


class Node:
    """What lives on it. Each method without an argument is something that happens now and then, and leaves all as it was."""

    def __init__(self, docker: DockerClient, run: Run, run_python: Run, *, pod: StartPod, kubelet: Kubelet, coroner: Agent) -> None:
        self._docker, self._run, self._run_python, self._pod = docker, run, run_python, pod
        self._kubelet = kubelet
        self._coroner = coroner
        self._generation = 0

    def begin(self) -> None:
        """Start what is always there: of each a container that does near a limit what it may."""
        self._memory, self._cpu, *_ = in_parallel(
            lambda: self._run_python(MEMORY, name="memory", mem_limit="64m", labels=service("memory")),
            lambda: self._run_python(CPU, name="cpu", cpu_period=100_000, cpu_quota=30_000, labels=service("cpu")),
            lambda: self._run_python(FILES, name="files", mem_limit="48m", labels=service("files")),
            lambda: self._run_python(POOL, name="pool", pids_limit=14, mem_limit="64m", labels=service("pool")),
            lambda: self._run("sh", "-c", ORPHANS, name="orphans", init=True, pids_limit=40, labels=service("orphans")),
            self._start_web,
        )
        self._shop = self._start_shop()
        self._database = self._start_database()

    def _start_web(self) -> Container:
        check = {"test": ["CMD", "true"], "interval": 10 * SECOND, "timeout": 30 * SECOND}
        more = {"mem_limit": "16m", "pids_limit": 20, "healthcheck": check, "labels": service("web")}
        self._web = self._run("sh", "-c", SERVES, name="web", **more)
        return self._web

    def _start_shop(self) -> Pod:
        """Start the pod of a Deployment: the next one has another name."""
        sidecar = Program(python_command(CPU), memory=32 * MIB, mounts=PYTHON_TREES)
        containers = {"app": Program(["sh", "-c", SERVES], memory=16 * MIB), "sidecar": sidecar}
        return self._shown(self._pod(f"shop-g{self._generation}", containers=containers, memory=64 * MIB))

    def _start_database(self) -> Pod:
        """Start the pod of a StatefulSet: the next one has its name again."""
        containers = {"database": Program(["sh", "-c", SERVES], memory=32 * MIB)}
        return self._shown(self._pod("database-0", containers=containers, qos="guaranteed", share_pid=True))

    def _shown(self, pod: Pod, **metadata: object) -> Pod:
        self._kubelet.show(pod, **metadata)
        return pod

    def update_web(self) -> None:
        """Stop it properly, and start another of its name."""
        self._web.stop(timeout=60)
        self._web.remove()
        self._start_web()

    def update_shop(self) -> None:
        """Start a new pod, then delete the old one."""
        old = self._shop
        self._generation += 1
        self._shop = self._start_shop()
        self._kubelet.delete(old, 60)
        old.remove()

    def update_database(self) -> None:
        """Delete the pod, then start the new one."""
        self._kubelet.delete(self._database, 60)
        self._database.remove()
        self._database = self._start_database()

    def cron(self) -> None:
        """Run a short container of Docker that is removed at its end."""
        container = self._run("sh", "-c", "sleep 2", name="cron")
        container.wait()
        container.remove()

    def report(self) -> None:
        """Run the pod of a job until it completes, and clean it up."""
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "report", "uid": "1", "controller": True}
        pod = self._shown(self._pod("report-g0", containers={"report": Program(["sh", "-c", "sleep 3"])}), ownerReferences=[owner])
        pod["report"].wait()
        self._shown(pod, ownerReferences=[owner])
        time.sleep(15)  # a kubelet keeps it for a while
        self._kubelet.delete(pod, 0)
        pod.remove()

    def pause(self) -> None:
        """Freeze a container for some seconds."""
        self._memory.pause()
        time.sleep(20)
        self._memory.unpause()

    def look_into_it(self) -> None:
        """Open a shell in a container for some seconds."""
        self._cpu.exec_run(["sh", "-c", "sleep 15"])

    def start_late(self) -> None:
        """Create a container, start it only then, and stop it."""
        container = self._docker.containers.create("busybox", ["sh", "-c", SERVES], name="late", network_disabled=True)
        time.sleep(12)
        container.start()
        time.sleep(8)
        container.stop(timeout=60)
        container.remove()

    def kernel_log(self) -> None:
        """Have it say what it says on any day, and a process as root what is nobody's death; sysrq prints the memory as a kill does."""
        for key in "hm":
            Path("/proc/sysrq-trigger").write_text(key)
        for message in KERNEL_MESSAGES:
            Path("/dev/kmsg").write_text(message)

    def update_agent(self) -> None:
        """Stop it, and start it with the casebook that it leaves."""
        self._coroner.stop()
        self._coroner.start()


def plan(node: Node) -> dict[int, Callable[[], None]]:
    """Return what happens after how many seconds of the recording; one thing begins when that before it is done."""
    return {
        8: node.cron,
        16: node.kernel_log,
        22: node.update_web,
        45: node.report,
        80: node.pause,
        105: node.cron,
        117: node.update_shop,
        145: node.look_into_it,
        167: node.start_late,
        200: node.kernel_log,
        205: node.update_database,
        235: node.cron,
        ROUND * INTERVAL: node.update_agent,
    }


def page(coroner: Agent) -> str:
    """Return a page after the line that says when it was scraped; no page when nobody answers."""
    line = f"{SCRAPE}{time.time():.3f}\n"
    try:
        return line + coroner.get("/metrics")
    except (OSError, urllib.error.URLError):
        return line


def test_record(run: Run, run_python: Run, docker: DockerClient, pod: StartPod, tmp_path: Path) -> None:
    """Runs in the lab, with the fixtures of tests/lab/guest."""
    with kubelet(tmp_path / "kubelet") as lists, agents(tmp_path) as start:
        coroner = start(f"--path.exits={EXITS}", *lists.flags)
        node = Node(docker, run, run_python, pod=pod, kubelet=lists, coroner=coroner)
        wait_for(lambda: coroner.value("coroner_source_up", source="kubernetes") == 1, 60, "the kubelet is not heard")
        node.begin()
        once = set(plan(node).values()) - {node.report, node.update_agent}  # the next report has another name
        in_parallel(*once)
        pages = []
        begin = time.monotonic() + 1
        with ThreadPoolExecutor(max_workers=1) as doing:
            left, running = plan(node), []
            for number in range(SCRAPES):
                time.sleep(max(0, begin + number * INTERVAL - time.monotonic()))
                pages.append(page(coroner))
                due = [second for second in left if second < (number + 1) * INTERVAL]
                running += [doing.submit(left.pop(second)) for second in due]
            for each in running:
                each.result(SLOWNESS * 60)
        shared = Path(os.environ["CORONER_LAB"])
        (shared / "agent.log").write_text(coroner.log)
        (shared / "pages").write_text("".join(pages))


def main() -> None:
    """Boot the lab, run the above, and keep the recording."""
    if missing := missing_packages():
        sys.exit(f"the lab needs these Debian packages: {' '.join(missing)}")
    pytest = [sys.executable, "-m", "pytest", "--color=no", "-p", "no:cacheprovider", "-p", "tests.lab.guest.conftest", "--timeout=900"]
    machine = Machine([*pytest, "tests/nodes/healthy_node.py"])
    try:
        machine.wait()
        recorded = machine.shared / "pages"
        if not recorded.exists():
            sys.exit(machine.console())
        sys.stdout.write((machine.shared / "agent.log").read_text())
        HEALTHY.write_bytes(lzma.compress(recorded.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    finally:
        machine.stop()


if __name__ == "__main__":
    main()
