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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final

import httpx
from msgspec import Struct

from benchmarks.feed_clients import BareClient, Crowd
from benchmarks.rows import Row

CLIENTS: Final = 1000
SLOW: Final = 100
_A_SECOND: Final = 20
_SECONDS: Final = 5
_MORE_ROUNDS: Final = 19
"""With the first one ten minutes, at full size."""
_WAIT_S: Final = 60.0
_DEAL_ID: Final = re.compile(rb'"deal_id":"(\d+)"')
_TOPIC: Final = {"op": "subscribe", "id": 1, "topic": "deals", "account": "A1"}
_NUMBERS: Final = itertools.count(1)
_CONTEXT: Final = get_context("spawn")


class Followed(Struct, frozen=True):
    """Milliseconds from a command to its row at a client, over all clients and commands."""

    median: float
    p99: float


class _Server(Struct, frozen=True):
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


def main(*, full: bool = False) -> list[Row]:
    """Measure latency for one client and for many, with slow ones among them, and a storm."""
    clients = CLIENTS if full else CLIENTS // 5
    slow = SLOW if full else SLOW // 5
    seconds = 6 * _SECONDS if full else _SECONDS
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as home:
        with _serving(home) as server:
            alone = _followed(server.port, 1, 0, seconds)
            crowd = _followed(server.port, clients, 0, seconds)
            mixed = [_followed(server.port, clients, slow, seconds)]
            memory = [server.megabytes()]
            for _ in range(_MORE_ROUNDS if full else 1):
                mixed.append(_followed(server.port, clients, slow, seconds))
                memory.append(server.megabytes())
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
            ours=statistics.median(one.p99 for one in mixed),
            beside="without them",
            other=crowd.p99,
            target=50.0,
            note=f"median of {len(mixed)} rounds of {seconds} s; "
            f"the worst {max(one.p99 for one in mixed):.1f} ms",
        ),
        Row(
            what="memory of the server after all of that",
            unit="MB",
            ours=memory[-1],
            beside="after the first round",
            other=memory[0],
            target=1.2 * memory[0],
        ),
        Row(
            what=f"{clients:,} clients resume after a kill, all with what they missed",
            unit="s",
            ours=storm_s,
            target=5.0,
        ),
    ]


@contextlib.contextmanager
def _serving(home: str, *, killed: bool = False) -> Iterator[_Server]:
    """Serve for the length of a block; `killed` ends it with SIGKILL, and leaves Postgres up."""
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
        yield _Server(int(process.stdout.readline().rpartition(":")[2]), process.pid)
    finally:
        if killed:
            process.kill()
        else:
            process.terminate()
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
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_follow, args=(port, clients, slow, numbers[-1], theirs))
    process.start()
    sent: dict[int, int] = {}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert ours.poll(_WAIT_S), "the clients did not get their snapshots"
        ours.recv()
        start = time.monotonic()
        for place, number in enumerate(numbers):
            time.sleep(max(0.0, start + place / _A_SECOND - time.monotonic()))
            sent[number] = time.monotonic_ns()
            _tell(client, number)
    ours.send(sent)
    assert ours.poll(_WAIT_S), "the clients did not get every row"
    latencies: list[float] = ours.recv()
    process.join()
    assert len(latencies) == clients * len(numbers)
    return Followed(latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100])


def _follow(port: int, clients: int, slow: int, last: int, pipe: Connection) -> None:
    """Be the clients: read until each has the last row, then tell all latencies, sorted."""
    crowd = _crowd(port, clients)
    idle = [BareClient(port, small=True) for _ in range(slow)]
    for one in idle:
        one.take()
        one.say(_TOPIC)
    pipe.send("ready")
    end = b'"deal_id":"%d"' % last
    crowd.read_until(lambda: all(end in one.heard[-1].frame for one in crowd.clients), _WAIT_S)
    sent: dict[int, int] = pipe.recv()
    latencies = [
        (heard.at_ns - sent[number]) / 1e6
        for one in crowd.clients
        for heard in one.heard
        for told in _DEAL_ID.findall(heard.frame)
        if (number := int(told)) in sent
    ]
    pipe.send(sorted(latencies))
    crowd.close()
    for one in idle:
        one.socket.close()


def _crowd(port: int, clients: int, positions: Sequence[str] = ()) -> Crowd:
    """Connect clients, each from where it was; return once each has heard something."""
    crowd = Crowd()
    for _ in range(clients):
        crowd.join(BareClient(port))
    assert crowd.read_until(lambda: all(one.is_open for one in crowd.clients), _WAIT_S)
    for one, position in itertools.zip_longest(crowd.clients, positions):
        one.say(_TOPIC if position is None else {**_TOPIC, "from": position})
    assert crowd.read_until(lambda: all(one.heard for one in crowd.clients), _WAIT_S)
    return crowd


def _storm(home: str, clients: int) -> float:
    """Return how long it takes all clients to resume after a kill, in seconds."""
    with _serving(home, killed=True) as server:
        crowd = _crowd(server.port, clients)
        positions = [one.position for one in crowd.clients]
        crowd.close()
    with _serving(home) as server, httpx.Client(base_url=server.url) as client:
        missed = next(_NUMBERS)
        _tell(client, missed)
        start = time.monotonic()
        crowd = _crowd(server.port, clients, positions)
        told = b'"deal_id":"%d"' % missed
        done = crowd.read_until(
            lambda: all(told in one.heard[-1].frame for one in crowd.clients), _WAIT_S
        )
        assert done
        assert all(one.heard[0].frame.startswith(b'{"op":"delta"') for one in crowd.clients)
        taken = time.monotonic() - start
        crowd.close()
        return taken
