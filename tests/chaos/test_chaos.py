"""A short run of what `python -m tests.chaos` does at length, and that it leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.servers import processes
from infra.servers.server import ProgramsMissing
from tests.chaos.reaper import Reaper
from tests.chaos.run import Plan, execute

_RUN_THAT_IS_KILLED = """
import os, signal, subprocess, sys
from pathlib import Path
from tests.chaos.reaper import Reaper

reaper = Reaper(Path(sys.argv[1]))
sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
reaper.watch(sleeper.pid)
print(sleeper.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    kept = request.config.cache.mkdir("kafka")
    try:
        report = execute(Plan(kills=5, seed=5, least_accepted=50), tmp_path / "home", kept)
    except ProgramsMissing as error:
        pytest.skip(str(error))
    assert report.violations == [], report.text()
    assert report.mishaps == 5
    assert report.answers_by_status["accepted"] >= 50
    assert report.copied_accounts > 0


def test_what_a_run_has_started_ends_with_it(tmp_path: Path) -> None:
    reaper = Reaper(tmp_path)
    sleeper = subprocess.Popen(["sleep", "600"], start_new_session=True)
    reaper.watch(sleeper.pid)
    reaper.close()
    assert sleeper.wait() == -signal.SIGKILL


def test_what_a_run_has_started_ends_though_the_run_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RUN_THAT_IS_KILLED, str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    try:
        while processes.identified(pid) is not None:
            time.sleep(0.01)
    except BaseException:
        os.killpg(pid, signal.SIGKILL)
        raise
