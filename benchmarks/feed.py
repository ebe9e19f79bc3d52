"""How long after a command is sent its row is with every client of the feed.

`daybook serve` on a home of its own, clients in a process of their own, all of one topic of one
account, which is a new one each round: the rounds then measure deltas, and not the first snapshot
of all that the rounds before left. A deal is told by HTTP at a steady rate; a row's time begins
before the request is sent. Beside it one client alone, then the same crowd with some who never
read. At last the server is killed under writes, and all resume at once where they were.
"""

import gc
import itertools
import re
import statistics
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final

import httpx
from msgspec import Struct

from benchmarks import feed_storm
from benchmarks.feed_clients import BareClient, joined, topic_of
from benchmarks.feed_server import serving, tell
from benchmarks.rows import Row

CLIENTS: Final = 1000
SLOW: Final = 100
_A_SECOND: Final = 20
_SECONDS: Final = 5
_MORE_ROUNDS: Final = 19
"""With the first one ten minutes, at full size."""
_WAIT_S: Final = 60.0
_DEAL_ID: Final = re.compile(rb'"deal_id":"(\d+)"')
_NUMBERS: Final = itertools.count(1)
_ACCOUNTS: Final = (f"A{number}" for number in itertools.count(1))
_CONTEXT: Final = get_context("spawn")


class Followed(Struct, frozen=True):
    """Milliseconds from a command to its row at a client, over all clients and commands."""

    median: float
    p99: float


def main(*, full: bool = False) -> list[Row]:
    """Measure latency for one client and for many, with slow ones among them, and a storm."""
    clients = CLIENTS if full else CLIENTS // 5
    slow = SLOW if full else SLOW // 5
    seconds = 6 * _SECONDS if full else _SECONDS
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as home:
        with serving(home) as server:
            alone = _followed(server.port, 1, 0, seconds)
            crowd = _followed(server.port, clients, 0, seconds)
            mixed = [_followed(server.port, clients, slow, seconds)]
            memory = [server.megabytes()]
            for _ in range(_MORE_ROUNDS if full else 1):
                mixed.append(_followed(server.port, clients, slow, seconds))
                memory.append(server.megabytes())
        storm_s = feed_storm.resume_s(home, clients)
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
            what=f"{clients:,} clients resume after a kill under writes, all with what they missed",
            unit="s",
            ours=storm_s,
            target=5.0,
        ),
    ]


def _followed(port: int, clients: int, slow: int, seconds: int) -> Followed:
    """Tell deals at a steady rate, and return when the clients had their rows."""
    account = next(_ACCOUNTS)
    numbers = [next(_NUMBERS) for _ in range(_A_SECOND * seconds)]
    ours, theirs = _CONTEXT.Pipe()
    told = (port, account, clients, slow, numbers[-1], theirs)
    process = _CONTEXT.Process(target=_follow, args=told)
    sent: dict[int, int] = {}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        tell(client, account, next(_NUMBERS))
        process.start()
        assert ours.poll(_WAIT_S), "the clients did not get their snapshots"
        ours.recv()
        start = time.monotonic()
        for place, number in enumerate(numbers):
            time.sleep(max(0.0, start + place / _A_SECOND - time.monotonic()))
            sent[number] = time.monotonic_ns()
            tell(client, account, number)
    ours.send(sent)
    assert ours.poll(_WAIT_S), "the clients did not get every row"
    latencies: list[float] = ours.recv()
    process.join()
    assert len(latencies) == clients * len(numbers)
    return Followed(latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100])


def _follow(port: int, account: str, clients: int, slow: int, last: int, pipe: Connection) -> None:
    """Be the clients: read until each has the last row, then tell all latencies, sorted."""
    gc.disable()  # a search through all that was heard would be measured as the server's
    crowd = joined(port, account, clients)
    idle = [BareClient(port, small=True) for _ in range(slow)]
    for one in idle:
        one.take()
        one.say(topic_of(account))
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
