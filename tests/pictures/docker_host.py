"""The node docker-1 of the pictures: a shop on a Docker host, with troubles as users have them. Runs in the lab (record.py)."""

import contextlib
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from tests.lab.guest.node import PYTHON_TREES, Daemon, Run, StartAgent, in_parallel, python_command, wait_for
from tests.pictures import programs
from tests.pictures.day import Day, watched

DISK = Path("/run/disk")
ALWAYS: dict[str, Any] = {"restart_policy": {"Name": "always"}}


def make_disk() -> None:
    """Make a block device, whose reads and writes the kernel counts: the lab has none."""
    subprocess.run(["modprobe", "brd", "rd_nr=1", "rd_size=65536"], check=True)
    subprocess.run(["mkfs.ext4", "-q", "/dev/ram0"], check=True)
    DISK.mkdir()
    subprocess.run(["mount", "-n", "/dev/ram0", DISK], check=True)


def test_a_day_of_a_docker_host(run: Run, dockerd: Daemon, agent: StartAgent, tmp_path: Path) -> None:
    """A day."""
    make_disk()
    day = Day()

    def shell(name: str, script: str, **options: Any) -> Container:
        labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": name}
        return run("sh", "-c", script, name=name, labels=labels, **options)

    def python(name: str, program: str, *, disk: str = "", **options: Any) -> Container:
        volumes = {tree: {"bind": tree, "mode": "ro"} for tree in PYTHON_TREES}
        if disk:
            (DISK / disk).mkdir()
            volumes[str(DISK / disk)] = {"bind": "/data", "mode": "rw"}
        labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": name}
        return run(*python_command(program), name=name, labels=labels, volumes=volumes, **options)

    def outage() -> None:
        dockerd.kill()
        day.once(outage_begins + 75, dockerd.start)

    outage_begins = 1290.0
    coroner = agent("--source.layers")
    with watched(coroner, tmp_path, "docker-1") as server:
        wait_for(lambda: server.query("count_over_time(coroner_build_info[1m]) > 1"), 60, "no scrape")
        _, worker, _, _, _, cache, cron = in_parallel(
            partial(python, "shop-web", programs.SERVER.format(period=500), mem_limit="128m", pids_limit=200, init=True, **ALWAYS),
            partial(
                python,
                "worker",
                programs.WORKER,
                disk="worker",
                mem_limit="96m",
                pids_limit=64,
                cpu_period=100_000,
                cpu_quota=30_000,
                **ALWAYS,
            ),
            partial(python, "checkout-api", programs.LEAK.format(pause=5), mem_limit="64m", **ALWAYS),
            partial(python, "batch-import", programs.PARENT.format(most=60), mem_limit="56m", **ALWAYS),
            partial(python, "image-resizer", programs.POOL, pids_limit=24, mem_limit="192m", **ALWAYS),
            partial(shell, "session-cache", programs.DEAF, mem_limit="32m", **ALWAYS),
            partial(shell, "legacy-cron", "while :; do sleep 10; done", **ALWAYS),
        )
        in_parallel(
            partial(shell, "mailer", "sleep 110; exit 3", **ALWAYS),
            partial(python, "db", programs.DATABASE, disk="db", mem_limit="256m", init=True, pids_limit=100, **ALWAYS),
        )
        day.once(60, cron.pause)
        day.once(400, cron.unpause)
        day.once(1100, cron.pause)
        day.every(390, partial(cache.restart, timeout=3), first=90)
        day.once(800, partial(worker.restart, timeout=6))
        day.every(300, partial(run, "sh", "-c", "sleep 15", auto_remove=True), first=45)
        day.every(170, partial(worker.exec_run, ["sleep", "20"], detach=True), first=70)
        day.once(outage_begins, outage)
        day.go_by()
        near = f'coroner_container_oom_candidate_info{{container="{worker.name}"}}'
        with contextlib.suppress(AssertionError):
            wait_for(lambda: server.query(near), 40, "the worker does not come near its limit")
        if cron.status == "paused":
            cron.unpause()
