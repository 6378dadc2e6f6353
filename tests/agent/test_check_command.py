"""`coroner check`: what it prints, how it ends, whom it asks; and the JSON that it and the API speak."""

import asyncio
import io
import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import __main__
from agent.app import App
from agent.check_table import count, findings_table, summary, unseen
from agent.cli import read
from agent.config import load
from agent.findings_json import as_json, from_json
from agent.kept import only_read
from collectors import NAMES
from collectors.findings import NODE, SEVERITIES, Examination, Finding
from tests.tree import FULL, A, B, Content, cgroup, docker, proc, process, tree

DEAF = Finding(("shop", "web-0", "web"), "init-deaf", "warning", "PID 1 does not hear", "It matters.\nMuch.", "Use tini.", "https://x/y.md")
FULL_NODE = Finding(NODE, "node-zombies", "critical", "12 zombies", "It is full.", "End them.", "https://x/z.md")
OPEN = Finding(("", "", "job"), "no-memory-limit", "info", "uses 1.0 MiB", "It may leak.", "Set one.", "https://x/m.md")
SEEN = Examination(
    (FULL_NODE, DEAF, OPEN),
    [("paused", "lifecycle: it hangs"), ("leftovers", "lifecycle: it hangs")],
    [("memory-stalled", "no PSI")],
    {("shop", "web-0", "web"): f"containerd://{'4f' * 32}", ("", "", "job"): f"docker://{'ab' * 32}"},
    1_767_225_600.0,
)

Run = Callable[..., tuple[int, str, str]]


class Agent(BaseHTTPRequestHandler):
    """Answers with what it is given."""

    body = b""

    def do_GET(self) -> None:
        """Answer, under the one path that is asked for."""
        assert self.path == "/api/v1/findings"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def agent() -> Iterator[Callable[[bytes], str]]:
    """Start an agent that answers with these bytes; its address."""
    servers = []

    def start(body: bytes) -> str:
        server = HTTPServer(("127.0.0.1", 0), type("Answering", (Agent,), {"body": body}))
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command; its exit code, and what it printed."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def call(*arguments: str) -> tuple[int, str, str]:
        code = __main__.run(["check", *arguments])
        return code, *capsys.readouterr()

    yield call
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def fake_node(tmp_path: Path) -> list[str]:
    """Two containers of which nobody knows the names, one at its PID limit; the flags of a look at it."""
    crowded: dict[str, Content] = {**FULL, "pids.current": "99\n"}
    tree(tmp_path, {**cgroup(docker(A), crowded), **cgroup(docker(B))})
    tree(tmp_path, {"cgroup/cgroup.controllers": "cpu io memory pids\n", "proc/loadavg": "0.00 0.01 0.05 2/345 999\n"})
    tree(tmp_path, {"proc/sys/kernel/threads-max": "15905\n", "proc/sys/kernel/pid_max": "32768\n"})
    tree(tmp_path, proc(process(1), process(7, cgroup=docker(A))))
    return [
        f"--path.procfs={tmp_path}/proc",
        f"--path.cgroupfs={tmp_path}/cgroup",
        *("--path.state=", "--path.bundles=", "--path.exits=", "--docker.url="),
    ]


def test_one_look_finds_what_is_wrong_with_containers_that_nobody_names(run: Run, fake_node: list[str]) -> None:
    """It cannot wait until a name is late: they are called by their ids at once."""
    code, output, _ = run("--no-daemon", "--format=json", *fake_node)

    answer = json.loads(output)
    assert {each["container"] for each in answer["containers"]} == {A[:12], B[:12]}
    assert (A[:12], "pid-limit-near") in {(each["container"], each["finding"]) for each in answer["findings"]}
    assert (B[:12], "pid-limit-near") not in {(each["container"], each["finding"]) for each in answer["findings"]}
    assert code == 1


def test_one_look_at_a_node_that_cannot_be_seen_is_no_clean_bill(run: Run, fake_node: list[str], tmp_path: Path) -> None:
    """No cgroup v2: 2, and why."""
    (tmp_path / "cgroup" / "cgroup.controllers").unlink()
    tree(tmp_path, {"proc/self/mountinfo": ""})
    code, output, errors = run("--no-daemon", *fake_node)

    assert code == 2
    assert output.startswith("no findings in 0 containers and the node")
    assert "could not look for " in errors
    assert "no cgroup v2 here or below" in errors


def test_without_its_collector_nothing_is_examined(run: Run, fake_node: list[str]) -> None:
    """Whoever has switched it off is told."""
    code, _, errors = run("--no-daemon", "--no-collector.findings", *fake_node)

    assert code == 2
    assert "the collector findings is off (--no-collector.findings)" in errors


async def test_an_agent_that_cannot_take_a_census_says_so(fake_node: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pass before has found is not what is wrong now."""
    config = load(fake_node, {}, NAMES)
    app = App(config, only_read(config))
    monkeypatch.setattr("agent.app._FRESH_SECONDS", -1.0)
    async with asyncio.timeout(60):
        assert not (await app.examined()).could_not_look

        def fail(*_arguments: object) -> None:
            raise TimeoutError

        monkeypatch.setattr(app.census, "take", fail)
        assert {reason for _, reason in (await app.examined()).could_not_look} == {"no answer in time"}


async def test_who_asks_twice_gets_one_pass(fake_node: list[str]) -> None:
    """A page that is reloaded costs no pass each time."""
    config = load(fake_node, {}, NAMES)
    app = App(config, only_read(config))
    async with asyncio.timeout(60):
        assert await app.examined() is await app.examined()


def test_the_agent_is_asked_if_there_is_one(run: Run, agent: Callable[[bytes], str]) -> None:
    """The most dangerous first, and what could not be looked at on standard error; 1 although something is blind."""
    address = agent(json.dumps(as_json(SEEN)).encode())
    code, output, errors = run(f"--web.listen-address={address}")

    assert code == 1
    assert output == (
        "SEVERITY  CONTAINER       FINDING       EVIDENCE             FIX\n"
        "critical  (node)          node-zombies  12 zombies           End them.\n"
        "warning   shop/web-0/web  init-deaf     PID 1 does not hear  Use tini.\n"
        "2 findings in 2 containers and the node (1 of lower severity not shown: --severity=info; 1 rule does not apply here: "
        "--format=json says why)\n"
    )
    assert errors == "coroner: could not look for paused, leftovers: lifecycle: it hangs\n"


@pytest.mark.parametrize(
    ("arguments", "rules", "code"),
    [
        ([], ["node-zombies", "init-deaf"], 1),
        (["--severity=info"], ["node-zombies", "init-deaf", "no-memory-limit"], 1),
        (["--severity=critical"], ["node-zombies"], 1),
        (["web"], ["init-deaf"], 1),
        (["web-0"], ["init-deaf"], 1),
        (["web-0/web"], ["init-deaf"], 1),
        (["shop/web-0/web"], ["init-deaf"], 1),
        (["4f4f"], ["init-deaf"], 1),
        (["4f" * 32], ["init-deaf"], 1),
        (["job", "web", "--severity", "info"], ["init-deaf", "no-memory-limit"], 1),
        (["job"], [], 2),
    ],
)
def test_names_and_severity_choose(run: Run, agent: Callable[[bytes], str], arguments: list[str], rules: list[str], code: int) -> None:
    """By container, pod or id; what is not shown does not count, and what could not be looked at still does."""
    address = agent(json.dumps(as_json(SEEN)).encode())
    ended, output, _ = run(*arguments, "--format=json", f"--web.listen-address={address}")

    assert [each["finding"] for each in json.loads(output)["findings"]] == rules
    assert ended == code


def test_a_calm_container_of_a_node_that_is_seen_ends_with_0_and_one_line(run: Run, agent: Callable[[bytes], str]) -> None:
    """Whatever is wrong with the others."""
    address = agent(json.dumps(as_json(replace(SEEN, could_not_look=[], left_out=[]))).encode())

    assert run("job", f"--web.listen-address={address}") == (
        0,
        "no findings in 1 container (1 of lower severity not shown: --severity=info)\n",
        "",
    )


@pytest.mark.parametrize("name", ["wen", "4f4", "", "shop", "4f4f4f4f4f4f5", "node"])
def test_an_unknown_name_is_2_and_says_which_there_are(run: Run, agent: Callable[[bytes], str], name: str) -> None:
    """A typing error is no clean bill."""
    address = agent(json.dumps(as_json(replace(SEEN, could_not_look=[]))).encode())
    code, output, errors = run(name, f"--web.listen-address={address}")

    assert (code, output) == (2, "")
    assert errors == f"coroner: there is no container {name!r}; there are job, shop/web-0/web\n"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"time": 1}', b"\xff", b"[" * 100_000, json.dumps({**as_json(SEEN), "time": 1e999}).encode()]
)
def test_what_answers_and_is_no_agent_is_not_believed(run: Run, agent: Callable[[bytes], str], fake_node: list[str], body: bytes) -> None:
    """Whoever listens there: then it looks for itself."""
    code, output, _ = run(f"--web.listen-address={agent(body)}", *fake_node)

    assert code == 1
    assert "pid-limit-near" in output


def test_a_name_that_nobody_has_is_2_whatever_else_is_wrong(run: Run, agent: Callable[[bytes], str]) -> None:
    """What could not be looked at is said too: it may be the reason."""
    address = agent(json.dumps(as_json(SEEN)).encode())
    code, output, errors = run("wen", "web", f"--web.listen-address={address}")

    assert (code, output) == (2, "")
    assert errors.splitlines() == [
        "coroner: there is no container 'wen'; there are job, shop/web-0/web",
        "coroner: could not look for paused, leftovers: lifecycle: it hangs",
    ]


def test_what_speaks_no_http_is_not_believed(run: Run, fake_node: list[str]) -> None:
    """As sshd does not."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        code, output, _ = run(f"--web.listen-address=127.0.0.1:{server.getsockname()[1]}", *fake_node)
        thread.join()

    assert code == 1
    assert "pid-limit-near" in output


def test_a_terminal_gets_blocks_that_fit_and_colours() -> None:
    """At any width, with all of the evidence and the fix."""
    shown = [FULL_NODE, replace(DEAF, fix="Give it an init that passes signals on: docker run --init, or tini as ENTRYPOINT of the image.")]
    plain = findings_table(shown, 44, colour=False)

    assert plain == (
        "SEVERITY  CONTAINER       FINDING\n"
        "critical  (node)          node-zombies\n"
        "  12 zombies\n"
        "  It is full.\n"
        "  Fix: End them.\n"
        "warning   shop/web-0/web  init-deaf\n"
        "  PID 1 does not hear\n"
        "  It matters. Much.\n"
        "  Fix: Give it an init that passes signals\n"
        "  on: docker run --init, or tini as\n"
        "  ENTRYPOINT of the image.\n"
    )
    coloured = findings_table(shown, 44, colour=True)
    assert "\x1b[1;31mcritical\x1b[0m  (node)" in coloured
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain


@pytest.mark.parametrize(
    ("is_terminal", "environment", "expected"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    agent: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch, is_terminal: bool, environment: dict[str, str], expected: bool
) -> None:
    """https://no-color.org: any value but the empty one."""

    class Stream(io.TextIOWrapper):
        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.setattr("sys.stdout", stream := Stream(io.BytesIO()))
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    address = agent(json.dumps(as_json(SEEN)).encode())
    call = read(["check", f"--web.listen-address={address}"], {}, NAMES)
    assert not isinstance(call, str)

    assert call.run() == 1
    assert (b"\x1b[" in stream.buffer.getvalue()) == expected  # type: ignore[attr-defined] # it is a BytesIO


def test_one_of_each_is_said_in_the_singular() -> None:
    """The line that people see most."""
    assert summary(Examination((DEAF,)), 1, 0, "1 container") == "1 finding in 1 container\n"
    assert summary(Examination(), 0, 0, "0 containers") == "no findings in 0 containers\n"
    assert [count(number, "rule") for number in (0, 1, 2)] == ["0 rules", "1 rule", "2 rules"]


def test_json_goes_there_and_back() -> None:
    """What the agent answers is what the command works on."""
    assert as_json(from_json(json.loads(json.dumps(as_json(SEEN))))) == as_json(SEEN)


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=3), lambda each: st.lists(each, max_size=3), max_leaves=5)


@given(key=st.sampled_from(sorted(as_json(SEEN))), inner=st.text(max_size=3), value=JSON)
def test_any_other_json_is_told_from_findings(key: str, inner: str, value: object) -> None:
    """It is turned down with one kind of error, or understood."""
    answer: dict[str, Any] = as_json(SEEN)
    for changed in ({**answer, key: value}, {**answer, key: [{inner: value}]}, value):
        try:
            assert isinstance(from_json(changed), Examination)
        except ValueError:
            continue


TEXT = st.text(max_size=20)


@given(
    labels=st.tuples(TEXT, TEXT, TEXT),
    texts=st.tuples(TEXT, TEXT, TEXT),
    severity=st.sampled_from(SEVERITIES),
    width=st.none() | st.integers(0, 200),
    colour=st.booleans(),
)
def test_whatever_a_container_is_called_the_table_stays_one(
    labels: tuple[str, str, str], texts: tuple[str, str, str], severity: Any, width: int | None, colour: bool
) -> None:
    """No terminal obeys it, and no line is forged."""
    finding = Finding(labels, "init-deaf", severity, *texts, "")
    table = findings_table([finding], width, colour=colour)

    assert all(line.isprintable() for line in re.sub("\x1b\\[[0-9;]*m", "", table).splitlines())
    if width is None:
        assert table.count("\n") == 2
    blind = Examination(could_not_look=[("rule", texts[0])])
    assert all(line.isprintable() for line in unseen(blind))


def test_no_color_codes_come_from_elsewhere() -> None:
    """An escape in a name is spelled out."""
    assert "\\x1b[31m" in findings_table([replace(DEAF, labels=("", "", "\x1b[31mred"))], None, colour=False)
