"""Queries and commands over HTTP: a served ledger and a client share the machine.

The client speaks HTTP by hand over kept connections, so that it takes little of what is measured.
Beside it, in the same run, a bare FastAPI application that answers a constant of the same length.
"""

import asyncio
import contextlib
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import msgspec
import pandas as pd  # type: ignore[import-untyped]
import pyarrow as pa

from benchmarks.books import fresh_home, import_deals, write_deals
from benchmarks.rows import Row

DEALS: Final = {False: 40_000, True: 1_000_000}
SECONDS: Final = {False: 2.0, True: 20.0}
ACCOUNTS: Final = 4
_CONNECTIONS: Final = 8
_QUERIES_A_SECOND: Final = 500
_COMMANDS_A_SECOND: Final = 300
_BARE: Final = """
import sys, uvicorn
from fastapi import FastAPI
from starlette.responses import Response
app = FastAPI()
content = b"x" * int(sys.argv[1])
@app.get("/v1/accounts/{account}/positions")
async def positions(account: str, limit: int = 10):
    return Response(content, media_type="application/json")
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


class Connection:
    """One kept connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str, bytes]:
        """Return status, position and body of an answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        told = dict(line.split(": ", 1) for line in lines[1:] if line)
        content = await self._reader.readexactly(int(told["content-length"]))
        return int(lines[0].split()[1]), told.get("daybook-position", ""), content


def main(*, full: bool = False) -> list[Row]:
    """Serve a book and ask it; then take the whole of it."""
    with fresh_home() as home, tempfile.TemporaryDirectory() as folder:
        from api.wiring import running

        path = Path(folder) / "deals.csv"
        write_deals(path, DEALS[full], ACCOUNTS, instruments=10)
        with running(home.settings) as parts:
            import_deals(parts, path, DEALS[full])
            parts.projector.catch_up()
        with served(home.folder) as port:
            rows, length = asyncio.run(_asked(port, SECONDS[full]))
            rows += _pulled(port, DEALS[full])
        with _bare(length) as port:
            bare = asyncio.run(_capacity(port, SECONDS[full]))
    rows[0] = msgspec.structs.replace(rows[0], beside="bare FastAPI, a constant", other=bare)
    return rows


@contextlib.contextmanager
def served(home: Path) -> Iterator[int]:
    """Run `daybook serve` on a home for the length of a block; gives its port."""
    command = [sys.executable, "-m", "api.cli.main", "serve", "--port", "0", "--rate", "0"]
    environment = {**os.environ, "DAYBOOK_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def _bare(length: int) -> Iterator[int]:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-c", _BARE, str(length), str(port)]
    with subprocess.Popen(words) as process:
        try:
            yield int(port)
        finally:
            process.terminate()


async def _asked(port: int, seconds: float) -> tuple[list[Row], int]:
    async with _connected(port, _CONNECTIONS) as connections:
        _, _, content = await connections[0].ask("GET", _query(0))
    capacity = await _capacity(port, seconds)
    async with _connected(port, 64) as connections:
        queries = await _paced(connections, _QUERIES_A_SECOND, seconds, _read)
        commands = await _paced(connections, _COMMANDS_A_SECOND, seconds, _write)
        own = await _paced(connections, 100, seconds, _write_and_read)
    rows = [
        Row(
            what="positions of an account, as fast as it goes",
            unit="queries/s",
            ours=capacity,
            target=2_000,
        ),
        *_quantiles(f"query at {_QUERIES_A_SECOND}/s", queries, None, 10),
        *_quantiles(f"command at {_COMMANDS_A_SECOND}/s", commands, 3, 10),
        *_quantiles("command, and a read that waits for it", own, None, 15),
    ]
    return rows, len(content)


def _quantiles(
    what: str, taken_ms: Sequence[float], median: float | None, most: float
) -> list[Row]:
    ordered = sorted(taken_ms)
    return [
        Row(what=f"{what}, median", unit="ms", ours=statistics.median(ordered), target=median),
        Row(what=f"{what}, p99", unit="ms", ours=ordered[len(ordered) * 99 // 100], target=most),
    ]


def _query(number: int) -> str:
    return f"/v1/accounts/A{number % ACCOUNTS:05}/positions?limit=10"


async def _capacity(port: int, seconds: float) -> float:
    """Return queries a second over a few connections, each asking again once answered."""
    done = 0

    async def ask(connection: Connection, until: float) -> None:
        nonlocal done
        while time.perf_counter() < until:
            status, _, _ = await connection.ask("GET", _query(done))
            assert status == 200, status
            done += 1

    async with _connected(port, _CONNECTIONS) as connections:
        await asyncio.gather(*(ask(one, time.perf_counter() + 0.5) for one in connections))
        done, start = 0, time.perf_counter()
        await asyncio.gather(*(ask(one, start + seconds) for one in connections))
        return done / (time.perf_counter() - start)


async def _paced(
    connections: list[Connection],
    rate: int,
    seconds: float,
    ask: Callable[[Connection, int], Awaitable[None]],
) -> list[float]:
    """Return how long each question took, in ms, from the moment when it was due."""
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in connections:
        idle.put_nowait(connection)
    taken: list[float] = []

    async def one(due: float, number: int) -> None:
        connection = await idle.get()
        await ask(connection, number)
        taken.append((time.perf_counter() - due) * 1e3)
        idle.put_nowait(connection)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due, number))
    return taken


async def _read(connection: Connection, number: int) -> None:
    status, _, content = await connection.ask("GET", _query(number))
    assert status == 200, content


async def _write(connection: Connection, number: int) -> None:
    await _written(connection, f"W{number % ACCOUNTS}", f"{time.perf_counter_ns()}")


async def _written(connection: Connection, account: str, deal_id: str) -> str:
    body = {
        "account": account,
        "event_time": "2024-01-02T14:30:00Z",
        "deal_id": deal_id,
        "instrument": "I001",
        "side": "buy",
        "quantity": "100",
        "price": "185.64",
        "currency": "USD",
    }
    status, position, content = await connection.ask("POST", "/v1/deals", msgspec.json.encode(body))
    assert status == 201, content
    return position


async def _write_and_read(connection: Connection, number: int) -> None:
    account = f"W{number % ACCOUNTS}"
    position = await _written(connection, account, f"r{time.perf_counter_ns()}")
    path = f"/v1/accounts/{account}/positions?min_position={position}"
    status, _, content = await connection.ask("GET", path)
    assert status == 200, content


@contextlib.asynccontextmanager
async def _connected(port: int, how_many: int) -> AsyncIterator[list[Connection]]:
    opened = [await _opened(port) for _ in range(how_many)]
    try:
        yield [Connection(*streams) for streams in opened]
    finally:
        for _, writer in opened:
            writer.close()


async def _opened(port: int) -> Any:
    deadline = time.monotonic() + 30
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)


def _pulled(port: int, deals: int) -> list[Row]:
    """Return how long all deals of an account's book take to be a pandas frame."""
    base = f"http://127.0.0.1:{port}/v1/accounts/A00000/deals"
    with urlopen(f"{base}?format=arrow") as answer:  # the first opens a connection of its own
        answer.read()
    start = time.perf_counter()
    with urlopen(f"{base}?format=arrow") as answer:
        table = pa.ipc.open_stream(answer.read()).read_all()
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    arrow_s = time.perf_counter() - start
    start = time.perf_counter()
    rows: list[dict[str, Any]] = []
    path: str | None = f"{base}?limit=10000"
    while path is not None:
        with urlopen(path) as answer:
            page = msgspec.json.decode(io.BytesIO(answer.read()).getvalue())
        rows += page["data"]
        following = page["next"]
        path = following and f"{base}?limit=10000&cursor={following}"
    by_json = pd.DataFrame(rows)
    json_s = time.perf_counter() - start
    assert len(frame) == len(by_json) > deals / ACCOUNTS / 2
    a_million = 1_000_000 / len(frame)
    return [
        Row(
            what="a million deals to a pandas frame, by Arrow",
            unit="s",
            ours=arrow_s * a_million,
            beside="by JSON, page by page",
            other=json_s * a_million,
            target=1.5,
            note=f"from {len(frame):,} deals of one account",
        )
    ]
