"""A link that can be cut, against a real server and real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.chaos.proxy import Proxy

Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while told := await reader.read(100):
                writer.write(told)
                await writer.drain()
    finally:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def _link() -> AsyncIterator[tuple[Proxy, int]]:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    spare = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = spare.sockets[0].getsockname()[1]
    spare.close()
    await spare.wait_closed()
    proxy = Proxy(port, server.sockets[0].getsockname()[1])
    await proxy.open()
    try:
        yield proxy, port
    finally:
        await proxy.close()
        server.close()


async def _end(connected: Connected) -> None:
    connected[1].close()
    with contextlib.suppress(OSError):
        await connected[1].wait_closed()


async def _said(connected: Connected, told: bytes) -> bytes:
    connected[1].write(told)
    return await connected[0].read(100)


def test_what_is_said_goes_through() -> None:
    async def run() -> None:
        async with _link() as (_, port):
            connected = await asyncio.open_connection("127.0.0.1", port)
            assert await _said(connected, b"a") == b"a"
            await _end(connected)

    asyncio.run(run())


def test_what_was_stalled_arrives_later() -> None:
    async def run() -> None:
        async with _link() as (proxy, port):
            connected = await asyncio.open_connection("127.0.0.1", port)
            assert await _said(connected, b"a") == b"a"
            await proxy.cut("stalled")
            answer = asyncio.create_task(_said(connected, b"b"))
            done, _ = await asyncio.wait([answer], timeout=0.05)
            assert not done
            await proxy.heal()
            assert await answer == b"b"
            await _end(connected)

    asyncio.run(run())


def test_a_dropped_connection_can_be_made_again() -> None:
    async def run() -> None:
        async with _link() as (proxy, port):
            connected = await asyncio.open_connection("127.0.0.1", port)
            assert await _said(connected, b"a") == b"a"
            await proxy.cut("dropped")
            with contextlib.suppress(ConnectionResetError):
                assert await connected[0].read(100) == b""
            again = await asyncio.open_connection("127.0.0.1", port)
            assert await _said(again, b"b") == b"b"
            await _end(connected)
            await _end(again)

    asyncio.run(run())


def test_nobody_connects_to_what_refuses() -> None:
    async def run() -> None:
        async with _link() as (proxy, port):
            await proxy.cut("refused")
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            await proxy.heal()
            again = await asyncio.open_connection("127.0.0.1", port)
            assert await _said(again, b"b") == b"b"
            await _end(again)

    asyncio.run(run())
