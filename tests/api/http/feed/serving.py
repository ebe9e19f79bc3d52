"""`daybook serve` in a process of its own, that can be killed and started again on its port."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from websockets.sync.client import ClientConnection, connect

from domain.commands import Request
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from tests import servers
from tests.api.command_line import CommandLine

WAIT_S = 120


class Served:
    """A server over the ledger of a command line."""

    def __init__(self, daybook: CommandLine, first: str = "") -> None:
        self.daybook = daybook
        self.port = servers.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.said = daybook.folder / f"serve-{self.port}.log"
        self._first = first
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process that serves."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it listens."""
        code = f"{self._first}\nfrom api.cli.main import main\nmain()"
        with self.said.open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, "serve", "--port", str(self.port), "--rate", "0"],
                cwd=self.daybook.folder,
                env=self.daybook.environment,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("http://"):
            self.kill()
            raise AssertionError("the server did not start")

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._reap()

    def stop(self) -> None:
        """End it as a service manager does; it must end well."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(WAIT_S)
            self._process.kill()
            assert self._reap() == 0

    def _reap(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        code = self._process.wait(WAIT_S)
        self._process.stdout.close()
        self._process = None
        return code

    @property
    def database(self) -> str:
        """The URL of the database that all is in."""
        return self.daybook.environment["DAYBOOK_LOG_URL"]

    def write(self, requests: Sequence[Request], at_once: int = 1000) -> None:
        """Write into the same log from this process, so many at a time."""
        log = PostgresLog.open(self.database)
        ledger = Ledger(log)
        for start in range(0, len(requests), at_once):
            ledger.submit(requests[start : start + at_once])
        ledger.close()
        log.close()

    def socket(self, **told: Any) -> "Socket":
        """Open a feed by a client that knows nothing of it."""
        return Socket(self.url.replace("http", "ws") + "/v1/feed", **told)


class Socket:
    """A WebSocket, with frames as Python values."""

    def __init__(self, url: str, **told: Any) -> None:
        usual = {"compression": None, "open_timeout": WAIT_S}
        self._connecting = connect(url, ping_interval=None, **usual, **told)
        self.raw: ClientConnection

    def __enter__(self) -> "Socket":
        self.raw = self._connecting.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._connecting.__exit__(*error)

    def say(self, told: Any) -> None:
        """Send a frame; text goes as it is."""
        self.raw.send(told if isinstance(told, str | bytes) else json.dumps(told))

    def subscribe(
        self, told_id: int | str, topic: str, account: str | None = None, **more: Any
    ) -> None:
        """Ask for a topic."""
        named = {} if account is None else {"account": account}
        self.say({"op": "subscribe", "id": told_id, "topic": topic, **named, **more})

    def hear(self, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """Return the next frame that is wanted and no heartbeat."""
        end = time.monotonic() + WAIT_S
        while True:
            frame: dict[str, Any] = json.loads(self.raw.recv(max(0, end - time.monotonic())))
            if frame["op"] != "heartbeat" and wanted(frame):
                return frame
