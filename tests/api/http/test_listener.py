"""The sockets that `daybook serve` answers on: nothing that is written waits for more to come."""

import asyncio
import os
import socket
from collections.abc import Callable

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from api.cli.serve import Serving, listening
from api.http.protocol_httptools import PatientHttpTools

LOOPS = (asyncio.new_event_loop, uvloop.new_event_loop)


class Accepting(asyncio.Protocol):
    """Tells whether Nagle's waiting is off for a connection that was accepted."""

    def __init__(self, told: "asyncio.Future[int]") -> None:
        self.told = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=descriptor) as accepted:
            self.told.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("new_loop", LOOPS)
def test_accepted_connections_do_not_wait_for_more(
    host: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")

    async def run() -> int:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[int] = loop.create_future()
        listener = listening(Serving(host=host, port=0))
        server = await loop.create_server(lambda: Accepting(told), sock=listener)
        async with server:
            with socket.create_connection(listener.getsockname()[:2]):
                return await asyncio.wait_for(told, 60)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run()) == 1


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


class Wire(asyncio.Transport):
    """Keeps what is written, one entry for each write."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


def _answered(asked: bytes, *pieces: bytes, pause: bool = False) -> Wire:
    """Return what is written when an application answers with these pieces."""

    async def app(scope: object, receive: object, send: Callable[..., object]) -> None:
        size = str(sum(map(len, pieces))).encode()
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [(b"content-length", size)]})  # type: ignore[misc]
        for piece in pieces:
            if pause:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            more = {"type": "http.response.body", "body": piece, "more_body": True}
            await send(more)  # type: ignore[misc]
        await send({"type": "http.response.body", "body": b""})  # type: ignore[misc]

    async def run() -> Wire:
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        protocol = PatientHttpTools(config, state, {}, asyncio.get_running_loop())
        wire = Wire()
        protocol.connection_made(wire)
        protocol.data_received(asked)
        await asyncio.gather(*state.tasks)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        return wire

    return asyncio.run(run())


def test_head_and_body_are_one_write() -> None:
    (written,) = _answered(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"whole").written
    head, _, body = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"whole"


def test_a_head_does_not_wait_for_a_body_that_is_long_in_coming() -> None:
    head, *pieces = _answered(
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"one", b"two", pause=True
    ).written
    assert head.endswith(b"\r\n\r\n")
    assert pieces == [b"one", b"two"]


def test_everything_is_written_before_it_is_closed() -> None:
    asked = b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    wire = _answered(asked, b"nobody reads this")
    assert b"".join(wire.written).endswith(b"\r\n\r\n")
    assert wire.is_closed
