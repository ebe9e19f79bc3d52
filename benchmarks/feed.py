"""How long after a command is sent its row is with every client of the feed.

`daybook serve` on a home of its own, clients in a process of their own, all of one topic of one
account. A deal is told by HTTP at a steady rate; a row's time begins before the request is sent.
Beside it one client alone, then the same crowd with some who never read. At last the server is
killed, and all resume at once where they were.
"""

import contextlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

import httpx
from msgspec import Struct

from benchmarks.feed_clients import BareClient, Crowd
from benchmarks.rows import Row

CLIENTS: Final = 1000
SLOW: Final = 100
_A_SECOND: Final = 20
_SECONDS: Final = 5
_WAIT_S: Final = 60.0
_DEAL_ID: Final = re.compile(rb'"deal_id":"(\d+)"')
_TOPIC: Final = {"op": "subscribe", "id": 1, "topic": "deals", "account": "A1"}
_NUMBERS: Final = itertools.count(1)


class Followed(Struct, frozen=True):
    """Milliseconds from a command to its row at a client, over all clients and commands."""

    median: float
    p99: float
    frames: int


def main(*, full: bool = False) -> list[Row]:
    """Measure latency for one client and for many, with slow ones among them, and a storm."""
    clients = CLIENTS if full else CLIENTS // 5
    slow = SLOW if full else SLOW // 5
    seconds = 6 * _SECONDS if full else _SECONDS
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as home:
        with _serving(home) as port:
            alone = _followed(port, 1, 0, seconds)
            crowd = _followed(port, clients, 0, seconds)
            mixed = _followed(port, clients, slow, seconds)
        storm_s = _storm(home, clients)
    rate = f"{_A_SECOND} events/s"
    return [
        Row(
            what=f"command to row at {clients:,} clients, {rate}, p99",
            unit="ms",
            ours=crowd.p99,
            beside="one client alone",
            other=alone.p99,
            target=50.0,
            note=f"medians {crowd.median:.1f} and {alone.median:.1f} ms",
        ),
        Row(
            what=f"the same with {slow:,} that never read, p99",
            unit="ms",
            ours=mixed.p99,
            beside="without them",
            other=crowd.p99,
            target=50.0,
        ),
        Row(
            what=f"{clients:,} clients resume after a kill, all with what they missed",
            unit="s",
            ours=storm_s,
            target=5.0,
        ),
    ]


@contextlib.contextmanager
def _serving(home: str) -> Iterator[int]:
    environment = {name: told for name, told in os.environ.items() if "DAYBOOK_" not in name}
    process = subprocess.Popen(
        (sys.executable, "-m", "api.cli.main", "serve", "--home", home, "--port", "0"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().rpartition(":")[2])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _tell(client: httpx.Client, number: int) -> None:
    """Record a deal whose id is its number."""
    told = {
        "account": "A1",
        "event_time": "2024-01-02T14:30:00Z",
        "deal_id": str(number),
        "instrument": "AAPL",
        "side": "buy",
        "quantity": "1",
        "price": "185.64",
        "currency": "USD",
    }
    client.post("/v1/deals", json=told).raise_for_status()


def _followed(port: int, clients: int, slow: int, seconds: int) -> Followed:
    """Tell deals at a steady rate, and return when the clients had their rows."""
    numbers = [next(_NUMBERS) for _ in range(_A_SECOND * seconds)]
    context = get_context("spawn")
    ready, told = context.Event(), context.Event()
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_crowd, args=(port, clients, slow, numbers, ready, theirs), daemon=True
    )
    process.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert ready.wait(_WAIT_S)
        sent = {}
        start = time.monotonic()
        for place, number in enumerate(numbers):
            time.sleep(max(0.0, start + place / _A_SECOND - time.monotonic()))
            sent[number] = time.monotonic_ns()
            _tell(client, number)
    told.set()
    ours.send(sent)
    assert ours.poll(_WAIT_S)
    latencies, frames = ours.recv()
    process.join()
    return Followed(
        latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100], frames
    )
