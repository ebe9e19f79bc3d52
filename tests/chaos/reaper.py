"""Ends everything that a run has started once the run itself has ended, however that was.

It reads the run's pipe: a line names each process group that was started. At its end, which comes
with the end of the run if nothing else brings it, those that are left are killed, and the servers
of the home are stopped.
"""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from infra.servers import processes
from infra.servers.native import stop_servers

SERVER_FOLDERS = ("kafka-1", "kafka-2", "kafka-3", "redis", "postgres")


class Reaper:
    """The reaper's process, as the run that started it sees it."""

    def __init__(self, home: Path) -> None:
        command = [sys.executable, "-m", "tests.chaos.reaper", str(home)]
        # A session of its own: what interrupts the run at a terminal must not end it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, cwd=Path(__file__).parents[2]
        )

    def watch(self, pid: int) -> None:
        """Have a process group ended with the run."""
        found = processes.identified(pid)
        if found is not None and self._process.stdin is not None:
            self._process.stdin.write(f"{found.pid} {found.started}\n".encode())
            self._process.stdin.flush()

    def close(self) -> None:
        """End everything; returns when it has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def resume_server(folder: Path) -> None:
    """Let a server that was paused go on, with the processes that it has started."""
    process = processes.running(folder)
    for pid in [] if process is None else family(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            told = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(told[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def main() -> None:
    """Read until the pipe ends, then end what is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    home = Path(sys.argv[1])
    watched = dict(line.split(" ", 1) for line in sys.stdin)
    for pid, started in watched.items():
        if processes.identified(int(pid)) == processes.Process(int(pid), started.strip()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(pid), signal.SIGKILL)
    for name in SERVER_FOLDERS:
        resume_server(home / "servers" / name)
    stop_servers(home, say=lambda _: None)


if __name__ == "__main__":
    main()
