"""The ledger's own processes: deciders and workers, as anybody would start them."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.reaper import Reaper

_DAYBOOK = Path(sys.executable).parent / "daybook"


class Program:
    """One process of `daybook`, in a group of its own, started again whenever it ended."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        settings: Mapping[str, str],
        folder: Path,
        reaper: Reaper,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.endings: list[int] = []
        self._command = [str(_DAYBOOK), *arguments]
        self._settings = {**os.environ, **settings}
        self._reaper = reaper
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ended_by_itself(self) -> bool:
        """Tell whether it has ended though nobody killed it; that is written down once."""
        with self._turn:
            status = None if self._process is None else self._process.poll()
            if status is None:
                return False
            self.endings.append(status)
            self._process = None
            return True

    def start(self) -> None:
        """Start it, where it does not run."""
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reaper.watch(self._process.pid)

    def kill(self) -> None:
        """End it without a word."""
        with self._turn:
            self._signal(signal.SIGKILL)
            if self._process is not None:
                self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it stand still."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
