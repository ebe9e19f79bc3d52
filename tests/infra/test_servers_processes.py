"""Processes are found again, and never mistaken for others."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from infra.servers import processes
from infra.servers.processes import held, identified, launch, recorded, running, stop

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
WITH_A_CHILD = """
import os, time
if os.fork() == 0:
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop(tmp_path, signal.SIGKILL, 10)


@contextlib.contextmanager
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process that nobody has written down, for the length of a block."""
    with subprocess.Popen(SLEEP) as process:
        try:
            yield process
        finally:
            process.kill()


def start(folder: Path, command: list[str]) -> processes.Process:
    with held(folder) as lock:
        return launch(command, folder, lock)


def log_of(folder: Path) -> str:
    return (folder / processes.LOG_NAME).read_text()


def test_a_process_is_found_again_until_it_is_stopped(folder: Path) -> None:
    assert running(folder) is None
    process = start(folder, SLEEP)
    assert running(folder) == process == identified(process.pid)
    assert stop(folder, signal.SIGTERM, 60) is False
    assert identified(process.pid) is None
    assert recorded(folder) is None
    assert stop(folder, signal.SIGTERM, 60) is False


def test_one_that_died_is_recorded_but_does_not_run(folder: Path) -> None:
    process = start(folder, SLEEP)
    os.kill(process.pid, signal.SIGKILL)
    while identified(process.pid) == process:
        time.sleep(0.01)
    assert recorded(folder) == process
    assert running(folder) is None


def test_one_that_does_not_heed_the_signal_is_killed(folder: Path) -> None:
    process = start(folder, [sys.executable, "-c", DEAF])
    while "deaf" not in log_of(folder):
        time.sleep(0.01)
    assert stop(folder, signal.SIGTERM, 0.1) is True
    assert identified(process.pid) is None


def test_a_number_that_another_process_has_by_now_is_left_alone(folder: Path) -> None:
    start(folder, SLEEP)
    record = folder / "process.json"
    told = msgspec.json.decode(record.read_bytes())
    stop(folder, signal.SIGTERM, 60)
    time.sleep(0.05)  # a start is told to the hundredth of a second
    with sleeper() as other:
        told["process"]["pid"] = other.pid
        record.write_bytes(msgspec.json.encode(told))
        assert running(folder) is None
        stop(folder, signal.SIGKILL, 10)
        assert other.poll() is None


def test_a_process_that_cannot_be_written_down_runs_nothing(folder: Path) -> None:
    blocked = folder / "process.json"
    blocked.mkdir()
    (blocked / "file").touch()
    with pytest.raises(OSError, match=r"process\.json"):
        start(folder, ["/bin/sh", "-c", "echo ran > trace"])
    with held(folder):
        assert not (folder / "trace").exists()
    (blocked / "file").unlink()
    blocked.rmdir()


def test_a_folder_is_held_for_as_long_as_any_child_lives(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(folder, [sys.executable, "-c", WITH_A_CHILD])
    while identified(process.pid) == process:
        time.sleep(0.01)
    monkeypatch.setattr(processes, "_LINGER_S", 0.0)
    with pytest.raises(TimeoutError, match="do not end"), held(folder):
        pass
    monkeypatch.undo()
    (folder / "go").touch()
    with held(folder):
        assert running(folder) is None


def test_the_last_words_are_those_of_the_last_start(folder: Path) -> None:
    start(folder, ["/bin/sh", "-c", "echo FATAL: the first time"])
    with held(folder):
        assert processes.last_words(folder) == "FATAL: the first time"
    start(folder, ["/bin/sh", "-c", "echo all is well"])
    with held(folder):
        assert log_of(folder) == "FATAL: the first time\nall is well\n"
        assert processes.last_words(folder) == "it said nothing of it"


def test_a_long_log_is_set_aside(folder: Path) -> None:
    (folder / processes.LOG_NAME).write_bytes(b"x" * (4 << 20) + b"x")
    start(folder, ["/bin/sh", "-c", "echo fresh"])
    with held(folder):
        assert log_of(folder) == "fresh\n"
    assert (folder / "server.log.1").stat().st_size == (4 << 20) + 1


def test_ps_tells_processes_apart_where_there_is_no_proc() -> None:
    with sleeper() as one:
        assert processes._started_by_ps(one.pid) is not None
        one.kill()
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
        assert processes._started_by_ps(one.pid) is None
    assert processes._started_by_ps(one.pid) is None
