"""Queries and commands over HTTP: a served ledger and a client share the machine.

The server asks for tokens, and the client's may see these accounts alone. The client speaks HTTP
by hand over kept connections, so that it takes little of what is measured. Beside it, in the same
run, a bare FastAPI application that answers a constant of the same length, and the disk alone: a
command is answered once the disk has it.
"""

import asyncio
import contextlib
import itertools
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

import msgspec

from benchmarks.books import fresh_home, import_deals, write_deals
from benchmarks.rows import Row

DEALS: Final = {False: 40_000, True: 1_000_000}
SECONDS: Final = {False: 2.0, True: 20.0}
ACCOUNTS: Final = 4
INSTRUMENTS: Final = 10
_WARM_S: Final = 1.0
_CONNECTIONS: Final = 8
_QUERIES_A_SECOND: Final = 500
_COMMANDS_A_SECOND: Final = 300
_PAGE: Final = 8192
_NO_OTHERS: Final = itertools.repeat(("", None))
_BARE: Final = """
import sys, uvicorn
from fastapi import FastAPI
from starlette.responses import Response
app = FastAPI()
content = b"x" * int(sys.argv[1])
@app.get("/v1/accounts/{account}/positions")
async def positions(account: str, instrument: str, limit: int = 10):
    return Response(content, media_type="application/json")
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


class Connection:
    """One kept connection to a server."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._head = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str, bytes]:
        """Return status, position and body of an answer."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        told = dict(line.split(": ", 1) for line in lines[1:] if line)
        content = await self._reader.readexactly(int(told["content-length"]))
        return int(lines[0].split()[1]), told.get("daybook-position", ""), content


def main(*, full: bool = False) -> list[Row]:
    """Serve a book and ask it."""
    with fresh_home() as home, tempfile.TemporaryDirectory() as folder:
        from api.wiring import running

        path = Path(folder) / "deals.csv"
        write_deals(path, DEALS[full], ACCOUNTS, INSTRUMENTS)
        with running(home.settings) as parts:
            import_deals(parts, path, DEALS[full])
            parts.projector.catch_up()
        token = _token(home.folder)
        with served(home.folder) as port:
            rows, length = asyncio.run(_asked(port, token, SECONDS[full]))
        with _bare(length) as port:
            bare = asyncio.run(_capacity(port, token, SECONDS[full], _same_point))
        disk = _synced_ms(home.folder, SECONDS[full])
    others = {
        "point read": itertools.repeat(("bare FastAPI, a constant", bare)),
        "command at": zip(itertools.repeat("the disk alone"), _middle_and_p99(disk), strict=False),
    }
    return [_beside(row, *next(others.get(row.what[:10], _NO_OTHERS))) for row in rows]


def _beside(row: Row, beside: str, other: float | None) -> Row:
    return msgspec.structs.replace(row, beside=beside, other=other)


def _synced_ms(folder: Path, seconds: float) -> list[float]:
    """Return how long the disk takes to have a page, from when it was due, at the commands' rate.

    As a database does it: into a file that is there already.
    """
    taken: list[float] = []
    with (folder / "synced").open("wb") as file:
        file.write(bytes(_PAGE * int(_COMMANDS_A_SECOND * seconds)))
        os.fsync(file.fileno())
        start = time.perf_counter()
        for number in range(int(_COMMANDS_A_SECOND * seconds)):
            due = start + number / _COMMANDS_A_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
            os.pwrite(file.fileno(), b"x" * _PAGE, _PAGE * number)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - due) * 1e3)
    return taken


def _token(home: Path) -> str:
    """Return a token for the accounts that are read and written here."""
    import jwt

    from api.cli.serve import Wanted, claims_of
    from api.http.keys import signing_key

    accounts = [f"{letter}{number:05}" for letter in "AW" for number in range(ACCOUNTS)]
    kid, key = signing_key(home)
    claims = claims_of(Wanted(role="service", accounts=accounts))
    return jwt.encode(claims, key.key, key.algorithm_name, headers={"kid": kid})


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


async def _asked(port: int, token: str, seconds: float) -> tuple[list[Row], int]:
    async with _connected(port, token, _CONNECTIONS) as connections:
        _, _, content = await connections[0].ask("GET", _same_point(0))
    stored = await _capacity(port, token, seconds, _new_point)
    hot = await _capacity(port, token, seconds, _same_point)
    async with _connected(port, token, 64) as connections:
        queries = await _paced(connections, _QUERIES_A_SECOND, seconds, _read)
        commands = await _paced(connections, _COMMANDS_A_SECOND, seconds, _write)
        own = await _paced(connections, 100, seconds, _write_and_read)
    rows = [
        Row(
            what=f"point reads with authorisation, {whence}",
            unit="queries/s",
            ours=ours,
            target=target,
        )
        for whence, ours, target in (
            ("each asked first", stored, 2_000),
            ("asked before", hot, 5_000),
        )
    ]
    rows += _quantiles(f"query of ten positions at {_QUERIES_A_SECOND}/s", queries, None, 10)
    rows += _quantiles(f"command at {_COMMANDS_A_SECOND}/s", commands, 3, 10)
    rows += _quantiles("command, and a read that waits for it", own, None, 15)
    return rows, len(content)


def _quantiles(
    what: str, taken_ms: Sequence[float], median: float | None, most: float
) -> list[Row]:
    middle, p99 = _middle_and_p99(taken_ms)
    return [
        Row(what=f"{what}, median", unit="ms", ours=middle, target=median),
        Row(what=f"{what}, p99", unit="ms", ours=p99, target=most),
    ]


def _middle_and_p99(taken_ms: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(taken_ms)
    return statistics.median(ordered), ordered[len(ordered) * 99 // 100]


def _query(number: int) -> str:
    """Ask for positions; the limit makes every question one that nobody has asked before."""
    return f"/v1/accounts/A{number % ACCOUNTS:05}/positions?limit={INSTRUMENTS + number % 9_000}"


def _new_point(number: int) -> str:
    """Ask for one position; the limit makes it a question that nobody has asked lately."""
    return f"{_same_point(number)}&limit={1 + number % 9_999}"


def _same_point(number: int) -> str:
    """Ask for one of few positions."""
    account, instrument = number % ACCOUNTS, number // ACCOUNTS % INSTRUMENTS
    return f"/v1/accounts/A{account:05}/positions?instrument=I{instrument:03}"


async def _capacity(port: int, token: str, seconds: float, question: Callable[[int], str]) -> float:
    """Return queries a second over a few connections, each asking again once answered."""
    numbers = itertools.count()
    done = 0

    async def ask(connection: Connection, until: float) -> None:
        nonlocal done
        while time.perf_counter() < until:
            status, _, content = await connection.ask("GET", question(next(numbers)))
            assert status == 200, content
            done += 1

    async with _connected(port, token, _CONNECTIONS) as connections:
        await asyncio.gather(*(ask(one, time.perf_counter() + _WARM_S) for one in connections))
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

    for number, connection in enumerate(connections):
        await ask(connection, number)
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
    await _written(connection, f"W{number % ACCOUNTS:05}", f"{time.perf_counter_ns()}")


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
    account = f"W{number % ACCOUNTS:05}"
    position = await _written(connection, account, f"r{time.perf_counter_ns()}")
    path = f"/v1/accounts/{account}/positions?min_position={position}"
    status, _, content = await connection.ask("GET", path)
    assert status == 200, content


@contextlib.asynccontextmanager
async def _connected(port: int, token: str, how_many: int) -> AsyncIterator[list[Connection]]:
    opened = [await _opened(port) for _ in range(how_many)]
    try:
        yield [Connection(reader, writer, token) for reader, writer in opened]
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
