"""What becomes of a process of the tests that dies: pytest-xdist puts another in its place.

The test in which it died is run once more, as one that fails is, and that is told. What the process
had started would stay, and take the time and the memory of the others: it is ended.
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class Files(LoadFileScheduling):
    """Gives each process whole files. What a process that died had not finished, another gets."""

    def mark_test_pending(self, item: str) -> Any:
        """Have a test run again: it is not finished, so it will be."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files | None:
    """Take the place of what `--dist loadfile` stands for."""
    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_testnodedown(node: WorkerController, error: object | None) -> None:
    """End what a process has left that did not end in good order."""
    if error:
        folder: Path = node.config._tmp_path_factory.getbasetemp()
        kill_all(folder / f"popen-{node.gateway.id}")


def kill_all(folder: Path) -> None:
    """Kill each process that works in a folder, or was told of it when it was started.

    On Linux; elsewhere nothing is found.
    """
    while found := [pid for pid in map(int, _numbers()) if _has_to_do_with(pid, folder)]:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _numbers() -> list[str]:
    return [path.name for path in Path("/proc").glob("[0-9]*") if path.name != str(os.getpid())]


def _has_to_do_with(pid: int, folder: Path) -> bool:
    process, below = Path("/proc", str(pid)), os.fsencode(folder) + b"/"
    try:
        told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        return below in told or below in os.fsencode((process / "cwd").readlink()) + b"/"
    except OSError:  # it has ended, or is somebody else's
        return False


__all__ = ["pytest_testnodedown", "pytest_xdist_make_scheduler"]
