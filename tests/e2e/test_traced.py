"""Traced on this machine's own kernel: what the lab's does not have, tracing."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_process import ENVIRONMENT, get, wait_for
from tests.lab.guest.traced import Judge, has_ended, strace

MOUNTED = 'mount -t tracefs none "$0" && [ ! -e "$0/instances/coroner" ] && exec "$@"'


@pytest.fixture
def private_tracefs(tmp_path: Path) -> list[str]:
    """What starts a program that alone sees a tracefs, at `tracing` below tmp_path; but not if an agent of this machine traces signals."""
    (tmp_path / "tracing").mkdir()
    command = ["unshare", "--mount", "sh", "-c", MOUNTED, str(tmp_path / "tracing")]
    for program in ("strace", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing (tests/packages.sh installs it)")
    tried = subprocess.run([*command, *strace(tmp_path / "tried"), "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"a private tracefs, or tracing a process, is not allowed here, or an agent traces signals: {tried.stderr.strip()}")
    return command


def test_the_one_thing_that_is_written_to_the_kernel_is_a_trace_instance(private_tracefs: list[str], tmp_path: Path) -> None:
    """Below its directory, and it is gone when the agent has stopped; the rest of tracefs is not even opened."""
    log = tmp_path / "log"
    flags = ["--web.listen-address=127.0.0.1:0", "--docker.url=", f"--path.state={tmp_path}/state", f"--path.tracefs={tmp_path}/tracing"]
    command = [*private_tracefs, *strace(tmp_path / "trace"), f"{sys.prefix}/bin/coroner", *flags, "--source.signals", "--log.level=debug"]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, env=ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"}, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        wait_for(lambda: "address=" in log.read_text())
        address = log.read_text().partition("address=")[2].split()[0].strip('"')
        wait_for(lambda: 'coroner_source_up{source="signals"} 1' in get(f"http://{address}/metrics"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: has_ended(tmp_path / "trace"))

    port = address.rpartition(":")[2]
    peers = [rf"sin_port=htons\(({port}|0)\)"]
    judge = Judge(tmp_path / "trace", state=tmp_path / "state", log=log, peers=peers, tracefs=str(tmp_path / "tracing"))
    assert {what: sorted(calls) for what, calls in judge.wrong.items()} == {}
    assert judge.seen.keys() >= {"signals", "proc"}
    assert subprocess.run([*private_tracefs, "true"], check=False).returncode == 0, "the instance is still there"
