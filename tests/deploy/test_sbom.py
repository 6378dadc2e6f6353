"""The list of what is in the image, made here by the commands of deploy/Dockerfile; the lab looks at the one in the image."""

import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

from tests.deploy import sbom
from tests.deploy.locks import DEPLOY, for_this_platform

COMMANDS = re.split(r" && \\\n +", (DEPLOY / "Dockerfile").read_text())
MAKES_IT = [command for command in COMMANDS if command.startswith(("version=", 'sed "s/^dynamic', "/opt/tools/bin/cyclonedx-py "))]


def test_it_lists_what_is_in_the_image_and_nothing_else(tmp_path: Path) -> None:
    """Of an environment that has, of what is installed here, what the agent's lock names: by the versions that are installed."""
    venv.create(tmp_path / "venv", with_pip=False)
    [site] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    installed = {name: distribution(name) for name in [*for_this_platform("agent"), sbom.PROJECT["name"]]}
    for each in installed.values():
        [metadata] = {file.parent for file in each.files or [] if file.name == "METADATA"}
        shutil.copytree(str(each.locate_file(metadata)), site / metadata.name)
    (tmp_path / "extra").mkdir()

    assert len(MAKES_IT) == 3
    script = " && ".join(MAKES_IT).replace("/opt/tools/bin/", f"{sys.prefix}/bin/").replace("/opt/", f"{tmp_path}/")
    done = subprocess.run(["sh", "-c", script], cwd=DEPLOY.parent, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr
    versions = {name: each.version for name, each in installed.items() if name != sbom.PROJECT["name"]}
    sbom.check((tmp_path / "extra" / "coroner.cdx.json").read_text(), versions)
