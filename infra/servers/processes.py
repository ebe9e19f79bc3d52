"""Background processes that outlive the command that started them, and are found again later.

A process is known by its number and by when it started, so that another one that was given the
number since is never taken for it, let alone killed. It runs nothing until its number has been
written down, so there is none that a later command does not know of.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from infra.cluster import open_owned
from infra.servers.ownership import run_as_owner, write_owned

LOG_NAME: Final = "server.log"
_RECORD_NAME: Final = "process.json"
_LOCK: Final = "running.lock"
_LOG_MAX_BYTES: Final = 4 << 20
_POLL_S: Final = 0.01
_LINGER_S: Final = 15.0
# How Java, PostgreSQL and Redis begin what they say of a failure.
_ALARMING: Final = ("FATAL", "PANIC", " ERROR ", "Exception", "Error:", "# Failed", "# Fatal")
_WORDS_MAX: Final = 240

# The server is the child of a shell that ends at once, so that whoever starts it is not left with
# a dead child. It waits for a line, and ends by itself where its starter dies before sending one.
_SHELL: Final = 'exec 3<&0; { read -r go <&3 && exec "$@" 3<&- </dev/null; } 1>&2 & echo $!'


class Process(msgspec.Struct, frozen=True):
    """A process: its number, and the boot and time of its start as the kernel words them."""

    pid: int
    started: str


class _Record(msgspec.Struct, frozen=True):
    """A process that was started, and how long its folder's log was then, in bytes."""

    process: Process
    log_start: int


def identified(pid: int) -> Process | None:
    """Return the process that has this number now, None where there is none or it has ended."""
    started = _started_linux(pid) if sys.platform == "linux" else _started_by_ps(pid)
    return None if started is None else Process(pid, started)


def recorded(folder: Path) -> Process | None:
    """Return the process last started in a folder and not stopped since; it may have died."""
    record = _recorded(folder)
    return None if record is None else record.process


def running(folder: Path) -> Process | None:
    """Return the process started in a folder if it still lives."""
    process = recorded(folder)
    return process if process is not None and identified(process.pid) == process else None


@contextlib.contextmanager
def held(folder: Path) -> Iterator[int]:
    """Wait until nothing started in a folder is left, and keep it so; yields a descriptor.

    Whatever inherits the descriptor holds the folder for as long as it lives: a server's children
    may outlive it for a moment. Raises TimeoutError where they do not end.
    """
    lock = open_owned(folder / _LOCK, os.O_RDWR)
    try:
        deadline = time.monotonic() + _LINGER_S
        while not _taken(lock):
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes of {folder} do not end")
            time.sleep(_POLL_S)
        yield lock
    finally:
        os.close(lock)


def launch(command: Sequence[str], folder: Path, lock: int) -> Process:
    """Start a command in the background, in `folder` and as its owner, and write it down.

    Its output goes to the folder's log. `lock` is what `held` yielded.
    """
    log = folder / LOG_NAME
    if log.exists() and log.stat().st_size > _LOG_MAX_BYTES:
        log.replace(log.with_suffix(".log.1"))
    log_start = log.stat().st_size if log.exists() else 0
    with os.fdopen(open_owned(log, os.O_WRONLY | os.O_APPEND), "ab") as output:
        shell = run_as_owner(
            ["/bin/sh", "-c", _SHELL, "sh", *command],
            folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            pass_fds=(lock,),
        )
    with shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        process = identified(int(shell.stdout.readline()))
        if process is None:
            raise ChildProcessError(f"{command[0]} could not be started")
        write_owned(folder / _RECORD_NAME, msgspec.json.encode(_Record(process, log_start)))
        shell.stdin.write(b"go\n")
    return process


def stop(folder: Path, stop_signal: signal.Signals, patience_s: float) -> bool:
    """Stop the process of a folder: asked first, then killed; returns whether it had to be.

    Returns when it has ended; at once where none runs.
    """
    killed = False
    process = running(folder)
    if process is not None and not _ends(process, stop_signal, patience_s):
        killed = True
        _ends(process, signal.SIGKILL, _LINGER_S)
    (folder / _RECORD_NAME).unlink(missing_ok=True)
    return killed


def last_words(folder: Path) -> str:
    """Return on one line what the process last started in a folder has said of its trouble."""
    record = _recorded(folder)
    with (folder / LOG_NAME).open("rb") as log:
        log.seek(0 if record is None else record.log_start)
        lines = log.read().decode("utf-8", "replace").splitlines()
    wrong = [line.strip() for line in lines if any(word in line for word in _ALARMING)]
    return " | ".join(line[:_WORDS_MAX] for line in wrong[-2:]) or "it said nothing of it"


def _ends(process: Process, with_signal: signal.Signals, patience_s: float) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, with_signal)
    deadline = time.monotonic() + patience_s
    while identified(process.pid) == process:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _recorded(folder: Path) -> _Record | None:
    try:
        return msgspec.json.decode((folder / _RECORD_NAME).read_bytes(), type=_Record)
    except FileNotFoundError:
        return None


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _started_linux(pid: int) -> str | None:
    """The boot's id and the start in clock ticks after it. Source: proc(5), field 22 of stat."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name, in parentheses, may have spaces and parentheses of its own.
    state, *fields = stat.rpartition(")")[2].split()
    if state in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{fields[18]}"


def _started_by_ps(pid: int) -> str | None:
    command = ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C"})
    state, _, started = told.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None
