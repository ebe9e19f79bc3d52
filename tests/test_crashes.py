"""A process of the tests that dies: its test runs once more, and nothing of it is left."""

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
from tests.crashes import pytest_testnodedown, pytest_xdist_make_scheduler
"""
DYING = """
import os, signal, subprocess
from pathlib import Path

def test_before():
    pass

def test_dying_once(tmp_path):
    told = Path(__file__).with_name("told")
    if not told.exists():
        sleeper = subprocess.Popen(["sleep", "3600"], cwd=tmp_path, start_new_session=True)
        told.write_text(str(sleeper.pid))
        os.kill(os.getpid(), signal.SIGSEGV)

def test_after():
    pass
"""


def test_a_process_that_dies_once_fails_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_dying.py").write_text(DYING)
    words = ["--numprocesses", "1", "--dist", "loadfile", "--reruns", "1", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(tmp_path), f"--rootdir={tmp_path}"],
        cwd=tmp_path,
        env={name: text for name, text in environment.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed, 1 rerun" in done.stdout
    assert not Path("/proc", (tmp_path / "told").read_text()).exists()
