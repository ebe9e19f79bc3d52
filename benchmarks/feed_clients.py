"""Many WebSocket clients in one process, bare, so that they cost little beside what is measured.

They answer pings, and keep when each frame came and what was in it; nothing else.
"""

import base64
import contextlib
import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

_TEXT: Final = 0x81
_PING: Final = 0x89
_WAIT_S: Final = 60.0
_MASK: Final = b"\0\0\0\0"
_READ: Final = bytearray(262_144)
"""What is read into, by all in turn: as much memory for each read would cost more than the read."""
_READ_VIEW: Final = memoryview(_READ)


class Heard(Struct):
    """A frame, and when it came, in nanoseconds of the monotonic clock."""

    at_ns: int
    frame: bytes


class BareClient:
    """One connection; `heard` has its text frames but heartbeats."""

    def __init__(self, port: int, *, small: bool = False) -> None:
        self.heard: list[Heard] = []
        self._buffer = b""
        self.is_open = False
        self.socket = socket.socket()
        if small:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16))
        self.socket.sendall(
            b"GET /v1/feed HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n\r\n"
            % (port, key)
        )

    @property
    def position(self) -> str:
        """Where to go on from."""
        told = msgspec.json.decode(self.heard[-1].frame, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(told["position"], type=str)

    def say(self, told: object) -> None:
        """Send a frame."""
        self._send(_TEXT, msgspec.json.encode(told))

    def _send(self, opcode: int, data: bytes) -> None:
        size = (
            bytes((0x80 | len(data),))
            if len(data) < 126
            else bytes((0xFE,)) + len(data).to_bytes(2, "big")
        )
        self.socket.sendall(bytes((opcode,)) + size + _MASK + data)

    def take(self) -> None:
        """Read what has come."""
        size = self.socket.recv_into(_READ)
        at_ns = time.monotonic_ns()
        if not size:
            raise ConnectionError("the server has gone")
        self._buffer += _READ_VIEW[:size]
        if not self.is_open:
            head, end, self._buffer = self._buffer.partition(b"\r\n\r\n")
            assert end
            assert b" 101 " in head[:20], head
            self.is_open = True
        while self._frame(at_ns):
            pass

    def _frame(self, at_ns: int) -> bool:
        data = self._buffer
        if len(data) < 2:
            return False
        size, start = data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size or len(data) < start:
            return False
        frame, self._buffer = data[start : start + size], data[start + size :]
        if data[0] == _TEXT and not frame.startswith(b'{"op":"heartbeat"'):
            self.heard.append(Heard(at_ns, frame))
        elif data[0] == _PING:
            self._send(0x8A, frame)
        return True


class Crowd:
    """Clients, and the one loop that reads for them all."""

    def __init__(self) -> None:
        self.clients: list[BareClient] = []
        self._by_fd: dict[int, BareClient] = {}
        self._poll = select.epoll()

    def join(self, client: BareClient) -> None:
        """Read for one more."""
        self.clients.append(client)
        self._by_fd[client.socket.fileno()] = client
        self._poll.register(client.socket, select.EPOLLIN)

    def read_until(self, is_done: Callable[[], bool], timeout_s: float) -> bool:
        """Read until it is done; tell whether it was, before the time was over."""
        end = time.monotonic() + timeout_s
        while not is_done():
            if time.monotonic() > end:
                return False
            for fd, _ in self._poll.poll(0.02):
                self._by_fd[fd].take()
        return True

    def read_to_the_end(self) -> None:
        """Read what a server that is gone has left in the sockets, and leave."""
        for client in self.clients:
            with contextlib.suppress(ConnectionError):
                while True:
                    client.take()
        self.close()

    def close(self) -> None:
        """Leave."""
        self._poll.close()
        for client in self.clients:
            client.socket.close()


def topic_of(account: str) -> dict[str, object]:
    """Return the frame that subscribes to an account's deals."""
    return {"op": "subscribe", "id": 1, "topic": "deals", "account": account}


def joined(port: int, account: str, clients: int, positions: Sequence[str] = ()) -> Crowd:
    """Connect clients, each from where it was; return once each has heard something."""
    crowd = Crowd()
    for _ in range(clients):
        crowd.join(BareClient(port))
    assert crowd.read_until(lambda: all(one.is_open for one in crowd.clients), _WAIT_S)
    topic = topic_of(account)
    for one, position in itertools.zip_longest(crowd.clients, positions):
        one.say(topic if position is None else {**topic, "from": position})
    assert crowd.read_until(lambda: all(one.heard for one in crowd.clients), _WAIT_S)
    return crowd
