"""The dashboard's own unit tests, run by its own runner."""

import os
import subprocess
from pathlib import Path

import pytest

from api.dashboard.build import FOLDER, npm_command


def test_its_units_pass() -> None:
    if not (FOLDER / "node_modules").is_dir():
        pytest.skip("the dashboard is not built here: `make dashboard` says why")
    npm = npm_command()
    path = os.pathsep.join((str(Path(npm[0]).parent), os.environ["PATH"]))
    done = subprocess.run(
        [*npm, "test", "--silent"],
        cwd=FOLDER,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
