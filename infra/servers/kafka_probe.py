"""One question to a Kafka broker, asked by hand: who are you, and whom do you know?

A port that accepts connections is not yet a broker that serves. A broker lists itself only once
the controllers have let it in.
"""

import socket
import struct
from typing import Final

import msgspec

# Source: https://kafka.apache.org/protocol, Metadata (key 3); version 2 is the first that tells
# the cluster's id, and has no tagged fields.
_METADATA_V2: Final = struct.pack("!hhih", 3, 2, 1, -1)
_NO_TOPICS: Final = struct.pack("!i", 0)
_ANSWER_MAX_BYTES: Final = 1 << 20


class ClusterView(msgspec.Struct, frozen=True):
    """A cluster as one broker sees it: its id, and the ids and ports of the brokers that serve."""

    cluster_id: str | None
    brokers: dict[int, int]


def describe(port: int, timeout_s: float) -> ClusterView:
    """Ask the broker on this loopback port for its view of the cluster.

    Raises OSError where nobody answers in time, ValueError where the answer is not Kafka's.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        request = _METADATA_V2 + _NO_TOPICS
        connection.sendall(struct.pack("!i", len(request)) + request)
        (size,) = struct.unpack("!i", _received(connection, 4))
        if not 0 < size <= _ANSWER_MAX_BYTES:
            raise ValueError(f"an answer of {size} bytes is not Kafka's")
        answer = _Reader(_received(connection, size))
    return _cluster(answer)


def _cluster(answer: "_Reader") -> ClusterView:
    try:
        answer.number("!i")  # the correlation id
        brokers = {}
        for _ in range(answer.number("!i")):
            broker = answer.number("!i")
            answer.text()
            brokers[broker] = answer.number("!i")
            answer.text()
        return ClusterView(answer.text(), brokers)
    except struct.error as error:
        raise ValueError(f"the answer is not Kafka's: {error}") from error


def _received(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionResetError("the connection was closed without an answer")
        received += part
    return bytes(received)


class _Reader:
    """The fields of an answer, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def text(self) -> str | None:
        size = self.number("!h")
        if size < 0:
            return None
        start, self._at = self._at, self._at + size
        return self._content[start : self._at].decode("utf-8")
