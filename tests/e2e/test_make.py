"""What `make run` and `make test` install, from a checkout in which nothing was made yet."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
AGENT, TOOLS = "install --quiet --editable .", "--group dev"
CHANGED = (ROOT / "pyproject.toml").stat().st_mtime


def steps(venv: Path, target: str) -> str:
    """Return what make would run, over a virtual environment that is there as far as it has stamps."""
    done = subprocess.run(
        ["make", "--dry-run", f"VENV={venv}", target],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def stamp(path: Path, seconds: float) -> None:
    """Make a stamp so many seconds after pyproject.toml was changed."""
    path.parent.mkdir(exist_ok=True)
    path.touch()
    os.utime(path, (CHANGED + seconds,) * 2)


def test_run_installs_the_agent_and_none_of_the_tools(tmp_path: Path) -> None:
    """It is the first thing that a visitor tries."""
    made = steps(tmp_path / "venv", "run")

    assert AGENT in made
    assert TOOLS not in made
    assert made.endswith("/coroner\n")


def test_test_check_and_venv_install_both(tmp_path: Path) -> None:
    """The tests import the agent; the tools come after it."""
    for target in ("test", "check", "venv"):
        made = steps(tmp_path / "venv", target)
        assert 0 < made.index(AGENT) < made.index(TOOLS)


def test_after_run_only_the_tools_are_missing_and_after_venv_nothing_is(tmp_path: Path) -> None:
    """In either order."""
    stamp(tmp_path / "venv" / ".installed", 1)
    made = steps(tmp_path / "venv", "venv")
    assert AGENT not in made
    assert TOOLS in made

    stamp(tmp_path / "venv" / ".tools", 2)
    assert "install" not in steps(tmp_path / "venv", "venv")
    assert "install" not in steps(tmp_path / "venv", "run")


def test_a_changed_pyproject_is_installed_anew(tmp_path: Path) -> None:
    """What it asks for may have changed."""
    for name in (".installed", ".tools"):
        stamp(tmp_path / "venv" / name, -1)

    assert AGENT in steps(tmp_path / "venv", "run")
    assert TOOLS in steps(tmp_path / "venv", "check")
