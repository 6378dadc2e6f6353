"""The endpoint of the real agent, asked by curl and by Prometheus, and by clients that want to harm it. On this machine, over loopback."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pytest
import trustme

from tests.agent.web_files import SECRET_HASH, certify, web_file
from tests.bench.bench_containers import make_node

CORONER = f"{sys.prefix}/bin/coroner"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("CORONER_", "PYTHON"))}

MUTUAL = f"""
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus]
basic_auth_users: {{alice: {SECRET_HASH}}}
"""

ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does before it starts a unit that belongs to a .socket."""

IDLE, NEVER_READING, DRIPPING = 200, 40, 100
MOST_GROWTH = 15 * 2**20
PAGE = 500_000
"""A page of 110 containers has more bytes."""

Start = Callable[..., "subprocess.Popen[bytes]"]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    deadline = monotonic() + 240
    while not condition():
        assert monotonic() < deadline
        sleep(0.05)


def installed(name: str) -> str:
    """Return where a program is; without it the test is skipped, or fails where nothing may be skipped."""
    if (program := shutil.which(name)) is None:
        reason = f"{name} is missing: install the package `{name}`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return program


def free_address() -> str:
    """Return an address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs, and end them with the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **options: Any) -> "subprocess.Popen[bytes]":
        with (tmp_path / f"log-{len(processes)}").open("wb") as log:
            processes.append(subprocess.Popen(command, env=ENVIRONMENT, stderr=log, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def agent_flags(*flags: str) -> list[str]:
    """Return how the agent is started."""
    return [CORONER, "--docker.url=", "--path.state=", "--path.bundles=", "--path.exits=", *flags]


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Who signs for everybody."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    certify(tmp_path, "server", authority)
    certify(tmp_path, "client", authority, "prometheus")
    certify(tmp_path, "other", authority, "other")
    return authority


class Curl:
    """curl, which trusts the test's authority."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, *arguments: str, certificate: str = "client", user: str = "alice:secret") -> str:
        """Return the status and the body; `failed` with its exit code if there is no answer."""
        command = ["curl", "--silent", "--max-time", "60", "--cacert", f"{self._directory}/ca.crt", "--write-out", "%{http_code}"]
        if certificate:
            command += ["--cert", f"{self._directory}/{certificate}.crt", "--key", f"{self._directory}/{certificate}.key"]
        if user:
            command += ["--user", user]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=120, env=ENVIRONMENT)
        return f"failed {done.returncode}" if done.returncode else done.stdout[-3:] + " " + done.stdout[:-3]


@pytest.fixture
def curl(tmp_path: Path) -> Curl:
    """The program."""
    installed("curl")
    return Curl(tmp_path)


@pytest.mark.usefixtures("authority")
def test_curl_needs_a_certificate_and_a_password(start: Start, tmp_path: Path, curl: Curl) -> None:
    """One of two, or of another, is not enough; on each of several addresses."""
    address, path = free_address(), tmp_path / "coroner.sock"
    config = f"--web.config.file={web_file(tmp_path, MUTUAL)}"
    agent = start(*agent_flags(config, f"--web.listen-address={address}", f"--web.listen-address=unix:{path}"))
    url = f"https://{address}"
    wait_for(lambda: curl(f"{url}/readyz") == "200 ok\n")

    page = curl(f"{url}/metrics")
    assert page.startswith("200 #")
    assert "coroner_build_info" in page
    assert curl(f"{url}/metrics", user="alice:wrong").startswith("401 ")
    assert curl(f"{url}/metrics", user="").startswith("401 ")
    assert curl(f"{url}/healthz", user="") == "200 ok\n"
    assert curl(f"{url}/healthz", certificate="").startswith("failed")
    assert curl(f"{url}/healthz", certificate="other").startswith("failed")
    assert curl("--tls-max", "1.1", f"{url}/healthz").startswith("failed")
    assert curl(f"http://{address}/healthz").startswith("failed") or curl(f"http://{address}/healthz").startswith("400")
    assert curl("--unix-socket", str(path), "https://localhost/metrics").startswith("200 #")
    agent.terminate()
    assert agent.wait(120) == 0
    assert not path.exists()


def test_a_socket_that_systemd_has_opened_is_listened_on(start: Start, curl: Curl) -> None:
    """Whoever connects before the agent runs waits and is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        number = listening.fileno()
        start(sys.executable, "-c", ACTIVATE, str(number), *agent_flags("--web.systemd-socket"), pass_fds=(number,))
    assert curl(f"http://{address}/healthz", certificate="", user="") == "200 ok\n"


class Prometheus:
    """Debian's Prometheus, which scrapes the agent once per second."""

    def __init__(self, start: Start, directory: Path, target: str) -> None:
        program = installed("prometheus")
        self._address = free_address()
        files = {"ca_file": f"{directory}/ca.crt", "cert_file": f"{directory}/client.crt", "key_file": f"{directory}/client.key"}
        job = {
            "job_name": "coroner",
            "scheme": "https",
            "static_configs": [{"targets": [target]}],
            "tls_config": files,
            "basic_auth": {"username": "alice", "password": "secret"},
        }
        config = directory / "prometheus.json"
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        start(program, f"--config.file={config}", f"--storage.tsdb.path={directory}/tsdb", f"--web.listen-address={self._address}")

    def value(self, expression: str) -> float:
        """Return what an expression is now, -1 if it is nothing."""
        question = urllib.parse.urlencode({"query": expression})
        with suppress(OSError), urllib.request.urlopen(f"http://{self._address}/api/v1/query?{question}", timeout=30) as response:
            for each in json.load(response)["data"]["result"]:
                return float(each["value"][1])
        return -1


def test_prometheus_scrapes_on_through_a_rotation(
    start: Start, tmp_path: Path, authority: trustme.CA, curl: Curl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a client's certificate and a password; no scrape fails while the agent's certificate is replaced, and new connections see it."""
    address = free_address()
    start(*agent_flags(f"--web.config.file={web_file(tmp_path, MUTUAL)}", f"--web.listen-address={address}"))
    prometheus = Prometheus(start, tmp_path, address)
    wait_for(lambda: prometheus.value('sum_over_time(up{job="coroner"}[1h])') >= 2)

    def served() -> str:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        context.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as raw, context.wrap_socket(raw, server_hostname=host) as client:
            return str((client.getpeercert() or {})["serialNumber"])

    before, scraped = served(), prometheus.value('sum_over_time(up{job="coroner"}[1h])')
    (tmp_path / "server.key").write_text("-----BEGIN EC PRIVATE KEY-----\nhalf")
    assert curl(f"https://{address}/metrics").startswith("200 #")
    assert served() == before
    certify(tmp_path, "server", authority)

    assert served() != before
    assert curl(f"https://{address}/metrics").startswith("200 #")
    wait_for(lambda: prometheus.value('sum_over_time(up{job="coroner"}[1h])') >= scraped + 2)
    assert prometheus.value('min_over_time(up{job="coroner"}[1h])') == 1
    assert prometheus.value("coroner_build_info") == 1
    assert "cannot be used, the one before holds" in (tmp_path / "log-0").read_text()


class Target:
    """An agent of a node with 110 containers, and what it holds."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str, context: ssl.SSLContext | None) -> None:
        self._process = psutil.Process(process.pid)
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        self._context = context
        self.clients: list[socket.socket] = []

    def connect(self, receive_buffer: int = 0, request: bytes = b"") -> None:
        """Connect, with TLS if it has it, and send the beginning of a request."""
        client = socket.socket()
        self.clients.append(client)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(120)
        with suppress(OSError):
            client.connect(self._address)
            if self._context:
                self.clients.append(client := self._context.wrap_socket(client, server_hostname="localhost"))
            client.sendall(request)

    def attack(self, count: int, *arguments: Any) -> None:
        """Connect so often at once."""
        threads = [threading.Thread(target=self.connect, args=arguments) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def drip(self) -> None:
        """Send one byte more on each connection."""
        for client in self.clients:
            with suppress(OSError):
                client.send(b"G")

    def scrape(self) -> int:
        """Return the size of a page, 0 if there is none."""
        url = f"{'https' if self._context else 'http'}://{self._address[0]}:{self._address[1]}/metrics"
        with suppress(OSError), urllib.request.urlopen(url, timeout=120, context=self._context) as response:
            return len(response.read())
        return 0

    def resident(self) -> int:
        """Return bytes."""
        return int(self._process.memory_info().rss)

    def connections(self) -> int:
        """Return how many it holds open."""
        return sum(each.status == psutil.CONN_ESTABLISHED for each in self._process.net_connections("inet"))


@pytest.fixture
def targets(start: Start, tmp_path: Path, authority: trustme.CA) -> Iterator[list[Target]]:
    """One without TLS, one with, scraped until they hold what they will hold."""
    make_node(tmp_path / "node", 110)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    config = web_file(tmp_path, "tls_server_config: {cert_file: server.crt, key_file: server.key}")
    found: list[Target] = []
    for tls, more in ((None, []), (context, [f"--web.config.file={config}"])):
        address = free_address()
        flags = agent_flags(f"--path.cgroupfs={tmp_path}/node/cgroup", f"--web.listen-address={address}", *more)
        found.append(Target(start(*flags), address, tls))
    for target in found:
        wait_for(lambda target=target: target.scrape() > PAGE)  # type: ignore[misc] # mypy takes no default of a lambda's for known
        for _ in range(10):
            target.scrape()
    yield found
    for target in found:
        for client in target.clients:
            client.close()


def test_clients_that_want_to_harm_cost_little_and_others_are_served(targets: list[Target]) -> None:
    """200 idle connections, 40 scrapers that never read, 100 that send a byte now and then, one after the other: less than 15 MiB more."""
    before = [target.resident() for target in targets]
    for attack in ((IDLE,), (NEVER_READING, 4096, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), (DRIPPING, 0, b"G")):
        for target in targets:
            target.attack(*attack)
            for _ in range(5):
                assert target.scrape() > PAGE
                if attack[0] == DRIPPING:
                    target.drip()
        growth = [target.resident() - resident for target, resident in zip(targets, before, strict=True)]
        assert max(growth) < MOST_GROWTH, (attack, growth)
    for target in targets:
        wait_for(lambda target=target: target.connections() == 0)  # type: ignore[misc] # as above
        assert target.scrape() > PAGE
