"""The wheel and its dependencies are all that local mode needs: no tree, no Redis, no worker, no S3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo.servers import ROOT, DockerRegistry, clean_environment
from tests.images import digest_at, push_index
from tests.shape.test_wheel import built_wheel

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the wheel; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    wheel = built_wheel(folder / "build")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-index", "--target", folder / "site", wheel], check=True, env=os.environ)
    return folder / "site"


def test_local_mode_copies_an_index_from_an_empty_folder(
    installed: Path, ends: tuple[DockerRegistry, DockerRegistry], tmp_path: Path
) -> None:
    """With nothing set up but the word that both registries speak plain http."""
    source, destination = ends
    image = push_index(tmp_path / "image", f"{source.host}/team/app:1")
    home = tmp_path / "home"
    home.mkdir()
    environment = clean_environment({"PYTHONPATH": str(installed), "HOME": str(home), "PYTHONSAFEPATH": "1"})
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        environment.pop(variable, None)

    def run(*words: str) -> str:
        command = [sys.executable, "-c", *words]
        return subprocess.run(
            command, cwd=home, env=environment, check=True, capture_output=True, text=True
        ).stdout

    where = run("import distworker; print(distworker.__file__)")
    http = (f"--plain-http={source.host}", f"--plain-http={destination.host}")
    target = f"{destination.host}/mirror/app:1"
    program = "from distworker.cli.main import main; main()"
    said = run(program, "copy", "--local", *http, image.reference, target)

    assert Path(where.strip()).is_relative_to(installed) and not installed.is_relative_to(ROOT)
    assert digest_at(target) == image.digest
    assert "1 done" in said
    assert "1 unchanged" in run(program, "copy", "--local", *http, image.reference, target)
