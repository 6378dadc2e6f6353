"""What is built to be installed: an archive with all of the repository, and a wheel that serves a page from an empty environment."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import agent
from tests.deploy.kustomize import ROOT
from tests.e2e.test_process import ENVIRONMENT, get, wait_for

NAME = f"coroner_agent-{agent.__version__}"


def run(*command: str | Path, directory: Path | None = None) -> None:
    """Run a program that must succeed."""
    done = subprocess.run(command, cwd=directory, env=ENVIRONMENT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive."""
    directory = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", directory, directory=ROOT)
    return directory / f"{NAME}.tar.gz"


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    """The wheel, built from the source archive and not from the checkout."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", sdist.parent, sdist)
    return sdist.parent / f"{NAME}-py3-none-any.whl"


def test_source_archive_has_what_a_packager_needs(sdist: Path) -> None:
    """The tests, the manifests and the dashboard, with the agent; and nothing that only lies in this checkout."""
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert names >= {"pyproject.toml", "LICENSE", "CHANGELOG.md", "Makefile", "agent/app.py", "tests/conftest.py"}
    assert names >= {
        "deploy/coroner.service",
        "deploy/Dockerfile",
        "deploy/agent.lock",
        "deploy/helm/coroner/Chart.yaml",
        "dashboards/alerts.yaml",
    }
    assert not [name for name in names if name.startswith((".venv", ".git/", ".lab")) or name.endswith(".pyc")]


def test_wheel_is_the_agent_and_nothing_else(wheel: Path) -> None:
    """Two packages, with every module that there is, one script, and the licence."""
    with zipfile.ZipFile(wheel) as archive:
        names = {*archive.namelist()}
    modules = {str(path.relative_to(ROOT)) for package in ("agent", "collectors") for path in (ROOT / package).rglob("*.py")}
    assert modules <= names
    assert {name.split("/")[0] for name in names} == {"agent", "collectors", f"{NAME}.dist-info"}
    assert f"{NAME}.dist-info/licenses/LICENSE" in names


def test_wheel_serves_a_page_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """With the libraries at the versions and hashes of the image, and without a module of this checkout."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    pip = [sys.executable, "-m", "pip", f"--python={tmp_path}/venv/bin/python", "install", "--quiet", "--no-compile"]
    run(*pip, "--only-binary=:all:", "--require-hashes", "--no-deps", "--requirement", ROOT / "deploy" / "agent.lock")
    run(*pip, "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", f"--python={tmp_path}/venv/bin/python", "check")
    log = tmp_path / "log"
    flags = ["--web.listen-address=127.0.0.1:0", "--docker.url=", f"--path.state={tmp_path}/state"]
    with log.open("w") as stderr:
        process = subprocess.Popen([f"{tmp_path}/venv/bin/coroner", *flags], cwd=tmp_path, env=ENVIRONMENT, stderr=stderr)
    try:
        wait_for(lambda: "address=" in log.read_text())
        address = log.read_text().partition("address=")[2].split()[0].strip('"')
        page = get(f"http://{address}/metrics")
        assert f'coroner_build_info{{version="{agent.__version__}",' in page
        process.terminate()
        assert process.wait(240) == 0
    finally:
        process.kill()
        process.wait()
