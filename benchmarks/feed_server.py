"""`daybook serve` on a home of its own, and the one who writes to it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import httpx
from msgspec import Struct


class Server(Struct, frozen=True):
    """A server that answers."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}"

    def megabytes(self) -> float:
        """Return the memory that it has now."""
        words = ("ps", "-o", "rss=", "-p", str(self.pid))
        return int(subprocess.check_output(words)) / 1024


@contextlib.contextmanager
def serving(home: str, *, port: int = 0, killed: bool = False) -> Iterator[Server]:
    """Serve for the length of a block; `killed` ends it with SIGKILL, and leaves Postgres up."""
    environment = {name: told for name, told in os.environ.items() if "DAYBOOK_" not in name}
    command = (sys.executable, "-m", "api.cli.main", "serve", "--home", home, "--port", str(port))
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        yield Server(int(process.stdout.readline().rpartition(":")[2]), process.pid)
    finally:
        if killed:
            process.kill()
        else:
            process.terminate()
        process.wait()
        process.stdout.close()


def tell(client: httpx.Client, account: str, number: int) -> None:
    """Record a deal whose id is its number."""
    told = {
        "account": account,
        "event_time": "2024-01-02T14:30:00Z",
        "deal_id": str(number),
        "instrument": "AAPL",
        "side": "buy",
        "quantity": "1",
        "price": "185.64",
        "currency": "USD",
    }
    client.post("/v1/deals", json=told).raise_for_status()
