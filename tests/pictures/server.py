"""Debian's Prometheus, which scrapes nobody: it serves the blocks that others have recorded."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Server:
    """Its API."""

    def __init__(self, address: str, blocks: Path) -> None:
        self._address = address
        self._blocks = blocks

    def latest(self) -> float:
        """Return the time of the last sample that all nodes have, in seconds."""
        times = [json.loads(file.read_text())["maxTime"] for file in self._blocks.glob("*/meta.json")]
        return float(min(times)) / 1000

    def ask(self, path: str, **parameters: object) -> Any:
        """Return the result of a query; what is wrong with it is said in Prometheus' words."""
        question = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}?{question}", timeout=60) as response:
                return json.load(response)["data"]["result"]
        except urllib.error.HTTPError as error:
            sys.exit(f"{parameters}: {error.read().decode()}")

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=5):
                return True
        except OSError:
            return False


@contextmanager
def serving(recording: Path) -> Iterator[Server]:
    """Serve the blocks in this archive."""
    program = shutil.which("prometheus")
    if not program:
        sys.exit("prometheus is missing: install the package `prometheus`")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as directory, open(f"{directory}/log", "wb") as log:
        blocks = Path(directory, "data")
        with tarfile.open(recording) as tar:
            tar.extractall(blocks, filter="data")
        Path(directory, "prometheus.yml").write_text("{}")
        command = [program, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={blocks}"]
        command += [f"--web.listen-address={address}", "--storage.tsdb.retention.time=10y"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
        try:
            server, deadline = Server(address, blocks), time.monotonic() + 120
            while not server.is_ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(Path(directory, "log").read_text())
                time.sleep(0.1)
            yield server
        finally:
            process.kill()
            process.wait()
