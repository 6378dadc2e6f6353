"""`coroner check-config`: whether an agent would start."""

from pathlib import Path

import pytest

from agent.__main__ import run
from tests.agent.web_files import SECRET_HASH, web_file


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing from the shell of whoever runs the tests, and nothing left behind of the log."""
    monkeypatch.setattr("os.environ", {})
    monkeypatch.setattr("agent.log.setup", lambda level, fmt: None)


def test_a_good_configuration_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its web configuration, and nothing is started or written."""
    path = web_file(tmp_path, f"basic_auth_users: {{alice: {SECRET_HASH}}}")

    assert run(["check-config", "--web.config.file", path, f"--path.state={tmp_path}/state"]) == 0
    assert capsys.readouterr().out == f"the configuration is good\nthe web configuration {path} is good\n"
    assert not (tmp_path / "state").exists()


def test_everything_wrong_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In flags, in the YAML file, in the web configuration: a line each."""
    settings = tmp_path / "coroner.yml"
    settings.write_text("log: {level: loud}\n")
    path = web_file(tmp_path, "basic_auth_user: {}\n")

    assert run(["check-config", f"--config.file={settings}", "--web.config.file", path, "--path.procfs=proc"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(":")[0] for line in captured.err.splitlines()] == 3 * ["coroner"]
    assert all(word in captured.err for word in ("loud", "basic_auth_user", "--path.procfs"))


def test_the_agent_itself_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And exits with 2."""
    path = web_file(tmp_path, "tls_server_config: {cert_file: a.crt, key_file: a.key}")
    assert run(["--web.config.file", path]) == 2
    said = capsys.readouterr().err
    assert run(["check-config", "--web.config.file", path]) == 2
    assert said == capsys.readouterr().err
    assert said.count("\n") == 2


def test_an_unknown_variable_is_only_warned_of(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be somebody else's."""
    monkeypatch.setattr("os.environ", {"CORONER_LOG_LEVLE": "info"})
    assert run(["check-config"]) == 0
    assert "did you mean CORONER_LOG_LEVEL?" in str([vars(record) for record in caplog.records])
